//! IAM: what is created under a path has the path in its ARN. Everything else goes by the templates.

use super::super::resources::{Context, by_template, demand, push};
use durward_core::{Demand, Refusal};

/// Create operations: the member that names the thing, and its kind in the ARN.
const CREATED: [(&str, &str, &str); 5] = [
    ("CreateGroup", "GroupName", "group"),
    ("CreateInstanceProfile", "InstanceProfileName", "instance-profile"),
    ("CreatePolicy", "PolicyName", "policy"),
    ("CreateRole", "RoleName", "role"),
    ("CreateUser", "UserName", "user"),
];

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let Some((_, member, kind)) = CREATED.iter().find(|(op, _, _)| *op == context.op.name) else {
        return Ok(None);
    };
    let Some(name) = context.text(member) else { return Ok(None) };
    let path = context.text("Path").unwrap_or("/");
    let arn = format!("arn:{}:iam::{}:{kind}{path}{name}", context.partition, context.scope.account);
    let mut out = Vec::new();
    for use_ in context.uses() {
        let about_it = use_
            .action
            .strip_prefix("iam:")
            .is_some_and(|action| action == context.op.name || action.starts_with("Tag"));
        if about_it {
            push(&mut out, demand(&use_.action, use_.access_level, arn.clone()));
        } else {
            by_template(context, use_, &mut out);
        }
    }
    Ok(Some(out))
}
