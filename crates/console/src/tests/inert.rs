//! Whatever a caller, an agent or an identity provider wrote comes out inert, in every page.

use super::stage::{Stage, new_ask};
use durward_approval::NewAsk;
use durward_core::{
    AccessLevel, Caller, CallerKind, Decision, Demand, ExchangeId, Reason, Resource, SessionId, Verdict,
};
use durward_journal::{Journal, Options, Record};
use serde_json::json;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// Markup, quotes, a line feed, an escape sequence, and characters that turn the text around.
const EVIL: &str =
    "</pre><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\n\u{1b}[31m\u{202e}\u{2066}\u{200b}";

/// Asserts that nothing of [`EVIL`] is in force, and that it is there.
fn inert(page: &str, what: &str) {
    for raw in ["<script>alert", "<img", "\u{1b}", "\u{202e}", "\u{2066}", "\u{200b}", "\"'>"] {
        assert!(!page.contains(raw), "{what}: {raw:?} came out raw");
    }
    assert!(page.contains("\\u{202e}"), "{what}: it is not shown");
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"), "{what}: it is not shown");
}

#[tokio::test]
async fn every_field_of_an_ask_comes_out_inert_in_every_page() {
    type Set = fn(&mut NewAsk);
    let fields: [(&str, Set); 20] = [
        ("subject", |ask| ask.caller.subject = EVIL.to_owned()),
        ("provider", |ask| ask.caller.provider = EVIL.to_owned()),
        ("issuer", |ask| ask.caller.issuer = EVIL.to_owned()),
        ("groups", |ask| ask.caller.groups = vec![EVIL.to_owned()]),
        ("act", |ask| ask.caller.act = vec![EVIL.to_owned()]),
        ("connection", |ask| ask.connection = EVIL.to_owned()),
        ("user agent", |ask| ask.user_agent = Some(EVIL.to_owned())),
        ("service", |ask| ask.operation.service = EVIL.to_owned()),
        ("operation", |ask| ask.operation.name = EVIL.to_owned()),
        ("action", |ask| ask.operation.demands[0].action = EVIL.to_owned()),
        ("resource", |ask| ask.operation.demands[0].resource = Resource::Arn(EVIL.to_owned())),
        ("tool", |ask| {
            ask.operation.demands[0].resource =
                Resource::McpTool { server: EVIL.to_owned(), name: EVIL.to_owned() };
        }),
        ("parameter name", |ask| ask.operation.parameters = json!({EVIL: 1})),
        ("parameter", |ask| ask.operation.parameters = json!({"Bucket": EVIL})),
        ("deep parameter", |ask| ask.operation.parameters = json!({"a": [{"b": {EVIL: EVIL}}]})),
        ("account", |ask| ask.operation.account = Some(EVIL.to_owned())),
        ("region", |ask| ask.operation.region = Some(EVIL.to_owned())),
        ("uninspected", |ask| ask.operation.uninspected = vec![EVIL.to_owned()]),
        ("tags", |ask| {
            let tags = BTreeMap::from([(EVIL.to_owned(), EVIL.to_owned())]);
            ask.tags =
                BTreeMap::from([(EVIL.to_owned(), tags), ("arn:aws:s3:::b".to_owned(), BTreeMap::new())]);
        }),
        ("reason and policy", |ask| {
            ask.reason = EVIL.to_owned();
            ask.policy_set = EVIL.to_owned();
            ask.requirements[0].policy = EVIL.to_owned();
        }),
    ];
    let stage = Stage::set().await;
    let mut alice = stage.person("alice", "oncall").await;
    for (index, (what, set)) in fields.into_iter().enumerate() {
        let mut new = new_ask();
        set(&mut new);
        new.digest = [u8::try_from(index).unwrap(); 32];
        let ask = stage.ask_of(new).await;
        inert(&alice.get(&format!("/asks/{}", ask.id)).await.body, what);
        // An answered ask is in the table of the queue and among the similar ones.
        let answer = alice.answer(&ask, "answer=deny&reason=no").await;
        assert_eq!(answer.status, http::StatusCode::SEE_OTHER, "{what}: {}", answer.body);
        inert(&alice.get(&format!("/asks/{}", ask.id)).await.body, what);
        let queue = alice.get("/").await.body;
        for raw in ["<script>alert", "<img", "\u{1b}", "\u{202e}", "\u{2066}"] {
            assert!(!queue.contains(raw), "queue, {what}: {raw:?}");
        }
    }
}

