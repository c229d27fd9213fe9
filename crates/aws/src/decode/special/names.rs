//! Names that stand in an ARN elsewhere than the catalog's templates put them.

use super::super::resources::Context;
use durward_core::{Demand, Resource};

type Place = fn(&str) -> Option<String>;

const TABLE: [(&str, Place); 2] = [("autoscaling", auto_scaling_group), ("ecs", task_definition)];

pub(super) fn treats(id: &str) -> bool {
    TABLE.iter().any(|(known, _)| *known == id)
}

/// Puts them where they belong.
pub(super) fn put_right(context: &Context<'_>, demands: &mut [Demand]) {
    let Some((_, place)) = TABLE.iter().find(|(id, _)| *id == context.service.id) else { return };
    for demand in demands {
        if let Resource::Arn(arn) = &mut demand.resource
            && let Some(right) = place(arn)
        {
            *arn = right;
        }
    }
}

/// `family:revision` is one parameter and two parts of the ARN.
fn task_definition(arn: &str) -> Option<String> {
    let (head, named) = arn.split_once(":task-definition/*:")?;
    let revision = if named.contains(':') { "" } else { ":*" };
    Some(format!("{head}:task-definition/{named}{revision}"))
}

/// What a request names is the friendly name; the id before it nobody says.
fn auto_scaling_group(arn: &str) -> Option<String> {
    let (head, rest) = arn.split_once(":autoScalingGroup:")?;
    let name = rest.strip_suffix(":autoScalingGroupName/*")?;
    Some(format!("{head}:autoScalingGroup:*:autoScalingGroupName/{name}"))
}
