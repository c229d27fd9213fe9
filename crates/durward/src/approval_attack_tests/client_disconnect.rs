//! A caller that does not wait for the answer, and what one that waits takes.

use super::test_gateway::{ApprovalTestGateway, TestRequest, put_object, wait_until};
use durward_approval::ApprovalState;
use http::{HeaderMap, Method, Request};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The head of a request with a body of this length, as bytes.
fn request_head<B>(request: &Request<B>, length: usize) -> String {
    let mut text = format!("{} {} HTTP/1.1\r\ncontent-length: {length}\r\n", request.method(), request.uri());
    let headers: &HeaderMap = request.headers();
    for (name, value) in headers {
        write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    text + "\r\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_releases_the_permit_and_keeps_the_approval_request() {
    let stage = ApprovalTestGateway::start_with_hold(Duration::from_mins(10)).await;
    let agent = stage.sign_in_agent("agent").await;
    let places = || stage.gateway.approval_step.available_held_kib();
    let free = places();
    // An upload whose body nobody reads before people answer: its end stands behind what was not read.
    let upload = TestRequest { unsigned_body: true, ..put_object("report") };
    let mut caller = TcpStream::connect(stage.gateway.aws_address.unwrap()).await.unwrap();
    let head = request_head(&stage.sign_request(&agent, &upload), upload.body.len());
    caller.write_all(head.as_bytes()).await.unwrap();
    caller.write_all(&upload.body.as_bytes()[..2]).await.unwrap();
    let ask = stage.wait_for_request().await;
    wait_until("it is held", || async { (places() < free).then_some(()) }).await;

    drop(caller);
    wait_until("its place is free", || async { (places() == free).then_some(()) }).await;
    assert_eq!(stage.get_request(ask.id).await.state, ApprovalState::Pending);

    // Nothing is executed for somebody who is gone; who comes again is let through, once.
    stage.approve_request(ask.id, "ann").await;
    assert_eq!((stage.upstream_call_count(), stage.intent_count().await), (0, 0));
    assert_eq!(stage.get_request(ask.id).await.state, ApprovalState::Approved);
    let sent = tokio::time::timeout(Duration::from_mins(1), stage.send_request(&agent, &upload));
    let answer = sent.await.expect("it is not held again");
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        (stage.upstream_call_count(), stage.get_request(ask.id).await.state),
        (1, ApprovalState::Consumed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn padding_outside_the_operation_counts_against_held_memory() {
    const PADDING_BYTES: usize = 4 << 20;
    let stage = ApprovalTestGateway::start_with_hold(Duration::from_mins(10)).await;
    let agent = stage.sign_in_agent("agent").await;
    let places = || stage.gateway.approval_step.available_held_kib();
    let free = places();
    let item = r#"{"TableName":"orders","Key":{"id":{"S":"1"}}}"#;
    let delete = TestRequest {
        method: Method::POST,
        service: "dynamodb",
        region: "us-east-1",
        path: "/".to_owned(),
        query: "",
        headers: vec![
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", "DynamoDB_20120810.DeleteItem"),
        ],
        body: Box::leak((item.to_owned() + &" ".repeat(PADDING_BYTES)).into_boxed_str()),
        unsigned_body: false,
    };
    let mut caller = TcpStream::connect(stage.gateway.aws_address.unwrap()).await.unwrap();
    caller
        .write_all(request_head(&stage.sign_request(&agent, &delete), delete.body.len()).as_bytes())
        .await
        .unwrap();
    caller.write_all(delete.body.as_bytes()).await.unwrap();
    let ask = stage.wait_for_request().await;
    assert_eq!(ask.details.operation.name, "DeleteItem");
    let taken = wait_until("it is held", || async { Some(free - places()).filter(|taken| *taken > 0) }).await;
    assert!((PADDING_BYTES / 1024..PADDING_BYTES / 1024 + 128).contains(&taken), "{taken} KiB");
}
