//! Secrets Manager: the ARN of a secret ends in six random characters that a name does not tell: `name-??????`.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, push_template_permissions, push_unique,
};
use super::super::request_text::malformed_request;
use durward_core::{AccessLevel, Refusal, RequiredPermission};

pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let mut out = Vec::new();
    if context.operation_model.name == "BatchGetSecretValue" {
        out.push(permission_on_any("secretsmanager:BatchGetSecretValue", AccessLevel::Read));
        let ids = context.list_parameter("SecretIdList");
        for id in ids {
            let id = id.as_str().ok_or_else(|| malformed_request("an item of SecretIdList is not text"))?;
            push_unique(
                &mut out,
                permission_on_arn(
                    "secretsmanager:GetSecretValue",
                    AccessLevel::Read,
                    secret_arn(context, id),
                ),
            );
        }
        if ids.is_empty() {
            // Chosen by filters: any secret may be among them.
            out.push(permission_on_any("secretsmanager:GetSecretValue", AccessLevel::Read));
        }
        return Ok(Some(out));
    }
    let name = if context.operation_model.name == "CreateSecret" { "Name" } else { "SecretId" };
    let Some(id) = context.text_parameter(name) else { return Ok(None) };
    let arn = secret_arn(context, id);
    for required_action in context.applicable_actions() {
        if required_action.action.starts_with("secretsmanager:") {
            push_unique(
                &mut out,
                permission_on_arn(&required_action.action, required_action.access_level, arn.clone()),
            );
        } else {
            push_template_permissions(context, required_action, &mut out);
        }
    }
    Ok(Some(out))
}

fn secret_arn(context: &PermissionContext<'_>, id: &str) -> String {
    if id.starts_with("arn:") {
        // AWS takes an ARN without its end, too.
        let whole = id
            .rsplit_once('-')
            .is_some_and(|(_, end)| end.len() == 6 && end.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        return if whole { id.to_owned() } else { format!("{id}-??????") };
    }
    context.build_arn("secretsmanager", &format!("secret:{id}-??????"))
}
