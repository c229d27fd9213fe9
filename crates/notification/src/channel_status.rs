//! The status of the channels, for the console and the admin API.

use crate::NotificationChannel;
use durward_core::escape_invisible;
use durward_core::timestamps::{format_rfc3339, from_unix_millis};
use durward_store::{Store, StoreError};
use serde::{Serialize, Serializer};
use std::sync::Arc;
use time::OffsetDateTime;

/// Reads the status of the configured channels. `default()` has none.
#[derive(Clone, Default)]
pub struct ChannelStatusReader {
    store: Option<Store>,
    /// Names and kinds.
    channels: Arc<[(String, &'static str)]>,
}

/// The status of one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelStatus {
    pub name: String,
    pub kind: &'static str,
    /// Messages that are not sent yet.
    pub pending_messages: u64,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub last_success: Option<OffsetDateTime>,
    /// `None`: the last message arrived, or there was none.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub failing_since: Option<OffsetDateTime>,
    pub last_error: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn serialize_rfc3339<S: Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(format_rfc3339).serialize(serializer)
}

impl ChannelStatusReader {
    pub fn new(store: Store, channels: &[NotificationChannel]) -> Self {
        let channels = channels.iter().map(|channel| (channel.name.clone(), channel.kind_name())).collect();
        Self { store: Some(store), channels }
    }

    /// The status of every channel, in the order of the configuration.
    pub async fn read_all(&self) -> Result<Vec<ChannelStatus>, StoreError> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let mut statuses = Vec::new();
        let mut transaction = store.begin_read().await?;
        for (name, kind) in self.channels.iter() {
            let row = transaction.find_channel(name).await?.unwrap_or_default();
            let pending = transaction.count_waiting_deliveries(name).await?;
            statuses.push(ChannelStatus {
                name: name.clone(),
                kind,
                pending_messages: u64::try_from(pending).unwrap_or_default(),
                last_success: row.last_success.map(from_unix_millis),
                failing_since: row.failing_since.map(from_unix_millis),
                last_error: row.last_error.as_deref().map(escape_invisible),
            });
        }
        Ok(statuses)
    }
}
