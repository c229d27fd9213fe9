//! MCP sessions. The id that a client gets is sealed by the gateway. It holds the caller who opened the session, the server, and
//! the server's own session id. Nothing is looked up: any replica can open it, and only for the caller it was issued to.
//!
//! If a server has no sessions (revision 2026-07-28, or a server that returns no id), the session is the caller's token at that
//! server: its id is derived from both.

use super::McpServer;
use aws_lc_rs::digest::{Context, SHA256};
use durward_core::{Caller, SessionId};
use durward_identity::{GatewayCredentialClaims, SealKeys, VerifiedToken};
use http::HeaderValue;
use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use time::{Duration, OffsetDateTime};

/// A session ends a day after it was opened. The client then opens another.
pub(super) const SESSION_LIFETIME: Duration = Duration::days(1);
/// Longest session id of a server, in bytes.
const MAX_UPSTREAM_ID_BYTES: usize = 1_024;
/// Derived sessions that are remembered as already recorded.
const MAX_RECORDED_SESSIONS: usize = 10_000;

/// The session behind an id that a client presents.
pub(super) struct McpSession {
    pub id: SessionId,
    /// The session id of the server.
    pub upstream_id: HeaderValue,
    /// True if the client that opened it can show its user a URL (the capability `elicitation.url`).
    pub supports_url_elicitation: bool,
}

/// The session id for the client; `None` if the server's session id is invalid (visible ASCII only: MCP specification,
/// "Session Management").
pub(super) fn seal_session_id(
    keys: &SealKeys,
    caller: &Caller,
    server: &McpServer,
    McpSession { id, upstream_id, supports_url_elicitation }: &McpSession,
    now: OffsetDateTime,
) -> Option<HeaderValue> {
    let upstream_id = upstream_id.to_str().ok().filter(|id| {
        !id.is_empty() && id.len() <= MAX_UPSTREAM_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
    })?;
    let claims = GatewayCredentialClaims {
        session: *id,
        // Groups do not identify a caller, and a user with hundreds of them would make the header too long.
        caller: Caller { groups: Vec::new(), ..caller.clone() },
        connection: format!("{}{upstream_id}", session_prefix(server, *supports_url_elicitation)),
        proved_at: now,
        expires_at: now + SESSION_LIFETIME,
    };
    let sealed = keys.issue(&claims).ok()?;
    HeaderValue::from_str(&format!("{}.{}", sealed.access_key_id, sealed.session_token.expose())).ok()
}

/// Opens a session id, for the caller and the server that it was issued for.
pub(super) fn open_session_id(
    keys: &SealKeys,
    caller: &Caller,
    server: &McpServer,
    presented: &HeaderValue,
    now: OffsetDateTime,
) -> Option<McpSession> {
    let (key, token) = presented.to_str().ok()?.split_once('.')?;
    let claims = keys.open(key, token, now).ok()?.claims;
    is_same_caller(&claims.caller, caller).then_some(())?;
    let session = |supports_url_elicitation| {
        let upstream_id =
            claims.connection.strip_prefix(&session_prefix(server, supports_url_elicitation))?;
        Some(McpSession {
            id: claims.session,
            upstream_id: HeaderValue::from_str(upstream_id).ok()?,
            supports_url_elicitation,
        })
    };
    session(false).or_else(|| session(true))
}

/// Returns true if `owner`, for whom a session or state was sealed, is the caller. Groups may have changed since; they are
/// decided on anew with each request.
pub(super) fn is_same_caller(owner: &Caller, caller: &Caller) -> bool {
    owner.provider == caller.provider
        && owner.issuer == caller.issuer
        && owner.subject == caller.subject
        && owner.act == caller.act
}

/// The name of a connection has no slash, so a session id never opens as a credential of the AWS front end, and no such
/// credential as a session id.
fn session_prefix(server: &McpServer, supports_url_elicitation: bool) -> String {
    format!("mcp{}/{}/", if supports_url_elicitation { "+url" } else { "" }, server.name)
}

/// The session of a token at a server: the same for every request with that token, on every replica.
pub(super) fn derive_session_id(verified: &VerifiedToken, server: &str) -> Option<SessionId> {
    let caller = &verified.caller;
    let mut hash = Context::new(&SHA256);
    // Each part is preceded by its length, so that no two lists of parts hash alike.
    let mut hash_part = |text: &str| {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    for text in ["durward mcp session", server, &caller.issuer, &caller.subject, &verified.token_id] {
        hash_part(text);
    }
    let mut bytes: [u8; 16] = hash.finish().as_ref().first_chunk().copied()?;
    // A UUID of version 8 (RFC 9562 section 5.8), with the variant bits of section 4.1.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    durward_core::encode_hex(&bytes).parse().ok()
}

/// Derived sessions whose start is in the journal. A forgotten one is recorded once more, which does no harm.
#[derive(Default)]
pub(super) struct RecordedSessions(Mutex<(HashSet<SessionId>, VecDeque<SessionId>)>);

impl RecordedSessions {
    pub fn contains(&self, session: SessionId) -> bool {
        durward_core::lock_ignoring_poison(&self.0).0.contains(&session)
    }

    pub fn insert(&self, session: SessionId) {
        let (recorded, order) = &mut *durward_core::lock_ignoring_poison(&self.0);
        if recorded.insert(session) {
            order.push_back(session);
        }
        if order.len() > MAX_RECORDED_SESSIONS
            && let Some(oldest) = order.pop_front()
        {
            recorded.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::CallerKind;

    fn verified_token(subject: &str, token_id: &str) -> VerifiedToken {
        let caller = Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: subject.to_owned(),
            kind: CallerKind::Workload,
            groups: Vec::new(),
            act: Vec::new(),
        };
        VerifiedToken::for_tests(caller, token_id)
    }

    #[test]
    fn a_token_at_a_server_has_one_session_id() {
        let one = derive_session_id(&verified_token("agent", "t1"), "files");
        assert!(one.is_some());
        assert_eq!(one, derive_session_id(&verified_token("agent", "t1"), "files"));
        for other in [
            derive_session_id(&verified_token("agent", "t2"), "files"),
            derive_session_id(&verified_token("other", "t1"), "files"),
            derive_session_id(&verified_token("agent", "t1"), "others"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn the_number_of_remembered_sessions_is_bounded() {
        let sessions = RecordedSessions::default();
        let first = SessionId::new();
        sessions.insert(first);
        sessions.insert(first);
        for _ in 1..MAX_RECORDED_SESSIONS {
            sessions.insert(SessionId::new());
        }
        assert!(sessions.contains(first));
        sessions.insert(SessionId::new());
        assert!(!sessions.contains(first));
        assert_eq!(sessions.0.lock().unwrap().0.len(), MAX_RECORDED_SESSIONS);
    }
}
