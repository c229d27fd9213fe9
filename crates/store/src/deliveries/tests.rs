//! Leases, the order of deliveries, and which are dropped, in a store with approval requests.

use super::*;
use crate::{ApprovalRequestRow, Store, testing};

const OPENED_EVENT: &str = "approval_request.opened";
const CLOSED_EVENT: &str = "approval_request.closed";
const BREAK_GLASS_EVENT: &str = "approval_request.break_glass";

async fn open_store(directory: &tempfile::TempDir) -> Store {
    testing::open_test_store(&directory.path().join("s.db")).await.unwrap()
}

async fn insert_pending_request(store: &Store, id: &str) -> ApprovalRequestRow {
    let row = ApprovalRequestRow {
        digest: id.as_bytes().to_vec(),
        id: id.to_owned(),
        state: "pending".to_owned(),
        created_at: 1,
        hold_deadline: 2,
        vote_deadline: 3,
        grant_until: None,
        is_time_bound: false,
        caller: "c".to_owned(),
        caller_binding: "b".to_owned(),
        connection: "n".to_owned(),
        actions: "a".to_owned(),
        details: "{}".to_owned(),
        risk: "{}".to_owned(),
        votes: "[]".to_owned(),
        history: "[]".to_owned(),
        event_count: 0,
        attempt_count: 1,
        use_count: 0,
        change_number: 0,
    };
    let mut write = store.begin_write().await.unwrap();
    write.insert_approval_request(&row).await.unwrap();
    let row = write.find_approval_request(id).await.unwrap().unwrap();
    write.commit().await.unwrap();
    row
}

async fn deny_request(store: &Store, request: &ApprovalRequestRow) {
    let mut write = store.begin_write().await.unwrap();
    let denied = ApprovalRequestRow { state: "denied".to_owned(), ..request.clone() };
    assert!(write.update_approval_request(&denied, "pending").await.unwrap());
    write.commit().await.unwrap();
}

#[tokio::test]
async fn a_leased_delivery_belongs_to_one_holder_until_the_lease_ends() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_store(&directory).await;
    insert_pending_request(&store, "1").await;
    let mut write = store.begin_write().await.unwrap();
    write.insert_delivery("slack", "1", OPENED_EVENT, 10).await.unwrap();
    write.insert_delivery("slack", "1", OPENED_EVENT, 11).await.unwrap();
    let mut first_lease = write.due_deliveries("slack", 10, 100).await.unwrap();
    assert_eq!(first_lease.len(), 1, "the same event twice is one delivery");
    write.lease_delivery(&mut first_lease[0], 50).await.unwrap();
    assert_eq!(write.due_deliveries("slack", 49, 100).await.unwrap(), []);
    assert_eq!(write.next_delivery_time("slack", 0).await.unwrap(), Some(50));
    let mut second_lease = write.due_deliveries("slack", 50, 100).await.unwrap();
    write.lease_delivery(&mut second_lease[0], 90).await.unwrap();
    assert_eq!((first_lease[0].attempt_count, second_lease[0].attempt_count), (1, 2));
    assert!(
        !write.finish_delivery(&first_lease[0], &DeliveryOutcome::Sent).await.unwrap(),
        "its lease has expired"
    );
    let retry = DeliveryOutcome::Retry { at: 70, error: "no".to_owned() };
    assert!(write.finish_delivery(&second_lease[0], &retry).await.unwrap());
    assert_eq!(write.next_delivery_time("slack", 0).await.unwrap(), Some(70));
    write.pause_channel("slack", 80).await.unwrap();
    assert!(!write.has_due_deliveries("slack", 79).await.unwrap());
    assert_eq!(write.count_waiting_deliveries("slack").await.unwrap(), 1);
    assert!(write.finish_delivery(&second_lease[0], &DeliveryOutcome::Sent).await.unwrap());
    assert!(!write.finish_delivery(&second_lease[0], &retry).await.unwrap(), "it was sent already");
    assert_eq!(write.count_waiting_deliveries("slack").await.unwrap(), 0);
    assert_eq!(write.due_deliveries("other", 100, 100).await.unwrap(), []);
}

