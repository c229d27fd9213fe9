//! Sends the due deliveries of a channel: lease, compose, send, record the result.

use super::{NextRound, Notifier};
use crate::delivery::{MessageContent, SendContext, batch_message_id, message_id};
use crate::rate_limit::{
    HOUR_MILLIS, MinuteQuota, SECOND_MILLIS, is_unlimited, next_attempt_at, plan_messages,
};
use crate::send_failure::SendFailure;
use crate::{NotificationChannel, NotificationEvent};
use durward_approval::ApprovalState;
use durward_store::{ChannelRow, DeliveryOutcome, DeliveryRow, StoreError};
use futures_util::future::join_all;

/// Deliveries in one batch message: more than can be pending at once, with those that just ended.
const MAX_BATCHED_DELIVERIES: i64 = 2_000;

/// A message and the deliveries that it is for.
pub(super) struct OutgoingMessage {
    id: String,
    content: MessageContent,
    deliveries: Vec<DeliveryRow>,
}

fn minute_quota(channel: &NotificationChannel, row: Option<ChannelRow>, now: i64) -> MinuteQuota {
    MinuteQuota::from_row(channel.max_messages_per_minute(), &row.unwrap_or_default(), now)
}

impl Notifier {
    /// Sends what the channel may send now.
    pub(super) async fn run_round(&self, channel: &NotificationChannel) -> Result<NextRound, StoreError> {
        let now = self.now();
        let mut read = self.store.begin_read().await?;
        if !read.has_due_deliveries(&channel.name, now).await? {
            return Ok(NextRound::Wait(read.next_delivery_time(&channel.name, now).await?));
        }
        // Before the write lock: a flood of requests wakes this task for each of them.
        let quota = minute_quota(channel, read.find_channel(&channel.name).await?, now);
        let first = read.due_deliveries(&channel.name, now, 1).await?;
        if quota.remaining_messages == 0 && !first.iter().any(is_unlimited) {
            return Ok(NextRound::Wait(Some(quota.ends_at())));
        }
        drop(read);
        let (messages, next) = self.claim_messages(channel).await?;
        if messages.is_empty() {
            return Ok(next);
        }
        for result in join_all(messages.into_iter().map(|message| self.send_message(channel, message))).await
        {
            result?;
        }
        Ok(NextRound::Immediate)
    }

    /// Leases the deliveries that may be sent now and composes their messages, or says when there will be some.
    pub(super) async fn claim_messages(
        &self,
        channel: &NotificationChannel,
    ) -> Result<(Vec<OutgoingMessage>, NextRound), StoreError> {
        let now = self.now();
        let mut write = self.store.begin_write().await?;
        write.drop_stale_deliveries(&channel.name, now, channel.is_for_people()).await?;
        let due = write.due_deliveries(&channel.name, now, MAX_BATCHED_DELIVERIES).await?;
        let quota = minute_quota(channel, write.find_channel(&channel.name).await?, now);
        let has_due = !due.is_empty();
        let mut plan = plan_messages(due, quota.remaining_messages);
        if plan.is_empty() {
            let at = if has_due {
                Some(quota.ends_at())
            } else {
                write.next_delivery_time(&channel.name, now).await?
            };
            write.commit().await?;
            return Ok((Vec::new(), NextRound::Wait(at)));
        }
        for delivery in plan.individual.iter_mut().chain(&mut plan.batch) {
            // Leased and committed before anything is sent: a transaction that waited for a slow receiver would block every
            // writer.
            write.lease_delivery(delivery, now + channel.lease_millis()).await?;
        }
        let sent_messages = quota.sent_messages + plan.counted_messages as i64;
        // Counted when it is leased and not when it has arrived: the limit protects people also from messages whose response was
        // lost.
        write.set_sent_count(&channel.name, quota.started_at, sent_messages).await?;
        write.commit().await?;
        let mut messages = Vec::new();
        for delivery in plan.individual {
            messages.extend(self.compose_message(vec![delivery], false).await?);
        }
        if !plan.batch.is_empty() {
            messages.extend(self.compose_message(plan.batch, true).await?);
        }
        Ok((messages, NextRound::Immediate))
    }

