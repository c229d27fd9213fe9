//! The records and their JSON text.
//!
//! A record is one JSON object: `time` first, then `type`, then the fields of the variant. Empty optional fields are left out.
//! The values of a record are masked before it is built: nothing here looks into them.

use crate::{JournalError, segment_format::MAX_RECORD_BYTES};
use durward_core::{
    Caller, CredentialScope, Decision, ExchangeId, FrontEndKind, Operation, RefusalReason, SessionId,
};
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, sync::Arc};
use time::{
    OffsetDateTime, UtcOffset, format_description::StaticFormatDescription, macros::format_description,
};

/// RFC 3339 in UTC with microseconds, always 27 characters.
const TIMESTAMP_FORMAT: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
/// The beginning of every record's text. The 27 characters of the time follow.
const RECORD_PREFIX: &[u8] = b"{\"time\":\"";
const TIMESTAMP_LENGTH: usize = 27;

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JournalRecord {
    /// A caller signed in.
    SessionOpened {
        session: SessionId,
        caller: Caller,
        connection: String,
        source_address: IpAddr,
        #[serde(with = "rfc3339_micros")]
        expires: OffsetDateTime,
    },
    /// A caller was refused at sign-in.
    SignInRefused {
        front_end: FrontEndKind,
        /// Present if the token was verified, that is if policy refused the sign-in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<Caller>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<Decision>,
        reason: RefusalReason,
        message: String,
        source_address: IpAddr,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_agent: Option<String>,
    },
    /// A request that is about to be sent upstream. The record is durable before the request is sent.
    Intent {
        exchange: ExchangeId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<Caller>,
        front_end: FrontEndKind,
        connection: String,
        /// Masked before it is recorded.
        operation: Operation,
        /// Lower-case hex of the digest that binds the decision to the request that is sent.
        digest: String,
        decision: Decision,
        source_address: IpAddr,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_agent: Option<String>,
        /// The grant that overrode the policies that required an approval.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grant: Option<UsedGrant>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caused_by: Option<Cause>,
    },
    /// An exchange waits for people.
    ApprovalRequested {
        exchange: ExchangeId,
        /// The id of the approval request. Attempts of the same operation share one.
        approval_request: String,
        session: SessionId,
        caller: Caller,
        front_end: FrontEndKind,
        connection: String,
        /// Masked before it is recorded.
        operation: Operation,
        /// Lower-case hex of the digest that binds the grant to the request that is sent.
        digest: String,
        decision: Decision,
        source_address: IpAddr,
    },
    /// An event of an approval request: a vote, a time-out, the use of its grant.
    ApprovalRequestChanged {
        approval_request: String,
        /// The index of this event in the history of the approval request, from 0. After a crash an event may be recorded again:
        /// with the same approval request and the same index.
        event_index: u32,
        /// The kind of event, as `durward-approval` names it.
        change: String,
        /// The person, as provider and subject.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        #[serde(with = "rfc3339_micros")]
        at: OffsetDateTime,
    },
    /// A session, or every session of a caller that had begun until `at`, was revoked. Exactly one of `session` and `caller` is
    /// present.
    SessionRevoked {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// The caller, as provider and subject.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<String>,
        /// The person, as provider and subject.
        by: String,
        reason: String,
        #[serde(with = "rfc3339_micros")]
        at: OffsetDateTime,
    },
    /// A credential was issued for an exchange. The secret is never recorded.
    CredentialIssued {
        exchange: ExchangeId,
        /// The operation that it is for, `s3:GetObject`: that of the exchange, or a read of tags before its decision.
        operation: String,
        access_key_id: String,
        scope: CredentialScope,
        /// Lower-case hex SHA-256 of the session policy. Absent if the credential has all permissions of the role.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_policy_sha256: Option<String>,
        #[serde(with = "rfc3339_micros")]
        expires: OffsetDateTime,
    },
    /// The end of an exchange that has an intent.
    Outcome {
        exchange: ExchangeId,
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error_code: Option<String>,
        request_bytes: u64,
        response_bytes: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        response_sha256: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        masked: Vec<MaskedCount>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upstream_request_id: Option<String>,
        duration_us: u64,
        /// Why the exchange failed, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// An exchange that was not sent upstream: it got the response of another attempt, which consumed the grant for both.
    Coalesced {
        exchange: ExchangeId,
        approval_request: String,
        /// The exchange that consumed the grant. Its outcome is that of the response.
        executed_by: ExchangeId,
        session: SessionId,
        caller: Caller,
        front_end: FrontEndKind,
        connection: String,
        /// Masked before it is recorded.
        operation: Operation,
        /// Lower-case hex of the digest that both exchanges have.
        digest: String,
        decision: Decision,
        source_address: IpAddr,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_agent: Option<String>,
        status: u16,
        response_bytes: u64,
        duration_us: u64,
    },
    /// An exchange that was refused before anything was sent upstream.
    Refused {
        exchange: ExchangeId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<Caller>,
        front_end: FrontEndKind,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<Operation>,
        /// Present if `operation` is recorded without its parameters, because they are large.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        omitted_parameters: Option<OmittedParameters>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        decision: Option<Decision>,
        reason: RefusalReason,
        message: String,
        source_address: IpAddr,
    },
    /// Refusals of clients without a valid credential that came too fast to be recorded one by one.
    RefusalsOmitted {
        count: u64,
        /// When the first of them was refused.
        #[serde(with = "rfc3339_micros")]
        since: OffsetDateTime,
    },
}

/// The parameters that the record of a refusal leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OmittedParameters {
    /// Their length as JSON.
    pub bytes: u64,
    /// Lower-case hex SHA-256 of that JSON, in which sensitive values are masked.
    pub sha256: String,
    /// The number of permissions that the operation required; the record has the first hundred.
    pub permission_count: u64,
}

