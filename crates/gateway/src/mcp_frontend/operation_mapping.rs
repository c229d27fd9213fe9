//! Maps a message to an operation. Every method is an operation on its server; `tools/call` is an operation on its tool, with the
//! arguments as parameters.

use super::mcp_request::{McpAction, ParsedMcpRequest};
use super::refusal::McpRefusal;
use super::{approval_notice, unbound_parameters};
use crate::exchange::{Exchange, Identity};
use durward_core::{
    AccessLevel, FrontEndKind, Operation, OperationTraits, Refusal, RefusalReason, RequiredPermission,
    Resource,
};
use durward_identity::SealKeys;
use durward_mcp::{ClientMessage, ProtocolEra, error_codes};
use http::StatusCode;
use serde_json::{Map, Value};

/// The operation of a request.
pub(super) fn map_operation(
    keys: &SealKeys,
    exchange: &Exchange,
    identity: &Identity,
    parsed: &mut ParsedMcpRequest,
) -> Result<Operation, McpRefusal> {
    resume_elicitation(keys, exchange, identity, parsed)?;
    let server = &parsed.server.name;
    let message = match &parsed.action {
        McpAction::Message(message) => message,
        McpAction::EndSession => return Ok(end_session_operation(server)),
    };
    let operation = match message {
        ClientMessage::Request(request) if request.method == "tools/call" => {
            let (tool, arguments) = request.tool_call()?;
            let mut operation = tool_call_operation(server, tool, arguments);
            // Other parameters, such as input that the server required in an earlier call, mean something to the server only:
            // they are bound to the operation and shown as uninspected.
            let rest = request
                .params
                .iter()
                .filter(|(name, _value)| !matches!(name.as_str(), "name" | "arguments"))
                .map(|(name, value)| (name.clone(), value.clone()));
            unbound_parameters::bind_parameters(&mut operation, rest.collect());
            operation
        }
        ClientMessage::Request(request) => server_operation(server, &request.method, &request.params),
        ClientMessage::Notification(notification) => {
            server_operation(server, &notification.method, &notification.params)
        }
        // Never reached, since responses are refused earlier. Policies cannot name this method, so it would be denied.
        ClientMessage::Response { .. } => server_operation(server, "response", &Map::new()),
    };
    if parsed
        .approval_elicitation
        .as_ref()
        .is_some_and(|elicitation| !elicitation.matches_operation(&operation))
    {
        return Err(invalid_request_state(
            "`requestState` was issued for another call: send this one without it",
        ));
    }
    Ok(operation)
}

/// Turns a request that continues after an elicitation of the gateway back into the request that approval was requested for. The
/// client's input is not read: people vote, not clients.
fn resume_elicitation(
    keys: &SealKeys,
    exchange: &Exchange,
    identity: &Identity,
    parsed: &mut ParsedMcpRequest,
) -> Result<(), McpRefusal> {
    let McpAction::Message(ClientMessage::Request(request)) = &mut parsed.action else { return Ok(()) };
    if parsed.validated_headers.era != ProtocolEra::Modern || !request.may_require_input() {
        return Ok(());
    }
    let Some(state) = request.request_state().filter(|state| approval_notice::is_gateway_state(state)) else {
        return Ok(());
    };
    let elicitation =
        approval_notice::open_state(keys, &identity.caller, &parsed.server.name, state, exchange.time);
    parsed.approval_elicitation = Some(elicitation.ok_or_else(|| {
        invalid_request_state("`requestState` was not issued to this caller at this server, or has expired: send the call without it")
    })?);
    request.remove_input_responses();
    parsed.body = request.to_bytes().into();
    Ok(())
}

fn invalid_request_state(message: &str) -> McpRefusal {
    McpRefusal::new(Refusal::new(RefusalReason::Malformed, message), None)
        .with_status(StatusCode::BAD_REQUEST, error_codes::INVALID_PARAMS)
}

/// A tool call.
pub(super) fn tool_call_operation(server: &str, tool: &str, arguments: Map<String, Value>) -> Operation {
    let resource = Resource::McpTool { server: server.to_owned(), name: tool.to_owned() };
    build_operation(server, format!("tools/call {tool}"), "tools/call", resource, arguments)
}

/// The end of a session, decided as `initialize`: a caller who may open a session may end it.
fn end_session_operation(server: &str) -> Operation {
    let resource = Resource::McpServer(server.to_owned());
    build_operation(server, "end of session".to_owned(), "initialize", resource, Map::new())
}

/// Any other method, as an operation on the server.
pub(super) fn server_operation(server: &str, method: &str, params: &Map<String, Value>) -> Operation {
    let (rest, parameters) = params
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .partition(|(name, _)| name == "_meta");
    let resource = Resource::McpServer(server.to_owned());
    let mut operation = build_operation(server, method.to_owned(), method, resource, parameters);
    unbound_parameters::bind_parameters(&mut operation, rest);
    operation
}

fn build_operation(
    server: &str,
    name: String,
    action: &str,
    resource: Resource,
    parameters: Map<String, Value>,
) -> Operation {
    Operation {
        front_end: FrontEndKind::Mcp,
        service: server.to_owned(),
        name,
        // Only the server says what a method does, and it is not trusted: each counts as a write.
        required_permissions: vec![RequiredPermission {
            action: action.to_owned(),
            resource,
            access_level: AccessLevel::Write,
        }],
        parameters: Value::Object(parameters),
        sensitive_pointers: Vec::new(),
        region: None,
        account: None,
        traits: OperationTraits::default(),
        uninspected_parts: Vec::new(),
        body_sha256: None,
    }
}
