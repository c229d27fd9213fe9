//! Lambda: requests name a function by name, partial ARN or ARN, with the qualifier in the name or in a parameter of its own
//! (Lambda API Reference, Invoke, `FunctionName`).

use super::super::permission_templates::{PermissionContext, permission_on_arn, push_template_permissions};
use crate::refusals::{malformed_request, quote_for_message};
use durward_core::{AccessLevel, Refusal, RequiredPermission, is_account_id};

pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let Some(name) = context.text_parameter("FunctionName") else { return Ok(None) };
    let arn = function_arn(context, name, context.text_parameter("Qualifier"))?;
    let mut out = Vec::new();
    // `lambda:InvokeFunction` is not the name of an operation: Invoke and InvokeWithResponseStream require it (Lambda API
    // Reference).
    if matches!(context.operation_model.name.as_str(), "Invoke" | "InvokeAsync" | "InvokeWithResponseStream")
    {
        return Ok(Some(vec![permission_on_arn("lambda:InvokeFunction", AccessLevel::Write, arn)]));
    }
    for required_action in context.applicable_actions() {
        let is_on_function = required_action.action.starts_with("lambda:")
            && required_action.resources.iter().any(|template| template.template.contains(":function:"));
        if is_on_function {
            out.push(permission_on_arn(&required_action.action, required_action.access_level, arn.clone()));
        } else {
            push_template_permissions(context, required_action, &mut out);
        }
    }
    if context.operation_model.name == "UpdateEventSourceMapping" {
        // The mapping, named by its UUID, will invoke this function.
        out.push(permission_on_arn("lambda:UpdateEventSourceMapping", AccessLevel::Write, arn));
    }
    Ok(Some(out))
}

fn function_arn(
    context: &PermissionContext<'_>,
    name: &str,
    qualifier: Option<&str>,
) -> Result<String, Refusal> {
    let invalid =
        || malformed_request(format!("`{}` is not the name of a function", quote_for_message(name)));
    let parts: Vec<&str> = name.split(':').collect();
    let (arn, inside) = match parts.as_slice() {
        ["arn", partition, "lambda", region, account, "function", function, rest @ ..] if rest.len() < 2 => {
            (format!("arn:{partition}:lambda:{region}:{account}:function:{function}"), rest.first().copied())
        }
        [account, "function", function, rest @ ..] if rest.len() < 2 && is_account_id(account) => (
            format!(
                "arn:{}:lambda:{}:{account}:function:{function}",
                context.partition, context.scope.region
            ),
            rest.first().copied(),
        ),
        ["function", function, rest @ ..] if rest.len() < 2 => {
            (context.build_arn("lambda", &format!("function:{function}")), rest.first().copied())
        }
        [function, rest @ ..] if rest.len() < 2 && !function.is_empty() => {
            (context.build_arn("lambda", &format!("function:{function}")), rest.first().copied())
        }
        _ => return Err(invalid()),
    };
    if arn.ends_with(':') || inside.is_some_and(str::is_empty) {
        return Err(invalid());
    }
    match (inside, qualifier) {
        // Which of the two Lambda would use is not for the gateway to guess.
        (Some(inside), Some(qualifier)) if inside != qualifier => {
            Err(malformed_request("the function's name and the Qualifier name different versions"))
        }
        (Some(qualifier), _) | (None, Some(qualifier)) => Ok(format!("{arn}:{qualifier}")),
        (None, None) => Ok(arn),
    }
}
