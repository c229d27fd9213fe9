//! The tasks that notify: one creates deliveries from the changes of approval requests (`create_deliveries`), and one for each
//! channel sends them (`send_messages`).
//!
//! Every delivery is in the store before it is sent: after a crash, the next start or another process on the same store goes on.
//! A delivery is leased while it is being sent, so that two processes do not both send it. A crash in that moment sends it again,
//! with the same id.

use crate::NotificationChannel;
use durward_approval::{ApprovalRequest, ApprovalRequestId, Approvals};
use durward_core::HttpClient;
use durward_core::timestamps::{Clock, to_unix_millis};
use durward_store::{Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

mod create_deliveries;
mod send_messages;

/// The longest sleep of a task: another process may have died while it held leases.
const MAX_IDLE_WAIT: Duration = Duration::from_secs(30);
/// The pause of a task after an error of the store.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(5);
/// The shortest sleep of a channel task, so that it never loops without a pause, whatever the store says.
const MIN_IDLE_WAIT: Duration = Duration::from_millis(20);

/// Notifies the channels. [`Notifier::run`] does the work.
pub struct Notifier {
    approvals: Arc<Approvals>,
    store: Store,
    channels: Vec<(NotificationChannel, Notify)>,
    http_client: Arc<dyn HttpClient>,
    console_url: String,
    clock: Clock,
}

/// The work that a round of a channel leaves.
#[derive(Debug, PartialEq, Eq)]
enum NextRound {
    /// There is more to send.
    Immediate,
    /// Nothing is due before then, in milliseconds since the Unix epoch.
    Wait(Option<i64>),
}

impl Notifier {
    /// `console_url` has a scheme, a host and a port.
    pub fn new(
        approvals: Arc<Approvals>,
        store: Store,
        channels: Vec<NotificationChannel>,
        http_client: Arc<dyn HttpClient>,
        console_url: &str,
        clock: Clock,
    ) -> Self {
        let channels = channels.into_iter().map(|channel| (channel, Notify::new())).collect();
        let console_url = console_url.trim_end_matches('/').to_owned();
        Self { approvals, store, channels, http_client, console_url, clock }
    }

    /// Runs until it is dropped. Does nothing without a channel.
    pub async fn run(self) {
        let this = Arc::new(self);
        let mut tasks = JoinSet::new();
        for index in 0..this.channels.len() {
            let this = this.clone();
            tasks.spawn(async move { this.serve_channel(index).await });
        }
        if !this.channels.is_empty() {
            let this = this.clone();
            tasks.spawn(async move { this.follow_changes().await });
        }
        // A panic ends the task of one channel; the others, and the gateway, go on.
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a notification task panicked");
            }
        }
        std::future::pending::<()>().await;
    }

    fn now(&self) -> i64 {
        to_unix_millis((self.clock)())
    }

    /// Creates deliveries whenever approval requests change, and wakes the channels.
    async fn follow_changes(&self) {
        let mut changes = self.approvals.subscribe_changes();
        let mut is_failing = false;
        loop {
            match self.create_deliveries().await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !is_failing {
                        tracing::error!(%error, "notifications fail until the store works again");
                    }
                    is_failing = true;
                }
            }
            for (_channel, wake) in &self.channels {
                wake.notify_one();
            }
            let wait = if is_failing { STORE_RETRY_DELAY } else { MAX_IDLE_WAIT };
            match tokio::time::timeout(wait, changes.recv()).await {
                // A missed change is in the store, which the next round reads.
                Err(_) | Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) => return,
            }
        }
    }

    /// Sends the messages of one channel.
    async fn serve_channel(&self, index: usize) {
        let Some((channel, wake)) = self.channels.get(index) else { return };
        let mut is_failing = false;
        loop {
            let wait = match self.run_round(channel).await {
                Ok(NextRound::Immediate) => {
                    is_failing = false;
                    continue;
                }
                Ok(NextRound::Wait(at)) => {
                    is_failing = false;
                    let until_due = at.map_or(MAX_IDLE_WAIT, |at| {
                        Duration::from_millis(u64::try_from(at - self.now()).unwrap_or_default())
                    });
                    until_due.clamp(MIN_IDLE_WAIT, MAX_IDLE_WAIT)
                }
                Err(error) => {
                    if !is_failing {
                        tracing::error!(
                            channel = channel.name,
                            %error,
                            "the channel sends nothing until the store works again"
                        );
                    }
                    is_failing = true;
                    STORE_RETRY_DELAY
                }
            };
            // Woken or not, the next round looks what is due.
            let _woken = tokio::time::timeout(wait, wake.notified()).await;
        }
    }

    /// A request as it is now. `None`: it is gone, or its id cannot be read, which `durward-approval` logs.
    async fn find_request(&self, id: &str) -> Result<Option<ApprovalRequest>, StoreError> {
        let Ok(id) = id.parse::<ApprovalRequestId>() else { return Ok(None) };
        match self.approvals.get(id).await {
            Err(StoreError::Corrupt(why)) => {
                tracing::error!(
                    approval_request = %id,
                    error = why,
                    "no notification for an approval request that cannot be read"
                );
                Ok(None)
            }
            other => other,
        }
    }
}

#[cfg(test)]
impl Notifier {
    /// Does everything that is due at this moment.
    pub(crate) async fn run_until_idle(&self) {
        self.create_deliveries().await.unwrap();
        for (channel, _wake) in &self.channels {
            while self.run_round(channel).await.unwrap() == NextRound::Immediate {}
        }
    }

    /// Leases what is due, and sends none of it: like a process that was killed in that moment.
    pub(crate) async fn claim_and_abandon(&self) {
        self.create_deliveries().await.unwrap();
        for (channel, _wake) in &self.channels {
            assert!(!self.claim_messages(channel).await.unwrap().0.is_empty());
        }
    }
}
