//! Approval requests whose stored row cannot be read. Such a row affects no other request: it is shown as corrupt, grants
//! nothing, takes no votes, and is logged once.

use crate::approval_request_row::from_row;
use crate::{
    ApprovalEvent, ApprovalEventKind, ApprovalRequest, ApprovalState, NewApprovalRequest, RiskAssessment,
};
use durward_core::timestamps::from_unix_millis;
use durward_core::{
    AccessLevel, Caller, CallerKind, ExchangeId, FrontEndKind, Operation, OperationTraits,
    RequiredPermission, Resource, ResourceTags, SessionId, lock_ignoring_poison,
};
use durward_store::{ApprovalRequestRow, StoreError};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

/// Corrupt requests that are remembered as logged. With more than these the store is broken, and the log says so.
const MAX_LOGGED_IDS: usize = 1_000;

/// The corrupt requests that were logged.
#[derive(Default)]
pub(crate) struct CorruptionLog(Mutex<HashSet<String>>);

impl CorruptionLog {
    /// The request of a row. `None`, and a line in the log: the row is corrupt.
    pub(crate) fn decode_row(&self, row: &ApprovalRequestRow) -> Option<ApprovalRequest> {
        self.ok_or_log(&row.id, from_row(row))
    }

    /// The result of reading a row. `None`, and a line in the log: it failed.
    pub(crate) fn ok_or_log<T>(&self, id: &str, result: Result<T, StoreError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let mut logged_ids = lock_ignoring_poison(&self.0);
                if logged_ids.len() < MAX_LOGGED_IDS && logged_ids.insert(id.to_owned()) {
                    tracing::error!(
                        approval_request = id,
                        %error,
                        "approval request is corrupt; it is left out and grants nothing"
                    );
                }
                None
            }
        }
    }
}

/// A corrupt request for lists and pages: the columns of its row that can still be read. Every other field is a placeholder
/// that grants nothing (no requirement, no vote). `None`: not even the id can be read.
pub(crate) fn corrupt_placeholder(row: &ApprovalRequestRow) -> Option<ApprovalRequest> {
    let unknown = "00000000000000000000000000000000";
    let (provider, subject) = row.caller.split_once('/').unwrap_or(("", &row.caller));
    let actions: Vec<&str> = row.actions.split(' ').collect();
    let permission = |action: &&str| RequiredPermission {
        access_level: AccessLevel::Write,
        action: (*action).to_owned(),
        resource: Resource::Any,
    };
    let service =
        actions.first().and_then(|action| action.split_once(':')).map_or("", |(service, _)| service);
    let note = "the stored approval request is corrupt; it grants nothing";
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
                name: "(corrupt)".to_owned(),
                required_permissions: actions.iter().map(permission).collect(),
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
            kind: ApprovalEventKind::Corrupt,
            by: None,
            note: Some(note.to_owned()),
        }],
        attempts: u64::try_from(row.attempt_count).unwrap_or_default(),
        uses: u64::try_from(row.use_count).unwrap_or_default(),
    })
}
