//! Answers to approved operations that other attempts of the same request may have: a bounded table, and who finds what in it.
//!
//! An entry is there before its operation is sent, so that no attempt takes a use of the approval for none. What is kept is
//! the masked and recorded answer, for the same caller, session and operation, as long as policy is what it was; a stream or a
//! large answer is not kept, and its entry then says that the operation was executed. Nothing here permits anything: whoever
//! finds an entry is not executed.

use crate::body::{BoxBody, BoxError, full_body};
use crate::upstream_response::RevealedClasses;
use bytes::Bytes;
use durward_approval::ApprovalRequestId;
use durward_core::{ExchangeId, SessionId, limits};
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::watch;

/// What an entry without an answer counts as.
const CACHE_ENTRY_BYTES: usize = 1 << 10;
/// Locks that uses of approvals are taken under, by digest.
const KEY_LOCK_COUNT: usize = 64;

/// Which operation of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheKey {
    pub session: SessionId,
    pub digest: [u8; 32],
}

/// One use of an approval.
pub(super) struct CacheEntry {
    pub approval_request: ApprovalRequestId,
    pub executed_by: ExchangeId,
    key: CacheKey,
    /// What the client names its call by.
    retry_key: Option<String>,
    started_at: Instant,
    execution_end: watch::Sender<Option<ExecutionEnd>>,
}

/// How an execution ended.
#[derive(Debug, Clone)]
pub(super) enum ExecutionEnd {
    Responded(StoredResponse),
    /// Executed; the answer is not kept.
    NotStored,
    /// It may have been executed, and no answer came.
    Unknown,
    /// Nothing was sent.
    NotSent,
}

/// An answer as the caller may see it.
#[derive(Debug, Clone)]
pub(super) struct StoredResponse {
    pub status: StatusCode,
    pub bytes: Bytes,
    headers: HeaderMap,
    /// What its operation was decided by.
    policy_set: String,
    revealed: RevealedClasses,
}

impl StoredResponse {
    /// Whether it is the answer that an attempt would get under this policy set that sees these data classes. Where and when an
    /// attempt comes from may tell what it sees.
    pub fn is_valid_for(&self, policy_set: &str, sees: impl Fn(&str) -> bool) -> bool {
        self.policy_set == policy_set && self.revealed.0.iter().all(|class| sees(class))
    }

    /// The answer for another exchange. What holds for one connection or one moment is left to the server.
    pub fn to_response(&self) -> Response<BoxBody> {
        let mut response = Response::new(full_body(self.bytes.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        for name in [header::CONNECTION, header::DATE, header::TRANSFER_ENCODING, header::UPGRADE] {
            response.headers_mut().remove(name);
        }
        response
    }

    fn size_bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
        self.bytes.len() + headers.sum::<usize>()
    }
}

/// Reads an answer that is small enough to be kept; any other passes as it is. `policy_set` is what its operation was decided by.
pub(super) async fn store_response(
    response: Response<BoxBody>,
    policy_set: String,
) -> (Response<BoxBody>, ExecutionEnd) {
    let small = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|size| size <= limits::MAX_STORED_RESPONSE_BYTES as u64);
    if !small {
        return (response, ExecutionEnd::NotStored);
    }
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            let kept = StoredResponse {
                status: head.status,
                bytes: bytes.clone(),
                headers: head.headers.clone(),
                policy_set,
                revealed: head.extensions.get().cloned().unwrap_or_default(),
            };
            (Response::from_parts(head, full_body(bytes)), ExecutionEnd::Responded(kept))
        }
        Err(error) => {
            (Response::from_parts(head, FailingBody(Some(error)).boxed_unsync()), ExecutionEnd::NotStored)
        }
    }
}

/// A body that breaks off, as the one that it stands for did.
struct FailingBody(Option<BoxError>);

impl http_body::Body for FailingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.take().map(Err))
    }
}

#[derive(Default)]
struct CacheTable {
    /// Oldest first.
    entries: VecDeque<(Arc<CacheEntry>, usize)>,
    bytes: usize,
}

impl CacheTable {
    /// Ends what is too old, and the oldest while there is too much.
    fn evict_expired(&mut self, now: Instant, most: usize) {
        while let Some((entry, bytes)) = self.entries.front() {
            if self.bytes <= most
                && now.saturating_duration_since(entry.started_at) < limits::STORED_RESPONSE_TTL
            {
                return;
            }
            self.bytes -= bytes;
            self.entries.pop_front();
        }
    }
}

/// What was approved, used and answered lately.
pub struct IdempotencyCache {
    table: Arc<Mutex<CacheTable>>,
    key_locks: [tokio::sync::Mutex<()>; KEY_LOCK_COUNT],
    max_bytes: usize,
}

