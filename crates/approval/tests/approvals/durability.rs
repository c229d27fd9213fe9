//! What survives a kill, a damaged file and a clock that moves.

use crate::test_ledger::*;
use durward_approval::*;
use std::{os::unix::fs::PermissionsExt as _, time::Duration};

#[tokio::test]
async fn every_state_survives_a_kill_exactly() {
    let stage = TestLedger::new().await;
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 2)]);
    let ask = stage.request_approval(&new).await;

    let stage = stage.restart_after_kill().await;
    assert_eq!(stage.get(&ask).await, ask);
    assert_eq!(stage.request_approval(&new).await.id, ask.id, "a repeat joins it");

    let ask = stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    let stage = stage.restart_after_kill().await;
    assert_eq!(stage.get(&ask).await.votes, ask.votes);
    assert_eq!(stage.consume_grant(&new).await, None);

    let ask = stage.approve(&ask, &approver("bea", &[ONCALL_GROUP])).await;
    let stage = stage.restart_after_kill().await;
    assert_eq!(stage.get(&ask).await.state, ApprovalState::Approved);
    let until = stage.get(&ask).await.grant_until;
    assert_eq!(until, ask.grant_until);

    let grant = stage.consume_grant(&new).await.unwrap();
    assert_eq!(grant.approvers, ["corp/ann", "corp/bea"]);
    let stage = stage.restart_after_kill().await;
    assert_eq!(stage.consume_grant(&new).await, None, "used is used");
    assert_eq!(stage.get(&ask).await.state, ApprovalState::Consumed);

    let denied = stage.request_approval(&delete_bucket_request(2)).await;
    stage.deny(&denied, &approver("ann", &[ONCALL_GROUP])).await;
    let stage = stage.restart_after_kill().await;
    assert_eq!(stage.get(&denied).await.last_denial().unwrap().reason.as_deref(), Some("not today"));

    let window = stage.request_approval(&delete_bucket_request(3)).await;
    let answer = VoteChoice::ApproveTimeBound { until: stage.test_clock.now() + Duration::from_hours(1) };
    stage.approvals.cast_vote(window.id, &approver("ann", &[ONCALL_GROUP]), answer).await.unwrap();
    let stage = stage.restart_after_kill().await;
    assert!(stage.consume_grant(&delete_bucket_request(3)).await.unwrap().time_bound);
    stage.approvals.upsert_user(&approver("ann", &[])).await.unwrap();
    let stage = stage.restart_after_kill().await;
    assert_eq!(stage.consume_grant(&delete_bucket_request(3)).await, None, "the lost membership is kept");
}

#[tokio::test]
async fn a_clock_set_back_lengthens_no_grant() {
    let stage = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let ask = stage.request_approval(&new).await;
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    stage.test_clock.advance(540);
    stage.get(&ask).await;
    stage.test_clock.advance(-3_000);
    assert_eq!(stage.get(&ask).await.state, ApprovalState::Approved);
    stage.test_clock.advance(60);
    assert_eq!(stage.consume_grant(&new).await, None, "ten minutes have passed in all");
}

#[tokio::test]
async fn a_clock_set_back_over_a_restart_lengthens_no_grant() {
    let stage = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let ask = stage.request_approval(&new).await;
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    stage.test_clock.advance(540);
    // any write notes the time
    stage.approvals.upsert_user(&approver("bea", &[])).await.unwrap();
    stage.test_clock.advance(-3_000);
    let stage = stage.restart_after_kill().await;
    assert_eq!(stage.get(&ask).await.state, ApprovalState::Approved);
    stage.test_clock.advance(60);
    assert_eq!(stage.consume_grant(&new).await, None);
}

