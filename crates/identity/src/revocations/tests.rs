use super::*;
use durward_core::CallerKind;
use std::path::Path;

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-21 12:00:00.5 UTC);

fn test_caller(subject: &str) -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: subject.to_owned(),
        kind: CallerKind::Workload,
        groups: Vec::new(),
        act: Vec::new(),
    }
}

async fn open_revocations(dir: &Path) -> Revocations {
    let store = durward_store::testing::open_test_store(&dir.join("state.db")).await.unwrap();
    Revocations::open(store).await.unwrap()
}

fn caller_target(caller: &str) -> RevocationTarget {
    RevocationTarget::Caller(caller.to_owned())
}

/// Polls until the condition holds, for at most thirty seconds.
async fn wait_until(description: &str, holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {description}");
}

#[tokio::test]
async fn a_revoked_session_is_refused_at_once_and_after_a_restart_and_no_other_is() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = open_revocations(dir.path()).await;
    let (one, other) = (SessionId::new(), SessionId::new());
    let agent = test_caller("agent");
    assert_eq!(revocations.check_session(one, &agent, NOW), Ok(()));
    revocations.revoke(&RevocationTarget::Session(one), "corp/ann", " lost laptop ", NOW).await.unwrap();
    for revocations in [revocations, open_revocations(dir.path()).await] {
        let refusal = revocations.check_session(one, &agent, NOW).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::InvalidToken);
        assert!(refusal.message.contains("revoked"));
        // The caller may not know who revoked it; the log must.
        assert!(!refusal.message.contains("ann") && !refusal.message.contains("laptop"), "{refusal}");
        assert_eq!(refusal.detail, "revoked by corp/ann at 2026-11-21T12:00:00Z: lost laptop");
        assert_eq!(revocations.check_session(other, &agent, NOW), Ok(()));
    }
}

#[tokio::test]
async fn revoking_a_caller_ends_earlier_sessions_and_permits_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = open_revocations(dir.path()).await;
    let (agent, other) = (test_caller("agent"), test_caller("agent-2"));
    let before = NOW - Duration::from_millis(1);
    let after = NOW + Duration::from_millis(1);
    revocations.revoke(&caller_target("corp/agent"), "corp/ann", "x", NOW).await.unwrap();
    for began in [before, NOW, OffsetDateTime::UNIX_EPOCH] {
        assert!(revocations.check_session(SessionId::new(), &agent, began).is_err(), "{began}");
        assert!(revocations.check_user("corp/agent", began).is_err(), "{began}");
        assert_eq!(revocations.check_session(SessionId::new(), &other, began), Ok(()));
    }
    assert_eq!(revocations.check_session(SessionId::new(), &agent, after), Ok(()));
    // A second revocation applies too, and an older session is still revoked by the first.
    let later = NOW + Duration::from_secs(9);
    revocations.revoke(&caller_target("corp/agent"), "corp/bob", "y", later).await.unwrap();
    assert!(revocations.check_session(SessionId::new(), &agent, after).is_err());
    assert_eq!(
        revocations.find_revocation(SessionId::new(), "corp/agent", before).unwrap().revoked_by,
        "corp/ann"
    );
    assert_eq!(
        revocations.find_revocation(SessionId::new(), "corp/agent", after).unwrap().revoked_by,
        "corp/bob"
    );
}

#[tokio::test]
async fn a_revocation_of_another_process_is_seen_at_the_next_poll_and_wakes_waiters() {
    let dir = tempfile::tempdir().unwrap();
    let here = open_revocations(dir.path()).await;
    let store = durward_store::testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
    let poll_interval = Duration::from_millis(5);
    let there = Revocations::open_with_intervals(store, poll_interval, Duration::from_mins(1)).await.unwrap();
    let (session, agent) = (SessionId::new(), test_caller("agent"));
    let waiting = {
        let there = there.clone();
        let agent = agent.clone();
        tokio::spawn(async move { there.wait_until_revoked(session, &agent, NOW).await })
    };
    assert_eq!(there.check_session(session, &agent, NOW), Ok(()));
    here.revoke(&RevocationTarget::Session(SessionId::new()), "corp/ann", "another", NOW).await.unwrap();
    here.revoke(&RevocationTarget::Session(session), "corp/ann", "x", NOW).await.unwrap();
    let refusal = tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("revoked").unwrap();
    assert_eq!(refusal.reason, RefusalReason::InvalidToken);
    assert!(there.check_session(session, &agent, NOW).is_err());
}

