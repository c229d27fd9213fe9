//! What is put together from the records of one journal.

use super::*;
use crate::{
    Cause, CorruptionKind, RecordPosition, UsedGrant,
    record::encode_record,
    testing::{
        sample_caller, sample_coalesced, sample_credential, sample_decision, sample_intent, sample_operation,
        sample_outcome, sample_refusal, sample_session_opened,
    },
};
use durward_core::{Caller, CredentialScope, FrontEndKind, RefusalReason, Verdict};
use std::net::{IpAddr, Ipv4Addr};
use time::{Duration, OffsetDateTime, macros::datetime};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The time of the first record. Each of the others was made a second after the one before it.
const START: OffsetDateTime = datetime!(2026-11-21 06:30:00 UTC);

fn entries(records: Vec<JournalRecord>) -> Vec<Result<JournalEntry, JournalCorruption>> {
    let entry = |(index, record): (usize, JournalRecord)| {
        let json_text = encode_record(&record, START + Duration::seconds(index as i64)).unwrap();
        let position = RecordPosition { record_number: index as u64 + 1, segment_number: 1, offset: 0 };
        Ok(JournalEntry { position, json_text })
    };
    records.into_iter().enumerate().map(entry).collect()
}

fn corruption() -> JournalCorruption {
    JournalCorruption {
        file: "00000001.journal".into(),
        offset: 60,
        record_number: 7,
        kind: CorruptionKind::ChecksumMismatch,
        record_time: None,
        last_good_time: None,
    }
}

fn approval_requested(id: ExchangeId, in_session: SessionId) -> JournalRecord {
    JournalRecord::ApprovalRequested {
        exchange: id,
        approval_request: "a1".to_owned(),
        session: in_session,
        caller: sample_caller(),
        front_end: FrontEndKind::Aws,
        connection: "prod".to_owned(),
        operation: sample_operation(),
        digest: "ab".repeat(32),
        decision: sample_decision(Verdict::RequireApproval),
        source_address: LOOPBACK,
    }
}

fn intent(id: ExchangeId, in_session: Option<SessionId>, approved_by: Option<&str>) -> JournalRecord {
    let mut record = sample_intent();
    if let JournalRecord::Intent { exchange, session, grant, .. } = &mut record {
        (*exchange, *session) = (id, in_session);
        *grant = approved_by.map(|person| UsedGrant {
            approval_request: "a1".to_owned(),
            approvers: vec![person.to_owned()],
            time_bound: false,
            break_glass: false,
        });
    }
    record
}

fn refusal(id: ExchangeId, in_session: Option<SessionId>, why: RefusalReason) -> JournalRecord {
    let mut record = sample_refusal("no");
    if let JournalRecord::Refused { exchange, session, caller, connection, reason, .. } = &mut record {
        (*exchange, *session, *reason) = (id, in_session, why);
        if in_session.is_some() {
            (*caller, *connection) = (Some(sample_caller()), Some("prod".to_owned()));
        }
    }
    record
}

fn coalesced(id: ExchangeId, in_session: SessionId, by: ExchangeId) -> JournalRecord {
    let mut record = sample_coalesced();
    if let JournalRecord::Coalesced { exchange, session, executed_by, .. } = &mut record {
        (*exchange, *session, *executed_by) = (id, in_session, by);
    }
    record
}

fn outcome(id: ExchangeId) -> JournalRecord {
    let mut record = sample_outcome(1);
    if let JournalRecord::Outcome { exchange, .. } = &mut record {
        *exchange = id;
    }
    record
}

fn credential(id: ExchangeId) -> JournalRecord {
    let mut record = sample_credential();
    if let JournalRecord::CredentialIssued { exchange, .. } = &mut record {
        *exchange = id;
    }
    record
}

fn session_opened(id: SessionId, by: Caller) -> JournalRecord {
    let mut record = sample_session_opened();
    if let JournalRecord::SessionOpened { session, caller, .. } = &mut record {
        (*session, *caller) = (id, by);
    }
    record
}

fn revoked(of: Option<SessionId>, of_caller: Option<&str>, at: OffsetDateTime, why: &str) -> JournalRecord {
    JournalRecord::SessionRevoked {
        session: of,
        caller: of_caller.map(str::to_owned),
        by: "corp/ann".to_owned(),
        reason: why.to_owned(),
        at,
    }
}

fn dispositions(detail: &SessionDetail) -> Vec<Disposition> {
    detail.exchanges.iter().map(|exchange| exchange.disposition).collect()
}

