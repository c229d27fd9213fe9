//! Secrets Manager: the ARN of a secret ends in a hyphen and six random characters, which the name does not contain:
//! `name-??????` (Secrets Manager User Guide, "What's in a Secrets Manager secret?").

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, permissions_on_arns,
};
use crate::refusals::malformed_request;
use durward_core::{AccessLevel, Refusal, RequiredPermission};

pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    if context.operation_model.name == "BatchGetSecretValue" {
        let mut out = Vec::new();
        out.push(permission_on_any("secretsmanager:BatchGetSecretValue", AccessLevel::Read));
        let ids = context.list_parameter("SecretIdList");
        for id in ids {
            let id = id.as_str().ok_or_else(|| malformed_request("an item of SecretIdList is not text"))?;
            out.push(permission_on_arn(
                "secretsmanager:GetSecretValue",
                AccessLevel::Read,
                secret_arn(context, id),
            ));
        }
        if ids.is_empty() {
            // The secrets are chosen by filters: any may be among them.
            out.push(permission_on_any("secretsmanager:GetSecretValue", AccessLevel::Read));
        }
        return Ok(Some(out));
    }
    let name = if context.operation_model.name == "CreateSecret" { "Name" } else { "SecretId" };
    let Some(id) = context.text_parameter(name) else { return Ok(None) };
    let arn = secret_arn(context, id);
    Ok(Some(permissions_on_arns(context, "secretsmanager:", &[arn])))
}

fn secret_arn(context: &PermissionContext<'_>, id: &str) -> String {
    if id.starts_with("arn:") {
        // Secrets Manager also accepts an ARN without the random characters.
        let whole = id
            .rsplit_once('-')
            .is_some_and(|(_, end)| end.len() == 6 && end.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        return if whole { id.to_owned() } else { format!("{id}-??????") };
    }
    context.build_arn("secretsmanager", &format!("secret:{id}-??????"))
}
