//! From a message to an operation: every method is one, and a call is one on its tool, with its arguments.

use super::refuse::{Shape, Stopped};
use super::{Asked, Found, McpWire, rest, told};
use crate::line::{Exchange, Identity};
use durward_core::{AccessLevel, Demand, Door, Operation, Reason, Refusal, Resource, Traits};
use durward_identity::SealKeys;
use durward_mcp::{Era, Message, code};
use http::StatusCode;
use serde_json::{Map, Value};

pub(super) fn decode(
    keys: &SealKeys,
    wire: McpWire,
    shape: &mut Shape,
) -> Result<(Operation, McpWire), Refusal> {
    let McpWire { exchange, identity, found, waiting } = wire;
    let mut found = match found {
        Ok(found) => found,
        Err(Stopped { refusal, id, problem }) => {
            shape.id = id;
            shape.problem = problem;
            return Err(refusal);
        }
    };
    shape.id = found.id().cloned();
    come_back(keys, &exchange, &identity, &mut found).map_err(|stopped| {
        shape.problem = stopped.problem;
        stopped.refusal
    })?;
    let server = &found.server.name;
    let message = match &found.asked {
        Asked::Message(message) => message,
        Asked::End => {
            let operation = end(server);
            return Ok((operation, McpWire { exchange, identity, found: Ok(found), waiting }));
        }
    };
    let operation = match message {
        Message::Request(request) if request.method == "tools/call" => {
            let (tool, arguments) = request.tool().map_err(|error| {
                let stopped = Stopped::from(error);
                shape.problem = stopped.problem;
                stopped.refusal
            })?;
            let mut operation = call(server, tool, arguments);
            // Answers to what a server asked in a call before, and the like: the server's own business, shown as unseen.
            let rest = request
                .params
                .iter()
                .filter(|(name, _value)| !matches!(name.as_str(), "name" | "arguments"))
                .map(|(name, value)| (name.clone(), value.clone()));
            rest::bind(&mut operation, rest.collect());
            operation
        }
        Message::Request(request) => of_server(server, &request.method, &request.params),
        Message::Notification(notification) => of_server(server, &notification.method, &notification.params),
        // Never reached: a response is refused before. Decided as what no policy can name, all the same.
        Message::Response { .. } => of_server(server, "response", &Map::new()),
    };
    if found.question.as_ref().is_some_and(|question| !question.is_about(&operation)) {
        let stopped = unasked("`requestState` was given for another call: send this one without it");
        shape.problem = stopped.problem;
        return Err(stopped.refusal);
    }
    Ok((operation, McpWire { exchange, identity, found: Ok(found), waiting }))
}

/// A request that comes back from a question of ours becomes the one that was asked about. What its client answered is looked at
/// by nobody: people answer, not clients.
fn come_back(
    keys: &SealKeys,
    exchange: &Exchange,
    identity: &Identity,
    found: &mut Found,
) -> Result<(), Stopped> {
    let Asked::Message(Message::Request(request)) = &mut found.asked else { return Ok(()) };
    if found.names.era != Era::Modern || !request.is_askable() {
        return Ok(());
    }
    let Some(state) = request.state().filter(|state| told::is_ours(state)) else { return Ok(()) };
    let question = told::open(keys, &identity.caller, &found.server.name, state, exchange.at);
    found.question = Some(question.ok_or_else(|| {
        unasked("`requestState` was not given to this caller at this server, or has expired: send the call without it")
    })?);
    request.forget_question();
    found.body = request.write().into();
    Ok(())
}

fn unasked(why: &str) -> Stopped {
    Stopped::new(Refusal::new(Reason::Malformed, why), None)
        .status(StatusCode::BAD_REQUEST, code::INVALID_PARAMS)
}

/// A call of a tool.
pub(super) fn call(server: &str, tool: &str, arguments: Map<String, Value>) -> Operation {
    let resource = Resource::McpTool { server: server.to_owned(), name: tool.to_owned() };
    operation(server, format!("tools/call {tool}"), "tools/call", resource, arguments)
}

/// The end of a session: who may open one may end it.
fn end(server: &str) -> Operation {
    let resource = Resource::McpServer(server.to_owned());
    operation(server, "end of session".to_owned(), "initialize", resource, Map::new())
}

/// Any other method: on the server itself.
pub(super) fn of_server(server: &str, method: &str, params: &Map<String, Value>) -> Operation {
    let (rest, parameters) = params
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .partition(|(name, _)| name == "_meta");
    let resource = Resource::McpServer(server.to_owned());
    let mut operation = operation(server, method.to_owned(), method, resource, parameters);
    rest::bind(&mut operation, rest);
    operation
}

fn operation(
    server: &str,
    name: String,
    action: &str,
    resource: Resource,
    parameters: Map<String, Value>,
) -> Operation {
    Operation {
        door: Door::Mcp,
        service: server.to_owned(),
        name,
        // What a method does is the server's word; so each counts as the worst it could be.
        demands: vec![Demand { action: action.to_owned(), resource, access_level: AccessLevel::Write }],
        parameters: Value::Object(parameters),
        sensitive: Vec::new(),
        region: None,
        account: None,
        traits: Traits::default(),
        uninspected: Vec::new(),
        body_sha256: None,
    }
}
