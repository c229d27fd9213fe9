//! Services whose resources or actions cannot be read off the models, one file each. A service without an entry, and an
//! operation its file does not treat, goes by the catalog's templates.

mod dynamodb;
mod ec2;
mod iam;
mod kms;
mod lambda;
mod logs;
mod partiql;
mod s3;
mod secretsmanager;
mod sns;
mod sqs;
mod ssm;
mod sts;

use super::resources::{Context, by_templates, demand_any};
use durward_core::{AccessLevel, Demand, Refusal};

/// Demands of an operation that a service file treats; `None` leaves it to the templates.
type Special = fn(&Context<'_>) -> Result<Option<Vec<Demand>>, Refusal>;

const TABLE: [(&str, Special); 12] = [
    ("dynamodb", dynamodb::demands),
    ("ec2", ec2::demands),
    ("iam", iam::demands),
    ("kms", kms::demands),
    ("lambda", lambda::demands),
    ("logs", logs::demands),
    ("s3", s3::demands),
    ("secretsmanager", secretsmanager::demands),
    ("sns", sns::demands),
    ("sqs", sqs::demands),
    ("ssm", ssm::demands),
    ("sts", sts::demands),
];

/// Everything policy must allow for an operation; never empty.
pub(super) fn demands(context: &Context<'_>) -> Result<Vec<Demand>, Refusal> {
    let special = TABLE.iter().find(|(id, _)| *id == context.service.id).map(|(_, special)| special);
    let treated = match special {
        Some(special) => special(context)?,
        None => None,
    };
    let mut demands = treated.unwrap_or_else(|| by_templates(context));
    if demands.is_empty() {
        // No known action: denied unless a policy names it.
        let action = format!("{}:*unknown*", context.service.iam_prefix);
        demands.push(demand_any(&action, AccessLevel::Write));
    }
    Ok(demands)
}
