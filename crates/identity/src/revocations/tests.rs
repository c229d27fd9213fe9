use super::*;
use durward_core::CallerKind;
use std::path::Path;

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-21 12:00:00.5 UTC);

fn caller(subject: &str) -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: subject.to_owned(),
        kind: CallerKind::Workload,
        groups: Vec::new(),
        act: Vec::new(),
    }
}

async fn at(dir: &Path) -> Revocations {
    let store = durward_store::testing::open(&dir.join("state.db")).await.unwrap();
    Revocations::open(store).await.unwrap()
}

fn everything(caller: &str) -> Revoked {
    Revoked::Caller(caller.to_owned())
}

/// Looks until it is so; the test fails if it never is.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..500 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn a_revoked_session_is_refused_at_once_and_after_a_restart_and_no_other_is() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = at(dir.path()).await;
    let (one, other) = (SessionId::new(), SessionId::new());
    let agent = caller("agent");
    assert_eq!(revocations.check(one, &agent, NOW), Ok(()));
    revocations.revoke(&Revoked::Session(one), "corp/ann", " lost laptop ", NOW).await.unwrap();
    for revocations in [revocations, at(dir.path()).await] {
        let refusal = revocations.check(one, &agent, NOW).unwrap_err();
        assert_eq!(refusal.reason, Reason::InvalidToken);
        assert!(refusal.message.contains("revoked"));
        // The caller may not know who did it; the record must.
        assert!(!refusal.message.contains("ann") && !refusal.message.contains("laptop"), "{refusal}");
        assert_eq!(refusal.detail, "revoked by corp/ann at 2026-11-21T12:00:00Z: lost laptop");
        assert_eq!(revocations.check(other, &agent, NOW), Ok(()));
    }
}

#[tokio::test]
async fn a_caller_is_revoked_with_all_that_began_before_and_may_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = at(dir.path()).await;
    let (agent, other) = (caller("agent"), caller("agent-2"));
    let before = NOW - Duration::from_millis(1);
    let after = NOW + Duration::from_millis(1);
    revocations.revoke(&everything("corp/agent"), "corp/ann", "x", NOW).await.unwrap();
    for began in [before, NOW, OffsetDateTime::UNIX_EPOCH] {
        assert!(revocations.check(SessionId::new(), &agent, began).is_err(), "{began}");
        assert!(revocations.check_person("corp/agent", began).is_err(), "{began}");
        assert_eq!(revocations.check(SessionId::new(), &other, began), Ok(()));
    }
    assert_eq!(revocations.check(SessionId::new(), &agent, after), Ok(()));
    // A second revocation counts too, and an older session is still that of the first.
    let later = NOW + Duration::from_secs(9);
    revocations.revoke(&everything("corp/agent"), "corp/bob", "y", later).await.unwrap();
    assert!(revocations.check(SessionId::new(), &agent, after).is_err());
    assert_eq!(revocations.of(SessionId::new(), "corp/agent", before).unwrap().by, "corp/ann");
    assert_eq!(revocations.of(SessionId::new(), "corp/agent", after).unwrap().by, "corp/bob");
}

#[tokio::test]
async fn what_another_process_revokes_is_known_within_a_second_and_ends_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (at(dir.path()).await, at(dir.path()).await);
    let (session, agent) = (SessionId::new(), caller("agent"));
    let waiting = {
        let there = there.clone();
        let agent = agent.clone();
        tokio::spawn(async move { there.revoked(session, &agent, NOW).await })
    };
    assert_eq!(there.check(session, &agent, NOW), Ok(()));
    here.revoke(&Revoked::Session(SessionId::new()), "corp/ann", "another", NOW).await.unwrap();
    here.revoke(&Revoked::Session(session), "corp/ann", "x", NOW).await.unwrap();
    let refusal =
        tokio::time::timeout(Duration::from_secs(1), waiting).await.expect("within a second").unwrap();
    assert_eq!(refusal.reason, Reason::InvalidToken);
    assert!(there.check(session, &agent, NOW).is_err());
}

#[tokio::test]
async fn what_goes_on_ends_when_nobody_knows_whether_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let store = durward_store::testing::open(&dir.path().join("state.db")).await.unwrap();
    let patience = Duration::from_millis(10);
    let silent = Revocations::open_at(store, Duration::from_hours(1), patience).await.unwrap();
    let agent = caller("agent");
    let ended = silent.revoked_or_unknown(SessionId::new(), &agent, NOW);
    let refusal = tokio::time::timeout(Duration::from_secs(5), ended).await.expect("soon");
    assert_eq!(refusal.reason, Reason::Internal);
}

#[tokio::test]
async fn a_sign_in_learns_of_what_another_process_has_just_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let here = at(dir.path()).await;
    let store = durward_store::testing::open(&dir.path().join("state.db")).await.unwrap();
    let hour = Duration::from_hours(1);
    let there = Revocations::open_at(store.clone(), hour, 2 * hour).await.unwrap();
    let after = NOW + Duration::from_millis(1);
    here.revoke(&everything("corp/ann"), "corp/bob", "x", NOW).await.unwrap();
    assert_eq!(there.check_person("corp/ann", NOW), Ok(()), "it looks once an hour");
    assert!(there.is_person_revoked("corp/ann", NOW).await.unwrap());
    assert!(!there.is_person_revoked("corp/ann", after).await.unwrap());
    assert!(!there.is_person_revoked("corp/bob", NOW).await.unwrap());
    store.close().await;
    assert!(there.is_person_revoked("corp/bob", NOW).await.is_err());
}

