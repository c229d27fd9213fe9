//! How a client is told that people are asked about its request: in the way its revision has, or while it is held.
//!
//! A client of 2026-07-28 that opens URLs gets a question with the page of the ask, and comes back with a state that is sealed for
//! this caller, server, ask and operation; then it is held. One of 2025-11-25 gets the error that its revision has for this,
//! once for each ask. Whatever a client answers to a question lifts nothing: people answer, on that page.

use super::progress_stream::HoldNotice;
use super::refusal::ErrorOverride;
use super::{InboundMcpRequest, McpAction, ParsedMcpRequest, mcp_session};
use crate::gateway_services::GatewayServices;
use crate::pipeline::{Exchange, operation_digest};
use durward_approval::{ApprovalRequest, ApprovalRequestId};
use durward_core::{Caller, Operation, Refusal, RefusalReason, SessionId, escape_invisible};
use durward_identity::{GatewayCredentialClaims, SealKeys};
use durward_mcp::{ClientRequest as McpRequest, ProtocolEra, error_codes};
use http::StatusCode;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

/// Before every state of ours: what a server wants to have back is its own.
const STATE_PREFIX: &str = "durward.";
/// The key of our question. Answers to a server's questions have others.
const ELICITATION_KEY: &str = "durward.ask";
/// An ask is over by then, whoever was to answer it.
const STATE_LIFETIME: Duration = Duration::days(2);
/// Most characters of a tool's name that a question repeats.
const MAX_TITLE_CHARS: usize = 200;

/// What a client hears in place of an answer.
#[derive(Clone)]
pub(super) enum ApprovalNotice {
    /// A question, as the result.
    Elicitation(Value),
    /// An error with the page in it.
    Error(ErrorOverride),
}

/// A question that a request comes back from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApprovalElicitation {
    pub approval_request: ApprovalRequestId,
    /// What it was asked about.
    digest_hex: String,
}

impl ApprovalElicitation {
    /// The arguments are those that people see.
    pub fn matches_operation(&self, operation: &Operation) -> bool {
        self.digest_hex == durward_core::encode_hex(&operation_digest(operation))
    }
}

/// Tells the client at once, if its revision has a word for that and it has not been told; otherwise it is held, and hears of
/// that if it wants to hear of progress.
pub(super) fn notify_client(
    rooms: &GatewayServices,
    exchange: &Exchange,
    wire: &InboundMcpRequest,
    ask: &ApprovalRequest,
) -> Option<(ApprovalNotice, Refusal)> {
    let found = wire.parsed_request.as_ref().ok()?;
    let McpAction::Message(durward_mcp::ClientMessage::Request(request)) = &found.action else { return None };
    let page = rooms.approval_page_url(ask.id);
    if let Some(page) = &page
        && let Some(told) = build_notice(rooms, exchange, wire, found, request, ask, page)
    {
        let reason = &ask.details.reason;
        let refusal = Refusal::new(
            RefusalReason::AccessDenied,
            format!(
                "{reason}; people are asked: ask {}, {page}; send the same call again to wait for their answer",
                ask.id
            ),
        );
        return Some((told, refusal));
    }
    // The head of an answer to `initialize` names the session, so it cannot go out before.
    if found.initialize_request().is_none()
        && let (Some(waiting), Some(token)) = (&wire.hold_notifier, request.progress_token())
    {
        let place = page.map_or_else(String::new, |page| format!(", {page}"));
        waiting.notify(HoldNotice {
            progress_token: token.clone(),
            message: format!("waiting for approval: ask {}{place}", ask.id),
        });
    }
    None
}

fn build_notice(
    rooms: &GatewayServices,
    exchange: &Exchange,
    wire: &InboundMcpRequest,
    found: &ParsedMcpRequest,
    request: &McpRequest,
    ask: &ApprovalRequest,
    page: &str,
) -> Option<ApprovalNotice> {
    if !found.supports_url_elicitation {
        return None;
    }
    match found.validated_headers.era {
        // A request that comes back to a server has room for that server's state only.
        ProtocolEra::Modern if request.may_require_input() && !request.is_input_retry() => {
            if found.approval_elicitation.as_ref().is_some_and(|question| question.approval_request == ask.id)
            {
                return None;
            }
            let identity = &wire.identity;
            let digest = &ask.details.digest;
            let state = seal_state(
                &rooms.seal_keys,
                &identity.caller,
                identity.session,
                &found.server.name,
                ask.id,
                digest,
                exchange.time,
            )?;
            let question = json!({ "mode": "url", "message": elicitation_message(ask), "url": page });
            Some(ApprovalNotice::Elicitation(json!({
                "resultType": "input_required",
                "inputRequests": { ELICITATION_KEY: { "method": "elicitation/create", "params": question } },
                "requestState": state,
            })))
        }
        // Whoever made the ask has not heard of it.
        ProtocolEra::Legacy
            if found.validated_headers.has_url_elicitation_error()
                && found.upstream_session_id.is_some()
                && ask.details.exchange == exchange.id =>
        {
            let question = json!({ "mode": "url", "message": elicitation_message(ask), "url": page, "elicitationId": ask.id.to_string() });
            Some(ApprovalNotice::Error(ErrorOverride {
                status: StatusCode::OK,
                code: error_codes::URL_ELICITATION_REQUIRED,
                data: Some(json!({ "elicitations": [question] })),
            }))
        }
        _ => None,
    }
}

