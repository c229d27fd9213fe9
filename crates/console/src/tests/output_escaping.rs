//! Text of a caller, an agent or an identity provider is inert in every page.

use super::test_console::{TestConsole, new_approval_request};
use durward_approval::NewApprovalRequest;
use durward_core::{
    AccessLevel, Caller, CallerKind, Decision, ExchangeId, RefusalReason, RequiredPermission, Resource,
    SessionId, Verdict,
};
use durward_journal::{Journal, JournalOptions, JournalRecord};
use serde_json::json;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Markup, quotes, a line feed, an escape sequence, and direction and zero-width characters.
const HOSTILE_TEXT: &str =
    "</pre><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\n\u{1b}[31m\u{202e}\u{2066}\u{200b}";

/// Asserts that nothing of [`HOSTILE_TEXT`] is in the page as it was written.
fn assert_no_raw_text(page: &str, what: &str) {
    for raw in ["<script>alert", "<img", "\u{1b}", "\u{202e}", "\u{2066}", "\u{200b}", "\"'>"] {
        assert!(!page.contains(raw), "{what}: {raw:?} is not escaped");
    }
}

/// Asserts that the page contains [`HOSTILE_TEXT`], and only escaped.
fn assert_inert(page: &str, what: &str) {
    assert_no_raw_text(page, what);
    assert!(page.contains("\\u{202e}"), "{what}: the text is missing");
    assert!(
        page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"),
        "{what}: the text is missing"
    );
}

#[tokio::test]
async fn every_field_of_an_approval_request_comes_out_inert_in_every_page() {
    type SetField = fn(&mut NewApprovalRequest);
    let fields: [(&str, SetField); 24] = [
        ("subject", |new| new.caller.subject = HOSTILE_TEXT.to_owned()),
        ("provider", |new| new.caller.provider = HOSTILE_TEXT.to_owned()),
        ("issuer", |new| new.caller.issuer = HOSTILE_TEXT.to_owned()),
        ("groups", |new| new.caller.groups = vec![HOSTILE_TEXT.to_owned()]),
        ("act", |new| new.caller.act = vec![HOSTILE_TEXT.to_owned()]),
        ("connection", |new| new.connection = HOSTILE_TEXT.to_owned()),
        ("user agent", |new| new.user_agent = Some(HOSTILE_TEXT.to_owned())),
        ("service", |new| new.operation.service = HOSTILE_TEXT.to_owned()),
        ("operation", |new| new.operation.name = HOSTILE_TEXT.to_owned()),
        ("action", |new| new.operation.required_permissions[0].action = HOSTILE_TEXT.to_owned()),
        ("resource", |new| {
            new.operation.required_permissions[0].resource = Resource::Arn(HOSTILE_TEXT.to_owned());
        }),
        ("tool", |new| {
            new.operation.required_permissions[0].resource =
                Resource::McpTool { server: HOSTILE_TEXT.to_owned(), name: HOSTILE_TEXT.to_owned() };
        }),
        ("parameter name", |new| new.operation.parameters = json!({HOSTILE_TEXT: 1})),
        ("parameter", |new| new.operation.parameters = json!({"Bucket": HOSTILE_TEXT})),
        ("deep parameter", |new| {
            new.operation.parameters = json!({"a": [{"b": {HOSTILE_TEXT: HOSTILE_TEXT}}]});
        }),
        ("document", |new| {
            new.operation.parameters = json!({"Policy": json!({HOSTILE_TEXT: [HOSTILE_TEXT]}).to_string()});
        }),
        ("inner document", |new| {
            let document = json!({HOSTILE_TEXT: HOSTILE_TEXT}).to_string();
            new.operation.parameters = json!({"a": {HOSTILE_TEXT: document}});
        }),
        ("lines", |new| new.operation.parameters = json!({"UserData": format!("a\n{HOSTILE_TEXT}\nb\n")})),
        ("broad grant", |new| {
            new.operation.name = "PutRolePolicy".to_owned();
            let statement = json!({"Sid": HOSTILE_TEXT, "Effect": "Allow", "Action": "*", "Resource": "*"});
            new.operation.parameters = json!({HOSTILE_TEXT: {"Statement": statement}});
            let context = durward_core::RiskContext {
                is_first_seen: false,
                resource_tags: None,
                has_unnamed_resource: false,
                risky_tags: &[],
            };
            new.risk = durward_core::assess_risk(&new.operation, context);
            assert!(new.risk.reasons[0].contains("allows every action"), "{:?}", new.risk);
        }),
        ("account", |new| new.operation.account = Some(HOSTILE_TEXT.to_owned())),
        ("region", |new| new.operation.region = Some(HOSTILE_TEXT.to_owned())),
        ("uninspected", |new| new.operation.uninspected_parts = vec![HOSTILE_TEXT.to_owned()]),
        ("tags", |new| {
            let tags = BTreeMap::from([(HOSTILE_TEXT.to_owned(), HOSTILE_TEXT.to_owned())]);
            new.tags = BTreeMap::from([
                (HOSTILE_TEXT.to_owned(), tags),
                ("arn:aws:s3:::b".to_owned(), BTreeMap::new()),
            ]);
        }),
        ("reason and policy", |new| {
            new.reason = HOSTILE_TEXT.to_owned();
            new.policy_set = HOSTILE_TEXT.to_owned();
            new.requirements[0].policy = HOSTILE_TEXT.to_owned();
        }),
    ];
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    for (index, (what, set)) in fields.into_iter().enumerate() {
        let mut new = new_approval_request();
        set(&mut new);
        new.digest = [u8::try_from(index).unwrap(); 32];
        let approval_request = console.open_approval_request_with(new).await;
        assert_inert(&alice.get(&format!("/approvals/{}", approval_request.id)).await.body, what);
        // A decided request is in the table of recent requests and among the similar requests of another one.
        let response = alice.cast_vote(&approval_request, "vote=deny&reason=no").await;
        assert_eq!(response.status, http::StatusCode::SEE_OTHER, "{what}: {}", response.body);
        assert_inert(&alice.get(&format!("/approvals/{}", approval_request.id)).await.body, what);
        let recent = alice.get("/").await.body;
        assert_no_raw_text(&recent, what);
        assert!(
            recent.contains(&format!("href=\"/approvals/{}\"", approval_request.id)),
            "{what}: not listed"
        );
    }
}

