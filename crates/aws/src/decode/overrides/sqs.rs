//! SQS: requests name a queue by its URL, `https://<host>/<account>/<name>`.

use super::super::permission_templates::{PermissionContext, permissions_on_arns};
use crate::refusals::{malformed_request, quote_for_message};
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
    Ok(Some(permissions_on_arns(context, "sqs:", &[arn])))
}

fn queue_arn(context: &PermissionContext<'_>, url: &str) -> Result<String, Refusal> {
    let invalid = || malformed_request(format!("`{}` is not the url of a queue", quote_for_message(url)));
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).ok_or_else(invalid)?;
    let (host, path) = rest.split_once('/').ok_or_else(invalid)?;
    let (account, name) = path.split_once('/').ok_or_else(invalid)?;
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if account.len() != 12
        || !account.bytes().all(|byte| byte.is_ascii_digit())
        || stem.is_empty()
        || name.len() > 80
        || !stem.bytes().all(is_name_byte)
        // User information before an `@` makes a URL look as if it had another host (RFC 3986 section 7.6).
        || host.contains('@')
    {
        return Err(invalid());
    }
    // The host of a queue's URL names its region. SDKs may send the request there (JavaScript: `useQueueUrlAsEndpoint`), so it
    // must be the region that the request is signed for.
    let region = host
        .strip_prefix("sqs.")
        .and_then(|rest| rest.split_once(".amazonaws.com"))
        .map(|(region, _)| region)
        .or_else(|| host.split_once(".queue.amazonaws.com").map(|(region, _)| region));
    if region.is_some_and(|region| region != context.scope.region) {
        return Err(malformed_request("the queue's url is in another region than the request is signed for"));
    }
    Ok(format!("arn:{}:sqs:{}:{account}:{name}", context.partition, context.scope.region))
}
