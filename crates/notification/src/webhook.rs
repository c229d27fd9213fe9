//! Messages for programs: JSON, signed as Standard Webhooks says (`v1`: HMAC-SHA256 over id, time and body).
//!
//! Unlike the messages for people, the JSON holds texts as the caller wrote them: what shows them must escape them.

use crate::request_summary::{BatchSummary, RequestHeadline, RequestSummary, format_rfc3339};
use crate::{ChannelError, NotificationEvent};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_approval::ApprovalRequest;
use durward_core::Secret;
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Asks that a summary names.
const MAX_NAMED_REQUESTS: usize = 100;

/// One secret to sign with.
#[derive(Clone)]
pub(crate) struct WebhookSigningKey(hmac::Key);

impl std::fmt::Debug for WebhookSigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl WebhookSigningKey {
    /// One `whsec_<base64>` a line, of 24 to 64 bytes.
    pub(crate) fn parse_all(secrets: &Secret) -> Result<Vec<Self>, ChannelError> {
        let lines = secrets.expose().lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<Self> = lines.map(Self::parse).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(invalid_secret_error()) } else { Ok(keys) }
    }

    fn parse(text: &str) -> Result<Self, ChannelError> {
        let encoded = text.strip_prefix("whsec_").ok_or_else(invalid_secret_error)?;
        let mut bytes = STANDARD.decode(encoded).map_err(|_error| invalid_secret_error())?;
        let key = (24..=64).contains(&bytes.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        bytes.fill(0);
        key.ok_or_else(invalid_secret_error)
    }
}

fn invalid_secret_error() -> ChannelError {
    ChannelError::new(
        "the secret is not one of Standard Webhooks: write whsec_ and the base64 of 24 to 64 random bytes",
    )
}

/// The value of `webhook-signature`.
pub(crate) fn sign_message(keys: &[WebhookSigningKey], id: &str, timestamp: i64, body: &[u8]) -> String {
    let one = |key: &WebhookSigningKey| {
        let mut context = hmac::Context::with_key(&key.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The JSON of one event.
pub(crate) fn render_request(
    ask: &ApprovalRequest,
    brief: &RequestSummary,
    event: NotificationEvent,
) -> Value {
    let what = &ask.details;
    let operation = &what.operation;
    let demand = |demand: &durward_core::RequiredPermission| {
        json!({
            "action": demand.action,
            "resource": demand.resource.to_text(),
            "access_level": demand.access_level.as_str(),
        })
    };
    let requirement = |one: &durward_approval::ApprovalRequirement| json!({"policy": one.policy, "group": one.group, "quorum": one.quorum});
    let answer = |vote: &durward_approval::Vote| json!({"by": vote.by.id, "approve": vote.is_approval, "break_glass": vote.break_glass, "reason": vote.reason});
    let missing = |(group, people): (String, u32)| json!({"group": group, "people": people});
    let at = match event {
        NotificationEvent::Opened => ask.created,
        NotificationEvent::Closed | NotificationEvent::BreakGlass => ended_at(ask),
    };
    json!({
        "type": event.as_str(),
        "timestamp": format_rfc3339(at),
        "data": {
            "summary": brief.headline(),
            "url": brief.url,
            "ask": {
                "id": ask.id.to_string(),
                "state": ask.state.as_str(),
                "title": operation.qualified_name(),
                "demands": operation.required_permissions.iter().map(demand).collect::<Vec<_>>(),
                "tags": what.tags,
                "account": operation.account,
                "region": operation.region,
                "connection": what.connection,
                "uninspected": operation.uninspected_parts,
                "caller": {"id": what.caller.id(), "kind": what.caller.kind.as_str(), "act": what.caller.act},
                "risk": {"score": ask.risk.score, "reasons": ask.risk.reasons},
                "reason": what.reason,
                "requirements": what.requirements.iter().map(requirement).collect::<Vec<_>>(),
                "missing": ask.missing_approvals().into_iter().map(missing).collect::<Vec<_>>(),
                "answers": ask.votes.iter().map(answer).collect::<Vec<_>>(),
                "created": format_rfc3339(ask.created),
                "deadline": format_rfc3339(ask.deadline),
                "break_glass": ask.break_glass,
            },
        },
    })
}

/// When an ask ended, as far as its history says.
pub(crate) fn ended_at(ask: &ApprovalRequest) -> OffsetDateTime {
    let end = ask.history.iter().rev().find(|event| {
        matches!(
            event.kind.as_str(),
            "granted" | "deny" | "withdrawn" | "timed_out" | "expired" | "superseded" | "damaged"
        )
    });
    end.or(ask.history.last()).map_or(ask.created, |event| event.at)
}

/// The JSON of several events in one.
pub(crate) fn render_batch(summary: &BatchSummary, now: OffsetDateTime) -> Value {
    let named = |gists: &[RequestHeadline]| {
        let one = |gist: &RequestHeadline| json!({"id": gist.approval_request, "url": gist.url, "summary": gist.headline});
        gists.iter().take(MAX_NAMED_REQUESTS).map(one).collect::<Vec<_>>()
    };
    json!({
        "type": "asks.summary",
        "timestamp": format_rfc3339(now),
        "data": {
            "url": summary.queue_url,
            "opened": {"count": summary.opened.len(), "asks": named(&summary.opened)},
            "closed": {"count": summary.closed.len(), "asks": named(&summary.closed)},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example that Standard Webhooks and its libraries publish.
    #[test]
    fn signs_the_published_example() {
        let keys = WebhookSigningKey::parse_all(&Secret::new(format!("{EXAMPLE_SECRET}\n"))).unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = sign_message(&keys, id, 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = WebhookSigningKey::parse_all(&Secret::new(format!(
            "whsec_{}\n{EXAMPLE_SECRET}",
            STANDARD.encode([7; 32])
        )))
        .unwrap();
        let both = sign_message(&two, id, 1_614_265_330, b"{\"test\": 2432232314}");
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {signed}")), "{both}");
    }

    #[test]
    fn refuses_an_invalid_secret_without_printing_it() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for text in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64", &short, &long] {
            let error = WebhookSigningKey::parse_all(&Secret::new(text)).unwrap_err().to_string();
            assert!(error.contains("24 to 64") && (text.is_empty() || !error.contains(text)), "{error}");
        }
    }
}
