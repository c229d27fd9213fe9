//! Real processes: several gateways on one file, and one that is killed while it works.
//!
//! A child is this test binary, started again for one test that does nothing unless the variable below names a file.

use crate::stage::*;
use durward_approval::*;
use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

const FILE: &str = "DURWARD_TEST_APPROVALS";

fn start(test: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn in_child() -> Option<std::sync::Arc<Approvals>> {
    let path = PathBuf::from(std::env::var_os(FILE)?);
    Some(open(&path, &Hand::new()).await)
}

/// One line to the parent, past the capture of the test harness.
fn report(word: &str, ask: &Ask) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nreport {word} {}", ask.id).unwrap();
    out.flush().unwrap();
}

fn reports(child: &mut Child) -> impl Iterator<Item = (String, AskId)> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| {
        let (word, id) = line.strip_prefix("report ")?.split_once(' ')?;
        Some((word.to_owned(), id.parse().unwrap()))
    })
}

#[tokio::test]
async fn child_that_takes() {
    let Some(approvals) = in_child().await else { return };
    for number in 0..20 {
        let Some(grant) = take(&approvals, &deletion(number)).await else { continue };
        report("took", &approvals.get(grant.ask).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn processes_that_race_use_each_approval_once() {
    let stage = Stage::new().await;
    let ann = person("ann", &[ONCALL]);
    for number in 0..20 {
        let ask = stage.ask(&deletion(number)).await;
        stage.approve(&ask, &ann).await;
    }
    let path = file(stage.directory.path());
    let mut children: Vec<Child> = (0..4).map(|_| start("processes::child_that_takes", &path)).collect();
    let mut took: HashMap<AskId, usize> = HashMap::new();
    for child in &mut children {
        for (_word, id) in reports(child) {
            *took.entry(id).or_default() += 1;
        }
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(took.len(), 20, "each was used");
    assert!(took.values().all(|times| *times == 1), "and once: {took:?}");
}

#[tokio::test]
async fn child_that_works() {
    let Some(approvals) = in_child().await else { return };
    for number in 0..=255 {
        let ask = approvals.ask(deletion(number)).await.unwrap();
        report("pending", &ask);
        let ask = approvals.answer(ask.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await.unwrap();
        report("approved", &ask);
        take(&approvals, &deletion(number)).await.unwrap();
        report("used", &ask);
    }
}

#[tokio::test]
async fn what_a_killed_process_reported_is_there() {
    for stop in 10..16 {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path());
        let mut child = start("processes::child_that_works", &path);
        let mut reported: HashMap<AskId, State> = HashMap::new();
        let mut lines = reports(&mut child);
        for (word, id) in lines.by_ref().take(stop) {
            reported.insert(id, State::parse(&word).unwrap());
        }
        child.kill().unwrap();
        reported.extend(lines.map(|(word, id)| (id, State::parse(&word).unwrap())));
        child.wait().unwrap();
        let approvals = open(&path, &Hand::new()).await;
        let order = [State::Pending, State::Approved, State::Used];
        let step = |state: State| order.iter().position(|step| *step == state).unwrap();
        for (id, state) in reported {
            let found = approvals.get(id).await.unwrap().unwrap();
            // the step after the last report may have been on disk already
            assert!((step(state)..=step(state) + 1).contains(&step(found.state)), "{state:?} {found:?}");
            let passes = take(&approvals, &found.what).await.is_some();
            assert_eq!(passes, found.state == State::Approved);
            assert!(take(&approvals, &found.what).await.is_none());
        }
    }
}
