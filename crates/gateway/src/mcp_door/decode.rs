//! From a message to an operation: every method is one, and a call is one on its tool, with its arguments.

use super::refuse::{Shape, Stopped};
use super::{Asked, McpWire};
use durward_aws::sigv4::sha256_hex;
use durward_core::{AccessLevel, Demand, Door, Operation, Refusal, Resource, Traits};
use durward_mcp::Message;
use serde_json::{Map, Value};

pub(super) fn decode(wire: McpWire, shape: &mut Shape) -> Result<(Operation, McpWire), Refusal> {
    let McpWire { exchange, identity, found } = wire;
    let found = match found {
        Ok(found) => found,
        Err(Stopped { refusal, id, problem }) => {
            shape.id = id;
            shape.problem = problem;
            return Err(refusal);
        }
    };
    shape.id = found.id().cloned();
    let server = &found.server.name;
    let message = match &found.asked {
        Asked::Message(message) => message,
        Asked::End => {
            let operation = end(server);
            return Ok((operation, McpWire { exchange, identity, found: Ok(found) }));
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
            let rest: Map<String, Value> = request
                .params
                .iter()
                .filter(|(name, _value)| !matches!(name.as_str(), "_meta" | "name" | "arguments"))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            operation.uninspected = rest.keys().cloned().collect();
            if !rest.is_empty() {
                // An approval of this call must not serve one with another rest.
                operation.body_sha256 = Some(sha256_hex(Value::Object(rest).to_string().as_bytes()));
            }
            operation
        }
        Message::Request(request) => of_server(server, &request.method, &request.params),
        Message::Notification(notification) => of_server(server, &notification.method, &notification.params),
        // Never reached: a response is refused before. Decided as what no policy can name, all the same.
        Message::Response { .. } => of_server(server, "response", &Map::new()),
    };
    Ok((operation, McpWire { exchange, identity, found: Ok(found) }))
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
fn of_server(server: &str, method: &str, params: &Map<String, Value>) -> Operation {
    let mut params = params.clone();
    params.remove("_meta");
    operation(server, method.to_owned(), method, Resource::McpServer(server.to_owned()), params)
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
