//! Attacks on the MCP front end. Each test asserts what the caller gets, and that the server saw nothing it must not see.

mod client_notification;
mod coalesced_calls;
mod policy_values;
mod revocation;
mod upstream_responses;

use durward::journal_commands;
use durward_integration::{
    TestGateway, TestGatewayBuilder, TestResponse, as_stateless_revision, initialize_request, tool_call,
    tools_list,
};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

pub const MCP_POLICIES: &str = r#"
@id("connect") permit (principal in Group::"agents", action == Action::"connect", resource)
unless { resource == Connection::"closed" };
@id("talk") permit (principal in Group::"agents", action in [
  Mcp::Action::"initialize", Mcp::Action::"notifications/initialized", Mcp::Action::"server/discover",
  Mcp::Action::"ping", Mcp::Action::"tools/list"], resource);
@id("call") permit (principal in Group::"agents", action == Mcp::Action::"tools/call", resource);
@id("no-delete") forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/delete");
@id("srv-only") forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/read")
unless { context.arguments.path like "/srv/*" };
@id("needs-approval") @approval("oncall")
forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/pay");
"#;

fn mcp_gateway(hold: Duration) -> TestGatewayBuilder {
    TestGateway::builder().mcp().policies(MCP_POLICIES).hold(hold)
}

/// No approver votes here: a call that needs an approval is refused soon.
pub async fn start_gateway() -> TestGateway {
    start_with_hold(Duration::from_millis(200)).await
}

pub async fn start_with_hold(hold: Duration) -> TestGateway {
    let gateway = mcp_gateway(hold).start().await;
    assert_eq!(gateway.running.aws_address, None, "the configuration has no AWS front end");
    gateway
}

