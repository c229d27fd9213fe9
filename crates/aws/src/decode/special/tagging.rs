//! The Resource Groups Tagging API: it tags and untags what `ResourceARNList` names, and IAM asks about it on `*` alone.

use super::super::resources::{Context, by_templates, demand, push};
use durward_core::{AccessLevel, Demand, Refusal};
use serde_json::Value;

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    if !matches!(context.op.name.as_str(), "TagResources" | "UntagResources") {
        return Ok(None);
    }
    let action = format!("tag:{}", context.op.name);
    let level = context.level(&action, AccessLevel::Tagging);
    let mut out = by_templates(context);
    for arn in context.items("ResourceARNList").iter().filter_map(Value::as_str) {
        push(&mut out, demand(&action, level, arn.to_owned()));
    }
    Ok(Some(out))
}