/// The grant with which an exchange passed. One that is not time-bound is consumed after the intent and before anything is sent:
/// the approval request's `consumed` event names the exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedGrant {
    pub approval_request: String,
    /// The people whose votes created it.
    pub approvers: Vec<String>,
    /// It lasts until a time, and permits more than this exchange.
    pub time_bound: bool,
    /// One person used break-glass in place of the quorum. It must be reviewed afterwards.
    pub break_glass: bool,
}

/// The cause of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The MCP exchange during which an AWS call was made.
    Exchange(ExchangeId),
    /// The `traceparent` header that the caller sent. It is a claim, not a proof.
    Trace(String),
}

/// The number of values of a data class that were masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedCount {
    pub data_class: String,
    pub count: u64,
}

/// The text of `record` as it is stored, with the time `now`.
pub(crate) fn encode_record(record: &JournalRecord, now: OffsetDateTime) -> Result<Vec<u8>, JournalError> {
    let mut text = Vec::with_capacity(1024);
    text.extend_from_slice(RECORD_PREFIX);
    let unwritable = |error: &dyn std::fmt::Display| JournalError::NotSerializable {
        reason: Arc::from(error.to_string()),
    };
    now.to_offset(UtcOffset::UTC)
        .format_into(&mut text, TIMESTAMP_FORMAT)
        .map_err(|error| unwritable(&error))?;
    text.push(b'"');
    let record_start = text.len();
    serde_json::to_writer(&mut text, record).map_err(|error| unwritable(&error))?;
    // The variant is an object that holds at least `type`: its opening brace becomes the comma after `time`.
    if let Some(brace) = text.get_mut(record_start) {
        *brace = b',';
    }
    // The reader refuses a longer frame: the journal would be corrupt by its own record.
    if text.len() > MAX_RECORD_BYTES {
        return Err(JournalError::RecordTooLarge { bytes: text.len() });
    }
    Ok(text)
}

/// The time at the beginning of a stored text, even if the rest of the text is corrupt.
pub(crate) fn record_time(text: &[u8]) -> Option<&str> {
    let timestamp = text.strip_prefix(RECORD_PREFIX)?.get(..TIMESTAMP_LENGTH)?;
    let timestamp = std::str::from_utf8(timestamp).ok()?;
    OffsetDateTime::parse(timestamp, &time::format_description::well_known::Rfc3339).ok()?;
    Some(timestamp)
}

/// The times inside records, and inside the history that is put together from them.
pub(crate) mod rfc3339_micros {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _, ser::Error as _};
    use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

    pub(crate) fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        let text = at.to_offset(UtcOffset::UTC).format(super::TIMESTAMP_FORMAT).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)
    }

    /// As [`serialize`], for a time that may be absent. No record has one; the history has.
    #[expect(clippy::ref_option, reason = "serde's `serialize_with` passes a reference to the field")]
    pub(crate) fn serialize_option<S: Serializer>(
        at: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use time::macros::datetime;

    #[test]
    fn every_record_reads_back_as_it_was_written() {
        for record in testing::sample_records() {
            let text = encode_record(&record, datetime!(2026-11-21 07:30:00.123456 +1)).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(value["time"], "2026-11-21T06:30:00.123456Z");
            assert_eq!(record_time(&text), Some("2026-11-21T06:30:00.123456Z"));
            let read: JournalRecord = serde_json::from_slice(&text).unwrap();
            assert_eq!(read, record);
        }
    }

    #[test]
    fn a_record_is_one_flat_object_with_time_and_type_first() {
        let text = encode_record(&testing::sample_outcome(1), datetime!(2026-11-21 06:30:00 UTC)).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with(
                "{\"time\":\"2026-11-21T06:30:00.000000Z\",\"type\":\"outcome\",\"exchange\":\""
            ),
            "{text}"
        );
    }

    #[test]
    fn refuses_a_record_over_the_limit() {
        let JournalRecord::Refused { exchange, session, caller, front_end, reason, source_address, .. } =
            testing::sample_refusal("x")
        else {
            panic!("sample_refusal makes a Refused");
        };
        let record = JournalRecord::Refused {
            exchange,
            session,
            caller,
            front_end,
            connection: None,
            operation: None,
            omitted_parameters: None,
            decision: None,
            reason,
            message: "x".repeat(MAX_RECORD_BYTES),
            source_address,
        };
        assert!(matches!(
            encode_record(&record, OffsetDateTime::UNIX_EPOCH),
            Err(JournalError::RecordTooLarge { .. })
        ));
    }

    #[test]
    fn finds_no_time_in_text_that_does_not_begin_with_one() {
        assert_eq!(record_time(b""), None);
        assert_eq!(record_time(b"{\"time\":\"2026-11-21T06:30"), None);
        assert_eq!(record_time(b"{\"time\":\"\xff\xff26-11-21T06:30:00.000000Z\"}"), None);
        assert_eq!(record_time(b"{\"time\":\"2026-99-21T06:30:00.000000Z\"}"), None);
    }
}
