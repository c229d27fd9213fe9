//! What the commands print of journals that are intact, unfinished or corrupt.

mod revocation_and_replay;

use super::*;
use crate::terminal_text::TERMINAL_COLUMNS;
use durward_core::{
    AccessLevel, Caller, CallerKind, CredentialScope, Decision, ExchangeId, FrontEndKind, Operation,
    OperationTraits, RefusalReason, RequiredPermission, Resource, SessionId, Verdict,
};
use durward_journal::history::{self, ExchangeHistory};
use durward_journal::{Journal, JournalOptions, JournalRecord, MaskedCount};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tempfile::TempDir;
use time::OffsetDateTime;

const SOURCE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Clears the screen, sets the title, begins a C1 control sequence, reverses the text, and holds invisible characters.
const HOSTILE_TEXT: &str = "a\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\n\r\u{202e}b\u{200b}\u{e0041}";

fn test_caller() -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: "agent-7".to_owned(),
        kind: CallerKind::Workload,
        groups: vec!["agents".to_owned()],
        act: vec!["maria".to_owned()],
    }
}

fn test_decision(verdict: Verdict, policy: &str) -> Decision {
    Decision {
        verdict,
        policies: vec![policy.to_owned()],
        reason: String::new(),
        policy_set: "0123456789abcdef".to_owned(),
        tags: durward_core::ResourceTags::new(),
        risk: None,
    }
}

fn test_operation(name: &str, key: &str) -> Operation {
    Operation {
        front_end: FrontEndKind::Aws,
        service: "s3".to_owned(),
        name: name.to_owned(),
        required_permissions: vec![RequiredPermission {
            action: format!("s3:{name}"),
            resource: Resource::Arn(format!("arn:aws:s3:::bucket/{key}")),
            access_level: AccessLevel::Read,
        }],
        parameters: serde_json::json!({ "Key": key }),
        sensitive_pointers: Vec::new(),
        region: None,
        account: None,
        traits: OperationTraits::default(),
        uninspected_parts: Vec::new(),
        body_sha256: None,
    }
}

fn test_outcome(exchange: ExchangeId) -> JournalRecord {
    JournalRecord::Outcome {
        exchange,
        status: 200,
        error_code: None,
        request_bytes: 0,
        response_bytes: 5,
        response_sha256: None,
        masked: vec![MaskedCount { data_class: "email".to_owned(), count: 3 }],
        upstream_request_id: None,
        duration_us: 12_345,
        failure: None,
    }
}

/// A journal with one session of an allowed and a denied exchange, the latter with hostile text, and an exchange without a session.
fn record_test_journal() -> (TempDir, SessionId) {
    let dir = tempfile::tempdir().unwrap();
    let session = SessionId::new();
    let (allowed, denied) = (ExchangeId::new(), ExchangeId::new());
    let intent = |session, exchange, key: &str| JournalRecord::Intent {
        exchange,
        session,
        caller: Some(test_caller()),
        front_end: FrontEndKind::Aws,
        connection: "prod".to_owned(),
        operation: test_operation("GetObject", key),
        digest: "ab".repeat(32),
        decision: test_decision(Verdict::Allow, "reads"),
        source_address: SOURCE_ADDRESS,
        user_agent: None,
        grant: None,
        caused_by: None,
    };
    let records = [
        JournalRecord::SessionOpened {
            session,
            caller: test_caller(),
            connection: "prod".to_owned(),
            source_address: SOURCE_ADDRESS,
            expires: OffsetDateTime::UNIX_EPOCH,
        },
        intent(Some(session), allowed, "fine"),
        intent(None, ExchangeId::new(), "elsewhere"),
        JournalRecord::CredentialIssued {
            exchange: allowed,
            operation: "s3:GetObject".to_owned(),
            access_key_id: "ASIAEXAMPLE".to_owned(),
            scope: CredentialScope::Operation,
            session_policy_sha256: None,
            expires: OffsetDateTime::UNIX_EPOCH,
        },
        test_outcome(allowed),
        JournalRecord::Refused {
            exchange: denied,
            session: Some(session),
            caller: Some(test_caller()),
            front_end: FrontEndKind::Aws,
            connection: Some("prod".to_owned()),
            operation: Some(test_operation("DeleteObject", HOSTILE_TEXT)),
            omitted_parameters: None,
            decision: Some(test_decision(Verdict::Deny, "no-deletes")),
            reason: RefusalReason::AccessDenied,
            message: format!("denied {HOSTILE_TEXT}"),
            source_address: SOURCE_ADDRESS,
        },
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(dir.path(), JournalOptions::default()).unwrap();
        for record in records {
            journal.append(record).await.unwrap();
        }
        journal.close().unwrap();
    });
    (dir, session)
}

