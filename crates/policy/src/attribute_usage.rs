//! What a policy's conditions read: which facts must be put before Cedar, and how the arguments of a tool are typed by use.
//!
//! Promise: whatever a condition can reach is in [`Needs`]; where the reading is not sure, it asks for everything or refuses.

use crate::cedar_json::{attribute_path, child_expressions, operator_and_operands, tested_attributes};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The attributes of `context`, each with its bit in [`Needs::facts`].
pub(crate) const CONTEXT_ATTRIBUTES: [&str; 17] = [
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
pub(crate) enum RequestMembers {
    Named(BTreeSet<Box<str>>),
    All,
}

/// What must be put before Cedar for a policy to be decided as if everything were.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RequiredAttributes {
    /// Bit i: `context` has the attribute `CONTEXT[i]`.
    pub context_bits: u32,
    pub request_members: RequestMembers,
    pub reads_principal: bool,
    pub reads_resource: bool,
    /// The tags of the resource.
    pub reads_tags: bool,
}

impl RequiredAttributes {
    pub(crate) fn none() -> Self {
        Self {
            context_bits: 0,
            request_members: RequestMembers::Named(BTreeSet::new()),
            reads_principal: false,
            reads_resource: false,
            reads_tags: false,
        }
    }

    pub(crate) fn all() -> Self {
        Self {
            context_bits: u32::MAX,
            request_members: RequestMembers::All,
            reads_principal: true,
            reads_resource: true,
            reads_tags: true,
        }
    }

    pub(crate) fn reads_context_attribute(&self, name: &str) -> bool {
        self.context_bits & context_attribute_bit(name) != 0
    }

    pub(crate) fn reads_member(&self, name: &str) -> bool {
        match &self.request_members {
            RequestMembers::All => true,
            RequestMembers::Named(names) => names.contains(name),
        }
    }
}

/// What several policies need together: of the distinct needs of a set, which ones.
#[derive(Debug, Clone)]
pub(crate) struct CombinedAttributes<'a> {
    distinct_attributes: &'a [RequiredAttributes],
    included_indexes: Vec<u32>,
    pub context_bits: u32,
    pub reads_principal: bool,
    pub reads_resource: bool,
    pub reads_tags: bool,
}

impl<'a> CombinedAttributes<'a> {
    pub(crate) fn new(all: &'a [RequiredAttributes]) -> Self {
        Self {
            distinct_attributes: all,
            included_indexes: Vec::new(),
            context_bits: 0,
            reads_principal: false,
            reads_resource: false,
            reads_tags: false,
        }
    }

    pub(crate) fn include_attributes(&mut self, number: u32) {
        if !self.included_indexes.contains(&number)
            && let Some(needs) = self.distinct_attributes.get(number as usize)
        {
            self.included_indexes.push(number);
            self.context_bits |= needs.context_bits;
            self.reads_principal |= needs.reads_principal;
            self.reads_resource |= needs.reads_resource;
            self.reads_tags |= needs.reads_tags;
        }
    }

    pub(crate) fn reads_context_attribute(&self, name: &str) -> bool {
        self.context_bits & context_attribute_bit(name) != 0
    }

    pub(crate) fn reads_member(&self, name: &str) -> bool {
        self.included_indexes
            .iter()
            .filter_map(|number| self.distinct_attributes.get(*number as usize))
            .any(|needs| needs.reads_member(name))
    }

    /// Whether the same is needed; both of one set.
    pub(crate) fn is_same_selection(&self, other: &Self) -> bool {
        self.included_indexes == other.included_indexes
    }
}

fn context_attribute_bit(name: &str) -> u32 {
    CONTEXT_ATTRIBUTES.iter().position(|known| *known == name).map_or(0, |index| 1 << index)
}

/// The type of an argument as far as its uses tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum InferredType {
    String,
    Long,
    Bool,
    Set(Box<InferredType>),
}

impl InferredType {
    fn to_schema(&self) -> Value {
        match self {
            Self::String => json!({ "type": "String" }),
            Self::Long => json!({ "type": "Long" }),
            Self::Bool => json!({ "type": "Boolean" }),
            Self::Set(element) => json!({ "type": "Set", "element": element.to_schema() }),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::String => "a string".to_owned(),
            Self::Long => "a number".to_owned(),
            Self::Bool => "a boolean".to_owned(),
            Self::Set(element) => format!("a set with {} in it", element.describe()),
        }
    }
}

