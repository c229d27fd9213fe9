//! What a client is told while people are asked, and what it can make of that: a state is good for its caller, server and call, the
//! page comes in the way of the client's revision, and who is held hears of it until there is an answer.

use super::test_gateway::{McpTestGateway, McpTestResponse, tool_call};
use durward_approval::{
    ApprovalRequest, ApprovalRequestFilter, ApprovalState, Approver, VoteChoice as Given,
};
use durward_identity::RevocationTarget;
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
    stage: &McpTestGateway,
    token: &str,
    server: &str,
    message: &Value,
) -> McpTestResponse {
    let name = message["params"]["name"].as_str().unwrap();
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", name)];
    let mut request: Request<_> = stage.build_request(token, &headers, message.to_string());
    *request.uri_mut() = format!("/mcp/{server}").parse().unwrap();
    stage.send_request(request).await
}

/// The pending asks, once there are as many.
async fn wait_for_requests(stage: &McpTestGateway, many: usize) -> Vec<ApprovalRequest> {
    let looking = async {
        loop {
            let filter = ApprovalRequestFilter {
                states: vec![ApprovalState::Pending],
                ..ApprovalRequestFilter::default()
            };
            let found = stage.gateway.parts.approvals.list(filter).await.unwrap();
            if found.len() >= many {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG_HOLD, looking).await.expect("people are asked")
}

async fn approve_request(stage: &McpTestGateway, ask: &ApprovalRequest) {
    let ann = Approver {
        id: "corp/ann".to_owned(),
        name: "Ann".to_owned(),
        subject: "ann".to_owned(),
        groups: vec!["oncall".to_owned()],
        groups_as_of: OffsetDateTime::now_utc(),
    };
    stage.gateway.parts.approvals.cast_vote(ask.id, &ann, Given::ApproveOnce).await.unwrap();
}

/// The state and the page of a question.
fn elicitation_state_and_url(answer: &McpTestResponse) -> (String, String) {
    let result = &answer.json()["result"];
    assert_eq!(result["resultType"], "input_required", "{}", answer.text());
    let params = &result["inputRequests"]["durward.approval"]["params"];
    assert_eq!((&params["mode"], params.get("elicitationId")), (&json!("url"), None));
    (result["requestState"].as_str().unwrap().to_owned(), params["url"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_good_for_its_caller_its_server_and_its_call_only() {
    let stage = McpTestGateway::start_with_console(LONG_HOLD).await;
    stage.mcp_server.respond_json(200, COMPLETE_RESULT);
    let (mine, other) = (stage.caller_token("agent"), stage.caller_token("other-agent"));
    let asked = send_stateless_call(&stage, &mine, "files", &payment_call(&json!({}))).await;
    let (state, page) = elicitation_state_and_url(&asked);
    let [ask] = wait_for_requests(&stage, 1).await.try_into().unwrap();
    assert_eq!(page, format!("http://{}/approvals/{}", stage.gateway.console_address.unwrap(), ask.id));
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
        let answer = send_stateless_call(&stage, token, server, &message).await;
        assert_eq!(answer.status_and_code(), (400, -32_602), "{server} {message}: {}", answer.text());
        assert_eq!(answer.json()["id"], json!(7));
    }
    assert!(stage.mcp_server.received_requests().is_empty());
    assert_eq!(wait_for_requests(&stage, 1).await.len(), 1, "nobody was asked about any of these");

    approve_request(&stage, &ask).await;
    // A newer token of the same caller is the same caller.
    let answer =
        send_stateless_call(&stage, &stage.caller_token("agent"), "files", &payment_call(&back(&state)))
            .await;
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{}", answer.text());
    let [arrival] = stage.mcp_server.received_requests().try_into().unwrap();
    assert_eq!(arrival.json(), payment_call(&json!({})), "the server gets the call that people saw");

    let again = send_stateless_call(&stage, &mine, "files", &payment_call(&back(&state))).await;
    assert_ne!(elicitation_state_and_url(&again).1, page, "what was used up is asked anew");
    assert_eq!(stage.mcp_server.received_requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_held_and_the_elicitation_response_decides_nothing() {
    let stage = McpTestGateway::start_with_console(LONG_HOLD).await;
    stage.mcp_server.respond_json(200, COMPLETE_RESULT);
    let token = stage.caller_token("agent");
    let (state, page) = elicitation_state_and_url(
        &send_stateless_call(&stage, &token, "files", &payment_call(&json!({}))).await,
    );
    let [ask] = wait_for_requests(&stage, 1).await.try_into().unwrap();
    assert_eq!(
        elicitation_state_and_url(
            &send_stateless_call(&stage, &token, "files", &payment_call(&json!({}))).await
        )
        .1,
        page,
        "asked again, told again"
    );
    let accepted = json!({ "durward.approval": { "action": "accept", "content": { "approved": true } } });
    let back = payment_call(&json!({ "requestState": state, "inputResponses": accepted }));
    let held = send_stateless_call(&stage, &token, "files", &back);
    let approving = async {
        while stage.read_journal().await.matches("\"approval_requested\"").count() < 3 {
            tokio::task::yield_now().await;
        }
        assert!(stage.mcp_server.received_requests().is_empty(), "nobody approved it");
        approve_request(&stage, &ask).await;
    };
    let both = async { tokio::join!(held, approving) };
    let (answer, ()) =
        tokio::time::timeout(LONG_HOLD, Box::pin(both)).await.expect("the call is held and then executed");
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{}", answer.text());
    assert_eq!(stage.mcp_server.received_requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_servers_own_state_is_held_and_keeps_it() {
    let stage = McpTestGateway::start_with_console(LONG_HOLD).await;
    stage.mcp_server.respond_json(200, COMPLETE_RESULT);
    let message = payment_call(
        &json!({ "requestState": "state-1", "inputResponses": { "k": { "action": "accept" } } }),
    );
    let token = stage.caller_token("agent");
    let held = send_stateless_call(&stage, &token, "files", &message);
    let approving = async {
        let [ask] = wait_for_requests(&stage, 1).await.try_into().unwrap();
        assert_eq!(ask.details.operation.uninspected_parts, ["requestState", "inputResponses"]);
        approve_request(&stage, &ask).await;
    };
    let (answer, ()) = tokio::join!(held, approving);
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{}", answer.text());
    assert_eq!(stage.mcp_server.received_requests()[0].json(), message);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_console_or_capability_there_is_no_elicitation() {
    let stage = McpTestGateway::start().await;
    let answer =
        send_stateless_call(&stage, &stage.caller_token("agent"), "files", &payment_call(&json!({}))).await;
    assert_eq!(answer.status_and_code(), (200, 403), "{}", answer.text());
    let stage = McpTestGateway::start_with_console(Duration::from_millis(200)).await;
    let mut message = payment_call(&json!({}));
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({ "elicitation": { "form": {} } });
    let answer = send_stateless_call(&stage, &stage.caller_token("agent"), "files", &message).await;
    assert_eq!(answer.status_and_code(), (200, 403), "{}", answer.text());
    let page = format!("(http://{}/approvals/", stage.gateway.console_address.unwrap());
    assert!(answer.text().contains(&page), "the plain error names the page: {}", answer.text());
}

/// Opens a session at the gateway as a client of 2025-11-25 with these capabilities.
async fn open_session_with(stage: &McpTestGateway, token: &str, elicitation: Value) -> String {
    stage.open_session(token).await;
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "clientInfo": { "name": "test", "version": "1" },
        "capabilities": { "elicitation": elicitation } } });
    let answer = stage.send_request(stage.build_request(token, &[], hello.to_string())).await;
    answer.header("mcp-session-id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_with_the_page_is_for_sessions_that_can_use_it_and_once() {
    let stage = McpTestGateway::start_with_console(Duration::from_secs(3)).await;
    let token = stage.caller_token("agent");
    let (able, unable) = (
        open_session_with(&stage, &token, json!({ "form": {}, "url": {} })).await,
        open_session_with(&stage, &token, json!({})).await,
    );
    let arrival = stage.mcp_server.received_requests().pop().unwrap();
    assert_eq!(arrival.json()["params"]["capabilities"], json!({}), "the server is not to ask");
    let before = stage.mcp_server.received_requests().len();
    let ask = async |session: &str, version: &str, amount: u64| {
        let headers = [("mcp-session-id", session), ("mcp-protocol-version", version)];
        let message = tool_call("pay", json!({ "amount": amount })).to_string();
        stage.send_request(stage.build_request(&token, &headers, message)).await
    };
    let told = ask(&able, "2025-11-25", 1).await;
    assert_eq!(told.status_and_code(), (200, -32_042), "{}", told.text());
    let [made] = wait_for_requests(&stage, 1).await.try_into().unwrap();
    let data = told.json()["error"]["data"].clone();
    assert_eq!(data["elicitations"][0]["elicitationId"], json!(made.id.to_string()));
    let page = format!("http://{}/approvals/{}", stage.gateway.console_address.unwrap(), made.id);
    assert_eq!(
        (&data["elicitations"][0]["url"], &data["elicitations"][0]["mode"]),
        (&json!(page), &json!("url"))
    );
    let all = async {
        tokio::join!(
            ask(&able, "2025-11-25", 1),
            ask(&unable, "2025-11-25", 2),
            ask(&able, "2025-06-18", 3),
            ask("", "2025-11-25", 4)
        )
    };
    let (again, unable, older, sessionless) = all.await;
    for (answer, what) in [
        (again, "again"),
        (unable, "unable"),
        (older, "an older revision"),
        (sessionless, "without a session"),
    ] {
        assert_eq!(answer.status_and_code(), (200, 403), "{what}: {}", answer.text());
        assert!(answer.text().contains("it was not approved in time"), "{what}: {}", answer.text());
    }
    assert_eq!(stage.mcp_server.received_requests().len(), before);
}

/// Sends a held call that wants to hear of progress, and returns the connection once it does.
async fn start_progress_call(stage: &McpTestGateway, token: &str) -> (TcpStream, String) {
    start_call_with_meta(stage, token, json!({ "progressToken": "p-1" })).await
}

async fn start_call_with_meta(stage: &McpTestGateway, token: &str, meta: Value) -> (TcpStream, String) {
    let mut message = tool_call("pay", json!({ "amount": 1 }));
    message["params"]["_meta"] = meta;
    let body = message.to_string();
    let mut stream = TcpStream::connect(stage.gateway.mcp_address.unwrap()).await.unwrap();
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

/// The message in the last event of what comes until the end.
async fn read_last_event(mut stream: TcpStream) -> Value {
    let mut rest = String::new();
    let reading = stream.read_to_string(&mut rest);
    tokio::time::timeout(LONG_HOLD, reading).await.expect("the end of the stream").unwrap();
    let line = rest.lines().rev().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    serde_json::from_str(line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_stream_ends_with_the_response_of_the_approved_call() {
    let stage = McpTestGateway::start_with_console(LONG_HOLD).await;
    stage.mcp_server.respond_json(200, COMPLETE_RESULT);
    let token = stage.caller_token("agent");
    let (stream, _heard) = start_progress_call(&stage, &token).await;
    assert!(stage.mcp_server.received_requests().is_empty());
    let [ask] = wait_for_requests(&stage, 1).await.try_into().unwrap();
    approve_request(&stage, &ask).await;
    let answer = read_last_event(stream).await;
    assert_eq!((&answer["id"], &answer["result"]["resultType"]), (&json!(7), &json!("complete")));
    assert_eq!(stage.mcp_server.received_requests().len(), 1);
    let journal = stage.read_journal().await;
    assert!(journal.contains("\"intent\"") && journal.contains("\"outcome\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_stream_ends_with_an_error_on_timeout() {
    let stage = McpTestGateway::start_with_console(Duration::from_secs(3)).await;
    let (stream, _heard) = start_progress_call(&stage, &stage.caller_token("agent")).await;
    let refused = read_last_event(stream).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(7), &json!(403)));
    let message = refused["error"]["message"].as_str().unwrap();
    let page = format!("(http://{}/approvals/", stage.gateway.console_address.unwrap());
    assert!(message.contains("it was not approved in time") && message.contains(&page), "{message}");
    assert!(stage.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_a_progress_stream() {
    let stage = McpTestGateway::start_with_console(LONG_HOLD).await;
    let token = stage.caller_token("agent");
    let (stream, _heard) = start_progress_call(&stage, &token).await;
    let [ask] = wait_for_requests(&stage, 1).await.try_into().unwrap();
    let revoked = RevocationTarget::Caller(ask.details.caller.id());
    stage
        .gateway
        .parts
        .revocations
        .revoke(&revoked, "corp/ann", "enough", OffsetDateTime::now_utc())
        .await
        .unwrap();
    let refused = read_last_event(stream).await;
    assert_eq!(refused["id"], json!(7));
    assert!(refused["error"]["message"].as_str().unwrap().contains("revoked"), "{refused}");
    approve_request(&stage, &ask).await;
    assert!(stage.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_releases_the_permit_and_keeps_the_approval_request() {
    let stage = McpTestGateway::start_with_console(LONG_HOLD).await;
    let places = stage.gateway.approval_step.available_held_kib();
    let (stream, _heard) = start_progress_call(&stage, &stage.caller_token("agent")).await;
    assert!(stage.gateway.approval_step.available_held_kib() < places);
    drop(stream);
    let freed = async {
        while stage.gateway.approval_step.available_held_kib() < places {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed).await.expect("the place is freed");
    let [ask] = wait_for_requests(&stage, 1).await.try_into().unwrap();
    approve_request(&stage, &ask).await;
    assert!(stage.mcp_server.received_requests().is_empty(), "nothing is called for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn meta_padding_counts_against_held_memory() {
    const PADDING_BYTES: usize = 4 << 20;
    let stage = McpTestGateway::start_with_console(LONG_HOLD).await;
    let places = stage.gateway.approval_step.available_held_kib();
    let meta = json!({ "progressToken": "p-1", "com.example/pad": "x".repeat(PADDING_BYTES) });
    let (_stream, _heard) = start_call_with_meta(&stage, &stage.caller_token("agent"), meta).await;
    let taken = places - stage.gateway.approval_step.available_held_kib();
    assert!((PADDING_BYTES / 1024..PADDING_BYTES / 1024 + 128).contains(&taken), "{taken} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn meta_is_bound_by_the_approval() {
    let stage = McpTestGateway::start_with_console(LONG_HOLD).await;
    stage.mcp_server.respond_json(200, COMPLETE_RESULT);
    let token = stage.caller_token("agent");
    let with = |mode: &str, attempt: &str| {
        let mut message = payment_call(&json!({}));
        let meta = message["params"]["_meta"].as_object_mut().unwrap();
        meta.insert("com.example/mode".to_owned(), json!(mode));
        for label in ["claudecode/toolUseId", "traceparent", "progressToken"] {
            meta.insert(label.to_owned(), json!(attempt));
        }
        message
    };
    let (_state, page) =
        elicitation_state_and_url(&send_stateless_call(&stage, &token, "files", &with("dry-run", "1")).await);
    let [ask] = wait_for_requests(&stage, 1).await.try_into().unwrap();
    assert_eq!(ask.details.operation.uninspected_parts, ["_meta.com.example/mode"], "people hear of it");
    approve_request(&stage, &ask).await;

    for other in [with("for-real", "2"), payment_call(&json!({}))] {
        let asked = send_stateless_call(&stage, &token, "files", &other).await;
        assert_ne!(elicitation_state_and_url(&asked).1, page, "it is another call");
    }
    assert!(stage.mcp_server.received_requests().is_empty());
    let again = with("dry-run", "3");
    let answer = send_stateless_call(&stage, &token, "files", &again).await;
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{}", answer.text());
    assert_eq!(stage.mcp_server.received_requests()[0].json(), again, "the server gets it as it came");
}
