//! What a policy's conditions read: which facts must be put before Cedar, and how the arguments of a tool are typed by use.
//!
//! Promise: whatever a condition can reach is in [`Needs`]; where the reading is not sure, it asks for everything or refuses.

use crate::notation::{node, operands, path, tested};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The attributes of `context`, each with its bit in [`Needs::facts`].
pub(crate) const CONTEXT: [&str; 17] = [
    "source_ip",
    "now",
    "operation",
    "region",
    "account",
    "connection",
    "irreversible",
    "escalates",
    "indirect",
    "returns_credentials",
    "access_level",
    "params",
    "server",
    "tool",
    "arguments",
    "risk",
    "request_tags",
];

/// Which request members (`context.params`, `context.arguments`) are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Members {
    Named(BTreeSet<Box<str>>),
    All,
}

/// What must be put before Cedar for a policy to be decided as if everything were.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Needs {
    /// Bit i: `context` has the attribute `CONTEXT[i]`.
    pub facts: u32,
    pub members: Members,
    pub principal: bool,
    pub resource: bool,
    /// The tags of the resource.
    pub tags: bool,
}

impl Needs {
    pub(crate) fn nothing() -> Self {
        Self {
            facts: 0,
            members: Members::Named(BTreeSet::new()),
            principal: false,
            resource: false,
            tags: false,
        }
    }

    pub(crate) fn everything() -> Self {
        Self { facts: u32::MAX, members: Members::All, principal: true, resource: true, tags: true }
    }

    pub(crate) fn fact(&self, name: &str) -> bool {
        self.facts & bit(name) != 0
    }

    pub(crate) fn member(&self, name: &str) -> bool {
        match &self.members {
            Members::All => true,
            Members::Named(names) => names.contains(name),
        }
    }
}

/// What several policies need together: of the distinct needs of a set, which ones.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    all: &'a [Needs],
    which: Vec<u32>,
    pub facts: u32,
    pub principal: bool,
    pub resource: bool,
    pub tags: bool,
}

impl<'a> Wanted<'a> {
    pub(crate) fn none_of(all: &'a [Needs]) -> Self {
        Self { all, which: Vec::new(), facts: 0, principal: false, resource: false, tags: false }
    }

    pub(crate) fn add(&mut self, number: u32) {
        if !self.which.contains(&number)
            && let Some(needs) = self.all.get(number as usize)
        {
            self.which.push(number);
            self.facts |= needs.facts;
            self.principal |= needs.principal;
            self.resource |= needs.resource;
            self.tags |= needs.tags;
        }
    }

    pub(crate) fn fact(&self, name: &str) -> bool {
        self.facts & bit(name) != 0
    }

    pub(crate) fn member(&self, name: &str) -> bool {
        self.which.iter().filter_map(|number| self.all.get(*number as usize)).any(|needs| needs.member(name))
    }

    /// Whether the same is needed; both of one set.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.which == other.which
    }
}

fn bit(name: &str) -> u32 {
    CONTEXT.iter().position(|known| *known == name).map_or(0, |index| 1 << index)
}

/// The type of an argument as far as its uses tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Long,
    Bool,
    Set(Box<Kind>),
}

impl Kind {
    fn to_schema(&self) -> Value {
        match self {
            Self::String => json!({ "type": "String" }),
            Self::Long => json!({ "type": "Long" }),
            Self::Bool => json!({ "type": "Boolean" }),
            Self::Set(element) => json!({ "type": "Set", "element": element.to_schema() }),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::String => "a string".to_owned(),
            Self::Long => "a number".to_owned(),
            Self::Bool => "a boolean".to_owned(),
            Self::Set(element) => format!("a set with {} in it", element.name()),
        }
    }
}

/// One argument of a tool, or a part of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Argument {
    kind: Option<Kind>,
    /// Somewhere tested with `has`: then it is optional, and Cedar asks for the test before each use.
    optional: bool,
    parts: BTreeMap<String, Argument>,
}

