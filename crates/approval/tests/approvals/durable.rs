//! What survives a kill, a damaged file and a clock that moves.

use crate::stage::*;
use durward_approval::*;
use std::{os::unix::fs::PermissionsExt as _, time::Duration};

#[tokio::test]
async fn every_step_survives_a_kill_exactly() {
    let stage = Stage::new().await;
    let new = with(vec![requirement("p", ONCALL, 2)]);
    let ask = stage.ask(&new).await;

    let stage = stage.after_a_kill().await;
    assert_eq!(stage.get(&ask).await, ask);
    assert_eq!(stage.ask(&new).await.id, ask.id, "a repeat joins it");

    let ask = stage.approve(&ask, &person("ann", &[ONCALL])).await;
    let stage = stage.after_a_kill().await;
    assert_eq!(stage.get(&ask).await.votes, ask.votes);
    assert_eq!(stage.take(&new).await, None);

    let ask = stage.approve(&ask, &person("bea", &[ONCALL])).await;
    let stage = stage.after_a_kill().await;
    assert_eq!(stage.get(&ask).await.state, State::Approved);
    let until = stage.get(&ask).await.grant_until;
    assert_eq!(until, ask.grant_until);

    let grant = stage.take(&new).await.unwrap();
    assert_eq!(grant.approvers, ["corp/ann", "corp/bea"]);
    let stage = stage.after_a_kill().await;
    assert_eq!(stage.take(&new).await, None, "used is used");
    assert_eq!(stage.get(&ask).await.state, State::Used);

    let denied = stage.ask(&deletion(2)).await;
    stage.deny(&denied, &person("ann", &[ONCALL])).await;
    let stage = stage.after_a_kill().await;
    assert_eq!(stage.get(&denied).await.denial().unwrap().reason.as_deref(), Some("not today"));

    let window = stage.ask(&deletion(3)).await;
    let answer = Answer::ApproveWindow { until: stage.hand.now() + Duration::from_hours(1) };
    stage.approvals.answer(window.id, &person("ann", &[ONCALL]), answer).await.unwrap();
    let stage = stage.after_a_kill().await;
    assert!(stage.take(&deletion(3)).await.unwrap().window);
    stage.approvals.person_seen(&person("ann", &[])).await.unwrap();
    let stage = stage.after_a_kill().await;
    assert_eq!(stage.take(&deletion(3)).await, None, "the lost membership is kept");
}

#[tokio::test]
async fn a_clock_set_back_lengthens_no_grant() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    stage.hand.forward(540);
    stage.get(&ask).await;
    stage.hand.forward(-3_000);
    assert_eq!(stage.get(&ask).await.state, State::Approved);
    stage.hand.forward(60);
    assert_eq!(stage.take(&new).await, None, "ten minutes have passed in all");
}

#[tokio::test]
async fn a_clock_set_back_over_a_restart_lengthens_no_grant() {
    let stage = Stage::new().await;
    let new = deletion(1);
    let ask = stage.ask(&new).await;
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    stage.hand.forward(540);
    // any write notes the time
    stage.approvals.person_seen(&person("bea", &[])).await.unwrap();
    stage.hand.forward(-3_000);
    let stage = stage.after_a_kill().await;
    assert_eq!(stage.get(&ask).await.state, State::Approved);
    stage.hand.forward(60);
    assert_eq!(stage.take(&new).await, None);
}

#[tokio::test]
async fn a_clock_that_was_ahead_is_believed_again_once_nothing_is_open() {
    let stage = Stage::new().await;
    let ask = stage.ask(&deletion(1)).await;
    stage.deny(&ask, &person("ann", &[ONCALL])).await;
    stage.hand.forward(1_000_000);
    stage.approvals.person_seen(&person("ann", &[])).await.unwrap();
    stage.hand.forward(-1_000_000);
    let stage = stage.after_a_kill().await;
    assert_eq!(stage.ask(&deletion(2)).await.created, stage.hand.now());
}

#[tokio::test]
async fn a_file_that_is_damaged_or_open_to_others_is_refused() {
    if testing::is_postgres() {
        return;
    }
    let stage = Stage::new().await;
    let path = file(stage.directory.path());
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
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    }
    let link = stage.directory.path().join("link.db");
    std::os::unix::fs::symlink(stage.directory.path().join("elsewhere"), &link).unwrap();
    assert!(matches!(Store::open(&link).await, Err(StoreError::File { .. })));
}

/// Changes the state behind the back of an open gateway.
pub async fn tamper(stage: &Stage, sql: &'static str) {
    testing::tamper(&file(stage.directory.path()), sql).await;
}

#[tokio::test]
async fn a_row_that_does_not_hold_together_lets_nothing_pass() {
    for sql in [
        testing::either(
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
        let stage = Stage::new().await;
        let new = deletion(1);
        let ask = stage.ask(&new).await;
        stage.approve(&ask, &person("ann", &[ONCALL])).await;
        tamper(&stage, sql).await;
        for other in [
            new.clone(),
            NewAsk { digest: [2; 32], ..new.clone() },
            NewAsk { caller: caller("other"), ..new.clone() },
            NewAsk { connection: "staging".to_owned(), ..new.clone() },
        ] {
            let taken = stage
                .approvals
                .take(&other.caller, &other.connection, &other.operation, &other.digest, &other.requirements)
                .await;
            assert!(matches!(taken, Ok(None) | Err(StoreError::Damaged(_))), "{sql}: {taken:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_grants_nothing() {
    let stage = Stage::new().await;
    let (approved, open) = (deletion(1), deletion(2));
    let ask = stage.ask(&approved).await;
    stage.approve(&ask, &person("ann", &[ONCALL])).await;
    let waiting = stage.ask(&open).await;
    // every write from now on fails, as with a full disk
    tamper(
        &stage,
        testing::either(
            "CREATE TRIGGER no_insert BEFORE INSERT ON ask BEGIN SELECT RAISE(ABORT, 'disk full'); END;
             CREATE TRIGGER no_update BEFORE UPDATE ON ask BEGIN SELECT RAISE(ABORT, 'disk full'); END;",
            "ALTER TABLE ask ADD CONSTRAINT no_write CHECK (false) NOT VALID",
        ),
    )
    .await;
    let taken = stage
        .approvals
        .take(
            &approved.caller,
            &approved.connection,
            &approved.operation,
            &approved.digest,
            &approved.requirements,
        )
        .await;
    assert!(matches!(taken, Err(StoreError::Database(_))), "{taken:?}");
    let mut changes = stage.approvals.changes();
    let answered = stage.approvals.answer(waiting.id, &person("ann", &[ONCALL]), Answer::ApproveOnce).await;
    assert!(matches!(answered, Err(AnswerError::Store(_))), "{answered:?}");
    assert_eq!(stage.get(&waiting).await.state, State::Pending);
    assert!(changes.try_recv().is_err(), "nothing is announced that is not on disk");
    assert!(matches!(stage.approvals.ask(deletion(3)).await, Err(AskError::Store(_))));

    let mended = testing::either(
        "DROP TRIGGER no_insert; DROP TRIGGER no_update;",
        "ALTER TABLE ask DROP CONSTRAINT no_write",
    );
    tamper(&stage, mended).await;
    assert!(stage.take(&approved).await.is_some(), "and what was approved is still there");
}
