//! One exchange: its decision and its end.

use crate::{
    Cause, JournalEntry, JournalRecord, MaskedCount, UsedGrant,
    record::rfc3339_micros::{serialize as serialize_time, serialize_option as serialize_optional_time},
};
use durward_core::{
    CredentialScope, Decision, ExchangeId, FrontEndKind, Operation, RefusalReason, SessionId,
};
use serde::Serialize;
use time::OffsetDateTime;

/// The decision on an exchange and its origin: policy, people, or neither. The response of the upstream is in
/// [`ExchangeHistory::outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Policy allowed it.
    Allowed,
    /// People approved it: it consumed a grant, or used a time-bound one.
    Approved,
    /// It was not sent: it got the response of another exchange, which consumed the grant that was for both.
    Coalesced,
    /// It waits for people. If the gateway stopped meanwhile, this is the last record of it.
    AwaitingApproval,
    /// It was refused because people had not approved it in time, or had not approved it yet.
    ApprovalRequired,
    /// Policy denied it, or an approver did.
    Denied,
    /// It was refused for a reason other than policy: its credential, its form, a limit, or a failure of the gateway.
    Refused,
}

impl Disposition {
    pub const ALL: [Self; 7] = [
        Self::Allowed,
        Self::Approved,
        Self::Coalesced,
        Self::AwaitingApproval,
        Self::ApprovalRequired,
        Self::Denied,
        Self::Refused,
    ];

    /// The word for it, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Approved => "approved",
            Self::Coalesced => "coalesced",
            Self::AwaitingApproval => "awaiting_approval",
            Self::ApprovalRequired => "approval_required",
            Self::Denied => "denied",
            Self::Refused => "refused",
        }
    }

    /// Returns true if the caller may have got the response of an upstream.
    pub fn is_permitted(self) -> bool {
        matches!(self, Self::Allowed | Self::Approved | Self::Coalesced)
    }
}

/// The number of exchanges of each [`Disposition`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DispositionCounts {
    pub allowed: u64,
    pub approved: u64,
    pub coalesced: u64,
    pub awaiting_approval: u64,
    pub approval_required: u64,
    pub denied: u64,
    pub refused: u64,
}

impl DispositionCounts {
    pub fn get(mut self, disposition: Disposition) -> u64 {
        *self.count_mut(disposition)
    }

    /// All exchanges.
    pub fn total(self) -> u64 {
        Disposition::ALL.into_iter().map(|disposition| self.get(disposition)).sum()
    }

    /// Those for which [`Disposition::is_permitted`] holds.
    pub fn permitted(self) -> u64 {
        self.allowed + self.approved + self.coalesced
    }

    /// Those that were refused, for whatever reason.
    pub fn not_permitted(self) -> u64 {
        self.approval_required + self.denied + self.refused
    }

    pub(super) fn add(&mut self, disposition: Disposition) {
        *self.count_mut(disposition) += 1;
    }

    pub(super) fn remove(&mut self, disposition: Disposition) {
        let count = self.count_mut(disposition);
        *count = count.saturating_sub(1);
    }

    fn count_mut(&mut self, disposition: Disposition) -> &mut u64 {
        match disposition {
            Disposition::Allowed => &mut self.allowed,
            Disposition::Approved => &mut self.approved,
            Disposition::Coalesced => &mut self.coalesced,
            Disposition::AwaitingApproval => &mut self.awaiting_approval,
            Disposition::ApprovalRequired => &mut self.approval_required,
            Disposition::Denied => &mut self.denied,
            Disposition::Refused => &mut self.refused,
        }
    }
}

