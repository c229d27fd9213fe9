//! How the channels are, for the console and the admin API.

use crate::Channel;
use durward_core::visible;
use durward_store::{Store, StoreError};
use serde::{Serialize, Serializer};
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The configured channels, to be looked at. `default()`: none.
#[derive(Clone, Default)]
pub struct Channels {
    store: Option<Store>,
    /// Names and kinds.
    list: Arc<[(String, &'static str)]>,
}

/// How one channel is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelStatus {
    pub name: String,
    pub kind: &'static str,
    /// Messages that are not sent yet.
    pub waiting: u64,
    #[serde(serialize_with = "moment")]
    pub last_success: Option<OffsetDateTime>,
    /// None: the last message arrived, or there was none.
    #[serde(serialize_with = "moment")]
    pub failing_since: Option<OffsetDateTime>,
    pub last_error: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn moment<S: Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.and_then(|at| at.format(&Rfc3339).ok()).serialize(serializer)
}

impl Channels {
    pub fn new(store: Store, channels: &[Channel]) -> Self {
        let list = channels.iter().map(|channel| (channel.name.clone(), channel.kind())).collect();
        Self { store: Some(store), list }
    }

    /// In the order of the configuration.
    pub async fn status(&self) -> Result<Vec<ChannelStatus>, StoreError> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        let mut view = store.read().await?;
        for (name, kind) in self.list.iter() {
            let row = view.channel(name).await?.unwrap_or_default();
            let waiting = view.waiting_deliveries(name).await?;
            all.push(ChannelStatus {
                name: name.clone(),
                kind,
                waiting: u64::try_from(waiting).unwrap_or_default(),
                last_success: row.last_success.map(from_millis),
                failing_since: row.failing_since.map(from_millis),
                last_error: row.last_error.as_deref().map(visible),
            });
        }
        Ok(all)
    }
}

/// Milliseconds since 1970, as the store counts.
pub(crate) fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn from_millis(millis: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