#[tokio::test]
async fn a_clock_that_was_ahead_is_believed_again_once_nothing_is_open() {
    let stage = TestLedger::new().await;
    let ask = stage.request_approval(&delete_bucket_request(1)).await;
    stage.deny(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    stage.test_clock.advance(1_000_000);
    stage.approvals.upsert_user(&approver("ann", &[])).await.unwrap();
    stage.test_clock.advance(-1_000_000);
    let stage = stage.restart_after_kill().await;
    assert_eq!(stage.request_approval(&delete_bucket_request(2)).await.created, stage.test_clock.now());
}

#[tokio::test]
async fn a_corrupt_or_world_readable_file_is_refused() {
    if testing::is_postgres() {
        return;
    }
    let stage = TestLedger::new().await;
    let path = database_path(stage.directory.path());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    drop(stage.approvals);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error}");

    for bytes in
        [&b"this is no database, and long enough to be looked at as if it were one"[..], &[0xff; 8_192]]
    {
        let damaged = stage.directory.path().join("damaged.db");
        std::fs::write(&damaged, bytes).unwrap();
        std::fs::set_permissions(&damaged, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Store::open(&damaged).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    }
    let link = stage.directory.path().join("link.db");
    std::os::unix::fs::symlink(stage.directory.path().join("elsewhere"), &link).unwrap();
    assert!(matches!(Store::open(&link).await, Err(StoreError::File { .. })));
}

/// Changes the state behind the back of an open gateway.
pub async fn tamper_database(stage: &TestLedger, sql: &'static str) {
    testing::tamper_with_store(&database_path(stage.directory.path()), sql).await;
}

#[tokio::test]
async fn an_inconsistent_row_grants_nothing() {
    for sql in [
        testing::choose_by_engine(
            "UPDATE ask SET digest = x'0202020202020202020202020202020202020202020202020202020202020202'",
            "UPDATE ask SET digest = decode('0202020202020202020202020202020202020202020202020202020202020202', 'hex')",
        ),
        "UPDATE ask SET bound_to = replace(bound_to, 'agent', 'other')",
        "UPDATE ask SET connection = 'staging'",
        "UPDATE ask SET what = '{}'",
        "UPDATE ask SET votes = '['",
        "UPDATE ask SET history = ''",
        "UPDATE person SET member_of = 'oncall'",
    ] {
        let stage = TestLedger::new().await;
        let new = delete_bucket_request(1);
        let ask = stage.request_approval(&new).await;
        stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
        tamper_database(&stage, sql).await;
        for other in [
            new.clone(),
            NewApprovalRequest { digest: [2; 32], ..new.clone() },
            NewApprovalRequest { caller: test_caller("other"), ..new.clone() },
            NewApprovalRequest { connection: "staging".to_owned(), ..new.clone() },
        ] {
            let taken = stage
                .approvals
                .consume_grant(
                    &other.caller,
                    &other.connection,
                    &other.operation,
                    &other.digest,
                    &other.requirements,
                )
                .await;
            assert!(matches!(taken, Ok(None) | Err(StoreError::Corrupt(_))), "{sql}: {taken:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_grants_nothing() {
    let stage = TestLedger::new().await;
    let (approved, open) = (delete_bucket_request(1), delete_bucket_request(2));
    let ask = stage.request_approval(&approved).await;
    stage.approve(&ask, &approver("ann", &[ONCALL_GROUP])).await;
    let waiting = stage.request_approval(&open).await;
    // every write from now on fails, as with a full disk
    tamper_database(
        &stage,
        testing::choose_by_engine(
            "CREATE TRIGGER no_insert BEFORE INSERT ON ask BEGIN SELECT RAISE(ABORT, 'disk full'); END;
             CREATE TRIGGER no_update BEFORE UPDATE ON ask BEGIN SELECT RAISE(ABORT, 'disk full'); END;",
            "ALTER TABLE ask ADD CONSTRAINT no_write CHECK (false) NOT VALID",
        ),
    )
    .await;
    let taken = stage
        .approvals
        .consume_grant(
            &approved.caller,
            &approved.connection,
            &approved.operation,
            &approved.digest,
            &approved.requirements,
        )
        .await;
    assert!(matches!(taken, Err(StoreError::Database(_))), "{taken:?}");
    let mut changes = stage.approvals.subscribe_changes();
    let answered = stage
        .approvals
        .cast_vote(waiting.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(answered, Err(VoteError::Store(_))), "{answered:?}");
    assert_eq!(stage.get(&waiting).await.state, ApprovalState::Pending);
    assert!(changes.try_recv().is_err(), "nothing is announced that is not on disk");
    assert!(matches!(
        stage.approvals.request_approval(delete_bucket_request(3)).await,
        Err(ApprovalRequestError::Store(_))
    ));

    let mended = testing::choose_by_engine(
        "DROP TRIGGER no_insert; DROP TRIGGER no_update;",
        "ALTER TABLE ask DROP CONSTRAINT no_write",
    );
    tamper_database(&stage, mended).await;
    assert!(stage.consume_grant(&approved).await.is_some(), "and what was approved is still there");
}
