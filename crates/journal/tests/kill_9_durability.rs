//! Acknowledged records survive `kill -9` at any time.
//!
//! The test starts itself as a child that appends and prints each acknowledged mark, kills it, and reads the journal. The page
//! cache survives the child: power cuts are the subject of the unit tests over `TestDisk`.

use durward_core::ExchangeId;
use durward_journal::{Journal, JournalOptions, JournalRecord, read_journal, verify_journal};
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

const JOURNAL_DIR_VAR: &str = "DURWARD_TEST_JOURNAL";
const FIRST_MARK_VAR: &str = "DURWARD_TEST_FIRST_MARK";

fn small_segment_options() -> JournalOptions {
    JournalOptions { max_segment_bytes: 40_000, ..JournalOptions::default() }
}

fn sample_outcome(mark: u64) -> JournalRecord {
    JournalRecord::Outcome {
        exchange: ExchangeId::new(),
        status: 200,
        error_code: None,
        request_bytes: mark,
        response_bytes: 0,
        response_sha256: None,
        masked: Vec::new(),
        upstream_request_id: Some("x".repeat((mark % 700) as usize)),
        duration_us: 1,
        failure: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of acknowledged_records_survive_kill_9, which starts it"]
async fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(JOURNAL_DIR_VAR) else { return };
    let journal =
        Arc::new(Journal::open(Path::new(&dir), small_segment_options()).expect("the journal opens"));
    // Each round has marks of its own, so that an older record cannot hide a lost one.
    let first: u64 = std::env::var(FIRST_MARK_VAR).expect("set by the parent").parse().expect("a number");
    let tasks: Vec<_> = (0..8)
        .map(|lane| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                for mark in (first + lane..).step_by(8) {
                    if mark % 3 == 0 {
                        journal.append(sample_outcome(u64::MAX)).await.expect("accepted");
                    }
                    journal.append_durable(sample_outcome(mark)).await.expect("durable");
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {mark}").expect("the parent reads");
                    out.flush().expect("the parent reads");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("appends until the end");
    }
}

#[test]
fn acknowledged_records_survive_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acknowledged = BTreeSet::new();
    for round in 0..8_u32 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_that_appends_until_it_is_killed", "--ignored", "--nocapture"])
            .env(JOURNAL_DIR_VAR, dir.path())
            .env(FIRST_MARK_VAR, (u64::from(round) * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut seen = 0;
        // The test harness prints text of its own, also in front of ours on the same line.
        let mut take = |line: String| {
            if let Some((_, mark)) = line.split_once("acknowledged ")
                && let Ok(mark) = mark.parse::<u64>()
            {
                acknowledged.insert(mark);
                seen += 1;
            }
            seen
        };
        for line in lines.by_ref() {
            if take(line.expect("text")) > 37 * (round + 1) {
                break;
            }
        }
        child.kill().expect("SIGKILL");
        // The last line may be cut off, and a prefix of a number is another number.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        for line in rest.into_iter().rev().skip(1) {
            take(line);
        }
        child.wait().expect("it ended");

        let verified = verify_journal(dir.path()).expect("nothing is broken");
        let found: BTreeSet<u64> = read_journal(dir.path())
            .map(|entry| match entry.expect("proved").decode_record().expect("known") {
                JournalRecord::Outcome { request_bytes, .. } => request_bytes,
                other => panic!("not written by the child: {other:?}"),
            })
            .collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?} of {}", acknowledged.len());
        Journal::open(dir.path(), small_segment_options()).expect("recovers").close().expect("closes");
        assert_eq!(verify_journal(dir.path()).expect("whole").record_count, verified.record_count);
        assert_eq!(verify_journal(dir.path()).expect("whole").tail, None);
    }
    assert!(acknowledged.len() > 300, "the child appended: {}", acknowledged.len());
}
