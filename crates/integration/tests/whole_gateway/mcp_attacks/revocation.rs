//! Sessions that are revoked while they are used. The revocation is made by another process on the same state, as another
//! replica would.

use super::{start_gateway, start_with_hold};
use durward_approval::Store;
use durward_core::SessionId;
use durward_identity::{RevocationTarget, Revocations};
use durward_integration::{
    RESPONSE_GATE, TestGateway, TestResponse, initialize_request, tool_call, wait_until,
};
use durward_journal::JournalRecord;
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;

/// Less than [`HOLD`], so that a stream that ends in time was ended by the revocation.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);
const HOLD: Duration = Duration::from_mins(1);

async fn revoke_from_another_replica(gateway: &TestGateway, what: RevocationTarget) {
    let store = Store::open(&gateway.database_path()).await.unwrap();
    let there = Revocations::open(store).await.unwrap();
    there.revoke(&what, "people/ann", "secret reason", OffsetDateTime::now_utc()).await.unwrap();
}

/// The session that was opened last, and by whom revocations were put on record.
async fn journaled_revocations(gateway: &TestGateway) -> (SessionId, Vec<String>) {
    let (mut session, mut revoked) = (None, Vec::new());
    for record in gateway.journal_records().await {
        match record {
            JournalRecord::SessionOpened { session: opened, .. } => session = Some(opened),
            JournalRecord::SessionRevoked { by, .. } => revoked.push(by),
            _ => {}
        }
    }
    (session.expect("a session"), revoked)
}

async fn last_session(gateway: &TestGateway) -> SessionId {
    journaled_revocations(gateway).await.0
}

fn read_call() -> Value {
    tool_call("read", json!({ "path": "/srv/a" }))
}

async fn send_in_session(gateway: &TestGateway, token: &str, session: &str, message: &Value) -> TestResponse {
    gateway.send_mcp(gateway.mcp_request(token, &[("mcp-session-id", session)], message.to_string())).await
}