impl Argument {
    /// The parts as a record type in Cedar's JSON schema format. An argument never tested with `has` is required: where it
    /// is missing, evaluation errs and the operation is refused.
    pub(crate) fn to_schema(&self) -> Value {
        let mut attributes = Map::new();
        for (name, part) in &self.parts {
            let mut schema = if part.parts.is_empty() {
                part.kind.as_ref().unwrap_or(&Kind::String).to_schema()
            } else {
                part.to_schema()
            };
            if let Value::Object(fields) = &mut schema {
                fields.insert("required".to_owned(), Value::Bool(!part.optional));
            }
            attributes.insert(name.clone(), schema);
        }
        json!({ "type": "Record", "attributes": attributes })
    }
}

/// What reading one policy found.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub needs: Needs,
    /// The conditions speak of `action`.
    pub action: bool,
    /// The conditions read attributes or ancestors of something else than the request's own variables. Such policies are not
    /// loaded: of other entities only the id is known.
    pub foreign: bool,
    pub params: bool,
    /// The conditions read `context.arguments`.
    pub arguments: bool,
    pub argument: Argument,
    /// Arguments used as two types at once.
    pub conflicts: Vec<String>,
}

/// Reads the conditions of a policy in Cedar's JSON notation.
pub(crate) fn read(policy: &Value) -> Reading {
    let mut reading = Reading {
        needs: Needs::nothing(),
        action: false,
        foreign: false,
        params: false,
        arguments: false,
        argument: Argument::default(),
        conflicts: Vec::new(),
    };
    match policy.get("conditions").and_then(Value::as_array) {
        Some(conditions) => {
            for condition in conditions {
                if let Some(body) = condition.get("body") {
                    reading.visit(body, Some(&Kind::Bool));
                }
            }
        }
        None => reading.needs = Needs::everything(),
    }
    reading
}

impl Reading {
    fn visit(&mut self, expression: &Value, wanted: Option<&Kind>) {
        let Some((operator, inside)) = node(expression) else {
            self.needs = Needs::everything();
            return;
        };
        match operator {
            "Var" => match inside.as_str() {
                Some("context") => {
                    self.needs.facts = u32::MAX;
                    self.needs.members = Members::All;
                    self.params = true;
                }
                Some("action") => self.action = true,
                _ => {}
            },
            "." => {
                if let Some((root, steps)) = path(expression) {
                    self.access(root, &steps, wanted, false);
                } else {
                    self.foreign = true;
                    self.inside(expression, None);
                }
            }
            "has" => {
                if let Some((root, mut steps)) = inside.get("left").and_then(path) {
                    for name in tested(inside) {
                        steps.push(name);
                        self.access(root, &steps, None, true);
                    }
                } else {
                    self.foreign = true;
                    self.inside(expression, None);
                }
            }
            "in" | "is" => {
                let own = inside.get("left").and_then(node).is_some_and(|(operator, _)| operator == "Var");
                self.foreign |= !own && (operator == "in" || inside.get("in").is_some());
                self.inside(expression, None);
            }
            "hasTag" | "getTag" => {
                self.needs.tags = true;
                let own = inside.get("left").and_then(node).is_some_and(|(operator, inside)| {
                    operator == "Var" && inside.as_str() == Some("resource")
                });
                self.foreign |= !own;
                self.inside(expression, Some(&Kind::String));
            }
            "&&" | "||" | "!" => self.inside(expression, Some(&Kind::Bool)),
            "<" | "<=" | ">" | ">=" | "+" | "-" | "*" | "neg" => self.inside(expression, Some(&Kind::Long)),
            "like" => self.inside(expression, Some(&Kind::String)),
            "==" | "!=" | "containsAll" | "containsAny" => self.both(inside, Clone::clone, Clone::clone),
            "contains" => self.both(
                inside,
                |right| Kind::Set(Box::new(right.clone())),
                |left| match left {
                    Kind::Set(element) => (**element).clone(),
                    other => other.clone(),
                },
            ),
            "if-then-else" => {
                for (role, kind) in [("if", Some(&Kind::Bool)), ("then", wanted), ("else", wanted)] {
                    if let Some(part) = inside.get(role) {
                        self.visit(part, kind);
                    }
                }
            }
            "Set" => {
                let element = match wanted {
                    Some(Kind::Set(element)) => Some(&**element),
                    _ => None,
                };
                self.inside(expression, element);
            }
            _ => self.inside(expression, None),
        }
    }

