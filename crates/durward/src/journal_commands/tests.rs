//! What the commands print over journals that are whole, unfinished and damaged.

mod revoked;

use super::*;
use durward_core::{
    AccessLevel, Caller, CallerKind, Decision, Demand, Door, ExchangeId, Operation, Reason, Resource, Traits,
    Verdict,
};
use durward_journal::{Journal, LentScope, Masked, Options};
use std::net::{IpAddr, Ipv4Addr};
use tempfile::TempDir;
use time::OffsetDateTime;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What an attacker would like to reach a terminal: clear the screen, set the title, C1 CSI, turn the text around.
const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\n\r\u{202e}b\u{200b}\u{e0041}";

fn caller() -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: "agent-7".to_owned(),
        kind: CallerKind::Workload,
        groups: vec!["agents".to_owned()],
        act: vec!["maria".to_owned()],
    }
}

fn decision(verdict: Verdict, policy: &str) -> Decision {
    Decision {
        verdict,
        policies: vec![policy.to_owned()],
        reason: String::new(),
        policy_set: "0123456789abcdef".to_owned(),
        tags: durward_core::ResourceTags::new(),
        risk: None,
    }
}

fn operation(name: &str, key: &str) -> Operation {
    Operation {
        door: Door::Aws,
        service: "s3".to_owned(),
        name: name.to_owned(),
        demands: vec![Demand {
            action: format!("s3:{name}"),
            resource: Resource::Arn(format!("arn:aws:s3:::bucket/{key}")),
            access_level: AccessLevel::Read,
        }],
        parameters: serde_json::json!({ "Key": key }),
        sensitive: Vec::new(),
        region: None,
        account: None,
        traits: Traits::default(),
        uninspected: Vec::new(),
        body_sha256: None,
    }
}

fn outcome(exchange: ExchangeId) -> Record {
    Record::Outcome {
        exchange,
        status: 200,
        error_code: None,
        request_bytes: 0,
        response_bytes: 5,
        response_sha256: None,
        masked: vec![Masked { data_class: "email".to_owned(), count: 3 }],
        upstream_request_id: None,
        duration_us: 12_345,
        failure: None,
    }
}

/// A journal with one session (an allowed and a denied exchange, the latter hostile), and an exchange without a session.
fn recorded() -> (TempDir, SessionId) {
    let dir = tempfile::tempdir().unwrap();
    let session = SessionId::new();
    let (allowed, denied) = (ExchangeId::new(), ExchangeId::new());
    let intent = |session, exchange, key: &str| Record::Intent {
        exchange,
        session,
        caller: Some(caller()),
        door: Door::Aws,
        connection: "prod".to_owned(),
        operation: operation("GetObject", key),
        digest: "ab".repeat(32),
        decision: decision(Verdict::Allow, "reads"),
        source_address: HERE,
        user_agent: None,
        approval: None,
        link_to: None,
    };
    let records = [
        Record::SessionOpened {
            session,
            caller: caller(),
            connection: "prod".to_owned(),
            source_address: HERE,
            expires: OffsetDateTime::UNIX_EPOCH,
        },
        intent(Some(session), allowed, "fine"),
        intent(None, ExchangeId::new(), "elsewhere"),
        Record::Lent {
            exchange: allowed,
            access_key_id: "ASIAEXAMPLE".to_owned(),
            scope: LentScope::Operation,
            session_policy_sha256: None,
            expires: OffsetDateTime::UNIX_EPOCH,
        },
        outcome(allowed),
        Record::Refused {
            exchange: denied,
            session: Some(session),
            caller: Some(caller()),
            door: Door::Aws,
            connection: Some("prod".to_owned()),
            operation: Some(operation("DeleteObject", HOSTILE)),
            decision: Some(decision(Verdict::Deny, "no-deletes")),
            reason: Reason::AccessDenied,
            message: format!("denied {HOSTILE}"),
            source_address: HERE,
        },
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(dir.path(), Options::default()).unwrap();
        for record in records {
            journal.record(record).await.unwrap();
        }
        journal.close().unwrap();
    });
    (dir, session)
}

