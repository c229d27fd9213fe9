//! Systems Manager: parameters are named by path, with a version or label in the name; commands run on instances.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, permissions_by_templates, permissions_on_arns,
    push_template_permissions,
};
use crate::refusals::malformed_request;
use durward_core::{AccessLevel, Refusal, RequiredPermission};
use serde_json::Value;

pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let arns = match context.operation_model.name.as_str() {
        "GetParameter"
        | "PutParameter"
        | "DeleteParameter"
        | "GetParameterHistory"
        | "LabelParameterVersion"
        | "UnlabelParameterVersion" => parameter_arns(context, "Name")?,
        "GetParameters" | "DeleteParameters" => parameter_arns(context, "Names")?,
        // IAM checks the path alone, but the response holds the parameters below it (Systems Manager API Reference,
        // GetParametersByPath). A policy on one of those parameters must see this request.
        "GetParametersByPath" => parameter_arns(context, "Path")?
            .into_iter()
            .flat_map(|path| [path_wildcard_arn(&path), path])
            .collect(),
        "AddTagsToResource" | "RemoveTagsFromResource" | "ListTagsForResource"
            if context.text_parameter("ResourceType") == Some("Parameter") =>
        {
            parameter_arns(context, "ResourceId")?
        }
        "SendCommand" | "StartSession" => return command_permissions(context).map(Some),
        "CreateAssociation" | "CreateAssociationBatch" | "UpdateAssociation" => {
            return Ok(Some(association_permissions(context)));
        }
        _ => return Ok(None),
    };
    Ok(Some(permissions_on_arns(context, "ssm:", &arns)))
}

fn parameter_arns(context: &PermissionContext<'_>, member: &str) -> Result<Vec<String>, Refusal> {
    let no_parameter = || malformed_request(format!("{member} names no parameter"));
    match context.parameters.get(member) {
        Some(Value::String(name)) if !name.is_empty() => Ok(vec![parameter_arn(context, name)]),
        Some(Value::Array(items)) if !items.is_empty() => items
            .iter()
            .map(|item| item.as_str().filter(|name| !name.is_empty()).ok_or_else(no_parameter))
            .map(|name| name.map(|name| parameter_arn(context, name)))
            .collect(),
        _ => Err(no_parameter()),
    }
}

/// `/a/b` is `parameter/a/b`, and `a` is `parameter/a`. `:3` and `:label` select a version and are not part of the ARN.
fn parameter_arn(context: &PermissionContext<'_>, name: &str) -> String {
    if name.starts_with("arn:") {
        // An ARN has five colons of its own.
        return name.splitn(7, ':').take(6).collect::<Vec<_>>().join(":");
    }
    let bare = name.split_once(':').map_or(name, |(bare, _)| bare);
    context.build_arn("ssm", &format!("parameter/{}", bare.trim_start_matches('/')))
}

/// All parameters below a path.
fn path_wildcard_arn(path: &str) -> String {
    format!("{}/*", path.trim_end_matches('/'))
}

/// A document that runs on instances: permissions on the document and on each instance, or on any where tags choose them.
fn command_permissions(context: &PermissionContext<'_>) -> Result<Vec<RequiredPermission>, Refusal> {
    let mut out = Vec::new();
    let Some(first) = context.applicable_actions().next() else { return Ok(out) };
    let (action, level) = (first.action.as_str(), first.access_level);
    if let Some(document) = context.text_parameter("DocumentName") {
        let arn = match document {
            arn if arn.starts_with("arn:") => arn.to_owned(),
            // The ARNs of AWS's own documents have no account.
            own if own.starts_with("AWS-") || own.starts_with("AWSEC2-") || own.starts_with("Amazon") => {
                format!("arn:{}:ssm:{}::document/{own}", context.partition, context.scope.region)
            }
            name => context.build_arn("ssm", &format!("document/{name}")),
        };
        out.push(permission_on_arn(action, level, arn));
    }
    for id in context.list_parameter("InstanceIds") {
        let id = id.as_str().ok_or_else(|| malformed_request("an item of InstanceIds is not text"))?;
        out.push(permission_on_arn(action, level, instance_arn(context, id)));
    }
    if let Some(target) = context.text_parameter("Target") {
        if target.contains(':') {
            // An ECS task: `ecs:<cluster>_<task>_<container>`.
            out.push(permission_on_any(action, level));
        } else {
            out.push(permission_on_arn(action, level, instance_arn(context, target)));
        }
    }
    if context.has_parameter("Targets") || out.is_empty() {
        push_any_instance(context, action, level, &mut out);
    }
    for required_action in
        context.applicable_actions().filter(|required_action| required_action.action != action)
    {
        push_template_permissions(context, required_action, &mut out);
    }
    Ok(out)
}

fn instance_arn(context: &PermissionContext<'_>, id: &str) -> String {
    if id.starts_with("mi-") {
        context.build_arn("ssm", &format!("managed-instance/{id}"))
    } else {
        context.build_arn("ec2", &format!("instance/{id}"))
    }
}

/// Adds any instance: targets are chosen by tags or groups.
fn push_any_instance(
    context: &PermissionContext<'_>,
    action: &str,
    level: AccessLevel,
    out: &mut Vec<RequiredPermission>,
) {
    for any in [context.build_arn("ec2", "instance/*"), context.build_arn("ssm", "managed-instance/*")] {
        out.push(permission_on_arn(action, level, any));
    }
}

/// An association runs a document on instances repeatedly.
fn association_permissions(context: &PermissionContext<'_>) -> Vec<RequiredPermission> {
    let mut out = permissions_by_templates(context);
    let Some(first) =
        context.applicable_actions().find(|required_action| required_action.action.starts_with("ssm:"))
    else {
        return out;
    };
    let entries = context.list_parameter("Entries").iter();
    for id in entries.filter_map(|entry| entry.get("InstanceId")?.as_str()) {
        out.push(permission_on_arn(&first.action, first.access_level, instance_arn(context, id)));
    }
    let target_members = ["Targets", "TargetLocations", "TargetMaps"];
    let is_given =
        |path: &str| context.has_parameter(path) || context.has_parameter(&format!("Entries[].{path}"));
    // An update that names no target keeps the targets of the association, which are unknown.
    if context.operation_model.name == "UpdateAssociation" || target_members.into_iter().any(is_given) {
        push_any_instance(context, &first.action, first.access_level, &mut out);
    }
    out
}