/// Approvers have a console here.
pub async fn start_with_console(hold: Duration) -> TestGateway {
    mcp_gateway(hold).console().start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_for_this_gateway_nobody_gets_in() {
    let gateway = start_gateway().await;
    let issue = |audience: &str, lifetime: Duration| {
        gateway.workload_issuer.issue_token("agent", &["agents"], audience, lifetime)
    };
    let hour = Duration::from_hours(1);
    let url = gateway.mcp_origin().url();
    let challenge = format!("resource_metadata=\"{url}/.well-known/oauth-protected-resource/mcp/files\"");
    for (headers, error) in [
        (vec![("authorization", String::new())], false),
        (vec![("authorization", "Basic YTpi".to_owned())], true),
        (vec![("authorization", format!("Bearer {}", issue("https://mcp.example.com/mcp", hour)))], true),
        (vec![("authorization", format!("Bearer {}x", issue("durward", hour)))], true),
        (vec![("authorization", "Bearer a.b.c".to_owned())], true),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = gateway.send_mcp(gateway.mcp_request("", &headers, tools_list().to_string())).await;
        assert_eq!(response.status_and_code(), (401, 401), "{headers:?}");
        let challenge_header = response.header("www-authenticate");
        assert!(
            challenge_header.starts_with("Bearer ") && challenge_header.contains(&challenge),
            "{challenge_header}"
        );
        assert_eq!(challenge_header.contains("invalid_token"), error, "{challenge_header}");
    }
    let mut twice = gateway.mcp_request(&gateway.caller_token("agent"), &[], tools_list().to_string());
    twice.headers_mut().append("authorization", "Bearer x".parse().unwrap());
    assert_eq!(gateway.send_mcp(twice).await.status(), 400);
    let mut query = gateway.mcp_request("", &[("authorization", "")], tools_list().to_string());
    *query.uri_mut() = format!("/mcp/files?access_token={}", issue("durward", hour)).parse().unwrap();
    assert_eq!(gateway.send_mcp(query).await.status(), 400);
    assert!(gateway.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_names_the_resource_and_who_issues_tokens() {
    let gateway = start_gateway().await;
    for server in ["files", "no-such-server"] {
        let mut request = gateway.mcp_request("", &[("authorization", "")], "");
        *request.method_mut() = Method::GET;
        *request.uri_mut() = format!("/.well-known/oauth-protected-resource/mcp/{server}").parse().unwrap();
        let response = gateway.send_mcp(request).await;
        assert_eq!(
            response.json()["resource"],
            json!(format!("{}/mcp/{server}", gateway.mcp_origin().url()))
        );
        assert_eq!(
            response.json()["authorization_servers"],
            json!([gateway.workload_issuer.url(), gateway.user_issuer.url()])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_callers_head_reaches_the_server() {
    let gateway = start_gateway().await;
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let token = gateway.caller_token("agent");
    let headers = [
        ("cookie", "cookie-canary"),
        ("x-forwarded-for", "canary"),
        ("forwarded", "for=canary"),
        ("x-api-key", "canary"),
        ("last-event-id", "canary"),
        ("mcp-method", "canary"),
        ("mcp-param-path", "canary"),
        ("baggage", "canary"),
        ("origin", "https://app.example.com"),
    ];
    let message = tool_call("read", json!({ "path": "/srv/a" })).to_string();
    assert_eq!(gateway.send_mcp(gateway.mcp_request(&token, &headers, message.clone())).await.status(), 200);
    let [arrival] = gateway.mcp_server.received_requests().try_into().unwrap();
    assert!(!arrival.head.contains("canary") && !arrival.head.contains(&token), "{}", arrival.head);
    assert!(!arrival.head.to_lowercase().contains("authorization") && !arrival.head.contains("example.com"));
    assert!(arrival.head.starts_with("POST /upstream?tenant=1 HTTP/1.1"), "{}", arrival.head);
    assert_eq!(arrival.header("host"), Some(gateway.mcp_server.address.to_string()));
    assert_eq!(arrival.body, message.as_bytes(), "the bytes that were decided are sent");
    assert!(!gateway.journal_text().await.contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_json_is_refused() {
    let gateway = start_gateway().await;
    let token = gateway.caller_token("agent");
    for (body, wanted) in [
        (json!([tool_call("read", json!({}))]).to_string(), (400, -32_600)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#.to_owned(), (400, -32_700)),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"path":"/srv/a","path":"/etc"}}}"#
                .to_owned(),
            (400, -32_700),
        ),
        (tool_call("read", json!({ "path": "/srv/a", "Path": "/etc" })).to_string(), (400, -32_602)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#.to_owned(), (400, -32_600)),
        (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"delete"}}"#.to_owned(), (400, -32_600)),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}"#.to_owned(), (400, -32_600)),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_owned(), (400, -32_600)),
        (format!("{} {}", tools_list(), tools_list()), (400, -32_700)),
        ("[".repeat(100_000), (400, -32_700)),
        (String::new(), (400, -32_700)),
    ] {
        let response = gateway.send_mcp(gateway.mcp_request(&token, &[], body.clone())).await;
        assert_eq!(response.status_and_code(), wanted, "{}: {}", body.get(..200.min(body.len())).unwrap(), response.text());
    }
    for (headers, wanted) in [
        (vec![("content-type", "text/plain")], 415),
        (vec![("content-type", "")], 415),
        (vec![("content-encoding", "gzip")], 415),
        (vec![("accept", "application/json")], 406),
        (vec![("accept", "")], 406),
        (vec![("mcp-protocol-version", "1999-01-01")], 400),
    ] {
        let response =
            gateway.send_mcp(gateway.mcp_request(&token, &headers, tools_list().to_string())).await;
        assert_eq!(response.status(), wanted, "{headers:?}");
    }
    assert!(gateway.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_contradict_a_modern_body_are_refused() {
    let gateway = start_gateway().await;
    gateway
        .mcp_server
        .respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"resultType":"complete","content":[]}}"#);
    let token = gateway.caller_token("agent");
    let good = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "read")];
    let body = as_stateless_revision(tool_call("read", json!({ "path": "/srv/a" }))).to_string();
    for changed in [
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-protocol-version", ""),
        ("mcp-method", "tools/list"),
        ("mcp-method", ""),
        ("mcp-name", "other"),
        ("mcp-name", ""),
        ("mcp-param-path", "/etc"),
    ] {
        let headers: Vec<_> = good.iter().copied().chain([changed]).collect();
        let response = gateway.send_mcp(gateway.mcp_request(&token, &headers, body.clone())).await;
        assert_eq!(
            (response.status_and_code(), &response.json()["id"]),
            ((400, -32_020), &json!(7)),
            "{changed:?}"
        );
    }
    let mut twice = gateway.mcp_request(&token, &good, body.clone());
    twice.headers_mut().append("mcp-name", "delete".parse().unwrap());
    assert_eq!(gateway.send_mcp(twice).await.status_and_code(), (400, -32_020));
    assert!(gateway.mcp_server.received_requests().is_empty());

    let headers: Vec<_> =
        good.iter().copied().chain([("mcp-param-path", "/srv/a"), ("mcp-session-id", "stray")]).collect();
    assert_eq!(gateway.send_mcp(gateway.mcp_request(&token, &headers, body)).await.status(), 200);
    let [arrival] = gateway.mcp_server.received_requests().try_into().unwrap();
    assert_eq!(arrival.header("mcp-name").as_deref(), Some("read"));
    assert_eq!(arrival.header("mcp-param-path").as_deref(), Some("/srv/a"));
    assert_eq!(arrival.header("mcp-session-id"), None, "a session is not part of this revision");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_good_for_its_caller_at_its_server_only() {
    let gateway = start_gateway().await;
    let (mine, other) = (gateway.caller_token("agent"), gateway.caller_token("other-agent"));
    let session = gateway.open_mcp_session(&mine).await;
    assert!(!session.contains("upstream-1"), "the server's own id is not for clients");
    let opened = gateway.mcp_server.received_requests().pop().unwrap();
    assert_eq!(opened.json()["params"]["capabilities"], json!({ "experimental": { "x": {} } }));

    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"tools":[]}}"#);
    let before = gateway.mcp_server.received_requests().len();
    let middle = session.len() / 2;
    let flipped = if session[middle..].starts_with('A') { "B" } else { "A" };
    let forged = format!("{}{flipped}{}", &session[..middle], &session[middle + 1..]);
    for (token, session, server) in [
        (&other, session.as_str(), "files"),
        (&mine, session.as_str(), "others"),
        (&mine, "upstream-1", "files"),
        (&mine, forged.as_str(), "files"),
        (&mine, "", "files"),
    ] {
        let mut request = gateway.mcp_request(token, &[], tools_list().to_string());
        request.headers_mut().insert("mcp-session-id", session.parse().unwrap());
        *request.uri_mut() = format!("/mcp/{server}").parse().unwrap();
        assert_eq!(
            gateway.send_mcp(request.clone()).await.status_and_code(),
            (404, 404),
            "{server} {session}"
        );
        *request.method_mut() = Method::DELETE;
        assert_eq!(gateway.send_mcp(request).await.status_and_code(), (404, 404), "{server} {session}");
    }
    assert_eq!(gateway.mcp_server.received_requests().len(), before);

    // A newer token of the same caller is the same caller.
    let renewed = gateway.caller_token("agent");
    let headers = [("mcp-session-id", session.as_str())];
    assert_eq!(
        gateway.send_mcp(gateway.mcp_request(&renewed, &headers, tools_list().to_string())).await.status(),
        200
    );
    let arrival = gateway.mcp_server.received_requests().pop().unwrap();
    assert_eq!(arrival.header("mcp-session-id").as_deref(), Some("upstream-1"));

    gateway.mcp_server.respond_json(200, "");
    let mut end = gateway.mcp_request(&renewed, &headers, "");
    *end.method_mut() = Method::DELETE;
    assert_eq!(gateway.send_mcp(end).await.status(), 200);
    assert!(gateway.mcp_server.received_requests().pop().unwrap().head.starts_with("DELETE /upstream"));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_permit_reach_no_server() {
    let gateway = start_gateway().await;
    let named = |response: &TestResponse, policy: &str| {
        let message = response.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(policy) && message.contains("[exchange "), "{message}");
        assert_eq!(response.status_and_code(), (200, 403));
        assert_eq!(response.json()["id"], json!(7));
    };
    named(&gateway.post_mcp(&tool_call("delete", json!({}))).await, "`no-delete`");
    named(&gateway.post_mcp(&tool_call("read", json!({ "path": "/etc/passwd" }))).await, "`srv-only`");
    named(&gateway.post_mcp(&tool_call("read", json!({}))).await, "could not be evaluated");
    named(&gateway.post_mcp(&tool_call("pay", json!({}))).await, "it was not approved in time");
    for method in ["resources/read", "tools/callx", "x/y", "logging/setLevel", "tasks/get"] {
        let message =
            json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": { "name": "read", "uri": "x" } });
        named(&gateway.post_mcp(&message).await, "no policy permits");
    }
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" });
    assert_eq!(gateway.post_mcp(&note).await.status_and_code(), (403, 403));
    for (server, subject, groups) in
        [("closed", "agent", "agents"), ("no-such", "agent", "agents"), ("files", "x", "none")]
    {
        let token =
            gateway.workload_issuer.issue_token(subject, &[groups], "durward", Duration::from_hours(1));
        let mut request = gateway.mcp_request(&token, &[], initialize_request().to_string());
        *request.uri_mut() = format!("/mcp/{server}").parse().unwrap();
        let response = gateway.send_mcp(request).await;
        assert_eq!(response.status_and_code(), (200, 403));
        let message = response.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("may not use this MCP server, or it does not exist"), "{message}");
    }
    assert!(gateway.mcp_server.received_requests().is_empty());
    let journal = gateway.journal_text().await;
    for recorded in ["no-delete", "tools/call delete", "/etc/passwd", "x/y", "\"connection\":\"closed\""] {
        assert!(journal.contains(recorded), "{recorded}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_and_other_methods_are_refused() {
    let gateway = start_gateway().await;
    let token = gateway.caller_token("agent");
    for path in ["/mcp/files", "/.well-known/oauth-protected-resource/mcp/files", "/.durward/health"] {
        for origin in ["http://evil.example.com", "null", "https://app.example.com.evil.example.com"] {
            for method in [Method::POST, Method::GET, Method::DELETE, Method::OPTIONS] {
                let mut request =
                    gateway.mcp_request(&token, &[("origin", origin)], tools_list().to_string());
                *request.uri_mut() = path.parse().unwrap();
                *request.method_mut() = method;
                assert_eq!(gateway.send_mcp(request).await.status(), 403, "{path} {origin}");
            }
        }
    }
    for method in [Method::GET, Method::PUT, Method::OPTIONS] {
        let mut request = gateway.mcp_request(&token, &[], "");
        *request.method_mut() = method;
        let response = gateway.send_mcp(request).await;
        assert_eq!((response.status(), response.header("allow")), (405, "POST, DELETE"));
    }
    for path in ["/mcp/", "/mcp/a/b", "/mcp/%66iles", "/mcp/..", "/", "/mcp"] {
        let mut request = gateway.mcp_request(&token, &[], tools_list().to_string());
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(gateway.send_mcp(request).await.status(), 404, "{path}");
    }
    assert!(gateway.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused() {
    let gateway = start_gateway().await;
    let body = tool_call("read", json!({ "path": "/srv/a", "x": "x".repeat(17 << 20) })).to_string();
    let response = gateway.send_mcp(gateway.mcp_request(&gateway.caller_token("agent"), &[], body)).await;
    assert_eq!(response.status(), 413, "{}", response.text());
    assert!(gateway.mcp_server.received_requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_its_calls_are_shown_from_the_journal() {
    let gateway = start_gateway().await;
    let token = gateway.caller_token("agent");
    let session = gateway.open_mcp_session(&token).await;
    gateway
        .mcp_server
        .respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[],"isError":true}}"#);
    let headers = [("mcp-session-id", session.as_str())];
    let secret = json!({ "path": "/srv/a", "note": "my key is AKIAIOSFODNN7EXAMPLE" });
    assert_eq!(
        gateway
            .send_mcp(gateway.mcp_request(&token, &headers, tool_call("read", secret).to_string()))
            .await
            .status(),
        200
    );
    gateway.send_mcp(gateway.mcp_request(&token, &headers, tool_call("delete", json!({})).to_string())).await;
    let journal = gateway.journal_text().await;
    assert!(!journal.contains("AKIAIOSFODNN7EXAMPLE"), "recordings hold only masked data");

    let dir = gateway.journal_dir();
    let mut json = Vec::new();
    journal_commands::list_sessions(&dir, true, &mut json).unwrap();
    let sessions: Value = serde_json::from_slice(&json).unwrap();
    let [one] = sessions["sessions"].as_array().unwrap().as_slice() else { panic!("{sessions}") };
    assert_eq!(
        (&one["connection"], &one["counts"]["allowed"], &one["counts"]["denied"]),
        (&json!("files"), &json!(2), &json!(1))
    );
    let mut text = Vec::new();
    journal_commands::show_session(&dir, one["session"].as_str().unwrap(), false, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        "allowed            files:initialize files  200",
        "allowed            files:tools/call read files/read  200 isError",
        "denied             files:tools/call delete files/delete  policy no-delete",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_only_resemble_reach_no_server() {
    let policies = format!(r#"{MCP_POLICIES} @id("any-method") permit (principal, action, resource);"#);
    let gateway = mcp_gateway(Duration::from_millis(200)).policies(&policies).start().await;
    for method in ["Tools/Call", "tools//call", "tools/call ", "tools/c\u{200b}all", "tools/call/"] {
        let mut call = tool_call("delete", json!({}));
        call["method"] = json!(method);
        let response = gateway.post_mcp(&call).await;
        assert_eq!(response.status_and_code(), (400, -32600), "{method}");
    }
    for tool in ["delete ", "\u{200b}delete", "delete\u{0}", "\u{202e}eteled"] {
        let response = gateway.post_mcp(&tool_call(tool, json!({}))).await;
        assert_eq!(response.status_and_code(), (400, -32602), "{tool}");
    }
    for tool in ["Delete", "DELETE", "del ete"] {
        let response = gateway.post_mcp(&tool_call(tool, json!({}))).await;
        assert_eq!(response.status_and_code(), (200, 403), "{tool}");
        assert!(response.text().contains("no-delete"), "{}", response.text());
    }
    assert!(gateway.mcp_server.received_requests().is_empty());
}
