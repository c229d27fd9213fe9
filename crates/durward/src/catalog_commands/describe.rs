//! Actions and operations of the catalog as text for a terminal and as JSON.

use super::lookup::{CatalogMatch, SearchHit, trait_names};
use durward_catalog::{
    ArnTemplate, AwsProtocol, Catalog, MemberLocation, OperationModel, RequiredAction, ServiceModel, ShapeId,
    ShapeKind, ShapeMember,
};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Operations that are described in full: more would fill several screens.
const MAX_DETAILED_OPERATIONS: usize = 4;
/// Depth to which members of structures are printed. Some types contain themselves.
const MAX_MEMBER_DEPTH: usize = 3;

/// Writes a match as text.
pub fn write_match_text(catalog: &Catalog, found: &CatalogMatch, out: &mut impl Write) -> io::Result<()> {
    if let Some((action, level)) = &found.action {
        writeln!(out, "{action}  IAM action, {}", level.as_str())?;
        let needing = operations_needing_action(catalog, action);
        match needing.as_slice() {
            [] => writeln!(out, "  no operation of the SDK models needs it")?,
            needing => writeln!(out, "  needed by {}", needing.join(", "))?,
        }
    }
    let all: Vec<_> = found.matched_operations().collect();
    for (at, (service, operation)) in all.iter().take(MAX_DETAILED_OPERATIONS).enumerate() {
        if at > 0 || found.action.is_some() {
            writeln!(out)?;
        }
        write_operation(service, operation, out)?;
    }
    if all.len() > MAX_DETAILED_OPERATIONS {
        writeln!(
            out,
            "\n{} more operations; show one of them by its name",
            all.len() - MAX_DETAILED_OPERATIONS
        )?;
    }
    Ok(())
}

fn operations_needing_action(catalog: &Catalog, action: &str) -> Vec<String> {
    catalog.operations_needing(action).into_iter().map(|(id, name)| format!("{id} {name}")).collect()
}

fn write_operation(
    service: &ServiceModel,
    operation: &OperationModel,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut head = format!("{} {}  API operation", service.id, operation.name);
    let traits = trait_names(operation);
    if !traits.is_empty() {
        head = format!("{head}, {}", traits.join(", "));
    }
    writeln!(out, "{head}")?;
    writeln!(out, "  sent as     {}", request_forms(service, operation).join(", "))?;
    if operation.is_unsigned {
        writeln!(out, "              unsigned: no signature identifies the caller")?;
    }
    if operation.required_actions.is_empty() {
        writeln!(
            out,
            "  IAM         {}:*unknown*, denied by default: the catalog has no action for it",
            service.iam_prefix
        )?;
    }
    for (at, needed) in operation.required_actions.iter().enumerate() {
        let label = if at == 0 { "IAM" } else { "" };
        let when = needed
            .required_if_member
            .as_ref()
            .map(|member| format!(" when {member} is given"))
            .unwrap_or_default();
        writeln!(out, "  {label:<11} {} ({}){when}", needed.action, needed.access_level.as_str())?;
        if needed.resources.is_empty() {
            writeln!(out, "                on *, {}", wildcard_resource_reason(needed))?;
        }
        for arn in &needed.resources {
            writeln!(out, "                on {}{}", arn.template, format_arn_fields(arn))?;
        }
    }
    if durward_aws::decode::has_service_override(service) {
        writeln!(
            out,
            "              which of these a request needs also depends on its values (versions, headers, statements)"
        )?;
    }
    write_members(service, "parameters", operation.input_shape, out)?;
    write_members(service, "response", operation.output_shape, out)
}

fn wildcard_resource_reason(needed: &RequiredAction) -> &'static str {
    if needed.has_resource_level_permissions {
        "because the request does not name the resource"
    } else {
        "the action has no resource-level permissions"
    }
}

fn format_arn_fields(arn: &ArnTemplate) -> String {
    let mut parts: Vec<String> =
        arn.placeholder_members.iter().map(|(name, member)| format!("{name} = {member}")).collect();
    parts.extend(arn.arn_member.as_ref().map(|member| format!("or the ARN in {member}")));
    if parts.is_empty() { String::new() } else { format!("  ({})", parts.join(", ")) }
}

