//! Secrets Manager: the ARN of a secret ends in six random characters that a name does not tell: `name-??????`.

use super::super::resources::{Context, by_template, demand, demand_any, push};
use super::super::text::malformed;
use durward_core::{AccessLevel, Demand, Refusal};

pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let mut out = Vec::new();
    if context.op.name == "BatchGetSecretValue" {
        out.push(demand_any("secretsmanager:BatchGetSecretValue", AccessLevel::Read));
        let ids = context.items("SecretIdList");
        for id in ids {
            let id = id.as_str().ok_or_else(|| malformed("an item of SecretIdList is not text"))?;
            push(
                &mut out,
                demand("secretsmanager:GetSecretValue", AccessLevel::Read, secret_arn(context, id)),
            );
        }
        if ids.is_empty() {
            // Chosen by filters: any secret may be among them.
            out.push(demand_any("secretsmanager:GetSecretValue", AccessLevel::Read));
        }
        return Ok(Some(out));
    }
    let name = if context.op.name == "CreateSecret" { "Name" } else { "SecretId" };
    let Some(id) = context.text(name) else { return Ok(None) };
    let arn = secret_arn(context, id);
    for use_ in context.uses() {
        if use_.action.starts_with("secretsmanager:") {
            push(&mut out, demand(&use_.action, use_.access_level, arn.clone()));
        } else {
            by_template(context, use_, &mut out);
        }
    }
    Ok(Some(out))
}

fn secret_arn(context: &Context<'_>, id: &str) -> String {
    if id.starts_with("arn:") {
        // AWS takes an ARN without its end, too.
        let whole = id
            .rsplit_once('-')
            .is_some_and(|(_, end)| end.len() == 6 && end.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        return if whole { id.to_owned() } else { format!("{id}-??????") };
    }
    context.arn("secretsmanager", &format!("secret:{id}-??????"))
}
