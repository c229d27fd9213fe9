//! A caller that disconnects while its request is held, and the memory that a held request counts for.

use super::{put_object, start_with_hold};
use durward_approval::ApprovalState;
use durward_integration::{SdkRequest, wait_until};
use http::{HeaderMap, Request};
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
    let gateway = start_with_hold(Duration::from_mins(10)).await;
    let agent = gateway.sign_in_agent("agent").await;
    let available_kib = || gateway.running.approval_step.available_held_kib();
    let free = available_kib();
    // The gateway does not read the body of this upload before the approval, so the disconnect is behind unread bytes.
    let upload = SdkRequest { is_body_unsigned: true, ..put_object("report") };
    let mut caller = TcpStream::connect(gateway.running.aws_address.unwrap()).await.unwrap();
    let head = request_head(&agent.sign(&upload).unwrap(), upload.body.len());
    caller.write_all(head.as_bytes()).await.unwrap();
    caller.write_all(&upload.body[..2]).await.unwrap();
    let approval_request = gateway.wait_for_approval_request().await;
    wait_until("it is held", || async { (available_kib() < free).then_some(()) }).await;

    drop(caller);
    wait_until("its permit is released", || async { (available_kib() == free).then_some(()) }).await;
    assert_eq!(gateway.approval_request(approval_request.id).await.state, ApprovalState::Pending);

    // Nothing is executed for a client that is gone. When it sends again, it passes, once.
    gateway.approve(approval_request.id, "ann").await;
    assert_eq!((gateway.upstream_call_count(), gateway.intent_count().await), (0, 0));
    assert_eq!(gateway.approval_request(approval_request.id).await.state, ApprovalState::Approved);
    let sent = tokio::time::timeout(Duration::from_mins(1), gateway.call_aws(&agent, &upload));
    let response = sent.await.expect("it is not held again");
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(
        (gateway.upstream_call_count(), gateway.approval_request(approval_request.id).await.state),
        (1, ApprovalState::Consumed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn padding_outside_the_operation_counts_against_held_memory() {
    const PADDING_BYTES: usize = 4 << 20;
    let gateway = start_with_hold(Duration::from_mins(10)).await;
    let agent = gateway.sign_in_agent("agent").await;
    let available_kib = || gateway.running.approval_step.available_held_kib();
    let free = available_kib();
    let item = r#"{"TableName":"orders","Key":{"id":{"S":"1"}}}"#;
    let body = item.to_owned() + &" ".repeat(PADDING_BYTES);
    let delete = SdkRequest::json_call("dynamodb", "DynamoDB_20120810.DeleteItem", body);
    let mut caller = TcpStream::connect(gateway.running.aws_address.unwrap()).await.unwrap();
    caller
        .write_all(request_head(&agent.sign(&delete).unwrap(), delete.body.len()).as_bytes())
        .await
        .unwrap();
    caller.write_all(&delete.body).await.unwrap();
    let approval_request = gateway.wait_for_approval_request().await;
    assert_eq!(approval_request.details.operation.name, "DeleteItem");
    let taken =
        wait_until("it is held", || async { Some(free - available_kib()).filter(|taken| *taken > 0) }).await;
    assert!((PADDING_BYTES / 1024..PADDING_BYTES / 1024 + 128).contains(&taken), "{taken} KiB");
}
