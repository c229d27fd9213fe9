//! What was acknowledged survives `kill -9` at any moment.
//!
//! The test starts itself as a child that appends and prints each acknowledged mark, kills it in the middle, and looks.

use durward_core::ExchangeId;
use durward_journal::{Journal, Options, Record, read, verify};
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

const DIR: &str = "DURWARD_TEST_JOURNAL";
const FIRST: &str = "DURWARD_TEST_FIRST_MARK";

fn options() -> Options {
    Options { segment_bytes: 40_000, ..Options::default() }
}

fn outcome(mark: u64) -> Record {
    Record::Outcome {
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
    let Some(dir) = std::env::var_os(DIR) else { return };
    let journal = Arc::new(Journal::open(Path::new(&dir), options()).expect("the journal opens"));
    // Each round has marks of its own, so that a lost record cannot hide behind an older one.
    let first: u64 = std::env::var(FIRST).expect("set by the parent").parse().expect("a number");
    let tasks: Vec<_> = (0..8)
        .map(|lane| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                for mark in (first + lane..).step_by(8) {
                    if mark % 3 == 0 {
                        journal.record(outcome(u64::MAX)).await.expect("accepted");
                    }
                    journal.record_durable(outcome(mark)).await.expect("durable");
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
            .env(DIR, dir.path())
            .env(FIRST, (u64::from(round) * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut seen = 0;
        // The libtest harness prints lines of its own, also before ours on the same line.
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
        // The last line may be cut off: a number's beginning is not that number.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        for line in rest.into_iter().rev().skip(1) {
            take(line);
        }
        child.wait().expect("it ended");

        let verified = verify(dir.path()).expect("nothing is broken");
        let found: BTreeSet<u64> = read(dir.path())
            .map(|entry| match entry.expect("proved").record().expect("known") {
                Record::Outcome { request_bytes, .. } => request_bytes,
                other => panic!("not written by the child: {other:?}"),
            })
            .collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?} of {}", acknowledged.len());
        Journal::open(dir.path(), options()).expect("recovers").close().expect("closes");
        assert_eq!(verify(dir.path()).expect("whole").records, verified.records);
        assert_eq!(verify(dir.path()).expect("whole").tail, None);
    }
    assert!(acknowledged.len() > 300, "the child appended: {}", acknowledged.len());
}
