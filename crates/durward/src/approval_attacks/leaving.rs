//! A caller that does not wait for the answer, and what one that waits takes.

use super::stage::{Shot, Stage, put, until};
use durward_approval::State;
use http::{HeaderMap, Method, Request};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The head of a request with a body of this length, as bytes.
fn head<B>(request: &Request<B>, length: usize) -> String {
    let mut text = format!("{} {} HTTP/1.1\r\ncontent-length: {length}\r\n", request.method(), request.uri());
    let headers: &HeaderMap = request.headers();
    for (name, value) in headers {
        write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    text + "\r\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_frees_its_place_and_leaves_the_ask() {
    let stage = Stage::holding(Duration::from_mins(10)).await;
    let agent = stage.agent("agent").await;
    let places = || stage.running.rooms.held.free();
    let free = places();
    // An upload whose body nobody reads before people answer: its end stands behind what was not read.
    let upload = Shot { unsigned_body: true, ..put("report") };
    let mut caller = TcpStream::connect(stage.running.aws.unwrap()).await.unwrap();
    let head = head(&stage.signed(&agent, &upload), upload.body.len());
    caller.write_all(head.as_bytes()).await.unwrap();
    caller.write_all(&upload.body.as_bytes()[..2]).await.unwrap();
    let ask = stage.asked().await;
    until("it is held", || async { (places() < free).then_some(()) }).await;

    drop(caller);
    until("its place is free", || async { (places() == free).then_some(()) }).await;
    assert_eq!(stage.get(ask.id).await.state, State::Pending);

    // Nothing is executed for somebody who is gone; who comes again is let through, once.
    stage.approve(ask.id, "ann").await;
    assert_eq!((stage.seen(), stage.intents().await), (0, 0));
    assert_eq!(stage.get(ask.id).await.state, State::Approved);
    let sent = tokio::time::timeout(Duration::from_mins(1), stage.send(&agent, &upload));
    let answer = sent.await.expect("it is not held again");
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((stage.seen(), stage.get(ask.id).await.state), (1, State::Used));
}

#[tokio::test(flavor = "multi_thread")]
async fn spaces_that_no_operation_shows_take_room_all_the_same() {
    const SPACES: usize = 4 << 20;
    let stage = Stage::holding(Duration::from_mins(10)).await;
    let agent = stage.agent("agent").await;
    let places = || stage.running.rooms.held.free();
    let free = places();
    let item = r#"{"TableName":"orders","Key":{"id":{"S":"1"}}}"#;
    let delete = Shot {
        method: Method::POST,
        service: "dynamodb",
        region: "us-east-1",
        path: "/".to_owned(),
        query: "",
        headers: vec![
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", "DynamoDB_20120810.DeleteItem"),
        ],
        body: Box::leak((item.to_owned() + &" ".repeat(SPACES)).into_boxed_str()),
        unsigned_body: false,
    };
    let mut caller = TcpStream::connect(stage.running.aws.unwrap()).await.unwrap();
    caller.write_all(head(&stage.signed(&agent, &delete), delete.body.len()).as_bytes()).await.unwrap();
    caller.write_all(delete.body.as_bytes()).await.unwrap();
    let ask = stage.asked().await;
    assert_eq!(ask.what.operation.name, "DeleteItem");
    let taken = until("it is held", || async { Some(free - places()).filter(|taken| *taken > 0) }).await;
    assert!((SPACES / 1024..SPACES / 1024 + 128).contains(&taken), "{taken} KiB");
}
