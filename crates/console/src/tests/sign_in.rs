//! Sign-in: who is admitted, and which responses of the provider are refused.

use super::test_console::{CLI_CLIENT_ID, CONSOLE_ORIGIN, TestConsole, USER_AUDIENCE};
use http::{Method, StatusCode, header};
use std::time::Duration;

#[tokio::test]
async fn a_person_signs_in_by_code_and_returns_to_the_requested_page() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    let mut browser = console.new_browser();
    let redirected = browser.get(&format!("/approvals/{}", approval_request.id)).await;
    assert_eq!(redirected.status, StatusCode::SEE_OTHER);
    assert!(redirected.location().starts_with("/signin?to=%2Fapprovals%2F"), "{}", redirected.location());
    let page = browser.get(redirected.location()).await;
    assert!(page.body.contains("Sign in with corp"), "{}", page.body);
    let back = browser.sign_in("alice", "oncall", &format!("/approvals/{}", approval_request.id)).await;
    assert_eq!(
        (back.status, back.location()),
        (StatusCode::SEE_OTHER, format!("/approvals/{}", approval_request.id).as_str())
    );
    let cookie = back.headers.get_all(header::SET_COOKIE).iter().next().unwrap().to_str().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax") && cookie.contains("Path=/"), "{cookie}");
    let page = browser.get(back.location()).await;
    assert!(page.body.contains("s3:DeleteBucket") && page.body.contains("Approve once"), "{}", page.body);
}

#[tokio::test]
async fn a_wrong_state_or_issuer_or_a_late_response_is_refused() {
    let console = TestConsole::start().await;
    let refused = |response: &super::test_console::TestResponse, why: &str| {
        assert_eq!(response.status, StatusCode::UNAUTHORIZED, "{why}");
        assert!(response.body.contains(why), "{why}: {}", response.body);
        let cookies: Vec<_> = response.headers.get_all(header::SET_COOKIE).iter().collect();
        assert!(cookies.iter().all(|cookie| !cookie.to_str().unwrap().starts_with("durward=")));
    };
    let mut browser = console.new_browser();
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
    let saved_cookies = browser.cookies.clone();
    for (name, value, why) in [
        ("state", "another", "This sign-in was not started in this browser. Sign in again."),
        ("state", "", "This sign-in was not started in this browser. Sign in again."),
        ("iss", "https%3A%2F%2Fevil.example", "(iss)"),
        ("iss", "", "(iss)"),
        ("code", "", "no code"),
    ] {
        browser.cookies.clone_from(&saved_cookies);
        refused(&browser.get(&with(name, value)).await, why);
        assert!(browser.cookies.is_empty(), "the cookie of the sign-in is still there");
    }
    // The response to a sign-in that another browser started.
    browser.cookies.clone_from(&saved_cookies);
    let mut other = console.new_browser();
    let others = other.callback_from_issuer("mallory", "oncall", "/").await;
    refused(&browser.get(&others).await, "This sign-in was not started in this browser. Sign in again.");
    // A browser that started no sign-in, and a response after the timeout.
    refused(&console.new_browser().get(&back).await, "not started in this browser");
    browser.cookies.clone_from(&saved_cookies);
    console.advance_clock(Duration::from_secs(601));
    refused(&browser.get(&back).await, "not started in this browser");
}

#[tokio::test]
async fn an_id_token_of_another_sign_in_is_refused_by_its_nonce() {
    let console = TestConsole::start().await;
    let mut browser = console.new_browser();
    let started = browser.get("/signin/start?provider=corp&to=/").await;
    // The provider issues the code for a nonce that the attacker chose.
    let url = started.location().replace("&nonce=", "&nonce=x");
    let url = format!("{url}&sub=alice&groups=oncall");
    let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
    let back = super::test_console::TestConsole::send_to_issuer(request).await;
    let back =
        back.headers()[header::LOCATION].to_str().unwrap().strip_prefix(CONSOLE_ORIGIN).unwrap().to_owned();
    let response = browser.get(&back).await;
    assert_eq!(response.status, StatusCode::UNAUTHORIZED);
    assert!(response.body.contains("(nonce)"), "{}", response.body);
}

