//! The values of a request that Cedar cannot hold, and the conditions that read them.
//!
//! Cedar has no null, no fraction, and no integer beyond 64 bits. If such a value were left out, a condition that tests it with `has`
//! would be false, and a forbid would not hold for the number 1e18 although it holds for 500. So the value is in the context, as a
//! placeholder that only `has` sees, and each place of a condition that reads it becomes an unknown of Cedar. The evaluation goes on as
//! far as it does not depend on the value; a condition whose result depends on it has failed, and denies.
//!
//! A tool argument of another type than the one as which a policy reads it is such a value, too, for this policy: to Cedar,
//! `"true" == true` is false without an error, and servers convert (pydantic's lax mode takes "true", "yes" and 1 for true).
//!
//! Promise: the outcome of a policy is the one that it has for every value in place of the unrepresentable one, or it has failed.

use crate::{context_attributes::ContextAttribute, residual_condition::rebuild_expression};
use cedar_policy_core::ast::{Expr, ExprKind, Unknown, Var};
use durward_core::escape_invisible;
use std::{collections::BTreeMap, fmt};

/// Values that are nested deeper in `context.params` or `context.arguments` are unrepresentable. The schema offers fewer levels
/// (`MAX_SCHEMA_DEPTH`), except of tool arguments, which have the depth that a policy reads.
pub(crate) const MAX_PARAMETER_DEPTH: usize = 8;

/// The characters of a parameter's path that a refusal shows. Names inside a list are text of the caller, of any length.
const MAX_SHOWN_PATH: usize = 120;

/// Why Cedar cannot hold a value, or a policy cannot read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnrepresentableReason {
    /// Some readers take a member that is null for one that is absent, so even `has` has no answer.
    Null,
    /// Cedar's only number type is a 64-bit signed integer.
    NotAnInteger,
    TooDeep,
    /// Both as a message names them.
    OtherType {
        found: &'static str,
        read_as: String,
    },
}

/// A value that Cedar cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnrepresentableParameter {
    /// `context.arguments.paths[1]`.
    path: String,
    reason: UnrepresentableReason,
}

impl fmt::Display for UnrepresentableParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.path.chars().take(MAX_SHOWN_PATH).collect();
        let more = if shown.len() < self.path.len() { "..." } else { "" };
        let what = match &self.reason {
            UnrepresentableReason::Null => "null",
            UnrepresentableReason::NotAnInteger => "not a whole number of 64 bits",
            UnrepresentableReason::TooDeep => "nested too deeply",
            UnrepresentableReason::OtherType { found, read_as } => {
                return write!(
                    f,
                    "`{}{more}` is {found}, and policy reads it as {read_as}",
                    escape_invisible(&shown)
                );
            }
        };
        write!(f, "`{}{more}` is {what}, which policy cannot read", escape_invisible(&shown))
    }
}

/// The unrepresentable values at and below one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnrepresentableValue {
    /// The value as a whole, also for what is inside a list: a condition reads a list only as a whole.
    Whole {
        /// Where in the list: `[1].price`. Empty for the value itself.
        inside: String,
        reason: UnrepresentableReason,
    },
    /// Members of a record. Its other members are readable.
    Members(BTreeMap<String, UnrepresentableValue>),
}

impl UnrepresentableValue {
    pub(crate) fn whole(reason: UnrepresentableReason) -> Self {
        Self::Whole { inside: String::new(), reason }
    }

    /// The item of a list, as the list as a whole.
    pub(crate) fn in_list(&self, index: usize) -> Self {
        let (inside, reason) = self.first();
        Self::Whole { inside: format!("[{index}]{inside}"), reason }
    }

