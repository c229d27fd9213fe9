//! What the catalog says of actions and operations, as text for a terminal and as JSON.

use super::find::{Found, Hit, traits};
use durward_catalog::{
    ActionUse, ArnTemplate, Catalog, Location, Member, Operation, Protocol, Service, ShapeId, ShapeKind,
};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Operations shown whole; of more only the names.
const WHOLE: usize = 4;
/// Parameters deeper than this are cut.
const DEEPEST: usize = 3;

/// Everything found, as text.
pub fn as_text(catalog: &Catalog, found: &Found, out: &mut impl Write) -> io::Result<()> {
    if let Some((action, level)) = &found.action {
        writeln!(out, "{action}  IAM action, {}", level.as_str())?;
        let needing = needing(catalog, action);
        match needing.as_slice() {
            [] => writeln!(out, "  no operation of the SDK models needs it")?,
            needing => writeln!(out, "  needed by {}", needing.join(", "))?,
        }
    }
    let all: Vec<_> = found.models().collect();
    for (at, (service, operation)) in all.iter().take(WHOLE).enumerate() {
        if at > 0 || found.action.is_some() {
            writeln!(out)?;
        }
        operation_text(service, operation, out)?;
    }
    if all.len() > WHOLE {
        writeln!(out, "\n{} more operations; show one by its name", all.len() - WHOLE)?;
    }
    Ok(())
}

fn needing(catalog: &Catalog, action: &str) -> Vec<String> {
    catalog.operations_needing(action).into_iter().map(|(id, name)| format!("{id} {name}")).collect()
}

fn operation_text(service: &Service, operation: &Operation, out: &mut impl Write) -> io::Result<()> {
    let mut head = format!("{} {}  API operation", service.id, operation.name);
    let traits = traits(operation);
    if !traits.is_empty() {
        head = format!("{head}, {}", traits.join(", "));
    }
    writeln!(out, "{head}")?;
    writeln!(out, "  sent as     {}", sent_as(service, operation).join(", "))?;
    if operation.unsigned {
        writeln!(out, "              unsigned: the caller is not known by a signature")?;
    }
    if operation.actions.is_empty() {
        writeln!(
            out,
            "  IAM         {}:*unknown*, denied by default: no action is known for it",
            service.iam_prefix
        )?;
    }
    for (at, needed) in operation.actions.iter().enumerate() {
        let label = if at == 0 { "IAM" } else { "" };
        let when =
            needed.when_member.as_ref().map(|member| format!(" when {member} is given")).unwrap_or_default();
        writeln!(out, "  {label:<11} {} ({}){when}", needed.action, needed.access_level.as_str())?;
        if needed.resources.is_empty() {
            writeln!(out, "                on *, {}", why_any(needed))?;
        }
        for arn in &needed.resources {
            writeln!(out, "                on {}{}", arn.template, filled(arn))?;
        }
    }
    if durward_aws::decode::reads_more_than_the_catalog(service) {
        writeln!(
            out,
            "              what a request needs of these also depends on its values (versions, headers, statements)"
        )?;
    }
    members_text(service, "parameters", operation.input, out)?;
    members_text(service, "answer", operation.output, out)
}

fn why_any(needed: &ActionUse) -> &'static str {
    if needed.resource_level {
        "because the request does not name the resource"
    } else {
        "the action has no resource-level permissions"
    }
}

fn filled(arn: &ArnTemplate) -> String {
    let mut parts: Vec<String> = arn.fill.iter().map(|(name, member)| format!("{name} = {member}")).collect();
    parts.extend(arn.arn_member.as_ref().map(|member| format!("or the ARN in {member}")));
    if parts.is_empty() { String::new() } else { format!("  ({})", parts.join(", ")) }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Query => "query",
        Protocol::Ec2 => "ec2",
        Protocol::Json10 => "json 1.0",
        Protocol::Json11 => "json 1.1",
        Protocol::RestJson => "rest-json",
        Protocol::RestXml => "rest-xml",
        Protocol::RpcV2Cbor => "rpc-v2-cbor",
    }
}

