//! The annotations that let people override a `forbid`, checked once when the policy is loaded.

use durward_core::{TimeoutAction, parse_duration};
use std::time::Duration;

/// The rule by which an approval overrides one `forbid`, for exactly one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRule {
    /// `@approval`: the group whose members may vote.
    pub group: String,
    /// `@quorum`: the number of people who must approve. 1 unless the policy says otherwise.
    pub quorum: u32,
    /// `@timeout`. `None`: the configured `[approval] hold`.
    pub timeout: Option<Duration>,
    /// `@on_timeout`. Reject unless the policy says otherwise.
    pub on_timeout: TimeoutAction,
}

/// The annotations that a policy may have.
pub(crate) const KNOWN_ANNOTATIONS: [&str; 7] =
    ["id", "description", "reason", "approval", "quorum", "timeout", "on_timeout"];

/// Why the approval annotations of a policy have no meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnnotationError {
    #[error("@{annotation} without @approval has no effect")]
    WithoutApproval { annotation: &'static str },
    #[error("@approval on a permit has no effect")]
    OnPermit,
    #[error("@approval names no group")]
    NoGroup,
    #[error("@quorum(\"{text}\") is not a number of people")]
    Quorum { text: String },
    #[error("@timeout(\"{text}\") is not a duration")]
    Timeout { text: String },
    #[error("@on_timeout(\"{text}\") is not known")]
    OnTimeout { text: String },
}

impl AnnotationError {
    /// The annotation to which the error points.
    pub(crate) fn annotation(&self) -> &'static str {
        match self {
            Self::WithoutApproval { annotation } => annotation,
            Self::OnPermit | Self::NoGroup => "approval",
            Self::Quorum { .. } => "quorum",
            Self::Timeout { .. } => "timeout",
            Self::OnTimeout { .. } => "on_timeout",
        }
    }

    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::WithoutApproval { .. } => {
                "add @approval(\"<group that may approve>\") or remove the annotation"
            }
            Self::OnPermit => "put it on a forbid: an approval overrides a forbid; it does not add a permit",
            Self::NoGroup => "name the group whose members may approve, as in @approval(\"platform-oncall\")",
            Self::Quorum { .. } => "write a whole number from 1, as in @quorum(\"2\")",
            Self::Timeout { .. } => "write a number and s, m, h or d, as in @timeout(\"10m\")",
            Self::OnTimeout { .. } => "write \"reject\" or \"queue\"",
        }
    }
}

/// Reads the approval of a policy from its annotations. `get` returns the value of an annotation.
pub(crate) fn parse_approval_rule<'a>(
    get: impl Fn(&str) -> Option<&'a str>,
    is_forbid: bool,
) -> Result<Option<ApprovalRule>, AnnotationError> {
    let Some(group) = get("approval") else {
        let orphan = ["quorum", "timeout", "on_timeout"].into_iter().find(|name| get(name).is_some());
        return match orphan {
            Some(annotation) => Err(AnnotationError::WithoutApproval { annotation }),
            None => Ok(None),
        };
    };
    if !is_forbid {
        return Err(AnnotationError::OnPermit);
    }
    let group = group.trim();
    if group.is_empty() {
        return Err(AnnotationError::NoGroup);
    }
    let quorum = match get("quorum") {
        None => 1,
        Some(text) => match text.parse::<u32>() {
            // A quorum of 0 would approve every operation without a vote.
            Ok(number) if number >= 1 => number,
            _ => return Err(AnnotationError::Quorum { text: text.to_owned() }),
        },
    };
    let timeout = match get("timeout") {
        None => None,
        Some(text) => match parse_duration(text) {
            Some(duration) => Some(duration),
            None => return Err(AnnotationError::Timeout { text: text.to_owned() }),
        },
    };
    let on_timeout = match get("on_timeout") {
        None | Some("reject") => TimeoutAction::Reject,
        Some("queue") => TimeoutAction::Queue,
        Some(text) => return Err(AnnotationError::OnTimeout { text: text.to_owned() }),
    };
    Ok(Some(ApprovalRule { group: group.to_owned(), quorum, timeout, on_timeout }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_annotation_pairs(
        pairs: &[(&str, &'static str)],
    ) -> Result<Option<ApprovalRule>, AnnotationError> {
        parse_approval_rule(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value), true)
    }

    #[test]
    fn reads_every_annotation() {
        let rule = parse_annotation_pairs(&[
            ("approval", "oncall"),
            ("quorum", "2"),
            ("timeout", "10m"),
            ("on_timeout", "queue"),
        ]);
        assert_eq!(
            rule,
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
        for (pairs, annotation) in [
            (vec![("approval", " ")], "approval"),
            (vec![("approval", "a"), ("quorum", "0")], "quorum"),
            (vec![("approval", "a"), ("quorum", "two")], "quorum"),
            (vec![("approval", "a"), ("timeout", "10")], "timeout"),
            (vec![("approval", "a"), ("timeout", "0m")], "timeout"),
            (vec![("approval", "a"), ("timeout", "9999999999999999999d")], "timeout"),
            (vec![("approval", "a"), ("on_timeout", "allow")], "on_timeout"),
            (vec![("quorum", "2")], "quorum"),
        ] {
            let error = parse_annotation_pairs(&pairs).expect_err("it has no meaning");
            assert_eq!(error.annotation(), annotation, "{pairs:?}");
        }
        let on_permit = parse_approval_rule(|name| (name == "approval").then_some("a"), false);
        assert_eq!(on_permit, Err(AnnotationError::OnPermit));
    }
}
