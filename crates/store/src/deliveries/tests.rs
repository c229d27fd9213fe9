//! Leases, order and what is dropped, on a store with asks.

use super::*;
use crate::{AskRow, Store, testing};

const OPENED: &str = "ask.opened";
const CLOSED: &str = "ask.closed";

async fn store(directory: &tempfile::TempDir) -> Store {
    testing::open(&directory.path().join("s.db")).await.unwrap()
}

async fn ask(store: &Store, id: &str) -> AskRow {
    let row = AskRow {
        digest: id.as_bytes().to_vec(),
        id: id.to_owned(),
        state: "pending".to_owned(),
        created: 1,
        deadline: 2,
        ends: 3,
        grant_until: None,
        is_window: false,
        caller: "c".to_owned(),
        bound_to: "b".to_owned(),
        connection: "n".to_owned(),
        actions: "a".to_owned(),
        what: "{}".to_owned(),
        risk: "{}".to_owned(),
        votes: "[]".to_owned(),
        history: "[]".to_owned(),
        events: 0,
        attempts: 1,
        uses: 0,
        change: 0,
    };
    let mut write = store.write().await.unwrap();
    write.insert_ask(&row).await.unwrap();
    let row = write.ask(id).await.unwrap().unwrap();
    write.commit().await.unwrap();
    row
}

async fn end(store: &Store, ask: &AskRow) {
    let mut write = store.write().await.unwrap();
    let denied = AskRow { state: "denied".to_owned(), ..ask.clone() };
    assert!(write.update_ask(&denied, "pending").await.unwrap());
    write.commit().await.unwrap();
}

#[tokio::test]
async fn a_leased_delivery_is_nobody_elses_until_the_lease_ends_and_then_only_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    ask(&store, "1").await;
    let mut write = store.write().await.unwrap();
    write.insert_delivery("slack", "1", OPENED, 10).await.unwrap();
    write.insert_delivery("slack", "1", OPENED, 11).await.unwrap();
    let mut mine = write.due_deliveries("slack", 10, 100).await.unwrap();
    assert_eq!(mine.len(), 1, "twice the same is once");
    write.lease_delivery(&mut mine[0], 50).await.unwrap();
    assert_eq!(write.due_deliveries("slack", 49, 100).await.unwrap(), []);
    assert_eq!(write.next_delivery("slack", 0).await.unwrap(), Some(50));
    let mut theirs = write.due_deliveries("slack", 50, 100).await.unwrap();
    write.lease_delivery(&mut theirs[0], 90).await.unwrap();
    assert_eq!((mine[0].attempts, theirs[0].attempts), (1, 2));
    assert!(!write.end_delivery(&mine[0], &Delivered::Sent).await.unwrap(), "with a lease that ran out");
    let retry = Delivered::Retry { at: 70, error: "no".to_owned() };
    assert!(write.end_delivery(&theirs[0], &retry).await.unwrap());
    assert_eq!(write.next_delivery("slack", 0).await.unwrap(), Some(70));
    write.pause_channel("slack", 80).await.unwrap();
    assert!(!write.has_due_deliveries("slack", 79).await.unwrap());
    assert_eq!(write.waiting_deliveries("slack").await.unwrap(), 1);
    assert!(write.end_delivery(&theirs[0], &Delivered::Sent).await.unwrap());
    assert!(!write.end_delivery(&theirs[0], &retry).await.unwrap(), "after its end");
    assert_eq!(write.waiting_deliveries("slack").await.unwrap(), 0);
    assert_eq!(write.due_deliveries("other", 100, 100).await.unwrap(), []);
}

#[tokio::test]
async fn an_ask_that_ended_is_not_announced_and_its_end_is_told_to_who_heard_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let row = ask(&store, "1").await;
    let mut write = store.write().await.unwrap();
    for channel in ["told", "untold", "machine"] {
        write.insert_delivery(channel, "1", OPENED, 10).await.unwrap();
    }
    let mut told = write.due_deliveries("told", 10, 100).await.unwrap();
    write.lease_delivery(&mut told[0], 50).await.unwrap();
    write.commit().await.unwrap();
    end(&store, &row).await;
    let mut write = store.write().await.unwrap();
    for (channel, paired) in [("told", true), ("untold", true), ("machine", false)] {
        write.insert_delivery(channel, "1", CLOSED, 20).await.unwrap();
        assert!(write.has_due_deliveries(channel, 20).await.unwrap());
        write.drop_deliveries(channel, 20, paired).await.unwrap();
    }
    assert_eq!(
        write.due_deliveries("told", 20, 100).await.unwrap(),
        [],
        "while the announcement is on its way"
    );
    assert_eq!(write.due_deliveries("untold", 20, 100).await.unwrap(), []);
    assert_eq!(write.due_deliveries("machine", 20, 100).await.unwrap()[0].event, CLOSED);
    assert!(write.end_delivery(&told[0], &Delivered::Sent).await.unwrap());
    assert_eq!(write.due_deliveries("told", 20, 100).await.unwrap()[0].event, CLOSED);
    assert!(write.has_delivery("told", "1", OPENED).await.unwrap());
    assert!(!write.has_delivery("untold", "1", OPENED).await.unwrap());
}

#[tokio::test]
async fn break_glass_comes_first_and_ends_come_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    for id in ["1", "2", "3"] {
        ask(&store, id).await;
    }
    let mut write = store.write().await.unwrap();
    for (ask, event, at) in
        [("1", CLOSED, 1), ("2", OPENED, 3), ("3", OPENED, 2), ("1", "ask.break_glass", 4)]
    {
        write.insert_delivery("c", ask, event, at).await.unwrap();
    }
    let due = write.due_deliveries("c", 10, 100).await.unwrap();
    let due: Vec<_> = due.iter().map(|row| (row.ask.as_str(), row.event.as_str())).collect();
    assert_eq!(due, [("1", "ask.break_glass"), ("3", OPENED), ("2", OPENED), ("1", CLOSED)]);
    assert_eq!(write.due_deliveries("c", 10, 1).await.unwrap()[0].event, "ask.break_glass");
    assert_eq!(write.forget_deliveries(3).await.unwrap(), 2);
}

#[tokio::test]
async fn a_channel_says_since_when_it_fails_and_each_turn_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory).await;
    let mut write = store.write().await.unwrap();
    assert_eq!(write.channel("c").await.unwrap(), None);
    write.follow_changes("c", 7).await.unwrap();
    write.follow_changes("c", 5).await.unwrap();
    assert!(write.channel_fails("c", 100, "refused").await.unwrap());
    assert!(!write.channel_fails("c", 200, "again").await.unwrap());
    write.count_sent("c", 60, 3).await.unwrap();
    let row = write.channel("c").await.unwrap().unwrap();
    let wanted = ChannelRow {
        change: 7,
        last_success: None,
        failing_since: Some(100),
        last_error: Some("again".to_owned()),
        minute: 60,
        sent: 3,
    };
    assert_eq!(row, wanted);
    assert!(write.channel_works("c", 300).await.unwrap());
    assert!(!write.channel_works("c", 400).await.unwrap());
    let row = write.channel("c").await.unwrap().unwrap();
    assert_eq!((row.last_success, row.failing_since, row.last_error), (Some(400), None, None));
}
