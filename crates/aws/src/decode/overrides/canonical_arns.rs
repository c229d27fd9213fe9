//! Names that stand in an ARN elsewhere than the catalog's templates put them.

use super::super::permission_templates::PermissionContext;
use durward_core::{RequiredPermission, Resource};

type ArnRewrite = fn(&str) -> Option<String>;

const ARN_REWRITES: [(&str, ArnRewrite); 2] =
    [("autoscaling", canonicalize_auto_scaling_group), ("ecs", canonicalize_task_definition)];

pub(super) fn has_arn_rewrite(id: &str) -> bool {
    ARN_REWRITES.iter().any(|(known, _)| *known == id)
}

/// Puts them where they belong.
pub(super) fn canonicalize_arns(context: &PermissionContext<'_>, permissions: &mut [RequiredPermission]) {
    let Some((_, place)) = ARN_REWRITES.iter().find(|(id, _)| *id == context.service.id) else { return };
    for permission in permissions {
        if let Resource::Arn(arn) = &mut permission.resource
            && let Some(right) = place(arn)
        {
            *arn = right;
        }
    }
}

/// `family:revision` is one parameter and two parts of the ARN.
fn canonicalize_task_definition(arn: &str) -> Option<String> {
    let (head, named) = arn.split_once(":task-definition/*:")?;
    let revision = if named.contains(':') { "" } else { ":*" };
    Some(format!("{head}:task-definition/{named}{revision}"))
}

/// What a request names is the friendly name; the id before it nobody says.
fn canonicalize_auto_scaling_group(arn: &str) -> Option<String> {
    let (head, rest) = arn.split_once(":autoScalingGroup:")?;
    let name = rest.strip_suffix(":autoScalingGroupName/*")?;
    Some(format!("{head}:autoScalingGroup:*:autoScalingGroupName/{name}"))
}
