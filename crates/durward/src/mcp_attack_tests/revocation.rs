//! Sessions that are revoked while they are used. The revocation is made by another process on the same state, as another
//! replica would.

use super::test_gateway::{McpTestGateway, McpTestResponse, RESPONSE_GATE, tool_call};
use durward_approval::Store;
use durward_core::SessionId;
use durward_identity::{RevocationTarget, Revocations};
use durward_journal::JournalRecord;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// A revocation reaches every replica within a second; the rest is for a busy machine.
const REVOCATION_DEADLINE: Duration = Duration::from_secs(3);

async fn revoke_from_another_replica(stage: &McpTestGateway, what: RevocationTarget) {
    let store = Store::open(&stage.dir.path().join("data/state.db")).await.unwrap();
    let there = Revocations::open(store).await.unwrap();
    there.revoke(&what, "corp/ann", "secret reason", OffsetDateTime::now_utc()).await.unwrap();
}

/// The session that was opened last, and by whom revocations were put on record.
async fn journaled_revocations(stage: &McpTestGateway) -> (SessionId, Vec<String>) {
    stage.gateway.flush_journal().await.unwrap();
    let (mut session, mut revoked) = (None, Vec::new());
    for entry in durward_journal::read_journal(&stage.dir.path().join("data/journal")) {
        match entry.unwrap().decode_record().unwrap() {
            JournalRecord::SessionOpened { session: opened, .. } => session = Some(opened),
            JournalRecord::SessionRevoked { by, .. } => revoked.push(by),
            _ => {}
        }
    }
    (session.expect("a session"), revoked)
}

async fn last_session(stage: &McpTestGateway) -> SessionId {
    journaled_revocations(stage).await.0
}

fn read_call() -> Value {
    tool_call("read", json!({ "path": "/srv/a" }))
}

async fn send_in_session(
    stage: &McpTestGateway,
    token: &str,
    session: &str,
    message: &Value,
) -> McpTestResponse {
    stage.send_request(stage.build_request(token, &[("mcp-session-id", session)], message.to_string())).await
}

