//! SNS: messages go to a topic, an endpoint or a phone number. The ARN of a subscription contains its topic.

use super::super::permission_templates::{PermissionContext, permission_on_any, permission_on_arn};
use durward_core::{AccessLevel, Refusal, RequiredPermission};

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let mut out = Vec::new();
    match context.operation_model.name.as_str() {
        "Publish" | "PublishBatch" => {
            let level = context.access_level("sns:Publish", AccessLevel::Write);
            for member in ["TopicArn", "TargetArn"] {
                if let Some(arn) = context.text_parameter(member) {
                    out.push(permission_on_arn("sns:Publish", level, context.resolve_arn("sns", "", arn)));
                }
            }
            // A phone number has no ARN, so no policy about a topic covers such a message.
            if context.has_parameter("PhoneNumber") || out.is_empty() {
                out.push(permission_on_any("sns:Publish", level));
            }
        }
        "Unsubscribe" | "GetSubscriptionAttributes" | "SetSubscriptionAttributes" => {
            let Some(subscription) = context.text_parameter("SubscriptionArn") else { return Ok(None) };
            let topic = subscription.rsplit_once(':').map_or(subscription, |(topic, _)| topic);
            for required_action in context.applicable_actions() {
                out.push(permission_on_arn(
                    &required_action.action,
                    required_action.access_level,
                    context.resolve_arn("sns", "", topic),
                ));
            }
        }
        "CreateTopic" => {
            let Some(name) = context.text_parameter("Name") else { return Ok(None) };
            for required_action in context.applicable_actions() {
                out.push(permission_on_arn(
                    &required_action.action,
                    required_action.access_level,
                    context.build_arn("sns", name),
                ));
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(out))
}