#[tokio::test]
async fn the_queue_shows_what_it_shows_inert() {
    let stage = Stage::set().await;
    let mut alice = stage.person("alice", "oncall").await;
    let mut new = new_ask();
    new.caller.subject = EVIL.to_owned();
    new.connection = EVIL.to_owned();
    new.operation.name = EVIL.to_owned();
    new.operation.demands[0].resource = Resource::Arn(EVIL.to_owned());
    new.operation.account = Some(EVIL.to_owned());
    new.requirements[0].group = "oncall".to_owned();
    stage.ask_of(new).await;
    inert(&alice.get("/").await.body, "queue");
}

#[tokio::test]
async fn what_approvers_and_their_provider_say_is_inert_too() {
    let stage = Stage::set().await;
    let ask = stage.ask().await;
    let mut alice = stage.person("%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%AE", "oncall").await;
    let reason = percent_encoding::utf8_percent_encode(EVIL, percent_encoding::NON_ALPHANUMERIC);
    let answer = alice.answer(&ask, &format!("answer=deny&reason={reason}")).await;
    assert_eq!(answer.status, http::StatusCode::SEE_OTHER, "{}", answer.body);
    inert(&alice.get(&format!("/asks/{}", ask.id)).await.body, "reason and name");
    let page = alice
        .get(&format!("/policies?action={reason}&resource={reason}&subject={reason}&groups={reason}"))
        .await;
    inert(&page.body, "the explain form");
    let answer = stage.browser().get(&format!("/signin/callback?error={reason}")).await;
    assert!(!answer.body.contains("<script>alert"));
    for path in [format!("/{reason}"), format!("/asks/{reason}"), format!("/signin?to={reason}")] {
        assert!(!alice.get(&path).await.body.contains("<script>alert"), "{path}");
    }
}

#[tokio::test]
async fn what_the_journal_holds_is_inert_in_the_pages_of_sessions() {
    let stage = Stage::set().await;
    let journal = Journal::open(&stage.dir.path().join("journal"), Options::default()).unwrap();
    let session = SessionId::new();
    let evil = EVIL.to_owned();
    let caller = Caller {
        provider: evil.clone(),
        issuer: evil.clone(),
        subject: evil.clone(),
        kind: CallerKind::Workload,
        groups: vec![evil.clone()],
        act: vec![evil.clone()],
    };
    let mut operation = new_ask().operation;
    operation.name.clone_from(&evil);
    operation.demands = vec![Demand {
        access_level: AccessLevel::Write,
        action: evil.clone(),
        resource: Resource::Arn(evil.clone()),
    }];
    let here = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    journal
        .record_durable(Record::SessionOpened {
            session,
            caller: caller.clone(),
            connection: evil.clone(),
            source_address: here,
            expires: OffsetDateTime::now_utc(),
        })
        .await
        .unwrap();
    journal
        .record_durable(Record::Refused {
            exchange: ExchangeId::new(),
            session: Some(session),
            caller: Some(caller),
            door: durward_core::Door::Aws,
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
            reason: Reason::AccessDenied,
            message: evil,
            source_address: here,
        })
        .await
        .unwrap();
    let mut alice = stage.person("alice", "oncall").await;
    inert(&alice.get("/sessions").await.body, "sessions");
    inert(&alice.get(&format!("/sessions/{session}")).await.body, "session");
}