/// How a request for the operation looks in each protocol of its service.
fn sent_as(service: &Service, operation: &Operation) -> Vec<String> {
    let prefix = service.target_prefix.as_deref().unwrap_or_default();
    let name = &operation.name;
    service
        .protocols
        .iter()
        .map(|protocol| {
            let form = match protocol {
                Protocol::Query | Protocol::Ec2 => format!("Action={name}, Version={}", service.api_version),
                Protocol::Json10 | Protocol::Json11 => format!("x-amz-target {prefix}.{name}"),
                Protocol::RpcV2Cbor => format!("/service/{prefix}/operation/{name}"),
                Protocol::RestJson | Protocol::RestXml => {
                    let query: Vec<String> = operation
                        .query
                        .iter()
                        .map(|(key, value)| {
                            value.as_ref().map_or(key.clone(), |value| format!("{key}={value}"))
                        })
                        .collect();
                    let query =
                        if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
                    format!("{} {}{query}", operation.method, operation.path)
                }
            };
            format!("{} ({form})", protocol_name(*protocol))
        })
        .collect()
}

fn members_text(
    service: &Service,
    title: &str,
    shape: Option<ShapeId>,
    out: &mut impl Write,
) -> io::Result<()> {
    let members = shape.map(|shape| service.members(shape)).unwrap_or_default();
    if members.is_empty() {
        return writeln!(out, "  {title:<11} none");
    }
    writeln!(out, "  {title:<11} * required")?;
    let mut seen = Vec::new();
    for member in members {
        member_text(service, member, 2, &mut seen, out)?;
    }
    Ok(())
}

fn member_text(
    service: &Service,
    member: &Member,
    depth: usize,
    seen: &mut Vec<ShapeId>,
    out: &mut impl Write,
) -> io::Result<()> {
    let name = format!("{}{}", member.name, if member.required { "*" } else { "" });
    let mut said = vec![type_name(service, member.shape)];
    said.extend(marks(service, member));
    writeln!(out, "{}{name}  {}", "  ".repeat(depth), said.join(", "))?;
    if let Some(structure) = inner_structure(service, member.shape)
        && depth < DEEPEST
        && !seen.contains(&structure)
    {
        seen.push(structure);
        for inner in service.members(structure) {
            member_text(service, inner, depth + 1, seen, out)?;
        }
        seen.pop();
    }
    Ok(())
}

/// Where a member travels, and what must be kept in mind of it.
fn marks(service: &Service, member: &Member) -> Vec<String> {
    let wire = member.wire_name.as_deref().unwrap_or(&member.name);
    let mut marks = Vec::new();
    match member.location {
        Location::Body | Location::StatusCode => {}
        Location::Uri => marks.push("in the path".to_owned()),
        Location::Query => marks.push(format!("query {wire}")),
        Location::Header => marks.push(format!("header {wire}")),
        Location::Headers => marks.push(format!("headers {wire}*")),
    }
    if is_sensitive(service, member) {
        marks.push("sensitive".to_owned());
    }
    marks
}

fn is_sensitive(service: &Service, member: &Member) -> bool {
    member.sensitive || service.shape(member.shape).is_some_and(|shape| shape.sensitive)
}

/// The structure that a member is, or is a list or map of.
fn inner_structure(service: &Service, shape: ShapeId) -> Option<ShapeId> {
    match &service.shape(shape)?.kind {
        ShapeKind::Structure { .. } => Some(shape),
        ShapeKind::List { member, .. } => inner_structure(service, *member),
        ShapeKind::Map { value, .. } => inner_structure(service, *value),
        _ => None,
    }
}

fn type_name(service: &Service, shape: ShapeId) -> String {
    let Some(shape) = service.shape(shape) else { return "unknown".to_owned() };
    match &shape.kind {
        ShapeKind::Structure { union: true, .. } => "one of".to_owned(),
        ShapeKind::Structure { .. } => "structure".to_owned(),
        ShapeKind::List { member, .. } => format!("list of {}", inner_name(service, *member)),
        ShapeKind::Map { value, .. } => format!("map to {}", inner_name(service, *value)),
        ShapeKind::String => "string".to_owned(),
        ShapeKind::Blob { streaming: true } => "streaming blob".to_owned(),
        ShapeKind::Blob { .. } => "blob".to_owned(),
        ShapeKind::Boolean => "boolean".to_owned(),
        ShapeKind::Integer => "integer".to_owned(),
        ShapeKind::Long => "long".to_owned(),
        ShapeKind::Float => "float".to_owned(),
        ShapeKind::Double => "double".to_owned(),
        ShapeKind::Timestamp { .. } => "timestamp".to_owned(),
        ShapeKind::Document => "document".to_owned(),
        ShapeKind::EventStream => "event stream".to_owned(),
    }
}

/// The type inside a list or map; lists of lists are written once, so that a type that holds itself ends.
fn inner_name(service: &Service, shape: ShapeId) -> String {
    match service.shape(shape).map(|shape| &shape.kind) {
        Some(ShapeKind::List { .. }) => "lists".to_owned(),
        Some(ShapeKind::Map { .. }) => "maps".to_owned(),
        _ => type_name(service, shape),
    }
}

