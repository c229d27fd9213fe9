//! What a client is told while people are asked, and what it can make of that: a state is good for its caller, server and call, the
//! page comes in the way of the client's revision, and who is held hears of it until there is an answer.

use super::stage::{Answer, Stage, call};
use durward_approval::{Answer as Given, Ask, Filter, Person, State};
use durward_identity::Revoked;
use http::Request;
use serde_json::{Value, json};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const RESULT: &str = r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","content":[]}}"#;
const LONG: Duration = Duration::from_mins(1);

/// A call of 2026-07-28 by a client that opens URLs, with more parameters.
fn opening(tool: &str, arguments: Value, more: &Value) -> Value {
    let mut message = call(tool, arguments);
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "url": {} } },
    });
    for (name, value) in more.as_object().unwrap() {
        message["params"][name] = value.clone();
    }
    message
}

fn pay(more: &Value) -> Value {
    opening("pay", json!({ "amount": 1 }), more)
}

async fn send(stage: &Stage, token: &str, server: &str, message: &Value) -> Answer {
    let name = message["params"]["name"].as_str().unwrap();
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", name)];
    let mut request: Request<_> = stage.request(token, &headers, message.to_string());
    *request.uri_mut() = format!("/mcp/{server}").parse().unwrap();
    stage.send(request).await
}

