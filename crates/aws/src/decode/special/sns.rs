//! SNS: what is published to is a topic, an endpoint or a telephone number; a subscription's topic is in its ARN.

use super::super::resources::{Context, demand, demand_any, push};
use durward_core::{AccessLevel, Demand, Refusal};

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let mut out = Vec::new();
    match context.op.name.as_str() {
        "Publish" | "PublishBatch" => {
            let level = context.level("sns:Publish", AccessLevel::Write);
            for member in ["TopicArn", "TargetArn"] {
                if let Some(arn) = context.text(member) {
                    push(&mut out, demand("sns:Publish", level, context.arn_of("sns", "", arn)));
                }
            }
            if context.has("PhoneNumber") || out.is_empty() {
                push(&mut out, demand_any("sns:Publish", level));
            }
        }
        "Unsubscribe" | "GetSubscriptionAttributes" | "SetSubscriptionAttributes" => {
            let Some(subscription) = context.text("SubscriptionArn") else { return Ok(None) };
            let topic = subscription.rsplit_once(':').map_or(subscription, |(topic, _)| topic);
            for use_ in context.uses() {
                push(&mut out, demand(&use_.action, use_.access_level, context.arn_of("sns", "", topic)));
            }
        }
        "CreateTopic" => {
            let Some(name) = context.text("Name") else { return Ok(None) };
            for use_ in context.uses() {
                push(&mut out, demand(&use_.action, use_.access_level, context.arn("sns", name)));
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(out))
}