/// One request and its response passing through, with everything that the journal says of it. Empty optional fields are left
/// out of the JSON, as they are in the records.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExchangeHistory {
    #[serde(rename = "exchange")]
    pub id: ExchangeId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// When its first record was made.
    #[serde(serialize_with = "serialize_optional_time", skip_serializing_if = "Option::is_none")]
    pub first_recorded: Option<OffsetDateTime>,
    /// When it was permitted or refused.
    #[serde(serialize_with = "serialize_optional_time", skip_serializing_if = "Option::is_none")]
    pub decided: Option<OffsetDateTime>,
    /// When it was over.
    #[serde(serialize_with = "serialize_optional_time", skip_serializing_if = "Option::is_none")]
    pub ended: Option<OffsetDateTime>,
    pub disposition: Disposition,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front_end: Option<FrontEndKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// `None` if it was refused before it was decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The last decision of policy. For an exchange that people approved, its verdict says what the gateway did, not what
    /// policy alone would have done: [`Self::disposition`] tells these apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The id of the approval request that it waited for, or whose grant it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_request: Option<String>,
    /// The grant that it consumed or, if time-bound, used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<UsedGrant>,
    /// The last credential that was issued for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_credential: Option<IssuedCredential>,
    /// Its end, if it was permitted and is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<ExchangeOutcome>,
    /// Why it was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<ExchangeRefusal>,
    /// The response of another exchange, if it got that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coalesced: Option<CoalescedResponse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caused_by: Option<Cause>,
}

/// A credential that was issued for an exchange. The secret is in no record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IssuedCredential {
    /// The operation that it is for: that of the exchange, or a read of tags before its decision.
    pub operation: String,
    pub access_key_id: String,
    pub scope: CredentialScope,
    /// Lower-case hex SHA-256 of its session policy. `None`: it has all permissions of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_policy_sha256: Option<String>,
    #[serde(serialize_with = "serialize_time")]
    pub expires: OffsetDateTime,
}

/// The response that the caller got to an exchange that was permitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExchangeOutcome {
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_sha256: Option<String>,
    /// The values that were masked in the response.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<MaskedCount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<String>,
    pub duration_us: u64,
    /// Why it failed, if it did: the upstream could not be reached, no credential could be issued, the stream broke off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Why an exchange was refused before anything was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExchangeRefusal {
    pub reason: RefusalReason,
    pub message: String,
}

/// The stored response of another exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CoalescedResponse {
    /// The exchange that was executed. Its outcome tells the rest.
    pub executed_by: ExchangeId,
    pub status: u16,
    pub response_bytes: u64,
    pub duration_us: u64,
}

impl ExchangeHistory {
    /// The number of values that were masked in its response, of all data classes.
    pub fn masked_values(&self) -> u64 {
        self.outcome.iter().flat_map(|outcome| &outcome.masked).map(|masked| masked.count).sum()
    }

    pub(super) fn new(id: ExchangeId, session: Option<SessionId>, entry: &JournalEntry) -> Self {
        Self {
            id,
            session,
            first_recorded: entry.recorded_at(),
            decided: None,
            ended: None,
            disposition: Disposition::AwaitingApproval,
            front_end: None,
            connection: None,
            operation: None,
            decision: None,
            approval_request: None,
            grant: None,
            issued_credential: None,
            outcome: None,
            refusal: None,
            coalesced: None,
            caused_by: None,
        }
    }