#[tokio::test]
async fn a_long_running_request_ends_when_the_store_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let store = durward_store::testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
    let max_staleness = Duration::from_millis(10);
    let unpolled =
        Revocations::open_with_intervals(store, Duration::from_hours(1), max_staleness).await.unwrap();
    let agent = test_caller("agent");
    let ended = unpolled.wait_until_revoked_or_stale(SessionId::new(), &agent, NOW);
    let refusal = tokio::time::timeout(Duration::from_secs(30), ended).await.expect("stale");
    assert_eq!(refusal.reason, RefusalReason::Internal);
}

#[tokio::test]
async fn is_user_revoked_sees_what_another_process_has_just_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let here = open_revocations(dir.path()).await;
    let store = durward_store::testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
    let hour = Duration::from_hours(1);
    let there = Revocations::open_with_intervals(store.clone(), hour, 2 * hour).await.unwrap();
    let after = NOW + Duration::from_millis(1);
    here.revoke(&caller_target("corp/ann"), "corp/bob", "x", NOW).await.unwrap();
    assert_eq!(there.check_user("corp/ann", NOW), Ok(()), "it polls once an hour");
    assert!(there.is_user_revoked("corp/ann", NOW).await.unwrap());
    assert!(!there.is_user_revoked("corp/ann", after).await.unwrap());
    assert!(!there.is_user_revoked("corp/bob", NOW).await.unwrap());
    store.close().await;
    assert!(there.is_user_revoked("corp/bob", NOW).await.is_err());
}

#[tokio::test]
async fn refuses_every_caller_while_the_store_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = durward_store::testing::open_test_store(&dir.path().join("state.db")).await.unwrap();
    let (poll_interval, max_staleness) = (Duration::from_millis(5), Duration::from_secs(3));
    let revocations =
        Revocations::open_with_intervals(store.clone(), poll_interval, max_staleness).await.unwrap();
    let (session, agent) = (SessionId::new(), test_caller("agent"));
    assert_eq!(revocations.check_session(session, &agent, NOW), Ok(()));
    store.close().await;
    wait_until("refused", || revocations.check_session(session, &agent, NOW).is_err()).await;
    let refusal = revocations.check_session(session, &agent, NOW).unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Internal);
    assert!(revocations.check_user("corp/ann", NOW).is_err());
    assert!(matches!(
        revocations.revoke(&RevocationTarget::Session(session), "corp/ann", "x", NOW).await,
        Err(RevokeError::Store(_))
    ));
}

#[tokio::test]
async fn the_first_revocation_of_a_session_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = open_revocations(dir.path()).await;
    let session = SessionId::new();
    for by in ["corp/ann", "corp/bob"] {
        revocations.revoke(&RevocationTarget::Session(session), by, "x", NOW).await.unwrap();
    }
    assert_eq!(revocations.find_revocation(session, "corp/agent", NOW).unwrap().revoked_by, "corp/ann");
}

