//! How a client learns that its call needs an approval, and what it can do with that: the `requestState` is good for its caller,
//! server and call only, the page of the console comes as the client's revision has it, and a held call sends progress.

use super::{start_gateway, start_with_console};
use durward_approval::{ApprovalRequest, ApprovalState};
use durward_identity::RevocationTarget;
use durward_integration::{TestGateway, TestResponse, tool_call, wait_until};
use http::Request;
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const COMPLETE_RESULT: &str = r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","content":[]}}"#;
const LONG_HOLD: Duration = Duration::from_mins(1);

/// A call of 2026-07-28 by a client that opens URLs, with more parameters.
fn elicitation_call(tool: &str, arguments: Value, more: &Value) -> Value {
    let mut message = tool_call(tool, arguments);
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "url": {} } },
    });
    for (name, value) in more.as_object().unwrap() {
        message["params"][name] = value.clone();
    }
    message
}

fn payment_call(more: &Value) -> Value {
    elicitation_call("pay", json!({ "amount": 1 }), more)
}

async fn send_stateless_call(
    gateway: &TestGateway,
    token: &str,
    server: &str,
    message: &Value,
) -> TestResponse {
    let name = message["params"]["name"].as_str().unwrap();
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", name)];
    let mut request: Request<_> = gateway.mcp_request(token, &headers, message.to_string());
    *request.uri_mut() = format!("/mcp/{server}").parse().unwrap();
    gateway.send_mcp(request).await
}

/// The pending approval requests, as soon as there are as many.
async fn wait_for_requests(gateway: &TestGateway, count: usize) -> Vec<ApprovalRequest> {
    wait_until("the approval requests are pending", || async {
        let pending = gateway.list_approval_requests(&[ApprovalState::Pending]).await;
        (pending.len() >= count).then_some(pending)
    })
    .await
}