impl Default for IdempotencyCache {
    fn default() -> Self {
        Self::with_capacity(limits::MAX_RESPONSE_CACHE_BYTES)
    }
}

impl IdempotencyCache {
    fn with_capacity(most: usize) -> Self {
        Self {
            table: Arc::default(),
            key_locks: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            max_bytes: most,
        }
    }

    /// While it is held, nobody else uses an approval of this operation: who uses one and begins its entry under this lock
    /// is seen by whoever looks under it.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below the length")]
    pub(super) async fn lock_key(&self, key: &CacheKey) -> tokio::sync::MutexGuard<'_, ()> {
        let [first, ..] = key.digest;
        self.key_locks[usize::from(first) % KEY_LOCK_COUNT].lock().await
    }

    /// The use of an approval that stands for this attempt: of the ask that it waited for, or for the same call.
    pub(super) fn find_entry(
        &self,
        key: &CacheKey,
        call: Option<&str>,
        ask: Option<ApprovalRequestId>,
        now: Instant,
    ) -> Option<Arc<CacheEntry>> {
        let mut table = lock_table(&self.table);
        table.evict_expired(now, self.max_bytes);
        let same = |entry: &CacheEntry| {
            entry.key == *key
                && (ask == Some(entry.approval_request)
                    || (call.is_some() && entry.retry_key.as_deref() == call))
        };
        table.entries.iter().rev().find(|(entry, _bytes)| same(entry)).map(|(entry, _bytes)| entry.clone())
    }

    /// [`Self::find`] for who does not use an approval.
    pub(super) async fn find_entry_locked(
        &self,
        key: &CacheKey,
        call: Option<&str>,
        ask: Option<ApprovalRequestId>,
    ) -> Option<Arc<CacheEntry>> {
        let _turn = self.lock_key(key).await;
        self.find_entry(key, call, ask, Instant::now())
    }

    /// Notes that `executed_by` used the approval `ask`, before it sends anything.
    pub(super) fn begin_execution(
        &self,
        key: CacheKey,
        call: Option<String>,
        ask: ApprovalRequestId,
        executed_by: ExchangeId,
        now: Instant,
    ) -> RunningExecution {
        let entry = Arc::new(CacheEntry {
            approval_request: ask,
            executed_by,
            key,
            retry_key: call,
            started_at: now,
            execution_end: watch::Sender::new(None),
        });
        let mut table = lock_table(&self.table);
        table.entries.push_back((entry.clone(), CACHE_ENTRY_BYTES));
        table.bytes += CACHE_ENTRY_BYTES;
        table.evict_expired(now, self.max_bytes);
        drop(table);
        RunningExecution { table: self.table.clone(), entry, max_bytes: self.max_bytes, is_ended: false }
    }
}

impl CacheEntry {
    /// How it ended, as soon as it has.
    pub async fn wait_for_end(&self) -> ExecutionEnd {
        let mut ending = self.execution_end.subscribe();
        match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or(ExecutionEnd::Unknown),
            Err(_closed) => ExecutionEnd::Unknown,
        }
    }
}

/// An execution under way. Dropped before its end, it may or may not have happened.
pub(super) struct RunningExecution {
    table: Arc<Mutex<CacheTable>>,
    entry: Arc<CacheEntry>,
    max_bytes: usize,
    is_ended: bool,
}

impl RunningExecution {
    pub fn finish(mut self, ending: ExecutionEnd) {
        self.record_end(ending);
    }

    fn record_end(&mut self, ending: ExecutionEnd) {
        self.is_ended = true;
        let mut table = lock_table(&self.table);
        let place = table.entries.iter().position(|(entry, _bytes)| Arc::ptr_eq(entry, &self.entry));
        match (&ending, place) {
            // The use came to nothing: who comes later asks people again.
            (ExecutionEnd::NotSent, Some(place)) => {
                if let Some((_entry, bytes)) = table.entries.remove(place) {
                    table.bytes -= bytes;
                }
            }
            (ExecutionEnd::Responded(kept), Some(place)) => {
                let size = kept.size_bytes();
                if let Some((_entry, bytes)) = table.entries.get_mut(place) {
                    *bytes += size;
                    table.bytes += size;
                }
                table.evict_expired(self.entry.started_at, self.max_bytes);
            }
            _ => {}
        }
        drop(table);
        self.entry.execution_end.send_replace(Some(ending));
    }
}

impl Drop for RunningExecution {
    fn drop(&mut self) {
        if !self.is_ended {
            self.record_end(ExecutionEnd::Unknown);
        }
    }
}

