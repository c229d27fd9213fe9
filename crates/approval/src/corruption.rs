//! Asks whose row cannot be understood. One of them stops nothing but itself: it is shown as damaged, nothing passes on it,
//! nobody can answer it, and the log names it once.

use crate::approval_request_row::from_row;
use crate::clock::from_unix_millis;
use crate::{ApprovalEvent, ApprovalRequest, ApprovalState, NewApprovalRequest, RiskAssessment};
use durward_core::{
    AccessLevel, Caller, CallerKind, ExchangeId, FrontEndKind, Operation, OperationTraits,
    RequiredPermission, Resource, ResourceTags, SessionId,
};
use durward_store::{ApprovalRequestRow, StoreError};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Damaged asks that are remembered as told. Whoever has more knows by then.
const MAX_LOGGED_IDS: usize = 1_000;

/// What was told of damaged asks.
#[derive(Default)]
pub(crate) struct CorruptionLog(Mutex<HashSet<String>>);

impl CorruptionLog {
    /// The ask of a row; none, and a line in the log, if the row is damaged.
    pub(crate) fn decode_row(&self, row: &ApprovalRequestRow) -> Option<ApprovalRequest> {
        self.ok_or_log(&row.id, from_row(row))
    }

    /// What was made of a row; none, and a line in the log, if nothing could be.
    pub(crate) fn ok_or_log<T>(&self, id: &str, made: Result<T, StoreError>) -> Option<T> {
        match made {
            Ok(made) => Some(made),
            Err(error) => {
                let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if told.len() < MAX_LOGGED_IDS && told.insert(id.to_owned()) {
                    tracing::error!(ask = id, %error, "an ask is damaged: it is left out, and nothing passes on it");
                }
                None
            }
        }
    }
}

/// A damaged ask as it is shown: what the columns of its row still tell, and nothing that could be answered or used. None: not
/// even its id can be read.
pub(crate) fn corrupt_placeholder(row: &ApprovalRequestRow) -> Option<ApprovalRequest> {
    let unknown = "00000000000000000000000000000000";
    let (provider, subject) = row.caller.split_once('/').unwrap_or(("", &row.caller));
    let actions: Vec<&str> = row.actions.split(' ').collect();
    let demand = |action: &&str| RequiredPermission {
        access_level: AccessLevel::Write,
        action: (*action).to_owned(),
        resource: Resource::Any,
    };
    let service =
        actions.first().and_then(|action| action.split_once(':')).map_or("", |(service, _)| service);
    let note = "what is stored of this ask is damaged; nothing passes on it";
    Some(ApprovalRequest {
        id: row.id.parse().ok()?,
        state: ApprovalState::Corrupt,
        created: from_unix_millis(row.created_at),
        deadline: from_unix_millis(row.hold_deadline),
        grant_until: None,
        time_bound: false,
        break_glass: false,
        details: Arc::new(NewApprovalRequest {
            caller: Caller {
                provider: provider.to_owned(),
                issuer: String::new(),
                subject: subject.to_owned(),
                kind: CallerKind::Workload,
                groups: Vec::new(),
                act: Vec::new(),
            },
            session: unknown.parse::<SessionId>().ok()?,
            connection: row.connection.clone(),
            exchange: unknown.parse::<ExchangeId>().ok()?,
            operation: Operation {
                front_end: if service.is_empty() { FrontEndKind::Mcp } else { FrontEndKind::Aws },
                service: service.to_owned(),
                name: "(damaged)".to_owned(),
                required_permissions: actions.iter().map(demand).collect(),
                parameters: serde_json::json!({}),
                sensitive_pointers: Vec::new(),
                region: None,
                account: None,
                traits: OperationTraits::default(),
                uninspected_parts: vec![note.to_owned()],
                body_sha256: None,
            },
            digest: row.digest.as_slice().try_into().unwrap_or_default(),
            requirements: Vec::new(),
            risk: RiskAssessment::default(),
            tags: ResourceTags::new(),
            reason: note.to_owned(),
            policy_set: String::new(),
            source_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            user_agent: None,
        }),
        risk: RiskAssessment::default(),
        votes: Vec::new(),
        history: vec![ApprovalEvent {
            at: from_unix_millis(row.created_at),
            kind: "damaged".to_owned(),
            by: None,
            note: Some(note.to_owned()),
        }],
        attempts: u64::try_from(row.attempt_count).unwrap_or_default(),
        uses: u64::try_from(row.use_count).unwrap_or_default(),
    })
}