    fn inside(&mut self, expression: &Value, wanted: Option<&Kind>) {
        for operand in operands(expression) {
            self.visit(operand, wanted);
        }
    }

    /// Visits two operands, each typed by the other.
    fn both(
        &mut self,
        inside: &Value,
        from_right: impl Fn(&Kind) -> Kind,
        from_left: impl Fn(&Kind) -> Kind,
    ) {
        let (Some(left), Some(right)) = (inside.get("left"), inside.get("right")) else { return };
        let left_kind = kind_of(right).map(|kind| from_right(&kind));
        let right_kind = kind_of(left).map(|kind| from_left(&kind));
        self.visit(left, left_kind.as_ref());
        self.visit(right, right_kind.as_ref());
    }

    fn access(&mut self, root: &str, steps: &[&str], wanted: Option<&Kind>, tested: bool) {
        match (root, steps) {
            ("principal", _) => self.needs.principal = true,
            ("resource", _) => self.needs.resource = true,
            ("context", [name, rest @ ..]) => {
                self.needs.facts |= bit(name);
                if !matches!(*name, "params" | "arguments") {
                    return;
                }
                self.params |= *name == "params";
                self.arguments |= *name == "arguments";
                match rest.first() {
                    // `context has params` reads no member; `context.params == {...}` reads all.
                    None if tested => {}
                    None => self.needs.members = Members::All,
                    Some(member) => {
                        if let Members::Named(names) = &mut self.needs.members {
                            names.insert((*member).into());
                        }
                        if *name == "arguments" {
                            self.argue(rest, wanted, tested);
                        }
                    }
                }
            }
            // Tags are read by operators of their own.
            _ => self.needs = Needs { tags: self.needs.tags, ..Needs::everything() },
        }
    }

    fn argue(&mut self, steps: &[&str], wanted: Option<&Kind>, tested: bool) {
        let mut at = &mut self.argument;
        for step in steps {
            at = at.parts.entry((*step).to_owned()).or_default();
        }
        if tested {
            at.optional = true;
        }
        let Some(wanted) = wanted else { return };
        match &at.kind {
            Some(kind) if kind != wanted => self.conflicts.push(format!(
                "argument `{}` is used as {} and as {}",
                steps.join("."),
                kind.name(),
                wanted.name()
            )),
            _ => at.kind = Some(wanted.clone()),
        }
    }
}

