//! Answers to approved operations that other attempts of the same request may have: a bounded table, and who finds what in it.
//!
//! An entry is there before its operation is sent, so that no attempt takes a use of the approval for none. What is kept is
//! the masked and recorded answer, for the same caller, session and operation, as long as policy is what it was; a stream or a
//! large answer is not kept, and its entry then says that the operation was executed. Nothing here permits anything: whoever
//! finds an entry is not executed.

use crate::body::{Body, BoxError, full};
use crate::viewer::Revealed;
use bytes::Bytes;
use durward_approval::AskId;
use durward_core::{ExchangeId, SessionId, limits};
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::watch;

/// What an entry without an answer counts as.
const ENTRY: usize = 1 << 10;
/// Locks that uses of approvals are taken under, by digest.
const TURNS: usize = 64;

/// Which operation of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub session: SessionId,
    pub digest: [u8; 32],
}

/// One use of an approval.
pub(super) struct Entry {
    pub ask: AskId,
    pub executed_by: ExchangeId,
    key: Key,
    /// What the client names its call by.
    call: Option<String>,
    begun: Instant,
    ending: watch::Sender<Option<Ending>>,
}

/// How an execution ended.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    Answered(Kept),
    /// Executed; the answer is not kept.
    NotKept,
    /// It may have been executed, and no answer came.
    Unknown,
    /// Nothing was sent.
    NotSent,
}

/// An answer as the caller may see it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub status: StatusCode,
    pub bytes: Bytes,
    headers: HeaderMap,
    /// What its operation was decided by.
    policy_set: String,
    revealed: Revealed,
}

impl Kept {
    /// Whether it is the answer that an attempt would get under this policy set that sees these data classes. Where and when an
    /// attempt comes from may tell what it sees.
    pub fn is_good_for(&self, policy_set: &str, sees: impl Fn(&str) -> bool) -> bool {
        self.policy_set == policy_set && self.revealed.0.iter().all(|class| sees(class))
    }

    /// The answer for another exchange. What holds for one connection or one moment is left to the server.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(full(self.bytes.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        for name in [header::CONNECTION, header::DATE, header::TRANSFER_ENCODING, header::UPGRADE] {
            response.headers_mut().remove(name);
        }
        response
    }

    fn size(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
        self.bytes.len() + headers.sum::<usize>()
    }
}

/// Reads an answer that is small enough to be kept; any other passes as it is. `policy_set` is what its operation was decided by.
pub(super) async fn keep(response: Response<Body>, policy_set: String) -> (Response<Body>, Ending) {
    let small = response.body().size_hint().exact().is_some_and(|size| size <= limits::STORED_ANSWER as u64);
    if !small {
        return (response, Ending::NotKept);
    }
    let (head, body) = response.into_parts();
    match body.collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            let kept = Kept {
                status: head.status,
                bytes: bytes.clone(),
                headers: head.headers.clone(),
                policy_set,
                revealed: head.extensions.get().cloned().unwrap_or_default(),
            };
            (Response::from_parts(head, full(bytes)), Ending::Answered(kept))
        }
        Err(error) => (Response::from_parts(head, Broken(Some(error)).boxed_unsync()), Ending::NotKept),
    }
}

/// A body that breaks off, as the one that it stands for did.
struct Broken(Option<BoxError>);

impl http_body::Body for Broken {
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
struct Table {
    /// Oldest first.
    entries: VecDeque<(Arc<Entry>, usize)>,
    bytes: usize,
}

impl Table {
    /// Ends what is too old, and the oldest while there is too much.
    fn prune(&mut self, now: Instant, most: usize) {
        while let Some((entry, bytes)) = self.entries.front() {
            if self.bytes <= most && now.saturating_duration_since(entry.begun) < limits::STORED_FOR {
                return;
            }
            self.bytes -= bytes;
            self.entries.pop_front();
        }
    }
}

/// What was approved, used and answered lately.
pub struct Stored {
    table: Arc<Mutex<Table>>,
    turns: [tokio::sync::Mutex<()>; TURNS],
    most: usize,
}

impl Default for Stored {
    fn default() -> Self {
        Self::with_capacity(limits::STORED)
    }
}

impl Stored {
    fn with_capacity(most: usize) -> Self {
        Self { table: Arc::default(), turns: std::array::from_fn(|_| tokio::sync::Mutex::default()), most }
    }

