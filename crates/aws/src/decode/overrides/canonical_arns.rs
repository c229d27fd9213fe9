//! ARNs in which a name has another position than the catalog's templates give it.

use super::super::permission_templates::PermissionContext;
use durward_core::{RequiredPermission, Resource};

type ArnRewrite = fn(&str) -> Option<String>;

const ARN_REWRITES: [(&str, ArnRewrite); 2] =
    [("autoscaling", canonicalize_auto_scaling_group), ("ecs", canonicalize_task_definition)];

pub(super) fn has_arn_rewrite(id: &str) -> bool {
    ARN_REWRITES.iter().any(|(known, _)| *known == id)
}

#[cfg(test)]
pub(super) fn service_ids() -> impl Iterator<Item = &'static str> {
    ARN_REWRITES.iter().map(|(id, _)| *id)
}

/// Rewrites such ARNs to the form that AWS uses.
pub(super) fn canonicalize_arns(context: &PermissionContext<'_>, permissions: &mut [RequiredPermission]) {
    let Some((_, rewrite)) = ARN_REWRITES.iter().find(|(id, _)| *id == context.service.id) else { return };
    for permission in permissions {
        if let Resource::Arn(arn) = &mut permission.resource
            && let Some(canonical) = rewrite(arn)
        {
            *arn = canonical;
        }
    }
}

/// The parameter `family:revision` is two parts of the ARN.
fn canonicalize_task_definition(arn: &str) -> Option<String> {
    let (head, family) = arn.split_once(":task-definition/*:")?;
    let revision = if family.contains(':') { "" } else { ":*" };
    Some(format!("{head}:task-definition/{family}{revision}"))
}

/// Requests give the friendly name; the generated id in front of it is unknown.
fn canonicalize_auto_scaling_group(arn: &str) -> Option<String> {
    let (head, rest) = arn.split_once(":autoScalingGroup:")?;
    let name = rest.strip_suffix(":autoScalingGroupName/*")?;
    Some(format!("{head}:autoScalingGroup:*:autoScalingGroupName/{name}"))
}
