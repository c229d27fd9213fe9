//! EC2: what an id is, its prefix tells. An instance that is launched is a resource before it has an id.

use super::super::resources::{Context, by_template, demand, demand_any, push};
use durward_core::{AccessLevel, Demand, Refusal};
use serde_json::Value;

/// Prefix of an id and the resource type in its ARN.
const KINDS: [(&str, &str); 27] = [
    ("acl-", "network-acl"),
    ("ami-", "image"),
    ("cgw-", "customer-gateway"),
    ("dopt-", "dhcp-options"),
    ("eigw-", "egress-only-internet-gateway"),
    ("eipalloc-", "elastic-ip"),
    ("eni-", "network-interface"),
    ("fl-", "vpc-flow-log"),
    ("fleet-", "fleet"),
    ("i-", "instance"),
    ("igw-", "internet-gateway"),
    ("key-", "key-pair"),
    ("lt-", "launch-template"),
    ("nat-", "natgateway"),
    ("pcx-", "vpc-peering-connection"),
    ("pg-", "placement-group"),
    ("pl-", "prefix-list"),
    ("rtb-", "route-table"),
    ("sg-", "security-group"),
    ("snap-", "snapshot"),
    ("subnet-", "subnet"),
    ("tgw-", "transit-gateway"),
    ("tgw-attach-", "transit-gateway-attachment"),
    ("vgw-", "vpn-gateway"),
    ("vol-", "volume"),
    ("vpc-", "vpc"),
    ("vpce-", "vpc-endpoint"),
];

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let mut arns = Vec::new();
    for (name, value) in context.parameters {
        if name != "ClientToken" && name != "DryRun" {
            collect(context, value, &mut arns);
        }
    }
    if let Some(key) = context.text("KeyName") {
        arns.push(context.arn("ec2", &format!("key-pair/{key}")));
    }
    let mut out = Vec::new();
    for use_ in context.uses() {
        let resource_level = use_.action.starts_with("ec2:") && !use_.resources.is_empty();
        if resource_level && !arns.is_empty() {
            for arn in &arns {
                push(&mut out, demand(&use_.action, use_.access_level, arn.clone()));
            }
        } else {
            by_template(context, use_, &mut out);
        }
    }
    if context.op.name == "RunInstances" {
        push(&mut out, demand("ec2:RunInstances", AccessLevel::Write, context.arn("ec2", "instance/*")));
        if context.has("IamInstanceProfile") {
            // The role behind the profile is not in the request.
            push(&mut out, demand_any("iam:PassRole", AccessLevel::Write));
        }
    }
    if context.op.name.starts_with("Associate") && context.has("IamInstanceProfile") {
        push(&mut out, demand_any("iam:PassRole", AccessLevel::Write));
    }
    if context.has("TagSpecifications") {
        push(&mut out, demand_any("ec2:CreateTags", AccessLevel::Tagging));
    }
    Ok(Some(out))
}

/// The ids anywhere in a value, but not those in filters and tags, which are data.
fn collect(context: &Context<'_>, value: &Value, arns: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            if let Some(arn) = id_arn(context, text)
                && !arns.contains(&arn)
            {
                arns.push(arn);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(context, item, arns)),
        Value::Object(map) => {
            for (name, item) in map {
                if !matches!(name.as_str(), "Tags" | "Filters" | "Values" | "Value" | "Key") {
                    collect(context, item, arns);
                }
            }
        }
        _ => {}
    }
}

fn id_arn(context: &Context<'_>, id: &str) -> Option<String> {
    let (prefix, kind) =
        KINDS.iter().filter(|(prefix, _)| id.starts_with(prefix)).max_by_key(|(prefix, _)| prefix.len())?;
    let rest = id.strip_prefix(prefix)?;
    if !matches!(rest.len(), 8 | 17) || !rest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    // Images and snapshots have no account in their ARN.
    let account = if matches!(*kind, "image" | "snapshot") { "" } else { context.scope.account };
    Some(format!("arn:{}:ec2:{}:{account}:{kind}/{id}", context.partition, context.scope.region))
}
