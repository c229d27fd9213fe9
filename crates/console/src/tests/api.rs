//! The admin API: tokens of people only, one meaning per answer, and a document that covers it.

use super::test_console::{
    CLI_CLIENT_ID, CONSOLE_CLIENT_ID, TestConsole, USER_AUDIENCE, new_approval_request,
};
use crate::api::API_ROUTES;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn lists_shows_and_votes_on_approval_requests() {
    let stage = TestConsole::start().await;
    let mut new = new_approval_request();
    new.requirements[0].quorum = 1;
    let ask = stage.open_approval_request_with(new).await;
    let token = stage.issue_token("alice", &["oncall"]);
    let (status, listed) = stage.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await;
    assert_eq!((status, listed["approval_requests"].as_array().unwrap().len()), (StatusCode::OK, 1));
    let path = format!("/api/v1/approval-requests/{}", ask.id);
    let (status, shown) = stage.call_api(Method::GET, &path, &token, "").await;
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
    assert_eq!(shown["details"]["digest"], ask.digest_hex());
    let (status, answered) =
        stage.call_api(Method::POST, &format!("{path}/votes"), &token, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &answered["state"]), (StatusCode::OK, &json!("approved")), "{answered}");
    let (status, again) =
        stage.call_api(Method::POST, &format!("{path}/votes"), &token, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &again["error"]), (StatusCode::CONFLICT, &json!("not_pending")));
    for (query, count) in [
        ("", 0),
        ("?state=approved", 1),
        ("?state=all", 1),
        ("?state=all&limit=0", 0),
        ("?state=all&caller=corp/x", 0),
    ] {
        let (status, listed) =
            stage.call_api(Method::GET, &format!("/api/v1/approval-requests{query}"), &token, "").await;
        assert_eq!(
            (status, listed["approval_requests"].as_array().unwrap().len()),
            (StatusCode::OK, count),
            "{query}"
        );
    }
}