/// One argument of a tool, or a part of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct InferredArgument {
    inferred_type: Option<InferredType>,
    /// Somewhere tested with `has`: then it is optional, and Cedar asks for the test before each use.
    is_optional: bool,
    members: BTreeMap<String, InferredArgument>,
}

impl InferredArgument {
    /// The parts as a record type in Cedar's JSON schema format. An argument never tested with `has` is required: where it
    /// is missing, evaluation errs and the operation is refused.
    pub(crate) fn to_record_schema(&self) -> Value {
        let mut attributes = Map::new();
        for (name, part) in &self.members {
            let mut schema = if part.members.is_empty() {
                part.inferred_type.as_ref().unwrap_or(&InferredType::String).to_schema()
            } else {
                part.to_record_schema()
            };
            if let Value::Object(fields) = &mut schema {
                fields.insert("required".to_owned(), Value::Bool(!part.is_optional));
            }
            attributes.insert(name.clone(), schema);
        }
        json!({ "type": "Record", "attributes": attributes })
    }
}

/// What reading one policy found.
#[derive(Debug, Clone)]
pub(crate) struct AttributeUsage {
    pub required_attributes: RequiredAttributes,
    /// The conditions speak of `action`.
    pub reads_action: bool,
    /// The conditions read attributes or ancestors of something else than the request's own variables. Such policies are not
    /// loaded: of other entities only the id is known.
    pub reads_other_entities: bool,
    pub reads_params: bool,
    /// The conditions read `context.arguments`.
    pub reads_arguments: bool,
    pub inferred_arguments: InferredArgument,
    /// Arguments used as two types at once.
    pub type_conflicts: Vec<String>,
}

/// Reads the conditions of a policy in Cedar's JSON notation.
pub(crate) fn collect_attribute_usage(policy: &Value) -> AttributeUsage {
    let mut reading = AttributeUsage {
        required_attributes: RequiredAttributes::none(),
        reads_action: false,
        reads_other_entities: false,
        reads_params: false,
        reads_arguments: false,
        inferred_arguments: InferredArgument::default(),
        type_conflicts: Vec::new(),
    };
    match policy.get("conditions").and_then(Value::as_array) {
        Some(conditions) => {
            for condition in conditions {
                if let Some(body) = condition.get("body") {
                    reading.visit_expression(body, Some(&InferredType::Bool));
                }
            }
        }
        None => reading.required_attributes = RequiredAttributes::all(),
    }
    reading
}

impl AttributeUsage {
    fn visit_expression(&mut self, expression: &Value, wanted: Option<&InferredType>) {
        let Some((operator, inside)) = operator_and_operands(expression) else {
            self.required_attributes = RequiredAttributes::all();
            return;
        };
        match operator {
            "Var" => match inside.as_str() {
                Some("context") => {
                    self.required_attributes.context_bits = u32::MAX;
                    self.required_attributes.request_members = RequestMembers::All;
                    self.reads_params = true;
                }
                Some("action") => self.reads_action = true,
                _ => {}
            },
            "." => {
                if let Some((root, steps)) = attribute_path(expression) {
                    self.record_access(root, &steps, wanted, false);
                } else {
                    self.reads_other_entities = true;
                    self.visit_operands(expression, None);
                }
            }
            "has" => {
                if let Some((root, mut steps)) = inside.get("left").and_then(attribute_path) {
                    for name in tested_attributes(inside) {
                        steps.push(name);
                        self.record_access(root, &steps, None, true);
                    }
                } else {
                    self.reads_other_entities = true;
                    self.visit_operands(expression, None);
                }
            }
            "in" | "is" => {
                let own = inside
                    .get("left")
                    .and_then(operator_and_operands)
                    .is_some_and(|(operator, _)| operator == "Var");
                self.reads_other_entities |= !own && (operator == "in" || inside.get("in").is_some());
                self.visit_operands(expression, None);
            }
            "hasTag" | "getTag" => {
                self.required_attributes.reads_tags = true;
                let own =
                    inside.get("left").and_then(operator_and_operands).is_some_and(|(operator, inside)| {
                        operator == "Var" && inside.as_str() == Some("resource")
                    });
                self.reads_other_entities |= !own;
                self.visit_operands(expression, Some(&InferredType::String));
            }
            "&&" | "||" | "!" => self.visit_operands(expression, Some(&InferredType::Bool)),
            "<" | "<=" | ">" | ">=" | "+" | "-" | "*" | "neg" => {
                self.visit_operands(expression, Some(&InferredType::Long))
            }
            "like" => self.visit_operands(expression, Some(&InferredType::String)),
            "==" | "!=" | "containsAll" | "containsAny" => {
                self.visit_operand_pair(inside, Clone::clone, Clone::clone)
            }
            "contains" => self.visit_operand_pair(
                inside,
                |right| InferredType::Set(Box::new(right.clone())),
                |left| match left {
                    InferredType::Set(element) => (**element).clone(),
                    other => other.clone(),
                },
            ),
            "if-then-else" => {
                for (role, kind) in [("if", Some(&InferredType::Bool)), ("then", wanted), ("else", wanted)] {
                    if let Some(part) = inside.get(role) {
                        self.visit_expression(part, kind);
                    }
                }
            }
            "Set" => {
                let element = match wanted {
                    Some(InferredType::Set(element)) => Some(&**element),
                    _ => None,
                };
                self.visit_operands(expression, element);
            }
            _ => self.visit_operands(expression, None),
        }
    }

