//! The annotations by which a `forbid` can be lifted by people, read and checked once at load.

use durward_core::{TimeoutAction, parse_duration};
use std::time::Duration;

/// How people can lift one `forbid` for exactly one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRule {
    /// `@approval`: the group whose members may answer.
    pub group: String,
    /// `@quorum`: how many people must approve. 1 unless the policy says otherwise.
    pub quorum: u32,
    /// `@timeout`; none: the configuration's.
    pub timeout: Option<Duration>,
    /// `@on_timeout`. Reject unless the policy says otherwise.
    pub on_timeout: TimeoutAction,
}

/// The annotations a policy may carry.
pub(crate) const KNOWN_ANNOTATIONS: [&str; 7] =
    ["id", "description", "reason", "approval", "quorum", "timeout", "on_timeout"];

/// Reads the approval of a policy from its annotations. `get` returns an annotation's value. Errors are (annotation, message, help).
pub(crate) fn parse_approval_rule<'a>(
    get: impl Fn(&str) -> Option<&'a str>,
    is_forbid: bool,
) -> Result<Option<ApprovalRule>, (&'static str, String, String)> {
    let Some(group) = get("approval") else {
        for name in ["quorum", "timeout", "on_timeout"] {
            if get(name).is_some() {
                return Err((
                    name,
                    format!("@{name} without @approval has no effect"),
                    "add @approval(\"<group that may approve>\") or remove the annotation".to_owned(),
                ));
            }
        }
        return Ok(None);
    };
    if !is_forbid {
        return Err((
            "approval",
            "@approval on a permit has no effect".to_owned(),
            "put it on a forbid: an approval overrides a forbid; it does not add a permit".to_owned(),
        ));
    }
    let group = group.trim();
    if group.is_empty() {
        return Err((
            "approval",
            "@approval names no group".to_owned(),
            "name the group whose members may approve, as in @approval(\"platform-oncall\")".to_owned(),
        ));
    }
    let quorum = match get("quorum") {
        None => 1,
        Some(text) => match text.parse::<u32>() {
            Ok(number) if number >= 1 => number,
            _ => {
                return Err((
                    "quorum",
                    format!("@quorum(\"{text}\") is not a number of people"),
                    "write a whole number from 1, as in @quorum(\"2\")".to_owned(),
                ));
            }
        },
    };
    let timeout = match get("timeout") {
        None => None,
        Some(text) => match parse_duration(text) {
            Some(length) => Some(length),
            None => {
                return Err((
                    "timeout",
                    format!("@timeout(\"{text}\") is not a duration"),
                    "write a number and s, m, h or d, as in @timeout(\"10m\")".to_owned(),
                ));
            }
        },
    };
    let on_timeout = match get("on_timeout") {
        None | Some("reject") => TimeoutAction::Reject,
        Some("queue") => TimeoutAction::Queue,
        Some(text) => {
            return Err((
                "on_timeout",
                format!("@on_timeout(\"{text}\") is not known"),
                "write \"reject\" or \"queue\"".to_owned(),
            ));
        }
    };
    Ok(Some(ApprovalRule { group: group.to_owned(), quorum, timeout, on_timeout }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_annotation_pairs(
        pairs: &[(&str, &'static str)],
    ) -> Result<Option<ApprovalRule>, (&'static str, String, String)> {
        let pairs: Vec<(String, &'static str)> = pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        parse_approval_rule(|name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| *value), true)
    }

    #[test]
    fn reads_every_annotation() {
        let approval = parse_annotation_pairs(&[
            ("approval", "oncall"),
            ("quorum", "2"),
            ("timeout", "10m"),
            ("on_timeout", "queue"),
        ]);
        assert_eq!(
            approval,
            Ok(Some(ApprovalRule {
                group: "oncall".to_owned(),
                quorum: 2,
                timeout: Some(Duration::from_mins(10)),
                on_timeout: TimeoutAction::Queue,
            }))
        );
    }

    #[test]
    fn refuses_meaningless_annotations() {
        for (wrong, at) in [
            (vec![("approval", " ")], "approval"),
            (vec![("approval", "a"), ("quorum", "0")], "quorum"),
            (vec![("approval", "a"), ("quorum", "two")], "quorum"),
            (vec![("approval", "a"), ("timeout", "10")], "timeout"),
            (vec![("approval", "a"), ("timeout", "0m")], "timeout"),
            (vec![("approval", "a"), ("timeout", "9999999999999999999d")], "timeout"),
            (vec![("approval", "a"), ("on_timeout", "allow")], "on_timeout"),
            (vec![("quorum", "2")], "quorum"),
        ] {
            assert_eq!(parse_annotation_pairs(&wrong).map_err(|(name, ..)| name), Err(at), "{wrong:?}");
        }
        assert!(
            parse_approval_rule(|name| (name == "approval").then_some("a"), false).is_err(),
            "a permit cannot be approved"
        );
    }
}