    /// The message for these deliveries, without those that are no longer worth sending. `None`: none is.
    async fn compose_message(
        &self,
        deliveries: Vec<DeliveryRow>,
        is_batch: bool,
    ) -> Result<Option<OutgoingMessage>, StoreError> {
        let mut kept = Vec::new();
        let mut requests = Vec::new();
        for delivery in deliveries {
            let event = NotificationEvent::parse(&delivery.event);
            let request = self.find_request(&delivery.approval_request).await?;
            match (event, request) {
                (Some(event), Some(request))
                    if event != NotificationEvent::Opened || request.state == ApprovalState::Pending =>
                {
                    requests.push((event, request));
                    kept.push(delivery);
                }
                _ => self.finish_delivery(&delivery, &DeliveryOutcome::Dropped).await?,
            }
        }
        let Some((event, request)) = requests.pop() else { return Ok(None) };
        let (id, content) = if requests.is_empty() && !is_batch {
            let id = message_id(&request.id.to_string(), event);
            (id, MessageContent::Single(event, Box::new(request)))
        } else {
            requests.push((event, request));
            (batch_message_id(&kept), MessageContent::Batch(requests))
        };
        Ok(Some(OutgoingMessage { id, content, deliveries: kept }))
    }

    async fn finish_delivery(
        &self,
        delivery: &DeliveryRow,
        outcome: &DeliveryOutcome,
    ) -> Result<(), StoreError> {
        let mut write = self.store.begin_write().await?;
        write.finish_delivery(delivery, outcome).await?;
        write.commit().await
    }

    /// Sends one message, and records the result.
    async fn send_message(
        &self,
        channel: &NotificationChannel,
        message: OutgoingMessage,
    ) -> Result<(), StoreError> {
        let context = SendContext {
            http_client: &*self.http_client,
            console_url: &self.console_url,
            now: (self.clock)(),
        };
        let result = context.send_message(channel, &message.id, &message.content).await;
        let now = self.now();
        let name = channel.name.as_str();
        let mut write = self.store.begin_write().await?;
        let has_status_changed = match &result {
            Ok(_) => write.record_channel_success(name, now).await?,
            Err(failure) => write.record_channel_failure(name, now, &failure.to_string()).await?,
        };
        let mut is_given_up = false;
        for delivery in &message.deliveries {
            let outcome = match &result {
                Ok(_) => DeliveryOutcome::Sent,
                Err(failure) => outcome_of_failure(failure, delivery, now),
            };
            is_given_up |= matches!(outcome, DeliveryOutcome::GivenUp(_));
            write.finish_delivery(delivery, &outcome).await?;
        }
        if let Err(failure) = &result
            && !failure.is_permanent()
            && let Some(wait) = failure.retry_after_millis()
        {
            write.pause_channel(name, now.saturating_add(wait.min(HOUR_MILLIS))).await?;
        }
        write.commit().await?;
        log_result(name, &message.id, &result, has_status_changed, is_given_up);
        Ok(())
    }
}

fn log_result(
    channel: &str,
    delivery: &str,
    result: &Result<Option<String>, SendFailure>,
    has_status_changed: bool,
    is_given_up: bool,
) {
    match result {
        Ok(refusals) => {
            tracing::info!(channel, delivery, "notification sent");
            if let Some(refusals) = refusals {
                tracing::warn!(channel, delivery, refusals, "some recipients were refused");
            }
            if has_status_changed {
                tracing::info!(channel, "the channel works again");
            }
        }
        Err(error) => {
            if has_status_changed {
                tracing::warn!(channel, %error, "the channel fails");
            }
            if is_given_up {
                tracing::warn!(channel, delivery, %error, "delivery given up");
            } else {
                tracing::debug!(channel, delivery, %error, "delivery failed; it is retried");
            }
        }
    }
}

/// The outcome of a delivery whose message failed.
fn outcome_of_failure(failure: &SendFailure, delivery: &DeliveryRow, now: i64) -> DeliveryOutcome {
    let error = failure.to_string();
    if failure.is_permanent() {
        return DeliveryOutcome::GivenUp(error);
    }
    let retry_after = failure.retry_after_millis();
    match next_attempt_at(delivery.created_at, delivery.attempt_count, retry_after, now) {
        Some(at) => DeliveryOutcome::Retry { at: at.max(now + SECOND_MILLIS), error },
        None => DeliveryOutcome::GivenUp(error),
    }
}
