//! How a client is told that people are asked about its request: in the way its revision has, or while it is held.
//!
//! A client of 2026-07-28 that opens URLs gets a question with the page of the ask, and comes back with a state that is sealed for
//! this caller, server, ask and operation; then it is held. One of 2025-11-25 gets the error that its revision has for this,
//! once for each ask. Whatever a client answers to a question lifts nothing: people answer, on that page.

use super::progress::Note;
use super::refuse::Problem;
use super::{Asked, Found, McpWire, session};
use crate::line::{Exchange, digest_of};
use crate::rooms::Rooms;
use durward_approval::{Ask, AskId};
use durward_core::{Caller, Operation, Reason, Refusal, SessionId, visible};
use durward_identity::{Claims, SealKeys};
use durward_mcp::{Era, Request as McpRequest, code};
use http::StatusCode;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

/// Before every state of ours: what a server wants to have back is its own.
const OURS: &str = "durward.";
/// The key of our question. Answers to a server's questions have others.
const KEY: &str = "durward.ask";
/// An ask is over by then, whoever was to answer it.
const LIFETIME: Duration = Duration::days(2);
/// Most characters of a tool's name that a question repeats.
const TITLE: usize = 200;

/// What a client hears in place of an answer.
#[derive(Clone)]
pub(super) enum Told {
    /// A question, as the result.
    Question(Value),
    /// An error with the page in it.
    Error(Problem),
}

/// A question that a request comes back from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub ask: AskId,
    /// What it was asked about.
    digest: String,
}

impl Question {
    /// The arguments are those that people see.
    pub fn is_about(&self, operation: &Operation) -> bool {
        self.digest == durward_aws::sigv4::hex(&digest_of(operation))
    }
}

/// Tells the client at once, if its revision has a word for that and it has not been told; otherwise it is held, and hears of
/// that if it wants to hear of progress.
pub(super) fn tell(rooms: &Rooms, exchange: &Exchange, wire: &McpWire, ask: &Ask) -> Option<(Told, Refusal)> {
    let found = wire.found.as_ref().ok()?;
    let Asked::Message(durward_mcp::Message::Request(request)) = &found.asked else { return None };
    let page = rooms.ask_page(ask.id);
    if let Some(page) = &page
        && let Some(told) = word(rooms, exchange, wire, found, request, ask, page)
    {
        let reason = &ask.what.reason;
        let refusal = Refusal::new(
            Reason::AccessDenied,
            format!(
                "{reason}; people are asked: ask {}, {page}; send the same call again to wait for their answer",
                ask.id
            ),
        );
        return Some((told, refusal));
    }
    // The head of an answer to `initialize` names the session, so it cannot go out before.
    if found.initialize().is_none()
        && let (Some(waiting), Some(token)) = (&wire.waiting, request.progress_token())
    {
        let place = page.map_or_else(String::new, |page| format!(", {page}"));
        waiting.note(Note {
            token: token.clone(),
            message: format!("waiting for approval: ask {}{place}", ask.id),
        });
    }
    None
}

fn word(
    rooms: &Rooms,
    exchange: &Exchange,
    wire: &McpWire,
    found: &Found,
    request: &McpRequest,
    ask: &Ask,
    page: &str,
) -> Option<Told> {
    if !found.opens_urls {
        return None;
    }
    match found.names.era {
        // A request that comes back to a server has room for that server's state only.
        Era::Modern if request.is_askable() && !request.resumes() => {
            if found.question.as_ref().is_some_and(|question| question.ask == ask.id) {
                return None;
            }
            let identity = &wire.identity;
            let digest = &ask.what.digest;
            let state = seal(
                &rooms.seal,
                &identity.caller,
                identity.session,
                &found.server.name,
                ask.id,
                digest,
                exchange.at,
            )?;
            let question = json!({ "mode": "url", "message": words(ask), "url": page });
            Some(Told::Question(json!({
                "resultType": "input_required",
                "inputRequests": { KEY: { "method": "elicitation/create", "params": question } },
                "requestState": state,
            })))
        }
        // Whoever made the ask has not heard of it.
        Era::Legacy
            if found.names.has_url_error() && found.session.is_some() && ask.what.exchange == exchange.id =>
        {
            let question = json!({ "mode": "url", "message": words(ask), "url": page, "elicitationId": ask.id.to_string() });
            Some(Told::Error(Problem {
                status: StatusCode::OK,
                code: code::URL_ELICITATION,
                data: Some(json!({ "elicitations": [question] })),
            }))
        }
        _ => None,
    }
}

/// What is asked and who may answer. Nothing of it is text of the caller but the name of the tool, with all of it visible.
fn words(ask: &Ask) -> String {
    let title: String = visible(&ask.what.operation.title()).chars().take(TITLE).collect();
    let who: Vec<String> = ask
        .missing()
        .into_iter()
        .map(|(group, people)| match people {
            1 => format!("one person of `{group}`"),
            people => format!("{people} people of `{group}`"),
        })
        .collect();
    format!(
        "{title} waits for the approval of {}. The page shows what is asked (ask {}).",
        who.join(" and "),
        ask.id
    )
}

