//! Whatever a caller, an agent or an identity provider wrote comes out inert, in every page.

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

/// Markup, quotes, a line feed, an escape sequence, and characters that turn the text around.
const HOSTILE_TEXT: &str =
    "</pre><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\n\u{1b}[31m\u{202e}\u{2066}\u{200b}";

/// Asserts that nothing of [`EVIL`] is in force, and that it is there.
fn assert_inert(page: &str, what: &str) {
    for raw in ["<script>alert", "<img", "\u{1b}", "\u{202e}", "\u{2066}", "\u{200b}", "\"'>"] {
        assert!(!page.contains(raw), "{what}: {raw:?} came out raw");
    }
    assert!(page.contains("\\u{202e}"), "{what}: it is not shown");
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"), "{what}: it is not shown");
}

#[tokio::test]
async fn every_field_of_an_approval_request_comes_out_inert_in_every_page() {
    type SetField = fn(&mut NewApprovalRequest);
    let fields: [(&str, SetField); 20] = [
        ("subject", |ask| ask.caller.subject = HOSTILE_TEXT.to_owned()),
        ("provider", |ask| ask.caller.provider = HOSTILE_TEXT.to_owned()),
        ("issuer", |ask| ask.caller.issuer = HOSTILE_TEXT.to_owned()),
        ("groups", |ask| ask.caller.groups = vec![HOSTILE_TEXT.to_owned()]),
        ("act", |ask| ask.caller.act = vec![HOSTILE_TEXT.to_owned()]),
        ("connection", |ask| ask.connection = HOSTILE_TEXT.to_owned()),
        ("user agent", |ask| ask.user_agent = Some(HOSTILE_TEXT.to_owned())),
        ("service", |ask| ask.operation.service = HOSTILE_TEXT.to_owned()),
        ("operation", |ask| ask.operation.name = HOSTILE_TEXT.to_owned()),
        ("action", |ask| ask.operation.required_permissions[0].action = HOSTILE_TEXT.to_owned()),
        ("resource", |ask| {
            ask.operation.required_permissions[0].resource = Resource::Arn(HOSTILE_TEXT.to_owned())
        }),
        ("tool", |ask| {
            ask.operation.required_permissions[0].resource =
                Resource::McpTool { server: HOSTILE_TEXT.to_owned(), name: HOSTILE_TEXT.to_owned() };
        }),
        ("parameter name", |ask| ask.operation.parameters = json!({HOSTILE_TEXT: 1})),
        ("parameter", |ask| ask.operation.parameters = json!({"Bucket": HOSTILE_TEXT})),
        ("deep parameter", |ask| {
            ask.operation.parameters = json!({"a": [{"b": {HOSTILE_TEXT: HOSTILE_TEXT}}]})
        }),
        ("account", |ask| ask.operation.account = Some(HOSTILE_TEXT.to_owned())),
        ("region", |ask| ask.operation.region = Some(HOSTILE_TEXT.to_owned())),
        ("uninspected", |ask| ask.operation.uninspected_parts = vec![HOSTILE_TEXT.to_owned()]),
        ("tags", |ask| {
            let tags = BTreeMap::from([(HOSTILE_TEXT.to_owned(), HOSTILE_TEXT.to_owned())]);
            ask.tags = BTreeMap::from([
                (HOSTILE_TEXT.to_owned(), tags),
                ("arn:aws:s3:::b".to_owned(), BTreeMap::new()),
            ]);
        }),
        ("reason and policy", |ask| {
            ask.reason = HOSTILE_TEXT.to_owned();
            ask.policy_set = HOSTILE_TEXT.to_owned();
            ask.requirements[0].policy = HOSTILE_TEXT.to_owned();
        }),
    ];
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    for (index, (what, set)) in fields.into_iter().enumerate() {
        let mut new = new_approval_request();
        set(&mut new);
        new.digest = [u8::try_from(index).unwrap(); 32];
        let ask = stage.open_approval_request_with(new).await;
        assert_inert(&alice.get(&format!("/approvals/{}", ask.id)).await.body, what);
        // An answered ask is in the table of the queue and among the similar ones.
        let answer = alice.cast_vote(&ask, "vote=deny&reason=no").await;
        assert_eq!(answer.status, http::StatusCode::SEE_OTHER, "{what}: {}", answer.body);
        assert_inert(&alice.get(&format!("/approvals/{}", ask.id)).await.body, what);
        let queue = alice.get("/").await.body;
        for raw in ["<script>alert", "<img", "\u{1b}", "\u{202e}", "\u{2066}"] {
            assert!(!queue.contains(raw), "queue, {what}: {raw:?}");
        }
    }
}