/// Everything found, as JSON.
pub fn as_json(catalog: &Catalog, found: &Found) -> Value {
    let action = found.action.as_ref().map(|(action, level)| {
        json!({"action": action, "access_level": level.as_str(), "needed_by": needing(catalog, action)})
    });
    let operations: Vec<Value> =
        found.models().map(|(service, operation)| operation_json(service, operation)).collect();
    json!({"action": action, "operations": operations})
}

fn operation_json(service: &Service, operation: &Operation) -> Value {
    let actions: Vec<Value> = operation
        .actions
        .iter()
        .map(|needed| {
            let resources: Vec<Value> = needed
                .resources
                .iter()
                .map(|arn| {
                    let fill: serde_json::Map<String, Value> =
                        arn.fill.iter().map(|(name, member)| (name.clone(), json!(member))).collect();
                    json!({"template": arn.template, "fill": fill, "arn_member": arn.arn_member})
                })
                .collect();
            json!({
                "action": needed.action,
                "access_level": needed.access_level.as_str(),
                "when_member": needed.when_member,
                "resource_level_permissions": needed.resource_level,
                "resources": resources,
            })
        })
        .collect();
    let members = |shape: Option<ShapeId>| -> Vec<Value> {
        let mut seen = Vec::new();
        let members = shape.map(|shape| service.members(shape)).unwrap_or_default();
        members.iter().map(|member| member_json(service, member, &mut seen)).collect()
    };
    json!({
        "service": service.id,
        "name": operation.name,
        "iam_prefix": service.iam_prefix,
        "signing_name": service.signing_name,
        "sent_as": sent_as(service, operation),
        "unsigned": operation.unsigned,
        "traits": operation.traits,
        "actions": actions,
        "parameters": members(operation.input),
        "answer": members(operation.output),
    })
}

fn member_json(service: &Service, member: &Member, seen: &mut Vec<ShapeId>) -> Value {
    let mut value = json!({
        "name": member.name,
        "type": type_name(service, member.shape),
        "required": member.required,
        "sensitive": is_sensitive(service, member),
        "location": match member.location {
            Location::Body => "body",
            Location::Uri => "path",
            Location::Query => "query",
            Location::Header => "header",
            Location::Headers => "headers",
            Location::StatusCode => "status",
        },
    });
    if let Some(structure) = inner_structure(service, member.shape)
        && !seen.contains(&structure)
        && seen.len() < DEEPEST
    {
        seen.push(structure);
        let inner: Vec<Value> =
            service.members(structure).iter().map(|inner| member_json(service, inner, seen)).collect();
        seen.pop();
        value["members"] = Value::Array(inner);
    }
    value
}

/// The lines of a search.
pub fn hits_as_text(shown: &[Hit], all: usize, out: &mut impl Write) -> io::Result<()> {
    let name = |hit: &Hit| match &hit.operation {
        Some((service, operation)) => format!("{service} {operation}"),
        None => "(no operation)".to_owned(),
    };
    let widest = shown.iter().map(|hit| name(hit).len()).max().unwrap_or_default();
    for hit in shown {
        let actions: Vec<String> =
            hit.actions.iter().map(|(action, level)| format!("{action} ({})", level.as_str())).collect();
        let actions = if actions.is_empty() { "unknown action".to_owned() } else { actions.join(", ") };
        let traits =
            if hit.traits.is_empty() { String::new() } else { format!("  {}", hit.traits.join(", ")) };
        writeln!(out, "{:<widest$}  {actions}{traits}", name(hit))?;
    }
    match all {
        0 => writeln!(out, "nothing in the catalog holds all these words"),
        _ if all > shown.len() => writeln!(out, "{} more; use more words, or --limit", all - shown.len()),
        _ => Ok(()),
    }
}

/// A search as JSON.
pub fn hits_as_json(shown: &[Hit], all: usize) -> Value {
    let hits: Vec<Value> = shown
        .iter()
        .map(|hit| {
            let actions: Vec<Value> = hit
                .actions
                .iter()
                .map(|(action, level)| json!({"action": action, "access_level": level.as_str()}))
                .collect();
            json!({
                "service": hit.operation.as_ref().map(|(service, _)| service),
                "operation": hit.operation.as_ref().map(|(_, name)| name),
                "actions": actions,
                "traits": hit.traits,
            })
        })
        .collect();
    json!({"found": all, "hits": hits})
}
