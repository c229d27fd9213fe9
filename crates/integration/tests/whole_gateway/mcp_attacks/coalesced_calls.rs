//! Of equal tool calls that wait for one approval, one is executed. Its response carries its own request id, so the others get
//! a refusal that names the exchange, and not that response.

use super::start_with_hold;
use durward_approval::{
    ApprovalLimits, ApprovalRequestFilter, ApprovalState, Approvals, Store, VoteChoice, system_clock,
};
use durward_integration::{TestGateway, tool_call};
use durward_journal::JournalRecord;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn one_grant_executes_one_of_two_equal_calls() {
    let gateway = start_with_hold(Duration::from_mins(1)).await;
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let token = gateway.caller_token("agent");
    let message = tool_call("pay", json!({ "amount": 1 }));
    let session = gateway.open_mcp_session(&token).await;
    gateway.mcp_server.respond_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let before = gateway.mcp_server.received_requests().len();
    let send = async || {
        let headers = [("mcp-session-id", session.as_str()), ("amz-sdk-invocation-id", "a")];
        gateway.send_mcp(gateway.mcp_request(&token, &headers, message.to_string())).await.text()
    };
    let approving = async {
        gateway.wait_until_journaled("\"approval_requested\"", 2).await;
        // Another replica would vote so.
        let store = Store::open(&gateway.database_path()).await.unwrap();
        let there = Approvals::open(store, ApprovalLimits::default(), system_clock()).await.unwrap();
        let filter = ApprovalRequestFilter {
            states: vec![ApprovalState::Pending],
            ..ApprovalRequestFilter::default()
        };
        let requests = there.list(filter).await.unwrap();
        assert_eq!(requests.len(), 1);
        let ann = TestGateway::approver("ann");
        // Boxed: the future of a vote is large.
        Box::pin(there.cast_vote(requests[0].id, &ann, VoteChoice::ApproveOnce)).await.unwrap();
    };
    let all = async { tokio::join!(send(), send(), approving) };
    let (one, two, ()) = tokio::time::timeout(Duration::from_secs(30), all).await.expect("both end");
    assert_eq!(gateway.mcp_server.received_requests().len(), before + 1, "executed twice: {one} {two}");
    let (answered, refused) = if one.contains("\"result\"") { (one, two) } else { (two, one) };
    assert!(answered.contains("\"content\""), "{answered}");

    let executed = durward_journal::read_journal(&gateway.journal_dir()).find_map(|entry| {
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
