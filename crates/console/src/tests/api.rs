//! The admin API accepts tokens of people only, gives each outcome a status and a code, and is described by its document.

use super::test_console::{
    CLI_CLIENT_ID, CONSOLE_CLIENT_ID, TestConsole, USER_AUDIENCE, new_approval_request,
};
use crate::api::route_list;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn lists_shows_and_votes_on_approval_requests() {
    let console = TestConsole::start().await;
    let mut new = new_approval_request();
    new.requirements[0].quorum = 1;
    let approval_request = console.open_approval_request_with(new).await;
    let token = console.issue_token("alice", &["oncall"]);
    let (status, listed) = console.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await;
    assert_eq!((status, listed["approval_requests"].as_array().unwrap().len()), (StatusCode::OK, 1));
    let path = format!("/api/v1/approval-requests/{}", approval_request.id);
    let (status, shown) = console.call_api(Method::GET, &path, &token, "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&shown["title"], &shown["state"], &shown["voter"]["may_approve"], &shown["missing_votes"]),
        (
            &json!("s3:DeleteBucket"),
            &json!("pending"),
            &json!(true),
            &json!([{"group": "oncall", "count": 1}])
        )
    );
    assert_eq!(shown["details"]["digest"], approval_request.digest_hex());
    let (status, voted) =
        console.call_api(Method::POST, &format!("{path}/votes"), &token, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &voted["state"]), (StatusCode::OK, &json!("approved")), "{voted}");
    let (status, again) =
        console.call_api(Method::POST, &format!("{path}/votes"), &token, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &again["error"]), (StatusCode::CONFLICT, &json!("not_pending")));
    for (query, count) in [
        ("", 0),
        ("?state=approved", 1),
        ("?state=all", 1),
        ("?state=all&limit=0", 0),
        ("?state=all&caller=corp/x", 0),
    ] {
        let (status, listed) =
            console.call_api(Method::GET, &format!("/api/v1/approval-requests{query}"), &token, "").await;
        assert_eq!(
            (status, listed["approval_requests"].as_array().unwrap().len()),
            (StatusCode::OK, count),
            "{query}"
        );
    }
}

