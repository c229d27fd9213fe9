//! Services whose resources or actions the catalog's templates cannot give, one file each; `canonical_arns` and
//! `copy_sources` correct many services by tables, and `partiql` reads DynamoDB's statements.
//!
//! A service without an entry, and an operation that its file does not cover, uses the catalog's templates. To add an
//! override, write a file with a `required_permissions` function and list it in [`SERVICE_OVERRIDES`].

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
use crate::refusals::{malformed_request, quote_for_message};
use durward_catalog::ServiceModel;
use durward_core::{
    AccessLevel, Arn, OperationTraits, Refusal, RefusalReason, RequiredPermission, Resource,
    UNKNOWN_OPERATION_ACTION, limits,
};
use serde_json::Value;
use std::collections::HashSet;

/// The required permissions of an operation; `None` leaves it to the templates.
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

/// Returns true if the service has an override.
pub(super) fn has_override(id: &str) -> bool {
    SERVICE_OVERRIDES.iter().any(|(known, _)| *known == id)
        || canonical_arns::has_arn_rewrite(id)
        || copy_sources::has_copy_sources(id)
}

/// The traits of a request: those of its operation, and those that only some parameters bring.
pub(super) fn request_traits(
    context: &PermissionContext<'_>,
    permissions: &[RequiredPermission],
) -> OperationTraits {
    let mut traits = context.operation_model.traits;
    // `iam:PassRole` gives a service a role whose rights the caller need not have (IAM User Guide, "Grant a user permissions to
    // pass a role").
    traits.escalates |= permissions.iter().any(|permission| {
        permission.access_level == AccessLevel::PermissionsManagement || permission.action == "iam:PassRole"
    });
    traits.indirect |= context.service.id == "ec2" && ec2::changes_user_data(context);
    traits
}

/// Everything that policy must allow for an operation; never empty, each permission once.
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Vec<RequiredPermission>, Refusal> {
    let service_override = SERVICE_OVERRIDES.iter().find(|(id, _)| *id == context.service.id);
    let overridden = match service_override {
        Some((_, required_permissions)) => required_permissions(context)?,
        None => None,
    };
    let mut permissions = overridden.unwrap_or_else(|| permissions_by_templates(context));
    canonical_arns::canonicalize_arns(context, &mut permissions);
    copy_sources::push_copy_source_permissions(context, &mut permissions);
    let mut permissions = remove_duplicates(permissions);
    refuse_open_arns(context, &permissions)?;
    if permissions.len() > limits::MAX_REQUIRED_PERMISSIONS {
        return Err(Refusal::new(
            RefusalReason::TooLarge,
            format!("the request needs more than {} permissions; split it", limits::MAX_REQUIRED_PERMISSIONS),
        ));
    }
    // Without any permission there would be nothing to decide, and nothing to deny.
    if permissions.is_empty() {
        permissions.push(unknown_permission(context.service));
    }
    Ok(permissions)
}

/// Refuses a request that names an ARN with a wildcard before its resource: a policy that permits by patterns could match it, and
/// AWS could find another resource. The catalog's templates may have wildcards there (documents of any account), so only what the
/// request itself says counts.
fn refuse_open_arns(
    context: &PermissionContext<'_>,
    permissions: &[RequiredPermission],
) -> Result<(), Refusal> {
    // Statements of PartiQL have ARNs in their text. No template of DynamoDB has a wildcard there.
    let is_in_text = context.service.id == "dynamodb";
    for permission in permissions {
        let Resource::Arn(text) = &permission.resource else { continue };
        let Some(arn) = Arn::parse(text) else { continue };
        let head = text.strip_suffix(arn.resource).unwrap_or(text);
        let is_named = |value: &str| value.starts_with(head) || (is_in_text && value.contains(head));
        if head.contains(['*', '?']) && context.parameters.values().any(|value| has_text(value, &is_named)) {
            return Err(malformed_request(format!(
                "the ARN `{}` has a wildcard before its resource; write its partition, service, region and account out",
                quote_for_message(text)
            )));
        }
    }
    Ok(())
}

/// Returns true if a text in the value, or the name of a member, fits.
fn has_text(value: &Value, fits: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => fits(text),
        Value::Array(items) => items.iter().any(|item| has_text(item, fits)),
        Value::Object(members) => members.iter().any(|(name, value)| fits(name) || has_text(value, fits)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Each permission once, in the order of the first. With a set: a body holds hundreds of thousands of names, and comparing
/// each with all before it would let one request occupy a worker for minutes.
fn remove_duplicates(mut permissions: Vec<RequiredPermission>) -> Vec<RequiredPermission> {
    let mut seen = HashSet::with_capacity(permissions.len());
    permissions.retain(|permission| seen.insert(permission.clone()));
    permissions
}

/// The permission of an operation about which nothing is known: an action of its own, at the strictest access level, which
/// only a policy that names it allows.
pub(super) fn unknown_permission(service: &ServiceModel) -> RequiredPermission {
    permission_on_any(
        &format!("{}:{UNKNOWN_OPERATION_ACTION}", service.iam_prefix),
        AccessLevel::PermissionsManagement,
    )
}

/// An operation about which nothing is known may do anything.
pub(super) const UNKNOWN_OPERATION_TRAITS: OperationTraits =
    OperationTraits { irreversible: true, escalates: true, indirect: true, returns_credentials: true };

#[cfg(test)]
mod tests {
    use super::*;
    use durward_catalog::Catalog;

    #[test]
    fn every_overridden_service_is_in_the_catalog() {
        let ids = SERVICE_OVERRIDES.iter().map(|(id, _)| *id);
        for id in ids.chain(canonical_arns::service_ids()).chain(copy_sources::service_ids()) {
            assert!(Catalog::embedded().service(id).is_some(), "{id}");
            assert!(has_override(id), "{id}");
        }
    }
}
