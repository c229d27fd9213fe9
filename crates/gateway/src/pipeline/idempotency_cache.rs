//! Responses to approved operations, kept for other attempts of the same request in a bounded table. SDKs send a call again after
//! a timeout, and a grant must not be executed twice.
//!
//! An entry exists before its operation is sent, so no attempt can miss that another one has its grant. The masked and recorded
//! response is stored for the same caller, session and operation, as long as the policy set is the same. A stream or a large
//! response is not stored; its entry then says only that the operation was executed. Nothing here permits an execution: a request
//! that finds an entry is not executed.

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

/// The size that an entry without a response counts as.
const CACHE_ENTRY_BYTES: usize = 1 << 10;
/// Locks for consuming grants, selected by digest: 64 mutexes instead of one for each operation.
const KEY_LOCK_COUNT: usize = 64;

/// An operation in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheKey {
    pub session: SessionId,
    pub digest: [u8; 32],
}

/// One consumed grant and its execution.
pub(super) struct CacheEntry {
    pub approval_request: ApprovalRequestId,
    pub executed_by: ExchangeId,
    key: CacheKey,
    /// The key that the client sends with every attempt of the call, if it sends one (`amz-sdk-invocation-id`).
    retry_key: Option<String>,
    started_at: Instant,
    execution_end: watch::Sender<Option<ExecutionEnd>>,
}

/// The end of an execution.
#[derive(Debug, Clone)]
pub(super) enum ExecutionEnd {
    Responded(StoredResponse),
    /// Executed; the response is not stored.
    NotStored,
    /// It may have been executed, and no response came.
    Unknown,
    /// Nothing was sent.
    NotSent,
    /// Nothing was sent, and the grant was not consumed.
    NotConsumed,
}

/// A response as the caller may see it.
#[derive(Debug, Clone)]
pub(super) struct StoredResponse {
    pub status: StatusCode,
    pub bytes: Bytes,
    headers: HeaderMap,
    /// The version of the policy set that decided the operation.
    policy_set: String,
    revealed: RevealedClasses,
}

impl StoredResponse {
    /// Returns true if an attempt under this policy set would get the same response, where it may see the data classes for which
    /// `may_reveal` is true. An attempt from another address or at another time may see less.
    pub fn is_valid_for(&self, policy_set: &str, may_reveal: impl Fn(&str) -> bool) -> bool {
        self.policy_set == policy_set && self.revealed.0.iter().all(|class| may_reveal(class))
    }

    /// The response for another exchange, without the headers that belong to one connection or one time: the HTTP server sets
    /// those.
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

/// Reads a response that is small enough to be stored; any other passes unchanged. `policy_set` is the version that decided its
/// operation.
pub(super) async fn store_response(
    response: Response<BoxBody>,
    policy_set: String,
) -> (Response<BoxBody>, ExecutionEnd) {
    // Only a length that is known beforehand: a stream must not be collected to find out that it is too long.
    let is_small = response
        .body()
        .size_hint()
        .exact()
        .is_some_and(|size| size <= limits::MAX_STORED_RESPONSE_BYTES as u64);
    if !is_small {
        return (response, ExecutionEnd::NotStored);
    }
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            let stored = StoredResponse {
                status: head.status,
                bytes: bytes.clone(),
                headers: head.headers.clone(),
                policy_set,
                revealed: head.extensions.get().cloned().unwrap_or_default(),
            };
            (Response::from_parts(head, full_body(bytes)), ExecutionEnd::Responded(stored))
        }
        Err(error) => {
            (Response::from_parts(head, FailingBody(Some(error)).boxed_unsync()), ExecutionEnd::NotStored)
        }
    }
}

/// A body that fails with the error of the body that it replaces.
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
    /// Removes expired entries, and the oldest while the table is too large.
    fn evict_expired(&mut self, now: Instant, max_bytes: usize) {
        while let Some((entry, bytes)) = self.entries.front() {
            if self.bytes <= max_bytes
                && now.saturating_duration_since(entry.started_at) < limits::STORED_RESPONSE_TTL
            {
                return;
            }
            self.bytes -= bytes;
            self.entries.pop_front();
        }
    }
}

