//! Makes deliveries of what happens to asks, and sends them: one task that makes, one task a channel that sends.
//!
//! What is to be sent is in the store before anything is, derived from the asks and not from what this process saw: after a crash
//! the next start, or another process on the same store, goes on. A delivery is leased while it is on its way, so that two
//! processes do not both send it; a crash in that moment sends it again, with the same id.

use crate::channel::{NotificationChannel, NotificationEvent};
use crate::channel_status::to_unix_millis;
use crate::delivery::{MessageContent, SendContext, batch_message_id, message_id};
use crate::rate_limit::{
    self, DAY_MILLIS, MAX_MESSAGES_PER_MINUTE, MAX_WEBHOOKS_PER_MINUTE, MINUTE_MILLIS, SECOND_MILLIS,
};
use crate::send::{HttpClient, SendFailure};
use crate::webhook::ended_at;
use durward_approval::{
    ApprovalRequest, ApprovalRequestFilter, ApprovalRequestId, ApprovalState, Approvals, Clock,
};
use durward_store::{ChannelRow, DeliveryOutcome, DeliveryRow, Store, StoreError, StoreTransaction};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

/// How long a task sleeps at most: another process may have died with something on its way.
const MAX_IDLE_WAIT: Duration = Duration::from_secs(30);
/// Changes that are made into deliveries at once.
const MAX_CHANGES_PER_BATCH: usize = 100;
/// Deliveries that one message sums up at most: more than there can be asks that wait, with those that just ended.
const MAX_BATCHED_DELIVERIES: i64 = 2_000;
/// How long deliveries are kept to tell repeats by.
const DELIVERY_RETENTION_MILLIS: i64 = 7 * DAY_MILLIS;

/// Tells people. [`Notifier::run`] does the work.
pub struct Notifier {
    approvals: Arc<Approvals>,
    store: Store,
    channels: Vec<(NotificationChannel, Notify)>,
    http_client: Arc<dyn HttpClient>,
    console_url: String,
    clock: Clock,
}

/// What goes out in one message, and which deliveries it is.
struct OutgoingMessage {
    id: String,
    content: MessageContent,
    deliveries: Vec<DeliveryRow>,
}

/// The minute that a channel is in, and the messages it may still send in it.
struct MinuteQuota {
    started_at: i64,
    sent_messages: i64,
    remaining_messages: usize,
}

impl MinuteQuota {
    fn from_row(channel: &NotificationChannel, row: &ChannelRow, now: i64) -> Self {
        let most = if channel.is_for_people() { MAX_MESSAGES_PER_MINUTE } else { MAX_WEBHOOKS_PER_MINUTE };
        let running = now >= row.minute_start && now < row.minute_start + MINUTE_MILLIS;
        let (began, sent) = if running { (row.minute_start, row.sent_in_minute) } else { (now, 0) };
        Self {
            started_at: began,
            sent_messages: sent,
            remaining_messages: most.saturating_sub(usize::try_from(sent).unwrap_or(usize::MAX)),
        }
    }
}

/// What a round of a channel leaves to do.
#[derive(Debug, PartialEq, Eq)]
enum NextRound {
    /// There is more.
    Immediate,
    /// Nothing before then, in milliseconds since 1970.
    Wait(Option<i64>),
}

impl Notifier {
    /// `console` is the address of the console: scheme, host and port.
    pub fn new(
        approvals: Arc<Approvals>,
        store: Store,
        channels: Vec<NotificationChannel>,
        outward: Arc<dyn HttpClient>,
        console: &str,
        clock: Clock,
    ) -> Self {
        let channels = channels.into_iter().map(|channel| (channel, Notify::new())).collect();
        let console = console.trim_end_matches('/').to_owned();
        Self { approvals, store, channels, http_client: outward, console_url: console, clock }
    }

