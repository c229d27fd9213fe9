//! Session policies as IAM evaluates them, in the part that Durward writes: Allow statements with Action, Resource and
//! `DateLessThan aws:CurrentTime` and `StringEqualsIfExists aws:ResourceAccount`. A policy with anything else (a Deny, NotAction, another condition) allows nothing: an
//! evaluation that skipped it could allow more than IAM would.

use durward_core::{Arn, is_account_id};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The members of a statement that are evaluated; `Sid` has no meaning.
const KNOWN_MEMBERS: [&str; 5] = ["Sid", "Effect", "Action", "Resource", "Condition"];

/// Returns true if `policy` allows `action` on `resource` at `now`. Every bucket is of `own_account`, but for those whose names end with the
/// twelve digits of another account.
pub fn policy_allows(
    policy: &Value,
    action: &str,
    resource: &str,
    own_account: &str,
    now: OffsetDateTime,
) -> bool {
    let Some(Value::Array(statements)) = policy.get("Statement") else { return false };
    statements.iter().all(is_plain_allow)
        && statements.iter().any(|statement| {
            // IAM compares the names of actions without regard to case, and ARNs with regard to it.
            string_items(statement.get("Action"))
                .any(|pattern| matches_pattern(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase()))
                && string_items(statement.get("Resource")).any(|pattern| matches_pattern(pattern, resource))
                && condition_holds(statement.get("Condition"), resource_account(resource, own_account), now)
        })
}

fn is_plain_allow(statement: &Value) -> bool {
    statement.as_object().is_some_and(|members| {
        members.get("Effect").and_then(Value::as_str) == Some("Allow")
            && members.keys().all(|name| KNOWN_MEMBERS.contains(&name.as_str()))
    })
}

fn string_items(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let items: Vec<&str> = match value {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    items.into_iter()
}

fn condition_holds(condition: Option<&Value>, resource_account: &str, now: OffsetDateTime) -> bool {
    let Some(condition) = condition else { return true };
    let Value::Object(operators) = condition else { return false };
    operators.iter().all(|(operator, keys)| {
        keys.as_object().is_some_and(|keys| {
            keys.iter().all(|(key, expected)| match (operator.as_str(), key.as_str()) {
                ("DateLessThan", "aws:CurrentTime") => {
                    let limit = expected.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
                    limit.is_some_and(|limit| now < limit)
                }
                ("StringEqualsIfExists", "aws:ResourceAccount") => {
                    string_items(Some(expected)).any(|account| account == resource_account)
                }
                _ => false,
            })
        })
    })
}

fn resource_account<'a>(resource: &'a str, own_account: &'a str) -> &'a str {
    let Some(arn) = Arn::parse(resource) else { return own_account };
    if arn.service != "s3" || !arn.account.is_empty() {
        return arn.account;
    }
    let bucket = arn.resource.split('/').next().unwrap_or_default();
    bucket.rsplit('-').next().filter(|end| is_account_id(end)).unwrap_or(own_account)
}

enum PatternPart {
    Any,
    One,
    Exactly(char),
}

/// IAM wildcards: `*` and `?`, with `${*}`, `${?}` and `${$}` standing for the characters themselves.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let literal = ["${*}", "${?}", "${$}"].into_iter().find(|escape| rest.starts_with(escape));
        if let Some(escape) = literal {
            parts.extend(escape.chars().nth(2).map(PatternPart::Exactly));
            rest = rest.get(escape.len()..).unwrap_or_default();
            continue;
        }
        parts.push(match first {
            '*' => PatternPart::Any,
            '?' => PatternPart::One,
            other => PatternPart::Exactly(other),
        });
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    let text: Vec<char> = text.chars().collect();
    // reach[i]: the parts so far can match the first i characters.
    let mut reach: Vec<bool> = std::iter::once(true).chain(text.iter().map(|_character| false)).collect();
    for part in &parts {
        let mut next = vec![false; reach.len()];
        for (index, &reached) in reach.iter().enumerate() {
            match part {
                PatternPart::Any => {
                    let before =
                        index.checked_sub(1).and_then(|before| next.get(before).copied()).unwrap_or(false);
                    if let Some(slot) = next.get_mut(index) {
                        *slot = reached || before;
                    }
                }
                PatternPart::One | PatternPart::Exactly(_) => {
                    let fits = match (part, text.get(index)) {
                        (PatternPart::Exactly(wanted), Some(found)) => wanted == found,
                        (_, found) => found.is_some(),
                    };
                    if reached
                        && fits
                        && let Some(slot) = next.get_mut(index + 1)
                    {
                        *slot = true;
                    }
                }
            }
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::ACCOUNT_ID;
    use serde_json::json;
    use time::macros::datetime;

    #[test]
    fn allows_the_named_actions_until_the_limit() {
        let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::b/a?c", "arn:aws:s3:::b/${*}"], "Condition": {"DateLessThan": {"aws:CurrentTime": "2026-11-21T12:01:00Z"}}}]});
        let now = datetime!(2026-11-21 12:00:30 UTC);
        assert!(policy_allows(&policy, "s3:GetObject", "arn:aws:s3:::b/abc", ACCOUNT_ID, now));
        assert!(policy_allows(&policy, "s3:getobject", "arn:aws:s3:::b/*", ACCOUNT_ID, now));
        assert!(!policy_allows(&policy, "s3:GetObject", "arn:aws:s3:::b/other", ACCOUNT_ID, now));
        assert!(!policy_allows(&policy, "s3:PutObject", "arn:aws:s3:::b/abc", ACCOUNT_ID, now));
        assert!(!policy_allows(
            &policy,
            "s3:GetObject",
            "arn:aws:s3:::b/abc",
            ACCOUNT_ID,
            datetime!(2026-11-21 12:01 UTC)
        ));
        assert!(!policy_allows(&json!({}), "s3:GetObject", "*", ACCOUNT_ID, now));
        let unknown = json!({"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}});
        assert!(!policy_allows(&unknown, "s3:GetObject", "*", ACCOUNT_ID, now));
    }
    #[test]
    fn knows_the_owner_of_a_bucket() {
        let now = datetime!(2026-11-21 12:00 UTC);
        let allows = |account: &str, bucket: &str| {
            let condition = json!({"StringEqualsIfExists": {"aws:ResourceAccount": [account]}});
            let statement =
                json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", "Condition": condition});
            policy_allows(&json!({"Statement": [statement]}), "s3:GetObject", bucket, ACCOUNT_ID, now)
        };
        assert!(allows(ACCOUNT_ID, "arn:aws:s3:::demo-data/k"));
        assert!(!allows(ACCOUNT_ID, "arn:aws:s3:::data-999999999999/k"));
        assert!(allows("999999999999", "arn:aws:s3:::data-999999999999/k"));
        assert!(!allows("999999999999", "arn:aws:s3:::demo-data/k-999999999999"));
    }

    #[test]
    fn a_statement_that_is_not_a_plain_allow_allows_nothing() {
        let now = datetime!(2026-11-21 12:00 UTC);
        let allow = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
        assert!(policy_allows(&json!({"Statement": [allow]}), "s3:GetObject", "*", ACCOUNT_ID, now));
        for other in [
            json!({"Effect": "Deny", "Action": "s3:*", "Resource": "*"}),
            json!({"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}),
            json!({"Effect": "Allow", "Action": "s3:*", "NotResource": "*"}),
            json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Principal": "*"}),
        ] {
            let policy = json!({"Statement": [allow, other]});
            assert!(!policy_allows(&policy, "s3:GetObject", "*", ACCOUNT_ID, now), "{policy}");
        }
    }
}
