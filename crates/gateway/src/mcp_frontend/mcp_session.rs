//! Sessions: the id a client gets is sealed by the gateway and holds who opened the session, at which server, and the id
//! the server knows it by. Nothing is looked up: any replica can open it, and only for the caller it was made for.
//!
//! Where a server has no sessions (2026-07-28, or a server that gives no id), the caller's token at that server is the
//! session: its id is derived from both.

use super::McpServer;
use aws_lc_rs::digest::{Context, SHA256};
use durward_core::{Caller, SessionId};
use durward_identity::{GatewayCredentialClaims, SealKeys, VerifiedToken};
use http::HeaderValue;
use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use time::{Duration, OffsetDateTime};

/// A session ends a day after it was opened; the client then opens another.
pub(super) const SESSION_LIFETIME: Duration = Duration::days(1);
/// Longest session id of a server, in bytes.
const MAX_UPSTREAM_ID_BYTES: usize = 1_024;
/// Derived sessions that are remembered as recorded.
const MAX_RECORDED_SESSIONS: usize = 10_000;

/// What an id that a client presents stands for.
pub(super) struct McpSession {
    pub id: SessionId,
    /// What the server calls it.
    pub upstream_id: HeaderValue,
    /// The client that opened it can send its person to a URL.
    pub supports_url_elicitation: bool,
}

/// The id for the client of a session; `None` if what `server` calls it is not an id.
pub(super) fn seal_session_id(
    keys: &SealKeys,
    caller: &Caller,
    server: &McpServer,
    McpSession { id: session, upstream_id: upstream, supports_url_elicitation: opens_urls }: &McpSession,
    now: OffsetDateTime,
) -> Option<HeaderValue> {
    let upstream = upstream.to_str().ok().filter(|id| {
        !id.is_empty() && id.len() <= MAX_UPSTREAM_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
    })?;
    let claims = GatewayCredentialClaims {
        session: *session,
        caller: Caller { groups: Vec::new(), ..caller.clone() },
        connection: format!("{}{upstream}", session_prefix(server, *opens_urls)),
        issued_at: now,
        expires_at: now + SESSION_LIFETIME,
    };
    let sealed = keys.issue(&claims).ok()?;
    HeaderValue::from_str(&format!("{}.{}", sealed.access_key_id, sealed.session_token.expose())).ok()
}

/// Opens an id for the caller and the server it was made for.
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
    let session = |opens_urls| {
        let upstream = claims.connection.strip_prefix(&session_prefix(server, opens_urls))?;
        Some(McpSession {
            id: claims.session,
            upstream_id: HeaderValue::from_str(upstream).ok()?,
            supports_url_elicitation: opens_urls,
        })
    };
    session(false).or_else(|| session(true))
}

/// Whether `owner`, whom something was sealed for, is the caller, whatever their groups are now.
pub(super) fn is_same_caller(owner: &Caller, caller: &Caller) -> bool {
    owner.provider == caller.provider
        && owner.issuer == caller.issuer
        && owner.subject == caller.subject
        && owner.act == caller.act
}

/// No connection's name has a slash in it: a session id never opens as a credential of the AWS door, nor the other way.
fn session_prefix(server: &McpServer, opens_urls: bool) -> String {
    format!("mcp{}/{}/", if opens_urls { "+url" } else { "" }, server.name)
}

/// The session of a caller's token at a server: the same for every request with it, on every replica.
pub(super) fn derive_session_id(verified: &VerifiedToken, server: &str) -> Option<SessionId> {
    let caller = &verified.caller;
    let mut hash = Context::new(&SHA256);
    let mut part = |text: &str| {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    for text in ["durward mcp session", server, &caller.issuer, &caller.subject, &verified.token_id] {
        part(text);
    }
    let mut bytes: [u8; 16] = hash.finish().as_ref().first_chunk().copied()?;
    // Version 8 of RFC 9562: a UUID of one's own making.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    durward_core::encode_hex(&bytes).parse().ok()
}

/// Derived sessions whose beginning is in the journal. What falls out is recorded once more, which changes nothing.
#[derive(Default)]
pub(super) struct RecordedSessions(Mutex<(HashSet<SessionId>, VecDeque<SessionId>)>);

impl RecordedSessions {
    pub fn contains(&self, session: SessionId) -> bool {
        durward_core::lock_ignoring_poison(&self.0).0.contains(&session)
    }

    pub fn insert(&self, session: SessionId) {
        let (known, order) = &mut *durward_core::lock_ignoring_poison(&self.0);
        if known.insert(session) {
            order.push_back(session);
        }
        if order.len() > MAX_RECORDED_SESSIONS
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
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
    fn a_token_at_a_server_is_one_session() {
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
    fn only_so_many_sessions_are_remembered() {
        let opened = RecordedSessions::default();
        let first = SessionId::new();
        opened.insert(first);
        opened.insert(first);
        for _ in 1..MAX_RECORDED_SESSIONS {
            opened.insert(SessionId::new());
        }
        assert!(opened.contains(first));
        opened.insert(SessionId::new());
        assert!(!opened.contains(first));
        assert_eq!(opened.0.lock().unwrap().0.len(), MAX_RECORDED_SESSIONS);
    }
}
