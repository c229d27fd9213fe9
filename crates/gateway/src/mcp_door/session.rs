//! Sessions: the id a client gets is sealed by the gateway and holds who opened the session, at which server, and the id
//! the server knows it by. Nothing is looked up: any replica can open it, and only for the caller it was made for.
//!
//! Where a server has no sessions (2026-07-28, or a server that gives no id), the caller's token at that server is the
//! session: its id is derived from both.

use super::Server;
use crate::rooms::Rooms;
use aws_lc_rs::digest::{Context, SHA256};
use durward_core::{Caller, SessionId};
use durward_identity::{Claims, Verified};
use http::HeaderValue;
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use time::{Duration, OffsetDateTime};

/// A session ends a day after it was opened; the client then opens another.
pub(super) const LIFETIME: Duration = Duration::days(1);
/// Longest session id of a server, in bytes.
const ID: usize = 1_024;
/// Derived sessions that are remembered as recorded.
const REMEMBERED: usize = 10_000;

/// What an id that a client presents stands for.
pub(super) struct Session {
    pub id: SessionId,
    /// What the server calls it.
    pub upstream: HeaderValue,
    /// The client that opened it can send its person to a URL.
    pub opens_urls: bool,
}

/// The id for the client of a session; `None` if what `server` calls it is not an id.
pub(super) fn seal(
    rooms: &Rooms,
    caller: &Caller,
    server: &Server,
    Session { id: session, upstream, opens_urls }: &Session,
    now: OffsetDateTime,
) -> Option<HeaderValue> {
    let upstream = upstream
        .to_str()
        .ok()
        .filter(|id| !id.is_empty() && id.len() <= ID && id.bytes().all(|byte| byte.is_ascii_graphic()))?;
    let claims = Claims {
        session: *session,
        caller: Caller { groups: Vec::new(), ..caller.clone() },
        connection: format!("{}{upstream}", prefix(server, *opens_urls)),
        issued: now,
        expires: now + LIFETIME,
    };
    let sealed = rooms.seal.issue(&claims).ok()?;
    HeaderValue::from_str(&format!("{}.{}", sealed.access_key_id, sealed.session_token.expose())).ok()
}

/// Opens an id for the caller and the server it was made for.
pub(super) fn open(
    rooms: &Rooms,
    caller: &Caller,
    server: &Server,
    presented: &HeaderValue,
    now: OffsetDateTime,
) -> Option<Session> {
    let (key, token) = presented.to_str().ok()?.split_once('.')?;
    let claims = rooms.seal.open(key, token, now).ok()?.claims;
    is_of(&claims.caller, caller).then_some(())?;
    let session = |opens_urls| {
        let upstream = claims.connection.strip_prefix(&prefix(server, opens_urls))?;
        Some(Session { id: claims.session, upstream: HeaderValue::from_str(upstream).ok()?, opens_urls })
    };
    session(false).or_else(|| session(true))
}

/// Whether `owner`, whom something was sealed for, is the caller, whatever their groups are now.
pub(super) fn is_of(owner: &Caller, caller: &Caller) -> bool {
    owner.provider == caller.provider
        && owner.issuer == caller.issuer
        && owner.subject == caller.subject
        && owner.act == caller.act
}

/// No connection's name has a slash in it: a session id never opens as a credential of the AWS door, nor the other way.
fn prefix(server: &Server, opens_urls: bool) -> String {
    format!("mcp{}/{}/", if opens_urls { "+url" } else { "" }, server.name)
}

/// The session of a caller's token at a server: the same for every request with it, on every replica.
pub(super) fn derived(verified: &Verified, server: &str) -> Option<SessionId> {
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
    durward_aws::sigv4::hex(&bytes).parse().ok()
}

/// Derived sessions whose beginning is in the journal. What falls out is recorded once more, which changes nothing.
#[derive(Default)]
pub(super) struct Opened(Mutex<(HashSet<SessionId>, VecDeque<SessionId>)>);

impl Opened {
    pub fn has(&self, session: SessionId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.contains(&session)
    }

    pub fn add(&self, session: SessionId) {
        let (known, order) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(session) {
            order.push_back(session);
        }
        if order.len() > REMEMBERED
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

    fn verified(subject: &str, token_id: &str) -> Verified {
        Verified {
            caller: Caller {
                provider: "corp".to_owned(),
                issuer: "https://login.example.com".to_owned(),
                subject: subject.to_owned(),
                kind: CallerKind::Workload,
                groups: Vec::new(),
                act: Vec::new(),
            },
            expires: OffsetDateTime::UNIX_EPOCH,
            issued: None,
            token_id: token_id.to_owned(),
        }
    }

    #[test]
    fn a_token_at_a_server_is_one_session() {
        let one = derived(&verified("agent", "t1"), "files");
        assert!(one.is_some());
        assert_eq!(one, derived(&verified("agent", "t1"), "files"));
        for other in [
            derived(&verified("agent", "t2"), "files"),
            derived(&verified("other", "t1"), "files"),
            derived(&verified("agent", "t1"), "others"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn only_so_many_sessions_are_remembered() {
        let opened = Opened::default();
        let first = SessionId::new();
        opened.add(first);
        opened.add(first);
        for _ in 1..REMEMBERED {
            opened.add(SessionId::new());
        }
        assert!(opened.has(first));
        opened.add(SessionId::new());
        assert!(!opened.has(first));
        assert_eq!(opened.0.lock().unwrap().0.len(), REMEMBERED);
    }
}