fn lock_table(table: &Mutex<CacheTable>) -> MutexGuard<'_, CacheTable> {
    durward_core::lock_ignoring_poison(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const POLICY_SET_VERSION: &str = "0123456789abcdef";

    fn new_cache_key() -> CacheKey {
        CacheKey { session: SessionId::new(), digest: [7; 32] }
    }

    fn responded_end(size: usize) -> ExecutionEnd {
        let bytes = Bytes::from(vec![b'x'; size]);
        let (headers, revealed) = (HeaderMap::new(), RevealedClasses::default());
        ExecutionEnd::Responded(StoredResponse {
            status: StatusCode::OK,
            bytes,
            headers,
            policy_set: POLICY_SET_VERSION.to_owned(),
            revealed,
        })
    }

    fn begin_test_execution(
        stored: &IdempotencyCache,
        key: CacheKey,
        call: &str,
        now: Instant,
    ) -> (ApprovalRequestId, RunningExecution) {
        let ask = ApprovalRequestId::new();
        (ask, stored.begin_execution(key, Some(call.to_owned()), ask, ExchangeId::new(), now))
    }

    #[test]
    fn is_found_by_retry_key_or_approval_request_within_its_session_and_operation_only() {
        let (stored, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let (ask, _running) = begin_test_execution(&stored, key, "a", now);
        let found = |key: &CacheKey, call, ask| stored.find_entry(key, call, ask, now).is_some();
        assert!(found(&key, Some("a"), None));
        assert!(found(&key, Some("b"), Some(ask)));
        assert!(found(&key, None, Some(ask)));
        assert!(!found(&key, Some("b"), None));
        assert!(!found(&key, None, None));
        assert!(!found(&key, Some("b"), Some(ApprovalRequestId::new())));
        assert!(!found(&CacheKey { session: SessionId::new(), ..key }, Some("a"), Some(ask)));
        assert!(!found(&CacheKey { digest: [8; 32], ..key }, Some("a"), Some(ask)));
    }

    #[test]
    fn requests_without_a_retry_key_are_never_attempts_of_one_another() {
        let (stored, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let _running = stored.begin_execution(key, None, ApprovalRequestId::new(), ExchangeId::new(), now);
        assert!(stored.find_entry(&key, None, None, now).is_none());
    }

    #[test]
    fn expires_after_its_ttl() {
        let (stored, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let (_ask, running) = begin_test_execution(&stored, key, "a", now);
        running.finish(responded_end(1));
        let almost = now + limits::STORED_RESPONSE_TTL.saturating_sub(Duration::from_secs(1));
        assert!(stored.find_entry(&key, Some("a"), None, almost).is_some());
        assert!(stored.find_entry(&key, Some("a"), None, now + limits::STORED_RESPONSE_TTL).is_none());
        assert_eq!(lock_table(&stored.table).bytes, 0);
    }

    #[test]
    fn evicts_the_oldest_entries_when_full() {
        let (stored, key, now) =
            (IdempotencyCache::with_capacity(3 * CACHE_ENTRY_BYTES + 100), new_cache_key(), Instant::now());
        for call in ["a", "b", "c"] {
            let (_ask, running) = begin_test_execution(&stored, key, call, now);
            running.finish(responded_end(if call == "c" { 101 } else { 0 }));
        }
        let kept = |call| stored.find_entry(&key, Some(call), None, now).is_some();
        assert_eq!(["a", "b", "c"].map(kept), [false, true, true]);
        assert!(lock_table(&stored.table).bytes <= stored.max_bytes);
        let (_ask, running) = begin_test_execution(&stored, key, "d", now);
        running.finish(responded_end(stored.max_bytes));
        assert_eq!(["a", "b", "c", "d"].map(kept), [false; 4]);
        assert_eq!(lock_table(&stored.table).bytes, 0);
    }

    #[tokio::test]
    async fn a_waiting_attempt_gets_the_response_even_if_its_entry_was_evicted() {
        let (stored, key, now) =
            (IdempotencyCache::with_capacity(2 * CACHE_ENTRY_BYTES), new_cache_key(), Instant::now());
        let (_ask, running) = begin_test_execution(&stored, key, "a", now);
        let entry = stored.find_entry(&key, Some("a"), None, now).unwrap();
        let ended = tokio::spawn(async move { entry.wait_for_end().await });
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        running.finish(responded_end(2 * CACHE_ENTRY_BYTES));
        assert!(
            matches!(ended.await.unwrap(), ExecutionEnd::Responded(kept) if kept.bytes.len() == 2 * CACHE_ENTRY_BYTES)
        );
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_does_not_affect_the_others() {
        let (stored, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let (_ask, running) = begin_test_execution(&stored, key, "a", now);
        let entry = stored.find_entry(&key, Some("a"), None, now).unwrap();
        let gone = tokio::time::timeout(Duration::ZERO, entry.wait_for_end()).await;
        assert!(gone.is_err());
        running.finish(responded_end(1));
        assert!(matches!(entry.wait_for_end().await, ExecutionEnd::Responded(_)));
    }

    #[tokio::test]
    async fn a_dropped_execution_ends_as_unknown_and_stays_cached() {
        let (stored, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        drop(begin_test_execution(&stored, key, "a", now));
        let entry = stored.find_entry(&key, Some("a"), None, now).unwrap();
        assert!(matches!(entry.wait_for_end().await, ExecutionEnd::Unknown));
    }

    #[tokio::test]
    async fn an_unsent_execution_is_reported_and_then_evicted() {
        let (stored, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let (_ask, running) = begin_test_execution(&stored, key, "a", now);
        let entry = stored.find_entry(&key, Some("a"), None, now).unwrap();
        running.finish(ExecutionEnd::NotSent);
        assert!(matches!(entry.wait_for_end().await, ExecutionEnd::NotSent));
        assert!(stored.find_entry(&key, Some("a"), None, now).is_none());
        assert_eq!(lock_table(&stored.table).bytes, 0);
    }

    #[tokio::test]
    async fn lookups_wait_until_a_consumed_grant_has_its_entry() {
        let (stored, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let ask = ApprovalRequestId::new();
        let turn = stored.lock_key(&key).await;
        let look = stored.find_entry_locked(&key, None, Some(ask));
        tokio::pin!(look);
        assert!(tokio::time::timeout(Duration::ZERO, &mut look).await.is_err());
        let _running = stored.begin_execution(key, None, ask, ExchangeId::new(), now);
        drop(turn);
        assert!(look.await.is_some());
    }

    #[tokio::test]
    async fn a_small_response_is_stored_without_its_connection_headers() {
        let mut response = Response::new(full_body("x"));
        *response.status_mut() = StatusCode::CREATED;
        for (name, value) in
            [("date", "Sat, 21 Nov 2026 11:00:00 GMT"), ("connection", "close"), ("x-amzn-requestid", "r")]
        {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        let (first, ending) = store_response(response, POLICY_SET_VERSION.to_owned()).await;
        assert_eq!(first.status(), StatusCode::CREATED);
        assert_eq!(first.headers().len(), 3);
        let ExecutionEnd::Responded(kept) = ending else { panic!("{ending:?}") };
        let again = kept.to_response();
        assert_eq!((again.status(), again.headers().len()), (StatusCode::CREATED, 1));
        assert_eq!(again.headers()["x-amzn-requestid"], "r");
        assert_eq!(again.into_body().collect().await.unwrap().to_bytes(), "x");
    }

    #[tokio::test]
    async fn a_stored_response_is_valid_for_equal_reveal_rights_and_policies() {
        let kept = async |revealed: &[&str]| {
            let mut response = Response::new(full_body("x"));
            let revealed = revealed.iter().map(|class| (*class).to_owned()).collect();
            response.extensions_mut().insert(RevealedClasses(revealed));
            let (_first, ExecutionEnd::Responded(kept)) =
                store_response(response, POLICY_SET_VERSION.to_owned()).await
            else {
                panic!()
            };
            kept
        };
        let everything = |_class: &str| true;
        let nothing = |_class: &str| false;
        let masked = kept(&[]).await;
        assert!(
            masked.is_valid_for(POLICY_SET_VERSION, nothing)
                && masked.is_valid_for(POLICY_SET_VERSION, everything)
        );
        assert!(!masked.is_valid_for("fedcba9876543210", everything));
        let open = kept(&["token", "aws-key"]).await;
        assert!(open.is_valid_for(POLICY_SET_VERSION, |class| ["token", "aws-key"].contains(&class)));
        assert!(!open.is_valid_for(POLICY_SET_VERSION, |class| class == "token"));
        assert!(!open.is_valid_for(POLICY_SET_VERSION, nothing));
        assert!(!open.is_valid_for("fedcba9876543210", everything));
    }

    #[tokio::test]
    async fn large_and_unsized_responses_pass_through_and_are_not_stored() {
        let limit = limits::MAX_STORED_RESPONSE_BYTES;
        for (size, kept) in [(limit, true), (limit + 1, false)] {
            let (answer, ending) =
                store_response(Response::new(full_body(vec![b'x'; size])), POLICY_SET_VERSION.to_owned())
                    .await;
            assert_eq!(matches!(ending, ExecutionEnd::Responded(_)), kept, "{size}");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), size);
        }
        // A body that fails has no length, and nobody but its reader may find that out.
        let broken = Response::new(FailingBody(Some("gone".into())).boxed_unsync());
        let (answer, ending) = store_response(broken, POLICY_SET_VERSION.to_owned()).await;
        assert!(matches!(ending, ExecutionEnd::NotStored));
        assert!(answer.into_body().collect().await.is_err());
    }
}
