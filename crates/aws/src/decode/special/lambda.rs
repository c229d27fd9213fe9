//! Lambda: a function is named by name, partial ARN or ARN, with the qualifier inside the name or beside it.

use super::super::resources::{Context, by_template, demand, push};
use super::super::text::{malformed, quote};
use durward_core::{AccessLevel, Demand, Refusal};

pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let Some(name) = context.text("FunctionName") else { return Ok(None) };
    let arn = function_arn(context, name, context.text("Qualifier"))?;
    let mut out = Vec::new();
    if matches!(context.op.name.as_str(), "Invoke" | "InvokeAsync" | "InvokeWithResponseStream") {
        return Ok(Some(vec![demand("lambda:InvokeFunction", AccessLevel::Write, arn)]));
    }
    for use_ in context.uses() {
        let on_function = use_.action.starts_with("lambda:")
            && use_.resources.iter().any(|template| template.template.contains(":function:"));
        if on_function {
            push(&mut out, demand(&use_.action, use_.access_level, arn.clone()));
        } else {
            by_template(context, use_, &mut out);
        }
    }
    if context.op.name == "UpdateEventSourceMapping" {
        // It is made to run this one.
        push(&mut out, demand("lambda:UpdateEventSourceMapping", AccessLevel::Write, arn));
    }
    Ok(Some(out))
}

fn function_arn(context: &Context<'_>, name: &str, beside: Option<&str>) -> Result<String, Refusal> {
    let bad = || malformed(format!("`{}` is not the name of a function", quote(name)));
    let parts: Vec<&str> = name.split(':').collect();
    let (arn, inside) = match parts.as_slice() {
        ["arn", partition, "lambda", region, account, "function", function, rest @ ..] if rest.len() < 2 => {
            (format!("arn:{partition}:lambda:{region}:{account}:function:{function}"), rest.first().copied())
        }
        [account, "function", function, rest @ ..] if rest.len() < 2 => (
            format!(
                "arn:{}:lambda:{}:{account}:function:{function}",
                context.partition, context.scope.region
            ),
            rest.first().copied(),
        ),
        ["function", function, rest @ ..] if rest.len() < 2 => {
            (context.arn("lambda", &format!("function:{function}")), rest.first().copied())
        }
        [function, rest @ ..] if rest.len() < 2 && !function.is_empty() => {
            (context.arn("lambda", &format!("function:{function}")), rest.first().copied())
        }
        _ => return Err(bad()),
    };
    if arn.ends_with(':') || inside.is_some_and(str::is_empty) {
        return Err(bad());
    }
    match (inside, beside) {
        (Some(inside), Some(beside)) if inside != beside => {
            Err(malformed("the function's name and the Qualifier name two versions"))
        }
        (Some(qualifier), _) | (None, Some(qualifier)) => Ok(format!("{arn}:{qualifier}")),
        (None, None) => Ok(arn),
    }
}