    fn visit_operands(&mut self, expression: &Value, wanted: Option<&InferredType>) {
        for operand in child_expressions(expression) {
            self.visit_expression(operand, wanted);
        }
    }

    /// Visits two operands, each typed by the other.
    fn visit_operand_pair(
        &mut self,
        inside: &Value,
        from_right: impl Fn(&InferredType) -> InferredType,
        from_left: impl Fn(&InferredType) -> InferredType,
    ) {
        let (Some(left), Some(right)) = (inside.get("left"), inside.get("right")) else { return };
        let left_kind = infer_type(right).map(|kind| from_right(&kind));
        let right_kind = infer_type(left).map(|kind| from_left(&kind));
        self.visit_expression(left, left_kind.as_ref());
        self.visit_expression(right, right_kind.as_ref());
    }

    fn record_access(&mut self, root: &str, steps: &[&str], wanted: Option<&InferredType>, tested: bool) {
        match (root, steps) {
            ("principal", _) => self.required_attributes.reads_principal = true,
            ("resource", _) => self.required_attributes.reads_resource = true,
            ("context", [name, rest @ ..]) => {
                self.required_attributes.context_bits |= context_attribute_bit(name);
                if !matches!(*name, "params" | "arguments") {
                    return;
                }
                self.reads_params |= *name == "params";
                self.reads_arguments |= *name == "arguments";
                match rest.first() {
                    // `context has params` reads no member; `context.params == {...}` reads all.
                    None if tested => {}
                    None => self.required_attributes.request_members = RequestMembers::All,
                    Some(member) => {
                        if let RequestMembers::Named(names) = &mut self.required_attributes.request_members {
                            names.insert((*member).into());
                        }
                        if *name == "arguments" {
                            self.record_argument_use(rest, wanted, tested);
                        }
                    }
                }
            }
            // Tags are read by operators of their own.
            _ => {
                self.required_attributes = RequiredAttributes {
                    reads_tags: self.required_attributes.reads_tags,
                    ..RequiredAttributes::all()
                }
            }
        }
    }

    fn record_argument_use(&mut self, steps: &[&str], wanted: Option<&InferredType>, tested: bool) {
        let mut at = &mut self.inferred_arguments;
        for step in steps {
            at = at.members.entry((*step).to_owned()).or_default();
        }
        if tested {
            at.is_optional = true;
        }
        let Some(wanted) = wanted else { return };
        match &at.inferred_type {
            Some(kind) if kind != wanted => self.type_conflicts.push(format!(
                "argument `{}` is used as {} and as {}",
                steps.join("."),
                kind.describe(),
                wanted.describe()
            )),
            _ => at.inferred_type = Some(wanted.clone()),
        }
    }
}

