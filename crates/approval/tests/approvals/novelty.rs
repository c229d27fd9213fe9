//! What a caller was let through with is not new, in this process, the next, and for nobody else.

use crate::stage::*;
use durward_approval::*;

#[tokio::test]
async fn what_a_caller_was_let_through_with_is_not_new_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let (me, other) = (caller("agent"), caller("other"));
    let (one, same) = (operation("a"), operation("b"));
    let novelty = Novelty::new(testing::open(&path).await.unwrap());
    assert!(novelty.is_new(&me, &one).await.unwrap());
    novelty.note(&me, &one);
    assert!(!novelty.is_new(&me, &same).await.unwrap(), "the same actions on another resource are known");
    assert!(novelty.is_new(&other, &one).await.unwrap());
    drop(novelty);
    // The note is written behind the request, by a task that ends with its work.
    let store = testing::open(&path).await.unwrap();
    let mut looks = 0;
    while Novelty::new(store.clone()).is_new(&me, &one).await.unwrap() {
        looks += 1;
        assert!(looks < 10_000, "the note was lost");
        tokio::task::yield_now().await;
    }
    assert!(Novelty::new(store).is_new(&other, &one).await.unwrap());
}
