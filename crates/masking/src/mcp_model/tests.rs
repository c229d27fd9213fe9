use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::tests::{SAMPLE_KEY_ID, SAMPLE_SECRET_KEY, reveal_nothing, shared_masker};
use crate::{BodyFormat, CustomPattern, DataClass, MaskedBody, Masker, MaskerOptions, MaskingPlan};

const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJuIjoxfQ.c2lnbmF0dXJlLWhlcmU";

fn mask_with(masker: &Masker, message: &Value) -> Value {
    let body = serde_json::to_vec(message).unwrap();
    match masker.mask_body(&body, BodyFormat::Json, Some(&MaskingPlan::for_mcp()), &reveal_nothing).unwrap() {
        MaskedBody::Unchanged => message.clone(),
        MaskedBody::Changed { body, .. } => serde_json::from_slice(&body).unwrap(),
    }
}

fn mask_message(message: &Value) -> Value {
    mask_with(shared_masker(), message)
}

#[test]
fn searches_binary_content_decoded_only() {
    let looks_alike = format!("AAAAIQoJ{}", "A".repeat(96));
    let result = |data: &str| {
        json!({"result": {
            "content": [
                {"type": "image", "data": data, "mimeType": "image/png"},
                {"type": "resource", "resource": {"uri": "file:///a", "blob": data}},
            ],
            "contents": [{"uri": "file:///a", "blob": data}],
            "messages": [{"role": "user", "content": {"type": "audio", "data": data}}],
        }})
    };
    assert_eq!(mask_message(&result(&looks_alike)), result(&looks_alike));
    let secret = STANDARD.encode(format!("key = {SAMPLE_KEY_ID}"));
    assert_eq!(mask_message(&result(&secret)), result(&STANDARD.encode("key = [masked: aws-key]")));
}

#[test]
fn keeps_what_the_client_sends_back_or_opens() {
    let message = json!({"result": {
        "nextCursor": JWT,
        "requestState": JWT,
        "inputRequests": {"q": {"method": "elicitation/create", "params": {
            "mode": "url", "elicitationId": JWT, "url": format!("https://login.example/?state={JWT}"),
        }}},
        "task": {"taskId": JWT},
        "resources": [{"uri": format!("x://{JWT}"), "name": "n"}],
        "content": [{"type": "resource_link", "uri": format!("x://{JWT}")}],
        "_meta": {"io.modelcontextprotocol/related-task": {"taskId": JWT}},
    }, "params": {"progressToken": JWT}, "error": {"data": {"elicitations": [{"url": format!("https://l/?s={JWT}")}]}}});
    assert_eq!(mask_message(&message), message);
    // The same names in what a tool returns are data.
    let inside = json!({"result": {"content": [{"type": "text", "text": "x", "nextCursor": JWT}],
        "structuredContent": {"url": JWT, "nextCursor": JWT}}});
    assert!(!mask_message(&inside).to_string().contains(JWT));
}

#[test]
fn keeps_the_form_of_what_a_schema_may_describe() {
    let badge = CustomPattern::new(DataClass::parse("badge").unwrap(), r"B-\d{6}").unwrap();
    let masker = Masker::new(MaskerOptions { patterns: vec![badge] });
    let message = |id: &str, jwt: &str, key: &str, badge: &str| json!({"result": {"structuredContent": {"id": id, "n": 7, "deep": [{"t": jwt, "AWS_SECRET_ACCESS_KEY": key}], "b": badge}}});
    let masked = message(
        "AKIAMASKEDMASKEDMASK",
        "eyJMASKEDMASKEDMASKE.DMASKEDMAS.KEDMASKEDMASKEDMASK",
        "MASKEDMASKEDMASKEDMASKEDMASKEDMASKEDMASK",
        "X-000000",
    );
    assert_eq!(mask_with(&masker, &message(SAMPLE_KEY_ID, JWT, SAMPLE_SECRET_KEY, "B-123456")), masked);
    assert_eq!(mask_with(&masker, &masked), masked, "a mask is no secret");
    let content = json!({"result": {"content": [{"type": "text", "text": SAMPLE_KEY_ID}]}});
    assert_eq!(mask_message(&content)["result"]["content"][0]["text"], "[masked: aws-key]");
}