#[tokio::test]
async fn nobody_passes_while_the_store_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = durward_store::testing::open(&dir.path().join("state.db")).await.unwrap();
    let pace = Duration::from_millis(5);
    let revocations = Revocations::open_at(store.clone(), pace, 40 * pace).await.unwrap();
    let (session, agent) = (SessionId::new(), caller("agent"));
    assert_eq!(revocations.check(session, &agent, NOW), Ok(()));
    store.close().await;
    until("refused", || revocations.check(session, &agent, NOW).is_err()).await;
    let refusal = revocations.check(session, &agent, NOW).unwrap_err();
    assert_eq!(refusal.reason, Reason::Internal);
    assert!(revocations.check_person("corp/ann", NOW).is_err());
    assert!(matches!(
        revocations.revoke(&Revoked::Session(session), "corp/ann", "x", NOW).await,
        Err(RevokeError::Store(_))
    ));
}

#[tokio::test]
async fn a_session_that_was_revoked_stays_so_by_whom_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = at(dir.path()).await;
    let session = SessionId::new();
    for by in ["corp/ann", "corp/bob"] {
        revocations.revoke(&Revoked::Session(session), by, "x", NOW).await.unwrap();
    }
    assert_eq!(revocations.of(session, "corp/agent", NOW).unwrap().by, "corp/ann");
}

#[tokio::test]
async fn refuses_a_revocation_without_a_reason_or_a_caller() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = at(dir.path()).await;
    let session = Revoked::Session(SessionId::new());
    let long = "x".repeat(REASON + 1);
    for (what, reason) in [
        (&session, ""),
        (&session, "  "),
        (&session, long.as_str()),
        (&everything(""), "x"),
        (&everything("agent"), "x"),
        (&everything("/agent"), "x"),
        (&everything("corp/"), "x"),
        (&everything(&format!("corp/{}", "x".repeat(CALLER))), "x"),
    ] {
        assert!(revocations.revoke(what, "corp/ann", reason, NOW).await.is_err(), "{what:?} {reason}");
    }
    assert!(revocations.unjournaled().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_the_journal_lacks_is_told_until_it_is_noted() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = at(dir.path()).await;
    let session = Revoked::Session(SessionId::new());
    revocations.revoke(&session, "corp/ann", "x", NOW).await.unwrap();
    revocations.revoke(&everything("corp/a"), "corp/ann", "y", NOW).await.unwrap();
    let revocations = at(dir.path()).await;
    let waiting = revocations.unjournaled().await.unwrap();
    assert_eq!(
        waiting.iter().map(|(_number, one)| &one.what).collect::<Vec<_>>(),
        [&session, &everything("corp/a")]
    );
    assert_eq!(waiting[0].1.at, NOW);
    revocations.journaled(waiting[0].0).await.unwrap();
    assert_eq!(revocations.unjournaled().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_past_its_time_is_forgotten_and_what_has_none_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let revocations = at(dir.path()).await;
    let long_ago = OffsetDateTime::now_utc() - KEPT - Duration::from_mins(1);
    let of_token: SessionId = "0190aaaabbbb8cccaddddddddddddddd".parse().unwrap();
    let (old, new) = (SessionId::new(), SessionId::new());
    for (what, at) in [
        (Revoked::Session(old), long_ago),
        (Revoked::Session(new), OffsetDateTime::now_utc()),
        (Revoked::Session(of_token), long_ago),
        (everything("corp/agent"), long_ago),
    ] {
        revocations.revoke(&what, "corp/ann", "x", at).await.unwrap();
    }
    let is_known = |revocations: &Revocations, id| revocations.of(id, "corp/other", NOW).is_some();
    assert!(is_known(&revocations, old));
    for (number, _one) in revocations.unjournaled().await.unwrap() {
        revocations.journaled(number).await.unwrap();
    }
    revocations.0.forget().await.unwrap();
    revocations.0.read(true).await.unwrap();
    assert!(!is_known(&revocations, old));
    assert!(is_known(&revocations, new) && is_known(&revocations, of_token));
    assert!(revocations.of(old, "corp/agent", long_ago).is_some(), "the caller's revocation has no end");
    revocations.revoke(&Revoked::Session(old), "corp/ann", "x", long_ago).await.unwrap();
    assert!(is_known(&revocations, old), "what comes after a forgetting is read");
}

#[test]
fn a_session_that_the_gateway_named_holds_its_time() {
    let now = OffsetDateTime::now_utc();
    let began_at = began(SessionId::new()).unwrap();
    assert!((began_at - now).abs() < time::Duration::seconds(2), "{began_at} {now}");
    assert_eq!(began("0190aaaabbbb8cccaddddddddddddddd".parse().unwrap()), None);
}
