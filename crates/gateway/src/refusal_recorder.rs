//! Records refusals within bounds: a client whose requests are all refused must not fill the disk.
//!
//! A refusal is recorded with its parameters up to a size. Refusals of clients that have not proved who they are share a rate; those
//! beyond it are counted, and the count is recorded.

use durward_core::{Operation, encode_hex, limits};
use durward_journal::{Journal, JournalError, JournalRecord, OmittedParameters};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The time over which anonymous refusals are counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Permissions of a refused operation that are recorded.
const MAX_RECORDED_PERMISSIONS: usize = 100;

/// Records refusals. Clones share the rate of anonymous ones.
#[derive(Clone)]
pub struct RefusalRecorder {
    journal: Arc<Journal>,
    anonymous: Arc<Mutex<AnonymousRefusals>>,
}

#[derive(Debug)]
struct AnonymousRefusals {
    window_begun: Instant,
    recorded: u32,
    /// The refusals that were not recorded, and the time of the first.
    omitted: Option<(u64, OffsetDateTime)>,
}

impl RefusalRecorder {
    pub fn new(journal: Arc<Journal>) -> Self {
        let anonymous = AnonymousRefusals { window_begun: Instant::now(), recorded: 0, omitted: None };
        Self { journal, anonymous: Arc::new(Mutex::new(anonymous)) }
    }

    /// Records the refusal of a known caller.
    pub(crate) async fn record(&self, record: JournalRecord) -> Result<(), JournalError> {
        self.journal.append(record).await
    }

    /// Records the refusal of a client that has not proved who it is, or counts it.
    pub(crate) async fn record_anonymous(&self, record: JournalRecord) -> Result<(), JournalError> {
        if self.admit_anonymous() { self.journal.append(record).await } else { Ok(()) }
    }

    fn admit_anonymous(&self) -> bool {
        let mut anonymous = durward_core::lock_ignoring_poison(&self.anonymous);
        if anonymous.window_begun.elapsed() >= WINDOW {
            anonymous.window_begun = Instant::now();
            anonymous.recorded = 0;
        }
        if anonymous.recorded < limits::MAX_ANONYMOUS_REFUSALS_PER_SECOND {
            anonymous.recorded += 1;
            return true;
        }
        if let Some((count, _since)) = &mut anonymous.omitted {
            *count += 1;
        } else {
            anonymous.omitted = Some((1, OffsetDateTime::now_utc()));
            tokio::spawn(self.clone().record_omitted());
        }
        false
    }

    /// Records the number of refusals that were omitted until the end of the window.
    async fn record_omitted(self) {
        tokio::time::sleep(WINDOW).await;
        let omitted = durward_core::lock_ignoring_poison(&self.anonymous).omitted.take();
        let Some((count, since)) = omitted else { return };
        tracing::warn!(
            count,
            "refusals of clients without a credential came too fast to be recorded one by one"
        );
        if let Err(error) = self.journal.append(JournalRecord::RefusalsOmitted { count, since }).await {
            tracing::error!(%error, count, "the journal cannot record the number of omitted refusals");
        }
    }
}

/// The operation of a refused request as it is recorded. Its parameters are left out if they are large: nothing was sent, and what
/// was denied is in its permissions.
pub(crate) fn shorten_operation(mut operation: Operation) -> (Operation, Option<OmittedParameters>) {
    let text = operation.parameters.to_string();
    if text.len() <= limits::MAX_REFUSED_PARAMETER_BYTES
        && operation.required_permissions.len() <= MAX_RECORDED_PERMISSIONS
    {
        return (operation, None);
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let omitted = OmittedParameters {
        bytes: text.len() as u64,
        sha256: encode_hex(digest.as_ref()),
        permission_count: operation.required_permissions.len() as u64,
    };
    operation.parameters = serde_json::Value::Object(serde_json::Map::new());
    operation.sensitive_pointers.clear();
    operation.uninspected_parts.clear();
    operation.required_permissions.truncate(MAX_RECORDED_PERMISSIONS);
    (operation, Some(omitted))
}

/// The beginning of a text that a client chose, and a mark if there is more.
pub(crate) fn shorten_text(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    format!("{}…", text.get(..text.floor_char_boundary(max_bytes)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::{ExchangeId, FrontEndKind, OperationTraits, RefusalReason};
    use durward_journal::{JournalOptions, read_journal};
    use serde_json::json;

    fn refusal() -> JournalRecord {
        JournalRecord::Refused {
            exchange: ExchangeId::new(),
            session: None,
            caller: None,
            front_end: FrontEndKind::Aws,
            connection: None,
            operation: None,
            omitted_parameters: None,
            decision: None,
            reason: RefusalReason::MissingAuthentication,
            message: "no".to_owned(),
            source_address: [192, 0, 2, 1].into(),
        }
    }

    #[tokio::test]
    async fn a_flood_of_anonymous_refusals_is_recorded_in_part_and_counted_whole() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::open(dir.path(), JournalOptions::default()).unwrap());
        let recorder = RefusalRecorder::new(journal.clone());
        let sent = u64::from(limits::MAX_ANONYMOUS_REFUSALS_PER_SECOND) * 3;
        for _ in 0..sent {
            recorder.record_anonymous(refusal()).await.unwrap();
        }
        recorder.record(refusal()).await.unwrap();
        recorder.clone().record_omitted().await;
        journal.flush().await.unwrap();
        let (mut recorded, mut omitted) = (0, 0);
        for entry in read_journal(dir.path()) {
            match entry.unwrap().decode_record().unwrap() {
                JournalRecord::RefusalsOmitted { count, .. } => omitted += count,
                _ => recorded += 1,
            }
        }
        assert_eq!(recorded + omitted, sent + 1);
        assert!(omitted > 0 && recorded < sent, "{recorded} recorded");
    }

    #[test]
    fn large_parameters_are_left_out_with_their_size_and_digest() {
        let operation = |parameters| Operation {
            front_end: FrontEndKind::Aws,
            service: "dynamodb".to_owned(),
            name: "PutItem".to_owned(),
            required_permissions: Vec::new(),
            parameters,
            sensitive_pointers: vec!["/a".to_owned()],
            region: None,
            account: None,
            traits: OperationTraits::default(),
            uninspected_parts: Vec::new(),
            body_sha256: None,
        };
        let small = operation(json!({ "a": "x" }));
        assert_eq!(shorten_operation(small.clone()), (small, None));
        let (shortened, omitted) = shorten_operation(operation(json!({ "a": "x".repeat(1 << 20) })));
        assert_eq!((shortened.parameters, shortened.name.as_str()), (json!({}), "PutItem"));
        assert_eq!(omitted.unwrap().bytes, (1 << 20) + 8);
        assert_eq!(shorten_text("aéz", 2), "a…");
    }
}
