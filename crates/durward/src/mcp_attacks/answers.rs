//! What a server may answer, and what of it a caller sees: lists cut to what may be called, secrets masked, the protocol
//! kept, and never a word of a server that broke it.

use super::stage::{GATE, Server, Stage, call, http, list};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const TOOLS: &str = r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"read","x":{"b":1,"a":2.0}},{"name":"delete"},
    {"name":"pay"}],"nextCursor":"page-2","cacheScope":"public"}}"#;

fn events(pieces: &[&str]) -> Vec<String> {
    pieces.iter().map(|piece| format!("data: {}\n\n", piece.replace('\n', "\ndata: "))).collect()
}

fn answers_events(server: &Server, pieces: &[&str]) {
    let pieces = events(pieces);
    server.answers_events(&pieces.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The messages in an event stream.
fn messages(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_what_the_caller_may_call() {
    let stage = Stage::set().await;
    let check = |answer: &Value| {
        let names: Vec<_> =
            answer["result"]["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
        assert_eq!(names, ["read", "pay"], "a tool that needs an approval may be asked for");
        assert_eq!(answer["result"]["nextCursor"], "page-2");
        assert_eq!(answer["result"]["cacheScope"], "private");
    };
    stage.server.answers_json(200, TOOLS);
    let answer = stage.post(&list()).await;
    assert!(answer.text().contains(r#"{"name":"read","x":{"b":1,"a":2.0}}"#), "{}", answer.text());
    check(&answer.json());
    answers_events(&stage.server, &[TOOLS]);
    let answer = stage.post(&list()).await;
    assert!(!answer.text().contains("delete"), "{}", answer.text());
    check(&messages(&answer.text())[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_cut_is_withheld() {
    let stage = Stage::set().await;
    for body in [
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[],"Tools":[{"name":"delete"}]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[],"tools":[{"name":"delete"}]}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":{"name":"delete"}}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"task","delete":1}}"#,
        r#"{"jsonrpc":"2.0","id":99,"result":{"tools":[{"name":"delete"}]}}"#,
        r#"[{"jsonrpc":"2.0","id":ID,"result":{"tools":[{"name":"delete"}]}}]"#,
    ] {
        stage.server.answers_json(200, body);
        let answer = stage.post(&list()).await;
        assert_eq!(answer.codes(), (200, 502), "{body}");
        assert!(!answer.text().contains("delete"), "{}", answer.text());
        answers_events(&stage.server, &[body]);
        let answer = stage.post(&list()).await;
        let [refused] = messages(&answer.text()).try_into().unwrap();
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(502), &json!(7)), "{body}");
        assert!(!answer.text().contains("delete"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_masked_in_results_errors_and_progress() {
    let stage = Stage::set().await;
    let read = call("read", json!({ "path": "/srv/a" }));
    let result = format!(
        r#"{{"jsonrpc":"2.0","id":ID,"result":{{"content":[{{"type":"text","text":"key {KEY}"}}]}}}}"#
    );
    let error = format!(
        r#"{{"jsonrpc":"2.0","id":ID,"error":{{"code":-32603,"message":"no {KEY}","data":"{KEY}"}}}}"#
    );
    let note =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"message":"{KEY}"}}}}"#);
    for (status, body) in [(200, &result), (200, &error), (400, &error), (500, &error)] {
        stage.server.answers_json(status, body);
        let answer = stage.post(&read).await;
        assert!(
            answer.text().contains("[masked: aws-key]") && !answer.text().contains(KEY),
            "{}",
            answer.text()
        );
        assert_eq!(answer.status(), if status == 400 { 400 } else { 200 });
    }
    for last in [&result, &error] {
        answers_events(&stage.server, &[&note, &note, last]);
        let answer = stage.post(&read).await;
        assert_eq!(messages(&answer.text()).len(), 3);
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert!(!answer.text().contains(KEY) && answer.text().matches("[masked: aws-key]").count() >= 3);
    }
    let journal = stage.journal().await;
    assert!(!journal.contains(KEY));
    assert!(journal.contains(r#""masked":[{"data_class":"aws-key","count":3}]"#), "{journal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_outside_the_protocol_is_not_passed_on() {
    let stage = Stage::set().await;
    let read = call("read", json!({ "path": "/srv/a" }));
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
        http(200, "application/json", r#"{"jsonrpc":"2.0","method":"canary"}"#),
        http(400, "application/json", r#"{"jsonrpc":"2.0","id":7,"result":"canary"}"#),
        b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\ncanary".to_vec(),
        b"canary\r\n\r\n".to_vec(),
    ];
    for whole in wholes {
        let shown = String::from_utf8_lossy(&whole).into_owned();
        stage.server.answers(move |_arrival| vec![whole.clone()]);
        let answer = stage.post(&read).await;
        assert_eq!(answer.codes(), (200, 502), "{shown}");
        assert!(!format!("{:?}", answer.0).contains("canary"), "{shown}: {:?}", answer.0);
    }
    let asked = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"canary"}}"#;
    let other = r#"{"jsonrpc":"2.0","id":99,"result":{"canary":1}}"#;
    for (pieces, why) in [
        (vec![asked, fine], "elicitation/create"),
        (vec![other, fine], "broke the protocol"),
        (vec!["canary", fine], "broke the protocol"),
        (vec!["{\"canary\":", fine], "broke the protocol"),
        (vec![], "ended its stream without an answer"),
    ] {
        answers_events(&stage.server, &pieces);
        let answer = stage.post(&read).await;
        let [refused] = messages(&answer.text()).try_into().unwrap();
        assert_eq!((&refused["error"]["code"], &refused["id"]), (&json!(502), &json!(7)), "{pieces:?}");
        assert!(answer.text().contains(why) && !answer.text().contains("canary"), "{}", answer.text());
    }
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    answers_events(&stage.server, &[ping, fine, other]);
    let answer = stage.post(&read).await;
    assert_eq!(messages(&answer.text()).len(), 1, "nothing follows the answer: {}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_server_has_ended_must_be_opened_again() {
    let stage = Stage::set().await;
    let token = stage.token("agent");
    let session = stage.initialize(&token).await;
    stage.server.answers(|_arrival| vec![http(404, "text/plain", "canary")]);
    let headers = [("mcp-session-id", session.as_str())];
    let answer = stage.send(stage.request(&token, &headers, list().to_string())).await;
    assert_eq!(answer.codes(), (404, 404));
    assert!(!answer.text().contains("canary"));
}

/// Reads until `wanted` is seen.
async fn read_until(stream: &mut TcpStream, seen: &mut String, wanted: &str) {
    let mut buffer = [0; 4096];
    while !seen.contains(wanted) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "{wanted}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_pass_as_they_come_and_a_caller_who_leaves_is_on_record() {
    let stage = Stage::set().await;
    let note = r#"data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}"#;
    let last = r#"data: {"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#;
    let [note, last] = [note, last].map(|event| format!("{event}\n\n"));
    stage.server.answers_events(&[": alive\n\n", &note, GATE, &last]);
    let body = call("read", json!({ "path": "/srv/a" })).to_string();
    let head = format!(
        "POST /mcp/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        stage.token("agent"),
        body.len()
    );
    let connect = async || {
        let mut stream = TcpStream::connect(stage.running.mcp.unwrap()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut seen = String::new();
        read_until(&mut stream, &mut seen, "progress").await;
        assert!(seen.contains(":\n\n"), "signs of life pass: {seen}");
        (stream, seen)
    };
    let outcome = "\"type\":\"outcome\"";
    let (mut stream, mut seen) = connect().await;
    assert!(!stage.journal().await.contains(outcome));
    stage.server.open_gate();
    read_until(&mut stream, &mut seen, "\"result\"").await;
    assert!(stage.journal().await.contains(outcome), "the outcome is on record before the result is seen");

    drop(connect().await);
    on_record(&stage, "the caller went away before the answer ended").await;

    stage.server.answers(|_arrival| vec![GATE.as_bytes().to_vec()]);
    let before = stage.server.arrivals().len();
    let mut stream = TcpStream::connect(stage.running.mcp.unwrap()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    while stage.server.arrivals().len() == before {
        tokio::task::yield_now().await;
    }
    drop(stream);
    on_record(&stage, "the caller went away before the answer came").await;
}

async fn on_record(stage: &Stage, wanted: &str) {
    let began = Instant::now();
    while !stage.journal().await.contains(wanted) {
        assert!(began.elapsed() < Duration::from_secs(10), "not on record: {wanted}");
    }
}