#[tokio::test]
async fn the_approvals_page_shows_hostile_text_inert() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    let mut new = new_approval_request();
    new.caller.subject = HOSTILE_TEXT.to_owned();
    new.connection = HOSTILE_TEXT.to_owned();
    new.operation.name = HOSTILE_TEXT.to_owned();
    new.operation.required_permissions[0].resource = Resource::Arn(HOSTILE_TEXT.to_owned());
    new.operation.account = Some(HOSTILE_TEXT.to_owned());
    new.requirements[0].group = "oncall".to_owned();
    stage.open_approval_request_with(new).await;
    assert_inert(&alice.get("/").await.body, "queue");
}

#[tokio::test]
async fn what_approvers_and_their_provider_say_is_inert_too() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut alice = stage.sign_in_person("%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%AE", "oncall").await;
    let reason = percent_encoding::utf8_percent_encode(HOSTILE_TEXT, percent_encoding::NON_ALPHANUMERIC);
    let answer = alice.cast_vote(&ask, &format!("vote=deny&reason={reason}")).await;
    assert_eq!(answer.status, http::StatusCode::SEE_OTHER, "{}", answer.body);
    assert_inert(&alice.get(&format!("/approvals/{}", ask.id)).await.body, "reason and name");
    let page = alice
        .get(&format!("/policies?action={reason}&resource={reason}&subject={reason}&groups={reason}"))
        .await;
    assert_inert(&page.body, "the explain form");
    let answer = stage.new_browser().get(&format!("/signin/callback?error={reason}")).await;
    assert!(!answer.body.contains("<script>alert"));
    for path in [format!("/{reason}"), format!("/approvals/{reason}"), format!("/signin?to={reason}")] {
        assert!(!alice.get(&path).await.body.contains("<script>alert"), "{path}");
    }
}

#[tokio::test]
async fn what_the_journal_holds_is_inert_in_the_pages_of_sessions() {
    let stage = TestConsole::start().await;
    let journal = Journal::open(&stage.dir.path().join("journal"), JournalOptions::default()).unwrap();
    let session = SessionId::new();
    let evil = HOSTILE_TEXT.to_owned();
    let caller = Caller {
        provider: evil.clone(),
        issuer: evil.clone(),
        subject: evil.clone(),
        kind: CallerKind::Workload,
        groups: vec![evil.clone()],
        act: vec![evil.clone()],
    };
    let mut operation = new_approval_request().operation;
    operation.name.clone_from(&evil);
    operation.required_permissions = vec![RequiredPermission {
        access_level: AccessLevel::Write,
        action: evil.clone(),
        resource: Resource::Arn(evil.clone()),
    }];
    let here = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    journal
        .append_durable(JournalRecord::SessionOpened {
            session,
            caller: caller.clone(),
            connection: evil.clone(),
            source_address: here,
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
            connection: Some(evil.clone()),
            operation: Some(operation),
            decision: Some(Decision {
                verdict: Verdict::Deny,
                policies: vec![evil.clone()],
                reason: evil.clone(),
                policy_set: evil.clone(),
                tags: durward_core::ResourceTags::new(),
                risk: None,
            }),
            reason: RefusalReason::AccessDenied,
            message: evil,
            source_address: here,
        })
        .await
        .unwrap();
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    assert_inert(&alice.get("/sessions").await.body, "sessions");
    assert_inert(&alice.get(&format!("/sessions/{session}")).await.body, "session");
}
