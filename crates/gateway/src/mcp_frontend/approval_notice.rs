//! Tells a client that approval is pending: in the form that its revision has for this, or while its request is held.
//!
//! A client of 2026-07-28 that opens URLs gets an elicitation with the page of the approval request, and sends its request again
//! with a state that is sealed for this caller, server, approval request and operation; then it is held. One of 2025-11-25 gets
//! the error that its revision has for this, once for each approval request. No response of a client to an elicitation approves
//! anything: people vote, on that page.

use super::mcp_request::{ApprovalElicitation, McpAction, McpRequest, ParsedMcpRequest};
use super::progress_stream::HoldNotice;
use super::refusal::{ApprovalNotice, ErrorOverride, McpRefusalContext};
use super::{McpFrontEnd, mcp_session};
use crate::exchange::{Exchange, Identity};
use crate::front_end::{FrontEndRequest as _, ProtocolRefusal};
use durward_approval::{ApprovalRequest, ApprovalRequestId};
use durward_core::{Caller, Refusal, RefusalReason, SessionId, encode_hex, escape_invisible};
use durward_identity::{GatewayCredentialClaims, SealKeys};
use durward_mcp::{ClientMessage, ClientRequest, ProtocolEra, error_codes};
use http::StatusCode;
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// The prefix of every state of the gateway: any other is the server's own.
const STATE_PREFIX: &str = "durward.";
/// The key of the gateway's elicitation, among those of the server.
const ELICITATION_KEY: &str = "durward.approval";
/// An approval request has ended by then.
const STATE_LIFETIME: Duration = Duration::days(2);
/// Characters of a tool's name that an elicitation repeats.
const MAX_TITLE_CHARS: usize = 200;

impl McpFrontEnd {
    /// Refuses the request at once where the client's revision has a message for "a person must look at this" and the client has
    /// not had it yet. Otherwise the request is held, and the client gets progress if it wants that.
    pub(super) fn notify_of_approval(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        request: &McpRequest,
        approval_request: &ApprovalRequest,
    ) -> Option<ProtocolRefusal<McpRefusalContext>> {
        let parsed = request.parsed()?;
        let McpAction::Message(ClientMessage::Request(message)) = &parsed.action else { return None };
        let (id, page) = (approval_request.id, self.approval_links.page_url(approval_request.id));
        if let Some(page) = &page
            && let Some(notice) =
                self.build_notice(exchange, identity, parsed, message, approval_request, page)
        {
            let reason = &approval_request.details.reason;
            let refusal = Refusal::new(
                RefusalReason::ApprovalRequired,
                format!(
                    "{reason}; approval is requested: approval request {id}, {page}; send the same call again to wait for \
                     the decision"
                ),
            );
            let mut context = request.refusal_context();
            context.approval_notice = Some(Box::new(notice));
            return Some(ProtocolRefusal::new(refusal, context));
        }
        // The head of a response to `initialize` names the session, so it cannot go out before.
        if parsed.initialize_request().is_none()
            && let (Some(notifier), Some(token)) = (&request.hold_notifier, message.progress_token())
        {
            let link = page.map_or_else(String::new, |page| format!(", {page}"));
            notifier.notify(HoldNotice {
                progress_token: token.clone(),
                message: format!("waiting for approval: approval request {id}{link}"),
            });
        }
        None
    }

    fn build_notice(
        &self,
        exchange: &Exchange,
        identity: &Identity,
        parsed: &ParsedMcpRequest,
        message: &ClientRequest,
        approval_request: &ApprovalRequest,
        page: &str,
    ) -> Option<ApprovalNotice> {
        // A server must not use a capability that the client did not declare (MCP 2025-11-25, "Elicitation").
        if !parsed.supports_url_elicitation {
            return None;
        }
        match parsed.validated_headers.era {
            // A request that continues after a server's own `input_required` can carry that server's state only.
            ProtocolEra::Modern if message.may_require_input() && !message.is_input_retry() => {
                let is_known =
                    |elicitation: &ApprovalElicitation| elicitation.approval_request == approval_request.id;
                if parsed.approval_elicitation.as_ref().is_some_and(is_known) {
                    return None;
                }
                let state = seal_state(
                    &self.seal_keys,
                    &identity.caller,
                    identity.session,
                    &parsed.server.name,
                    approval_request.id,
                    &approval_request.details.digest,
                    exchange.time,
                )?;
                let params =
                    json!({ "mode": "url", "message": elicitation_message(approval_request), "url": page });
                Some(ApprovalNotice::Elicitation(json!({
                    "resultType": "input_required",
                    "inputRequests": { ELICITATION_KEY: { "method": "elicitation/create", "params": params } },
                    "requestState": state,
                })))
            }
            // Only the exchange that made the approval request has not had it yet.
            ProtocolEra::Legacy
                if parsed.validated_headers.has_url_elicitation_error()
                    && parsed.upstream_session_id.is_some()
                    && approval_request.details.exchange == exchange.id =>
            {
                let elicitation = json!({
                    "mode": "url",
                    "message": elicitation_message(approval_request),
                    "url": page,
                    "elicitationId": approval_request.id.to_string(),
                });
                Some(ApprovalNotice::Error(ErrorOverride {
                    status: StatusCode::OK,
                    code: error_codes::URL_ELICITATION_REQUIRED,
                    data: Some(json!({ "elicitations": [elicitation] })),
                }))
            }
            _ => None,
        }
    }
}