/// The state that stands for a question of ours.
fn seal(
    keys: &SealKeys,
    caller: &Caller,
    session: SessionId,
    server: &str,
    ask: AskId,
    digest: &[u8; 32],
    now: OffsetDateTime,
) -> Option<String> {
    let claims = Claims {
        session,
        caller: Caller { groups: Vec::new(), ..caller.clone() },
        connection: format!("{}{ask}/{}", prefix(server), durward_aws::sigv4::hex(digest)),
        issued: now,
        expires: now + LIFETIME,
    };
    let sealed = keys.issue(&claims).ok()?;
    Some(format!("{OURS}{}.{}", sealed.access_key_id, sealed.session_token.expose()))
}

/// Whether a state is one of ours, or claims to be.
pub(super) fn is_ours(state: &str) -> bool {
    state.starts_with(OURS)
}

/// Opens a state for the caller and the server that it was made for.
pub(super) fn open(
    keys: &SealKeys,
    caller: &Caller,
    server: &str,
    state: &str,
    now: OffsetDateTime,
) -> Option<Question> {
    let (key, token) = state.strip_prefix(OURS)?.split_once('.')?;
    let claims = keys.open(key, token, now).ok()?.claims;
    let (ask, digest) = claims.connection.strip_prefix(&prefix(server))?.split_once('/')?;
    session::is_of(&claims.caller, caller).then_some(())?;
    Some(Question { ask: ask.parse().ok()?, digest: digest.to_owned() })
}

/// No session's name begins so, and no connection's name has a slash in it.
fn prefix(server: &str) -> String {
    format!("mcp-ask/{server}/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::CallerKind;
    use proptest::prelude::*;

    fn keys(seed: u8) -> SealKeys {
        SealKeys::from_masters(&[[seed; 32].into()]).unwrap()
    }

    fn caller(subject: &str) -> Caller {
        Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: subject.to_owned(),
            kind: CallerKind::Workload,
            groups: vec!["agents".to_owned()],
            act: Vec::new(),
        }
    }

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-21 12:00 UTC);

    fn sealed(keys: &SealKeys, ask: AskId) -> String {
        seal(keys, &caller("agent"), SessionId::new(), "files", ask, &[7; 32], NOW).unwrap()
    }

    #[test]
    fn a_state_opens_for_its_caller_at_its_server_until_it_expires() {
        let (keys, ask) = (keys(1), AskId::new());
        let state = sealed(&keys, ask);
        let question = Question { ask, digest: "07".repeat(32) };
        assert_eq!(open(&keys, &caller("agent"), "files", &state, NOW), Some(question.clone()));
        let regrouped = Caller { groups: Vec::new(), ..caller("agent") };
        assert_eq!(open(&keys, &regrouped, "files", &state, NOW), Some(question));
        assert_eq!(open(&keys, &caller("other"), "files", &state, NOW), None, "of another caller");
        let acting = Caller { act: vec!["boss".to_owned()], ..caller("agent") };
        assert_eq!(open(&keys, &acting, "files", &state, NOW), None, "on behalf of another");
        let elsewhere = Caller { issuer: "https://evil.example.com".to_owned(), ..caller("agent") };
        assert_eq!(open(&keys, &elsewhere, "files", &state, NOW), None, "of another issuer");
        for server in ["file", "files/", "other", ""] {
            assert_eq!(open(&keys, &caller("agent"), server, &state, NOW), None, "at {server}");
        }
        assert_eq!(open(&keys, &caller("agent"), "files", &state, NOW + LIFETIME), None, "expired");
        assert_eq!(open(&self::keys(2), &caller("agent"), "files", &state, NOW), None, "of another gateway");
    }

    #[test]
    fn a_state_is_no_session_and_no_credential_and_the_other_way() {
        let keys = keys(1);
        for connection in ["mcp/files/x", "mcp+url/files/x", "mcp-ask/files/x", "prod"] {
            let (session, expires) = (SessionId::new(), NOW + LIFETIME);
            let claims = Claims {
                session,
                caller: caller("agent"),
                connection: connection.to_owned(),
                issued: NOW,
                expires,
            };
            let other = keys.issue(&claims).unwrap();
            let state = format!("{OURS}{}.{}", other.access_key_id, other.session_token.expose());
            assert_eq!(open(&keys, &caller("agent"), "files", &state, NOW), None, "{connection}");
        }
    }

    proptest! {
        #[test]
        fn no_state_panics_and_none_that_was_not_sealed_opens(state in ".*", tail in ".{0,40}", at in 0..400_usize, with in ".") {
            let keys = keys(1);
            let good = sealed(&keys, AskId::new());
            let cut: String = good.chars().take(at).chain(with.chars()).chain(good.chars().skip(at + 1)).collect();
            let ours = format!("{OURS}{state}");
            let longer = format!("{good}{tail}");
            for state in [&state, &ours, &cut, &longer] {
                let opened = open(&keys, &caller("agent"), "files", state, NOW);
                prop_assert!(opened.is_none() || *state == good, "{state}");
            }
        }
    }
}