#[tokio::test]
async fn a_closed_request_is_not_announced_and_its_end_goes_only_to_notified_channels() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_store(&directory).await;
    let row = insert_pending_request(&store, "1").await;
    let mut write = store.begin_write().await.unwrap();
    for channel in ["announced", "unannounced", "unpaired"] {
        write.insert_delivery(channel, "1", OPENED_EVENT, 10).await.unwrap();
    }
    let mut announcement = write.due_deliveries("announced", 10, 100).await.unwrap();
    write.lease_delivery(&mut announcement[0], 50).await.unwrap();
    write.commit().await.unwrap();
    deny_request(&store, &row).await;
    let mut write = store.begin_write().await.unwrap();
    for (channel, paired) in [("announced", true), ("unannounced", true), ("unpaired", false)] {
        write.insert_delivery(channel, "1", CLOSED_EVENT, 20).await.unwrap();
        assert!(write.has_due_deliveries(channel, 20).await.unwrap());
        write.drop_stale_deliveries(channel, 20, paired).await.unwrap();
    }
    assert_eq!(
        write.due_deliveries("announced", 20, 100).await.unwrap(),
        [],
        "the announcement is still on its way"
    );
    assert_eq!(write.due_deliveries("unannounced", 20, 100).await.unwrap(), []);
    assert_eq!(write.due_deliveries("unpaired", 20, 100).await.unwrap()[0].event, CLOSED_EVENT);
    assert!(write.finish_delivery(&announcement[0], &DeliveryOutcome::Sent).await.unwrap());
    assert_eq!(write.due_deliveries("announced", 20, 100).await.unwrap()[0].event, CLOSED_EVENT);
    assert!(write.has_delivery("announced", "1", OPENED_EVENT).await.unwrap());
    assert!(!write.has_delivery("unannounced", "1", OPENED_EVENT).await.unwrap());
}

#[tokio::test]
async fn break_glass_comes_first_and_ends_come_last() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_store(&directory).await;
    for id in ["1", "2", "3"] {
        insert_pending_request(&store, id).await;
    }
    let mut write = store.begin_write().await.unwrap();
    for (request, event, at) in
        [("1", CLOSED_EVENT, 1), ("2", OPENED_EVENT, 3), ("3", OPENED_EVENT, 2), ("1", BREAK_GLASS_EVENT, 4)]
    {
        write.insert_delivery("c", request, event, at).await.unwrap();
    }
    let due = write.due_deliveries("c", 10, 100).await.unwrap();
    let due: Vec<_> = due.iter().map(|row| (row.approval_request.as_str(), row.event.as_str())).collect();
    assert_eq!(
        due,
        [("1", BREAK_GLASS_EVENT), ("3", OPENED_EVENT), ("2", OPENED_EVENT), ("1", CLOSED_EVENT)]
    );
    assert_eq!(write.due_deliveries("c", 10, 1).await.unwrap()[0].event, BREAK_GLASS_EVENT);
    assert_eq!(write.delete_deliveries_before(3).await.unwrap(), 2);
}

#[tokio::test]
async fn a_channel_reports_each_failure_and_recovery_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_store(&directory).await;
    let mut write = store.begin_write().await.unwrap();
    assert_eq!(write.find_channel("c").await.unwrap(), None);
    write.advance_channel_cursor("c", 7).await.unwrap();
    write.advance_channel_cursor("c", 5).await.unwrap();
    assert!(write.record_channel_failure("c", 100, "refused").await.unwrap());
    assert!(!write.record_channel_failure("c", 200, "again").await.unwrap());
    write.set_sent_count("c", 60, 3).await.unwrap();
    let row = write.find_channel("c").await.unwrap().unwrap();
    let expected = ChannelRow {
        change_number: 7,
        last_success: None,
        failing_since: Some(100),
        last_error: Some("again".to_owned()),
        minute_start: 60,
        sent_in_minute: 3,
    };
    assert_eq!(row, expected);
    assert!(write.record_channel_success("c", 300).await.unwrap());
    assert!(!write.record_channel_success("c", 400).await.unwrap());
    let row = write.find_channel("c").await.unwrap().unwrap();
    assert_eq!((row.last_success, row.failing_since, row.last_error), (Some(400), None, None));
}