fn protocol_name(protocol: AwsProtocol) -> &'static str {
    match protocol {
        AwsProtocol::Query => "query",
        AwsProtocol::Ec2 => "ec2",
        AwsProtocol::Json10 => "json 1.0",
        AwsProtocol::Json11 => "json 1.1",
        AwsProtocol::RestJson => "rest-json",
        AwsProtocol::RestXml => "rest-xml",
        AwsProtocol::RpcV2Cbor => "rpc-v2-cbor",
    }
}

/// The form of a request for the operation in each protocol of its service.
fn request_forms(service: &ServiceModel, operation: &OperationModel) -> Vec<String> {
    let prefix = service.target_prefix.as_deref().unwrap_or_default();
    let name = &operation.name;
    service
        .protocols
        .iter()
        .map(|protocol| {
            let form = match protocol {
                AwsProtocol::Query | AwsProtocol::Ec2 => {
                    format!("Action={name}, Version={}", service.api_version)
                }
                AwsProtocol::Json10 | AwsProtocol::Json11 => format!("x-amz-target {prefix}.{name}"),
                AwsProtocol::RpcV2Cbor => format!("/service/{prefix}/operation/{name}"),
                AwsProtocol::RestJson | AwsProtocol::RestXml => {
                    let query: Vec<String> = operation
                        .query_literals
                        .iter()
                        .map(|(key, value)| {
                            value.as_ref().map_or(key.clone(), |value| format!("{key}={value}"))
                        })
                        .collect();
                    let query =
                        if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
                    format!("{} {}{query}", operation.http_method, operation.path_template)
                }
            };
            format!("{} ({form})", protocol_name(*protocol))
        })
        .collect()
}

fn write_members(
    service: &ServiceModel,
    title: &str,
    shape: Option<ShapeId>,
    out: &mut impl Write,
) -> io::Result<()> {
    let members = shape.map(|shape| service.structure_members(shape)).unwrap_or_default();
    if members.is_empty() {
        return writeln!(out, "  {title:<11} none");
    }
    writeln!(out, "  {title:<11} * required")?;
    let mut seen = Vec::new();
    for member in members {
        write_member(service, member, 2, &mut seen, out)?;
    }
    Ok(())
}

fn write_member(
    service: &ServiceModel,
    member: &ShapeMember,
    depth: usize,
    seen: &mut Vec<ShapeId>,
    out: &mut impl Write,
) -> io::Result<()> {
    let name = format!("{}{}", member.name, if member.is_required { "*" } else { "" });
    let mut notes = vec![type_name(service, member.shape)];
    notes.extend(member_annotations(service, member));
    writeln!(out, "{}{name}  {}", "  ".repeat(depth), notes.join(", "))?;
    if let Some(structure) = element_structure(service, member.shape)
        && depth < MAX_MEMBER_DEPTH
        && !seen.contains(&structure)
    {
        seen.push(structure);
        for inner in service.structure_members(structure) {
            write_member(service, inner, depth + 1, seen, out)?;
        }
        seen.pop();
    }
    Ok(())
}

/// The place of a member in the HTTP message, and a mark if it is sensitive.
fn member_annotations(service: &ServiceModel, member: &ShapeMember) -> Vec<String> {
    let wire = member.wire_name.as_deref().unwrap_or(&member.name);
    let mut marks = Vec::new();
    match member.location {
        MemberLocation::Body | MemberLocation::StatusCode => {}
        MemberLocation::Uri => marks.push("in the path".to_owned()),
        MemberLocation::Query => marks.push(format!("query {wire}")),
        MemberLocation::Header => marks.push(format!("header {wire}")),
        MemberLocation::PrefixHeaders => marks.push(format!("headers {wire}*")),
    }
    if is_sensitive(service, member) {
        marks.push("sensitive".to_owned());
    }
    marks
}

fn is_sensitive(service: &ServiceModel, member: &ShapeMember) -> bool {
    member.is_sensitive || service.shape(member.shape).is_some_and(|shape| shape.is_sensitive)
}

/// The structure of a member: its own type, or the element type of its lists and maps.
fn element_structure(service: &ServiceModel, shape: ShapeId) -> Option<ShapeId> {
    match &service.shape(shape)?.kind {
        ShapeKind::Structure { .. } => Some(shape),
        ShapeKind::List { member, .. } => element_structure(service, *member),
        ShapeKind::Map { value, .. } => element_structure(service, *value),
        _ => None,
    }
}

