//! Open windows: everybody sees them, whoever may answer closes them, and what is closed lets nothing pass.

use super::stage::{Answer, Browser, Stage, new_ask};
use durward_approval::{Ask, NewAsk, State};
use http::{Method, StatusCode};
use std::time::Duration;

/// An ask that one person can answer.
fn small() -> NewAsk {
    let mut new = new_ask();
    new.requirements[0].quorum = 1;
    new
}

async fn passes(stage: &Stage, ask: &Ask) -> bool {
    let what = &ask.what;
    let taken = stage.approvals.take(
        &what.caller,
        &what.connection,
        &what.operation,
        &what.digest,
        &what.requirements,
    );
    taken.await.unwrap().is_some()
}

async fn open(alice: &mut Browser<'_>, ask: &Ask) -> Answer {
    let answer = alice.answer(ask, "answer=approve_window&minutes=15").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    answer
}

/// The section of the queue.
async fn section(browser: &mut Browser<'_>) -> String {
    let page = browser.get("/").await.body;
    let (_before, rest) = page.split_once("<section id=\"windows\"").unwrap();
    rest.split_once("</section>").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_queue_lists_the_windows_that_are_open() {
    let stage = Stage::set().await;
    let mut alice = stage.person("alice", "oncall").await;
    assert!(section(&mut alice).await.contains("None. A window is"));
    let ask = stage.ask_of(small()).await;
    open(&mut alice, &ask).await;
    assert!(passes(&stage, &ask).await && passes(&stage, &ask).await);
    let mut once = small();
    once.digest = [9; 32];
    let once = stage.ask_of(once).await;
    // The window covers it, so that it is not asked about.
    assert_eq!(once.id, ask.id);
    let mut carol = stage.person("carol", "finance").await;
    let seen = section(&mut carol).await;
    for wanted in [
        "Open windows <span class=\"count\">1</span>",
        "corp/agent-7 for boss",
        "through prod (123456789012, eu-west-1)",
        "s3:DeleteBucket",
        "arn:aws:s3:::payroll",
        ">2 times<",
        ">corp/alice<",
        &format!("href=\"/asks/{}\"", ask.id),
    ] {
        assert!(seen.contains(wanted), "{wanted}: {seen}");
    }
    assert!(!seen.contains("#answering"), "carol closes nothing: {seen}");
    assert!(section(&mut alice).await.contains(&format!("href=\"/asks/{}#answering\"", ask.id)));
    let page = carol.get("/").await.body;
    assert_eq!(page.matches(&format!("href=\"/asks/{}\"", ask.id)).count(), 1, "in one list: {page}");
    stage.pass(Duration::from_mins(16));
    assert!(section(&mut carol).await.contains("None. A window is"));
    assert!(!passes(&stage, &ask).await);
}

#[tokio::test]
async fn an_approval_for_once_is_no_window() {
    let stage = Stage::set().await;
    let mut alice = stage.person("alice", "oncall").await;
    let ask = stage.ask_of(small()).await;
    assert_eq!(alice.answer(&ask, "answer=approve_once").await.status, StatusCode::SEE_OTHER);
    assert!(section(&mut alice).await.contains("None. A window is"));
    assert!(alice.get(&format!("/asks/{}", ask.id)).await.body.contains("Take the approval back"));
}

#[tokio::test]
async fn who_may_answer_closes_a_window_and_nothing_more_passes() {
    let stage = Stage::set().await;
    let mut alice = stage.person("alice", "oncall").await;
    let ask = stage.ask_of(small()).await;
    let opened = open(&mut alice, &ask).await;
    assert!(alice.get(opened.location()).await.body.contains("Your approval is recorded."));
    assert!(passes(&stage, &ask).await);
    let mut carol = stage.person("carol", "finance").await;
    let page = carol.get(&format!("/asks/{}", ask.id)).await.body;
    assert!(page.contains("window open") && !page.contains("Close the window"), "{page}");
    let refused = carol.answer(&ask, "answer=deny&reason=no").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    let mut bob = stage.person("bob", "oncall").await;
    let page = bob.get(&format!("/asks/{}", ask.id)).await.body;
    assert!(page.contains("Close the window") && page.contains("To close this window"), "{page}");
    let path = format!("/asks/{}/answer", ask.id);
    let forged = bob.send(Method::POST, &path, "csrf=forged&answer=deny&reason=no").await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    assert!(passes(&stage, &ask).await, "it is open still");
    let closed = bob.answer(&ask, "answer=deny&reason=it+went+too+far").await;
    assert_eq!(closed.status, StatusCode::SEE_OTHER, "{}", closed.body);
    assert!(!passes(&stage, &ask).await);
    let now = stage.approvals.get(ask.id).await.unwrap().unwrap();
    assert_eq!((now.state, now.history.last().unwrap().kind.as_str()), (State::Denied, "withdrawn"));
    let page = bob.get(closed.location()).await.body;
    for wanted in [
        "The window is closed.",
        "The window was closed before its time by <strong>corp/bob</strong>: <q>it went too far</q>. It was used 2 times",
        "<strong>window opened</strong>",
        "<strong>window closed</strong> by corp/bob",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert_eq!(page.matches("approved for a time").count(), 1, "each answer once: {page}");
    let alices = alice.get(opened.location()).await.body;
    assert!(!alices.contains("Your approval is recorded."), "it holds no more: {alices}");
    assert!(section(&mut alice).await.contains("None. A window is"));
}

#[tokio::test]
async fn a_notice_is_shown_for_a_minute_and_to_nobody_else() {
    let stage = Stage::set().await;
    let ask = stage.ask().await;
    let mut alice = stage.person("alice", "oncall").await;
    let answered = alice.answer(&ask, "answer=approve_once").await;
    let path = answered.location();
    assert!(alice.get(path).await.body.contains("Your approval is recorded."));
    let mut bob = stage.person("bob", "oncall").await;
    assert!(!bob.get(path).await.body.contains("Your approval is recorded."), "he gave none");
    let lie = format!("/asks/{}?done=deny", ask.id);
    assert!(!alice.get(&lie).await.body.contains("class=\"notice\""), "she did not deny");
    stage.pass(Duration::from_mins(2));
    assert!(!alice.get(path).await.body.contains("Your approval is recorded."));
}