    /// Adds a record that names this exchange.
    pub(super) fn add_record(&mut self, entry: &JournalEntry, record: JournalRecord) {
        let time = entry.recorded_at();
        if let Some(decided) = decided_exchange(&record) {
            self.disposition = decided.disposition;
            self.decided = time;
        }
        match record {
            JournalRecord::ApprovalRequested {
                approval_request,
                front_end,
                connection,
                operation,
                decision,
                ..
            } => {
                self.approval_request = Some(approval_request);
                self.set_subject(front_end, Some(connection), Some(operation), Some(decision));
            }
            JournalRecord::Intent {
                front_end, connection, operation, decision, grant, caused_by, ..
            } => {
                if let Some(grant) = &grant {
                    self.approval_request = Some(grant.approval_request.clone());
                }
                self.grant = grant;
                self.caused_by = caused_by;
                self.set_subject(front_end, Some(connection), Some(operation), Some(decision));
            }
            JournalRecord::Refused {
                front_end, connection, operation, decision, reason, message, ..
            } => {
                self.ended = time;
                self.refusal = Some(ExchangeRefusal { reason, message });
                self.set_subject(front_end, connection, operation, decision);
            }
            JournalRecord::Coalesced {
                approval_request,
                executed_by,
                front_end,
                connection,
                operation,
                decision,
                status,
                response_bytes,
                duration_us,
                ..
            } => {
                self.ended = time;
                self.approval_request = Some(approval_request);
                self.coalesced = Some(CoalescedResponse { executed_by, status, response_bytes, duration_us });
                self.set_subject(front_end, Some(connection), Some(operation), Some(decision));
            }
            JournalRecord::CredentialIssued {
                operation,
                access_key_id,
                scope,
                session_policy_sha256,
                expires,
                ..
            } => {
                self.issued_credential = Some(IssuedCredential {
                    operation,
                    access_key_id,
                    scope,
                    session_policy_sha256,
                    expires,
                });
            }
            JournalRecord::Outcome {
                exchange: _,
                status,
                error_code,
                request_bytes,
                response_bytes,
                response_sha256,
                masked,
                upstream_request_id,
                duration_us,
                failure,
            } => {
                self.ended = time;
                self.outcome = Some(ExchangeOutcome {
                    status,
                    error_code,
                    request_bytes,
                    response_bytes,
                    response_sha256,
                    masked,
                    upstream_request_id,
                    duration_us,
                    failure,
                });
            }
            JournalRecord::SessionOpened { .. }
            | JournalRecord::SignInRefused { .. }
            | JournalRecord::RefusalsOmitted { .. }
            | JournalRecord::ApprovalRequestChanged { .. }
            | JournalRecord::SessionRevoked { .. } => {}
        }
    }

    /// A later record may know less: the refusal of a request that was held need not repeat its operation.
    fn set_subject(
        &mut self,
        front_end: FrontEndKind,
        connection: Option<String>,
        operation: Option<Operation>,
        decision: Option<Decision>,
    ) {
        self.front_end = Some(front_end);
        self.connection = connection.or(self.connection.take());
        self.operation = operation.or(self.operation.take());
        self.decision = decision.or(self.decision.take());
    }
}

/// An exchange that a record permits or refuses.
pub(super) struct DecidedExchange {
    pub of: (ExchangeId, Option<SessionId>),
    pub disposition: Disposition,
}

/// The exchange that a record permits or refuses. An exchange has one such record: FORMAT.md, "Record".
pub(super) fn decided_exchange(record: &JournalRecord) -> Option<DecidedExchange> {
    let (of, disposition) = match record {
        // The decision of an exchange that consumed a grant was rewritten to allow: the grant, not the verdict, tells.
        JournalRecord::Intent { exchange, session, grant, .. } => {
            let by_people = grant.is_some();
            ((*exchange, *session), if by_people { Disposition::Approved } else { Disposition::Allowed })
        }
        JournalRecord::Coalesced { exchange, session, .. } => {
            ((*exchange, Some(*session)), Disposition::Coalesced)
        }
        JournalRecord::Refused { exchange, session, reason, .. } => {
            let disposition = match reason {
                RefusalReason::AccessDenied => Disposition::Denied,
                RefusalReason::ApprovalRequired => Disposition::ApprovalRequired,
                _ => Disposition::Refused,
            };
            ((*exchange, *session), disposition)
        }
        _ => return None,
    };
    Some(DecidedExchange { of, disposition })
}

/// The exchange for which a record says that it waits for people.
pub(super) fn requested_exchange(record: &JournalRecord) -> Option<(ExchangeId, Option<SessionId>)> {
    match record {
        JournalRecord::ApprovalRequested { exchange, session, .. } => Some((*exchange, Some(*session))),
        _ => None,
    }
}
