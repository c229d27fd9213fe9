//! EventBridge: the ARN of a rule contains its event bus, unless that is the default bus. Events go to the bus that they name.

use super::super::permission_templates::{PermissionContext, permission_on_arn, permissions_by_templates};
use durward_core::{AccessLevel, Refusal, RequiredPermission, Resource};
use serde_json::Value;

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    if context.operation_model.name == "PutEvents" {
        let mut out = Vec::new();
        let level = context.access_level("events:PutEvents", AccessLevel::Write);
        for entry in context.list_parameter("Entries") {
            // Without a name, an event goes to the default bus (EventBridge API Reference, PutEventsRequestEntry).
            let bus = entry.get("EventBusName").and_then(Value::as_str).filter(|bus| !bus.is_empty());
            let arn = context.resolve_arn("events", "event-bus/", bus.unwrap_or("default"));
            out.push(permission_on_arn("events:PutEvents", level, arn));
        }
        return Ok((!out.is_empty()).then_some(out));
    }
    let Some((rule, bus)) = context
        .text_parameter("Name")
        .or(context.text_parameter("Rule"))
        .zip(context.text_parameter("EventBusName"))
    else {
        return Ok(None);
    };
    let bus = bus.rsplit_once(":event-bus/").map_or(bus, |(_, name)| name);
    if !context.operation_model.name.contains("Rule") || bus == "default" {
        return Ok(None);
    }
    let mut permissions = permissions_by_templates(context);
    let on_default = context.build_arn("events", &format!("rule/{rule}"));
    for permission in &mut permissions {
        if let Resource::Arn(arn) = &mut permission.resource
            && *arn == on_default
        {
            *arn = context.build_arn("events", &format!("rule/{bus}/{rule}"));
        }
    }
    Ok(Some(permissions))
}