#[tokio::test]
async fn a_sign_in_leads_to_one_login() {
    let console = TestConsole::start().await;
    let mut browser = console.new_browser();
    let started = browser.get("/signin/start?provider=corp&to=/").await;
    let stolen_cookies = browser.cookies.clone();
    let url = format!("{}&sub=alice&groups=oncall", started.location());
    // The provider gives a new code each time that the person comes with this request.
    let callback = async || {
        let request = http::Request::get(&url).body(bytes::Bytes::new()).unwrap();
        let back = TestConsole::send_to_issuer(request).await;
        let back = back.headers()[header::LOCATION].to_str().unwrap();
        back.strip_prefix(CONSOLE_ORIGIN).unwrap().to_owned()
    };
    let (first, second) = (callback().await, callback().await);
    assert_eq!(browser.get(&first).await.status, StatusCode::SEE_OTHER);
    let mut thief = console.new_browser();
    thief.cookies = stolen_cookies;
    let repeated = thief.get(&second).await;
    assert_eq!(repeated.status, StatusCode::UNAUTHORIZED);
    assert!(repeated.body.contains("already finished: start again"), "{}", repeated.body);
    assert!(thief.cookies.is_empty(), "{:?}", thief.cookies);
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_id_token_that_is_also_for_another_application_is_refused() {
    let console = TestConsole::start().await;
    let sign_in = async |audience: &str| {
        let mut browser = console.new_browser();
        let started = browser.get("/signin/start?provider=corp&to=/").await;
        let url = format!("{}&sub=alice&groups=oncall&aud={audience}", started.location());
        let request = http::Request::get(url).body(bytes::Bytes::new()).unwrap();
        let back = TestConsole::send_to_issuer(request).await;
        let back = back.headers()[header::LOCATION].to_str().unwrap();
        browser.get(back.strip_prefix(CONSOLE_ORIGIN).unwrap()).await
    };
    for foreign in ["another", "durward"] {
        let refused = sign_in(foreign).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{foreign}");
        assert!(refused.body.contains("also for another application (aud)"), "{}", refused.body);
    }
    // The command line's client and an audience of people are the gateway's own.
    for own in [CLI_CLIENT_ID, USER_AUDIENCE] {
        assert_eq!(sign_in(own).await.status, StatusCode::SEE_OTHER, "{own}");
    }
}

#[tokio::test]
async fn a_login_ends_after_an_hour_and_at_sign_out() {
    let console = TestConsole::start().await;
    let mut alice = console.sign_in_person("alice", "oncall").await;
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    let csrf = alice.csrf_token().await;
    let saved_cookies = alice.cookies.clone();
    assert_eq!(alice.send(Method::POST, "/signout", "csrf=wrong").await.status, StatusCode::FORBIDDEN);
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    alice.send(Method::POST, "/signout", &format!("csrf={csrf}")).await;
    assert!(alice.cookies.is_empty());
    alice.cookies = saved_cookies;
    assert_eq!(alice.get("/").await.status, StatusCode::SEE_OTHER, "the id still works after the sign-out");

    let mut bob = console.sign_in_person("bob", "oncall").await;
    console.advance_clock(Duration::from_mins(59));
    assert_eq!(bob.get("/").await.status, StatusCode::OK);
    console.advance_clock(Duration::from_mins(2));
    assert_eq!(bob.get("/").await.location(), "/signin");
    let response =
        bob.send(Method::POST, "/approvals/00000000000000000000000000000000/votes", "csrf=x&vote=deny").await;
    assert_eq!(response.status, StatusCode::UNAUTHORIZED);
    assert!(response.body.contains("Sign in, then try again"));
}

#[tokio::test]
async fn who_is_in_no_configured_group_sees_nothing() {
    let console = TestConsole::start_with(|settings| {
        settings.allowed_groups.clear();
        settings.revoke_groups = vec!["security".to_owned()];
    })
    .await;
    let is_admitted = async |groups: &str| {
        let mut browser = console.new_browser();
        let response = browser.sign_in("dana", groups, "/").await;
        let token = console.issue_token("dana", &groups.split_terminator(',').collect::<Vec<_>>());
        let (status, body) = console.call_api(Method::GET, "/api/v1/approval-requests", &token, "").await;
        if response.status == StatusCode::SEE_OTHER {
            assert_eq!(status, StatusCode::OK, "{groups}: {body}");
            return true;
        }
        assert_eq!((response.status, status), (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN), "{groups}");
        assert_eq!(body["error"], serde_json::json!("not_admitted"));
        for text in [&response.body, &body.to_string()] {
            assert!(text.contains("ou are in no group that may use the console"), "{text}");
        }
        assert!(!browser.cookies.contains_key("durward"));
        false
    };
    // A person who may revoke or break glass has something to do here.
    for (groups, expected) in
        [("staff", false), ("", false), ("oncall", false), ("staff,security", true), ("fire", true)]
    {
        assert_eq!(is_admitted(groups).await, expected, "{groups}");
    }
    // So have the approvers of a policy, while there is such a policy.
    let mut alice = console.new_browser();
    console.write_policies("@id(\"ask\") @approval(\"oncall\") forbid (principal, action == Aws::Action::\"s3:DeleteBucket\", resource);");
    assert!(is_admitted("oncall").await && !is_admitted("staff").await);
    assert_eq!(alice.sign_in("alice", "oncall", "/").await.status, StatusCode::SEE_OTHER);
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    console.write_policies("");
    let closed = alice.get("/").await;
    assert_eq!((closed.status, closed.location()), (StatusCode::SEE_OTHER, "/signin"));
    assert!(!is_admitted("oncall").await);
}

#[tokio::test]
async fn only_members_of_the_allowed_groups_are_admitted() {
    let console =
        TestConsole::start_with(|settings| settings.allowed_groups = vec!["staff".to_owned()]).await;
    let mut browser = console.new_browser();
    let response = browser.sign_in("mallory", "guests", "/").await;
    assert_eq!(response.status, StatusCode::FORBIDDEN);
    assert!(response.body.contains("in no group that may use the console"), "{}", response.body);
    assert!(!browser.cookies.contains_key("durward"));
    console.sign_in_person("alice", "staff").await;
    let (status, body) = console
        .call_api(Method::GET, "/api/v1/approval-requests", &console.issue_token("mallory", &["guests"]), "")
        .await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &serde_json::json!("not_admitted")));
}