#[tokio::test]
async fn refuses_a_revocation_without_a_reason_or_a_caller() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = open_revocations(dir.path()).await;
    let session = RevocationTarget::Session(SessionId::new());
    let long = "x".repeat(MAX_REASON_CHARS + 1);
    type Matches = fn(&RevokeError) -> bool;
    let is_missing: Matches = |error| matches!(error, RevokeError::ReasonMissing);
    let is_too_long: Matches = |error| matches!(error, RevokeError::TooLong { .. });
    let is_malformed: Matches = |error| matches!(error, RevokeError::MalformedCaller);
    let long_caller = caller_target(&format!("corp/{}", "x".repeat(MAX_CALLER_ID_CHARS)));
    for (target, reason, is_expected, refusal_reason) in [
        (&session, "", is_missing, RefusalReason::Malformed),
        (&session, "  ", is_missing, RefusalReason::Malformed),
        (&session, long.as_str(), is_too_long, RefusalReason::TooLarge),
        (&caller_target(""), "x", is_malformed, RefusalReason::Malformed),
        (&caller_target("agent"), "x", is_malformed, RefusalReason::Malformed),
        (&caller_target("/agent"), "x", is_malformed, RefusalReason::Malformed),
        (&caller_target("corp/"), "x", is_malformed, RefusalReason::Malformed),
        (&long_caller, "x", is_too_long, RefusalReason::TooLarge),
    ] {
        let error = revocations.revoke(target, "corp/ann", reason, NOW).await.unwrap_err();
        assert!(is_expected(&error), "{target:?} {reason}: {error}");
        assert_eq!(error.refusal().reason, refusal_reason);
    }
    assert!(revocations.unjournaled_revocations().await.unwrap().is_empty());
}

#[tokio::test]
async fn unjournaled_revocations_are_listed_until_marked_journaled() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = open_revocations(dir.path()).await;
    let session = RevocationTarget::Session(SessionId::new());
    revocations.revoke(&session, "corp/ann", "x", NOW).await.unwrap();
    revocations.revoke(&caller_target("corp/a"), "corp/ann", "y", NOW).await.unwrap();
    let revocations = open_revocations(dir.path()).await;
    let waiting = revocations.unjournaled_revocations().await.unwrap();
    assert_eq!(
        waiting.iter().map(|(_number, one)| &one.target).collect::<Vec<_>>(),
        [&session, &caller_target("corp/a")]
    );
    assert_eq!(waiting[0].1.revoked_at, NOW);
    revocations.mark_journaled(waiting[0].0).await.unwrap();
    assert_eq!(revocations.unjournaled_revocations().await.unwrap().len(), 1);
}

#[tokio::test]
async fn expired_revocations_are_deleted_and_those_without_expiry_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = open_revocations(dir.path()).await;
    let long_ago = OffsetDateTime::now_utc() - REVOCATION_RETENTION - Duration::from_mins(1);
    let of_token: SessionId = "0190aaaabbbb8cccaddddddddddddddd".parse().unwrap();
    let (old, new) = (SessionId::new(), SessionId::new());
    for (what, at) in [
        (RevocationTarget::Session(old), long_ago),
        (RevocationTarget::Session(new), OffsetDateTime::now_utc()),
        (RevocationTarget::Session(of_token), long_ago),
        (caller_target("corp/agent"), long_ago),
    ] {
        revocations.revoke(&what, "corp/ann", "x", at).await.unwrap();
    }
    let is_known =
        |revocations: &Revocations, id| revocations.find_revocation(id, "corp/other", NOW).is_some();
    assert!(is_known(&revocations, old));
    for (number, _one) in revocations.unjournaled_revocations().await.unwrap() {
        revocations.mark_journaled(number).await.unwrap();
    }
    revocations.0.delete_expired().await.unwrap();
    revocations.0.reload_from_store(true).await.unwrap();
    assert!(!is_known(&revocations, old));
    assert!(is_known(&revocations, new) && is_known(&revocations, of_token));
    assert!(
        revocations.find_revocation(old, "corp/agent", long_ago).is_some(),
        "the revocation of a caller is kept"
    );
    revocations.revoke(&RevocationTarget::Session(old), "corp/ann", "x", long_ago).await.unwrap();
    assert!(is_known(&revocations, old), "a revocation after the deletion is read");
}

#[test]
fn a_session_id_made_by_the_gateway_holds_its_start_time() {
    let now = OffsetDateTime::now_utc();
    let began_at = session_start_time(SessionId::new()).unwrap();
    assert!((began_at - now).abs() < time::Duration::seconds(2), "{began_at} {now}");
    assert_eq!(session_start_time("0190aaaabbbb8cccaddddddddddddddd".parse().unwrap()), None);
}
