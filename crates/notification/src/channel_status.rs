//! How the channels are, for the console and the admin API.

use crate::NotificationChannel;
use durward_core::escape_invisible;
use durward_store::{Store, StoreError};
use serde::{Serialize, Serializer};
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The configured channels, to be looked at. `default()`: none.
#[derive(Clone, Default)]
pub struct ChannelStatusReader {
    store: Option<Store>,
    /// Names and kinds.
    channels: Arc<[(String, &'static str)]>,
}

/// How one channel is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelStatus {
    pub name: String,
    pub kind: &'static str,
    /// Messages that are not sent yet.
    pub pending_messages: u64,
    #[serde(serialize_with = "serialize_rfc3339")]
    pub last_success: Option<OffsetDateTime>,
    /// None: the last message arrived, or there was none.
    #[serde(serialize_with = "serialize_rfc3339")]
    pub failing_since: Option<OffsetDateTime>,
    pub last_error: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn serialize_rfc3339<S: Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.and_then(|at| at.format(&Rfc3339).ok()).serialize(serializer)
}

impl ChannelStatusReader {
    pub fn new(store: Store, channels: &[NotificationChannel]) -> Self {
        let list = channels.iter().map(|channel| (channel.name.clone(), channel.kind_name())).collect();
        Self { store: Some(store), channels: list }
    }

    /// In the order of the configuration.
    pub async fn read_all(&self) -> Result<Vec<ChannelStatus>, StoreError> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        let mut view = store.begin_read().await?;
        for (name, kind) in self.channels.iter() {
            let row = view.find_channel(name).await?.unwrap_or_default();
            let waiting = view.count_waiting_deliveries(name).await?;
            all.push(ChannelStatus {
                name: name.clone(),
                kind,
                pending_messages: u64::try_from(waiting).unwrap_or_default(),
                last_success: row.last_success.map(from_unix_millis),
                failing_since: row.failing_since.map(from_unix_millis),
                last_error: row.last_error.as_deref().map(escape_invisible),
            });
        }
        Ok(all)
    }
}

/// Milliseconds since 1970, as the store counts.
pub(crate) fn to_unix_millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn from_unix_millis(millis: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