/// The type of an expression where its form tells.
fn infer_type(expression: &Value) -> Option<InferredType> {
    let (operator, inside) = operator_and_operands(expression)?;
    match operator {
        "Value" => match inside {
            Value::String(_) => Some(InferredType::String),
            Value::Number(_) => Some(InferredType::Long),
            Value::Bool(_) => Some(InferredType::Bool),
            Value::Array(items) => items
                .first()
                .and_then(|item| infer_type(&json!({ "Value": item })))
                .map(Box::new)
                .map(InferredType::Set),
            _ => None,
        },
        "Set" => inside.as_array()?.iter().find_map(infer_type).map(Box::new).map(InferredType::Set),
        "+" | "-" | "*" | "neg" => Some(InferredType::Long),
        "&&" | "||" | "!" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "like" | "has" | "contains"
        | "containsAll" | "containsAny" | "in" | "is" => Some(InferredType::Bool),
        "." => match attribute_path(expression)? {
            ("principal", steps) if steps == ["acting_for"] => {
                Some(InferredType::Set(Box::new(InferredType::String)))
            }
            ("principal" | "resource", _) => Some(InferredType::String),
            ("context", steps)
                if steps.len() == 1
                    && matches!(steps[0], "server" | "tool" | "operation" | "region" | "account") =>
            {
                Some(InferredType::String)
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

    fn usage_of_conditions(conditions: &str) -> AttributeUsage {
        let text = format!("forbid (principal, action, resource) {conditions};");
        let policy = Policy::parse(None, text).expect("the test's policy parses");
        collect_attribute_usage(&policy.to_json().expect("a parsed policy has a JSON form"))
    }

    #[test]
    fn finds_every_attribute_a_condition_reads() {
        let found = usage_of_conditions(
            "when { context.region == \"x\" && context has account } unless { resource.type == \"t\" }",
        );
        assert!(
            found.required_attributes.reads_context_attribute("region")
                && found.required_attributes.reads_context_attribute("account")
                && found.required_attributes.reads_resource
        );
        assert!(
            !found.required_attributes.reads_context_attribute("now")
                && !found.required_attributes.reads_principal
                && !found.reads_other_entities
                && !found.reads_params
        );
        let found = usage_of_conditions(
            "when { context.params has Tags.Owner && context.params[\"Key\"] like \"a*\" }",
        );
        assert!(
            found.required_attributes.reads_member("Tags")
                && found.required_attributes.reads_member("Key")
                && !found.required_attributes.reads_member("Bucket")
        );
        assert!(found.reads_params);
    }

    #[test]
    fn requires_all_attributes_where_it_is_not_sure() {
        let found = usage_of_conditions("when { context == {region: \"x\"} }");
        assert!(
            found.required_attributes.reads_context_attribute("region")
                && found.required_attributes.reads_context_attribute("now")
        );
        assert_eq!(found.required_attributes.request_members, RequestMembers::All);
        let found = usage_of_conditions("when { (if true then context else context).region == \"x\" }");
        assert_eq!(
            (found.required_attributes.request_members, found.reads_other_entities),
            (RequestMembers::All, true)
        );
    }

    #[test]
    fn detects_reads_of_other_entities() {
        for condition in [
            "(if true then principal else resource).subject == \"x\"",
            "Caller::\"a/b\".kind == \"human\"",
            "Caller::\"a/b\" has kind",
            "Aws::Account::\"123456789012\" in Connection::\"demo\"",
            "Caller::\"a/b\" is Caller in Group::\"g\"",
            "{a: principal}.a.kind == \"human\"",
        ] {
            assert!(
                usage_of_conditions(&format!("when {{ {condition} }}")).reads_other_entities,
                "{condition}"
            );
        }
        for condition in [
            "principal == Caller::\"a/b\"",
            "resource is Aws::Resource",
            "principal is Caller in Group::\"g\"",
        ] {
            assert!(
                !usage_of_conditions(&format!("when {{ {condition} }}")).reads_other_entities,
                "{condition}"
            );
        }
    }

    #[test]
    fn a_scope_alone_needs_nothing() {
        assert_eq!(usage_of_conditions("").required_attributes, RequiredAttributes::none());
        assert_eq!(
            usage_of_conditions("when { principal in Group::\"g\" }").required_attributes,
            RequiredAttributes::none()
        );
    }

    #[test]
    fn types_arguments_by_what_they_are_compared_with() {
        let found = usage_of_conditions(
            "when { context.arguments.s == \"x\" && 3 < context.arguments.n && context.arguments.b \
             && [\"a\"].contains(context.arguments.e) && context.arguments.l.contains(\"a\") \
             && context.arguments.o.p like \"x*\" && context.arguments has q && context.arguments.q == 1 }",
        );
        assert_eq!(found.type_conflicts, Vec::<String>::new());
        assert_eq!(
            found.inferred_arguments.to_record_schema(),
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
    fn reports_arguments_of_conflicting_types() {
        let found =
            usage_of_conditions("when { context.arguments.id == \"x\" || context.arguments.id == 7 }");
        assert_eq!(found.type_conflicts, ["argument `id` is used as a string and as a number"]);
    }

    #[test]
    fn sees_tags_and_action() {
        assert!(usage_of_conditions("when { resource.hasTag(\"a\") }").required_attributes.reads_tags);
        assert!(usage_of_conditions("when { action in Aws::Action::\"Read\" }").reads_action);
    }
}