    /// What is unrepresentable in either.
    pub(crate) fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Members(mut members), Self::Members(others)) => {
                for (name, other) in others {
                    let merged = match members.remove(&name) {
                        Some(member) => member.merge(other),
                        None => other,
                    };
                    members.insert(name, merged);
                }
                Self::Members(members)
            }
            (whole @ Self::Whole { .. }, _) | (_, whole @ Self::Whole { .. }) => whole,
        }
    }

    /// The path, from here, and the reason of the first one.
    fn first(&self) -> (String, UnrepresentableReason) {
        let mut path = String::new();
        let mut value = self;
        loop {
            match value {
                Self::Whole { inside, reason } => return (path + inside, reason.clone()),
                Self::Members(members) => match members.first_key_value() {
                    Some((name, member)) => {
                        path = path + "." + name;
                        value = member;
                    }
                    // Never reached: a record without such members is no `Members`.
                    None => return (path, UnrepresentableReason::TooDeep),
                },
            }
        }
    }
}

/// The unrepresentable values of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnrepresentableValues {
    /// `context.params` or `context.arguments`.
    pub attribute: ContextAttribute,
    pub values: UnrepresentableValue,
}

/// What a condition reads at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadKind {
    Value,
    /// `has`: whether there is a value.
    Presence,
}

impl UnrepresentableValues {
    /// Replaces every place of a condition that reads an unrepresentable value. The unknowns are named by the index of the parameter
    /// in the list. If the list is empty, the condition reads none.
    pub(crate) fn replace_reads(&self, condition: &Expr) -> (Expr, Vec<UnrepresentableParameter>) {
        let mut found = Vec::new();
        let replaced = rebuild_expression(condition, &mut |part| {
            let (path, kind) = context_read(part)?;
            Some(match self.find_unreadable(&path, kind) {
                Some(parameter) => {
                    let name = found.len().to_string();
                    found.push(parameter);
                    Expr::unknown(Unknown::new_untyped(name))
                }
                None => part.clone(),
            })
        });
        (replaced, found)
    }

    fn find_unreadable(&self, path: &[&str], kind: ReadKind) -> Option<UnrepresentableParameter> {
        let name = self.attribute.row().name;
        let mut shown = format!("context.{name}");
        let parameter = |shown: String, value: &UnrepresentableValue| {
            let (rest, reason) = value.first();
            Some(UnrepresentableParameter { path: shown + &rest, reason })
        };
        let (attribute, steps) = match (path.split_first(), kind) {
            // The context as a whole has the value in it.
            (None, ReadKind::Value) => return parameter(shown, &self.values),
            (None, ReadKind::Presence) => return None,
            (Some((attribute, steps)), _) => (*attribute, steps),
        };
        if attribute != name {
            return None;
        }
        let mut value = &self.values;
        for step in steps {
            let UnrepresentableValue::Members(members) = value else { return parameter(shown, value) };
            value = members.get(*step)?;
            shown = shown + "." + step;
        }
        let is_readable = match value {
            UnrepresentableValue::Members(_) => kind == ReadKind::Presence,
            UnrepresentableValue::Whole { inside, reason } => {
                let is_null = inside.is_empty() && *reason == UnrepresentableReason::Null;
                kind == ReadKind::Presence && !is_null
            }
        };
        if is_readable { None } else { parameter(shown, value) }
    }
}

/// The path below `context` that an expression reads, if it reads one. A chain of members is one read, so that reading one member
/// does not count as reading the record that it is in.
fn context_read(expression: &Expr) -> Option<(Vec<&str>, ReadKind)> {
    match expression.expr_kind() {
        ExprKind::Var(Var::Context) => Some((Vec::new(), ReadKind::Value)),
        ExprKind::GetAttr { .. } => Some((context_path(expression)?, ReadKind::Value)),
        ExprKind::HasAttr { expr, attr } => {
            let mut path = context_path(expr)?;
            path.push(attr);
            Some((path, ReadKind::Presence))
        }
        ExprKind::ExtHasAttr { expr, attrs } => {
            let mut path = context_path(expr)?;
            for attr in attrs {
                path.push(attr);
            }
            Some((path, ReadKind::Presence))
        }
        _ => None,
    }
}

fn context_path(expression: &Expr) -> Option<Vec<&str>> {
    match expression.expr_kind() {
        ExprKind::Var(Var::Context) => Some(Vec::new()),
        ExprKind::GetAttr { expr, attr } => {
            let mut path = context_path(expr)?;
            path.push(attr);
            Some(path)
        }
        _ => None,
    }
}