/// Sends until it is refused; fails if that takes long.
async fn send_until_refused(stage: &McpTestGateway, token: &str, session: &str) -> McpTestResponse {
    let begun = Instant::now();
    loop {
        let answer = send_in_session(stage, token, session, &read_call()).await;
        if answer.json()["error"].is_object() {
            return answer;
        }
        assert!(begun.elapsed() < REVOCATION_DEADLINE, "it is still served: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_refused_and_the_client_may_begin_another() {
    let stage = McpTestGateway::start().await;
    let token = stage.caller_token("agent");
    let (one, other) = (stage.open_session(&token).await, stage.open_session(&token).await);
    let session = last_session(&stage).await;
    stage.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    assert_eq!(send_in_session(&stage, &token, &other, &read_call()).await.status(), 200);
    revoke_from_another_replica(&stage, RevocationTarget::Session(session)).await;
    let answer = send_until_refused(&stage, &token, &other).await;
    // What MCP says of a session that is no more: the client must initialize again.
    assert_eq!(answer.status(), 404, "{}", answer.text());
    assert!(answer.text().contains("this session was revoked"), "{}", answer.text());
    assert!(!answer.text().contains("secret reason") && !answer.text().contains("corp/ann"));
    assert_eq!(answer.json()["id"], json!(7));
    let seen = stage.mcp_server.received_requests().len();
    assert_eq!(send_until_refused(&stage, &token, &other).await.status(), 404);
    assert_eq!(stage.mcp_server.received_requests().len(), seen, "nothing reached the server");
    assert_eq!(
        send_in_session(&stage, &token, &one, &read_call()).await.status(),
        200,
        "another session of the same caller"
    );
    let begun = stage.open_session(&token).await;
    stage.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    assert_eq!(send_in_session(&stage, &token, &begun, &read_call()).await.status(), 200);
    assert!(stage.read_journal().await.contains("secret reason"), "the record says why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_and_another_is_not() {
    let stage = McpTestGateway::start().await;
    stage.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let token = stage.caller_token("agent");
    let other = stage.issuer.issue_token("agent", &["agents"], "durward", Duration::from_mins(50));
    let message = read_call();
    for token in [&token, &other] {
        assert_eq!(send_in_session(&stage, token, "", &message).await.status(), 200);
    }
    let session = last_session(&stage).await;
    revoke_from_another_replica(&stage, RevocationTarget::Session(session)).await;
    let answer = send_until_refused(&stage, &other, "").await;
    assert_eq!(answer.status_and_code(), (401, 401), "{}", answer.text());
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    assert_eq!(send_in_session(&stage, &token, "", &message).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_caller_is_refused_with_every_session_and_every_token_of_before() {
    let stage = McpTestGateway::start().await;
    let token = stage.caller_token("agent");
    let named = stage.open_session(&token).await;
    stage.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let bystander = stage.caller_token("bystander");
    for (token, session) in [(&token, named.as_str()), (&token, ""), (&bystander, "")] {
        assert_eq!(send_in_session(&stage, token, session, &read_call()).await.status(), 200);
    }
    revoke_from_another_replica(&stage, RevocationTarget::Caller("corp/agent".to_owned())).await;
    assert_eq!(send_until_refused(&stage, &token, &named).await.status(), 404);
    assert_eq!(send_until_refused(&stage, &token, "").await.status(), 401);
    assert_eq!(send_in_session(&stage, &bystander, "", &read_call()).await.status(), 200);
    // A token holds its time to the second: one of the next is good.
    let begun = Instant::now();
    while send_in_session(&stage, &stage.caller_token("agent"), "", &read_call()).await.status() != 200 {
        assert!(begun.elapsed() < REVOCATION_DEADLINE, "a new token is not good");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_revoked_session_ends() {
    let stage = McpTestGateway::start().await;
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let first = format!("data: {progress}\n\n");
    let second = "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[],\"canary\":1}}\n\n";
    stage.mcp_server.respond_events(&[&first, RESPONSE_GATE, second]);
    let token = stage.caller_token("agent");
    let answer =
        async { stage.send_request(stage.build_request(&token, &[], read_call().to_string())).await };
    let revoking = async {
        while stage.mcp_server.received_requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let session = last_session(&stage).await;
        revoke_from_another_replica(&stage, RevocationTarget::Session(session)).await;
    };
    let (answer, ()) =
        tokio::time::timeout(2 * REVOCATION_DEADLINE, async { tokio::join!(answer, revoking) })
            .await
            .expect("it ends");
    stage.mcp_server.open_gate();
    let text = answer.text();
    assert!(text.contains("this session was revoked") && !text.contains("canary"), "{text}");
    assert_eq!(text.matches("\"error\"").count(), 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_a_held_request_and_keeps_the_approval_request() {
    let stage = McpTestGateway::start_with_hold(Duration::from_mins(1)).await;
    let token = stage.caller_token("agent");
    let message = tool_call("pay", json!({ "amount": 1 }));
    let held = async { stage.send_request(stage.build_request(&token, &[], message.to_string())).await };
    let revoking = async {
        while !stage.read_journal().await.contains("\"approval_requested\"") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        revoke_from_another_replica(&stage, RevocationTarget::Session(last_session(&stage).await)).await;
        Instant::now()
    };
    let (answer, revoked) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(held, revoking) })
            .await
            .expect("it ends");
    assert!(revoked.elapsed() < REVOCATION_DEADLINE, "{:?}", revoked.elapsed());
    assert!(answer.text().contains("this session was revoked"), "{}", answer.text());
    assert!(stage.mcp_server.received_requests().is_empty());
    let begun = Instant::now();
    while journaled_revocations(&stage).await.1 != ["corp/ann"] {
        assert!(begun.elapsed() < REVOCATION_DEADLINE, "the revocation is not on record");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
