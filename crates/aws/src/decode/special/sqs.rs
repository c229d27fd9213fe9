//! SQS: a queue is named by its URL, `https://<host>/<account>/<name>`.

use super::super::resources::{Context, by_template, demand, push};
use super::super::text::{malformed, quote};
use durward_core::{Demand, Refusal};

pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let arn = if let Some(url) = context.text("QueueUrl") {
        queue_arn(context, url)?
    } else if let Some(name) = context.text("QueueName") {
        let account = context.text("QueueOwnerAWSAccountId").unwrap_or(context.scope.account);
        format!("arn:{}:sqs:{}:{account}:{name}", context.partition, context.scope.region)
    } else {
        return Ok(None);
    };
    let mut out = Vec::new();
    for use_ in context.uses() {
        if use_.action.starts_with("sqs:") {
            push(&mut out, demand(&use_.action, use_.access_level, arn.clone()));
        } else {
            by_template(context, use_, &mut out);
        }
    }
    Ok(Some(out))
}

fn queue_arn(context: &Context<'_>, url: &str) -> Result<String, Refusal> {
    let bad = || malformed(format!("`{}` is not the url of a queue", quote(url)));
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
        return Err(malformed("the queue's url is of another region than the request is signed for"));
    }
    Ok(format!("arn:{}:sqs:{}:{account}:{name}", context.partition, context.scope.region))
}
