//! From a message to an operation: every method is one, and a call is one on its tool, with its arguments.

use super::refusal::{McpRefusal, McpRefusalContext};
use super::{InboundMcpRequest, McpAction, ParsedMcpRequest, client_notification, unbound_parameters};
use crate::pipeline::{Exchange, Identity};
use durward_core::{
    AccessLevel, FrontEndKind, Operation, OperationTraits, Refusal, RefusalReason, RequiredPermission,
    Resource,
};
use durward_identity::SealKeys;
use durward_mcp::{ClientMessage, ProtocolEra, error_codes};
use http::StatusCode;
use serde_json::{Map, Value};

pub(super) fn decode_request(
    keys: &SealKeys,
    wire: InboundMcpRequest,
    shape: &mut McpRefusalContext,
) -> Result<(Operation, InboundMcpRequest), Refusal> {
    let InboundMcpRequest { exchange, identity, parsed_request: found, hold_notifier: waiting } = wire;
    let mut found = match found {
        Ok(found) => found,
        Err(McpRefusal { refusal, request_id: id, error_override: problem }) => {
            shape.request_id = id;
            shape.error_override = problem;
            return Err(refusal);
        }
    };
    shape.request_id = found.request_id().cloned();
    resume_elicitation(keys, &exchange, &identity, &mut found).map_err(|stopped| {
        shape.error_override = stopped.error_override;
        stopped.refusal
    })?;
    let server = &found.server.name;
    let message = match &found.action {
        McpAction::Message(message) => message,
        McpAction::EndSession => {
            let operation = end_session_operation(server);
            return Ok((
                operation,
                InboundMcpRequest { exchange, identity, parsed_request: Ok(found), hold_notifier: waiting },
            ));
        }
    };
    let operation = match message {
        ClientMessage::Request(request) if request.method == "tools/call" => {
            let (tool, arguments) = request.tool_call().map_err(|error| {
                let stopped = McpRefusal::from(error);
                shape.error_override = stopped.error_override;
                stopped.refusal
            })?;
            let mut operation = tool_call_operation(server, tool, arguments);
            // Answers to what a server asked in a call before, and the like: the server's own business, shown as unseen.
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
        // Never reached: a response is refused before. Decided as what no policy can name, all the same.
        ClientMessage::Response { .. } => server_operation(server, "response", &Map::new()),
    };
    if found.approval_elicitation.as_ref().is_some_and(|question| !question.matches_operation(&operation)) {
        let stopped =
            invalid_request_state("`requestState` was given for another call: send this one without it");
        shape.error_override = stopped.error_override;
        return Err(stopped.refusal);
    }
    Ok((
        operation,
        InboundMcpRequest { exchange, identity, parsed_request: Ok(found), hold_notifier: waiting },
    ))
}

/// A request that comes back from a question of ours becomes the one that was asked about. What its client answered is looked at
/// by nobody: people answer, not clients.
fn resume_elicitation(
    keys: &SealKeys,
    exchange: &Exchange,
    identity: &Identity,
    found: &mut ParsedMcpRequest,
) -> Result<(), McpRefusal> {
    let McpAction::Message(ClientMessage::Request(request)) = &mut found.action else { return Ok(()) };
    if found.validated_headers.era != ProtocolEra::Modern || !request.may_require_input() {
        return Ok(());
    }
    let Some(state) = request.request_state().filter(|state| client_notification::is_gateway_state(state))
    else {
        return Ok(());
    };
    let question =
        client_notification::open_state(keys, &identity.caller, &found.server.name, state, exchange.time);
    found.approval_elicitation = Some(question.ok_or_else(|| {
        invalid_request_state("`requestState` was not given to this caller at this server, or has expired: send the call without it")
    })?);
    request.remove_input_responses();
    found.body = request.to_bytes().into();
    Ok(())
}

fn invalid_request_state(why: &str) -> McpRefusal {
    McpRefusal::new(Refusal::new(RefusalReason::Malformed, why), None)
        .with_status(StatusCode::BAD_REQUEST, error_codes::INVALID_PARAMS)
}

/// A call of a tool.
pub(super) fn tool_call_operation(server: &str, tool: &str, arguments: Map<String, Value>) -> Operation {
    let resource = Resource::McpTool { server: server.to_owned(), name: tool.to_owned() };
    build_operation(server, format!("tools/call {tool}"), "tools/call", resource, arguments)
}

/// The end of a session: who may open one may end it.
fn end_session_operation(server: &str) -> Operation {
    let resource = Resource::McpServer(server.to_owned());
    build_operation(server, "end of session".to_owned(), "initialize", resource, Map::new())
}

/// Any other method: on the server itself.
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
        // What a method does is the server's word; so each counts as the worst it could be.
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
