//! What a server may answer, and what of it a caller sees: lists cut to what may be called, secrets masked, the protocol
//! kept, and never a word of a server that broke it.

use super::test_gateway::{
    McpTestGateway, RESPONSE_GATE, ScriptedMcpServer, http_response, tool_call, tools_list,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
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
    let stage = McpTestGateway::start().await;
    let check = |answer: &Value| {
        let names: Vec<_> =
            answer["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
        assert_eq!(names, ["read", "pay"], "a tool that needs an approval may be asked for");
        assert_eq!(answer["result"]["nextCursor"], "page-2");
        assert_eq!(answer["result"]["cacheScope"], "private");
    };
    stage.mcp_server.respond_json(200, TOOLS_RESPONSE);
    let answer = stage.post_message(&tools_list()).await;
    assert!(answer.text().contains(r#"{"name":"read","x":{"b":1,"a":2.0}}"#), "{}", answer.text());
    check(&answer.json());
    respond_sse_events(&stage.mcp_server, &[TOOLS_RESPONSE]);
    let answer = stage.post_message(&tools_list()).await;
    assert!(!answer.text().contains("delete"), "{}", answer.text());
    check(&parse_event_messages(&answer.text())[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_filtered_is_withheld() {
    let stage = McpTestGateway::start().await;
    for body in [
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[],"Tools":[{"name":"delete"}]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[],"tools":[{"name":"delete"}]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":{"name":"delete"}}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"task","delete":1}}"#,
        r#"{"jsonrpc":"2.0","id":99,"result":{"tools":[{"name":"delete"}]}}"#,
        r#"[{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"delete"}]}}]"#,
    ] {
        stage.mcp_server.respond_json(200, body);
        let answer = stage.post_message(&tools_list()).await;
        assert_eq!(answer.status_and_code(), (200, 502), "{body}");
        assert!(!answer.text().contains("delete"), "{}", answer.text());
        respond_sse_events(&stage.mcp_server, &[body]);
        let answer = stage.post_message(&tools_list()).await;
        let [refused] = parse_event_messages(&answer.text()).try_into().unwrap();
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(502), &json!(7)), "{body}");
        assert!(!answer.text().contains("delete"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_masked_in_results_errors_and_progress() {
    let stage = McpTestGateway::start().await;
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
        stage.mcp_server.respond_json(status, body);
        let answer = stage.post_message(&read).await;
        assert!(
            answer.text().contains("[masked: aws-key]") && !answer.text().contains(AWS_KEY),
            "{}",
            answer.text()
        );
        assert_eq!(answer.status(), if status == 400 { 400 } else { 200 });
    }
    for last in [&result, &error] {
        respond_sse_events(&stage.mcp_server, &[&note, &note, last]);
        let answer = stage.post_message(&read).await;
        assert_eq!(parse_event_messages(&answer.text()).len(), 3);
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert!(!answer.text().contains(AWS_KEY) && answer.text().matches("[masked: aws-key]").count() >= 3);
    }
    let journal = stage.read_journal().await;
    assert!(!journal.contains(AWS_KEY));
    assert!(journal.contains(r#""masked":[{"data_class":"aws-key","count":3}]"#), "{journal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_violations_of_a_server_are_not_forwarded() {
    let stage = McpTestGateway::start().await;
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
        stage.mcp_server.set_script(move |_arrival| vec![whole.clone()]);
        let answer = stage.post_message(&read).await;
        assert_eq!(answer.status_and_code(), (200, 502), "{shown}");
        assert!(!format!("{:?}", answer.0).contains("canary"), "{shown}: {:?}", answer.0);
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
        respond_sse_events(&stage.mcp_server, &pieces);
        let answer = stage.post_message(&read).await;
        let [refused] = parse_event_messages(&answer.text()).try_into().unwrap();
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(502), &json!(7)), "{pieces:?}");
        assert!(answer.text().contains(why) && !answer.text().contains("canary"), "{}", answer.text());
    }
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    respond_sse_events(&stage.mcp_server, &[ping, fine, other]);
    let answer = stage.post_message(&read).await;
    assert_eq!(
        parse_event_messages(&answer.text()).len(),
        1,
        "nothing follows the answer: {}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_has_ended_must_be_opened_again() {
    let stage = McpTestGateway::start().await;
    let token = stage.caller_token("agent");
    let session = stage.open_session(&token).await;
    stage.mcp_server.set_script(|_arrival| vec![http_response(404, "text/plain", "canary")]);
    let headers = [("mcp-session-id", session.as_str())];
    let answer = stage.send_request(stage.build_request(&token, &headers, tools_list().to_string())).await;
    assert_eq!(answer.status_and_code(), (404, 404));
    assert!(!answer.text().contains("canary"));
}

/// Reads until `wanted` is seen.
async fn read_until(stream: &mut TcpStream, seen: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        let reading = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut buffer));
        let count = reading.await.unwrap_or_else(|_elapsed| panic!("{wanted}: {seen}")).unwrap();
        assert!(count > 0, "{wanted}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_streamed_and_a_disconnect_is_journaled() {
    let stage = McpTestGateway::start().await;
    let note = r#"data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;
    let last = r#"data: {"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#;
    let [note, last] = [note, last].map(|event| format!("{event}\n\n"));
    stage.mcp_server.respond_events(&[": alive\n\n", &note, RESPONSE_GATE, &last]);
    let body = tool_call("read", json!({ "path": "/srv/a" })).to_string();
    let head = format!(
        "POST /mcp/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        stage.caller_token("agent"),
        body.len()
    );
    let connect = async || {
        let mut stream = TcpStream::connect(stage.gateway.mcp_address.unwrap()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut seen = String::new();
        read_until(&mut stream, &mut seen, "progress").await;
        assert!(seen.contains(":\n\n"), "signs of life pass: {seen}");
        (stream, seen)
    };
    let outcome = "\"type\":\"outcome\"";
    let (mut stream, mut seen) = connect().await;
    assert!(!stage.read_journal().await.contains(outcome));
    stage.mcp_server.open_gate();
    read_until(&mut stream, &mut seen, "\"result\"").await;
    assert!(
        stage.read_journal().await.contains(outcome),
        "the outcome is on record before the result is seen"
    );

    drop(connect().await);
    wait_until_journaled(&stage, "the response was not read to its end").await;

    stage.mcp_server.set_script(|_arrival| vec![RESPONSE_GATE.as_bytes().to_vec()]);
    let before = stage.mcp_server.received_requests().len();
    let mut stream = TcpStream::connect(stage.gateway.mcp_address.unwrap()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let arrival = async {
        while stage.mcp_server.received_requests().len() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrival).await.expect("the request reaches the server");
    drop(stream);
    wait_until_journaled(&stage, "the client disconnected before the response came").await;
}

async fn wait_until_journaled(stage: &McpTestGateway, wanted: &str) {
    let began = Instant::now();
    while !stage.read_journal().await.contains(wanted) {
        assert!(began.elapsed() < Duration::from_secs(30), "not journaled: {wanted}");
    }
}
