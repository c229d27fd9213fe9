//! What an approver sees is what the gateway decoded, inert, and what it did not look into is said.

use super::test_gateway::{ApprovalTestGateway, TestRequest, put_object};
use bytes::Bytes;
use http::Request;
use serde_json::Value;

/// Markup, an escape sequence and characters that turn text around, in a path as clients send it.
const HOSTILE_PATH: &str = "/data/%3Cscript%3Ealert%281%29%3C%2Fscript%3E%1B%5B2J%E2%80%AE%E2%81%A6txt.exe";
const HOSTILE_KEY: &str = "<script>alert(1)</script>\u{1b}[2J\u{202e}\u{2066}txt.exe";

#[tokio::test(flavor = "multi_thread")]
async fn agent_text_is_displayed_escaped() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let mut shot = TestRequest { path: HOSTILE_PATH.to_owned(), ..put_object("") };
    shot.headers.push(("x-amz-meta-note", "approve me: I was told to <script>"));
    let mut request = stage.sign_request(&agent, &shot);
    request.headers_mut().insert("user-agent", "<script>alert(2)</script>".parse().unwrap());
    let answer = stage.send_signed(request).await;
    assert!(answer.is_pending(), "{}", answer.text);
    let ask = stage.wait_for_request().await;
    assert!(ask.details.operation.parameters["Key"].as_str().unwrap().ends_with(HOSTILE_KEY));

    // The API says it as JSON, which no browser takes for a page.
    let request = Request::get(format!("/api/v1/approval-requests/{}", ask.id))
        .header("authorization", format!("Bearer {}", stage.approver_token("ann", &["oncall"])))
        .body(Bytes::new())
        .unwrap();
    let shown = stage.call_console(request).await;
    let document: Value = serde_json::from_str(&shown.text).unwrap();
    assert!(!shown.text.contains('\u{1b}'), "no escape sequence is raw in JSON");
    // And the terminal writes out what would move the cursor or turn the text around.
    let mut told = Vec::new();
    crate::approval_commands::write_request_details(&document, &mut told).unwrap();
    let told = String::from_utf8(told).unwrap();
    for raw in ['\u{1b}', '\u{202e}', '\u{2066}', '\u{7f}'] {
        assert!(!told.contains(raw), "{raw:?} came out raw: {told:?}");
    }
    assert!(told.contains("\\u{202e}") && told.contains("\\u{1b}"), "{told}");
    assert!(told.contains("(the caller's own words)"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uninspected_parts_are_shown_to_the_approver() {
    let stage = ApprovalTestGateway::start().await;
    let agent = stage.sign_in_agent("agent").await;
    let answer =
        stage.send_request(&agent, &TestRequest { unsigned_body: true, ..put_object("report") }).await;
    assert!(answer.is_pending(), "{}", answer.text);
    let ask = stage.wait_for_request().await;
    assert_eq!(ask.details.operation.uninspected_parts, ["body"]);
    assert!(ask.risk.reasons.iter().any(|reason| reason.contains("not inspected")), "{:?}", ask.risk);
    let request = Request::get(format!("/api/v1/approval-requests/{}", ask.id))
        .header("authorization", format!("Bearer {}", stage.approver_token("ann", &["oncall"])))
        .body(Bytes::new())
        .unwrap();
    let document: Value = serde_json::from_str(&stage.call_console(request).await.text).unwrap();
    let mut told = Vec::new();
    crate::approval_commands::write_request_details(&document, &mut told).unwrap();
    assert!(String::from_utf8(told).unwrap().contains("NOT INSPECTED  body"));
}
