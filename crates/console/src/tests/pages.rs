//! The contents of the pages, and the event stream that keeps them up to date.

use super::test_console::{TestConsole, new_approval_request};
use crate::AwsIdentityState;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn the_approvals_page_separates_requests_for_the_viewer_from_others() {
    let console = TestConsole::start().await;
    console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let page = alice.get("/").await.body;
    assert!(page.contains("Waiting for you <span class=\"count\">1</span>"), "{page}");
    assert!(page.contains("arn:aws:s3:::payroll") && page.contains("2 more approvals from oncall"), "{page}");
    let mut carol = console.sign_in_person("carol", "finance").await;
    let page = carol.get("/").await.body;
    assert!(page.contains("Waiting for you <span class=\"count\">0</span>"), "{page}");
    assert!(page.contains("Waiting for others <span class=\"count\">1</span>"), "{page}");
}

#[tokio::test]
async fn an_approval_request_shows_decoded_parts_and_marks_uninspected_ones() {
    let console = TestConsole::start().await;
    let mut new = new_approval_request();
    new.operation.uninspected_parts = vec!["body".to_owned()];
    new.operation.parameters = json!({"Bucket": "payroll", "Key": "***", "Long": "x".repeat(9_000)});
    new.operation.sensitive_pointers = vec!["/Key".to_owned()];
    let approval_request = console.open_approval_request_with(new).await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
    for wanted in [
        "corp/agent-7",
        "boss",
        "arn:aws:s3:::payroll",
        "123456789012",
        "eu-west-1",
        "192.0.2.7",
        "set by the caller, not verified",
        "Not inspected",
        "no-deletion",
        "0 of 2",
        "cannot be restored",
        "1000 more characters are not shown here",
        "masked</span>",
        &approval_request.digest_hex(),
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let whole = alice.get(&format!("/approvals/{}/parameters.json", approval_request.id)).await;
    assert!(whole.body.contains(&"x".repeat(9_000)));
    assert!(whole.headers[header::CONTENT_DISPOSITION].to_str().unwrap().starts_with("attachment"));
}

#[tokio::test]
async fn an_approval_request_shows_the_tags_of_its_resources() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let page_with = |tags: serde_json::Value, digest| {
        let mut new = new_approval_request();
        new.tags = serde_json::from_value(tags).unwrap();
        new.digest = [digest; 32];
        new
    };
    let approval_request = console.open_approval_request_with(page_with(json!({}), 1)).await;
    assert!(!alice.get(&format!("/approvals/{}", approval_request.id)).await.body.contains("<dt>Tags</dt>"));
    let one = json!({"arn:aws:s3:::payroll": {"critical": "true", "owner": "hr"}});
    let approval_request = console.open_approval_request_with(page_with(one, 2)).await;
    let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
    assert!(page.contains(">critical=true</span>") && page.contains(">owner=hr</span>"), "{page}");
    let two = json!({"arn:aws:s3:::payroll": {"critical": "true"}, "arn:aws:s3:::other": {}});
    let approval_request = console.open_approval_request_with(page_with(two, 3)).await;
    let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
    assert!(page.contains("<code>arn:aws:s3:::other</code>: none"), "{page}");
    assert!(page.contains("<code>arn:aws:s3:::payroll</code>: <span"), "{page}");
}

#[tokio::test]
async fn the_history_is_described_in_words() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let mut bob = console.sign_in_person("bob", "oncall").await;
    for person in [&mut alice, &mut bob] {
        assert_eq!(
            person.cast_vote(&approval_request, "vote=approve_once").await.status,
            StatusCode::SEE_OTHER
        );
    }
    let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
    let granted = page.split("<strong>grant created</strong>, valid until ").nth(1).unwrap();
    assert_eq!(page.matches("approved once").count(), 2, "each vote once: {page}");
    let until = granted.split("</li>").next().unwrap();
    assert!(page.matches("<strong>approved once</strong> by corp/bob").count() == 1, "{page}");
    assert!(until.len() == "2026-11-21 12:00:00 UTC".len() && until.ends_with(" UTC"), "{until}");
}