/// The consumed grants of the last minutes and their responses.
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
    fn with_capacity(max_bytes: usize) -> Self {
        Self {
            table: Arc::default(),
            key_locks: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            max_bytes,
        }
    }

    /// While the lock is held, no other request consumes a grant of this operation. A request that consumes one and begins its
    /// entry under the lock is visible to every later lookup under it.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below the length")]
    pub(super) async fn lock_key(&self, key: &CacheKey) -> tokio::sync::MutexGuard<'_, ()> {
        // The bytes of a SHA-256 are evenly distributed, so the first one spreads the keys over the locks.
        let [first, ..] = key.digest;
        self.key_locks[usize::from(first) % KEY_LOCK_COUNT].lock().await
    }

    /// The execution that this attempt shares: of the approval request that it was held for, or of the same call.
    pub(super) fn find_entry(
        &self,
        key: &CacheKey,
        retry_key: Option<&str>,
        approval_request: Option<ApprovalRequestId>,
        now: Instant,
    ) -> Option<Arc<CacheEntry>> {
        let mut table = lock_table(&self.table);
        table.evict_expired(now, self.max_bytes);
        let is_match = |entry: &CacheEntry| {
            entry.key == *key
                && (approval_request == Some(entry.approval_request)
                    || (retry_key.is_some() && entry.retry_key.as_deref() == retry_key))
        };
        table
            .entries
            .iter()
            // The newest first: an older execution of the same operation had a grant of its own.
            .rev()
            .find(|(entry, _bytes)| is_match(entry))
            .map(|(entry, _bytes)| entry.clone())
    }

    /// [`Self::find_entry`] for a request that does not hold the lock, because it consumes no grant.
    pub(super) async fn find_entry_locked(
        &self,
        key: &CacheKey,
        retry_key: Option<&str>,
        approval_request: Option<ApprovalRequestId>,
    ) -> Option<Arc<CacheEntry>> {
        let _lock = self.lock_key(key).await;
        self.find_entry(key, retry_key, approval_request, Instant::now())
    }

    /// Returns true if an attempt of any call has claimed the grant of this approval request, and may still consume it.
    pub(super) fn is_claimed(&self, approval_request: ApprovalRequestId) -> bool {
        let table = lock_table(&self.table);
        table.entries.iter().any(|(entry, _bytes)| {
            entry.approval_request == approval_request && entry.execution_end.borrow().is_none()
        })
    }

    /// Records that `executed_by` has the grant of `approval_request`, before it sends anything.
    pub(super) fn begin_execution(
        &self,
        key: CacheKey,
        retry_key: Option<String>,
        approval_request: ApprovalRequestId,
        executed_by: ExchangeId,
        now: Instant,
    ) -> RunningExecution {
        let entry = Arc::new(CacheEntry {
            approval_request,
            executed_by,
            key,
            retry_key,
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
    /// Waits until the execution has ended, and says how.
    pub async fn wait_for_end(&self) -> ExecutionEnd {
        let mut end = self.execution_end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(ExecutionEnd::Unknown),
            Err(_closed) => ExecutionEnd::Unknown,
        }
    }
}

/// An execution in progress. If it is dropped before its end, the operation may or may not have been executed.
pub(super) struct RunningExecution {
    table: Arc<Mutex<CacheTable>>,
    entry: Arc<CacheEntry>,
    max_bytes: usize,
    is_ended: bool,
}

impl RunningExecution {
    pub fn finish(mut self, end: ExecutionEnd) {
        self.record_end(end);
    }

    fn record_end(&mut self, end: ExecutionEnd) {
        self.is_ended = true;
        let mut table = lock_table(&self.table);
        let position = table.entries.iter().position(|(entry, _bytes)| Arc::ptr_eq(entry, &self.entry));
        match (&end, position) {
            // Nothing was executed. Later attempts must use the grant that is left, or request approval again.
            (ExecutionEnd::NotSent | ExecutionEnd::NotConsumed, Some(position)) => {
                if let Some((_entry, bytes)) = table.entries.remove(position) {
                    table.bytes -= bytes;
                }
            }
            (ExecutionEnd::Responded(stored), Some(position)) => {
                let size = stored.size_bytes();
                if let Some((_entry, bytes)) = table.entries.get_mut(position) {
                    *bytes += size;
                    table.bytes += size;
                }
                table.evict_expired(self.entry.started_at, self.max_bytes);
            }
            _ => {}
        }
        drop(table);
        self.entry.execution_end.send_replace(Some(end));
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
        cache: &IdempotencyCache,
        key: CacheKey,
        retry_key: &str,
        now: Instant,
    ) -> (ApprovalRequestId, RunningExecution) {
        let approval_request = ApprovalRequestId::new();
        (
            approval_request,
            cache.begin_execution(key, Some(retry_key.to_owned()), approval_request, ExchangeId::new(), now),
        )
    }

    #[test]
    fn is_found_by_retry_key_or_approval_request_within_its_session_and_operation_only() {
        let (cache, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let (approval_request, _running) = begin_test_execution(&cache, key, "a", now);
        let is_found = |key: &CacheKey, retry_key, approval_request| {
            cache.find_entry(key, retry_key, approval_request, now).is_some()
        };
        assert!(is_found(&key, Some("a"), None));
        assert!(is_found(&key, Some("b"), Some(approval_request)));
        assert!(is_found(&key, None, Some(approval_request)));
        assert!(!is_found(&key, Some("b"), None));
        assert!(!is_found(&key, None, None));
        assert!(!is_found(&key, Some("b"), Some(ApprovalRequestId::new())));
        assert!(!is_found(&CacheKey { session: SessionId::new(), ..key }, Some("a"), Some(approval_request)));
        assert!(!is_found(&CacheKey { digest: [8; 32], ..key }, Some("a"), Some(approval_request)));
    }

    #[test]
    fn requests_without_a_retry_key_are_never_attempts_of_one_another() {
        let (cache, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let _running = cache.begin_execution(key, None, ApprovalRequestId::new(), ExchangeId::new(), now);
        assert!(cache.find_entry(&key, None, None, now).is_none());
    }

    #[test]
    fn expires_after_its_ttl() {
        let (cache, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let (_id, running) = begin_test_execution(&cache, key, "a", now);
        running.finish(responded_end(1));
        let before_expiry = now + limits::STORED_RESPONSE_TTL.saturating_sub(Duration::from_secs(1));
        assert!(cache.find_entry(&key, Some("a"), None, before_expiry).is_some());
        assert!(cache.find_entry(&key, Some("a"), None, now + limits::STORED_RESPONSE_TTL).is_none());
        assert_eq!(lock_table(&cache.table).bytes, 0);
    }

    #[test]
    fn evicts_the_oldest_entries_when_full() {
        let (cache, key, now) =
            (IdempotencyCache::with_capacity(3 * CACHE_ENTRY_BYTES + 100), new_cache_key(), Instant::now());
        for retry_key in ["a", "b", "c"] {
            let (_id, running) = begin_test_execution(&cache, key, retry_key, now);
            running.finish(responded_end(if retry_key == "c" { 101 } else { 0 }));
        }
        let is_cached = |retry_key| cache.find_entry(&key, Some(retry_key), None, now).is_some();
        assert_eq!(["a", "b", "c"].map(is_cached), [false, true, true]);
        assert!(lock_table(&cache.table).bytes <= cache.max_bytes);
        let (_id, running) = begin_test_execution(&cache, key, "d", now);
        running.finish(responded_end(cache.max_bytes));
        assert_eq!(["a", "b", "c", "d"].map(is_cached), [false; 4]);
        assert_eq!(lock_table(&cache.table).bytes, 0);
    }

    #[tokio::test]
    async fn a_waiting_attempt_gets_the_response_even_if_its_entry_was_evicted() {
        let (cache, key, now) =
            (IdempotencyCache::with_capacity(2 * CACHE_ENTRY_BYTES), new_cache_key(), Instant::now());
        let (_id, running) = begin_test_execution(&cache, key, "a", now);
        let entry = cache.find_entry(&key, Some("a"), None, now).unwrap();
        let waiter = tokio::spawn(async move { entry.wait_for_end().await });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        running.finish(responded_end(2 * CACHE_ENTRY_BYTES));
        assert!(
            matches!(waiter.await.unwrap(), ExecutionEnd::Responded(stored) if stored.bytes.len() == 2 * CACHE_ENTRY_BYTES)
        );
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_does_not_affect_the_others() {
        let (cache, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let (_id, running) = begin_test_execution(&cache, key, "a", now);
        let entry = cache.find_entry(&key, Some("a"), None, now).unwrap();
        let timed_out = tokio::time::timeout(Duration::ZERO, entry.wait_for_end()).await;
        assert!(timed_out.is_err());
        running.finish(responded_end(1));
        assert!(matches!(entry.wait_for_end().await, ExecutionEnd::Responded(_)));
    }

    #[tokio::test]
    async fn a_dropped_execution_ends_as_unknown_and_stays_cached() {
        let (cache, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        drop(begin_test_execution(&cache, key, "a", now));
        let entry = cache.find_entry(&key, Some("a"), None, now).unwrap();
        assert!(matches!(entry.wait_for_end().await, ExecutionEnd::Unknown));
    }

    #[tokio::test]
    async fn an_unsent_execution_is_reported_and_then_evicted() {
        let (cache, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let (_id, running) = begin_test_execution(&cache, key, "a", now);
        let entry = cache.find_entry(&key, Some("a"), None, now).unwrap();
        running.finish(ExecutionEnd::NotSent);
        assert!(matches!(entry.wait_for_end().await, ExecutionEnd::NotSent));
        assert!(cache.find_entry(&key, Some("a"), None, now).is_none());
        assert_eq!(lock_table(&cache.table).bytes, 0);
    }

    #[tokio::test]
    async fn lookups_wait_until_a_consumed_grant_has_its_entry() {
        let (cache, key, now) = (IdempotencyCache::default(), new_cache_key(), Instant::now());
        let approval_request = ApprovalRequestId::new();
        let lock = cache.lock_key(&key).await;
        let lookup = cache.find_entry_locked(&key, None, Some(approval_request));
        tokio::pin!(lookup);
        assert!(tokio::time::timeout(Duration::ZERO, &mut lookup).await.is_err());
        let _running = cache.begin_execution(key, None, approval_request, ExchangeId::new(), now);
        drop(lock);
        assert!(lookup.await.is_some());
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
        let (first, end) = store_response(response, POLICY_SET_VERSION.to_owned()).await;
        assert_eq!(first.status(), StatusCode::CREATED);
        assert_eq!(first.headers().len(), 3);
        let ExecutionEnd::Responded(stored) = end else { panic!("{end:?}") };
        let again = stored.to_response();
        assert_eq!((again.status(), again.headers().len()), (StatusCode::CREATED, 1));
        assert_eq!(again.headers()["x-amzn-requestid"], "r");
        assert_eq!(again.into_body().collect().await.unwrap().to_bytes(), "x");
    }

    #[tokio::test]
    async fn a_stored_response_is_valid_for_equal_reveal_rights_and_policies() {
        let store_revealing = async |revealed: &[&str]| {
            let mut response = Response::new(full_body("x"));
            let revealed = revealed.iter().map(|class| (*class).to_owned()).collect();
            response.extensions_mut().insert(RevealedClasses(revealed));
            let (_first, ExecutionEnd::Responded(stored)) =
                store_response(response, POLICY_SET_VERSION.to_owned()).await
            else {
                panic!()
            };
            stored
        };
        let everything = |_class: &str| true;
        let nothing = |_class: &str| false;
        let masked = store_revealing(&[]).await;
        assert!(
            masked.is_valid_for(POLICY_SET_VERSION, nothing)
                && masked.is_valid_for(POLICY_SET_VERSION, everything)
        );
        assert!(!masked.is_valid_for("fedcba9876543210", everything));
        let revealed = store_revealing(&["token", "aws-key"]).await;
        assert!(revealed.is_valid_for(POLICY_SET_VERSION, |class| ["token", "aws-key"].contains(&class)));
        assert!(!revealed.is_valid_for(POLICY_SET_VERSION, |class| class == "token"));
        assert!(!revealed.is_valid_for(POLICY_SET_VERSION, nothing));
        assert!(!revealed.is_valid_for("fedcba9876543210", everything));
    }

    #[tokio::test]
    async fn large_and_unsized_responses_pass_through_and_are_not_stored() {
        let limit = limits::MAX_STORED_RESPONSE_BYTES;
        for (size, is_stored) in [(limit, true), (limit + 1, false)] {
            let (response, end) =
                store_response(Response::new(full_body(vec![b'x'; size])), POLICY_SET_VERSION.to_owned())
                    .await;
            assert_eq!(matches!(end, ExecutionEnd::Responded(_)), is_stored, "{size}");
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), size);
        }
        // A failing body has no known length, and its failure reaches its reader.
        let failing = Response::new(FailingBody(Some("failed".into())).boxed_unsync());
        let (response, end) = store_response(failing, POLICY_SET_VERSION.to_owned()).await;
        assert!(matches!(end, ExecutionEnd::NotStored));
        assert!(response.into_body().collect().await.is_err());
    }
}
