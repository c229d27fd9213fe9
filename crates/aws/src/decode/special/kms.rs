//! KMS: a key is named by id, alias or the ARN of either; re-encryption uses two.

use super::super::resources::{Context, by_template, demand, demand_any, push};
use durward_core::{AccessLevel, Demand, Refusal};

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let mut out = Vec::new();
    if context.op.name == "ReEncrypt" {
        for (action, member) in
            [("kms:ReEncryptFrom", "SourceKeyId"), ("kms:ReEncryptTo", "DestinationKeyId")]
        {
            out.push(match context.text(member) {
                Some(id) => demand(action, AccessLevel::Write, key_arn(context, id)),
                // The ciphertext itself names the key.
                None => demand_any(action, AccessLevel::Write),
            });
        }
        return Ok(Some(out));
    }
    let members = ["KeyId", "TargetKeyId", "AliasName"];
    let arns: Vec<String> =
        members.iter().filter_map(|member| context.text(member)).map(|id| key_arn(context, id)).collect();
    if arns.is_empty() {
        return Ok(None);
    }
    for use_ in context.uses() {
        if use_.action.starts_with("kms:") {
            for arn in &arns {
                push(&mut out, demand(&use_.action, use_.access_level, arn.clone()));
            }
        } else {
            by_template(context, use_, &mut out);
        }
    }
    Ok(Some(out))
}

fn key_arn(context: &Context<'_>, id: &str) -> String {
    let prefix = if id.starts_with("alias/") { "" } else { "key/" };
    context.arn_of("kms", prefix, id)
}