#[tokio::test]
async fn the_other_pages_show_their_contents() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    for (path, wanted) in [
        ("/sessions", "No caller has opened a session yet"),
        ("/connections", "arn:aws:iam::123456789012:role/agents"),
        ("/health", "All checks pass."),
        ("/policies", "1 policy in force"),
        ("/policies?action=connect&resource=prod", "allow: connect on prod"),
        (
            "/policies?action=s3:GetObject&resource=arn:aws:s3:::a/b",
            "connection: prod (the only one of the configuration)",
        ),
        ("/policies?action=dynamodb:Scan&parameters={", "The parameters are not JSON"),
        ("/policies?action=nonsense", "Unknown action nonsense: use connect, reveal,"),
    ] {
        let response = alice.get(path).await;
        assert_eq!(response.status, StatusCode::OK, "{path}");
        assert!(response.body.contains(wanted), "{path}: {}", response.body);
    }
    std::fs::write(console.dir.path().join("policies/b.cedar"), "permit (").unwrap();
    let page = alice.get("/policies").await.body;
    assert!(page.contains("The files do not load, and the last good set stays in force"), "{page}");
    let style = page.split("href=\"/assets/console-").nth(1).unwrap().split('"').next().unwrap();
    let response = alice.get(&format!("/assets/console-{style}")).await;
    assert_eq!(response.headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
    assert_eq!(response.headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    assert_eq!(alice.get("/assets/console.css").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_channel_that_fails_is_on_the_health_page_and_in_the_api() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let token = console.issue_token("alice", &["oncall"]);
    let (_status, all) = console.call_api(Method::GET, "/api/v1/channels", &token, "").await;
    let unused = json!({"name": "oncall-chat", "kind": "slack", "pending_messages": 0, "last_success": null,
        "failing_since": null, "last_error": null});
    assert_eq!(all, json!({"channels": [unused]}));
    let page = alice.get("/health").await.body;
    assert!(
        page.contains("oncall-chat") && page.contains("not used yet") && page.contains("1 channel<"),
        "{page}"
    );
    let mut write = console.store.begin_write().await.unwrap();
    write.advance_channel_cursor("oncall-chat", 0).await.unwrap();
    write
        .record_channel_failure("oncall-chat", 1_763_694_425_000, "it <b>responded</b> \u{202e}500")
        .await
        .unwrap();
    write.insert_delivery("oncall-chat", "1", "approval_request.opened", 1).await.unwrap();
    write.commit().await.unwrap();
    let page = alice.get("/health").await.body;
    for wanted in [
        "1 of 1 channels failing: oncall-chat",
        "Failing</span> since 2025-11-21 03:07:05 UTC",
        "&#60;b&#62;responded",
        "\\u{202e}500",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let (_status, all) = console.call_api(Method::GET, "/api/v1/channels", &token, "").await;
    assert_eq!(all["channels"][0]["failing_since"], "2025-11-21T03:07:05Z");
    assert_eq!(all["channels"][0]["pending_messages"], 1);
    assert_eq!(
        console.call_api(Method::GET, "/api/v1/health", &token, "").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn health_fails_without_an_aws_identity_and_warns_of_a_long_lived_key() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let token = console.issue_token("alice", &["oncall"]);
    assert!(alice.get("/health").await.body.contains("from environment variables<"));
    assert_eq!(console.call_api(Method::GET, "/api/v1/health", &token, "").await.0, StatusCode::OK);
    let since = time::OffsetDateTime::from_unix_timestamp(1_763_694_425).unwrap();
    let why = "no credential found in <b>environment".to_owned();
    *console.aws_identity.0.lock().unwrap() = AwsIdentityState::Missing { since, reason: why };
    let page = alice.get("/health").await.body;
    for wanted in
        [">Failing<", "none since 2025-11-21 03:07:05 UTC", "no credential found in &#60;b&#62;environment"]
    {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let (status, health) = console.call_api(Method::GET, "/api/v1/health", &token, "").await;
    assert_eq!((status, &health["healthy"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    *console.aws_identity.0.lock().unwrap() = AwsIdentityState::Unresolved;
    assert!(alice.get("/health").await.body.contains("none found yet"));
    let source = "environment".to_owned();
    *console.aws_identity.0.lock().unwrap() = AwsIdentityState::Found { source, long_lived: true };
    let page = alice.get("/health").await.body;
    assert!(page.contains("long-lived access key") && page.contains("All checks pass."), "{page}");
}

#[tokio::test]
async fn a_change_reaches_a_listening_page_and_program() {
    let console = TestConsole::start().await;
    let alice = console.sign_in_person("alice", "oncall").await;
    let cookie = format!("durward={}", alice.cookies["durward"]);
    let bearer = format!("Bearer {}", console.issue_token("alice", &["oncall"]));
    let mut streams = Vec::new();
    for (path, name, value) in [("/events", "cookie", &cookie), ("/api/v1/events", "authorization", &bearer)]
    {
        let request = Request::get(path).header("host", "127.0.0.1:8600").header(name, value);
        let response = console.app.respond(request.body(Full::new(Bytes::new())).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        streams.push(response.into_body());
    }
    let approval_request = console.open_approval_request().await;
    for mut stream in streams {
        let mut text = String::new();
        while !text.contains("event: approval_request") {
            let frame = tokio::time::timeout(Duration::from_secs(5), stream.frame()).await.unwrap();
            text.push_str(std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap());
        }
        assert!(text.contains(&format!("data: {{\"id\":\"{}\"}}", approval_request.id)), "{text}");
    }
}

#[tokio::test]
async fn one_person_cannot_use_up_the_streams_of_others() {
    let console = TestConsole::start().await;
    let (alice, bob) =
        (console.sign_in_person("alice", "oncall").await, console.sign_in_person("bob", "oncall").await);
    let page = |cookie: &str| ("/events", "cookie", format!("durward={cookie}"));
    let program = |subject: &str| {
        ("/api/v1/events", "authorization", format!("Bearer {}", console.issue_token(subject, &["oncall"])))
    };
    let listen = async |(path, name, value): (&str, &str, String)| {
        let request = Request::get(path).header("host", "127.0.0.1:8600").header(name, value);
        let response = console.app.respond(request.body(Full::new(Bytes::new())).unwrap()).await;
        (response.status() == StatusCode::OK).then(|| response.into_body())
    };
    let mut streams = Vec::new();
    while let Some(stream) = listen(page(&alice.cookies["durward"])).await {
        streams.push(stream);
        assert!(streams.len() <= 16, "one person uses up all streams");
    }
    assert_eq!(streams.len(), 16);
    assert!(listen(program("alice")).await.is_none(), "the same person with a token");
    assert!(listen(page(&bob.cookies["durward"])).await.is_some());
    assert!(listen(program("bob")).await.is_some());
    streams.pop();
    assert!(listen(program("alice")).await.is_some(), "a closed stream makes room for another");
}

/// The request of an agent to write a policy of forty statements, the last of which allows everything.
fn request_with_forty_statements(encode: impl Fn(String) -> String) -> durward_approval::NewApprovalRequest {
    let mut statements: Vec<serde_json::Value> = (1..40)
        .map(|number| {
            json!({
                "Sid": format!("Read{number}"),
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": format!("arn:aws:s3:::team-{number}/*"),
            })
        })
        .collect();
    statements.push(json!({"Sid": "Last", "Effect": "Allow", "Action": "*", "Resource": "*"}));
    let mut new = new_approval_request();
    let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    new.operation.service = "iam".to_owned();
    new.operation.name = "PutRolePolicy".to_owned();
    new.operation.parameters =
        json!({"PolicyDocument": encode(document), "PolicyName": "p", "RoleName": "build"});
    let context = durward_core::RiskContext {
        is_first_seen: false,
        resource_tags: None,
        has_unnamed_resource: false,
        risky_tags: &[],
    };
    new.risk = durward_core::assess_risk(&new.operation, context);
    new
}

#[tokio::test]
async fn a_broad_grant_in_the_last_of_forty_statements_is_at_the_top() {
    let console = TestConsole::start().await;
    let percent_encode = |document: String| {
        percent_encoding::utf8_percent_encode(&document, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let plain = request_with_forty_statements(|document| document);
    let mut encoded = request_with_forty_statements(percent_encode);
    encoded.digest = [7; 32];
    let mut alice = console.sign_in_person("alice", "oncall").await;
    for (new, label) in [(plain, "JSON, indented"), (encoded, "JSON, decoded and indented")] {
        let approval_request = console.open_approval_request_with(new).await;
        let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
        let (head, rest) = page.split_once("<div class=\"columns\">").unwrap();
        let finding = "Allows every action on every resource: PolicyDocument, statement 40 of 40 (Last)";
        assert!(head.contains(finding), "{head}");
        for wanted in ["arn:aws:s3:::payroll", "cannot be undone", "severe", "No caller is waiting"] {
            assert!(head.contains(wanted), "{wanted}: {head}");
        }
        assert!(rest.contains(label), "{rest}");
        let document = rest.split("class=\"document\"").nth(1).unwrap().split("</pre>").next().unwrap();
        let last = "      &#34;Resource&#34;: &#34;*&#34;";
        assert!(document.lines().any(|line| line == last), "{document}");
        assert!(document.lines().count() > 280, "{document}");
    }
    let list = alice.get("/").await.body;
    assert_eq!(list.matches("Allows every action on every resource").count(), 2, "{list}");
}

#[tokio::test]
async fn a_request_without_broad_grants_has_no_finding() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
    assert!(!page.contains("<strong>Broad grant</strong>"), "{page}");
}

#[tokio::test]
async fn text_of_several_lines_and_inner_documents_are_blocks() {
    let console = TestConsole::start().await;
    let mut new = new_approval_request();
    new.operation.parameters = json!({
        "UserData": "#!/bin/sh\necho <b>\n",
        "Attributes": {"Policy": "{\"a\":[1]}"},
        "Big": json!((0..40_000).collect::<Vec<u32>>()).to_string(),
    });
    let approval_request = console.open_approval_request_with(new).await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let page = alice.get(&format!("/approvals/{}", approval_request.id)).await.body;
    for wanted in [
        ">#!/bin/sh\necho &#60;b&#62;\n</pre>",
        "<code>Attributes/Policy</code> <span class=\"faint\">JSON, indented</span>",
        ">{\n  &#34;a&#34;: [\n    1\n  ]\n}</pre>",
        "more characters are not shown here",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
}

#[tokio::test]
async fn the_page_says_whether_the_caller_is_waiting() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let path = format!("/approvals/{}", approval_request.id);
    let held = console.approvals.end_waiter(approval_request.id).await.unwrap();
    assert!(alice.get(&path).await.body.contains("The caller is waiting:"));
    drop(held);
    let page = alice.get(&path).await.body;
    assert!(page.contains("No caller is waiting") && !page.contains("The caller is waiting:"), "{page}");
}
