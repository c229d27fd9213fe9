//! CloudWatch Logs: a log group's ARN ends in `:*`, a stream's in `:log-stream:<name>`.

use super::super::resources::{Context, by_template, demand, demand_any, push};
use super::super::text::malformed;
use durward_core::{AccessLevel, Demand, Refusal};
use serde_json::Value;

/// Operations whose resource is the stream.
const ON_STREAM: [&str; 4] = ["CreateLogStream", "DeleteLogStream", "GetLogEvents", "PutLogEvents"];

pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let mut groups: Vec<&str> = Vec::new();
    for member in ["logGroupName", "logGroupIdentifier"] {
        groups.extend(context.text(member));
    }
    for member in ["logGroupNames", "logGroupIdentifiers"] {
        for item in context.items(member) {
            let name = item.as_str().filter(|name| !name.is_empty());
            groups.push(name.ok_or_else(|| malformed(format!("an item of {member} is not a name")))?);
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    let stream =
        context.parameters.get("logStreamName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let mut out = Vec::new();
    for use_ in context.uses() {
        if !use_.action.starts_with("logs:") {
            by_template(context, use_, &mut out);
            continue;
        }
        for group in &groups {
            let base = context.arn_of("logs", "log-group:", group);
            let base = base.strip_suffix(":*").unwrap_or(&base);
            let arn = match stream {
                Some(stream) if ON_STREAM.contains(&context.op.name.as_str()) => {
                    format!("{base}:log-stream:{stream}")
                }
                _ => format!("{base}:*"),
            };
            push(&mut out, demand(&use_.action, use_.access_level, arn));
        }
    }
    let by_text = |text: &str| text.to_ascii_uppercase().contains("SOURCE");
    let otherwise = context.text("queryLanguage").is_some_and(|language| language != "CWLI");
    if context.op.name == "StartQuery" && (otherwise || context.text("queryString").is_some_and(by_text)) {
        // The text of the query may name log groups of its own.
        push(&mut out, demand_any("logs:StartQuery", context.level("logs:StartQuery", AccessLevel::Read)));
    }
    Ok(Some(out))
}