#[test]
fn each_way_to_decide_an_exchange_has_its_disposition() {
    let session = SessionId::new();
    let ids: [ExchangeId; 8] = std::array::from_fn(|_index| ExchangeId::new());
    let records = vec![
        session_opened(session, sample_caller()),
        intent(ids[0], Some(session), None),
        approval_requested(ids[1], session),
        intent(ids[1], Some(session), Some("corp/ann")),
        coalesced(ids[2], session, ids[1]),
        approval_requested(ids[3], session),
        approval_requested(ids[4], session),
        refusal(ids[4], Some(session), RefusalReason::ApprovalRequired),
        approval_requested(ids[5], session),
        refusal(ids[5], Some(session), RefusalReason::AccessDenied),
        refusal(ids[6], Some(session), RefusalReason::Busy),
        // The policies changed while it was held: policy alone allowed it.
        approval_requested(ids[7], session),
        intent(ids[7], Some(session), None),
    ];
    let detail = read_session(entries(records.clone()), session, 100);
    let expected = [
        Disposition::Allowed,
        Disposition::Approved,
        Disposition::Coalesced,
        Disposition::AwaitingApproval,
        Disposition::ApprovalRequired,
        Disposition::Denied,
        Disposition::Refused,
        Disposition::Allowed,
    ];
    assert_eq!(dispositions(&detail), expected);
    let counts = detail.session.as_ref().unwrap().counts;
    for disposition in Disposition::ALL {
        let count = expected.iter().filter(|one| **one == disposition).count() as u64;
        assert_eq!(counts.get(disposition), count, "{disposition:?}");
        assert_eq!(serde_json::to_value(disposition).unwrap(), disposition.as_str());
        assert_eq!(serde_json::to_value(counts).unwrap()[disposition.as_str()], count);
    }
    assert_eq!((counts.total(), counts.permitted(), counts.not_permitted()), (8, 4, 3));
    // The list and the detail agree.
    let list = list_sessions(entries(records), &SessionFilter::default(), 100);
    assert_eq!(list.sessions, [detail.session.unwrap()]);
}

#[test]
fn an_exchange_that_people_approved_is_told_from_request_to_outcome() {
    let (session, id) = (SessionId::new(), ExchangeId::new());
    let records = vec![
        session_opened(session, sample_caller()),
        approval_requested(id, session),
        intent(id, Some(session), Some("corp/ann")),
        credential(id),
        outcome(id),
    ];
    let entries = entries(records);
    let times: Vec<_> = entries.iter().map(|entry| entry.as_ref().unwrap().recorded_at()).collect();
    let exchange = find_exchange(entries, id).exchange.unwrap();
    assert_eq!((exchange.id, exchange.session), (id, Some(session)));
    assert_eq!([exchange.first_recorded, exchange.decided, exchange.ended], [times[1], times[2], times[4]]);
    assert_eq!(exchange.disposition, Disposition::Approved);
    assert_eq!(exchange.approval_request.as_deref(), Some("a1"));
    assert_eq!(exchange.grant.as_ref().unwrap().approvers, ["corp/ann"]);
    assert_eq!(exchange.operation, Some(sample_operation()));
    assert_eq!(exchange.decision, Some(sample_decision(Verdict::Allow)));
    assert_eq!(exchange.front_end, Some(FrontEndKind::Aws));
    assert_eq!(exchange.connection.as_deref(), Some("prod"));
    assert!(matches!(exchange.caused_by, Some(Cause::Exchange(_))));
    let issued = exchange.issued_credential.as_ref().unwrap();
    assert_eq!((issued.access_key_id.as_str(), issued.scope), ("ASIAEXAMPLE", CredentialScope::Actions));
    assert_eq!(exchange.outcome.as_ref().unwrap().status, 200);
    assert_eq!(exchange.masked_values(), 3);
    assert_eq!((&exchange.refusal, &exchange.coalesced), (&None, &None));
}

#[test]
fn a_coalesced_exchange_names_the_exchange_that_was_executed() {
    let (session, executed, id) = (SessionId::new(), ExchangeId::new(), ExchangeId::new());
    let lookup = find_exchange(entries(vec![coalesced(id, session, executed)]), id);
    let exchange = lookup.exchange.unwrap();
    let response = exchange.coalesced.unwrap();
    assert_eq!((response.executed_by, response.status), (executed, 204));
    assert_eq!(exchange.approval_request.as_deref(), Some("a1"));
    assert_eq!(exchange.outcome, None);
}

#[test]
fn the_refusal_of_a_held_request_keeps_its_operation() {
    let (session, id) = (SessionId::new(), ExchangeId::new());
    let mut refused = refusal(id, Some(session), RefusalReason::ApprovalRequired);
    if let JournalRecord::Refused { operation, decision, .. } = &mut refused {
        (*operation, *decision) = (None, None);
    }
    let exchange =
        find_exchange(entries(vec![approval_requested(id, session), refused]), id).exchange.unwrap();
    assert_eq!(exchange.operation, Some(sample_operation()));
    assert_eq!(exchange.decision.unwrap().verdict, Verdict::RequireApproval);
    assert_eq!(exchange.refusal.unwrap().message, "no");
    assert_eq!(exchange.decided, exchange.ended);
}

