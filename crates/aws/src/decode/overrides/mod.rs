//! Services whose resources or actions cannot be read off the models, one file each. A service without an entry, and an
//! operation its file does not treat, goes by the catalog's templates.

mod canonical_arns;
mod copy_sources;
mod dynamodb;
mod ec2;
mod events;
mod iam;
mod kms;
mod lambda;
mod logs;
mod partiql;
mod resource_tagging;
mod s3;
mod secretsmanager;
mod sns;
mod sqs;
mod ssm;
mod sts;
mod wafv2;

use super::permission_templates::{PermissionContext, permission_on_any, permissions_by_templates};
use durward_catalog::ServiceModel;
use durward_core::{AccessLevel, OperationTraits, Refusal, RequiredPermission};

/// Demands of an operation that a service file treats; `None` leaves it to the templates.
type PermissionOverride = fn(&PermissionContext<'_>) -> Result<Option<Vec<RequiredPermission>>, Refusal>;

const SERVICE_OVERRIDES: [(&str, PermissionOverride); 15] = [
    ("dynamodb", dynamodb::required_permissions),
    ("ec2", ec2::required_permissions),
    ("events", events::required_permissions),
    ("iam", iam::required_permissions),
    ("kms", kms::required_permissions),
    ("lambda", lambda::required_permissions),
    ("logs", logs::required_permissions),
    ("resourcegroupstaggingapi", resource_tagging::required_permissions),
    ("s3", s3::required_permissions),
    ("secretsmanager", secretsmanager::required_permissions),
    ("sns", sns::required_permissions),
    ("sqs", sqs::required_permissions),
    ("ssm", ssm::required_permissions),
    ("sts", sts::required_permissions),
    ("wafv2", wafv2::required_permissions),
];

/// Whether the service has a file here.
pub(super) fn has_override(id: &str) -> bool {
    SERVICE_OVERRIDES.iter().any(|(known, _)| *known == id)
        || canonical_arns::has_arn_rewrite(id)
        || copy_sources::has_copy_sources(id)
}

/// The traits of the request: the operation's, and those that only some parameters give it.
pub(super) fn request_traits(
    context: &PermissionContext<'_>,
    permissions: &[RequiredPermission],
) -> OperationTraits {
    let mut traits = context.operation_model.traits;
    traits.escalates |= permissions.iter().any(|permission| {
        permission.access_level == AccessLevel::PermissionsManagement || permission.action == "iam:PassRole"
    });
    // The instance runs its user data when it starts next.
    let user_data = context.service.id == "ec2"
        && context.operation_model.name == "ModifyInstanceAttribute"
        && context.has_parameter("UserData");
    traits.indirect |= user_data;
    traits
}

/// Everything policy must allow for an operation; never empty.
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Vec<RequiredPermission>, Refusal> {
    let special =
        SERVICE_OVERRIDES.iter().find(|(id, _)| *id == context.service.id).map(|(_, special)| special);
    let treated = match special {
        Some(special) => special(context)?,
        None => None,
    };
    let mut permissions = treated.unwrap_or_else(|| permissions_by_templates(context));
    canonical_arns::canonicalize_arns(context, &mut permissions);
    copy_sources::push_copy_source_permissions(context, &mut permissions);
    if permissions.is_empty() {
        permissions.push(unknown_permission(context.service));
    }
    Ok(permissions)
}

/// What an operation demands of which nothing is known: its own action, denied unless a policy names it, at the strictest level.
pub(super) fn unknown_permission(service: &ServiceModel) -> RequiredPermission {
    permission_on_any(&format!("{}:*unknown*", service.iam_prefix), AccessLevel::PermissionsManagement)
}

/// An operation of which nothing is known may do anything.
pub(super) const UNKNOWN_OPERATION_TRAITS: OperationTraits =
    OperationTraits { irreversible: true, escalates: true, indirect: true, returns_credentials: true };