#[tokio::test]
async fn every_page_redirects_a_visitor_without_a_login_and_shows_nothing() {
    let console = TestConsole::start().await;
    let approval_request = console.open_approval_request().await;
    for path in [
        "/".to_owned(),
        format!("/approvals/{}", approval_request.id),
        format!("/approvals/{}/parameters.json", approval_request.id),
        "/sessions".to_owned(),
        format!("/sessions/{}", approval_request.details.session),
        "/policies".to_owned(),
        "/connections".to_owned(),
        "/health".to_owned(),
        "/events".to_owned(),
    ] {
        let response = console.new_browser().get(&path).await;
        assert_eq!(response.status, StatusCode::SEE_OTHER, "{path}");
        assert!(response.location().starts_with("/signin") && response.body.is_empty(), "{path}");
    }
    let mut browser = console.new_browser();
    browser.cookies.insert("durward".to_owned(), "guessed".to_owned());
    assert_eq!(browser.get("/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn over_tls_cookies_have_the_host_prefix_and_are_secure() {
    let console =
        TestConsole::start_with(|settings| settings.url = "https://durward.example.com".to_owned()).await;
    let request = http::Request::get("/signin/start?provider=corp&to=/")
        .header("host", "durward.example.com")
        .body(bytes::Bytes::new())
        .unwrap();
    let response = console.send(request).await;
    let cookie = response.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("__Host-durward-signin=") && cookie.ends_with("; Secure"), "{cookie}");
    assert!(
        response.location().contains("redirect_uri=https%3A%2F%2Fdurward.example.com%2Fsignin%2Fcallback")
    );
    assert_eq!(response.headers[header::STRICT_TRANSPORT_SECURITY], "max-age=31536000");
}