#[test]
fn an_exchange_without_a_session_is_counted_and_found() {
    let (allowed, refused) = (ExchangeId::new(), ExchangeId::new());
    let records = vec![intent(allowed, None, None), refusal(refused, None, RefusalReason::InvalidToken)];
    let list = list_sessions(entries(records.clone()), &SessionFilter::default(), 10);
    assert!(list.sessions.is_empty());
    assert_eq!((list.without_session.allowed, list.without_session.refused), (1, 1));
    assert_eq!(find_exchange(entries(records.clone()), refused).exchange.unwrap().session, None);
    assert!(find_exchange(entries(records), ExchangeId::new()).exchange.is_none());
}

#[test]
fn a_session_that_another_replica_opened_is_known_by_its_exchanges() {
    let session = SessionId::new();
    let records = vec![intent(ExchangeId::new(), Some(session), None)];
    let found = read_session(entries(records), session, 10).session.unwrap();
    assert_eq!((found.caller, found.connection.as_deref()), (Some(sample_caller()), Some("prod")));
    assert_eq!((found.opened, found.front_end), (None, Some(FrontEndKind::Aws)));
}

#[test]
fn a_session_of_one_token_keeps_the_time_when_it_was_first_opened() {
    let derived: SessionId = "2489e9ad-2ee2-8e00-8ec9-32d5f69181c0".parse().unwrap();
    let entries =
        entries(vec![session_opened(derived, sample_caller()), session_opened(derived, sample_caller())]);
    let opened = entries[0].as_ref().unwrap().recorded_at();
    let session = read_session(entries, derived, 10).session.unwrap();
    assert_eq!((session.opened, session.started_at()), (opened, opened));
}

#[test]
fn the_sessions_that_were_used_last_are_listed_within_the_bound() {
    let [first, second, third] = std::array::from_fn(|_index| SessionId::new());
    let records = vec![
        session_opened(first, sample_caller()),
        session_opened(second, sample_caller()),
        intent(ExchangeId::new(), Some(first), None),
        session_opened(third, sample_caller()),
    ];
    let ids = |list: &SessionList| list.sessions.iter().map(|session| session.id).collect::<Vec<_>>();
    let list = list_sessions(entries(records.clone()), &SessionFilter::default(), 2);
    assert_eq!((ids(&list), list.omitted_sessions), (vec![first, third], 1));
    let list = list_sessions(entries(records), &SessionFilter::default(), 3);
    assert_eq!((ids(&list), list.omitted_sessions), (vec![first, second, third], 0));
}

#[test]
fn a_caller_with_many_sessions_hides_none_of_another() {
    let other = Caller { subject: "agent-8".to_owned(), ..sample_caller() };
    let (quiet, named_by_its_intent) = (SessionId::new(), SessionId::new());
    let mut records =
        vec![session_opened(quiet, other), intent(ExchangeId::new(), Some(named_by_its_intent), None)];
    let crowd: Vec<SessionId> = (0..20).map(|_| SessionId::new()).collect();
    records.extend(crowd.iter().map(|session| session_opened(*session, sample_caller())));
    let of_other =
        SessionFilter { caller: Some("corp/agent-8".to_owned()), connection: Some("prod".to_owned()) };
    let filtered = list_sessions(entries(records.clone()), &of_other, 4);
    assert_eq!((filtered.sessions.len(), filtered.sessions[0].id), (1, quiet));
    let elsewhere = SessionFilter { connection: Some("staging".to_owned()), ..SessionFilter::default() };
    assert!(list_sessions(entries(records.clone()), &elsewhere, 4).sessions.is_empty());
    let list = list_sessions(entries(records), &SessionFilter::default(), 4);
    let ids: Vec<_> = list.sessions.iter().map(|session| session.id).collect();
    assert_eq!((ids, list.omitted_sessions), (vec![quiet, crowd[17], crowd[18], crowd[19]], 18));
}