/// The type of an expression where its form tells.
fn kind_of(expression: &Value) -> Option<Kind> {
    let (operator, inside) = node(expression)?;
    match operator {
        "Value" => match inside {
            Value::String(_) => Some(Kind::String),
            Value::Number(_) => Some(Kind::Long),
            Value::Bool(_) => Some(Kind::Bool),
            Value::Array(items) => {
                items.first().and_then(|item| kind_of(&json!({ "Value": item }))).map(Box::new).map(Kind::Set)
            }
            _ => None,
        },
        "Set" => inside.as_array()?.iter().find_map(kind_of).map(Box::new).map(Kind::Set),
        "+" | "-" | "*" | "neg" => Some(Kind::Long),
        "&&" | "||" | "!" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "like" | "has" | "contains"
        | "containsAll" | "containsAny" | "in" | "is" => Some(Kind::Bool),
        "." => match path(expression)? {
            ("principal", steps) if steps == ["acting_for"] => Some(Kind::Set(Box::new(Kind::String))),
            ("principal" | "resource", _) => Some(Kind::String),
            ("context", steps)
                if steps.len() == 1
                    && matches!(steps[0], "server" | "tool" | "operation" | "region" | "account") =>
            {
                Some(Kind::String)
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    fn reading(conditions: &str) -> Reading {
        let text = format!("forbid (principal, action, resource) {conditions};");
        let policy = Policy::parse(None, text).expect("the test's policy parses");
        read(&policy.to_json().expect("a parsed policy has a JSON form"))
    }

    #[test]
    fn finds_every_fact_a_condition_reads() {
        let found = reading(
            "when { context.region == \"x\" && context has account } unless { resource.type == \"t\" }",
        );
        assert!(found.needs.fact("region") && found.needs.fact("account") && found.needs.resource);
        assert!(!found.needs.fact("now") && !found.needs.principal && !found.foreign && !found.params);
        let found = reading("when { context.params has Tags.Owner && context.params[\"Key\"] like \"a*\" }");
        assert!(found.needs.member("Tags") && found.needs.member("Key") && !found.needs.member("Bucket"));
        assert!(found.params);
    }

    #[test]
    fn asks_for_everything_where_it_is_not_sure() {
        let found = reading("when { context == {region: \"x\"} }");
        assert!(found.needs.fact("region") && found.needs.fact("now"));
        assert_eq!(found.needs.members, Members::All);
        let found = reading("when { (if true then context else context).region == \"x\" }");
        assert_eq!((found.needs.members, found.foreign), (Members::All, true));
    }

    #[test]
    fn tells_when_another_entity_is_read() {
        for condition in [
            "(if true then principal else resource).subject == \"x\"",
            "Caller::\"a/b\".kind == \"human\"",
            "Caller::\"a/b\" has kind",
            "Aws::Account::\"123456789012\" in Connection::\"demo\"",
            "Caller::\"a/b\" is Caller in Group::\"g\"",
            "{a: principal}.a.kind == \"human\"",
        ] {
            assert!(reading(&format!("when {{ {condition} }}")).foreign, "{condition}");
        }
        for condition in [
            "principal == Caller::\"a/b\"",
            "resource is Aws::Resource",
            "principal is Caller in Group::\"g\"",
        ] {
            assert!(!reading(&format!("when {{ {condition} }}")).foreign, "{condition}");
        }
    }

    #[test]
    fn a_scope_alone_needs_nothing() {
        assert_eq!(reading("").needs, Needs::nothing());
        assert_eq!(reading("when { principal in Group::\"g\" }").needs, Needs::nothing());
    }

    #[test]
    fn types_arguments_by_what_they_are_compared_with() {
        let found = reading(
            "when { context.arguments.s == \"x\" && 3 < context.arguments.n && context.arguments.b \
             && [\"a\"].contains(context.arguments.e) && context.arguments.l.contains(\"a\") \
             && context.arguments.o.p like \"x*\" && context.arguments has q && context.arguments.q == 1 }",
        );
        assert_eq!(found.conflicts, Vec::<String>::new());
        assert_eq!(
            found.argument.to_schema(),
            json!({ "type": "Record", "attributes": {
                "s": { "type": "String", "required": true },
                "n": { "type": "Long", "required": true },
                "b": { "type": "Boolean", "required": true },
                "e": { "type": "String", "required": true },
                "l": { "type": "Set", "element": { "type": "String" }, "required": true },
                "o": { "type": "Record", "required": true, "attributes": { "p": { "type": "String", "required": true } } },
                "q": { "type": "Long", "required": false },
            } })
        );
    }

    #[test]
    fn tells_when_an_argument_is_two_things() {
        let found = reading("when { context.arguments.id == \"x\" || context.arguments.id == 7 }");
        assert_eq!(found.conflicts, ["argument `id` is used as a string and as a number"]);
    }

    #[test]
    fn sees_tags_and_action() {
        assert!(reading("when { resource.hasTag(\"a\") }").needs.tags);
        assert!(reading("when { action in Aws::Action::\"Read\" }").action);
    }
}
