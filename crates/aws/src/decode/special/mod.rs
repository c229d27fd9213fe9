//! Services whose resources or actions cannot be read off the models, one file each. A service without an entry, and an
//! operation its file does not treat, goes by the catalog's templates.

mod dynamodb;
mod ec2;
mod events;
mod iam;
mod kms;
mod lambda;
mod logs;
mod names;
mod partiql;
mod s3;
mod secretsmanager;
mod sns;
mod sources;
mod sqs;
mod ssm;
mod sts;
mod tagging;
mod wafv2;

use super::resources::{Context, by_templates, demand_any};
use durward_catalog::Service;
use durward_core::{AccessLevel, Demand, Refusal, Traits};

/// Demands of an operation that a service file treats; `None` leaves it to the templates.
type Special = fn(&Context<'_>) -> Result<Option<Vec<Demand>>, Refusal>;

const TABLE: [(&str, Special); 15] = [
    ("dynamodb", dynamodb::demands),
    ("ec2", ec2::demands),
    ("events", events::demands),
    ("iam", iam::demands),
    ("kms", kms::demands),
    ("lambda", lambda::demands),
    ("logs", logs::demands),
    ("resourcegroupstaggingapi", tagging::demands),
    ("s3", s3::demands),
    ("secretsmanager", secretsmanager::demands),
    ("sns", sns::demands),
    ("sqs", sqs::demands),
    ("ssm", ssm::demands),
    ("sts", sts::demands),
    ("wafv2", wafv2::demands),
];

/// Whether the service has a file here.
pub(super) fn treats(id: &str) -> bool {
    TABLE.iter().any(|(known, _)| *known == id) || names::treats(id) || sources::treats(id)
}

/// The traits of the request: the operation's, and those that only some parameters give it.
pub(super) fn traits(context: &Context<'_>, demands: &[Demand]) -> Traits {
    let mut traits = context.op.traits;
    traits.escalates |= demands.iter().any(|demand| {
        demand.access_level == AccessLevel::PermissionsManagement || demand.action == "iam:PassRole"
    });
    // The instance runs its user data when it starts next.
    let user_data = context.service.id == "ec2"
        && context.op.name == "ModifyInstanceAttribute"
        && context.has("UserData");
    traits.indirect |= user_data;
    traits
}

/// Everything policy must allow for an operation; never empty.
pub(super) fn demands(context: &Context<'_>) -> Result<Vec<Demand>, Refusal> {
    let special = TABLE.iter().find(|(id, _)| *id == context.service.id).map(|(_, special)| special);
    let treated = match special {
        Some(special) => special(context)?,
        None => None,
    };
    let mut demands = treated.unwrap_or_else(|| by_templates(context));
    names::put_right(context, &mut demands);
    sources::add(context, &mut demands);
    if demands.is_empty() {
        demands.push(unknown(context.service));
    }
    Ok(demands)
}

/// What an operation demands of which nothing is known: its own action, denied unless a policy names it, at the strictest level.
pub(super) fn unknown(service: &Service) -> Demand {
    demand_any(&format!("{}:*unknown*", service.iam_prefix), AccessLevel::PermissionsManagement)
}

/// An operation of which nothing is known may do anything.
pub(super) const UNKNOWN: Traits =
    Traits { irreversible: true, escalates: true, indirect: true, returns_credentials: true };
