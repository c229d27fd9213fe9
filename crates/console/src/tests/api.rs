//! The admin API: tokens of people only, one meaning per answer, and a document that covers it.

use super::stage::{CLI, CLIENT, FOR_PEOPLE, Stage, new_ask};
use crate::api::ROUTES;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn lists_shows_and_answers_asks() {
    let stage = Stage::set().await;
    let mut new = new_ask();
    new.requirements[0].quorum = 1;
    let ask = stage.ask_of(new).await;
    let token = stage.token("alice", &["oncall"]);
    let (status, listed) = stage.api(Method::GET, "/api/v1/asks", &token, "").await;
    assert_eq!((status, listed["asks"].as_array().unwrap().len()), (StatusCode::OK, 1));
    let path = format!("/api/v1/asks/{}", ask.id);
    let (status, shown) = stage.api(Method::GET, &path, &token, "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&shown["title"], &shown["state"], &shown["you"]["may_approve"], &shown["missing"]),
        (
            &json!("s3:DeleteBucket"),
            &json!("pending"),
            &json!(true),
            &json!([{"group": "oncall", "people": 1}])
        )
    );
    assert_eq!(shown["what"]["digest"], ask.digest_hex());
    let (status, answered) =
        stage.api(Method::POST, &format!("{path}/answer"), &token, "{\"answer\":\"approve_once\"}").await;
    assert_eq!((status, &answered["state"]), (StatusCode::OK, &json!("approved")), "{answered}");
    let (status, again) =
        stage.api(Method::POST, &format!("{path}/answer"), &token, "{\"answer\":\"approve_once\"}").await;
    assert_eq!((status, &again["error"]), (StatusCode::CONFLICT, &json!("not_pending")));
    for (query, count) in [
        ("", 0),
        ("?state=approved", 1),
        ("?state=all", 1),
        ("?state=all&limit=0", 0),
        ("?state=all&caller=corp/x", 0),
    ] {
        let (status, listed) = stage.api(Method::GET, &format!("/api/v1/asks{query}"), &token, "").await;
        assert_eq!((status, listed["asks"].as_array().unwrap().len()), (StatusCode::OK, count), "{query}");
    }
}

