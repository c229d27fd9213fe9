//! Revoked sessions, and replays.

use super::*;

/// Adds records to a journal.
fn append_records(dir: &Path, records: Vec<JournalRecord>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(dir, JournalOptions::default()).unwrap();
        for record in records {
            journal.append(record).await.unwrap();
        }
        journal.close().unwrap();
    });
}

fn session_opened(session: SessionId, caller: Caller) -> JournalRecord {
    JournalRecord::SessionOpened {
        session,
        caller,
        connection: "prod".to_owned(),
        source_address: SOURCE_ADDRESS,
        expires: OffsetDateTime::UNIX_EPOCH,
    }
}

fn session_revoked(session: Option<SessionId>, caller: Option<&str>, reason: &str) -> JournalRecord {
    JournalRecord::SessionRevoked {
        session,
        caller: caller.map(str::to_owned),
        by: "corp/ann".to_owned(),
        reason: reason.to_owned(),
        // A revocation of a caller counts for the sessions that began before it.
        at: if session.is_some() { OffsetDateTime::UNIX_EPOCH } else { OffsetDateTime::now_utc() },
    }
}

#[test]
fn only_revoked_sessions_show_who_revoked_them_and_why() {
    let (dir, session) = record_test_journal();
    let (second, third, other, later) =
        (SessionId::new(), SessionId::new(), SessionId::new(), SessionId::new());
    let stranger = Caller { subject: "agent-8".to_owned(), ..test_caller() };
    append_records(
        dir.path(),
        vec![
            session_opened(second, test_caller()),
            session_opened(third, test_caller()),
            session_opened(other, stranger),
            session_revoked(Some(second), None, HOSTILE_TEXT),
            session_revoked(None, Some("corp/agent-7"), "left us"),
            session_opened(later, test_caller()),
            // The journal has no other record of this session.
            session_revoked(Some(SessionId::new()), None, "x"),
        ],
    );
    let (code, text) = capture_output(|out| list_sessions(dir.path(), true, out));
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let reason = |id: SessionId| {
        let sessions = listed["sessions"].as_array().unwrap();
        let one = sessions.iter().find(|one| one["session"] == id.to_string()).unwrap();
        one["revocation"]["reason"].as_str().map(str::to_owned)
    };
    assert_eq!((code, listed["sessions"].as_array().unwrap().len()), (0, 5));
    for id in [session, third] {
        assert_eq!(reason(id).as_deref(), Some("left us"));
    }
    // The first revocation counts.
    assert_eq!(reason(second).as_deref(), Some(HOSTILE_TEXT));
    assert_eq!((reason(other), reason(later)), (None, None));
    let (_code, text) = capture_output(|out| show_session(dir.path(), &second.to_string(), false, out));
    assert!(text.contains("revoked     1970-01-01 00:00:00 UTC by corp/ann: a\\u{1b}[2J"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    let (_code, text) = capture_output(|out| show_session(dir.path(), &other.to_string(), false, out));
    assert!(!text.contains("revoked"), "{text}");
}

#[test]
fn a_replay_prints_each_exchange_and_waits_between_them() {
    let (dir, session) = record_test_journal();
    let mut waits = Vec::new();
    let mut out = Vec::new();
    let id = session.to_string();
    let code = replay_session(dir.path(), &id, |gap| waits.push(gap), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!((code, waits.len()), (0, 1), "two exchanges have one pause between them: {text}");
    let (first, second) = (text.find("s3:GetObject").unwrap(), text.find("s3:DeleteObject").unwrap());
    assert!(first < second && !text.contains('\u{1b}'), "{text}");
    for unknown in ["nonsense".to_owned(), SessionId::new().to_string()] {
        let (code, text) =
            capture_output(|out| replay_session(dir.path(), &unknown, |_gap| unreachable!(), out));
        assert_eq!(code, 1, "{text}");
    }
}

#[test]
fn a_replay_waits_as_long_as_the_time_between_two_exchanges() {
    let (dir, session) = record_test_journal();
    let mut detail = history::read_session(durward_journal::read_journal(dir.path()), session, usize::MAX);
    let first = detail.exchanges[0].clone();
    let after = |seconds| ExchangeHistory {
        first_recorded: first.first_recorded.map(|at| at + Duration::from_secs(seconds)),
        ..first.clone()
    };
    // The last one was recorded before its neighbour, and the one without a time is not waited for.
    let untimed = ExchangeHistory { first_recorded: None, ..first.clone() };
    detail.exchanges = [after(0), after(90), after(90), after(89), untimed].into();
    let mut waits = Vec::new();
    sessions::replay_exchanges(&detail, |wait| waits.push(wait.as_secs()), &mut Vec::new()).unwrap();
    assert_eq!(waits, [90, 0, 0, 0]);
}
