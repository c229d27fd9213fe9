//! Equal tool calls that wait for one approval: one is executed. Its answer names its request, so the other gets a refusal that
//! says which exchange it was, and not that answer.

use super::test_gateway::{McpTestGateway, tool_call};
use durward_approval::{
    ApprovalLimits, ApprovalRequestFilter, ApprovalState, Approvals, Approver, Store, VoteChoice,
    system_clock,
};
use durward_journal::JournalRecord;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

#[tokio::test(flavor = "multi_thread")]
async fn one_grant_executes_one_of_two_equal_calls() {
    let stage = McpTestGateway::start_with_hold(Duration::from_mins(1)).await;
    stage.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let token = stage.caller_token("agent");
    let message = tool_call("pay", json!({ "amount": 1 }));
    let session = stage.open_session(&token).await;
    stage.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let before = stage.mcp_server.received_requests().len();
    let send = async || {
        let headers = [("mcp-session-id", session.as_str()), ("amz-sdk-invocation-id", "a")];
        stage.send_request(stage.build_request(&token, &headers, message.to_string())).await.text()
    };
    let approving = async {
        while stage.read_journal().await.matches("\"approval_requested\"").count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // As another replica would.
        let store = Store::open(&stage.dir.path().join("data/state.db")).await.unwrap();
        let there = Approvals::open(store, ApprovalLimits::default(), system_clock()).await.unwrap();
        let filter = ApprovalRequestFilter {
            states: vec![ApprovalState::Pending],
            ..ApprovalRequestFilter::default()
        };
        let asks = there.list(filter).await.unwrap();
        assert_eq!(asks.len(), 1);
        let ann = Approver {
            id: "corp/ann".to_owned(),
            name: "Ann".to_owned(),
            subject: "ann".to_owned(),
            groups: vec!["oncall".to_owned()],
            groups_as_of: OffsetDateTime::now_utc(),
        };
        there.cast_vote(asks[0].id, &ann, VoteChoice::ApproveOnce).await.unwrap();
    };
    let all = async { tokio::join!(send(), send(), approving) };
    let (one, two, ()) = tokio::time::timeout(Duration::from_secs(30), all).await.expect("both end");
    assert_eq!(stage.mcp_server.received_requests().len(), before + 1, "executed twice: {one} {two}");
    let (answered, refused) = if one.contains("\"result\"") { (one, two) } else { (two, one) };
    assert!(answered.contains("\"content\""), "{answered}");
    stage.gateway.flush_journal().await.unwrap();
    let executed = durward_journal::read_journal(&stage.dir.path().join("data/journal")).find_map(|entry| {
        match entry.unwrap().decode_record().unwrap() {
            JournalRecord::Intent { exchange, grant: Some(_), .. } => Some(exchange.to_string()),
            _ => None,
        }
    });
    let executed = executed.expect("an intent");
    assert!(
        refused.contains(&executed) && refused.contains("the response belongs to that request alone"),
        "{refused}"
    );
}
