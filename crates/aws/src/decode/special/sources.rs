//! What a request copies, restores or runs, and no template of the catalog names: a snapshot, a source, a change set; and what it
//! names in two ways, which may be two things.

use super::super::resources::{Context, demand, demand_any, push};
use durward_core::Demand;

/// Service, member, service in the ARN, and what stands before the name there.
const SOURCES: [(&str, &str, &str, &str); 19] = [
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

pub(super) fn treats(id: &str) -> bool {
    SOURCES.iter().any(|(known, ..)| *known == id) || matches!(id, "redshift" | "cloudformation")
}

/// Adds what the demands do not name yet.
pub(super) fn add(context: &Context<'_>, demands: &mut Vec<Demand>) {
    for (service, member, prefix, kind) in SOURCES {
        if service == context.service.id
            && let Some(value) = context.text(member)
        {
            need(context, demands, context.arn_of(prefix, kind, value));
        }
    }
    if context.service.id == "redshift"
        && let Some(snapshot) = context.text("SnapshotIdentifier")
    {
        // Which cluster's it is may be left out.
        let cluster = context.text("SnapshotClusterIdentifier").or(context.text("ClusterIdentifier"));
        let cluster = if context.op.name.starts_with("Restore") {
            context.text("SnapshotClusterIdentifier")
        } else {
            cluster
        };
        need(
            context,
            demands,
            context.arn("redshift", &format!("snapshot:{}/{snapshot}", cluster.unwrap_or("*"))),
        );
    }
    // Beside a change set's ARN nobody looks at the name of the stack.
    let change_set = context.service.id == "cloudformation"
        && context.text("ChangeSetName").is_some_and(|name| name.starts_with("arn:"));
    if change_set {
        for use_ in context.uses() {
            push(demands, demand_any(&use_.action, use_.access_level));
        }
    }
}

fn need(context: &Context<'_>, demands: &mut Vec<Demand>, arn: String) {
    if demands.iter().any(|demand| demand.resource.as_text() == arn) {
        return;
    }
    let own = |action: &str| action.split(':').next() == Some(context.service.iam_prefix.as_str());
    if let Some(use_) = context.uses().find(|use_| own(&use_.action)) {
        push(demands, demand(&use_.action, use_.access_level, arn));
    }
}
