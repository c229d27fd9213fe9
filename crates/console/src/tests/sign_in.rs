//! Who gets in, and who does not.

use super::test_console::{CONSOLE_ORIGIN, TestConsole};
use http::{Method, StatusCode, header};
use std::time::Duration;

#[tokio::test]
async fn a_person_signs_in_by_code_and_comes_back_to_the_page_they_wanted() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    let mut browser = stage.new_browser();
    let sent_away = browser.get(&format!("/approvals/{}", ask.id)).await;
    assert_eq!(sent_away.status, StatusCode::SEE_OTHER);
    assert!(sent_away.location().starts_with("/signin?to=%2Fapprovals%2F"), "{}", sent_away.location());
    let page = browser.get(sent_away.location()).await;
    assert!(page.body.contains("Sign in with corp"), "{}", page.body);
    let back = browser.sign_in("alice", "oncall", &format!("/approvals/{}", ask.id)).await;
    assert_eq!(
        (back.status, back.location()),
        (StatusCode::SEE_OTHER, format!("/approvals/{}", ask.id).as_str())
    );
    let cookie = back.headers.get_all(header::SET_COOKIE).iter().next().unwrap().to_str().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax") && cookie.contains("Path=/"), "{cookie}");
    let page = browser.get(back.location()).await;
    assert!(page.body.contains("s3:DeleteBucket") && page.body.contains("Approve once"), "{}", page.body);
}

#[tokio::test]
async fn a_wrong_state_nonce_or_issuer_signs_nobody_in() {
    let stage = TestConsole::start().await;
    let refused = |answer: &super::test_console::TestResponse, why: &str| {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{why}");
        assert!(answer.body.contains(why), "{why}: {}", answer.body);
        let cookies: Vec<_> = answer.headers.get_all(header::SET_COOKIE).iter().collect();
        assert!(cookies.iter().all(|cookie| !cookie.to_str().unwrap().starts_with("durward=")));
    };
    let mut browser = stage.new_browser();
    let back = browser.callback_from_issuer("alice", "oncall", "/").await;
    let (path, query) = back.split_once('?').unwrap();
    let with = |name: &str, value: &str| {
        let pairs: Vec<String> = query
            .split('&')
            .filter(|pair| !pair.starts_with(&format!("{name}=")))
            .map(str::to_owned)
            .chain((!value.is_empty()).then(|| format!("{name}={value}")))
            .collect();
        format!("{path}?{}", pairs.join("&"))
    };
    let kept = browser.cookies.clone();
    for (name, value, why) in [
        ("state", "another", "(state)"),
        ("state", "", "(state)"),
        ("iss", "https%3A%2F%2Fevil.example", "(iss)"),
        ("iss", "", "(iss)"),
        ("code", "", "no code"),
    ] {
        browser.cookies.clone_from(&kept);
        refused(&browser.get(&with(name, value)).await, why);
        assert!(browser.cookies.is_empty(), "an attempt is over once it was answered");
    }
    // Another browser's attempt: its state fits, the nonce in the ID token is that of the first.
    browser.cookies.clone_from(&kept);
    let mut other = stage.new_browser();
    let others = other.callback_from_issuer("mallory", "oncall", "/").await;
    refused(&browser.get(&others).await, "(state)");
    // Nobody's attempt, and one that took too long.
    refused(&stage.new_browser().get(&back).await, "not begun in this browser");
    browser.cookies.clone_from(&kept);
    stage.advance_clock(Duration::from_secs(601));
    refused(&browser.get(&back).await, "not begun in this browser");
}

#[tokio::test]
async fn an_id_token_of_another_sign_in_is_refused_by_its_nonce() {
    let stage = TestConsole::start().await;
    let mut browser = stage.new_browser();
    let begun = browser.get("/signin/start?provider=corp&to=/").await;
    // The code was issued for a nonce that the attacker chose.
    let there = begun.location().replace("&nonce=", "&nonce=x");
    let there = format!("{there}&sub=alice&groups=oncall");
    let request = http::Request::get(there).body(bytes::Bytes::new()).unwrap();
    let back = super::test_console::TestConsole::send_to_issuer(request).await;
    let back =
        back.headers()[header::LOCATION].to_str().unwrap().strip_prefix(CONSOLE_ORIGIN).unwrap().to_owned();
    let answer = browser.get(&back).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("(nonce)"), "{}", answer.body);
}

#[tokio::test]
async fn a_session_ends_after_an_hour_and_at_sign_out() {
    let stage = TestConsole::start().await;
    let mut alice = stage.sign_in_person("alice", "oncall").await;
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    let csrf = alice.csrf_token().await;
    let kept = alice.cookies.clone();
    assert_eq!(alice.send(Method::POST, "/signout", "csrf=wrong").await.status, StatusCode::FORBIDDEN);
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    alice.send(Method::POST, "/signout", &format!("csrf={csrf}")).await;
    assert!(alice.cookies.is_empty());
    alice.cookies = kept;
    assert_eq!(alice.get("/").await.status, StatusCode::SEE_OTHER, "the id is worth nothing any more");

    let mut bob = stage.sign_in_person("bob", "oncall").await;
    stage.advance_clock(Duration::from_mins(59));
    assert_eq!(bob.get("/").await.status, StatusCode::OK);
    stage.advance_clock(Duration::from_mins(2));
    assert_eq!(bob.get("/").await.location(), "/signin");
    let answer =
        bob.send(Method::POST, "/approvals/00000000000000000000000000000000/votes", "csrf=x&vote=deny").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("Sign in, then try again"));
}

#[tokio::test]
async fn only_the_configured_groups_come_in() {
    let stage = TestConsole::start_with(|settings| settings.allowed_groups = vec!["staff".to_owned()]).await;
    let mut browser = stage.new_browser();
    let answer = browser.sign_in("mallory", "guests", "/").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("not in a group that may use this console"));
    assert!(!browser.cookies.contains_key("durward"));
    stage.sign_in_person("alice", "staff").await;
    let (status, body) = stage
        .call_api(Method::GET, "/api/v1/approval-requests", &stage.issue_token("mallory", &["guests"]), "")
        .await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &serde_json::json!("not_admitted")));
}

#[tokio::test]
async fn every_page_sends_a_stranger_to_the_sign_in_page_and_shows_nothing() {
    let stage = TestConsole::start().await;
    let ask = stage.open_approval_request().await;
    for path in [
        "/".to_owned(),
        format!("/approvals/{}", ask.id),
        format!("/approvals/{}/parameters.json", ask.id),
        "/sessions".to_owned(),
        format!("/sessions/{}", ask.details.session),
        "/policies".to_owned(),
        "/connections".to_owned(),
        "/health".to_owned(),
        "/events".to_owned(),
    ] {
        let answer = stage.new_browser().get(&path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(answer.location().starts_with("/signin") && answer.body.is_empty(), "{path}");
    }
    let mut browser = stage.new_browser();
    browser.cookies.insert("durward".to_owned(), "guessed".to_owned());
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn over_tls_cookies_have_the_host_prefix_and_are_secure() {
    let stage =
        TestConsole::start_with(|settings| settings.url = "https://durward.example.com".to_owned()).await;
    let request = http::Request::get("/signin/start?provider=corp&to=/")
        .header("host", "durward.example.com")
        .body(bytes::Bytes::new())
        .unwrap();
    let answer = stage.send(request).await;
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-durward-signin=") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(answer.location().contains("redirect_uri=https%3A%2F%2Fdurward.example.com%2Fsignin%2Fcallback"));
    assert_eq!(answer.headers[header::STRICT_TRANSPORT_SECURITY], "max-age=31536000");
}