#[tokio::test]
async fn needs_a_token_of_a_person() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let hour = Duration::from_hours(1);
    let acting = console.issuer.issue_token_with_claims(&json!({
        "iss": console.issuer.url(), "sub": "alice", "aud": USER_AUDIENCE, "groups": ["oncall"],
        "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600, "act": {"sub": "agent-7"},
    }));
    let workloads = console.issuer.issue_token_with_claims(&json!({
        "iss": console.issuer.url(), "sub": "robot", "aud": CONSOLE_CLIENT_ID, "azp": "robot", "groups": ["oncall"],
        "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600,
    }));
    let claims = |changes: Value| {
        let mut claims = json!({
            "iss": console.issuer.url(), "sub": "alice", "groups": ["oncall"],
            "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600,
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        console.issuer.issue_token_with_claims(&claims)
    };
    let refused = (StatusCode::UNAUTHORIZED, "token_refused");
    let for_front_end = console.issuer.issue_token("alice", &["oncall"], "durward", hour);
    let also_for_front_end = [
        claims(json!({"aud": [USER_AUDIENCE, "durward"]})),
        claims(json!({"aud": [CLI_CLIENT_ID, "durward"], "azp": CLI_CLIENT_ID})),
        claims(json!({"aud": ["durward", CONSOLE_CLIENT_ID], "azp": CONSOLE_CLIENT_ID})),
    ];
    for token in also_for_front_end.into_iter().chain([for_front_end]) {
        let (status, body) = console.call_api(Method::GET, "/api/v1/me", &token, "").await;
        assert_eq!((status, body["error"].as_str().unwrap()), refused, "{body}");
    }
    let cases = [
        (claims(json!({"aud": CLI_CLIENT_ID, "azp": CLI_CLIENT_ID})), StatusCode::OK, ""),
        (
            claims(json!({"aud": CLI_CLIENT_ID, "azp": CONSOLE_CLIENT_ID})),
            StatusCode::UNAUTHORIZED,
            "token_refused",
        ),
        (claims(json!({"aud": [USER_AUDIENCE, "another"]})), StatusCode::OK, ""),
        (
            claims(json!({"aud": [CLI_CLIENT_ID, "another"], "azp": CLI_CLIENT_ID})),
            StatusCode::UNAUTHORIZED,
            "token_refused",
        ),
        (
            claims(json!({"aud": [CLI_CLIENT_ID, CONSOLE_CLIENT_ID], "azp": CLI_CLIENT_ID})),
            StatusCode::OK,
            "",
        ),
        (workloads, StatusCode::UNAUTHORIZED, "token_refused"),
        (String::new(), StatusCode::UNAUTHORIZED, "no_token"),
        ("nonsense".to_owned(), StatusCode::UNAUTHORIZED, "token_refused"),
        (
            console.issuer.issue_token("alice", &["oncall"], "another", hour),
            StatusCode::UNAUTHORIZED,
            "token_refused",
        ),
        (console.issuer.issue_token("alice", &["oncall"], USER_AUDIENCE, Duration::ZERO), StatusCode::OK, ""),
        (acting, StatusCode::FORBIDDEN, "not_admitted"),
        (console.issuer.issue_token("alice", &["oncall"], CONSOLE_CLIENT_ID, hour), StatusCode::OK, ""),
    ];
    for (token, wanted, code) in cases {
        for (method, path, body) in [
            (Method::GET, "/api/v1/approval-requests".to_owned(), ""),
            (Method::GET, format!("/api/v1/approval-requests/{}", approval_request.id), ""),
            (Method::GET, "/api/v1/health".to_owned(), ""),
            (Method::POST, format!("/api/v1/approval-requests/{}/votes", approval_request.id), "{}"),
        ] {
            let (status, body) = console.call_api(method.clone(), &path, &token, body).await;
            let wanted = if method == Method::POST && wanted == StatusCode::OK {
                StatusCode::BAD_REQUEST
            } else {
                wanted
            };
            assert_eq!(status, wanted, "{path}: {body}");
            if !code.is_empty() {
                assert_eq!(body["error"], code);
                assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()));
            }
        }
    }
    // An expired token is refused, and a browser's login is no token.
    let token = console.issuer.issue_token("alice", &["oncall"], USER_AUDIENCE, Duration::from_secs(1));
    console.advance_clock(Duration::from_mins(10));
    assert_eq!(
        console.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await.0,
        StatusCode::UNAUTHORIZED
    );
    let mut alice = console.new_browser();
    alice.sign_in("alice", "oncall", "/").await;
    assert_eq!(alice.get("/api/v1/approval-requests").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_workloads_token_cannot_vote() {
    let console = TestConsole::start_with(|settings| {
        for people in &mut settings.api_token_providers {
            people.provider.kind = durward_core::CallerKind::Workload;
        }
    })
    .await;
    let approval_request = console.open_approval_request().await;
    let path = format!("/api/v1/approval-requests/{}/votes", approval_request.id);
    let token = console.issue_token("robot", &["oncall"]);
    let (status, body) = console.call_api(Method::POST, &path, &token, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &json!("not_admitted")));
}

