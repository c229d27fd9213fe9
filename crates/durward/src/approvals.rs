//! Approvals as the gateway runs them: opened with the configuration's limits, and what happens to asks put on record.

use crate::config::Config;
use durward_approval::{Approvals, AskId, Limits, Store, system_clock};
use durward_gateway::rooms::Rooms;
use durward_journal::Record;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::broadcast::error::RecvError;

/// How long to wait for a journal that takes no records.
const RETRY: Duration = Duration::from_secs(1);
/// Asks whose recorded changes are remembered; an ask that changes after it was forgotten is recorded from then on.
const REMEMBERED: usize = 10_000;

pub async fn open(config: &Config, data_dir: &Path) -> Result<Approvals, String> {
    let path = data_dir.join("state.db");
    let store = Store::open(&path).await.map_err(|error| format!("{}: {error}", path.display()))?;
    let limits = Limits { break_glass_group: config.approval.break_glass_group.clone(), ..Limits::default() };
    Approvals::open(store, limits, system_clock())
        .await
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Puts every change of an ask into the journal, until the gateway stops.
pub async fn record_changes(rooms: Arc<Rooms>) {
    let started = OffsetDateTime::now_utc();
    let mut changes = rooms.approvals.changes();
    let mut recorded: HashMap<AskId, usize> = HashMap::new();
    loop {
        let id = match changes.recv().await {
            Ok(id) => id,
            Err(RecvError::Lagged(missed)) => {
                tracing::error!(missed, "changes of asks came faster than the journal took them");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let ask = match rooms.approvals.get(id).await {
            Ok(Some(ask)) => ask,
            Ok(None) => continue,
            Err(error) => {
                tracing::error!(ask = %id, %error, "an ask that changed cannot be read");
                continue;
            }
        };
        if recorded.len() >= REMEMBERED {
            recorded.clear();
        }
        let done = recorded
            .entry(id)
            .or_insert_with(|| ask.history.iter().filter(|event| event.at < started).count());
        for event in ask.history.iter().skip(*done) {
            let record = Record::AskChanged {
                ask: id.to_string(),
                what: event.kind.clone(),
                by: event.by.clone(),
                note: event.note.clone(),
                at: event.at,
            };
            // Requests are refused while the journal is full; what people did meanwhile must not be lost for it.
            while let Err(error) = rooms.journal.record(record.clone()).await {
                tracing::error!(ask = %id, %error, "the journal cannot record what happened to an ask");
                tokio::time::sleep(RETRY).await;
            }
        }
        *done = ask.history.len();
    }
}