    /// Works until it is dropped. Does nothing without a channel.
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
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task that tells people ended badly");
            }
        }
        std::future::pending::<()>().await;
    }

    fn now(&self) -> i64 {
        to_unix_millis((self.clock)())
    }

    /// Makes deliveries whenever asks change.
    async fn follow_changes(&self) {
        let mut changes = self.approvals.subscribe_changes();
        let mut failing = false;
        loop {
            match self.create_deliveries().await {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "nobody is told of asks until this works again");
                    }
                    failing = true;
                }
            }
            for (_channel, wake) in &self.channels {
                wake.notify_one();
            }
            let patience = if failing { Duration::from_secs(5) } else { MAX_IDLE_WAIT };
            match tokio::time::timeout(patience, changes.recv()).await {
                Err(_elapsed) => {}
                // Whatever was missed is in the store.
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) => return,
            }
        }
    }

    /// Brings the deliveries of every channel up to the last change of any ask.
    async fn create_deliveries(&self) -> Result<(), StoreError> {
        while self.create_delivery_batch().await? {}
        Ok(())
    }

    async fn create_delivery_batch(&self) -> Result<bool, StoreError> {
        let mut view = self.store.begin_read().await?;
        let last = view.last_change_number().await?;
        let mut known = Vec::new();
        for (channel, _wake) in &self.channels {
            known.push(view.find_channel(&channel.name).await?.map(|row| row.change_number));
        }
        let first = known.iter().flatten().min().copied().unwrap_or(last);
        let is_new = known.contains(&None);
        if first >= last && !is_new {
            return Ok(false);
        }
        let mut changed = view.requests_changed_since(first).await?;
        drop(view);
        let more = changed.len() > MAX_CHANGES_PER_BATCH;
        changed.truncate(MAX_CHANGES_PER_BATCH);
        let reached = if more { changed.last().map_or(last, |(_id, change)| *change) } else { last };
        let mut asks = Vec::new();
        for (id, change) in changed {
            if let Some(ask) = self.find_request(&id).await? {
                asks.push((ask, change));
            }
        }
        // A channel that is new is told what waits, and nothing of what was.
        let waiting = if is_new {
            self.approvals
                .list(ApprovalRequestFilter {
                    states: vec![ApprovalState::Pending],
                    caller: None,
                    limit: 1_000,
                })
                .await?
        } else {
            Vec::new()
        };
        let now = self.now();
        let mut write = self.store.begin_write().await?;
        for ((channel, _wake), known) in self.channels.iter().zip(known) {
            let Some(known) = known else {
                for ask in &waiting {
                    insert_deliveries(&mut write, channel, ask, now).await?;
                }
                write.advance_channel_cursor(&channel.name, last).await?;
                continue;
            };
            for (ask, _change) in asks.iter().filter(|(_ask, change)| *change > known) {
                insert_deliveries(&mut write, channel, ask, now).await?;
            }
            write.advance_channel_cursor(&channel.name, reached).await?;
        }
        write.delete_deliveries_before(now - DELIVERY_RETENTION_MILLIS).await?;
        write.commit().await?;
        Ok(more)
    }

    /// An ask as it is now; none: it is gone, or cannot be read, which the approvals' own log says.
    async fn find_request(&self, id: &str) -> Result<Option<ApprovalRequest>, StoreError> {
        let Ok(id) = id.parse::<ApprovalRequestId>() else { return Ok(None) };
        match self.approvals.get(id).await {
            Err(StoreError::Corrupt(why)) => {
                tracing::error!(ask = %id, error = why, "nobody can be told of an ask that cannot be read");
                Ok(None)
            }
            other => other,
        }
    }

    /// Sends what one channel has to send.
    async fn serve_channel(&self, index: usize) {
        let Some((channel, wake)) = self.channels.get(index) else { return };
        let mut failing = false;
        loop {
            let wait = match self.run_round(channel).await {
                Ok(NextRound::Immediate) => {
                    failing = false;
                    continue;
                }
                Ok(NextRound::Wait(at)) => {
                    failing = false;
                    let until = at.map_or(MAX_IDLE_WAIT, |at| {
                        Duration::from_millis(u64::try_from(at - self.now()).unwrap_or_default())
                    });
                    // never a busy loop, whatever the store says
                    until.clamp(Duration::from_millis(20), MAX_IDLE_WAIT)
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(channel = channel.name, %error, "a channel cannot be served until this works again");
                    }
                    failing = true;
                    Duration::from_secs(5)
                }
            };
            // An error means that the time is over: then it is time to look.
            let _woken = tokio::time::timeout(wait, wake.notified()).await;
        }
    }

    async fn run_round(&self, channel: &NotificationChannel) -> Result<NextRound, StoreError> {
        let now = self.now();
        let mut view = self.store.begin_read().await?;
        if !view.has_due_deliveries(&channel.name, now).await? {
            return Ok(NextRound::Wait(view.next_delivery_time(&channel.name, now).await?));
        }
        // Looked at before the store is locked: a flood wakes this at each of its asks.
        let minute =
            MinuteQuota::from_row(channel, &view.find_channel(&channel.name).await?.unwrap_or_default(), now);
        let first = view.due_deliveries(&channel.name, now, 1).await?;
        let loud = first.iter().any(|row| row.event == NotificationEvent::BreakGlass.as_str());
        if minute.remaining_messages == 0 && !loud {
            return Ok(NextRound::Wait(Some(minute.started_at + MINUTE_MILLIS)));
        }
        drop(view);
        let (claimed, then) = self.claim_messages(channel).await?;
        if claimed.is_empty() {
            return Ok(then);
        }
        for sent in join_all(claimed.into_iter().map(|message| self.send_message(channel, message))).await {
            sent?;
        }
        Ok(NextRound::Immediate)
    }

    /// Takes what may go out now, or says when there will be something.
    async fn claim_messages(
        &self,
        channel: &NotificationChannel,
    ) -> Result<(Vec<OutgoingMessage>, NextRound), StoreError> {
        let now = self.now();
        let mut write = self.store.begin_write().await?;
        write.drop_stale_deliveries(&channel.name, now, channel.is_for_people()).await?;
        let due = write.due_deliveries(&channel.name, now, MAX_BATCHED_DELIVERIES).await?;
        let minute = MinuteQuota::from_row(
            channel,
            &write.find_channel(&channel.name).await?.unwrap_or_default(),
            now,
        );
        let any = !due.is_empty();
        let mut plan = rate_limit::plan_messages(due, minute.remaining_messages);
        if plan.individual.is_empty() && plan.batch.is_empty() {
            let at = if any {
                Some(minute.started_at + MINUTE_MILLIS)
            } else {
                write.next_delivery_time(&channel.name, now).await?
            };
            write.commit().await?;
            return Ok((Vec::new(), NextRound::Wait(at)));
        }
        for row in plan.individual.iter_mut().chain(&mut plan.batch) {
            write.lease_delivery(row, now + channel.lease_millis()).await?;
        }
        write
            .set_sent_count(
                &channel.name,
                minute.started_at,
                minute.sent_messages + plan.counted_messages as i64,
            )
            .await?;
        write.commit().await?;
        let mut messages = Vec::new();
        for row in plan.individual {
            messages.extend(self.compose_message(vec![row], false).await?);
        }
        if !plan.batch.is_empty() {
            messages.extend(self.compose_message(plan.batch, true).await?);
        }
        Ok((messages, NextRound::Immediate))
    }

    /// The message of these deliveries, without those that are not told any more; none: none is.
    async fn compose_message(
        &self,
        rows: Vec<DeliveryRow>,
        together: bool,
    ) -> Result<Option<OutgoingMessage>, StoreError> {
        let mut told = Vec::new();
        let mut asks = Vec::new();
        for row in rows {
            let event = NotificationEvent::parse(&row.event);
            let ask = self.find_request(&row.approval_request).await?;
            match (event, ask) {
                (Some(event), Some(ask))
                    if event != NotificationEvent::Opened || ask.state == ApprovalState::Pending =>
                {
                    asks.push((event, ask));
                    told.push(row);
                }
                _ => self.end_delivery(&row, &DeliveryOutcome::Dropped).await?,
            }
        }
        let message = match asks.pop() {
            None => None,
            Some((event, ask)) if asks.is_empty() && !together => Some(OutgoingMessage {
                id: message_id(&ask.id.to_string(), event),
                content: MessageContent::Single(event, Box::new(ask)),
                deliveries: told,
            }),
            Some(last) => {
                asks.push(last);
                Some(OutgoingMessage {
                    id: batch_message_id(&told),
                    content: MessageContent::Batch(asks),
                    deliveries: told,
                })
            }
        };
        Ok(message)
    }

    async fn end_delivery(&self, row: &DeliveryRow, how: &DeliveryOutcome) -> Result<(), StoreError> {
        let mut write = self.store.begin_write().await?;
        write.finish_delivery(row, how).await?;
        write.commit().await
    }

    /// Sends one message, and writes how it went.
    async fn send_message(
        &self,
        channel: &NotificationChannel,
        message: OutgoingMessage,
    ) -> Result<(), StoreError> {
        let setting = SendContext {
            http_client: &*self.http_client,
            console_url: &self.console_url,
            now: (self.clock)(),
        };
        let result = setting.send_message(channel, &message.id, &message.content).await;
        let now = self.now();
        let name = channel.name.as_str();
        let mut write = self.store.begin_write().await?;
        let turned = match &result {
            Ok(_) => write.record_channel_success(name, now).await?,
            Err(failure) => write.record_channel_failure(name, now, &failure.text).await?,
        };
        let mut lost = 0;
        for row in &message.deliveries {
            let how = match &result {
                Ok(_) => DeliveryOutcome::Sent,
                Err(failure) => outcome_of_failure(failure, row, now),
            };
            lost += usize::from(matches!(how, DeliveryOutcome::GivenUp(_)));
            write.finish_delivery(row, &how).await?;
        }
        if let Err(SendFailure { is_permanent: false, retry_after_millis: Some(wait), .. }) = &result {
            write.pause_channel(name, now.saturating_add((*wait).min(rate_limit::HOUR_MILLIS))).await?;
        }
        write.commit().await?;
        let id = message.id;
        match result {
            Ok(partly) => {
                tracing::info!(channel = name, delivery = id, "people were told");
                if let Some(why) = partly {
                    tracing::warn!(channel = name, delivery = id, why, "not everybody could be told");
                }
                if turned {
                    tracing::info!(channel = name, "the channel works again");
                }
            }
            Err(failure) => {
                if turned {
                    tracing::warn!(channel = name, error = failure.text, "the channel does not work");
                }
                if lost > 0 {
                    tracing::warn!(
                        channel = name,
                        delivery = id,
                        error = failure.text,
                        "given up: nobody was told by this channel"
                    );
                } else {
                    tracing::debug!(
                        channel = name,
                        delivery = id,
                        error = failure.text,
                        "not sent; it is tried again"
                    );
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl Notifier {
    /// Does all that is to be done at this moment.
    pub(crate) async fn run_until_idle(&self) {
        self.create_deliveries().await.unwrap();
        for (channel, _wake) in &self.channels {
            while self.run_round(channel).await.unwrap() == NextRound::Immediate {}
        }
    }

    /// Takes what is to be sent, and is gone before it is.
    pub(crate) async fn claim_and_abandon(&self) {
        self.create_deliveries().await.unwrap();
        for (channel, _wake) in &self.channels {
            assert!(!self.claim_messages(channel).await.unwrap().0.is_empty());
        }
    }
}

/// What becomes of a delivery that failed.
fn outcome_of_failure(failure: &SendFailure, row: &DeliveryRow, now: i64) -> DeliveryOutcome {
    let error = failure.text.clone();
    if failure.is_permanent {
        return DeliveryOutcome::GivenUp(error);
    }
    match rate_limit::next_attempt_at(row.created_at, row.attempt_count, failure.retry_after_millis, now) {
        Some(at) => DeliveryOutcome::Retry { at: at.max(now + SECOND_MILLIS), error },
        None => DeliveryOutcome::GivenUp(error),
    }
}

/// Makes the deliveries that follow from how an ask is now.
async fn insert_deliveries(
    write: &mut StoreTransaction,
    channel: &NotificationChannel,
    ask: &ApprovalRequest,
    now: i64,
) -> Result<(), StoreError> {
    let mine = channel.groups.is_empty()
        || ask.details.requirements.iter().any(|requirement| channel.groups.contains(&requirement.group));
    if !mine {
        return Ok(());
    }
    let id = ask.id.to_string();
    let mut events = Vec::new();
    if ask.state == ApprovalState::Pending {
        events.push(NotificationEvent::Opened);
    } else if now < to_unix_millis(ended_at(ask)).saturating_add(DAY_MILLIS) {
        if ask.break_glass {
            events.push(NotificationEvent::BreakGlass);
        }
        let heard = if channel.is_for_people() {
            // Break-glass says it already.
            !ask.break_glass
                && write.has_delivery(&channel.name, &id, NotificationEvent::Opened.as_str()).await?
        } else {
            true
        };
        if heard {
            events.push(NotificationEvent::Closed);
        }
    }
    for event in events.into_iter().filter(|event| channel.events.contains(event)) {
        write.insert_delivery(&channel.name, &id, event.as_str(), now).await?;
    }
    Ok(())
}
