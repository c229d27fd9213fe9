//! Resources that a request copies, restores or runs and that no template of the catalog names: a snapshot, a source, a
//! change set. Without them a caller could restore a copy of a table that it may not read.

use super::super::permission_templates::{PermissionContext, permission_on_any, permission_on_arn};
use durward_core::RequiredPermission;

/// Service, input member, and the service and resource prefix of the ARN.
const COPY_SOURCES: [(&str, &str, &str, &str); 19] = [
    ("docdb", "SnapshotIdentifier", "rds", "cluster-snapshot:"),
    ("docdb", "SourceDBClusterIdentifier", "rds", "cluster:"),
    ("dynamodb", "SourceTableArn", "dynamodb", "table/"),
    ("dynamodb", "SourceTableName", "dynamodb", "table/"),
    ("dynamodb", "GlobalTableSourceArn", "dynamodb", "table/"),
    ("elasticache", "SnapshotName", "elasticache", "snapshot:"),
    ("elasticache", "SourceSnapshotName", "elasticache", "snapshot:"),
    ("kinesis", "StreamName", "kinesis", "stream/"),
    ("memorydb", "SnapshotName", "memorydb", "snapshot/"),
    ("memorydb", "SourceSnapshotName", "memorydb", "snapshot/"),
    ("neptune", "SnapshotIdentifier", "rds", "cluster-snapshot:"),
    ("neptune", "SourceDBClusterIdentifier", "rds", "cluster:"),
    ("neptune", "ReplicationSourceIdentifier", "rds", "cluster:"),
    ("rds", "DBClusterSnapshotIdentifier", "rds", "cluster-snapshot:"),
    ("rds", "DBSnapshotIdentifier", "rds", "snapshot:"),
    ("rds", "ReplicationSourceIdentifier", "rds", "cluster:"),
    ("rds", "SnapshotIdentifier", "rds", "cluster-snapshot:"),
    ("rds", "SourceDBClusterIdentifier", "rds", "cluster:"),
    ("rds", "SourceDBInstanceIdentifier", "rds", "db:"),
];

pub(super) fn has_copy_sources(id: &str) -> bool {
    COPY_SOURCES.iter().any(|(known, ..)| *known == id) || matches!(id, "redshift" | "cloudformation")
}

#[cfg(test)]
pub(super) fn service_ids() -> impl Iterator<Item = &'static str> {
    COPY_SOURCES.iter().map(|(id, ..)| *id).chain(["redshift", "cloudformation"])
}

/// Adds the permissions on copy sources.
pub(super) fn push_copy_source_permissions(
    context: &PermissionContext<'_>,
    permissions: &mut Vec<RequiredPermission>,
) {
    for (service, member, prefix, kind) in COPY_SOURCES {
        if service == context.service.id
            && let Some(value) = context.text_parameter(member)
        {
            require_resource(context, permissions, context.resolve_arn(prefix, kind, value));
        }
    }
    if context.service.id == "redshift"
        && let Some(snapshot) = context.text_parameter("SnapshotIdentifier")
    {
        // A request may leave out the cluster of the snapshot.
        let cluster = context
            .text_parameter("SnapshotClusterIdentifier")
            .or(context.text_parameter("ClusterIdentifier"));
        // When a snapshot is restored, `ClusterIdentifier` names the new cluster, not the one of the snapshot.
        let cluster = if context.operation_model.name.starts_with("Restore") {
            context.text_parameter("SnapshotClusterIdentifier")
        } else {
            cluster
        };
        require_resource(
            context,
            permissions,
            context.build_arn("redshift", &format!("snapshot:{}/{snapshot}", cluster.unwrap_or("*"))),
        );
    }
    // The stack's name goes with the name of a change set (CloudFormation API Reference, ExecuteChangeSet, `StackName`). Beside
    // the ARN of a change set it decides nothing, so the stack that changes may be another one.
    let is_change_set_arn = context.service.id == "cloudformation"
        && context.text_parameter("ChangeSetName").is_some_and(|name| name.starts_with("arn:"));
    if is_change_set_arn {
        for required_action in context.applicable_actions() {
            permissions.push(permission_on_any(&required_action.action, required_action.access_level));
        }
    }
}

fn require_resource(context: &PermissionContext<'_>, permissions: &mut Vec<RequiredPermission>, arn: String) {
    if permissions.iter().any(|permission| permission.resource.to_text() == arn) {
        return;
    }
    let is_own = |action: &str| action.split(':').next() == Some(context.service.iam_prefix.as_str());
    if let Some(required_action) =
        context.applicable_actions().find(|required_action| is_own(&required_action.action))
    {
        permissions.push(permission_on_arn(&required_action.action, required_action.access_level, arn));
    }
}
