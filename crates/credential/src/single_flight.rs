//! Single flight: concurrent requests for one key share one piece of work and its outcome, successful or not.
//!
//! Promises: nothing is kept after the work is done. If the task that does the work is cancelled, one of the waiting tasks starts
//! over.

use durward_core::lock_ignoring_poison;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use tokio::sync::watch;

type OutcomeReceiver<V> = watch::Receiver<Option<V>>;

pub(crate) struct SingleFlight<K, V> {
    in_flight: Mutex<HashMap<K, OutcomeReceiver<V>>>,
}

enum FlightRole<V> {
    Leader(watch::Sender<Option<V>>),
    Follower(OutcomeReceiver<V>),
}

impl<K: Eq + Hash + Clone, V: Clone> SingleFlight<K, V> {
    pub fn new() -> Self {
        Self { in_flight: Mutex::new(HashMap::new()) }
    }

    /// The outcome of `work` for `key`, which the first task runs for all. `work` must check its cache again before it does anything
    /// costly: an earlier flight may have ended just before this one started.
    pub async fn run<F: Future<Output = V>>(&self, key: K, work: impl FnOnce() -> F) -> V {
        loop {
            match self.join_flight(&key) {
                FlightRole::Leader(sender) => {
                    let guard = FlightGuard { single_flight: self, key };
                    let outcome = work().await;
                    // Before the outcome is sent: a task that comes later must start a new flight and not get an old outcome.
                    drop(guard);
                    // Unlike `send`, this does not fail if no task waits any more.
                    sender.send_replace(Some(outcome.clone()));
                    return outcome;
                }
                FlightRole::Follower(mut receiver) => {
                    if let Ok(outcome) = receiver.wait_for(Option::is_some).await
                        && let Some(outcome) = outcome.as_ref()
                    {
                        return outcome.clone();
                    }
                    // The leader was cancelled before it had an outcome.
                }
            }
        }
    }

    fn join_flight(&self, key: &K) -> FlightRole<V> {
        let mut in_flight = lock_ignoring_poison(&self.in_flight);
        if let Some(receiver) = in_flight.get(key) {
            return FlightRole::Follower(receiver.clone());
        }
        let (sender, receiver) = watch::channel(None);
        in_flight.insert(key.clone(), receiver);
        FlightRole::Leader(sender)
    }
}

/// Removes the flight when its leader is done or dropped.
struct FlightGuard<'a, K: Eq + Hash, V> {
    single_flight: &'a SingleFlight<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for FlightGuard<'_, K, V> {
    fn drop(&mut self) {
        lock_ignoring_poison(&self.single_flight.in_flight).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::SingleFlight;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn concurrent_requests_share_one_run() {
        let flights = Arc::new(SingleFlight::<u8, usize>::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Notify::new());
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (flights, runs, gate) = (flights.clone(), runs.clone(), gate.clone());
                tokio::spawn(async move {
                    flights
                        .run(1, || async {
                            gate.notified().await;
                            runs.fetch_add(1, Ordering::SeqCst)
                        })
                        .await
                })
            })
            .collect();
        // The test runtime has one thread: after this, each task has joined the flight.
        tokio::task::yield_now().await;
        gate.notify_one();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 0);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(flights.in_flight.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_cancelled_leader_frees_its_waiters() {
        let flights = Arc::new(SingleFlight::<u8, u8>::new());
        let leader = tokio::spawn({
            let flights = flights.clone();
            async move { flights.run(1, std::future::pending).await }
        });
        tokio::task::yield_now().await;
        let waiter = tokio::spawn({
            let flights = flights.clone();
            async move { flights.run(1, || async { 7 }).await }
        });
        tokio::task::yield_now().await;
        leader.abort();
        assert_eq!(waiter.await.unwrap(), 7);
    }
}