#[tokio::test]
async fn needs_a_token_of_a_person() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let hour = Duration::from_hours(1);
    let acting = stage.issuer.issue_token_with_claims(&json!({
        "iss": stage.issuer.url(), "sub": "alice", "aud": USER_AUDIENCE, "groups": ["oncall"],
        "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600, "act": {"sub": "agent-7"},
    }));
    let workloads = stage.issuer.issue_token_with_claims(&json!({
        "iss": stage.issuer.url(), "sub": "robot", "aud": CONSOLE_CLIENT_ID, "azp": "robot", "groups": ["oncall"],
        "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600,
    }));
    let claims = |changes: Value| {
        let mut claims = json!({
            "iss": stage.issuer.url(), "sub": "alice", "groups": ["oncall"],
            "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600,
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        stage.issuer.issue_token_with_claims(&claims)
    };
    let refused = (StatusCode::UNAUTHORIZED, "token_refused");
    let of_the_door = stage.issuer.issue_token("alice", &["oncall"], "durward", hour);
    let also_for_the_door = [
        claims(json!({"aud": [USER_AUDIENCE, "durward"]})),
        claims(json!({"aud": [CLI_CLIENT_ID, "durward"], "azp": CLI_CLIENT_ID})),
        claims(json!({"aud": ["durward", CONSOLE_CLIENT_ID], "azp": CONSOLE_CLIENT_ID})),
    ];
    for token in also_for_the_door.into_iter().chain([of_the_door]) {
        let (status, body) = stage.call_api(Method::GET, "/api/v1/me", &token, "").await;
        assert_eq!((status, body["error"].as_str().unwrap()), refused, "{body}");
    }
    let answers = [
        (claims(json!({"aud": CLI_CLIENT_ID, "azp": CLI_CLIENT_ID})), StatusCode::OK, ""),
        (
            claims(json!({"aud": CLI_CLIENT_ID, "azp": CONSOLE_CLIENT_ID})),
            StatusCode::UNAUTHORIZED,
            "token_refused",
        ),
        (claims(json!({"aud": [USER_AUDIENCE, "another"]})), StatusCode::OK, ""),
        (workloads, StatusCode::UNAUTHORIZED, "token_refused"),
        (String::new(), StatusCode::UNAUTHORIZED, "no_token"),
        ("nonsense".to_owned(), StatusCode::UNAUTHORIZED, "token_refused"),
        (
            stage.issuer.issue_token("alice", &["oncall"], "another", hour),
            StatusCode::UNAUTHORIZED,
            "token_refused",
        ),
        (stage.issuer.issue_token("alice", &["oncall"], USER_AUDIENCE, Duration::ZERO), StatusCode::OK, ""),
        (acting, StatusCode::FORBIDDEN, "not_admitted"),
        (stage.issuer.issue_token("alice", &["oncall"], CONSOLE_CLIENT_ID, hour), StatusCode::OK, ""),
    ];
    for (token, wanted, word) in answers {
        for (method, path, body) in [
            (Method::GET, "/api/v1/approval-requests".to_owned(), ""),
            (Method::GET, format!("/api/v1/approval-requests/{}", ask.id), ""),
            (Method::GET, "/api/v1/health".to_owned(), ""),
            (Method::POST, format!("/api/v1/approval-requests/{}/votes", ask.id), "{}"),
        ] {
            let (status, body) = stage.call_api(method.clone(), &path, &token, body).await;
            let wanted = if method == Method::POST && wanted == StatusCode::OK {
                StatusCode::BAD_REQUEST
            } else {
                wanted
            };
            assert_eq!(status, wanted, "{path}: {body}");
            if !word.is_empty() {
                assert_eq!(body["error"], word);
                assert!(body["message"].as_str().is_some_and(|text| !text.is_empty()));
            }
        }
    }
    // A token that is long over is refused too, and a browser's session is no token.
    let token = stage.issuer.issue_token("alice", &["oncall"], USER_AUDIENCE, Duration::from_secs(1));
    stage.advance_clock(Duration::from_mins(10));
    assert_eq!(
        stage.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await.0,
        StatusCode::UNAUTHORIZED
    );
    let mut alice = stage.new_browser();
    alice.sign_in("alice", "oncall", "/").await;
    assert_eq!(alice.get("/api/v1/approval-requests").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_workloads_token_cannot_vote() {
    let stage = TestConsole::start_with(|settings| {
        for people in &mut settings.api_token_providers {
            people.provider.kind = durward_core::CallerKind::Workload;
        }
    })
    .await;
    let ask = stage.open_approval_request().await;
    let path = format!("/api/v1/approval-requests/{}/votes", ask.id);
    let token = stage.issue_token("robot", &["oncall"]);
    let (status, body) = stage.call_api(Method::POST, &path, &token, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &json!("not_admitted")));
}

#[tokio::test]
async fn refuses_an_invalid_vote() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let path = format!("/api/v1/approval-requests/{}/votes", ask.id);
    let token = stage.issue_token("alice", &["oncall"]);
    for (body, status, word) in [
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
        let (got, said) = stage.call_api(Method::POST, &path, &token, body).await;
        assert_eq!((got, &said["error"]), (status, &json!(word)), "{body}: {said}");
    }
    let own = stage.issue_token("boss", &["oncall"]);
    let (status, said) = stage.call_api(Method::POST, &path, &own, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &said["error"]), (StatusCode::FORBIDDEN, &json!("own_request")));
    let nowhere = "/api/v1/approval-requests/00000000000000000000000000000000/votes";
    let (status, said) = stage.call_api(Method::POST, nowhere, &token, "{\"vote\":\"approve_once\"}").await;
    assert_eq!((status, &said["error"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    for path in [
        "/api/v1/approval-requests?state=open",
        "/api/v1/approval-requests?sort=x",
        "/api/v1/approval-requests?limit=-1",
    ] {
        assert_eq!(stage.call_api(Method::GET, path, &token, "").await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(
        stage.call_api(Method::GET, "/api/v2/approval-requests", &token, "").await.1["error"],
        "not_found"
    );
    assert_eq!(
        stage.call_api(Method::DELETE, "/api/v1/approval-requests", &token, "").await.1["error"],
        "wrong_method"
    );
    assert!(stage.approvals.get(ask.id).await.unwrap().unwrap().votes.is_empty());
}

#[tokio::test]
async fn the_openapi_document_covers_each_route_and_no_other() {
    let stage = TestConsole::start().await;
    let (status, document) = stage.call_api(Method::GET, "/api/v1/openapi.json", "", "").await;
    assert_eq!(status, StatusCode::OK);
    let mut described: Vec<(String, String)> = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()));
            described.push((method.clone(), path.clone()));
        }
    }
    let mut routes: Vec<(String, String)> =
        API_ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
    let token = stage.issue_token("alice", &[]);
    for (method, path) in routes.iter().filter(|(_method, path)| !path.ends_with("/events")) {
        let path = path.replace("{id}", "00000000000000000000000000000000");
        let method: Method = method.to_uppercase().parse().unwrap();
        let (status, answer) = stage.call_api(method, &path, &token, "{}").await;
        assert!(status != StatusCode::METHOD_NOT_ALLOWED, "{path}: {answer}");
        assert!(answer["message"] != "there is nothing here: see /api/v1/openapi.json", "{path} is no route");
    }
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
async fn tells_the_command_line_how_to_sign_in_and_a_person_who_they_are() {
    let stage = TestConsole::start().await;
    let (status, ways) = stage.call_api(Method::GET, "/api/v1/sign-in", "", "").await;
    let way = json!({"name": "corp", "issuer": stage.issuer.url(), "client_id": CLI_CLIENT_ID, "scopes": ["groups"]});
    assert_eq!((status, ways), (StatusCode::OK, json!({"providers": [way]})));
    let token = stage.issue_token("alice", &["oncall"]);
    let (status, me) = stage.call_api(Method::GET, "/api/v1/me", &token, "").await;
    assert_eq!(
        (status, &me["id"], &me["groups"]),
        (StatusCode::OK, &json!("corp/alice"), &json!(["oncall"]))
    );
    let without = TestConsole::start_with(|settings| settings.api_token_providers[0].cli_client = None).await;
    let (_status, ways) = without.call_api(Method::GET, "/api/v1/sign-in", "", "").await;
    assert_eq!(ways, json!({"providers": []}));
}