/// The `requestState` and the page of an elicitation.
fn elicitation_state_and_url(response: &TestResponse) -> (String, String) {
    let result = &response.json()["result"];
    assert_eq!(result["resultType"], "input_required", "{}", response.text());
    let params = &result["inputRequests"]["durward.approval"]["params"];
    assert_eq!((&params["mode"], params.get("elicitationId")), (&json!("url"), None));
    (result["requestState"].as_str().unwrap().to_owned(), params["url"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_good_for_its_caller_its_server_and_its_call_only() {
    let gateway = start_with_console(LONG_HOLD).await;
    gateway.mcp_server.respond_json(200, COMPLETE_RESULT);
    let (mine, other) = (gateway.caller_token("agent"), gateway.caller_token("other-agent"));
    let asked = send_stateless_call(&gateway, &mine, "files", &payment_call(&json!({}))).await;
    let (state, page) = elicitation_state_and_url(&asked);
    let [approval_request] = wait_for_requests(&gateway, 1).await.try_into().unwrap();
    assert_eq!(
        page,
        format!("http://{}/approvals/{}", gateway.running.console_address.unwrap(), approval_request.id)
    );
    assert!(!asked.text().contains("amount"), "no text of the caller");

    let back = |state: &str| json!({ "requestState": state, "inputResponses": { "durward.approval": { "action": "accept" } } });
    let flipped = {
        let (start, end) = state.split_at(state.len() / 2);
        let with = if end.starts_with('A') { "B" } else { "A" };
        format!("{start}{with}{}", &end[1..])
    };
    let more = elicitation_call("pay", json!({ "amount": 1_000 }), &back(&state));
    let elsewhere = elicitation_call("send", json!({ "amount": 1 }), &back(&state));
    for (token, server, message) in [
        (&other, "files", payment_call(&back(&state))),
        (&mine, "others", payment_call(&back(&state))),
        (&mine, "files", payment_call(&back(&flipped))),
        (&mine, "files", payment_call(&back(&state[..state.len() - 1]))),
        (&mine, "files", payment_call(&back("durward."))),
        (&mine, "files", payment_call(&back("durward.DWRDAAAAAAAAAAAAAAAA.AAAA"))),
        (&mine, "files", more),
        (&mine, "files", elsewhere),
    ] {
        let response = send_stateless_call(&gateway, token, server, &message).await;
        assert_eq!(response.status_and_code(), (400, -32_602), "{server} {message}: {}", response.text());
        assert_eq!(response.json()["id"], json!(7));
    }
    assert!(gateway.mcp_server.received_requests().is_empty());
    assert_eq!(wait_for_requests(&gateway, 1).await.len(), 1, "none of these made an approval request");

    gateway.approve_without_console(approval_request.id, "ann").await;
    // A newer token of the same caller is the same caller.
    let response =
        send_stateless_call(&gateway, &gateway.caller_token("agent"), "files", &payment_call(&back(&state)))
            .await;
    assert_eq!(response.json()["result"]["resultType"], "complete", "{}", response.text());
    let [arrival] = gateway.mcp_server.received_requests().try_into().unwrap();
    assert_eq!(arrival.json(), payment_call(&json!({})), "the server gets the call that was approved");

    let again = send_stateless_call(&gateway, &mine, "files", &payment_call(&back(&state))).await;
    assert_ne!(elicitation_state_and_url(&again).1, page, "a consumed approval needs a new request");
    assert_eq!(gateway.mcp_server.received_requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_held_and_the_elicitation_response_decides_nothing() {
    let gateway = start_with_console(LONG_HOLD).await;
    gateway.mcp_server.respond_json(200, COMPLETE_RESULT);
    let token = gateway.caller_token("agent");
    let (state, page) = elicitation_state_and_url(
        &send_stateless_call(&gateway, &token, "files", &payment_call(&json!({}))).await,
    );
    let [approval_request] = wait_for_requests(&gateway, 1).await.try_into().unwrap();
    assert_eq!(
        elicitation_state_and_url(
            &send_stateless_call(&gateway, &token, "files", &payment_call(&json!({}))).await
        )
        .1,
        page,
        "the same call gets the same page"
    );
    let accepted = json!({ "durward.approval": { "action": "accept", "content": { "approved": true } } });
    let back = payment_call(&json!({ "requestState": state, "inputResponses": accepted }));
    let held = send_stateless_call(&gateway, &token, "files", &back);
    let approving = async {
        gateway.wait_until_journaled("\"approval_requested\"", 3).await;
        assert!(gateway.mcp_server.received_requests().is_empty(), "it is not approved yet");
        gateway.approve_without_console(approval_request.id, "ann").await;
    };
    let both = async { tokio::join!(held, approving) };
    let (response, ()) =
        tokio::time::timeout(LONG_HOLD, Box::pin(both)).await.expect("the call is held and then executed");
    assert_eq!(response.json()["result"]["resultType"], "complete", "{}", response.text());
    assert_eq!(gateway.mcp_server.received_requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_servers_own_state_is_held_and_keeps_it() {
    let gateway = start_with_console(LONG_HOLD).await;
    gateway.mcp_server.respond_json(200, COMPLETE_RESULT);
    let message = payment_call(
        &json!({ "requestState": "state-1", "inputResponses": { "k": { "action": "accept" } } }),
    );
    let token = gateway.caller_token("agent");
    let held = send_stateless_call(&gateway, &token, "files", &message);
    let approving = async {
        let [approval_request] = wait_for_requests(&gateway, 1).await.try_into().unwrap();
        assert_eq!(approval_request.details.operation.uninspected_parts, ["requestState", "inputResponses"]);
        gateway.approve_without_console(approval_request.id, "ann").await;
    };
    let (response, ()) = tokio::join!(held, approving);
    assert_eq!(response.json()["result"]["resultType"], "complete", "{}", response.text());
    assert_eq!(gateway.mcp_server.received_requests()[0].json(), message);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_console_or_capability_there_is_no_elicitation() {
    let gateway = start_gateway().await;
    let response =
        send_stateless_call(&gateway, &gateway.caller_token("agent"), "files", &payment_call(&json!({})))
            .await;
    assert_eq!(response.status_and_code(), (200, 403), "{}", response.text());
    let gateway = start_with_console(Duration::from_millis(200)).await;
    let mut message = payment_call(&json!({}));
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({ "elicitation": { "form": {} } });
    let response = send_stateless_call(&gateway, &gateway.caller_token("agent"), "files", &message).await;
    assert_eq!(response.status_and_code(), (200, 403), "{}", response.text());
    let page = format!("(http://{}/approvals/", gateway.running.console_address.unwrap());
    assert!(response.text().contains(&page), "the plain error names the page: {}", response.text());
}

/// Opens a session at the gateway as a client of 2025-11-25 with these capabilities.
async fn open_session_with(gateway: &TestGateway, token: &str, elicitation: Value) -> String {
    gateway.open_mcp_session(token).await;
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "clientInfo": { "name": "test", "version": "1" },
        "capabilities": { "elicitation": elicitation } } });
    let response = gateway.send_mcp(gateway.mcp_request(token, &[], hello.to_string())).await;
    response.header("mcp-session-id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_with_the_page_is_for_sessions_that_can_use_it_and_once() {
    let gateway = start_with_console(Duration::from_secs(3)).await;
    let token = gateway.caller_token("agent");
    let (able, unable) = (
        open_session_with(&gateway, &token, json!({ "form": {}, "url": {} })).await,
        open_session_with(&gateway, &token, json!({})).await,
    );
    let arrival = gateway.mcp_server.received_requests().pop().unwrap();
    assert_eq!(arrival.json()["params"]["capabilities"], json!({}), "the server is not to approval_request");
    let before = gateway.mcp_server.received_requests().len();
    let approval_request = async |session: &str, version: &str, amount: u64| {
        let headers = [("mcp-session-id", session), ("mcp-protocol-version", version)];
        let message = tool_call("pay", json!({ "amount": amount })).to_string();
        gateway.send_mcp(gateway.mcp_request(&token, &headers, message)).await
    };
    let told = approval_request(&able, "2025-11-25", 1).await;
    assert_eq!(told.status_and_code(), (200, -32_042), "{}", told.text());
    let [made] = wait_for_requests(&gateway, 1).await.try_into().unwrap();
    let data = told.json()["error"]["data"].clone();
    assert_eq!(data["elicitations"][0]["elicitationId"], json!(made.id.to_string()));
    let page = format!("http://{}/approvals/{}", gateway.running.console_address.unwrap(), made.id);
    assert_eq!(
        (&data["elicitations"][0]["url"], &data["elicitations"][0]["mode"]),
        (&json!(page), &json!("url"))
    );
    let all = async {
        tokio::join!(
            approval_request(&able, "2025-11-25", 1),
            approval_request(&unable, "2025-11-25", 2),
            approval_request(&able, "2025-06-18", 3),
            approval_request("", "2025-11-25", 4)
        )
    };
    let (again, unable, older, sessionless) = all.await;
    for (response, what) in [
        (again, "again"),
        (unable, "unable"),
        (older, "an older revision"),
        (sessionless, "without a session"),
    ] {
        assert_eq!(response.status_and_code(), (200, 403), "{what}: {}", response.text());
        assert!(response.text().contains("it was not approved in time"), "{what}: {}", response.text());
    }
    assert_eq!(gateway.mcp_server.received_requests().len(), before);
}

/// Sends a call with a progress token, which is held, and returns the connection after the first progress notification.
async fn start_progress_call(gateway: &TestGateway, token: &str) -> (TcpStream, String) {
    start_call_with_meta(gateway, token, json!({ "progressToken": "p-1" })).await
}

async fn start_call_with_meta(gateway: &TestGateway, token: &str, meta: Value) -> (TcpStream, String) {
    let mut message = tool_call("pay", json!({ "amount": 1 }));
    message["params"]["_meta"] = meta;
    let body = message.to_string();
    let mut stream = TcpStream::connect(gateway.running.mcp_address.unwrap()).await.unwrap();
    let head = format!(
        "POST /mcp/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let listening = async {
        while !String::from_utf8_lossy(&heard).contains("notifications/progress") {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "{}", String::from_utf8_lossy(&heard));
        }
    };
    tokio::time::timeout(LONG_HOLD, listening).await.expect("a progress notification");
    let heard = String::from_utf8(heard).unwrap();
    assert!(
        heard.starts_with("HTTP/1.1 200") && heard.contains("content-type: text/event-stream"),
        "{heard}"
    );
    assert!(
        heard.contains(r#""progressToken":"p-1""#)
            && heard.contains("waiting for approval: approval request "),
        "{heard}"
    );
    (stream, heard)
}

/// The message in the last event before the stream ends.
async fn read_last_event(mut stream: TcpStream) -> Value {
    let mut rest = String::new();
    let reading = stream.read_to_string(&mut rest);
    tokio::time::timeout(LONG_HOLD, reading).await.expect("the end of the stream").unwrap();
    let line = rest.lines().rev().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    serde_json::from_str(line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_stream_ends_with_the_response_of_the_approved_call() {
    let gateway = start_with_console(LONG_HOLD).await;
    gateway.mcp_server.respond_json(200, COMPLETE_RESULT);
    let token = gateway.caller_token("agent");
    let (stream, _heard) = start_progress_call(&gateway, &token).await;
    assert!(gateway.mcp_server.received_requests().is_empty());
    let [approval_request] = wait_for_requests(&gateway, 1).await.try_into().unwrap();
    gateway.approve_without_console(approval_request.id, "ann").await;
    let response = read_last_event(stream).await;
    assert_eq!((&response["id"], &response["result"]["resultType"]), (&json!(7), &json!("complete")));
    assert_eq!(gateway.mcp_server.received_requests().len(), 1);
    let journal = gateway.journal_text().await;
    assert!(journal.contains("\"intent\"") && journal.contains("\"outcome\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_stream_ends_with_an_error_on_timeout() {
    let gateway = start_with_console(Duration::from_secs(3)).await;
    let (stream, _heard) = start_progress_call(&gateway, &gateway.caller_token("agent")).await;
    let refused = read_last_event(stream).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(7), &json!(403)));
    let message = refused["error"]["message"].as_str().unwrap();
    let page = format!("(http://{}/approvals/", gateway.running.console_address.unwrap());
    assert!(message.contains("it was not approved in time") && message.contains(&page), "{message}");
    assert!(gateway.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_a_progress_stream() {
    let gateway = start_with_console(LONG_HOLD).await;
    let token = gateway.caller_token("agent");
    let (stream, _heard) = start_progress_call(&gateway, &token).await;
    let [approval_request] = wait_for_requests(&gateway, 1).await.try_into().unwrap();
    let revoked = RevocationTarget::Caller(approval_request.details.caller.id());
    gateway
        .running
        .parts
        .revocations
        .revoke(&revoked, "people/ann", "enough", OffsetDateTime::now_utc())
        .await
        .unwrap();
    let refused = read_last_event(stream).await;
    assert_eq!(refused["id"], json!(7));
    assert!(refused["error"]["message"].as_str().unwrap().contains("revoked"), "{refused}");
    gateway.approve_without_console(approval_request.id, "ann").await;
    assert!(gateway.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_releases_the_permit_and_keeps_the_approval_request() {
    let gateway = start_with_console(LONG_HOLD).await;
    let available = gateway.running.approval_step.available_held_kib();
    let (stream, _heard) = start_progress_call(&gateway, &gateway.caller_token("agent")).await;
    assert!(gateway.running.approval_step.available_held_kib() < available);
    drop(stream);
    wait_until("the permit is released", || async {
        (gateway.running.approval_step.available_held_kib() == available).then_some(())
    })
    .await;
    let [approval_request] = wait_for_requests(&gateway, 1).await.try_into().unwrap();
    gateway.approve_without_console(approval_request.id, "ann").await;
    assert!(gateway.mcp_server.received_requests().is_empty(), "a call without a client is not executed");
}

#[tokio::test(flavor = "multi_thread")]
async fn meta_padding_counts_against_held_memory() {
    const PADDING_BYTES: usize = 4 << 20;
    let gateway = start_with_console(LONG_HOLD).await;
    let available = gateway.running.approval_step.available_held_kib();
    let meta = json!({ "progressToken": "p-1", "com.example/pad": "x".repeat(PADDING_BYTES) });
    let (_stream, _heard) = start_call_with_meta(&gateway, &gateway.caller_token("agent"), meta).await;
    let taken = available - gateway.running.approval_step.available_held_kib();
    assert!((PADDING_BYTES / 1024..PADDING_BYTES / 1024 + 128).contains(&taken), "{taken} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn meta_is_bound_by_the_approval() {
    let gateway = start_with_console(LONG_HOLD).await;
    gateway.mcp_server.respond_json(200, COMPLETE_RESULT);
    let token = gateway.caller_token("agent");
    let with = |mode: &str, attempt: &str| {
        let mut message = payment_call(&json!({}));
        let meta = message["params"]["_meta"].as_object_mut().unwrap();
        meta.insert("com.example/mode".to_owned(), json!(mode));
        for label in ["claudecode/toolUseId", "traceparent", "progressToken"] {
            meta.insert(label.to_owned(), json!(attempt));
        }
        message
    };
    let (_state, page) = elicitation_state_and_url(
        &send_stateless_call(&gateway, &token, "files", &with("dry-run", "1")).await,
    );
    let [approval_request] = wait_for_requests(&gateway, 1).await.try_into().unwrap();
    assert_eq!(
        approval_request.details.operation.uninspected_parts,
        ["_meta.com.example/mode"],
        "approvers see it"
    );
    gateway.approve_without_console(approval_request.id, "ann").await;

    for other in [with("for-real", "2"), payment_call(&json!({}))] {
        let asked = send_stateless_call(&gateway, &token, "files", &other).await;
        assert_ne!(elicitation_state_and_url(&asked).1, page, "it is another call");
    }
    assert!(gateway.mcp_server.received_requests().is_empty());
    let again = with("dry-run", "3");
    let response = send_stateless_call(&gateway, &token, "files", &again).await;
    assert_eq!(response.json()["result"]["resultType"], "complete", "{}", response.text());
    assert_eq!(gateway.mcp_server.received_requests()[0].json(), again, "the server gets it as it came");
}