#[tokio::test]
async fn refuses_an_invalid_vote() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let path = format!("/api/v1/approval-requests/{}/votes", approval_request.id);
    let token = console.issue_token("alice", &["oncall"]);
    for (body, status, code) in [
        ("", StatusCode::BAD_REQUEST, "bad_vote"),
        ("[]", StatusCode::BAD_REQUEST, "bad_vote"),
        ("{\"vote\":\"maybe\"}", StatusCode::BAD_REQUEST, "bad_vote"),
        ("{\"vote\":\"approve_time_bound\"}", StatusCode::BAD_REQUEST, "bad_vote"),
        ("{\"vote\":\"approve_time_bound\",\"until\":\"soon\"}", StatusCode::BAD_REQUEST, "bad_vote"),
        (
            "{\"vote\":\"approve_time_bound\",\"until\":\"2020-01-01T00:00:00Z\"}",
            StatusCode::BAD_REQUEST,
            "bad_time_bound",
        ),
        (
            "{\"vote\":\"approve_once\",\"until\":\"2099-01-01T00:00:00Z\"}",
            StatusCode::BAD_REQUEST,
            "bad_vote",
        ),
        ("{\"vote\":\"approve_once\",\"quorum\":1}", StatusCode::BAD_REQUEST, "bad_vote"),
        ("{\"vote\":\"deny\"}", StatusCode::BAD_REQUEST, "reason_missing"),
        ("{\"vote\":\"break_glass\",\"reason\":\"x\"}", StatusCode::FORBIDDEN, "not_an_approver"),
    ] {
        let (actual, error) = console.call_api(Method::POST, &path, &token, body).await;
        assert_eq!((actual, &error["error"]), (status, &json!(code)), "{body}: {error}");
    }
    let own = console.issue_token("boss", &["oncall"]);
    let (status, error) = console.call_api(Method::POST, &path, &own, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &error["error"]), (StatusCode::FORBIDDEN, &json!("own_request")));
    let unknown = "/api/v1/approval-requests/00000000000000000000000000000000/votes";
    let (status, error) =
        console.call_api(Method::POST, unknown, &token, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &error["error"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    for path in [
        "/api/v1/approval-requests?state=open",
        "/api/v1/approval-requests?sort=x",
        "/api/v1/approval-requests?limit=-1",
    ] {
        assert_eq!(
            console.call_api(Method::GET, path, &token, "").await.0,
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
    assert_eq!(
        console.call_api(Method::GET, "/api/v2/approval-requests", &token, "").await.1["error"],
        "unknown_route"
    );
    assert_eq!(
        console.call_api(Method::DELETE, "/api/v1/approval-requests", &token, "").await.1["error"],
        "wrong_method"
    );
    assert!(console.approvals.get(approval_request.id).await.unwrap().unwrap().votes.is_empty());
}

#[tokio::test]
async fn the_openapi_document_covers_each_route_and_no_other() {
    let console = TestConsole::start().await;
    let (status, document) = console.call_api(Method::GET, "/api/v1/openapi.json", "", "").await;
    assert_eq!(status, StatusCode::OK);
    let mut described: Vec<(String, String)> = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()));
            described.push((method.clone(), path.clone()));
        }
    }
    let mut routes: Vec<(String, String)> = route_list()
        .into_iter()
        .map(|(method, path, _handler)| (method.to_owned(), path.to_owned()))
        .collect();
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
    let token = console.issue_token("alice", &[]);
    // The method in the list is a word of its own beside the handler: a request shows whether they agree. An event stream has
    // no end that could be awaited; `pages` has a test of it.
    for (method, path) in routes.iter().filter(|(_method, path)| !path.ends_with("/events")) {
        let path = path.replace("{id}", "00000000000000000000000000000000");
        let method: Method = method.to_uppercase().parse().unwrap();
        let (status, response) = console.call_api(method, &path, &token, "{}").await;
        assert!(status != StatusCode::METHOD_NOT_ALLOWED, "{path}: {response}");
        assert!(response["error"] != "unknown_route", "{path} is no route");
    }
    assert_eq!(console.call_api(Method::GET, "/api/v1/none", &token, "").await.1["error"], "unknown_route");
    let names: Vec<&str> = schema_references(&document);
    for name in names {
        assert!(document.pointer(name.trim_start_matches('#')).is_some(), "{name} is not in the document");
    }
}

fn schema_references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(text) if name == "$ref" => vec![text.as_str()],
                other => schema_references(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(schema_references).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn lists_sign_in_providers_for_the_command_line_and_identifies_the_current_user() {
    let console = TestConsole::start().await;
    let (status, providers) = console.call_api(Method::GET, "/api/v1/sign-in", "", "").await;
    let provider = json!({"name": "corp", "issuer": console.issuer.url(), "client_id": CLI_CLIENT_ID, "scopes": ["groups"]});
    assert_eq!((status, providers), (StatusCode::OK, json!({"providers": [provider]})));
    let token = console.issue_token("alice", &["oncall"]);
    let (status, user) = console.call_api(Method::GET, "/api/v1/me", &token, "").await;
    assert_eq!(
        (status, &user["id"], &user["groups"]),
        (StatusCode::OK, &json!("corp/alice"), &json!(["oncall"]))
    );
    let without = TestConsole::start_with(|settings| settings.api_token_providers[0].cli_client = None).await;
    let (_status, providers) = without.call_api(Method::GET, "/api/v1/sign-in", "", "").await;
    assert_eq!(providers, json!({"providers": []}));
}