    /// While it is held, nobody else uses an approval of this operation: who uses one and begins its entry under this lock
    /// is seen by whoever looks under it.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below the length")]
    pub(super) async fn turn(&self, key: &Key) -> tokio::sync::MutexGuard<'_, ()> {
        let [first, ..] = key.digest;
        self.turns[usize::from(first) % TURNS].lock().await
    }

    /// The use of an approval that stands for this attempt: of the ask that it waited for, or for the same call.
    pub(super) fn find(
        &self,
        key: &Key,
        call: Option<&str>,
        ask: Option<AskId>,
        now: Instant,
    ) -> Option<Arc<Entry>> {
        let mut table = lock(&self.table);
        table.prune(now, self.most);
        let same = |entry: &Entry| {
            entry.key == *key && (ask == Some(entry.ask) || (call.is_some() && entry.call.as_deref() == call))
        };
        table.entries.iter().rev().find(|(entry, _bytes)| same(entry)).map(|(entry, _bytes)| entry.clone())
    }

    /// [`Self::find`] for who does not use an approval.
    pub(super) async fn used(&self, key: &Key, call: Option<&str>, ask: Option<AskId>) -> Option<Arc<Entry>> {
        let _turn = self.turn(key).await;
        self.find(key, call, ask, Instant::now())
    }

    /// Notes that `executed_by` used the approval `ask`, before it sends anything.
    pub(super) fn begin(
        &self,
        key: Key,
        call: Option<String>,
        ask: AskId,
        executed_by: ExchangeId,
        now: Instant,
    ) -> Running {
        let entry =
            Arc::new(Entry { ask, executed_by, key, call, begun: now, ending: watch::Sender::new(None) });
        let mut table = lock(&self.table);
        table.entries.push_back((entry.clone(), ENTRY));
        table.bytes += ENTRY;
        table.prune(now, self.most);
        drop(table);
        Running { table: self.table.clone(), entry, most: self.most, ended: false }
    }
}

impl Entry {
    /// How it ended, as soon as it has.
    pub async fn ended(&self) -> Ending {
        let mut ending = self.ending.subscribe();
        match ending.wait_for(Option::is_some).await {
            Ok(ending) => ending.clone().unwrap_or(Ending::Unknown),
            Err(_closed) => Ending::Unknown,
        }
    }
}

/// An execution under way. Dropped before its end, it may or may not have happened.
pub(super) struct Running {
    table: Arc<Mutex<Table>>,
    entry: Arc<Entry>,
    most: usize,
    ended: bool,
}

impl Running {
    pub fn end(mut self, ending: Ending) {
        self.settle(ending);
    }

