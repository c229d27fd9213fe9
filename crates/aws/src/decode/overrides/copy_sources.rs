//! What a request copies, restores or runs, and no template of the catalog names: a snapshot, a source, a change set; and what it
//! names in two ways, which may be two things.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, push_unique,
};
use durward_core::RequiredPermission;

/// Service, member, service in the ARN, and what stands before the name there.
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

/// Adds what the demands do not name yet.
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
        // Which cluster's it is may be left out.
        let cluster = context
            .text_parameter("SnapshotClusterIdentifier")
            .or(context.text_parameter("ClusterIdentifier"));
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
    // Beside a change set's ARN nobody looks at the name of the stack.
    let change_set = context.service.id == "cloudformation"
        && context.text_parameter("ChangeSetName").is_some_and(|name| name.starts_with("arn:"));
    if change_set {
        for required_action in context.applicable_actions() {
            push_unique(
                permissions,
                permission_on_any(&required_action.action, required_action.access_level),
            );
        }
    }
}

fn require_resource(context: &PermissionContext<'_>, permissions: &mut Vec<RequiredPermission>, arn: String) {
    if permissions.iter().any(|permission| permission.resource.to_text() == arn) {
        return;
    }
    let own = |action: &str| action.split(':').next() == Some(context.service.iam_prefix.as_str());
    if let Some(required_action) =
        context.applicable_actions().find(|required_action| own(&required_action.action))
    {
        push_unique(
            permissions,
            permission_on_arn(&required_action.action, required_action.access_level, arn),
        );
    }
}
