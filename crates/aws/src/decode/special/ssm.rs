//! Systems Manager: parameters by path, with versions and labels in the name; commands on instances.

use super::super::resources::{Context, by_template, by_templates, demand, demand_any, push};
use super::super::text::malformed;
use durward_core::{AccessLevel, Demand, Refusal};
use serde_json::Value;

pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let arns = match context.op.name.as_str() {
        "GetParameter"
        | "PutParameter"
        | "DeleteParameter"
        | "GetParameterHistory"
        | "LabelParameterVersion"
        | "UnlabelParameterVersion" => names(context, "Name")?,
        "GetParameters" | "DeleteParameters" => names(context, "Names")?,
        // AWS asks about the path alone, and answers with what is below it ("GetParametersByPath", AWS Systems Manager API
        // Reference): a policy about a parameter is to see that.
        "GetParametersByPath" => {
            names(context, "Path")?.into_iter().flat_map(|path| [below(&path), path]).collect()
        }
        "AddTagsToResource" | "RemoveTagsFromResource" | "ListTagsForResource"
            if context.text("ResourceType") == Some("Parameter") =>
        {
            names(context, "ResourceId")?
        }
        "SendCommand" | "StartSession" => return run(context).map(Some),
        "CreateAssociation" | "CreateAssociationBatch" | "UpdateAssociation" => {
            return Ok(Some(associate(context)));
        }
        _ => return Ok(None),
    };
    let mut out = Vec::new();
    for use_ in context.uses() {
        if use_.action.starts_with("ssm:") {
            for arn in &arns {
                push(&mut out, demand(&use_.action, use_.access_level, arn.clone()));
            }
        } else {
            by_template(context, use_, &mut out);
        }
    }
    Ok(Some(out))
}

fn names(context: &Context<'_>, member: &str) -> Result<Vec<String>, Refusal> {
    let missing = || malformed(format!("{member} names no parameter"));
    match context.parameters.get(member) {
        Some(Value::String(name)) if !name.is_empty() => Ok(vec![parameter_arn(context, name)]),
        Some(Value::Array(items)) if !items.is_empty() => items
            .iter()
            .map(|item| item.as_str().filter(|name| !name.is_empty()).ok_or_else(missing))
            .map(|name| name.map(|name| parameter_arn(context, name)))
            .collect(),
        _ => Err(missing()),
    }
}

/// `/a/b` is `parameter/a/b`, and `a` is `parameter/a`; `:3` and `:label` select a version and are no part of the ARN.
fn parameter_arn(context: &Context<'_>, name: &str) -> String {
    if name.starts_with("arn:") {
        // An ARN has five colons of its own.
        return name.splitn(7, ':').take(6).collect::<Vec<_>>().join(":");
    }
    let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
    context.arn("ssm", &format!("parameter/{}", bare.trim_start_matches('/')))
}

/// Everything below a path.
fn below(path: &str) -> String {
    format!("{}/*", path.trim_end_matches('/'))
}

/// Documents run on instances: the document, every instance, and any instance where tags choose them.
fn run(context: &Context<'_>) -> Result<Vec<Demand>, Refusal> {
    let mut out = Vec::new();
    let Some(first) = context.uses().next() else { return Ok(out) };
    let (action, level) = (first.action.as_str(), first.access_level);
    if let Some(document) = context.text("DocumentName") {
        let arn = match document {
            arn if arn.starts_with("arn:") => arn.to_owned(),
            // AWS's own documents have no account.
            own if own.starts_with("AWS-") || own.starts_with("AWSEC2-") || own.starts_with("Amazon") => {
                format!("arn:{}:ssm:{}::document/{own}", context.partition, context.scope.region)
            }
            name => context.arn("ssm", &format!("document/{name}")),
        };
        push(&mut out, demand(action, level, arn));
    }
    for id in context.items("InstanceIds") {
        let id = id.as_str().ok_or_else(|| malformed("an item of InstanceIds is not text"))?;
        push(&mut out, demand(action, level, instance_arn(context, id)));
    }
    if let Some(target) = context.text("Target") {
        if target.contains(':') {
            // A task of ECS.
            push(&mut out, demand_any(action, level));
        } else {
            push(&mut out, demand(action, level, instance_arn(context, target)));
        }
    }
    if context.has("Targets") || out.is_empty() {
        anywhere(context, action, level, &mut out);
    }
    for use_ in context.uses().filter(|use_| use_.action != action) {
        by_template(context, use_, &mut out);
    }
    Ok(out)
}

fn instance_arn(context: &Context<'_>, id: &str) -> String {
    if id.starts_with("mi-") {
        context.arn("ssm", &format!("managed-instance/{id}"))
    } else {
        context.arn("ec2", &format!("instance/{id}"))
    }
}

/// Any instance: targets are tags, groups, or ids among them.
fn anywhere(context: &Context<'_>, action: &str, level: AccessLevel, out: &mut Vec<Demand>) {
    for any in [context.arn("ec2", "instance/*"), context.arn("ssm", "managed-instance/*")] {
        push(out, demand(action, level, any));
    }
}

/// A document that is run on instances again and again.
fn associate(context: &Context<'_>) -> Vec<Demand> {
    let mut out = by_templates(context);
    let Some(first) = context.uses().find(|use_| use_.action.starts_with("ssm:")) else { return out };
    let entries = context.items("Entries").iter();
    for id in entries.filter_map(|entry| entry.get("InstanceId")?.as_str()) {
        push(&mut out, demand(&first.action, first.access_level, instance_arn(context, id)));
    }
    let chosen = ["Targets", "TargetLocations", "TargetMaps"];
    let among = |path: &str| context.has(path) || context.has(&format!("Entries[].{path}"));
    // One that is changed stays on whatever it is on.
    if context.op.name == "UpdateAssociation" || chosen.into_iter().any(among) {
        anywhere(context, &first.action, first.access_level, &mut out);
    }
    out
}
