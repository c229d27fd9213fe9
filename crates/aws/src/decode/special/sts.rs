//! STS: assuming a role may also tag the session and set its source identity.

use super::super::resources::{Context, demand, demand_any, push};
use durward_core::{AccessLevel, Demand, Refusal};

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let name = context.op.name.as_str();
    if !matches!(name, "AssumeRole" | "AssumeRoleWithSAML" | "AssumeRoleWithWebIdentity") {
        return Ok(None);
    }
    let mut out = Vec::new();
    let mut add = |action: &str, level: AccessLevel| match context.text("RoleArn") {
        Some(role) if role.starts_with("arn:") => push(&mut out, demand(action, level, role.to_owned())),
        _ => push(&mut out, demand_any(action, level)),
    };
    let action = format!("sts:{name}");
    add(&action, context.level(&action, AccessLevel::Write));
    if context.has("Tags") || context.has("TransitiveTagKeys") {
        add("sts:TagSession", AccessLevel::Tagging);
    }
    if context.has("SourceIdentity") {
        add("sts:SetSourceIdentity", AccessLevel::Write);
    }
    if context.has("ProvidedContexts") {
        add("sts:SetContext", AccessLevel::Write);
    }
    Ok(Some(out))
}