/// What is asked and who may answer. Nothing of it is text of the caller but the name of the tool, with all of it visible.
fn elicitation_message(ask: &ApprovalRequest) -> String {
    let title: String =
        escape_invisible(&ask.details.operation.qualified_name()).chars().take(MAX_TITLE_CHARS).collect();
    let who: Vec<String> = ask
        .missing_approvals()
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
fn seal_state(
    keys: &SealKeys,
    caller: &Caller,
    session: SessionId,
    server: &str,
    ask: ApprovalRequestId,
    digest: &[u8; 32],
    now: OffsetDateTime,
) -> Option<String> {
    let claims = GatewayCredentialClaims {
        session,
        caller: Caller { groups: Vec::new(), ..caller.clone() },
        connection: format!("{}{ask}/{}", state_prefix(server), durward_core::encode_hex(digest)),
        issued_at: now,
        expires_at: now + STATE_LIFETIME,
    };
    let sealed = keys.issue(&claims).ok()?;
    Some(format!("{STATE_PREFIX}{}.{}", sealed.access_key_id, sealed.session_token.expose()))
}

/// Whether a state is one of ours, or claims to be.
pub(super) fn is_gateway_state(state: &str) -> bool {
    state.starts_with(STATE_PREFIX)
}

/// Opens a state for the caller and the server that it was made for.
pub(super) fn open_state(
    keys: &SealKeys,
    caller: &Caller,
    server: &str,
    state: &str,
    now: OffsetDateTime,
) -> Option<ApprovalElicitation> {
    let (key, token) = state.strip_prefix(STATE_PREFIX)?.split_once('.')?;
    let claims = keys.open(key, token, now).ok()?.claims;
    let (ask, digest) = claims.connection.strip_prefix(&state_prefix(server))?.split_once('/')?;
    mcp_session::is_same_caller(&claims.caller, caller).then_some(())?;
    Some(ApprovalElicitation { approval_request: ask.parse().ok()?, digest_hex: digest.to_owned() })
}

/// No session's name begins so, and no connection's name has a slash in it.
fn state_prefix(server: &str) -> String {
    format!("mcp-ask/{server}/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::CallerKind;
    use proptest::prelude::*;

    fn test_keys(seed: u8) -> SealKeys {
        SealKeys::from_master_keys(&[[seed; 32].into()]).unwrap()
    }

    fn test_caller(subject: &str) -> Caller {
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

    fn sealed_test_state(keys: &SealKeys, ask: ApprovalRequestId) -> String {
        seal_state(keys, &test_caller("agent"), SessionId::new(), "files", ask, &[7; 32], NOW).unwrap()
    }

    #[test]
    fn a_state_opens_for_its_caller_at_its_server_until_it_expires() {
        let (keys, ask) = (test_keys(1), ApprovalRequestId::new());
        let state = sealed_test_state(&keys, ask);
        let question = ApprovalElicitation { approval_request: ask, digest_hex: "07".repeat(32) };
        assert_eq!(open_state(&keys, &test_caller("agent"), "files", &state, NOW), Some(question.clone()));
        let regrouped = Caller { groups: Vec::new(), ..test_caller("agent") };
        assert_eq!(open_state(&keys, &regrouped, "files", &state, NOW), Some(question));
        assert_eq!(open_state(&keys, &test_caller("other"), "files", &state, NOW), None, "of another caller");
        let acting = Caller { act: vec!["boss".to_owned()], ..test_caller("agent") };
        assert_eq!(open_state(&keys, &acting, "files", &state, NOW), None, "on behalf of another");
        let elsewhere = Caller { issuer: "https://evil.example.com".to_owned(), ..test_caller("agent") };
        assert_eq!(open_state(&keys, &elsewhere, "files", &state, NOW), None, "of another issuer");
        for server in ["file", "files/", "other", ""] {
            assert_eq!(open_state(&keys, &test_caller("agent"), server, &state, NOW), None, "at {server}");
        }
        assert_eq!(
            open_state(&keys, &test_caller("agent"), "files", &state, NOW + STATE_LIFETIME),
            None,
            "expired"
        );
        assert_eq!(
            open_state(&self::test_keys(2), &test_caller("agent"), "files", &state, NOW),
            None,
            "of another gateway"
        );
    }

    #[test]
    fn a_state_a_session_and_a_credential_never_open_as_one_another() {
        let keys = test_keys(1);
        for connection in ["mcp/files/x", "mcp+url/files/x", "mcp-ask/files/x", "prod"] {
            let (session, expires) = (SessionId::new(), NOW + STATE_LIFETIME);
            let claims = GatewayCredentialClaims {
                session,
                caller: test_caller("agent"),
                connection: connection.to_owned(),
                issued_at: NOW,
                expires_at: expires,
            };
            let other = keys.issue(&claims).unwrap();
            let state = format!("{STATE_PREFIX}{}.{}", other.access_key_id, other.session_token.expose());
            assert_eq!(open_state(&keys, &test_caller("agent"), "files", &state, NOW), None, "{connection}");
        }
    }

    proptest! {
        #[test]
        fn no_state_panics_and_none_that_was_not_sealed_opens(state in ".*", tail in ".{0,40}", at in 0..400_usize, with in ".") {
            let keys = test_keys(1);
            let good = sealed_test_state(&keys, ApprovalRequestId::new());
            let cut: String = good.chars().take(at).chain(with.chars()).chain(good.chars().skip(at + 1)).collect();
            let ours = format!("{STATE_PREFIX}{state}");
            let longer = format!("{good}{tail}");
            for state in [&state, &ours, &cut, &longer] {
                let opened = open_state(&keys, &test_caller("agent"), "files", state, NOW);
                prop_assert!(opened.is_none() || *state == good, "{state}");
            }
        }
    }
}
