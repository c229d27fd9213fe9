//! Creates the deliveries of each channel from the changes of approval requests.

use super::Notifier;
use crate::rate_limit::NOTIFICATION_TTL_MILLIS;
use crate::{NotificationChannel, NotificationEvent};
use durward_approval::{ApprovalRequest, ApprovalRequestFilter, ApprovalState};
use durward_core::timestamps::to_unix_millis;
use durward_store::{StoreError, StoreTransaction};

/// Changes in one transaction.
const MAX_CHANGES_PER_BATCH: usize = 100;
/// The time for which deliveries are stored, so that an event that was sent is not created again.
const DELIVERY_RETENTION_MILLIS: i64 = 7 * NOTIFICATION_TTL_MILLIS;

impl Notifier {
    /// Brings the deliveries of every channel up to the last change of any request.
    pub(super) async fn create_deliveries(&self) -> Result<(), StoreError> {
        while self.create_delivery_batch().await? {}
        Ok(())
    }

    /// Creates the deliveries of some changes. Returns whether there are more.
    async fn create_delivery_batch(&self) -> Result<bool, StoreError> {
        let mut read = self.store.begin_read().await?;
        let last_change = read.last_change_number().await?;
        let mut cursors = Vec::new();
        for (channel, _wake) in &self.channels {
            cursors.push(read.find_channel(&channel.name).await?.map(|row| row.change_number));
        }
        let first_change = cursors.iter().flatten().min().copied().unwrap_or(last_change);
        let has_new_channel = cursors.contains(&None);
        if first_change >= last_change && !has_new_channel {
            return Ok(false);
        }
        // From the slowest channel on: each channel has a cursor of its own, because channels are added and removed.
        let mut changed = read.requests_changed_since(first_change).await?;
        drop(read);
        let has_more = changed.len() > MAX_CHANGES_PER_BATCH;
        changed.truncate(MAX_CHANGES_PER_BATCH);
        let reached_change =
            if has_more { changed.last().map_or(last_change, |(_id, change)| *change) } else { last_change };
        let mut requests = Vec::new();
        for (id, change) in changed {
            if let Some(request) = self.find_request(&id).await? {
                requests.push((request, change));
            }
        }
        // A new channel begins with what is pending, not with the history.
        let pending = if has_new_channel {
            let states = vec![ApprovalState::Pending];
            self.approvals.list(ApprovalRequestFilter { states, caller: None, limit: usize::MAX }).await?
        } else {
            Vec::new()
        };
        let now = self.now();
        let mut write = self.store.begin_write().await?;
        for ((channel, _wake), cursor) in self.channels.iter().zip(cursors) {
            let Some(cursor) = cursor else {
                for request in &pending {
                    insert_deliveries(&mut write, channel, request, now).await?;
                }
                write.advance_channel_cursor(&channel.name, last_change).await?;
                continue;
            };
            for (request, _change) in requests.iter().filter(|(_request, change)| *change > cursor) {
                insert_deliveries(&mut write, channel, request, now).await?;
            }
            // In the transaction of the deliveries: after a crash between the two, changes would be skipped or announced twice.
            write.advance_channel_cursor(&channel.name, reached_change).await?;
        }
        write.delete_deliveries_before(now - DELIVERY_RETENTION_MILLIS).await?;
        write.commit().await?;
        Ok(has_more)
    }
}

/// Creates the deliveries that follow from the current state of a request.
async fn insert_deliveries(
    write: &mut StoreTransaction,
    channel: &NotificationChannel,
    request: &ApprovalRequest,
    now: i64,
) -> Result<(), StoreError> {
    let is_for_channel = channel.groups.is_empty()
        || request.details.requirements.iter().any(|requirement| channel.groups.contains(&requirement.group));
    if !is_for_channel {
        return Ok(());
    }
    let id = request.id.to_string();
    let mut events = Vec::new();
    if request.state == ApprovalState::Pending {
        events.push(NotificationEvent::Opened);
    } else if now < to_unix_millis(request.ended_at()).saturating_add(NOTIFICATION_TTL_MILLIS) {
        if request.break_glass {
            events.push(NotificationEvent::BreakGlass);
        }
        // People are notified of an end only after its beginning, and not twice: break-glass says it already.
        let wants_end = !channel.is_for_people()
            || (!request.break_glass
                && write.has_delivery(&channel.name, &id, NotificationEvent::Opened.as_str()).await?);
        if wants_end {
            events.push(NotificationEvent::Closed);
        }
    }
    for event in events.into_iter().filter(|event| channel.events.contains(event)) {
        write.insert_delivery(&channel.name, &id, event.as_str(), now).await?;
    }
    Ok(())
}