fn capture_output(command: impl FnOnce(&mut dyn Write) -> io::Result<u8>) -> (u8, String) {
    let mut out = Vec::new();
    let code = command(&mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

fn segment_path(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("00000001.journal")
}

/// Flips a byte of the last record.
fn corrupt_last_record(dir: &TempDir) {
    let mut bytes = std::fs::read(segment_path(dir)).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    std::fs::write(segment_path(dir), bytes).unwrap();
}

fn truncate_last_record(dir: &TempDir) {
    let file = std::fs::OpenOptions::new().write(true).open(segment_path(dir)).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();
}

#[test]
fn verify_summarizes_an_intact_journal() {
    let (dir, _) = record_test_journal();
    let (code, text) = capture_output(|out| print_verification(dir.path(), out));
    assert_eq!(code, EXIT_DONE, "{text}");
    let head = durward_journal::verify_journal(dir.path()).unwrap().head_link;
    for part in ["is intact", "segments    1", "records     6", &head] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn verify_names_the_first_bad_record() {
    let (dir, _) = record_test_journal();
    corrupt_last_record(&dir);
    let corruption = durward_journal::verify_journal(dir.path()).unwrap_err();
    let (code, text) = capture_output(|out| print_verification(dir.path(), out));
    assert_eq!(code, EXIT_REFUSED, "{text}");
    for part in [
        "is CORRUPT",
        "00000001.journal",
        "record         6",
        "checksum",
        &format!("byte           {}", corruption.offset),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn verify_distinguishes_an_unfinished_append_from_corruption() {
    let (dir, _) = record_test_journal();
    truncate_last_record(&dir);
    let (code, text) = capture_output(|out| print_verification(dir.path(), out));
    assert_eq!(code, EXIT_DONE, "{text}");
    assert!(text.contains("records     5") && text.contains("unfinished"), "{text}");
}

#[test]
fn a_missing_journal_is_not_reported_as_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (path, expected) in [
        (dir.path().to_owned(), "a gateway that never started has none"),
        (dir.path().join("none"), "No such file"),
        (file, "Not a directory"),
    ] {
        let error = require_journal(&path).unwrap_err().to_string();
        assert!(error.contains("there is no journal") && error.contains(expected), "{error}");
    }
    let (journal, _) = record_test_journal();
    assert!(require_journal(journal.path()).is_ok());
    let data_dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(journal.path(), data_dir.path().join("journal")).unwrap();
    let error = require_journal(data_dir.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("there is one in {}/journal", data_dir.path().display())), "{error}");
}

#[test]
fn ls_lists_a_session_with_its_counts() {
    let (dir, session) = record_test_journal();
    let (code, text) = capture_output(|out| list_sessions(dir.path(), false, out));
    assert_eq!(code, EXIT_DONE);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[1].starts_with(&session.to_string()), "{text}");
    let counts: Vec<_> = lines[1].split_whitespace().rev().take(2).collect();
    assert_eq!(counts, ["1", "1"], "{text}");
    assert_eq!(lines[2], "  corp/agent-7 for maria on prod");
    assert!(text.contains("without a session: 1 permitted, 0 refused"), "{text}");
    for line in lines {
        assert!(line.chars().count() <= TERMINAL_COLUMNS, "{line}");
    }
}

#[test]
fn show_prints_each_exchange_on_one_line() {
    let (dir, session) = record_test_journal();
    let (code, text) = capture_output(|out| show_session(dir.path(), &session.to_string(), false, out));
    assert_eq!(code, EXIT_DONE);
    let lines: Vec<_> = text.lines().filter(|line| line.contains(" s3:")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].ends_with(
            "  allowed            s3:GetObject arn:aws:s3:::bucket/fine  200  12.3 ms  masked 3  policy reads"
        ),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].contains("  denied             s3:DeleteObject") && lines[1].contains("policy no-deletes"),
        "{}",
        lines[1]
    );
    assert!(!text.contains("elsewhere"), "an exchange of no session is shown: {text}");
}

