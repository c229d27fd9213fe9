//! KMS: requests name a key by its id, an alias or the ARN of either. Re-encryption uses two keys.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, permissions_on_arns,
};
use durward_core::{AccessLevel, Refusal, RequiredPermission};

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    if context.operation_model.name == "ReEncrypt" {
        let mut out = Vec::new();
        for (action, member) in
            [("kms:ReEncryptFrom", "SourceKeyId"), ("kms:ReEncryptTo", "DestinationKeyId")]
        {
            out.push(match context.text_parameter(member) {
                Some(id) => permission_on_arn(action, AccessLevel::Write, key_arn(context, id)),
                // Then KMS takes the key that the ciphertext names (KMS API Reference, ReEncrypt).
                None => permission_on_any(action, AccessLevel::Write),
            });
        }
        return Ok(Some(out));
    }
    // IAM checks the operations on aliases on both the alias and the key (KMS Developer Guide, "Controlling access to
    // aliases").
    let members = ["KeyId", "TargetKeyId", "AliasName"];
    let arns: Vec<String> = members
        .iter()
        .filter_map(|member| context.text_parameter(member))
        .map(|id| key_arn(context, id))
        .collect();
    if arns.is_empty() {
        return Ok(None);
    }
    Ok(Some(permissions_on_arns(context, "kms:", &arns)))
}

fn key_arn(context: &PermissionContext<'_>, id: &str) -> String {
    let prefix = if id.starts_with("alias/") { "" } else { "key/" };
    context.resolve_arn("kms", prefix, id)
}