fn type_name(service: &ServiceModel, shape: ShapeId) -> String {
    let Some(shape) = service.shape(shape) else { return "unknown".to_owned() };
    match &shape.kind {
        ShapeKind::Structure { is_union: true, .. } => "one of".to_owned(),
        ShapeKind::Structure { .. } => "structure".to_owned(),
        ShapeKind::List { member, .. } => format!("list of {}", element_type_name(service, *member)),
        ShapeKind::Map { value, .. } => format!("map to {}", element_type_name(service, *value)),
        ShapeKind::String => "string".to_owned(),
        ShapeKind::Blob { is_streaming: true } => "streaming blob".to_owned(),
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

/// The type inside a list or map. Lists of lists are not followed: a type may contain itself (DynamoDB's `AttributeValue`).
fn element_type_name(service: &ServiceModel, shape: ShapeId) -> String {
    match service.shape(shape).map(|shape| &shape.kind) {
        Some(ShapeKind::List { .. }) => "lists".to_owned(),
        Some(ShapeKind::Map { .. }) => "maps".to_owned(),
        _ => type_name(service, shape),
    }
}

/// A match as JSON.
pub fn match_to_json(catalog: &Catalog, found: &CatalogMatch) -> Value {
    let action = found.action.as_ref().map(|(action, level)| {
        json!({"action": action, "access_level": level.as_str(), "needed_by": operations_needing_action(catalog, action)})
    });
    let operations: Vec<Value> =
        found.matched_operations().map(|(service, operation)| operation_json(service, operation)).collect();
    json!({"action": action, "operations": operations})
}

fn operation_json(service: &ServiceModel, operation: &OperationModel) -> Value {
    let actions: Vec<Value> = operation
        .required_actions
        .iter()
        .map(|needed| {
            let resources: Vec<Value> = needed
                .resources
                .iter()
                .map(|arn| {
                    let fill: serde_json::Map<String, Value> = arn
                        .placeholder_members
                        .iter()
                        .map(|(name, member)| (name.clone(), json!(member)))
                        .collect();
                    json!({"template": arn.template, "fill": fill, "arn_member": arn.arn_member})
                })
                .collect();
            json!({
                "action": needed.action,
                "access_level": needed.access_level.as_str(),
                "when_member": needed.required_if_member,
                "resource_level_permissions": needed.has_resource_level_permissions,
                "resources": resources,
            })
        })
        .collect();
    let members = |shape: Option<ShapeId>| -> Vec<Value> {
        let mut seen = Vec::new();
        let members = shape.map(|shape| service.structure_members(shape)).unwrap_or_default();
        members.iter().map(|member| member_json(service, member, &mut seen)).collect()
    };
    json!({
        "service": service.id,
        "name": operation.name,
        "iam_prefix": service.iam_prefix,
        "signing_name": service.signing_name,
        "request_forms": request_forms(service, operation),
        "unsigned": operation.is_unsigned,
        "traits": operation.traits,
        "actions": actions,
        "parameters": members(operation.input_shape),
        "response": members(operation.output_shape),
    })
}

fn member_json(service: &ServiceModel, member: &ShapeMember, seen: &mut Vec<ShapeId>) -> Value {
    let mut value = json!({
        "name": member.name,
        "type": type_name(service, member.shape),
        "required": member.is_required,
        "sensitive": is_sensitive(service, member),
        "location": match member.location {
            MemberLocation::Body => "body",
            MemberLocation::Uri => "path",
            MemberLocation::Query => "query",
            MemberLocation::Header => "header",
            MemberLocation::PrefixHeaders => "headers",
            MemberLocation::StatusCode => "status",
        },
    });
    if let Some(structure) = element_structure(service, member.shape)
        && !seen.contains(&structure)
        && seen.len() < MAX_MEMBER_DEPTH
    {
        seen.push(structure);
        let inner: Vec<Value> = service
            .structure_members(structure)
            .iter()
            .map(|inner| member_json(service, inner, seen))
            .collect();
        seen.pop();
        value["members"] = Value::Array(inner);
    }
    value
}

/// Writes the results of a search, one on each line.
pub fn write_search_hits(shown: &[SearchHit], all: usize, out: &mut impl Write) -> io::Result<()> {
    let name = |hit: &SearchHit| match &hit.operation {
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
        0 => writeln!(out, "nothing in the catalog matches all these words"),
        _ if all > shown.len() => writeln!(out, "{} more; add words, or raise --limit", all - shown.len()),
        _ => Ok(()),
    }
}

/// The results of a search as JSON.
pub fn search_hits_to_json(shown: &[SearchHit], all: usize) -> Value {
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
