//! Equal tool calls that wait for one approval: one is executed. Its answer names its request, so the other gets a refusal that
//! says which exchange it was, and not that answer.

use super::stage::{Stage, call};
use durward_approval::{Answer, Approvals, Filter, Limits, Person, State, Store, system_clock};
use durward_journal::Record;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;

#[tokio::test(flavor = "multi_thread")]
async fn one_approval_lets_one_of_two_equal_calls_pass_and_tells_the_other() {
    let stage = Stage::holding(Duration::from_mins(1)).await;
    stage.server.answers_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let token = stage.token("agent");
    let message = call("pay", json!({ "amount": 1 }));
    let session = stage.initialize(&token).await;
    stage.server.answers_json(200, r#"{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}"#);
    let before = stage.server.arrivals().len();
    let send = async || {
        let headers = [("mcp-session-id", session.as_str()), ("amz-sdk-invocation-id", "a")];
        stage.send(stage.request(&token, &headers, message.to_string())).await.text()
    };
    let approving = async {
        while stage.journal().await.matches("\"asked\"").count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // As another replica would.
        let store = Store::open(&stage.dir.path().join("data/state.db")).await.unwrap();
        let there = Approvals::open(store, Limits::default(), system_clock()).await.unwrap();
        let filter = Filter { states: vec![State::Pending], ..Filter::default() };
        let asks = there.list(filter).await.unwrap();
        assert_eq!(asks.len(), 1);
        let ann = Person {
            id: "corp/ann".to_owned(),
            name: "Ann".to_owned(),
            subject: "ann".to_owned(),
            groups: vec!["oncall".to_owned()],
            as_of: OffsetDateTime::now_utc(),
        };
        there.answer(asks[0].id, &ann, Answer::ApproveOnce).await.unwrap();
    };
    let all = async { tokio::join!(send(), send(), approving) };
    let (one, two, ()) = tokio::time::timeout(Duration::from_secs(30), all).await.expect("both end");
    assert_eq!(stage.server.arrivals().len(), before + 1, "executed twice: {one} {two}");
    let (answered, refused) = if one.contains("\"result\"") { (one, two) } else { (two, one) };
    assert!(answered.contains("\"content\""), "{answered}");
    stage.running.flush().await.unwrap();
    let executed =
        durward_journal::read(&stage.dir.path().join("data/journal")).find_map(|entry| {
            match entry.unwrap().record().unwrap() {
                Record::Intent { exchange, approval: Some(_), .. } => Some(exchange.to_string()),
                _ => None,
            }
        });
    let executed = executed.expect("an intent");
    assert!(refused.contains(&executed) && refused.contains("for that request alone"), "{refused}");
}