    fn settle(&mut self, ending: Ending) {
        self.ended = true;
        let mut table = lock(&self.table);
        let place = table.entries.iter().position(|(entry, _bytes)| Arc::ptr_eq(entry, &self.entry));
        match (&ending, place) {
            // The use came to nothing: who comes later asks people again.
            (Ending::NotSent, Some(place)) => {
                if let Some((_entry, bytes)) = table.entries.remove(place) {
                    table.bytes -= bytes;
                }
            }
            (Ending::Answered(kept), Some(place)) => {
                let size = kept.size();
                if let Some((_entry, bytes)) = table.entries.get_mut(place) {
                    *bytes += size;
                    table.bytes += size;
                }
                table.prune(self.entry.begun, self.most);
            }
            _ => {}
        }
        drop(table);
        self.entry.ending.send_replace(Some(ending));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.settle(Ending::Unknown);
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SET: &str = "0123456789abcdef";

    fn key() -> Key {
        Key { session: SessionId::new(), digest: [7; 32] }
    }

    fn answer(size: usize) -> Ending {
        let bytes = Bytes::from(vec![b'x'; size]);
        let (headers, revealed) = (HeaderMap::new(), Revealed::default());
        Ending::Answered(Kept {
            status: StatusCode::OK,
            bytes,
            headers,
            policy_set: SET.to_owned(),
            revealed,
        })
    }

    fn begin(stored: &Stored, key: Key, call: &str, now: Instant) -> (AskId, Running) {
        let ask = AskId::new();
        (ask, stored.begin(key, Some(call.to_owned()), ask, ExchangeId::new(), now))
    }

    #[test]
    fn is_found_by_call_or_by_ask_within_its_session_and_for_its_operation_only() {
        let (stored, key, now) = (Stored::default(), key(), Instant::now());
        let (ask, _running) = begin(&stored, key, "a", now);
        let found = |key: &Key, call, ask| stored.find(key, call, ask, now).is_some();
        assert!(found(&key, Some("a"), None));
        assert!(found(&key, Some("b"), Some(ask)));
        assert!(found(&key, None, Some(ask)));
        assert!(!found(&key, Some("b"), None));
        assert!(!found(&key, None, None));
        assert!(!found(&key, Some("b"), Some(AskId::new())));
        assert!(!found(&Key { session: SessionId::new(), ..key }, Some("a"), Some(ask)));
        assert!(!found(&Key { digest: [8; 32], ..key }, Some("a"), Some(ask)));
    }

    #[test]
    fn a_call_without_a_name_is_no_attempt_of_another_without_one() {
        let (stored, key, now) = (Stored::default(), key(), Instant::now());
        let _running = stored.begin(key, None, AskId::new(), ExchangeId::new(), now);
        assert!(stored.find(&key, None, None, now).is_none());
    }

    #[test]
    fn ends_after_its_time() {
        let (stored, key, now) = (Stored::default(), key(), Instant::now());
        let (_ask, running) = begin(&stored, key, "a", now);
        running.end(answer(1));
        let almost = now + limits::STORED_FOR.saturating_sub(Duration::from_secs(1));
        assert!(stored.find(&key, Some("a"), None, almost).is_some());
        assert!(stored.find(&key, Some("a"), None, now + limits::STORED_FOR).is_none());
        assert_eq!(lock(&stored.table).bytes, 0);
    }

    #[test]
    fn the_oldest_make_room() {
        let (stored, key, now) = (Stored::with_capacity(3 * ENTRY + 100), key(), Instant::now());
        for call in ["a", "b", "c"] {
            let (_ask, running) = begin(&stored, key, call, now);
            running.end(answer(if call == "c" { 101 } else { 0 }));
        }
        let kept = |call| stored.find(&key, Some(call), None, now).is_some();
        assert_eq!(["a", "b", "c"].map(kept), [false, true, true]);
        assert!(lock(&stored.table).bytes <= stored.most);
        let (_ask, running) = begin(&stored, key, "d", now);
        running.end(answer(stored.most));
        assert_eq!(["a", "b", "c", "d"].map(kept), [false; 4]);
        assert_eq!(lock(&stored.table).bytes, 0);
    }

    #[tokio::test]
    async fn who_waits_gets_the_answer_also_if_it_made_no_room_in_the_table() {
        let (stored, key, now) = (Stored::with_capacity(2 * ENTRY), key(), Instant::now());
        let (_ask, running) = begin(&stored, key, "a", now);
        let entry = stored.find(&key, Some("a"), None, now).unwrap();
        let ended = tokio::spawn(async move { entry.ended().await });
        tokio::task::yield_now().await;
        assert!(!ended.is_finished());
        running.end(answer(2 * ENTRY));
        assert!(matches!(ended.await.unwrap(), Ending::Answered(kept) if kept.bytes.len() == 2 * ENTRY));
    }

    #[tokio::test]
    async fn who_stops_waiting_changes_nothing_for_the_others() {
        let (stored, key, now) = (Stored::default(), key(), Instant::now());
        let (_ask, running) = begin(&stored, key, "a", now);
        let entry = stored.find(&key, Some("a"), None, now).unwrap();
        let gone = tokio::time::timeout(Duration::ZERO, entry.ended()).await;
        assert!(gone.is_err());
        running.end(answer(1));
        assert!(matches!(entry.ended().await, Ending::Answered(_)));
    }

    #[tokio::test]
    async fn an_execution_that_was_dropped_may_have_happened_and_stands() {
        let (stored, key, now) = (Stored::default(), key(), Instant::now());
        drop(begin(&stored, key, "a", now));
        let entry = stored.find(&key, Some("a"), None, now).unwrap();
        assert!(matches!(entry.ended().await, Ending::Unknown));
    }

    #[tokio::test]
    async fn what_was_not_sent_is_told_and_then_forgotten() {
        let (stored, key, now) = (Stored::default(), key(), Instant::now());
        let (_ask, running) = begin(&stored, key, "a", now);
        let entry = stored.find(&key, Some("a"), None, now).unwrap();
        running.end(Ending::NotSent);
        assert!(matches!(entry.ended().await, Ending::NotSent));
        assert!(stored.find(&key, Some("a"), None, now).is_none());
        assert_eq!(lock(&stored.table).bytes, 0);
    }

    #[tokio::test]
    async fn nobody_looks_between_a_use_and_its_entry() {
        let (stored, key, now) = (Stored::default(), key(), Instant::now());
        let ask = AskId::new();
        let turn = stored.turn(&key).await;
        let look = stored.used(&key, None, Some(ask));
        tokio::pin!(look);
        assert!(tokio::time::timeout(Duration::ZERO, &mut look).await.is_err());
        let _running = stored.begin(key, None, ask, ExchangeId::new(), now);
        drop(turn);
        assert!(look.await.is_some());
    }

    #[tokio::test]
    async fn a_small_answer_is_kept_without_what_holds_for_a_moment_or_a_connection() {
        let mut response = Response::new(full("x"));
        *response.status_mut() = StatusCode::CREATED;
        for (name, value) in
            [("date", "Sat, 21 Nov 2026 11:00:00 GMT"), ("connection", "close"), ("x-amzn-requestid", "r")]
        {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        let (first, ending) = keep(response, SET.to_owned()).await;
        assert_eq!(first.status(), StatusCode::CREATED);
        assert_eq!(first.headers().len(), 3);
        let Ending::Answered(kept) = ending else { panic!("{ending:?}") };
        let again = kept.response();
        assert_eq!((again.status(), again.headers().len()), (StatusCode::CREATED, 1));
        assert_eq!(again.headers()["x-amzn-requestid"], "r");
        assert_eq!(again.into_body().collect().await.unwrap().to_bytes(), "x");
    }

    #[tokio::test]
    async fn an_answer_is_good_for_who_sees_as_much_under_the_same_policies() {
        let kept = async |revealed: &[&str]| {
            let mut response = Response::new(full("x"));
            let revealed = revealed.iter().map(|class| (*class).to_owned()).collect();
            response.extensions_mut().insert(Revealed(revealed));
            let (_first, Ending::Answered(kept)) = keep(response, SET.to_owned()).await else { panic!() };
            kept
        };
        let everything = |_class: &str| true;
        let nothing = |_class: &str| false;
        let masked = kept(&[]).await;
        assert!(masked.is_good_for(SET, nothing) && masked.is_good_for(SET, everything));
        assert!(!masked.is_good_for("fedcba9876543210", everything));
        let open = kept(&["token", "aws-key"]).await;
        assert!(open.is_good_for(SET, |class| ["token", "aws-key"].contains(&class)));
        assert!(!open.is_good_for(SET, |class| class == "token"));
        assert!(!open.is_good_for(SET, nothing));
        assert!(!open.is_good_for("fedcba9876543210", everything));
    }

    #[tokio::test]
    async fn a_large_answer_and_one_of_unknown_length_pass_and_are_not_kept() {
        let limit = limits::STORED_ANSWER;
        for (size, kept) in [(limit, true), (limit + 1, false)] {
            let (answer, ending) = keep(Response::new(full(vec![b'x'; size])), SET.to_owned()).await;
            assert_eq!(matches!(ending, Ending::Answered(_)), kept, "{size}");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), size);
        }
        // A body that fails has no length, and nobody but its reader may find that out.
        let broken = Response::new(Broken(Some("gone".into())).boxed_unsync());
        let (answer, ending) = keep(broken, SET.to_owned()).await;
        assert!(matches!(ending, Ending::NotKept));
        assert!(answer.into_body().collect().await.is_err());
    }
}
