//! Arguments that are written in another way, or that Cedar cannot hold, so that a forbid would not see them.

use super::{MCP_POLICIES, TestGateway};

const VALUE_POLICIES: &str = r#"
@id("small-amounts") forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/transfer")
when { context.arguments has amount && context.arguments.amount > 100 };
@id("no-shadow") forbid (principal, action == Mcp::Action::"tools/call", resource == Mcp::Tool::"files/copy")
when { context.arguments has paths && context.arguments.paths.contains("/etc/shadow") };
"#;

async fn start_gateway() -> TestGateway {
    let policies = format!("{MCP_POLICIES}{VALUE_POLICIES}");
    let gateway = TestGateway::builder().mcp().policies(policies).start().await;
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    gateway
}

/// Calls a tool with arguments as a client writes them. `Ok`: the server got exactly these bytes. `Err`: why it got nothing.
async fn call(gateway: &TestGateway, id: &str, tool: &str, arguments: &str) -> Result<(), String> {
    let token = gateway.caller_token("agent");
    let before = gateway.mcp_server.received_requests().len();
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    );
    let response = gateway.send_mcp(gateway.mcp_request(&token, &[], body.clone())).await;
    let received = gateway.mcp_server.received_requests();
    let new: Vec<_> = received[before..].iter().map(|request| request.body.clone()).collect();
    if response.json().get("result").is_some() {
        assert_eq!(new, [body.into_bytes()], "the bytes that were decided are sent");
        return Ok(());
    }
    assert!(new.is_empty(), "{arguments}");
    Err(response.json()["error"]["message"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbid_holds_for_a_number_however_it_is_written() {
    let gateway = start_gateway().await;
    for amount in ["500", "500.0", "5e2", "0.5E+3", "50000e-2", "1e18", "9223372036854775807.0"] {
        let refusal =
            call(&gateway, "7", "transfer", &format!(r#"{{"amount": {amount}}}"#)).await.unwrap_err();
        assert!(refusal.contains("is forbidden by policy `small-amounts`"), "{amount}: {refusal}");
    }
    for amount in ["50", "50.0", "5e1", "-5e18"] {
        assert_eq!(
            call(&gateway, "7", "transfer", &format!(r#"{{"amount": {amount}}}"#)).await,
            Ok(()),
            "{amount}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_that_policy_reads_and_cannot_hold_is_refused_by_its_name() {
    let gateway = start_gateway().await;
    for (tool, arguments, named) in [
        (
            "transfer",
            r#"{"amount": 9223372036854775808}"#,
            "`context.arguments.amount` is not a whole number",
        ),
        (
            "transfer",
            r#"{"amount": 500.00000000000000000001}"#,
            "`context.arguments.amount` is not a whole number",
        ),
        ("transfer", r#"{"amount": null}"#, "`context.arguments.amount` is null"),
        ("copy", r#"{"paths": ["/etc/shadow", null]}"#, "`context.arguments.paths[1]` is null"),
        (
            "copy",
            r#"{"paths": ["/srv/a", 1]}"#,
            "`context.arguments.paths[1]` is a number, and policy reads it",
        ),
        ("copy", r#"{"paths": "/etc/shadow"}"#, "`context.arguments.paths` is a string, and policy reads it"),
        ("copy", r#"{"paths": ["/etc/shadow", 0.5]}"#, "`context.arguments.paths[1]` is not a whole number"),
        ("copy", r#"{"paths": ["/etc/shadow", [[[[[[[[1]]]]]]]]]}"#, "`context.arguments.paths[1][0][0]"),
        (
            "copy",
            r#"{"paths": ["/etc/shadow", {"deep": [null]}]}"#,
            "`context.arguments.paths[1].deep[0]` is null",
        ),
    ] {
        let refusal = call(&gateway, "7", tool, arguments).await.unwrap_err();
        assert!(refusal.contains(named), "{arguments}: {refusal}");
    }
    // What no applicable policy reads is harmless.
    for (tool, arguments) in [
        ("transfer", r#"{"amount": 5, "rate": 0.5, "note": null, "list": [1.5, null]}"#),
        ("copy", r#"{"paths": ["/srv/a"], "amount": 0.5, "list": ["a", 1]}"#),
    ] {
        assert_eq!(call(&gateway, "7", tool, arguments).await, Ok(()), "{arguments}");
    }
}

/// The id of a message is a number like any other: its response is found, however the client writes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_found_for_an_id_however_it_is_written() {
    let gateway = start_gateway().await;
    for id in ["7", "7.0", "70e-1"] {
        assert_eq!(call(&gateway, id, "transfer", "{}").await, Ok(()), "{id}");
    }
    assert!(call(&gateway, "7.5", "transfer", "{}").await.is_err());
}