#[tokio::test]
async fn the_approvals_page_shows_hostile_text_inert() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    let mut new = new_approval_request();
    new.caller.subject = HOSTILE_TEXT.to_owned();
    new.connection = HOSTILE_TEXT.to_owned();
    new.operation.name = HOSTILE_TEXT.to_owned();
    new.operation.required_permissions[0].resource = Resource::Arn(HOSTILE_TEXT.to_owned());
    new.operation.account = Some(HOSTILE_TEXT.to_owned());
    new.requirements[0].group = "oncall".to_owned();
    console.open_approval_request_with(new).await;
    assert_inert(&alice.get("/").await.body, "approvals page");
}

#[tokio::test]
async fn text_of_approvers_and_their_provider_is_inert() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut alice = console.sign_in_person("%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%AE", "oncall").await;
    let reason = percent_encoding::utf8_percent_encode(HOSTILE_TEXT, percent_encoding::NON_ALPHANUMERIC);
    let response = alice.cast_vote(&approval_request, &format!("vote=deny&reason={reason}")).await;
    assert_eq!(response.status, http::StatusCode::SEE_OTHER, "{}", response.body);
    assert_inert(&alice.get(&format!("/approvals/{}", approval_request.id)).await.body, "reason and name");
    let page = alice
        .get(&format!("/policies?action={reason}&resource={reason}&subject={reason}&groups={reason}"))
        .await;
    assert_inert(&page.body, "the explain form");
    let response = console.new_browser().get(&format!("/signin/callback?error={reason}")).await;
    assert_no_raw_text(&response.body, "callback");
    assert!(response.body.contains("You are not signed in"), "{}", response.body);
    for path in [format!("/{reason}"), format!("/approvals/{reason}"), format!("/signin?to={reason}")] {
        let response = alice.get(&path).await;
        assert_no_raw_text(&response.body, &path);
        assert!(!response.status.is_server_error(), "{path}: {}", response.status);
    }
}

#[tokio::test]
async fn journal_text_is_inert_in_the_session_pages() {
    let console = TestConsole::start().await;
    let journal = Journal::open(&console.dir.path().join("journal"), JournalOptions::default()).unwrap();
    let session = SessionId::new();
    let hostile = HOSTILE_TEXT.to_owned();
    let caller = Caller {
        provider: hostile.clone(),
        issuer: hostile.clone(),
        subject: hostile.clone(),
        kind: CallerKind::Workload,
        groups: vec![hostile.clone()],
        act: vec![hostile.clone()],
    };
    let mut operation = new_approval_request().operation;
    operation.name.clone_from(&hostile);
    operation.required_permissions = vec![RequiredPermission {
        access_level: AccessLevel::Write,
        action: hostile.clone(),
        resource: Resource::Arn(hostile.clone()),
    }];
    let source_address = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    journal
        .append_durable(JournalRecord::SessionOpened {
            session,
            caller: caller.clone(),
            connection: hostile.clone(),
            source_address,
            expires: OffsetDateTime::now_utc(),
        })
        .await
        .unwrap();
    journal
        .append_durable(JournalRecord::Refused {
            exchange: ExchangeId::new(),
            session: Some(session),
            caller: Some(caller),
            front_end: durward_core::FrontEndKind::Aws,
            connection: Some(hostile.clone()),
            operation: Some(operation),
            omitted_parameters: None,
            decision: Some(Decision {
                verdict: Verdict::Deny,
                policies: vec![hostile.clone()],
                reason: hostile.clone(),
                policy_set: hostile.clone(),
                tags: durward_core::ResourceTags::new(),
                risk: None,
            }),
            reason: RefusalReason::AccessDenied,
            message: hostile,
            source_address,
        })
        .await
        .unwrap();
    let mut alice = console.sign_in_person("alice", "oncall").await;
    assert_inert(&alice.get("/sessions").await.body, "sessions");
    assert_inert(&alice.get(&format!("/sessions/{session}")).await.body, "session");
}
