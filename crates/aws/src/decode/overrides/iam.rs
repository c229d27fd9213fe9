//! IAM: the ARN of an entity that is created under a path contains the path (IAM User Guide, "IAM identifiers"). Everything
//! else goes by the templates.

use super::super::permission_templates::{PermissionContext, permission_on_arn, push_template_permissions};
use durward_core::{Refusal, RequiredPermission};

/// Create operations: the member that names the entity, and its resource type in the ARN.
const CREATE_OPERATIONS: [(&str, &str, &str); 5] = [
    ("CreateGroup", "GroupName", "group"),
    ("CreateInstanceProfile", "InstanceProfileName", "instance-profile"),
    ("CreatePolicy", "PolicyName", "policy"),
    ("CreateRole", "RoleName", "role"),
    ("CreateUser", "UserName", "user"),
];

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let Some((_, member, kind)) =
        CREATE_OPERATIONS.iter().find(|(operation, _, _)| *operation == context.operation_model.name)
    else {
        return Ok(None);
    };
    let Some(name) = context.text_parameter(member) else { return Ok(None) };
    let path = context.text_parameter("Path").unwrap_or("/");
    let arn = format!("arn:{}:iam::{}:{kind}{path}{name}", context.partition, context.scope.account);
    let mut out = Vec::new();
    for required_action in context.applicable_actions() {
        let is_on_entity = required_action
            .action
            .strip_prefix("iam:")
            .is_some_and(|action| action == context.operation_model.name || action.starts_with("Tag"));
        if is_on_entity {
            out.push(permission_on_arn(&required_action.action, required_action.access_level, arn.clone()));
        } else {
            push_template_permissions(context, required_action, &mut out);
        }
    }
    Ok(Some(out))
}
