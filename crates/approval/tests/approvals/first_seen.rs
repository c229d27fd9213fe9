//! What a caller was let through with is not new, in this process, the next, and for nobody else.

use crate::test_ledger::*;
use durward_approval::*;

#[tokio::test]
async fn an_allowed_operation_is_not_new_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let (me, other) = (test_caller("agent"), test_caller("other"));
    let (one, same) = (delete_bucket_operation("a"), delete_bucket_operation("b"));
    let novelty = FirstSeen::new(testing::open_test_store(&path).await.unwrap());
    assert!(novelty.is_new(&me, &one).await.unwrap());
    novelty.record_operation(&me, &one);
    assert!(!novelty.is_new(&me, &same).await.unwrap(), "the same actions on another resource are known");
    assert!(novelty.is_new(&other, &one).await.unwrap());
    drop(novelty);
    // The note is written behind the request, by a task that ends with its work.
    let store = testing::open_test_store(&path).await.unwrap();
    let mut looks = 0;
    while FirstSeen::new(store.clone()).is_new(&me, &one).await.unwrap() {
        looks += 1;
        assert!(looks < 10_000, "the note was lost");
        tokio::task::yield_now().await;
    }
    assert!(FirstSeen::new(store).is_new(&other, &one).await.unwrap());
}
