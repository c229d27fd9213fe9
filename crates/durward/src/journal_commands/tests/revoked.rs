//! Sessions that were revoked, and sessions that are replayed.

use super::*;

/// Adds records to a journal.
fn append(dir: &Path, records: Vec<Record>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(dir, Options::default()).unwrap();
        for record in records {
            journal.record(record).await.unwrap();
        }
        journal.close().unwrap();
    });
}

fn opened(session: SessionId, caller: Caller) -> Record {
    Record::SessionOpened {
        session,
        caller,
        connection: "prod".to_owned(),
        source_address: HERE,
        expires: OffsetDateTime::UNIX_EPOCH,
    }
}

fn revoked(session: Option<SessionId>, caller: Option<&str>, reason: &str) -> Record {
    Record::SessionRevoked {
        session,
        caller: caller.map(str::to_owned),
        by: "corp/ann".to_owned(),
        reason: reason.to_owned(),
        at: OffsetDateTime::UNIX_EPOCH,
    }
}

#[test]
fn a_revoked_session_says_by_whom_and_why_and_no_other_does() {
    let (dir, session) = recorded();
    let (second, third, other, later) =
        (SessionId::new(), SessionId::new(), SessionId::new(), SessionId::new());
    let stranger = Caller { subject: "agent-8".to_owned(), ..caller() };
    append(
        dir.path(),
        vec![
            opened(second, caller()),
            opened(third, caller()),
            opened(other, stranger),
            revoked(Some(second), None, HOSTILE),
            revoked(None, Some("corp/agent-7"), "left us"),
            opened(later, caller()),
            // Of a session that this journal never saw.
            revoked(Some(SessionId::new()), None, "x"),
        ],
    );
    let (code, text) = printed(|out| sessions_ls(dir.path(), true, out));
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let reason = |id: SessionId| {
        let sessions = listed["sessions"].as_array().unwrap();
        let one = sessions.iter().find(|one| one["session"] == id.to_string()).unwrap();
        one["revoked"]["reason"].as_str().map(str::to_owned)
    };
    assert_eq!((code, listed["sessions"].as_array().unwrap().len()), (0, 5));
    for id in [session, third] {
        assert_eq!(reason(id).as_deref(), Some("left us"));
    }
    // The first revocation stands.
    assert_eq!(reason(second).as_deref(), Some(HOSTILE));
    assert_eq!((reason(other), reason(later)), (None, None));
    let (_code, text) = printed(|out| sessions_show(dir.path(), &second.to_string(), false, out));
    assert!(text.contains("revoked     1970-01-01 00:00:00Z by corp/ann: a\\u{1b}[2J"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    let (_code, text) = printed(|out| sessions_show(dir.path(), &other.to_string(), false, out));
    assert!(!text.contains("revoked"), "{text}");
}

#[test]
fn a_replay_waits_between_the_exchanges_as_long_as_it_was() {
    let (dir, session) = recorded();
    let mut waits = Vec::new();
    let mut out = Vec::new();
    let id = session.to_string();
    let code = sessions_replay(dir.path(), &id, |gap| waits.push(gap), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!((code, waits.len()), (0, 1), "two exchanges have one pause between them: {text}");
    assert!(waits[0] < Duration::from_mins(1), "{waits:?}");
    let (first, second) = (text.find("s3:GetObject").unwrap(), text.find("s3:DeleteObject").unwrap());
    assert!(first < second && !text.contains('\u{1b}'), "{text}");
    for unknown in ["nonsense".to_owned(), SessionId::new().to_string()] {
        let (code, text) = printed(|out| sessions_replay(dir.path(), &unknown, |_gap| unreachable!(), out));
        assert_eq!(code, 1, "{text}");
    }
}
