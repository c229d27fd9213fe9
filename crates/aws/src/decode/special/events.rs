//! EventBridge: a rule that is not on the default bus has the bus in its ARN, and an event goes to the bus that it names.

use super::super::resources::{Context, by_templates, demand, push};
use durward_core::{AccessLevel, Demand, Refusal, Resource};
use serde_json::Value;

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    if context.op.name == "PutEvents" {
        let mut out = Vec::new();
        let level = context.level("events:PutEvents", AccessLevel::Write);
        for entry in context.items("Entries") {
            let bus = entry.get("EventBusName").and_then(Value::as_str).filter(|bus| !bus.is_empty());
            let arn = context.arn_of("events", "event-bus/", bus.unwrap_or("default"));
            push(&mut out, demand("events:PutEvents", level, arn));
        }
        return Ok((!out.is_empty()).then_some(out));
    }
    let Some((rule, bus)) = context.text("Name").or(context.text("Rule")).zip(context.text("EventBusName"))
    else {
        return Ok(None);
    };
    let bus = bus.rsplit_once(":event-bus/").map_or(bus, |(_, name)| name);
    if !context.op.name.contains("Rule") || bus == "default" {
        return Ok(None);
    }
    let mut demands = by_templates(context);
    let on_default = context.arn("events", &format!("rule/{rule}"));
    for demand in &mut demands {
        if let Resource::Arn(arn) = &mut demand.resource
            && *arn == on_default
        {
            *arn = context.arn("events", &format!("rule/{bus}/{rule}"));
        }
    }
    Ok(Some(demands))
}
