//! What survives a kill, a corrupt file and a clock that is set back.

use crate::test_ledger::*;
use durward_approval::*;
use std::{os::unix::fs::PermissionsExt as _, time::Duration};

#[tokio::test]
async fn every_state_survives_a_kill_exactly() {
    let ledger = TestLedger::new().await;
    let new = request_requiring(vec![approval_requirement("p", ONCALL_GROUP, 2)]);
    let request = ledger.request_approval(&new).await;

    let ledger = ledger.restart_after_kill().await;
    assert_eq!(ledger.get(&request).await, request);
    assert_eq!(ledger.request_approval(&new).await.id, request.id, "a repeat joins it");

    let request = ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    let ledger = ledger.restart_after_kill().await;
    assert_eq!(ledger.get(&request).await.votes, request.votes);
    assert_eq!(ledger.consume_grant(&new).await, None);

    let request = ledger.approve(&request, &approver("bea", &[ONCALL_GROUP])).await;
    let ledger = ledger.restart_after_kill().await;
    assert_eq!(ledger.get(&request).await.state, ApprovalState::Approved);
    let until = ledger.get(&request).await.grant_until;
    assert_eq!(until, request.grant_until);

    let grant = ledger.consume_grant(&new).await.unwrap();
    assert_eq!(grant.approvers, ["corp/ann", "corp/bea"]);
    let ledger = ledger.restart_after_kill().await;
    assert_eq!(ledger.consume_grant(&new).await, None, "a consumed grant stays consumed");
    assert_eq!(ledger.get(&request).await.state, ApprovalState::Consumed);

    let denied = ledger.request_approval(&delete_bucket_request(2)).await;
    ledger.deny(&denied, &approver("ann", &[ONCALL_GROUP])).await;
    let ledger = ledger.restart_after_kill().await;
    assert_eq!(ledger.get(&denied).await.last_denial().unwrap().reason.as_deref(), Some("not today"));

    let time_bound = ledger.request_approval(&delete_bucket_request(3)).await;
    let choice = VoteChoice::ApproveTimeBound { until: ledger.test_clock.now() + Duration::from_hours(1) };
    ledger.approvals.cast_vote(time_bound.id, &approver("ann", &[ONCALL_GROUP]), choice).await.unwrap();
    let ledger = ledger.restart_after_kill().await;
    assert!(ledger.consume_grant(&delete_bucket_request(3)).await.unwrap().time_bound);
    ledger.approvals.upsert_user(&approver("ann", &[])).await.unwrap();
    let ledger = ledger.restart_after_kill().await;
    assert_eq!(ledger.consume_grant(&delete_bucket_request(3)).await, None, "the lost membership is kept");
}

#[tokio::test]
async fn a_clock_set_back_lengthens_no_grant() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.test_clock.advance(540);
    ledger.get(&request).await;
    ledger.test_clock.advance(-3_000);
    assert_eq!(ledger.get(&request).await.state, ApprovalState::Approved);
    ledger.test_clock.advance(60);
    assert_eq!(ledger.consume_grant(&new).await, None, "ten minutes have passed in all");
}

#[tokio::test]
async fn a_clock_set_back_over_a_restart_lengthens_no_grant() {
    let ledger = TestLedger::new().await;
    let new = delete_bucket_request(1);
    let request = ledger.request_approval(&new).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.test_clock.advance(540);
    // Any write stores the time.
    ledger.approvals.upsert_user(&approver("bea", &[])).await.unwrap();
    ledger.test_clock.advance(-3_000);
    let ledger = ledger.restart_after_kill().await;
    assert_eq!(ledger.get(&request).await.state, ApprovalState::Approved);
    ledger.test_clock.advance(60);
    assert_eq!(ledger.consume_grant(&new).await, None);
}

#[tokio::test]
async fn a_clock_that_was_ahead_is_believed_again_once_nothing_is_open() {
    let ledger = TestLedger::new().await;
    let request = ledger.request_approval(&delete_bucket_request(1)).await;
    ledger.deny(&request, &approver("ann", &[ONCALL_GROUP])).await;
    ledger.test_clock.advance(1_000_000);
    ledger.approvals.upsert_user(&approver("ann", &[])).await.unwrap();
    ledger.test_clock.advance(-1_000_000);
    let ledger = ledger.restart_after_kill().await;
    assert_eq!(ledger.request_approval(&delete_bucket_request(2)).await.created, ledger.test_clock.now());
}

#[tokio::test]
async fn a_corrupt_or_world_readable_file_is_refused() {
    if testing::is_postgres() {
        return;
    }
    let ledger = TestLedger::new().await;
    let path = database_path(ledger.directory.path());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    drop(ledger.approvals);

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::File { .. }), "{error}");

    for bytes in
        [&b"this is no database, and long enough to be looked at as if it were one"[..], &[0xff; 8_192]]
    {
        let corrupt = ledger.directory.path().join("corrupt.db");
        std::fs::write(&corrupt, bytes).unwrap();
        std::fs::set_permissions(&corrupt, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = Store::open(&corrupt).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    }
    let link = ledger.directory.path().join("link.db");
    std::os::unix::fs::symlink(ledger.directory.path().join("elsewhere"), &link).unwrap();
    assert!(matches!(Store::open(&link).await, Err(StoreError::File { .. })));
}

