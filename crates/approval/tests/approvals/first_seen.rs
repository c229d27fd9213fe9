//! An operation that a caller was allowed is not new to that caller, in this process and the next.

use crate::test_ledger::*;
use durward_approval::*;

#[tokio::test]
async fn an_allowed_operation_is_not_new_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let (me, other) = (test_caller("agent"), test_caller("other"));
    let (one, same) = (delete_bucket_operation("a"), delete_bucket_operation("b"));
    let first_seen = FirstSeen::new(testing::open_test_store(&path).await.unwrap());
    assert!(first_seen.is_new(&me, &one).await.unwrap());
    first_seen.record_operation(&me, &one);
    assert!(!first_seen.is_new(&me, &same).await.unwrap(), "the same actions on another resource are known");
    assert!(first_seen.is_new(&other, &one).await.unwrap());
    drop(first_seen);
    // The record is written behind the request, by a task that ends once everything is written.
    let store = testing::open_test_store(&path).await.unwrap();
    poll_until(async || !FirstSeen::new(store.clone()).is_new(&me, &one).await.unwrap()).await;
    assert!(FirstSeen::new(store).is_new(&other, &one).await.unwrap());
}
