//! Responses of an MCP server, as their caller sees them: lists hold only tools that the caller may call, secrets are masked, and a
//! response that breaks the protocol is not forwarded.

use super::{MCP_POLICIES, start_gateway};
use durward_integration::{
    RESPONSE_GATE, ScriptedMcpServer, TestGateway, http_response, tool_call, tools_list, wait_until,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const AWS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const TOOLS_RESPONSE: &str = r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"read","x":{"b":1,"a":2.0}},{"name":"delete"},
    {"name":"pay"}],"nextCursor":"page-2","cacheScope":"public"}}"#;

fn to_sse_events(pieces: &[&str]) -> Vec<String> {
    pieces.iter().map(|piece| format!("data: {}\n\n", piece.replace('\n', "\ndata: "))).collect()
}

fn respond_sse_events(server: &ScriptedMcpServer, pieces: &[&str]) {
    let pieces = to_sse_events(pieces);
    server.respond_events(&pieces.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The messages in an event stream.
fn parse_event_messages(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_contains_only_callable_tools() {
    let gateway = start_gateway().await;
    let check = |response: &Value| {
        let names: Vec<_> =
            response["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
        assert_eq!(names, ["read", "pay"], "a tool that needs an approval is listed");
        assert_eq!(response["result"]["nextCursor"], "page-2");
        assert_eq!(response["result"]["cacheScope"], "private");
    };
    gateway.mcp_server.respond_json(200, TOOLS_RESPONSE);
    let response = gateway.post_mcp(&tools_list()).await;
    assert!(response.text().contains(r#"{"name":"read","x":{"b":1,"a":2.0}}"#), "{}", response.text());
    check(&response.json());
    respond_sse_events(&gateway.mcp_server, &[TOOLS_RESPONSE]);
    let response = gateway.post_mcp(&tools_list()).await;
    assert!(!response.text().contains("delete"), "{}", response.text());
    check(&parse_event_messages(&response.text())[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_filtered_is_withheld() {
    let gateway = start_gateway().await;
    for body in [
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[],"Tools":[{"name":"delete"}]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[],"tools":[{"name":"delete"}]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":{"name":"delete"}}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"task","delete":1}}"#,
        r#"{"jsonrpc":"2.0","id":99,"result":{"tools":[{"name":"delete"}]}}"#,
        r#"[{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"delete"}]}}]"#,
    ] {
        gateway.mcp_server.respond_json(200, body);
        let response = gateway.post_mcp(&tools_list()).await;
        assert_eq!(response.status_and_code(), (200, 502), "{body}");
        assert!(!response.text().contains("delete"), "{}", response.text());
        respond_sse_events(&gateway.mcp_server, &[body]);
        let response = gateway.post_mcp(&tools_list()).await;
        let [refused] = parse_event_messages(&response.text()).try_into().unwrap();
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(502), &json!(7)), "{body}");
        assert!(!response.text().contains("delete"), "{}", response.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_masked_in_results_errors_and_progress() {
    let gateway = start_gateway().await;
    let read = tool_call("read", json!({ "path": "/srv/a" }));
    let result = format!(
        r#"{{"jsonrpc":"2.0","id":ID,"result":{{"content":[{{"type":"text","text":"key {AWS_KEY}"}}]}}}}"#
    );
    let error = format!(
        r#"{{"jsonrpc":"2.0","id":ID,"error":{{"code":-32603,"message":"no {AWS_KEY}","data":"{AWS_KEY}"}}}}"#
    );
    let note = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"message":"{AWS_KEY}"}}}}"#
    );
    for (status, body) in [(200, &result), (200, &error), (400, &error), (500, &error)] {
        gateway.mcp_server.respond_json(status, body);
        let response = gateway.post_mcp(&read).await;
        assert!(
            response.text().contains("[masked: aws-key]") && !response.text().contains(AWS_KEY),
            "{}",
            response.text()
        );
        assert_eq!(response.status(), if status == 400 { 400 } else { 200 });
    }
    for last in [&result, &error] {
        respond_sse_events(&gateway.mcp_server, &[&note, &note, last]);
        let response = gateway.post_mcp(&read).await;
        assert_eq!(parse_event_messages(&response.text()).len(), 3);
        assert_eq!(response.header("content-type"), "text/event-stream");
        assert!(
            !response.text().contains(AWS_KEY) && response.text().matches("[masked: aws-key]").count() >= 3
        );
    }
    let journal = gateway.journal_text().await;
    assert!(!journal.contains(AWS_KEY));
    assert!(journal.contains(r#""masked":[{"data_class":"aws-key","count":3}]"#), "{journal}");
}

/// Base64 in which four letters look like the beginning of a session token, a cursor that is a JWT, an address to sign in at: a
/// response without a secret that is to be masked.
#[tokio::test(flavor = "multi_thread")]
async fn binary_content_and_what_the_client_sends_back_stay_as_they_are() {
    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJuIjoxfQ.c2lnbmF0dXJlLWhlcmU";
    let gateway = start_gateway().await;
    let image = format!("AAAAIQoJ{}", "QUJD".repeat(40));
    let result = format!(
        r#"{{"jsonrpc":"2.0","id":ID,"result":{{"content":[{{"type":"image","data":"{image}","mimeType":"image/png"}},{{"type":"resource","resource":{{"uri":"x://{JWT}","blob":"{image}"}}}}],"nextCursor":"{JWT}","requestState":"{JWT}","inputRequests":{{"q":{{"method":"elicitation/create","params":{{"mode":"url","url":"https://login.example/?s={JWT}"}}}}}}}}}}"#
    );
    let read = tool_call("read", json!({ "path": "/srv/a" }));
    gateway.mcp_server.respond_json(200, &result);
    let response = gateway.post_mcp(&read).await;
    let expected = |response: &Value| result.replace("ID", &response["id"].to_string());
    assert_eq!(response.text(), expected(&response.json()));
    respond_sse_events(&gateway.mcp_server, &[&result]);
    let event = parse_event_messages(&gateway.post_mcp(&read).await.text()).remove(0);
    assert_eq!(event, serde_json::from_str::<Value>(&expected(&event)).unwrap());
}

/// A client holds `structuredContent` to the tool's `outputSchema`, so a mask has the type and the form of its secret. Masked base64
/// is base64.
#[tokio::test(flavor = "multi_thread")]
async fn masked_values_fit_where_they_are() {
    let gateway = start_gateway().await;
    // The base64 of `id AKIAIOSFODNN7EXAMPLE`, and of the same masked.
    let (blob, masked_blob) = ("aWQgQUtJQUlPU0ZPRE5ON0VYQU1QTEU=", "aWQgW21hc2tlZDogYXdzLWtleV0=");
    let result = |id: &str, blob: &str| {
        json!({"jsonrpc": "2.0", "id": "ID", "result": {"structuredContent": {"id": id, "count": 7},
            "content": [{"type": "resource", "resource": {"uri": "file:///a", "blob": blob}}]}})
        .to_string()
        .replace(r#""ID""#, "ID")
    };
    let read = tool_call("read", json!({ "path": "/srv/a" }));
    gateway.mcp_server.respond_json(200, &result(AWS_KEY, blob));
    let response = gateway.post_mcp(&read).await;
    let expected =
        result("AKIAMASKEDMASKEDMASK", masked_blob).replace("ID", &response.json()["id"].to_string());
    assert_eq!(response.json(), serde_json::from_str::<Value>(&expected).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_data_class_is_masked_until_a_policy_reveals_it() {
    let pattern = "[[masking.pattern]]\ndata_class = \"employee-id\"\nregex = \"EMP-[0-9]{6}\"\n";
    let gateway = TestGateway::builder().mcp().policies(MCP_POLICIES).configuration(pattern).start().await;
    let result = r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"by EMP-123456"}]}}"#;
    gateway.mcp_server.respond_json(200, result);
    let read = tool_call("read", json!({ "path": "/srv/a" }));
    let response = gateway.post_mcp(&read).await;
    assert!(response.text().contains("by [masked: employee-id]"), "{}", response.text());
    gateway.replace_policies(&format!(
        "{MCP_POLICIES}\npermit (principal, action == Action::\"reveal\", resource == DataClass::\"employee-id\");"
    ));
    let response = gateway.post_mcp(&read).await;
    assert!(response.text().contains("by EMP-123456"), "{}", response.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_violations_of_a_server_are_not_forwarded() {
    let gateway = start_gateway().await;
    let read = tool_call("read", json!({ "path": "/srv/a" }));
    let fine = r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#;
    let head = |head: &str| {
        format!("HTTP/1.1 {head}\r\ncontent-length: 6\r\nconnection: close\r\n\r\ncanary").into_bytes()
    };
    let wholes = [
        head("302 X\r\nlocation: http://canary.example.com/"),
        head("307 X\r\nlocation: http://canary.example.com/"),
        head("401 X\r\nwww-authenticate: Bearer canary"),
        head("403 X\r\nwww-authenticate: Bearer canary"),
        head("200 X\r\ncontent-type: text/html"),
        head("200 X\r\ncontent-type: application/json"),
        head("200 X\r\ncontent-type: application/json\r\ncontent-encoding: gzip"),
        head("500 X\r\ncontent-type: text/plain"),
        head("202 X"),
        http_response(200, "application/json", r#"{"jsonrpc":"2.0","method":"canary"}"#),
        http_response(400, "application/json", r#"{"jsonrpc":"2.0","id":7,"result":"canary"}"#),
        b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\ncanary".to_vec(),
        b"canary\r\n\r\n".to_vec(),
    ];
    for whole in wholes {
        let shown = String::from_utf8_lossy(&whole).into_owned();
        gateway.mcp_server.set_script(move |_arrival| vec![whole.clone()]);
        let response = gateway.post_mcp(&read).await;
        assert_eq!(response.status_and_code(), (200, 502), "{shown}");
        assert!(!format!("{:?}", response.0).contains("canary"), "{shown}: {:?}", response.0);
    }
    let asked = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"canary"}}"#;
    let other = r#"{"jsonrpc":"2.0","id":99,"result":{"canary":1}}"#;
    for (pieces, why) in [
        (vec![asked, fine], "elicitation/create"),
        (vec![other, fine], "broke the protocol"),
        (vec!["canary", fine], "broke the protocol"),
        (vec!["{\"canary\":", fine], "broke the protocol"),
        (vec![], "ended its stream without a response"),
    ] {
        respond_sse_events(&gateway.mcp_server, &pieces);
        let response = gateway.post_mcp(&read).await;
        let [refused] = parse_event_messages(&response.text()).try_into().unwrap();
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(502), &json!(7)), "{pieces:?}");
        assert!(response.text().contains(why) && !response.text().contains("canary"), "{}", response.text());
    }
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    respond_sse_events(&gateway.mcp_server, &[ping, fine, other]);
    let response = gateway.post_mcp(&read).await;
    assert_eq!(
        parse_event_messages(&response.text()).len(),
        1,
        "nothing follows the response: {}",
        response.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_has_ended_must_be_opened_again() {
    let gateway = start_gateway().await;
    let token = gateway.caller_token("agent");
    let session = gateway.open_mcp_session(&token).await;
    gateway.mcp_server.set_script(|_arrival| vec![http_response(404, "text/plain", "canary")]);
    let headers = [("mcp-session-id", session.as_str())];
    let response = gateway.send_mcp(gateway.mcp_request(&token, &headers, tools_list().to_string())).await;
    assert_eq!(response.status_and_code(), (404, 404));
    assert!(!response.text().contains("canary"));
}

/// Reads until `wanted` is seen.
async fn read_until(stream: &mut TcpStream, seen: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        let reading = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer));
        let count = reading.await.expect("the gateway sends more").unwrap();
        assert!(count > 0, "{wanted}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_streamed_and_a_disconnect_is_journaled() {
    let gateway = start_gateway().await;
    let note = r#"data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;
    let last = r#"data: {"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#;
    let [note, last] = [note, last].map(|event| format!("{event}\n\n"));
    gateway.mcp_server.respond_events(&[": alive\n\n", &note, RESPONSE_GATE, &last]);
    let body = tool_call("read", json!({ "path": "/srv/a" })).to_string();
    let head = format!(
        "POST /mcp/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        gateway.caller_token("agent"),
        body.len()
    );
    let connect = async || {
        let mut stream = TcpStream::connect(gateway.running.mcp_address.unwrap()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut seen = String::new();
        read_until(&mut stream, &mut seen, "progress").await;
        assert!(seen.contains(":\n\n"), "signs of life pass: {seen}");
        (stream, seen)
    };
    let outcome = "\"type\":\"outcome\"";
    let (mut stream, mut seen) = connect().await;
    assert!(!gateway.journal_text().await.contains(outcome));
    gateway.mcp_server.open_gate();
    read_until(&mut stream, &mut seen, "\"result\"").await;
    assert!(
        gateway.journal_text().await.contains(outcome),
        "the outcome is on record before the result is seen"
    );

    drop(connect().await);
    gateway.wait_until_journaled("the response was not read to its end", 1).await;

    gateway.mcp_server.set_script(|_arrival| vec![RESPONSE_GATE.as_bytes().to_vec()]);
    let before = gateway.mcp_server.received_requests().len();
    let mut stream = TcpStream::connect(gateway.running.mcp_address.unwrap()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    wait_until("the request reaches the server", || async {
        (gateway.mcp_server.received_requests().len() > before).then_some(())
    })
    .await;
    drop(stream);
    gateway.wait_until_journaled("the client disconnected before the response came", 1).await;
}
