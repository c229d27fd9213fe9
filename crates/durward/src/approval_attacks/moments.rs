//! What holds at the moment of use: policy, connection, credential, time.

use super::stage::{POLICIES, Stage, put, until};
use crate::mcp_attacks::stage as mcp;
use durward_approval::{Answer, Filter, Person, State};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

const ASK: &str = "@approval(\"oncall\")";

fn stricter() -> Vec<(&'static str, String)> {
    let also = |text: &str| format!("{POLICIES}\n{text}");
    vec![
        (
            "a final forbid instead",
            POLICIES.replace(ASK, "").replace("@timeout(\"10m\") @on_timeout(\"queue\")", ""),
        ),
        (
            "a final forbid too",
            also("@id(\"never\") forbid (principal, action == Aws::Action::\"s3:PutObject\", resource);"),
        ),
        ("another group", POLICIES.replace(ASK, "@approval(\"security\")")),
        ("a higher quorum", POLICIES.replace(ASK, "@approval(\"oncall\") @quorum(\"2\")")),
        (
            "a second forbid that asks",
            also(
                "@id(\"second\") @approval(\"oncall\") @on_timeout(\"queue\") forbid (principal, action == Aws::Action::\"s3:PutObject\", resource);",
            ),
        ),
        ("another policy that asks instead", POLICIES.replace("@id(\"ask\")", "@id(\"other\")")),
        (
            "no permit any more",
            POLICIES.replace(
                "@id(\"work\") permit (principal, action,",
                "@id(\"work\") permit (principal, action == Aws::Action::\"s3:GetObject\",",
            ),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_judged_by_the_policies_of_its_use() {
    let stage = Stage::set().await;
    let agent = stage.agent("agent").await;
    let ask = stage.approved(&agent, &put("report")).await;
    for (what, policies) in stricter() {
        stage.policies(&policies);
        let answer = stage.send(&agent, &put("report")).await;
        assert_eq!((answer.status, stage.seen()), (403, 0), "{what}: {}", answer.text);
        assert_eq!(stage.get(ask.id).await.state, State::Approved, "{what}");
    }
    stage.policies(POLICIES);
    let answer = stage.send(&agent, &put("report")).await;
    assert_eq!((answer.status, stage.seen()), (200, 1), "as it was approved: {}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_a_request_is_held_counts() {
    let stage = Arc::new(Stage::holding(Duration::from_mins(5)).await);
    let closed = POLICIES.replace(
        "permit (principal, action == Action::\"connect\"",
        "forbid (principal, action == Action::\"connect\"",
    );
    let mut cases = stricter();
    cases.push(("the connection is closed", closed));
    for (number, (what, policies)) in cases.into_iter().enumerate() {
        stage.policies(POLICIES);
        let agent = stage.agent(&format!("agent-{number}")).await;
        let held = tokio::spawn({
            let stage = stage.clone();
            async move { stage.send(&agent, &put("report")).await }
        });
        let ask = stage.asked().await;
        stage.policies(&policies);
        stage.approve(ask.id, "ann").await;
        let answer = held.await.unwrap();
        assert_eq!((answer.status, stage.seen()), (403, 0), "{what}: {}", answer.text);
        assert_eq!(stage.get(ask.id).await.state, State::Approved, "{what}: not used");
    }

    stage.policies(POLICIES);
    let agent = stage.agent("agent").await;
    let held = tokio::spawn({
        let stage = stage.clone();
        async move { (stage.send(&agent, &put("report")).await, agent) }
    });
    let ask = stage.asked().await;
    stage.policies("permit (principal, action, resource);");
    stage.approve(ask.id, "ann").await;
    let (answer, agent) = held.await.unwrap();
    assert_eq!((answer.status, stage.seen()), (200, 1), "{}", answer.text);
    let needless = stage.get(ask.id).await;
    assert_eq!((needless.state, needless.uses), (State::Expired, 0), "it passed without the approval");
    stage.policies(POLICIES);
    let again = tokio::spawn({
        let stage = stage.clone();
        async move { stage.send(&agent, &put("report")).await }
    });
    assert_ne!(stage.asked().await.id, ask.id, "which is not good for the next one");
    again.abort();
    assert_eq!(stage.seen(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_ends_while_people_are_asked_is_no_longer_good() {
    let stage = Arc::new(Stage::holding(Duration::from_mins(5)).await);
    let agent = Arc::new(stage.agent_for(Duration::from_secs(5)));
    let held = tokio::spawn({
        let (stage, agent) = (stage.clone(), agent.clone());
        async move { stage.send(&agent, &put("report")).await }
    });
    let ask = stage.asked().await;
    until("the credential ends", || async { stage.is_over(&agent).then_some(()) }).await;
    stage.approve(ask.id, "ann").await;
    let answer = held.await.unwrap();
    assert!(
        answer.status >= 400 && answer.text.contains("expired while people were asked"),
        "{}",
        answer.text
    );
    assert_eq!((stage.seen(), stage.get(ask.id).await.state), (0, State::Approved));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_while_people_are_asked_is_no_longer_good() {
    let stage = Arc::new(mcp::Stage::holding(Duration::from_mins(5)).await);
    // As long as a token is accepted after its end, but for five seconds.
    let ends = OffsetDateTime::now_utc() - durward_identity::LEEWAY + Duration::from_secs(5);
    let token = stage.issuer.issue_claims(&json!({
        "iss": stage.issuer.url(), "sub": "agent", "aud": "durward", "groups": ["agents"],
        "exp": ends.unix_timestamp(),
    }));
    let held = tokio::spawn({
        let (stage, token) = (stage.clone(), token.clone());
        let message = mcp::call("pay", json!({"amount": 1}));
        async move { stage.send(stage.request(&token, &[], message.to_string())).await }
    });
    let approvals = &stage.running.rooms.approvals;
    let ask = until("somebody is asked", || async {
        approvals.list(Filter { states: vec![State::Pending], ..Filter::default() }).await.unwrap().pop()
    })
    .await;
    let verifier = &stage.running.rooms.verifier;
    until("the token ends", || async {
        verifier.verify(&token, OffsetDateTime::now_utc()).await.err().map(|_ended| ())
    })
    .await;
    let ann = Person {
        id: "people/ann".to_owned(),
        name: "Ann".to_owned(),
        subject: "ann".to_owned(),
        groups: vec!["oncall".to_owned()],
        as_of: OffsetDateTime::now_utc(),
    };
    approvals.answer(ask.id, &ann, Answer::ApproveOnce).await.unwrap();
    let answer = held.await.unwrap();
    assert!(
        answer.text().contains("expired while people were asked"),
        "{} {}",
        answer.status(),
        answer.text()
    );
    assert!(stage.server.arrivals().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_in_time_is_no_approval() {
    let stage = Stage::set().await;
    stage.policies(
        &POLICIES
            .replace("@timeout(\"10m\") @on_timeout(\"queue\")", "@timeout(\"1s\") @on_timeout(\"reject\")"),
    );
    let agent = stage.agent("agent").await;
    assert_eq!(stage.send(&agent, &put("report")).await.status, 403);
    let ask = until("its time is over", || async { stage.list(&[State::TimedOut]).await.pop() }).await;
    let token = stage.token("ann", &["oncall"]);
    let (status, said) = stage.answer(ask.id, &token, &json!({"answer": "approve_once"})).await;
    assert_eq!((status, &said["error"]), (409, &json!("not_pending")), "too late is too late");
    assert_eq!(stage.send(&agent, &put("report")).await.status, 403);
    assert_eq!(stage.seen(), 0);
}