fn printed(command: impl FnOnce(&mut dyn Write) -> io::Result<u8>) -> (u8, String) {
    let mut out = Vec::new();
    let code = command(&mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

fn segment(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("00000001.journal")
}

/// Flips a byte of the last record.
fn damage(dir: &TempDir) {
    let mut bytes = std::fs::read(segment(dir)).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    std::fs::write(segment(dir), bytes).unwrap();
}

fn cut_off(dir: &TempDir) {
    let file = std::fs::OpenOptions::new().write(true).open(segment(dir)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();
}

#[test]
fn verify_says_what_a_whole_journal_holds() {
    let (dir, _) = recorded();
    let (code, text) = printed(|out| verify(dir.path(), out));
    assert_eq!(code, DONE, "{text}");
    let head = durward_journal::verify(dir.path()).unwrap().link;
    for part in ["is as it was written", "segments    1", "records     6", &head] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn verify_names_the_first_bad_record() {
    let (dir, _) = recorded();
    damage(&dir);
    let broken = durward_journal::verify(dir.path()).unwrap_err();
    let (code, text) = printed(|out| verify(dir.path(), out));
    assert_eq!(code, REFUSED, "{text}");
    for part in
        ["is NOT", "00000001.journal", "record      6", "checksum", &format!("byte        {}", broken.offset)]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn verify_tells_an_unfinished_append_from_damage() {
    let (dir, _) = recorded();
    cut_off(&dir);
    let (code, text) = printed(|out| verify(dir.path(), out));
    assert_eq!(code, DONE, "{text}");
    assert!(text.contains("records     5") && text.contains("unfinished"), "{text}");
}

#[test]
fn no_journal_is_found_where_there_is_none_and_that_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (place, wanted) in [
        (dir.path().to_owned(), "a gateway that never started has none"),
        (dir.path().join("none"), "No such file"),
        (file, "Not a directory"),
    ] {
        let why = find(&place).unwrap_err();
        assert!(why.contains("there is no journal") && why.contains(wanted), "{why}");
    }
    let (journal, _) = recorded();
    assert_eq!(find(journal.path()), Ok(()));
    let data_dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(journal.path(), data_dir.path().join("journal")).unwrap();
    let why = find(data_dir.path()).unwrap_err();
    assert!(why.contains(&format!("there is one in {}/journal", data_dir.path().display())), "{why}");
}

#[test]
fn ls_lists_a_session_with_its_counts() {
    let (dir, session) = recorded();
    let (code, text) = printed(|out| sessions_ls(dir.path(), false, out));
    assert_eq!(code, DONE);
    let line = text.lines().find(|line| line.starts_with(&session.to_string())).unwrap();
    assert!(line.contains("corp/agent-7 for maria") && line.contains("prod"), "{line}");
    let counts: Vec<_> = line.split_whitespace().rev().take(2).collect();
    assert_eq!(counts, ["1", "1"], "{line}");
    assert!(text.contains("without a session: 1 allowed, 0 denied"), "{text}");
}

#[test]
fn show_prints_each_exchange_on_one_line() {
    let (dir, session) = recorded();
    let (code, text) = printed(|out| sessions_show(dir.path(), &session.to_string(), false, out));
    assert_eq!(code, DONE);
    let lines: Vec<_> = text.lines().filter(|line| line.contains(" s3:")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0]
            .ends_with("allow  s3:GetObject arn:aws:s3:::bucket/fine  200  12.3 ms  masked 3  policy reads"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains("deny   s3:DeleteObject") && lines[1].contains("policy no-deletes"),
        "{}",
        lines[1]
    );
    assert!(!text.contains("elsewhere"), "another session's exchange");
}

/// The ids of the exchanges as the JSON of a session names them.
fn exchanges(dir: &TempDir, session: SessionId) -> Vec<String> {
    let (_, text) = printed(|out| sessions_show(dir.path(), &session.to_string(), true, out));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let exchanges = value["exchanges"].as_array().unwrap().iter();
    exchanges.map(|one| one["exchange"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_exchange_is_shown_in_its_session_and_marked() {
    let (dir, session) = recorded();
    let [allowed, denied] = exchanges(&dir, session).try_into().unwrap();
    for (id, marked) in [(&allowed, "GetObject"), (&denied, "DeleteObject")] {
        let (code, text) = printed(|out| sessions_show(dir.path(), id, false, out));
        assert_eq!(code, DONE);
        assert!(text.starts_with(&format!("session     {session}")), "{text}");
        let lines: Vec<_> = text.lines().filter(|line| line.contains(" s3:")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        for line in lines {
            assert_eq!(line.starts_with("> "), line.contains(marked), "{line}");
        }
        let (code, text) = printed(|out| sessions_show(dir.path(), id, true, out));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, value["exchange"].as_str()), (DONE, Some(id.as_str())));
        assert_eq!(value["session"]["session"], session.to_string());
        assert_eq!(value["exchanges"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn an_exchange_without_a_session_is_shown_alone() {
    let (dir, _session) = recorded();
    let alone = durward_journal::read(dir.path()).find_map(|entry| match entry.unwrap().record().unwrap() {
        Record::Intent { exchange, session: None, .. } => Some(exchange.to_string()),
        _ => None,
    });
    let alone = alone.unwrap();
    let (code, text) = printed(|out| sessions_show(dir.path(), &alone, false, out));
    assert_eq!(code, DONE);
    assert!(text.contains("belongs to no session") && text.contains("bucket/elsewhere"), "{text}");
    assert!(!text.contains("bucket/fine"), "{text}");
    let (_, text) = printed(|out| sessions_show(dir.path(), &alone, true, out));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(value["session"].is_null() && value["exchange"] == alone.as_str(), "{text}");
    assert_eq!(value["exchanges"].as_array().unwrap().len(), 1);
}

#[test]
fn no_recorded_character_reaches_the_terminal_as_a_command() {
    let (dir, session) = recorded();
    let id = session.to_string();
    let outputs = [
        printed(|out| sessions_ls(dir.path(), false, out)).1,
        printed(|out| sessions_ls(dir.path(), true, out)).1,
        printed(|out| sessions_show(dir.path(), &id, false, out)).1,
        printed(|out| sessions_show(dir.path(), &id, true, out)).1,
        printed(|out| sessions_show(dir.path(), HOSTILE, false, out)).1,
    ];
    for text in outputs {
        let bad = text.chars().find(|character| {
            (character.is_control() && *character != '\n')
                || ['\u{202e}', '\u{200b}', '\u{e0041}'].contains(character)
        });
        assert_eq!(bad, None, "{text:?}");
    }
}

#[test]
fn json_holds_exactly_what_was_recorded() {
    let (dir, session) = recorded();
    let (code, text) = printed(|out| sessions_show(dir.path(), &session.to_string(), true, out));
    assert_eq!(code, DONE);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["session"]["allowed"], 1);
    assert_eq!(value["exchanges"][0]["outcome"]["masked"][0]["count"], 3);
    assert_eq!(value["exchanges"][0]["lent"]["scope"], "operation");
    assert_eq!(value["exchanges"][1]["operation"]["parameters"]["Key"], HOSTILE);
    let (_, text) = printed(|out| sessions_ls(dir.path(), true, out));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["sessions"][0]["denied"], 1);
    assert_eq!(value["without_session"]["allowed"], 1);
    assert_eq!(value.get("broken"), None);
}

#[test]
fn a_damaged_journal_is_shown_up_to_the_damage_and_not_as_whole() {
    let (dir, session) = recorded();
    damage(&dir);
    let id = session.to_string();
    let (code, text) = printed(|out| sessions_show(dir.path(), &id, false, out));
    assert_eq!(code, REFUSED);
    assert!(text.contains("GetObject") && text.contains("NOT as it was written"), "{text}");
    assert!(!text.contains("DeleteObject"), "{text}");
    let (code, text) = printed(|out| sessions_ls(dir.path(), true, out));
    assert_eq!(code, REFUSED);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(value["broken"].as_str().unwrap().contains("record 6"), "{text}");
}

#[test]
fn sessions_are_listed_while_an_append_is_unfinished() {
    let (dir, session) = recorded();
    cut_off(&dir);
    let (code, text) = printed(|out| sessions_ls(dir.path(), false, out));
    assert_eq!(code, DONE);
    assert!(text.contains(&session.to_string()));
}

#[test]
fn an_unknown_session_is_not_found() {
    let (dir, _) = recorded();
    let other = SessionId::new().to_string();
    assert_eq!(printed(|out| sessions_show(dir.path(), &other, false, out)).0, REFUSED);
    let (code, text) = printed(|out| sessions_show(dir.path(), &other, true, out));
    assert_eq!(code, REFUSED);
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["session"].is_null());
    assert_eq!(printed(|out| sessions_show(dir.path(), "7", false, out)).0, REFUSED);
}
