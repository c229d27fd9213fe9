//! SQS: a queue is named by its URL, `https://<host>/<account>/<name>`.

use super::super::permission_templates::{
    PermissionContext, permission_on_arn, push_template_permissions, push_unique,
};
use super::super::request_text::{malformed_request, quote_for_message};
use durward_core::{Refusal, RequiredPermission};

pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let arn = if let Some(url) = context.text_parameter("QueueUrl") {
        queue_arn(context, url)?
    } else if let Some(name) = context.text_parameter("QueueName") {
        let account = context.text_parameter("QueueOwnerAWSAccountId").unwrap_or(context.scope.account);
        format!("arn:{}:sqs:{}:{account}:{name}", context.partition, context.scope.region)
    } else {
        return Ok(None);
    };
    let mut out = Vec::new();
    for required_action in context.applicable_actions() {
        if required_action.action.starts_with("sqs:") {
            push_unique(
                &mut out,
                permission_on_arn(&required_action.action, required_action.access_level, arn.clone()),
            );
        } else {
            push_template_permissions(context, required_action, &mut out);
        }
    }
    Ok(Some(out))
}

fn queue_arn(context: &PermissionContext<'_>, url: &str) -> Result<String, Refusal> {
    let bad = || malformed_request(format!("`{}` is not the url of a queue", quote_for_message(url)));
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).ok_or_else(bad)?;
    let (host, path) = rest.split_once('/').ok_or_else(bad)?;
    let (account, name) = path.split_once('/').ok_or_else(bad)?;
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if account.len() != 12
        || !account.bytes().all(|byte| byte.is_ascii_digit())
        || stem.is_empty()
        || name.len() > 80
        || !stem.bytes().all(legal)
        || host.contains('@')
    {
        return Err(bad());
    }
    // A queue's own host names its region; it must be the one the request was signed for.
    let region = host
        .strip_prefix("sqs.")
        .and_then(|rest| rest.split_once(".amazonaws.com"))
        .map(|(region, _)| region)
        .or_else(|| host.split_once(".queue.amazonaws.com").map(|(region, _)| region));
    if region.is_some_and(|region| region != context.scope.region) {
        return Err(malformed_request("the queue's url is of another region than the request is signed for"));
    }
    Ok(format!("arn:{}:sqs:{}:{account}:{name}", context.partition, context.scope.region))
}
