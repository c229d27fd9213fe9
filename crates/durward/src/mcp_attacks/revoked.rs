//! Sessions that are revoked while they are used. The revocation is made by another process on the same state, as another
//! replica would.

use super::stage::{Answer, GATE, Stage, call};
use durward_approval::Store;
use durward_core::SessionId;
use durward_identity::{Revocations, Revoked};
use durward_journal::Record;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// A revocation reaches every replica within a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(3);

async fn revoke(stage: &Stage, what: Revoked) {
    let store = Store::open(&stage.dir.path().join("data/state.db")).await.unwrap();
    let there = Revocations::open(store).await.unwrap();
    there.revoke(&what, "corp/ann", "secret reason", OffsetDateTime::now_utc()).await.unwrap();
}

/// The session that was opened last, and by whom revocations were put on record.
async fn recorded(stage: &Stage) -> (SessionId, Vec<String>) {
    stage.running.flush().await.unwrap();
    let (mut session, mut revoked) = (None, Vec::new());
    for entry in durward_journal::read(&stage.dir.path().join("data/journal")) {
        match entry.unwrap().record().unwrap() {
            Record::SessionOpened { session: opened, .. } => session = Some(opened),
            Record::SessionRevoked { by, .. } => revoked.push(by),
            _ => {}
        }
    }
    (session.expect("a session"), revoked)
}

async fn last_session(stage: &Stage) -> SessionId {
    recorded(stage).await.0
}

fn read() -> Value {
    call("read", json!({ "path": "/srv/a" }))
}

async fn send(stage: &Stage, token: &str, session: &str, message: &Value) -> Answer {
    stage.send(stage.request(token, &[("mcp-session-id", session)], message.to_string())).await
}

/// Sends until it is refused; fails if that takes long.
async fn refused(stage: &Stage, token: &str, session: &str) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = send(stage, token, session, &read()).await;
        if answer.json()["error"].is_object() {
            return answer;
        }
        assert!(begun.elapsed() < SOON, "it is still served: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_refused_and_the_client_may_begin_another() {
    let stage = Stage::set().await;
    let token = stage.token("agent");
    let (one, other) = (stage.initialize(&token).await, stage.initialize(&token).await);
    let session = last_session(&stage).await;
    stage.server.answers_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    assert_eq!(send(&stage, &token, &other, &read()).await.status(), 200);
    revoke(&stage, Revoked::Session(session)).await;
    let answer = refused(&stage, &token, &other).await;
    // What MCP says of a session that is no more: the client must initialize again.
    assert_eq!(answer.status(), 404, "{}", answer.text());
    assert!(answer.text().contains("this session was revoked"), "{}", answer.text());
    assert!(!answer.text().contains("secret reason") && !answer.text().contains("corp/ann"));
    assert_eq!(answer.json()["id"], json!(7));
    let seen = stage.server.arrivals().len();
    assert_eq!(refused(&stage, &token, &other).await.status(), 404);
    assert_eq!(stage.server.arrivals().len(), seen, "nothing reached the server");
    assert_eq!(send(&stage, &token, &one, &read()).await.status(), 200, "another session of the same caller");
    let begun = stage.initialize(&token).await;
    stage.server.answers_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    assert_eq!(send(&stage, &token, &begun, &read()).await.status(), 200);
    assert!(stage.journal().await.contains("secret reason"), "the record says why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_and_another_is_not() {
    let stage = Stage::set().await;
    stage.server.answers_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let token = stage.token("agent");
    let other = stage.issuer.issue("agent", &["agents"], "durward", Duration::from_mins(50));
    let message = read();
    for token in [&token, &other] {
        assert_eq!(send(&stage, token, "", &message).await.status(), 200);
    }
    let session = last_session(&stage).await;
    revoke(&stage, Revoked::Session(session)).await;
    let answer = refused(&stage, &other, "").await;
    assert_eq!(answer.codes(), (401, 401), "{}", answer.text());
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    assert_eq!(send(&stage, &token, "", &message).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_caller_is_refused_with_every_session_and_every_token_of_before() {
    let stage = Stage::set().await;
    let token = stage.token("agent");
    let named = stage.initialize(&token).await;
    stage.server.answers_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let bystander = stage.token("bystander");
    for (token, session) in [(&token, named.as_str()), (&token, ""), (&bystander, "")] {
        assert_eq!(send(&stage, token, session, &read()).await.status(), 200);
    }
    revoke(&stage, Revoked::Caller("corp/agent".to_owned())).await;
    assert_eq!(refused(&stage, &token, &named).await.status(), 404);
    assert_eq!(refused(&stage, &token, "").await.status(), 401);
    assert_eq!(send(&stage, &bystander, "", &read()).await.status(), 200);
    // A token holds its time to the second: one of the next is good.
    let begun = Instant::now();
    while send(&stage, &stage.token("agent"), "", &read()).await.status() != 200 {
        assert!(begun.elapsed() < SOON, "a new token is not good");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_revoked_session_ends() {
    let stage = Stage::set().await;
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let first = format!("data: {progress}\n\n");
    let second = "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[],\"canary\":1}}\n\n";
    stage.server.answers_events(&[&first, GATE, second]);
    let token = stage.token("agent");
    let answer = async { stage.send(stage.request(&token, &[], read().to_string())).await };
    let revoking = async {
        while stage.server.arrivals().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let session = last_session(&stage).await;
        revoke(&stage, Revoked::Session(session)).await;
    };
    let (answer, ()) =
        tokio::time::timeout(2 * SOON, async { tokio::join!(answer, revoking) }).await.expect("it ends");
    stage.server.open_gate();
    let text = answer.text();
    assert!(text.contains("this session was revoked") && !text.contains("canary"), "{text}");
    assert_eq!(text.matches("\"error\"").count(), 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_of_a_revoked_session_ends_and_the_ask_stays() {
    let stage = Stage::holding(Duration::from_mins(1)).await;
    let token = stage.token("agent");
    let message = call("pay", json!({ "amount": 1 }));
    let held = async { stage.send(stage.request(&token, &[], message.to_string())).await };
    let revoking = async {
        while !stage.journal().await.contains("\"asked\"") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        revoke(&stage, Revoked::Session(last_session(&stage).await)).await;
        Instant::now()
    };
    let (answer, revoked) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(held, revoking) })
            .await
            .expect("it ends");
    assert!(revoked.elapsed() < SOON, "{:?}", revoked.elapsed());
    assert!(answer.text().contains("this session was revoked"), "{}", answer.text());
    assert!(stage.server.arrivals().is_empty());
    let begun = Instant::now();
    while recorded(&stage).await.1 != ["corp/ann"] {
        assert!(begun.elapsed() < SOON, "the revocation is not on record");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