#[tokio::test]
async fn needs_a_token_of_a_person() {
    let stage = Stage::set().await;
    let ask = stage.ask().await;
    let hour = Duration::from_hours(1);
    let acting = stage.issuer.issue_claims(&json!({
        "iss": stage.issuer.url(), "sub": "alice", "aud": FOR_PEOPLE, "groups": ["oncall"],
        "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600, "act": {"sub": "agent-7"},
    }));
    let workloads = stage.issuer.issue_claims(&json!({
        "iss": stage.issuer.url(), "sub": "robot", "aud": CLIENT, "azp": "robot", "groups": ["oncall"],
        "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600,
    }));
    let claims = |changes: Value| {
        let mut claims = json!({
            "iss": stage.issuer.url(), "sub": "alice", "groups": ["oncall"],
            "exp": time::OffsetDateTime::now_utc().unix_timestamp() + 600,
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        stage.issuer.issue_claims(&claims)
    };
    let refused = (StatusCode::UNAUTHORIZED, "token_refused");
    let of_the_door = stage.issuer.issue("alice", &["oncall"], "durward", hour);
    let also_for_the_door = [
        claims(json!({"aud": [FOR_PEOPLE, "durward"]})),
        claims(json!({"aud": [CLI, "durward"], "azp": CLI})),
        claims(json!({"aud": ["durward", CLIENT], "azp": CLIENT})),
    ];
    for token in also_for_the_door.into_iter().chain([of_the_door]) {
        let (status, body) = stage.api(Method::GET, "/api/v1/me", &token, "").await;
        assert_eq!((status, body["error"].as_str().unwrap()), refused, "{body}");
    }
    let answers = [
        (claims(json!({"aud": CLI, "azp": CLI})), StatusCode::OK, ""),
        (claims(json!({"aud": CLI, "azp": CLIENT})), StatusCode::UNAUTHORIZED, "token_refused"),
        (claims(json!({"aud": [FOR_PEOPLE, "another"]})), StatusCode::OK, ""),
        (workloads, StatusCode::UNAUTHORIZED, "token_refused"),
        (String::new(), StatusCode::UNAUTHORIZED, "no_token"),
        ("nonsense".to_owned(), StatusCode::UNAUTHORIZED, "token_refused"),
        (
            stage.issuer.issue("alice", &["oncall"], "another", hour),
            StatusCode::UNAUTHORIZED,
            "token_refused",
        ),
        (stage.issuer.issue("alice", &["oncall"], FOR_PEOPLE, Duration::ZERO), StatusCode::OK, ""),
        (acting, StatusCode::FORBIDDEN, "not_admitted"),
        (stage.issuer.issue("alice", &["oncall"], CLIENT, hour), StatusCode::OK, ""),
    ];
    for (token, wanted, word) in answers {
        for (method, path, body) in [
            (Method::GET, "/api/v1/asks".to_owned(), ""),
            (Method::GET, format!("/api/v1/asks/{}", ask.id), ""),
            (Method::GET, "/api/v1/health".to_owned(), ""),
            (Method::POST, format!("/api/v1/asks/{}/answer", ask.id), "{}"),
        ] {
            let (status, body) = stage.api(method.clone(), &path, &token, body).await;
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
    let token = stage.issuer.issue("alice", &["oncall"], FOR_PEOPLE, Duration::from_secs(1));
    stage.pass(Duration::from_mins(10));
    assert_eq!(stage.api(Method::GET, "/api/v1/asks", &token, "").await.0, StatusCode::UNAUTHORIZED);
    let mut alice = stage.browser();
    alice.sign_in("alice", "oncall", "/").await;
    assert_eq!(alice.get("/api/v1/asks").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_workloads_token_answers_nothing() {
    let stage = Stage::set_with(|settings| {
        for people in &mut settings.people {
            people.provider.kind = durward_core::CallerKind::Workload;
        }
    })
    .await;
    let ask = stage.ask().await;
    let path = format!("/api/v1/asks/{}/answer", ask.id);
    let token = stage.token("robot", &["oncall"]);
    let (status, body) = stage.api(Method::POST, &path, &token, "{\"answer\":\"approve_once\"}").await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &json!("not_admitted")));
}

#[tokio::test]
async fn refuses_what_is_not_an_answer() {
    let stage = Stage::set().await;
    let ask = stage.ask().await;
    let path = format!("/api/v1/asks/{}/answer", ask.id);
    let token = stage.token("alice", &["oncall"]);
    for (body, status, word) in [
        ("", StatusCode::BAD_REQUEST, "bad_answer"),
        ("[]", StatusCode::BAD_REQUEST, "bad_answer"),
        ("{\"answer\":\"maybe\"}", StatusCode::BAD_REQUEST, "bad_answer"),
        ("{\"answer\":\"approve_window\"}", StatusCode::BAD_REQUEST, "bad_answer"),
        ("{\"answer\":\"approve_window\",\"until\":\"soon\"}", StatusCode::BAD_REQUEST, "bad_answer"),
        (
            "{\"answer\":\"approve_window\",\"until\":\"2020-01-01T00:00:00Z\"}",
            StatusCode::BAD_REQUEST,
            "bad_window",
        ),
        (
            "{\"answer\":\"approve_once\",\"until\":\"2099-01-01T00:00:00Z\"}",
            StatusCode::BAD_REQUEST,
            "bad_answer",
        ),
        ("{\"answer\":\"approve_once\",\"quorum\":1}", StatusCode::BAD_REQUEST, "bad_answer"),
        ("{\"answer\":\"deny\"}", StatusCode::BAD_REQUEST, "reason_missing"),
        ("{\"answer\":\"break_glass\",\"reason\":\"x\"}", StatusCode::FORBIDDEN, "not_an_approver"),
    ] {
        let (got, said) = stage.api(Method::POST, &path, &token, body).await;
        assert_eq!((got, &said["error"]), (status, &json!(word)), "{body}: {said}");
    }
    let own = stage.token("boss", &["oncall"]);
    let (status, said) = stage.api(Method::POST, &path, &own, "{\"answer\":\"approve_once\"}").await;
    assert_eq!((status, &said["error"]), (StatusCode::FORBIDDEN, &json!("own_request")));
    let nowhere = "/api/v1/asks/00000000000000000000000000000000/answer";
    let (status, said) = stage.api(Method::POST, nowhere, &token, "{\"answer\":\"approve_once\"}").await;
    assert_eq!((status, &said["error"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    for path in ["/api/v1/asks?state=open", "/api/v1/asks?sort=x", "/api/v1/asks?limit=-1"] {
        assert_eq!(stage.api(Method::GET, path, &token, "").await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(stage.api(Method::GET, "/api/v2/asks", &token, "").await.1["error"], "not_found");
    assert_eq!(stage.api(Method::DELETE, "/api/v1/asks", &token, "").await.1["error"], "wrong_method");
    assert!(stage.approvals.get(ask.id).await.unwrap().unwrap().votes.is_empty());
}

#[tokio::test]
async fn the_openapi_document_covers_each_route_and_no_other() {
    let stage = Stage::set().await;
    let (status, document) = stage.api(Method::GET, "/api/v1/openapi.json", "", "").await;
    assert_eq!(status, StatusCode::OK);
    let mut described: Vec<(String, String)> = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["responses"].as_object().is_some_and(|responses| !responses.is_empty()));
            described.push((method.clone(), path.clone()));
        }
    }
    let mut routes: Vec<(String, String)> =
        ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    described.sort();
    routes.sort();
    assert_eq!(described, routes);
    let token = stage.token("alice", &[]);
    for (method, path) in routes.iter().filter(|(_method, path)| !path.ends_with("/events")) {
        let path = path.replace("{id}", "00000000000000000000000000000000");
        let method: Method = method.to_uppercase().parse().unwrap();
        let (status, answer) = stage.api(method, &path, &token, "{}").await;
        assert!(status != StatusCode::METHOD_NOT_ALLOWED, "{path}: {answer}");
        assert!(answer["message"] != "there is nothing here: see /api/v1/openapi.json", "{path} is no route");
    }
    let names: Vec<&str> = references(&document);
    for name in names {
        assert!(document.pointer(name.trim_start_matches('#')).is_some(), "{name} is not in the document");
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| match value {
                Value::String(text) if name == "$ref" => vec![text.as_str()],
                other => references(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn tells_the_command_line_how_to_sign_in_and_a_person_who_they_are() {
    let stage = Stage::set().await;
    let (status, ways) = stage.api(Method::GET, "/api/v1/sign-in", "", "").await;
    let way = json!({"name": "corp", "issuer": stage.issuer.url(), "client_id": CLI, "scopes": ["groups"]});
    assert_eq!((status, ways), (StatusCode::OK, json!({"providers": [way]})));
    let token = stage.token("alice", &["oncall"]);
    let (status, me) = stage.api(Method::GET, "/api/v1/me", &token, "").await;
    assert_eq!(
        (status, &me["id"], &me["groups"]),
        (StatusCode::OK, &json!("corp/alice"), &json!(["oncall"]))
    );
    let without = Stage::set_with(|settings| settings.people[0].command_line = None).await;
    let (_status, ways) = without.api(Method::GET, "/api/v1/sign-in", "", "").await;
    assert_eq!(ways, json!({"providers": []}));
}
