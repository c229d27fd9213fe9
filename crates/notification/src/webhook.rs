//! Messages for programs: JSON, signed as Standard Webhooks says (`v1`: HMAC-SHA256 over id, time and body).
//!
//! Unlike the messages for people, the JSON holds texts as the caller wrote them: what shows them must escape them.

use crate::brief::{Brief, Gist, Summary, stamp};
use crate::{ChannelError, Event};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_approval::Ask;
use durward_core::Secret;
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Asks that a summary names.
const NAMED: usize = 100;

/// One secret to sign with.
#[derive(Clone)]
pub(crate) struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// One `whsec_<base64>` a line, of 24 to 64 bytes.
    pub(crate) fn read_all(secrets: &Secret) -> Result<Vec<Self>, ChannelError> {
        let lines = secrets.expose().lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<Self> = lines.map(Self::read).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(wrong()) } else { Ok(keys) }
    }

    fn read(text: &str) -> Result<Self, ChannelError> {
        let encoded = text.strip_prefix("whsec_").ok_or_else(wrong)?;
        let mut bytes = STANDARD.decode(encoded).map_err(|_error| wrong())?;
        let key = (24..=64).contains(&bytes.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        bytes.fill(0);
        key.ok_or_else(wrong)
    }
}

fn wrong() -> ChannelError {
    ChannelError::new(
        "the secret is not one of Standard Webhooks: write whsec_ and the base64 of 24 to 64 random bytes",
    )
}

/// The value of `webhook-signature`.
pub(crate) fn sign(keys: &[Key], id: &str, timestamp: i64, body: &[u8]) -> String {
    let one = |key: &Key| {
        let mut context = hmac::Context::with_key(&key.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The JSON of one event.
pub(crate) fn render(ask: &Ask, brief: &Brief, event: Event) -> Value {
    let what = &ask.what;
    let operation = &what.operation;
    let demand = |demand: &durward_core::Demand| {
        json!({
            "action": demand.action,
            "resource": demand.resource.as_text(),
            "access_level": demand.access_level.as_str(),
        })
    };
    let requirement = |one: &durward_approval::Requirement| json!({"policy": one.policy, "group": one.group, "quorum": one.quorum});
    let answer = |vote: &durward_approval::Vote| json!({"by": vote.by.id, "approve": vote.approve, "break_glass": vote.break_glass, "reason": vote.reason});
    let missing = |(group, people): (String, u32)| json!({"group": group, "people": people});
    let at = match event {
        Event::Opened => ask.created,
        Event::Closed | Event::BreakGlass => ended(ask),
    };
    json!({
        "type": event.as_str(),
        "timestamp": stamp(at),
        "data": {
            "summary": brief.headline(),
            "url": brief.url,
            "ask": {
                "id": ask.id.to_string(),
                "state": ask.state.as_str(),
                "title": operation.title(),
                "demands": operation.demands.iter().map(demand).collect::<Vec<_>>(),
                "tags": what.tags,
                "account": operation.account,
                "region": operation.region,
                "connection": what.connection,
                "uninspected": operation.uninspected,
                "caller": {"id": what.caller.id(), "kind": what.caller.kind.as_str(), "act": what.caller.act},
                "risk": {"score": ask.risk.score, "reasons": ask.risk.reasons},
                "reason": what.reason,
                "requirements": what.requirements.iter().map(requirement).collect::<Vec<_>>(),
                "missing": ask.missing().into_iter().map(missing).collect::<Vec<_>>(),
                "answers": ask.votes.iter().map(answer).collect::<Vec<_>>(),
                "created": stamp(ask.created),
                "deadline": stamp(ask.deadline),
                "break_glass": ask.break_glass,
            },
        },
    })
}

/// When an ask ended, as far as its history says.
pub(crate) fn ended(ask: &Ask) -> OffsetDateTime {
    let end = ask.history.iter().rev().find(|event| {
        matches!(
            event.kind.as_str(),
            "granted" | "deny" | "withdrawn" | "timed_out" | "expired" | "superseded" | "damaged"
        )
    });
    end.or(ask.history.last()).map_or(ask.created, |event| event.at)
}

/// The JSON of several events in one.
pub(crate) fn render_summary(summary: &Summary, now: OffsetDateTime) -> Value {
    let named = |gists: &[Gist]| {
        let one = |gist: &Gist| json!({"id": gist.ask, "url": gist.url, "summary": gist.headline});
        gists.iter().take(NAMED).map(one).collect::<Vec<_>>()
    };
    json!({
        "type": "asks.summary",
        "timestamp": stamp(now),
        "data": {
            "url": summary.url,
            "opened": {"count": summary.opened.len(), "asks": named(&summary.opened)},
            "closed": {"count": summary.closed.len(), "asks": named(&summary.closed)},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example that Standard Webhooks and its libraries publish.
    #[test]
    fn signs_the_published_example() {
        let keys = Key::read_all(&Secret::new(format!("{SECRET}\n"))).unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = sign(&keys, id, 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two =
            Key::read_all(&Secret::new(format!("whsec_{}\n{SECRET}", STANDARD.encode([7; 32])))).unwrap();
        let both = sign(&two, id, 1_614_265_330, b"{\"test\": 2432232314}");
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {signed}")), "{both}");
    }

    #[test]
    fn refuses_what_is_no_secret_without_printing_it() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for text in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64", &short, &long] {
            let error = Key::read_all(&Secret::new(text)).unwrap_err().to_string();
            assert!(error.contains("24 to 64") && (text.is_empty() || !error.contains(text)), "{error}");
        }
    }
}