/// Changes the stored state under an open gateway.
pub async fn tamper_database(ledger: &TestLedger, sql: &'static str) {
    testing::tamper_with_store(&database_path(ledger.directory.path()), sql).await;
}

#[tokio::test]
async fn an_inconsistent_row_grants_nothing() {
    let sent = delete_bucket_request(1);
    // What is changed in the store, and the operation that the changed row would be found for.
    let tampered_rows = [
        (
            testing::choose_by_engine(
                "UPDATE approval_request SET digest = x'0202020202020202020202020202020202020202020202020202020202020202'",
                "UPDATE approval_request SET digest = decode('0202020202020202020202020202020202020202020202020202020202020202', 'hex')",
            ),
            NewApprovalRequest { digest: [2; 32], ..sent.clone() },
        ),
        (
            "UPDATE approval_request SET caller_binding = replace(caller_binding, 'agent', 'other')",
            NewApprovalRequest { caller: test_caller("other"), ..sent.clone() },
        ),
        (
            "UPDATE approval_request SET connection = 'staging'",
            NewApprovalRequest { connection: "staging".to_owned(), ..sent.clone() },
        ),
        ("UPDATE approval_request SET details = '{}'", sent.clone()),
        ("UPDATE approval_request SET votes = '['", sent.clone()),
        ("UPDATE approval_request SET history = ''", sent.clone()),
        ("UPDATE app_user SET group_names = 'oncall'", sent.clone()),
    ];
    for (sql, matching) in tampered_rows {
        let ledger = TestLedger::new().await;
        let request = ledger.request_approval(&sent).await;
        ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
        let granted = try_find_grant(&ledger.approvals, &sent).await.unwrap();
        assert!(granted.is_some(), "before the change the operation passes");
        tamper_database(&ledger, sql).await;
        for operation in [&sent, &matching] {
            let consumed = try_consume(&ledger.approvals, operation).await;
            assert!(matches!(consumed, Ok(None) | Err(StoreError::Corrupt(_))), "{sql}: {consumed:?}");
        }
        // Not only refused because nothing was found: the row is there and is known to be corrupt, or the groups are.
        let is_corrupt_row = ledger.get(&request).await.state == ApprovalState::Corrupt;
        let are_corrupt_groups = try_consume(&ledger.approvals, &sent).await.is_err();
        assert!(is_corrupt_row || are_corrupt_groups, "{sql}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_grants_nothing() {
    let ledger = TestLedger::new().await;
    let (approved, open) = (delete_bucket_request(1), delete_bucket_request(2));
    let request = ledger.request_approval(&approved).await;
    ledger.approve(&request, &approver("ann", &[ONCALL_GROUP])).await;
    let pending = ledger.request_approval(&open).await;
    // Every write fails from now on, as with a full disk.
    tamper_database(
        &ledger,
        testing::choose_by_engine(
            "CREATE TRIGGER no_insert BEFORE INSERT ON approval_request BEGIN SELECT RAISE(ABORT, 'disk full'); END;
             CREATE TRIGGER no_update BEFORE UPDATE ON approval_request BEGIN SELECT RAISE(ABORT, 'disk full'); END;",
            "ALTER TABLE approval_request ADD CONSTRAINT no_write CHECK (false) NOT VALID",
        ),
    )
    .await;
    let consumed = try_consume(&ledger.approvals, &approved).await;
    assert!(matches!(consumed, Err(StoreError::Database(_))), "{consumed:?}");
    let mut changes = ledger.approvals.subscribe_changes();
    let voted = ledger
        .approvals
        .cast_vote(pending.id, &approver("ann", &[ONCALL_GROUP]), VoteChoice::ApproveOnce)
        .await;
    assert!(matches!(voted, Err(VoteError::Store(_))), "{voted:?}");
    assert_eq!(ledger.get(&pending).await.state, ApprovalState::Pending);
    assert!(changes.try_recv().is_err(), "a change that is not on disk is not announced");
    assert!(matches!(
        ledger.approvals.request_approval(delete_bucket_request(3)).await,
        Err(ApprovalRequestError::Store(_))
    ));

    let mended = testing::choose_by_engine(
        "DROP TRIGGER no_insert; DROP TRIGGER no_update;",
        "ALTER TABLE approval_request DROP CONSTRAINT no_write",
    );
    tamper_database(&ledger, mended).await;
    assert!(ledger.consume_grant(&approved).await.is_some(), "and the grant is still there");
}