/// The ids of the exchanges as the JSON of a session names them.
fn exchange_ids(dir: &TempDir, session: SessionId) -> Vec<String> {
    let (_, text) = capture_output(|out| show_session(dir.path(), &session.to_string(), true, out));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let exchanges = value["exchanges"].as_array().unwrap().iter();
    exchanges.map(|one| one["exchange"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_exchange_is_shown_in_its_session_and_marked() {
    let (dir, session) = record_test_journal();
    let [allowed, denied] = exchange_ids(&dir, session).try_into().unwrap();
    for (id, marked) in [(&allowed, "GetObject"), (&denied, "DeleteObject")] {
        let (code, text) = capture_output(|out| show_session(dir.path(), id, false, out));
        assert_eq!(code, EXIT_DONE);
        assert!(text.starts_with(&format!("session     {session}")), "{text}");
        let lines: Vec<_> = text.lines().filter(|line| line.contains(" s3:")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        for line in lines {
            assert_eq!(line.starts_with("> "), line.contains(marked), "{line}");
        }
        let (code, text) = capture_output(|out| show_session(dir.path(), id, true, out));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, value["exchange"].as_str()), (EXIT_DONE, Some(id.as_str())));
        assert_eq!(value["session"]["session"], session.to_string());
        assert_eq!(value["exchanges"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn an_exchange_without_a_session_is_shown_alone() {
    let (dir, _session) = record_test_journal();
    let alone = durward_journal::read_journal(dir.path()).find_map(|entry| {
        match entry.unwrap().decode_record().unwrap() {
            JournalRecord::Intent { exchange, session: None, .. } => Some(exchange.to_string()),
            _ => None,
        }
    });
    let alone = alone.unwrap();
    let (code, text) = capture_output(|out| show_session(dir.path(), &alone, false, out));
    assert_eq!(code, EXIT_DONE);
    assert!(text.contains("belongs to no session") && text.contains("bucket/elsewhere"), "{text}");
    assert!(!text.contains("bucket/fine"), "{text}");
    let (_, text) = capture_output(|out| show_session(dir.path(), &alone, true, out));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(value["session"].is_null() && value["exchange"] == alone.as_str(), "{text}");
    assert_eq!(value["exchanges"].as_array().unwrap().len(), 1);
}

#[test]
fn no_recorded_character_reaches_the_terminal_as_a_command() {
    let (dir, session) = record_test_journal();
    let id = session.to_string();
    let outputs = [
        capture_output(|out| list_sessions(dir.path(), false, out)).1,
        capture_output(|out| list_sessions(dir.path(), true, out)).1,
        capture_output(|out| show_session(dir.path(), &id, false, out)).1,
        capture_output(|out| show_session(dir.path(), &id, true, out)).1,
        capture_output(|out| show_session(dir.path(), HOSTILE_TEXT, false, out)).1,
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
    let (dir, session) = record_test_journal();
    let (code, text) = capture_output(|out| show_session(dir.path(), &session.to_string(), true, out));
    assert_eq!(code, EXIT_DONE);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["session"]["counts"]["allowed"], 1);
    assert_eq!(value["exchanges"][0]["outcome"]["masked"][0]["count"], 3);
    assert_eq!(value["exchanges"][0]["issued_credential"]["scope"], "operation");
    assert_eq!(value["exchanges"][1]["operation"]["parameters"]["Key"], HOSTILE_TEXT);
    let (_, text) = capture_output(|out| list_sessions(dir.path(), true, out));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["sessions"][0]["counts"]["denied"], 1);
    assert_eq!(value["without_session"]["allowed"], 1);
    assert_eq!(value["journal_scan"], serde_json::json!({ "newer_records": 0 }));
}

#[test]
fn a_corrupt_journal_is_shown_up_to_the_corruption() {
    let (dir, session) = record_test_journal();
    corrupt_last_record(&dir);
    let id = session.to_string();
    let (code, text) = capture_output(|out| show_session(dir.path(), &id, false, out));
    assert_eq!(code, EXIT_REFUSED);
    assert!(text.contains("GetObject") && text.contains("the journal is CORRUPT"), "{text}");
    assert!(!text.contains("DeleteObject"), "{text}");
    let (code, text) = capture_output(|out| list_sessions(dir.path(), true, out));
    assert_eq!(code, EXIT_REFUSED);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(value["journal_scan"]["corruption"].as_str().unwrap().contains("record 6"), "{text}");
}

#[test]
fn sessions_are_listed_while_an_append_is_unfinished() {
    let (dir, session) = record_test_journal();
    truncate_last_record(&dir);
    let (code, text) = capture_output(|out| list_sessions(dir.path(), false, out));
    assert_eq!(code, EXIT_DONE);
    assert!(text.contains(&session.to_string()));
}

#[test]
fn an_unknown_session_is_not_found() {
    let (dir, _) = record_test_journal();
    let other = SessionId::new().to_string();
    assert_eq!(capture_output(|out| show_session(dir.path(), &other, false, out)).0, EXIT_REFUSED);
    let (code, text) = capture_output(|out| show_session(dir.path(), &other, true, out));
    assert_eq!(code, EXIT_REFUSED);
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["session"].is_null());
    assert_eq!(capture_output(|out| show_session(dir.path(), "7", false, out)).0, EXIT_REFUSED);
}
