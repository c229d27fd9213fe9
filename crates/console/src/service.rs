//! The actions that both surfaces offer: find approval requests, read sessions from the journal, revoke. Nothing here knows HTML
//! or JSON.

use crate::{
    session_list::{SessionListQuery, SessionState},
    state::ConsoleState,
    users,
};
use durward_approval::{ApprovalRequest, ApprovalRequestId, Approver, VoteError};
use durward_core::SessionId;
use durward_identity::{Revocation, RevocationTarget, RevokeError};
use durward_journal::{
    history::{self, RevocationScope, SessionDetail, SessionHistory, SessionList, SessionRevocation},
    read_journal,
};
use durward_store::StoreError;
use http::StatusCode;
use std::{path::Path, sync::Arc};
use time::OffsetDateTime;
use tokio::{sync::AcquireError, task::JoinError};

/// Most sessions in a list.
const MAX_LISTED_SESSIONS: usize = 500;
/// Most exchanges shown of one session.
const MAX_LISTED_EXCHANGES: usize = 1_000;

/// The approval request with this id. A text that is no id finds nothing.
pub async fn find_approval_request(
    state: &ConsoleState,
    id: &str,
) -> Result<Option<ApprovalRequest>, StoreError> {
    match id.parse::<ApprovalRequestId>() {
        Ok(id) => state.approvals.get(id).await,
        Err(_malformed) => Ok(None),
    }
}

/// The HTTP status with which both surfaces report that a vote was not accepted.
pub fn vote_error_status(error: &VoteError) -> StatusCode {
    match error {
        VoteError::NotFound => StatusCode::NOT_FOUND,
        VoteError::NotPending(_) | VoteError::AlreadyApproved => StatusCode::CONFLICT,
        VoteError::NotAnApprover(_) | VoteError::OwnRequest(_) => StatusCode::FORBIDDEN,
        VoteError::ReasonMissing | VoteError::TooLong { .. } | VoteError::InvalidTimeBound(_) => {
            StatusCode::BAD_REQUEST
        }
        VoteError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Why the journal could not be scanned. A corrupt journal is no error: the scan reports how far it could read.
#[derive(Debug, thiserror::Error)]
pub enum JournalScanError {
    #[error("the journal cannot be read while the console shuts down")]
    Closed(#[from] AcquireError),
    #[error("the scan of the journal failed: {0}")]
    Failed(#[from] JoinError),
}

/// Scans the journal on a thread of its own. One scan at a time: each reads the whole journal from disk.
async fn scan_journal<T: Send + 'static>(
    state: &ConsoleState,
    scan: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, JournalScanError> {
    let permit = state.journal_read_limit.clone().acquire_owned().await?;
    let dir = state.settings.journal_dir.clone();
    let task = tokio::task::spawn_blocking(move || {
        let result = scan(&dir);
        // Held by the thread, not by the future: a client that disconnects must not let a second scan start beside this one.
        drop(permit);
        result
    });
    Ok(task.await?)
}

/// The newest sessions, newest first, each with its revocation.
pub async fn list_sessions(
    state: &ConsoleState,
    query: SessionListQuery,
) -> Result<SessionList, JournalScanError> {
    let (filter, wanted) = query.into_filter();
    let scanned = scan_journal(state, move |dir| {
        history::list_sessions(read_journal(dir), &filter, MAX_LISTED_SESSIONS)
    });
    let mut list = scanned.await?;
    list.sessions.reverse();
    for session in &mut list.sessions {
        add_current_revocation(state, session);
    }
    let now = OffsetDateTime::now_utc();
    list.sessions.retain(|session| wanted.is_none_or(|wanted| wanted == SessionState::at(session, now)));
    Ok(list)
}

/// One session with its newest exchanges and its revocation.
pub async fn read_session(state: &ConsoleState, id: SessionId) -> Result<SessionDetail, JournalScanError> {
    let mut detail =
        scan_journal(state, move |dir| history::read_session(read_journal(dir), id, MAX_LISTED_EXCHANGES))
            .await?;
    if let Some(session) = &mut detail.session {
        add_current_revocation(state, session);
    }
    Ok(detail)
}

/// Counts the sessions of this caller in the journal.
pub async fn count_sessions_of_caller(
    state: &ConsoleState,
    caller_id: String,
) -> Result<u64, JournalScanError> {
    scan_journal(state, move |dir| history::count_sessions_of_caller(read_journal(dir), &caller_id)).await
}

/// Puts the revocation that is in force into the history. Another replica may have recorded it, in its own journal.
fn add_current_revocation(state: &ConsoleState, session: &mut SessionHistory) {
    let caller = session.caller.as_ref().map(durward_core::Caller::id).unwrap_or_default();
    let started_at = session.started_at().unwrap_or(OffsetDateTime::UNIX_EPOCH);
    if let Some(current) = find_revocation(state, session.id, &caller, started_at) {
        session.revocation = Some(current);
    }
}

/// The revocation that is in force for a session of this caller, if there is one.
pub fn find_revocation(
    state: &ConsoleState,
    session: SessionId,
    caller_id: &str,
    started_at: OffsetDateTime,
) -> Option<SessionRevocation> {
    let revocation: Arc<Revocation> = state.revocations.find_revocation(session, caller_id, started_at)?;
    Some(SessionRevocation {
        scope: match revocation.target {
            RevocationTarget::Session(_) => RevocationScope::Session,
            RevocationTarget::Caller(_) => RevocationScope::Caller,
        },
        by: revocation.revoked_by.clone(),
        at: revocation.revoked_at,
        reason: revocation.reason.clone(),
    })
}

/// Why nothing was revoked. The texts are for the person who tried.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    #[error("you are in no group that may revoke sessions ([console] revoke_groups)")]
    NotARevoker,
    #[error(transparent)]
    Revoke(#[from] RevokeError),
}

/// Revokes as this person, if they may. The revocation is in force when this returns.
pub async fn revoke(
    state: &ConsoleState,
    person: &Approver,
    target: &RevocationTarget,
    reason: &str,
) -> Result<(), RevocationError> {
    // Checked here and not in the surfaces, so that neither of them can forget it.
    if !users::may_revoke_sessions(state, person) {
        return Err(RevocationError::NotARevoker);
    }
    state.revocations.revoke(target, &person.id, reason, (state.clock)()).await?;
    tracing::warn!(person = person.id, ?target, "revoked");
    Ok(())
}