/// The text of the elicitation: the operation, and the groups that may vote. The name of the tool is the only text in it that the
/// caller chose.
fn elicitation_message(request: &ApprovalRequest) -> String {
    // Zero-width and bidirectional characters would show people another name than the one that is called (CVE-2021-42574).
    let title: String =
        escape_invisible(&request.details.operation.qualified_name()).chars().take(MAX_TITLE_CHARS).collect();
    let approvers: Vec<String> = request
        .missing_approvals()
        .into_iter()
        .map(|(group, count)| match count {
            1 => format!("one person of `{group}`"),
            count => format!("{count} people of `{group}`"),
        })
        .collect();
    format!(
        "{title} waits for the approval of {}. The page shows the operation (approval request {}).",
        approvers.join(" and "),
        request.id
    )
}

/// The state of an elicitation of the gateway, sealed.
fn seal_state(
    keys: &SealKeys,
    caller: &Caller,
    session: SessionId,
    server: &str,
    id: ApprovalRequestId,
    digest: &[u8; 32],
    now: OffsetDateTime,
) -> Option<String> {
    let claims = GatewayCredentialClaims {
        session,
        // Groups do not identify a caller, and a user with hundreds of them would make the state too long.
        caller: Caller { groups: Vec::new(), ..caller.clone() },
        connection: format!("{}{id}/{}", state_prefix(server), encode_hex(digest)),
        proved_at: now,
        expires_at: now + STATE_LIFETIME,
    };
    let sealed = keys.issue(&claims).ok()?;
    Some(format!("{STATE_PREFIX}{}.{}", sealed.access_key_id, sealed.session_token.expose()))
}

/// Returns true if a state is the gateway's, or claims to be.
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
    let (id, digest) = claims.connection.strip_prefix(&state_prefix(server))?.split_once('/')?;
    mcp_session::is_same_caller(&claims.caller, caller).then_some(())?;
    Some(ApprovalElicitation { approval_request: id.parse().ok()?, digest_hex: digest.to_owned() })
}

/// No session's prefix is this one, and no connection's name has a slash in it: a state never opens as either.
fn state_prefix(server: &str) -> String {
    format!("mcp-approval/{server}/")
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

    fn sealed_test_state(keys: &SealKeys, id: ApprovalRequestId) -> String {
        seal_state(keys, &test_caller("agent"), SessionId::new(), "files", id, &[7; 32], NOW).unwrap()
    }

    #[test]
    fn a_state_opens_for_its_caller_at_its_server_until_it_expires() {
        let (keys, id) = (test_keys(1), ApprovalRequestId::new());
        let state = sealed_test_state(&keys, id);
        let elicitation = ApprovalElicitation { approval_request: id, digest_hex: "07".repeat(32) };
        assert_eq!(open_state(&keys, &test_caller("agent"), "files", &state, NOW), Some(elicitation.clone()));
        let regrouped = Caller { groups: Vec::new(), ..test_caller("agent") };
        assert_eq!(open_state(&keys, &regrouped, "files", &state, NOW), Some(elicitation));
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
        for connection in ["mcp/files/x", "mcp+url/files/x", "mcp-approval/files/x", "prod"] {
            let (session, expires) = (SessionId::new(), NOW + STATE_LIFETIME);
            let claims = GatewayCredentialClaims {
                session,
                caller: test_caller("agent"),
                connection: connection.to_owned(),
                proved_at: NOW,
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