#[test]
fn the_newest_exchanges_are_kept_within_the_bound_and_all_are_counted() {
    let session = SessionId::new();
    let ids: [ExchangeId; 4] = std::array::from_fn(|_index| ExchangeId::new());
    let mut records: Vec<_> = ids.iter().map(|id| intent(*id, Some(session), None)).collect();
    // The outcome of one that was left out, and of one that was kept.
    records.extend([
        outcome(ids[0]),
        outcome(ids[2]),
        intent(ExchangeId::new(), Some(SessionId::new()), None),
    ]);
    let detail = read_session(entries(records), session, 2);
    let kept: Vec<_> = detail.exchanges.iter().map(|one| (one.id, one.outcome.is_some())).collect();
    assert_eq!((kept, detail.omitted_exchanges), (vec![(ids[2], true), (ids[3], false)], 2));
    assert_eq!(detail.session.unwrap().counts.allowed, 4);
}

#[test]
fn a_revocation_holds_for_its_session_or_for_what_its_caller_had_begun() {
    let [alone, of_caller, of_other, later] = std::array::from_fn(|_index| SessionId::new());
    let other = Caller { subject: "agent-8".to_owned(), ..sample_caller() };
    let now = OffsetDateTime::now_utc();
    let records = vec![
        session_opened(alone, sample_caller()),
        session_opened(of_caller, sample_caller()),
        session_opened(of_other, other),
        revoked(Some(alone), None, now, "lost laptop"),
        revoked(None, Some("corp/agent-7"), now, "left us"),
        session_opened(later, sample_caller()),
        // Recorded late: it holds for what had begun by its own time, not by the record's.
        revoked(None, Some("corp/agent-7"), now - Duration::days(1), "long ago"),
        // A record may come twice. This session is in no other record.
        revoked(Some(alone), None, now, "again"),
        revoked(Some(SessionId::new()), None, now, "unknown"),
    ];
    let list = list_sessions(entries(records.clone()), &SessionFilter::default(), 10);
    let found: Vec<_> = list
        .sessions
        .iter()
        .map(|session| session.revocation.as_ref().map(|one| (one.scope, one.reason.as_str())))
        .collect();
    assert_eq!(
        found,
        [
            Some((RevocationScope::Session, "lost laptop")),
            Some((RevocationScope::Caller, "left us")),
            None,
            None
        ]
    );
    for session in list.sessions {
        let detail = read_session(entries(records.clone()), session.id, 10);
        assert_eq!(detail.session, Some(session));
    }
    assert_eq!(count_sessions_of_caller(entries(records), "corp/agent-7"), 3);
}

#[test]
fn nothing_after_a_corruption_is_read_and_newer_records_are_counted() {
    let (before, after) = (SessionId::new(), SessionId::new());
    let mut read = entries(vec![
        session_opened(before, sample_caller()),
        session_opened(after, sample_caller()),
        session_opened(after, sample_caller()),
    ]);
    read[1].as_mut().unwrap().json_text =
        br#"{"time":"2026-11-21T06:30:00.000000Z","type":"dreamt"}"#.to_vec();
    read.insert(2, Err(corruption()));
    let list = list_sessions(read, &SessionFilter::default(), 10);
    assert_eq!(list.sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [before]);
    assert_eq!(list.journal_scan.newer_records, 1);
    let json = serde_json::to_value(&list).unwrap();
    assert_eq!(json["journal_scan"]["newer_records"], 1);
    assert!(json["journal_scan"]["corruption"].as_str().unwrap().contains("record 7"), "{json}");
}

#[test]
fn the_json_of_a_session_holds_what_was_recorded_and_leaves_out_what_was_not() {
    let (session, allowed, refused) = (SessionId::new(), ExchangeId::new(), ExchangeId::new());
    let entries = entries(vec![
        session_opened(session, sample_caller()),
        intent(allowed, Some(session), None),
        outcome(allowed),
        refusal(refused, Some(session), RefusalReason::AccessDenied),
    ]);
    let opened = entries[0].as_ref().unwrap().record_time().unwrap().to_owned();
    let json = serde_json::to_value(read_session(entries, session, 10)).unwrap();
    assert_eq!(json["session"]["session"], session.to_string());
    assert_eq!(json["session"]["opened"], opened);
    assert_eq!(json["session"]["counts"]["denied"], 1);
    assert_eq!(json["session"].get("revocation"), None);
    assert_eq!(json["exchanges"][0]["exchange"], allowed.to_string());
    assert_eq!(json["exchanges"][0]["outcome"]["masked"][0]["count"], 3);
    assert_eq!(json["exchanges"][0]["operation"], serde_json::to_value(sample_operation()).unwrap());
    assert_eq!(json["exchanges"][0].get("refusal"), None);
    assert_eq!(json["exchanges"][1]["disposition"], "denied");
    assert_eq!(json["exchanges"][1]["refusal"]["reason"], "access_denied");
    assert_eq!(json["journal_scan"], serde_json::json!({ "newer_records": 0 }));
    let unknown = read_session(Vec::new(), session, 10);
    assert!(serde_json::to_value(unknown).unwrap()["session"].is_null());
}