/// Sends a call again and again until it is refused.
async fn send_until_refused(gateway: &TestGateway, token: &str, session: &str) -> TestResponse {
    wait_until("the call is refused", || async {
        let response = send_in_session(gateway, token, session, &read_call()).await;
        response.json()["error"].is_object().then_some(response)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_refused_and_the_client_may_begin_another() {
    let gateway = start_gateway().await;
    let token = gateway.caller_token("agent");
    let (one, other) = (gateway.open_mcp_session(&token).await, gateway.open_mcp_session(&token).await);
    let session = last_session(&gateway).await;
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    assert_eq!(send_in_session(&gateway, &token, &other, &read_call()).await.status(), 200);
    revoke_from_another_replica(&gateway, RevocationTarget::Session(session)).await;
    let response = send_until_refused(&gateway, &token, &other).await;
    // What MCP says of a session that is no more: the client must initialize again.
    assert_eq!(response.status(), 404, "{}", response.text());
    assert!(response.text().contains("this session was revoked"), "{}", response.text());
    assert!(!response.text().contains("secret reason") && !response.text().contains("people/ann"));
    assert_eq!(response.json()["id"], json!(7));
    let seen = gateway.mcp_server.received_requests().len();
    assert_eq!(send_until_refused(&gateway, &token, &other).await.status(), 404);
    assert_eq!(gateway.mcp_server.received_requests().len(), seen, "nothing reached the server");
    assert_eq!(
        send_in_session(&gateway, &token, &one, &read_call()).await.status(),
        200,
        "another session of the same caller"
    );
    let begun = gateway.open_mcp_session(&token).await;
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    assert_eq!(send_in_session(&gateway, &token, &begun, &read_call()).await.status(), 200);
    assert!(gateway.journal_text().await.contains("secret reason"), "the record says why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_and_another_is_not() {
    let gateway = start_gateway().await;
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let token = gateway.caller_token("agent");
    let other = gateway.workload_issuer.issue_token("agent", &["agents"], "durward", Duration::from_mins(50));
    let message = read_call();
    for token in [&token, &other] {
        assert_eq!(send_in_session(&gateway, token, "", &message).await.status(), 200);
    }
    let session = last_session(&gateway).await;
    revoke_from_another_replica(&gateway, RevocationTarget::Session(session)).await;
    let response = send_until_refused(&gateway, &other, "").await;
    assert_eq!(response.status_and_code(), (401, 401), "{}", response.text());
    assert!(response.header("www-authenticate").contains("invalid_token"));
    assert_eq!(send_in_session(&gateway, &token, "", &message).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_caller_is_refused_with_every_session_and_every_token_of_before() {
    let gateway = start_gateway().await;
    let token = gateway.caller_token("agent");
    let named = gateway.open_mcp_session(&token).await;
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let bystander = gateway.caller_token("bystander");
    for (token, session) in [(&token, named.as_str()), (&token, ""), (&bystander, "")] {
        assert_eq!(send_in_session(&gateway, token, session, &read_call()).await.status(), 200);
    }
    revoke_from_another_replica(&gateway, RevocationTarget::Caller("work/agent".to_owned())).await;
    assert_eq!(send_until_refused(&gateway, &token, &named).await.status(), 404);
    assert_eq!(send_until_refused(&gateway, &token, "").await.status(), 401);
    // The old token must not open a session that is younger than the revocation.
    let initialize = initialize_request();
    let response = send_in_session(&gateway, &token, "", &initialize).await;
    assert_eq!((response.status(), response.header("mcp-session-id")), (401, ""), "{}", response.text());
    assert_eq!(send_in_session(&gateway, &bystander, "", &read_call()).await.status(), 200);
    // `iat` has whole seconds, so only a token of the next second is surely newer than the revocation.
    wait_until("a new token is accepted", || async {
        let response = send_in_session(&gateway, &gateway.caller_token("agent"), "", &read_call()).await;
        (response.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_revoked_session_ends() {
    let gateway = start_gateway().await;
    let progress =
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
    let first = format!("data: {progress}\n\n");
    let second = "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"content\":[],\"canary\":1}}\n\n";
    gateway.mcp_server.respond_events(&[&first, RESPONSE_GATE, second]);
    let token = gateway.caller_token("agent");
    let response =
        async { gateway.send_mcp(gateway.mcp_request(&token, &[], read_call().to_string())).await };
    let revoking = async {
        wait_until("the call reaches the server", || async { gateway.mcp_server.received_requests().pop() })
            .await;
        let session = last_session(&gateway).await;
        revoke_from_another_replica(&gateway, RevocationTarget::Session(session)).await;
    };
    let (response, ()) = tokio::time::timeout(STREAM_TIMEOUT, async { tokio::join!(response, revoking) })
        .await
        .expect("the stream ends");
    gateway.mcp_server.open_gate();
    let text = response.text();
    assert!(text.contains("this session was revoked") && !text.contains("canary"), "{text}");
    assert_eq!(text.matches("\"error\"").count(), 1, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_a_held_request_and_keeps_the_approval_request() {
    let gateway = start_with_hold(HOLD).await;
    let token = gateway.caller_token("agent");
    let message = tool_call("pay", json!({ "amount": 1 }));
    let held = async { gateway.send_mcp(gateway.mcp_request(&token, &[], message.to_string())).await };
    let revoking = async {
        gateway.wait_until_journaled("\"approval_requested\"", 1).await;
        revoke_from_another_replica(&gateway, RevocationTarget::Session(last_session(&gateway).await)).await;
    };
    let (response, ()) = tokio::time::timeout(STREAM_TIMEOUT, async { tokio::join!(held, revoking) })
        .await
        .expect("the held request ends");
    assert!(response.text().contains("this session was revoked"), "{}", response.text());
    assert!(gateway.mcp_server.received_requests().is_empty());
    wait_until("the revocation is journaled", || async {
        (journaled_revocations(&gateway).await.1 == ["people/ann"]).then_some(())
    })
    .await;
}
