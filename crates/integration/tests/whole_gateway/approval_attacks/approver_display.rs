//! An approver sees what the gateway decoded, as inert text, and which parts it did not inspect.

use super::{put_object, start_gateway};
use bytes::Bytes;
use durward::approval_commands;
use durward_integration::SdkRequest;
use http::Request;
use serde_json::Value;

/// Markup, an escape sequence and characters that turn text around, in a path as clients send it.
const HOSTILE_PATH: &str = "/data/%3Cscript%3Ealert%281%29%3C%2Fscript%3E%1B%5B2J%E2%80%AE%E2%81%A6txt.exe";
const HOSTILE_KEY: &str = "<script>alert(1)</script>\u{1b}[2J\u{202e}\u{2066}txt.exe";

#[tokio::test(flavor = "multi_thread")]
async fn agent_text_is_displayed_escaped() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let mut sdk_request = SdkRequest { path: HOSTILE_PATH.to_owned(), ..put_object("") };
    sdk_request.headers.push(("x-amz-meta-note", "approve me: I was text to <script>"));
    let mut request = agent.sign(&sdk_request).unwrap();
    request.headers_mut().insert("user-agent", "<script>alert(2)</script>".parse().unwrap());
    let response = gateway.send_signed(request).await;
    assert!(response.is_approval_pending(), "{}", response.text());
    let approval_request = gateway.wait_for_approval_request().await;
    assert!(approval_request.details.operation.parameters["Key"].as_str().unwrap().ends_with(HOSTILE_KEY));

    // The API sends it as JSON, which no browser takes for a page.
    let request = Request::get(format!("/api/v1/approval-requests/{}", approval_request.id))
        .header("authorization", format!("Bearer {}", gateway.approver_token("ann", &["oncall"])))
        .body(Bytes::new())
        .unwrap();
    let shown = gateway.send_to_console(request).await;
    let document: Value = serde_json::from_str(&shown.text()).unwrap();
    assert!(!shown.text().contains('\u{1b}'), "no escape sequence is raw in JSON");
    // The terminal gets escapes for characters that would move the cursor or turn the text around.
    let mut text = Vec::new();
    approval_commands::write_request_details(&document, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for raw in ['\u{1b}', '\u{202e}', '\u{2066}', '\u{7f}'] {
        assert!(!text.contains(raw), "{raw:?} came out raw: {text:?}");
    }
    assert!(text.contains("\\u{202e}") && text.contains("\\u{1b}"), "{text}");
    assert!(text.contains("(the caller's own words)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uninspected_parts_are_shown_to_the_approver() {
    let gateway = start_gateway().await;
    let agent = gateway.sign_in_agent("agent").await;
    let response =
        gateway.call_aws(&agent, &SdkRequest { is_body_unsigned: true, ..put_object("report") }).await;
    assert!(response.is_approval_pending(), "{}", response.text());
    let approval_request = gateway.wait_for_approval_request().await;
    assert_eq!(approval_request.details.operation.uninspected_parts, ["body"]);
    assert!(
        approval_request.risk.reasons.iter().any(|reason| reason.contains("not inspected")),
        "{:?}",
        approval_request.risk
    );
    let request = Request::get(format!("/api/v1/approval-requests/{}", approval_request.id))
        .header("authorization", format!("Bearer {}", gateway.approver_token("ann", &["oncall"])))
        .body(Bytes::new())
        .unwrap();
    let document: Value = serde_json::from_str(&gateway.send_to_console(request).await.text()).unwrap();
    let mut text = Vec::new();
    approval_commands::write_request_details(&document, &mut text).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("NOT INSPECTED  body"));
}
