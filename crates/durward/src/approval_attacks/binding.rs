//! Approve A, run B.

use super::stage::{Shot, Stage, json_call, put};
use crate::mcp_attacks::stage as mcp;
use durward_approval::{Answer, Filter, Person, State};
use http::Method;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_one_request_lets_no_other_pass() {
    let stage = Stage::set().await;
    let agent = stage.agent("agent").await;
    let approved = put("report");
    let ask = stage.approved(&agent, &approved).await;
    let with = |name: &'static str, value: &'static str| {
        let mut shot = approved.clone();
        shot.headers.retain(|(known, _value)| *known != name);
        shot.headers.push((name, value));
        shot
    };
    let others: Vec<(&str, Shot)> = vec![
        ("another object", put("Report")),
        ("an object below", put("report/")),
        ("another bucket", Shot { path: "/other/report".to_owned(), ..approved.clone() }),
        ("a byte of the body", Shot { body: "onE", ..approved.clone() }),
        ("no body", Shot { body: "", ..approved.clone() }),
        ("a longer body", Shot { body: "one\n", ..approved.clone() }),
        ("a body that is not signed", Shot { unsigned_body: true, ..approved.clone() }),
        ("another region", Shot { region: "eu-west-1", ..approved.clone() }),
        ("another method", Shot { method: Method::DELETE, body: "", ..approved.clone() }),
        ("everybody may read it", with("x-amz-acl", "public-read")),
        (
            "a grant",
            with("x-amz-grant-full-control", "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\""),
        ),
        ("another owner", with("x-amz-expected-bucket-owner", "210987654321")),
        ("a redirect", with("x-amz-website-redirect-location", "https://evil.example")),
        ("another key", with("x-amz-server-side-encryption-aws-kms-key-id", "mine")),
        ("metadata", with("x-amz-meta-who", "me")),
        ("tags", with("x-amz-tagging", "critical=false")),
        ("another kind", with("content-type", "text/html")),
        ("a condition", with("if-none-match", "*")),
        (
            "a query that changes it",
            Shot { query: "versionId=1", method: Method::DELETE, body: "", ..approved.clone() },
        ),
    ];
    for (what, other) in &others {
        let answer = stage.send(&agent, other).await;
        assert!(answer.is_pending(), "{what}: {} {}", answer.status, answer.text);
        // Room for the next one: a caller has only so many asks.
        let token = stage.token("ann", &["oncall"]);
        let pending = stage.asked().await;
        let (status, said) =
            stage.answer(pending.id, &token, &json!({"answer": "deny", "reason": "B"})).await;
        assert_eq!(status, 200, "{said}");
    }
    for (what, other) in [
        ("a copy of something else", with("x-amz-copy-source", "/data/kept")),
        ("the object's tags", Shot { query: "tagging", ..approved.clone() }),
        ("the object's permissions", Shot { query: "acl", ..approved.clone() }),
    ] {
        let answer = stage.send(&agent, &other).await;
        assert!(answer.status >= 400, "{what}: {} {}", answer.status, answer.text);
    }
    assert_eq!((stage.seen(), stage.intents().await), (0, 0), "nothing went on");
    assert_eq!(stage.get(ask.id).await.state, State::Approved, "and nothing used the approval");
    let answer = stage.send(&agent, &approved).await;
    assert_eq!((answer.status, stage.seen()), (200, 1), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_json_body_is_bound_too() {
    let stage = Stage::set().await;
    let agent = stage.agent("agent").await;
    let target = "secretsmanager.DeleteSecret";
    let approved = json_call("secretsmanager", target, r#"{"SecretId":"db","RecoveryWindowInDays":30}"#);
    let ask = stage.approved(&agent, &approved).await;
    for (what, body) in [
        ("another secret", r#"{"SecretId":"dB","RecoveryWindowInDays":30}"#),
        ("another number", r#"{"SecretId":"db","RecoveryWindowInDays":7}"#),
        ("one less", r#"{"SecretId":"db"}"#),
        ("one more", r#"{"SecretId":"db","RecoveryWindowInDays":30,"ForceDeleteWithoutRecovery":true}"#),
        (
            "another account",
            r#"{"SecretId":"arn:aws:secretsmanager:us-east-1:210987654321:secret:db","RecoveryWindowInDays":30}"#,
        ),
    ] {
        let answer = stage.send(&agent, &Shot { body, ..approved.clone() }).await;
        assert!(answer.status >= 400 && !answer.text.contains("no longer"), "{what}: {}", answer.text);
        let pending = stage.asked().await;
        assert_ne!(pending.what.digest, ask.what.digest, "{what}");
        let token = stage.token("ann", &["oncall"]);
        stage.answer(pending.id, &token, &json!({"answer": "deny", "reason": "B"})).await;
    }
    let twice =
        Shot { body: r#"{"SecretId":"db","RecoveryWindowInDays":30,"SecretId":"x"}"#, ..approved.clone() };
    assert_eq!(stage.send(&agent, &twice).await.status, 400, "what two readers could read differently");
    let operation = Shot {
        headers: vec![("x-amz-target", "secretsmanager.PutSecretValue"), approved.headers[1]],
        ..approved.clone()
    };
    assert!(stage.send(&agent, &operation).await.status >= 400);
    assert_eq!((stage.seen(), stage.get(ask.id).await.state), (0, State::Approved));
    stage.send(&agent, &approved).await;
    assert_eq!((stage.seen(), stage.get(ask.id).await.state), (1, State::Used));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_caller_connection_or_principal_gets_nothing() {
    let stage = Stage::set().await;
    let agent = stage.agent("agent").await;
    let shot = put("report");
    let ask = stage.approved(&agent, &shot).await;
    let hour = Duration::from_hours(1);
    let acting = |act: serde_json::Value| {
        stage.work.issue_claims(&json!({
            "iss": stage.work.url(), "sub": "agent", "aud": "durward", "groups": ["agents"], "act": act,
            "exp": OffsetDateTime::now_utc().unix_timestamp() + 600,
        }))
    };
    let own = stage.work.issue("agent", &["agents"], "durward", hour);
    for (what, token, connection) in [
        ("another caller", stage.work.issue("other", &["agents"], "durward", hour), "prod"),
        ("one whose name differs in case", stage.work.issue("Agent", &["agents"], "durward", hour), "prod"),
        ("one of the same name elsewhere", stage.people.issue("agent", &["agents"], "durward", hour), "prod"),
        ("the same for somebody", acting(json!({"sub": "boss"})), "prod"),
        ("the same for somebody who acts", acting(json!({"sub": "boss", "act": {"sub": "chief"}})), "prod"),
        ("another connection", own.clone(), "other"),
    ] {
        let other = stage.sign_in(&token, connection).await;
        let answer = stage.send(&other, &shot).await;
        assert!(answer.is_pending(), "{what}: {} {}", answer.status, answer.text);
        let pending = stage.asked().await;
        assert_ne!(pending.id, ask.id, "{what}");
        let token = stage.token("ann", &["oncall"]);
        stage.answer(pending.id, &token, &json!({"answer": "deny", "reason": "B"})).await;
    }
    assert_eq!((stage.seen(), stage.get(ask.id).await.state), (0, State::Approved));
    // Another session of the same caller is the same caller.
    let again = stage.sign_in(&own, "prod").await;
    assert_eq!(stage.send(&again, &shot).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_approval_is_not_good_again() {
    let stage = Stage::set().await;
    let agent = stage.agent("agent").await;
    let ask = stage.approved(&agent, &put("report")).await;
    let request = stage.signed(&agent, &put("report"));
    assert_eq!(stage.pass(request.clone()).await.status, 200);
    let replayed = stage.pass(request).await;
    assert!(replayed.status == 403 && !replayed.is_pending(), "the very same bytes: {}", replayed.text);
    let again = stage.send(&agent, &put("report")).await;
    assert!(again.is_pending(), "the same signed anew: {}", again.text);
    assert_eq!((stage.seen(), stage.get(ask.id).await.uses), (1, 1));
    let third = stage.asked().await;
    assert_ne!(third.id, ask.id);
    let token = stage.token("bea", &["oncall"]);
    let (status, said) = stage.answer(ask.id, &token, &json!({"answer": "approve_once"})).await;
    assert_eq!((status, &said["error"]), (409, &json!("not_pending")), "nor does an answer revive it");
    assert!(stage.send(&agent, &put("report")).await.is_pending());
    assert_eq!(stage.seen(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_tool_call_is_for_its_arguments() {
    let stage = mcp::Stage::set().await;
    let policies = mcp::POLICIES
        .replace("@approval(\"oncall\")", "@approval(\"oncall\") @on_timeout(\"queue\") @timeout(\"10m\")");
    std::fs::write(stage.dir.path().join("policies/all.cedar"), policies).unwrap();
    stage.running.rooms.policies.reload().unwrap();
    stage.server.answers_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let approved = mcp::call("pay", json!({"to": "acme", "amount": 1}));
    let refused = stage.post(&approved).await;
    assert!(refused.text().contains("the approval is pending"), "{}", refused.text());
    let approvals = &stage.running.rooms.approvals;
    let pending = Filter { states: vec![State::Pending], ..Filter::default() };
    let ask = approvals.list(pending).await.unwrap().pop().unwrap();
    let ann = Person {
        id: "people/ann".to_owned(),
        name: "Ann".to_owned(),
        subject: "ann".to_owned(),
        groups: vec!["oncall".to_owned()],
        as_of: OffsetDateTime::now_utc(),
    };
    approvals.answer(ask.id, &ann, Answer::ApproveOnce).await.unwrap();
    for (what, other) in [
        ("another amount", mcp::call("pay", json!({"to": "acme", "amount": 2}))),
        ("a number as text", mcp::call("pay", json!({"to": "acme", "amount": "1"}))),
        ("one argument more", mcp::call("pay", json!({"to": "acme", "amount": 1, "now": true}))),
        ("one argument less", mcp::call("pay", json!({"to": "acme"}))),
        ("another tool's name", mcp::call("Pay", json!({"to": "acme", "amount": 1}))),
    ] {
        let answer = stage.post(&other).await;
        // The name is another tool, which nobody asks about: it passes as itself.
        if what == "another tool's name" {
            assert_eq!(stage.server.arrivals().last().unwrap().json()["params"]["name"], "Pay");
        } else {
            assert!(answer.text().contains("the approval is pending"), "{what}: {}", answer.text());
        }
    }
    let before = stage.server.arrivals().len();
    assert_eq!(approvals.get(ask.id).await.unwrap().unwrap().state, State::Approved);
    let other = stage.request(&stage.token("other"), &[], approved.to_string());
    assert!(stage.send(other).await.text().contains("the approval is pending"), "another caller");
    assert!(stage.post(&approved).await.text().contains("\"content\""));
    assert!(stage.post(&approved).await.text().contains("the approval is pending"), "once");
    assert_eq!(stage.server.arrivals().len(), before + 1);
}
