//! Real processes: several gateways on one file, and one that is killed while it works.
//!
//! A child is this test binary, started again for one ignored test. Without the variable below, which names a store, such a
//! test does nothing.

use crate::test_ledger::*;
use durward_approval::*;
use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const DATABASE_PATH_VARIABLE: &str = "DURWARD_TEST_APPROVALS";

fn start_child(test: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(DATABASE_PATH_VARIABLE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn open_in_child() -> Option<std::sync::Arc<Approvals>> {
    let path = PathBuf::from(std::env::var_os(DATABASE_PATH_VARIABLE)?);
    Some(open_approvals(&path, &TestClock::new()).await)
}

/// Writes one line to the parent, around the output capture of the test harness.
fn report_state(word: &str, request: &ApprovalRequest) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nreport {word} {}", request.id).unwrap();
    out.flush().unwrap();
}

fn child_reports(child: &mut Child) -> impl Iterator<Item = (String, ApprovalRequestId)> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| {
        let (word, id) = line.strip_prefix("report ")?.split_once(' ')?;
        Some((word.to_owned(), id.parse().unwrap()))
    })
}

#[tokio::test]
#[ignore = "runs in a child process of another test"]
async fn child_that_consumes() {
    let Some(approvals) = open_in_child().await else { return };
    for number in 0..20 {
        let Some(grant) = consume_grant(&approvals, &delete_bucket_request(number)).await else { continue };
        report_state("consumed", &approvals.get(grant.approval_request).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn racing_processes_consume_each_grant_once() {
    let ledger = TestLedger::new().await;
    let ann = approver("ann", &[ONCALL_GROUP]);
    for number in 0..20 {
        let request = ledger.request_approval(&delete_bucket_request(number)).await;
        ledger.approve(&request, &ann).await;
    }
    let path = database_path(ledger.directory.path());
    let mut children: Vec<Child> =
        (0..4).map(|_| start_child("processes::child_that_consumes", &path)).collect();
    let mut consumed: HashMap<ApprovalRequestId, usize> = HashMap::new();
    for child in &mut children {
        for (_word, id) in child_reports(child) {
            *consumed.entry(id).or_default() += 1;
        }
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(consumed.len(), 20, "each grant was consumed");
    assert!(consumed.values().all(|times| *times == 1), "and only once: {consumed:?}");
}

#[tokio::test]
#[ignore = "runs in a child process of another test"]
async fn child_that_runs_requests() {
    let Some(approvals) = open_in_child().await else { return };
    for number in 0..=255 {
        let request = approvals.request_approval(delete_bucket_request(number)).await.unwrap();
        report_state("pending", &request);
        let request = approvals
            .cast_vote(request.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
            .await
            .unwrap();
        report_state("approved", &request);
        consume_grant(&approvals, &delete_bucket_request(number)).await.unwrap();
        report_state("consumed", &request);
    }
}

#[tokio::test]
async fn what_a_killed_process_reported_is_there() {
    for stop in 10..16 {
        let directory = tempfile::tempdir().unwrap();
        let path = database_path(directory.path());
        let mut child = start_child("processes::child_that_runs_requests", &path);
        let mut reported: HashMap<ApprovalRequestId, ApprovalState> = HashMap::new();
        let mut lines = child_reports(&mut child);
        for (word, id) in lines.by_ref().take(stop) {
            reported.insert(id, ApprovalState::parse(&word).unwrap());
        }
        child.kill().unwrap();
        reported.extend(lines.map(|(word, id)| (id, ApprovalState::parse(&word).unwrap())));
        child.wait().unwrap();
        let approvals = open_approvals(&path, &TestClock::new()).await;
        let order = [ApprovalState::Pending, ApprovalState::Approved, ApprovalState::Consumed];
        let step = |state: ApprovalState| order.iter().position(|step| *step == state).unwrap();
        for (id, state) in reported {
            let found = approvals.get(id).await.unwrap().unwrap();
            // The step after the last report may already have been on disk.
            assert!((step(state)..=step(state) + 1).contains(&step(found.state)), "{state:?} {found:?}");
            let passes = consume_grant(&approvals, &found.details).await.is_some();
            assert_eq!(passes, found.state == ApprovalState::Approved);
            assert!(consume_grant(&approvals, &found.details).await.is_none());
        }
    }
}