/// The pending asks, once there are as many.
async fn asks(stage: &Stage, many: usize) -> Vec<Ask> {
    let looking = async {
        loop {
            let filter = Filter { states: vec![State::Pending], ..Filter::default() };
            let found = stage.running.rooms.approvals.list(filter).await.unwrap();
            if found.len() >= many {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, looking).await.expect("people are asked")
}

async fn approve(stage: &Stage, ask: &Ask) {
    let ann = Person {
        id: "corp/ann".to_owned(),
        name: "Ann".to_owned(),
        subject: "ann".to_owned(),
        groups: vec!["oncall".to_owned()],
        as_of: OffsetDateTime::now_utc(),
    };
    stage.running.rooms.approvals.answer(ask.id, &ann, Given::ApproveOnce).await.unwrap();
}

/// The state and the page of a question.
fn question(answer: &Answer) -> (String, String) {
    let result = &answer.json()["result"];
    assert_eq!(result["resultType"], "input_required", "{}", answer.text());
    let params = &result["inputRequests"]["durward.ask"]["params"];
    assert_eq!((&params["mode"], params.get("elicitationId")), (&json!("url"), None));
    (result["requestState"].as_str().unwrap().to_owned(), params["url"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_good_for_its_caller_its_server_and_its_call_only() {
    let stage = Stage::asking(LONG).await;
    stage.server.answers_json(200, RESULT);
    let (mine, other) = (stage.token("agent"), stage.token("other-agent"));
    let asked = send(&stage, &mine, "files", &pay(&json!({}))).await;
    let (state, page) = question(&asked);
    let [ask] = asks(&stage, 1).await.try_into().unwrap();
    assert_eq!(page, format!("http://{}/asks/{}", stage.running.console.unwrap(), ask.id));
    assert!(!asked.text().contains("amount"), "no text of the caller");

    let back = |state: &str| json!({ "requestState": state, "inputResponses": { "durward.ask": { "action": "accept" } } });
    let flipped = {
        let (start, end) = state.split_at(state.len() / 2);
        let with = if end.starts_with('A') { "B" } else { "A" };
        format!("{start}{with}{}", &end[1..])
    };
    let more = opening("pay", json!({ "amount": 1_000 }), &back(&state));
    let elsewhere = opening("send", json!({ "amount": 1 }), &back(&state));
    for (token, server, message) in [
        (&other, "files", pay(&back(&state))),
        (&mine, "others", pay(&back(&state))),
        (&mine, "files", pay(&back(&flipped))),
        (&mine, "files", pay(&back(&state[..state.len() - 1]))),
        (&mine, "files", pay(&back("durward."))),
        (&mine, "files", pay(&back("durward.DWRDAAAAAAAAAAAAAAAA.AAAA"))),
        (&mine, "files", more),
        (&mine, "files", elsewhere),
    ] {
        let answer = send(&stage, token, server, &message).await;
        assert_eq!(answer.codes(), (400, -32_602), "{server} {message}: {}", answer.text());
        assert_eq!(answer.json()["id"], json!(7));
    }
    assert!(stage.server.arrivals().is_empty());
    assert_eq!(asks(&stage, 1).await.len(), 1, "nobody was asked about any of these");

    approve(&stage, &ask).await;
    // A newer token of the same caller is the same caller.
    let answer = send(&stage, &stage.token("agent"), "files", &pay(&back(&state))).await;
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{}", answer.text());
    let [arrival] = stage.server.arrivals().try_into().unwrap();
    assert_eq!(arrival.json(), pay(&json!({})), "the server gets the call that people saw");

    let again = send(&stage, &mine, "files", &pay(&back(&state))).await;
    assert_ne!(question(&again).1, page, "what was used up is asked anew");
    assert_eq!(stage.server.arrivals().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_held_and_what_the_client_answered_decides_nothing() {
    let stage = Stage::asking(LONG).await;
    stage.server.answers_json(200, RESULT);
    let token = stage.token("agent");
    let (state, page) = question(&send(&stage, &token, "files", &pay(&json!({}))).await);
    let [ask] = asks(&stage, 1).await.try_into().unwrap();
    assert_eq!(
        question(&send(&stage, &token, "files", &pay(&json!({}))).await).1,
        page,
        "asked again, told again"
    );
    let accepted = json!({ "durward.ask": { "action": "accept", "content": { "approved": true } } });
    let back = pay(&json!({ "requestState": state, "inputResponses": accepted }));
    let held = send(&stage, &token, "files", &back);
    let approving = async {
        while stage.journal().await.matches("\"asked\"").count() < 3 {
            tokio::task::yield_now().await;
        }
        assert!(stage.server.arrivals().is_empty(), "nobody approved it");
        approve(&stage, &ask).await;
    };
    let (answer, ()) = tokio::join!(held, approving);
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{}", answer.text());
    assert_eq!(stage.server.arrivals().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_servers_own_state_is_held_and_keeps_it() {
    let stage = Stage::asking(LONG).await;
    stage.server.answers_json(200, RESULT);
    let message =
        pay(&json!({ "requestState": "state-1", "inputResponses": { "k": { "action": "accept" } } }));
    let token = stage.token("agent");
    let held = send(&stage, &token, "files", &message);
    let approving = async {
        let [ask] = asks(&stage, 1).await.try_into().unwrap();
        assert_eq!(ask.what.operation.uninspected, ["requestState", "inputResponses"]);
        approve(&stage, &ask).await;
    };
    let (answer, ()) = tokio::join!(held, approving);
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{}", answer.text());
    assert_eq!(stage.server.arrivals()[0].json(), message);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_console_or_the_capability_there_is_no_question() {
    let stage = Stage::set().await;
    let answer = send(&stage, &stage.token("agent"), "files", &pay(&json!({}))).await;
    assert_eq!(answer.codes(), (200, 403), "{}", answer.text());
    let stage = Stage::asking(Duration::from_millis(200)).await;
    let mut message = pay(&json!({}));
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
        json!({ "elicitation": { "form": {} } });
    let answer = send(&stage, &stage.token("agent"), "files", &message).await;
    assert_eq!(answer.codes(), (200, 403), "{}", answer.text());
    let page = format!("(http://{}/asks/", stage.running.console.unwrap());
    assert!(answer.text().contains(&page), "the plain error names the page: {}", answer.text());
}

/// Opens a session at the gateway as a client of 2025-11-25 with these capabilities.
async fn session(stage: &Stage, token: &str, elicitation: Value) -> String {
    stage.initialize(token).await;
    let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "clientInfo": { "name": "test", "version": "1" },
        "capabilities": { "elicitation": elicitation } } });
    let answer = stage.send(stage.request(token, &[], hello.to_string())).await;
    answer.header("mcp-session-id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_with_the_page_is_for_sessions_that_can_use_it_and_once() {
    let stage = Stage::asking(Duration::from_secs(3)).await;
    let token = stage.token("agent");
    let (able, unable) = (
        session(&stage, &token, json!({ "form": {}, "url": {} })).await,
        session(&stage, &token, json!({})).await,
    );
    let arrival = stage.server.arrivals().pop().unwrap();
    assert_eq!(arrival.json()["params"]["capabilities"], json!({}), "the server is not to ask");
    let before = stage.server.arrivals().len();
    let ask = async |session: &str, version: &str, amount: u64| {
        let headers = [("mcp-session-id", session), ("mcp-protocol-version", version)];
        let message = call("pay", json!({ "amount": amount })).to_string();
        stage.send(stage.request(&token, &headers, message)).await
    };
    let told = ask(&able, "2025-11-25", 1).await;
    assert_eq!(told.codes(), (200, -32_042), "{}", told.text());
    let [made] = asks(&stage, 1).await.try_into().unwrap();
    let data = told.json()["error"]["data"].clone();
    assert_eq!(data["elicitations"][0]["elicitationId"], json!(made.id.to_string()));
    let page = format!("http://{}/asks/{}", stage.running.console.unwrap(), made.id);
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
        assert_eq!(answer.codes(), (200, 403), "{what}: {}", answer.text());
        assert!(answer.text().contains("nobody approved it in time"), "{what}: {}", answer.text());
    }
    assert_eq!(stage.server.arrivals().len(), before);
}

/// Sends a held call that wants to hear of progress, and returns the connection once it does.
async fn hearing(stage: &Stage, token: &str) -> (TcpStream, String) {
    hearing_with(stage, token, json!({ "progressToken": "p-1" })).await
}

async fn hearing_with(stage: &Stage, token: &str, meta: Value) -> (TcpStream, String) {
    let mut message = call("pay", json!({ "amount": 1 }));
    message["params"]["_meta"] = meta;
    let body = message.to_string();
    let mut stream = TcpStream::connect(stage.running.mcp.unwrap()).await.unwrap();
    let head = format!(
        "POST /mcp/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains("notifications/progress") {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "{}", String::from_utf8_lossy(&heard));
    }
    let heard = String::from_utf8(heard).unwrap();
    assert!(
        heard.starts_with("HTTP/1.1 200") && heard.contains("content-type: text/event-stream"),
        "{heard}"
    );
    assert!(
        heard.contains(r#""progressToken":"p-1""#) && heard.contains("waiting for approval: ask "),
        "{heard}"
    );
    (stream, heard)
}

/// The message in the last event of what comes until the end.
async fn last(mut stream: TcpStream) -> Value {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    let line = rest.lines().rev().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    serde_json::from_str(line).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_of_progress_gets_the_answer_as_an_event_and_only_what_was_approved_is_sent() {
    let stage = Stage::asking(LONG).await;
    stage.server.answers_json(200, RESULT);
    let token = stage.token("agent");
    let (stream, _heard) = hearing(&stage, &token).await;
    assert!(stage.server.arrivals().is_empty());
    let [ask] = asks(&stage, 1).await.try_into().unwrap();
    approve(&stage, &ask).await;
    let answer = last(stream).await;
    assert_eq!((&answer["id"], &answer["result"]["resultType"]), (&json!(7), &json!("complete")));
    assert_eq!(stage.server.arrivals().len(), 1);
    let journal = stage.journal().await;
    assert!(journal.contains("\"intent\"") && journal.contains("\"outcome\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_of_progress_is_told_when_nobody_answers() {
    let stage = Stage::asking(Duration::from_secs(3)).await;
    let (stream, _heard) = hearing(&stage, &stage.token("agent")).await;
    let refused = last(stream).await;
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(7), &json!(403)));
    let message = refused["error"]["message"].as_str().unwrap();
    let page = format!("(http://{}/asks/", stage.running.console.unwrap());
    assert!(message.contains("nobody approved it in time") && message.contains(&page), "{message}");
    assert!(stage.server.arrivals().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_reaches_who_hears_of_progress() {
    let stage = Stage::asking(LONG).await;
    let token = stage.token("agent");
    let (stream, _heard) = hearing(&stage, &token).await;
    let [ask] = asks(&stage, 1).await.try_into().unwrap();
    let revoked = Revoked::Caller(ask.what.caller.id());
    stage
        .running
        .rooms
        .revocations
        .revoke(&revoked, "corp/ann", "enough", OffsetDateTime::now_utc())
        .await
        .unwrap();
    let refused = last(stream).await;
    assert_eq!(refused["id"], json!(7));
    assert!(refused["error"]["message"].as_str().unwrap().contains("revoked"), "{refused}");
    approve(&stage, &ask).await;
    assert!(stage.server.arrivals().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_frees_the_place_and_leaves_the_ask() {
    let stage = Stage::asking(LONG).await;
    let places = stage.running.rooms.held.free();
    let (stream, _heard) = hearing(&stage, &stage.token("agent")).await;
    assert!(stage.running.rooms.held.free() < places);
    drop(stream);
    let freed = async {
        while stage.running.rooms.held.free() < places {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed).await.expect("the place is freed");
    let [ask] = asks(&stage, 1).await.try_into().unwrap();
    approve(&stage, &ask).await;
    assert!(stage.server.arrivals().is_empty(), "nothing is called for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_arguments_show_takes_room_all_the_same() {
    const PADDED: usize = 4 << 20;
    let stage = Stage::asking(LONG).await;
    let places = stage.running.rooms.held.free();
    let meta = json!({ "progressToken": "p-1", "com.example/pad": "x".repeat(PADDED) });
    let (_stream, _heard) = hearing_with(&stage, &stage.token("agent"), meta).await;
    let taken = places - stage.running.rooms.held.free();
    assert!((PADDED / 1024..PADDED / 1024 + 128).contains(&taken), "{taken} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_meta_says_is_part_of_what_is_approved() {
    let stage = Stage::asking(LONG).await;
    stage.server.answers_json(200, RESULT);
    let token = stage.token("agent");
    let with = |mode: &str, attempt: &str| {
        let mut message = pay(&json!({}));
        let meta = message["params"]["_meta"].as_object_mut().unwrap();
        meta.insert("com.example/mode".to_owned(), json!(mode));
        for label in ["claudecode/toolUseId", "traceparent", "progressToken"] {
            meta.insert(label.to_owned(), json!(attempt));
        }
        message
    };
    let (_state, page) = question(&send(&stage, &token, "files", &with("dry-run", "1")).await);
    let [ask] = asks(&stage, 1).await.try_into().unwrap();
    assert_eq!(ask.what.operation.uninspected, ["_meta.com.example/mode"], "people hear of it");
    approve(&stage, &ask).await;

    for other in [with("for-real", "2"), pay(&json!({}))] {
        let asked = send(&stage, &token, "files", &other).await;
        assert_ne!(question(&asked).1, page, "it is another call");
    }
    assert!(stage.server.arrivals().is_empty());
    let again = with("dry-run", "3");
    let answer = send(&stage, &token, "files", &again).await;
    assert_eq!(answer.json()["result"]["resultType"], "complete", "{}", answer.text());
    assert_eq!(stage.server.arrivals()[0].json(), again, "the server gets it as it came");
}
