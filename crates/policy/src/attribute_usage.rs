//! Finds the attributes that the conditions of a policy read, so that Cedar can be given these, and the types of tool arguments
//! as they are used.
//!
//! Promise: whatever a condition can reach is in [`RequiredAttributes`]. Where the reading cannot tell, it requires every
//! attribute, or reports a read that the loader refuses.

use crate::{
    cedar_json::{attribute_path, child_expressions, operator_and_operands, tested_attributes},
    context_attributes::{ContextAttribute, ContextAttributeSet, ContextType},
    inferred_argument::InferredArgument,
    parameter_type::ParameterType,
    required_attributes::{RequestMembers, RequiredAttributes},
};
use serde_json::{Value, json};

/// The attributes that the conditions of one policy read.
#[derive(Debug, Clone)]
pub(crate) struct AttributeUsage {
    pub required_attributes: RequiredAttributes,
    /// The conditions use the variable `action`.
    pub reads_action: bool,
    /// The conditions read attributes or ancestors of entities other than the request's own variables. The loader refuses such
    /// policies: only the ids of other entities are known.
    pub reads_other_entities: bool,
    pub reads_params: bool,
    /// The conditions read `context.arguments`.
    pub reads_arguments: bool,
    pub inferred_arguments: InferredArgument,
    /// A message for each argument that is used as two types.
    pub type_conflicts: Vec<String>,
}

/// Reads the conditions of a policy in Cedar's JSON format.
pub(crate) fn collect_attribute_usage(policy: &Value) -> AttributeUsage {
    let mut usage = AttributeUsage {
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
                    usage.visit_expression(body, Some(&ParameterType::Bool));
                }
            }
        }
        // A format that is not known here: too much costs time, too little would change decisions.
        None => usage.required_attributes = RequiredAttributes::all(),
    }
    usage
}

impl AttributeUsage {
    /// Visits an expression, and everything in it, that is used as a value of type `used_as`.
    fn visit_expression(&mut self, expression: &Value, used_as: Option<&ParameterType>) {
        let Some((operator, operands)) = operator_and_operands(expression) else {
            self.required_attributes = RequiredAttributes::all();
            return;
        };
        match operator {
            "Var" => match operands.as_str() {
                // `context` as a value, not as the root of a path: it may be compared as a whole, so nothing may be missing.
                Some("context") => {
                    self.required_attributes.context = ContextAttributeSet::ALL;
                    self.required_attributes.request_members = RequestMembers::All;
                    self.reads_params = true;
                }
                Some("action") => self.reads_action = true,
                _ => {}
            },
            "." => {
                if let Some((root, steps)) = attribute_path(expression) {
                    self.record_access(root, &steps, used_as, false);
                } else {
                    self.reads_other_entities = true;
                    self.visit_operands(expression, None);
                }
            }
            "has" => {
                if let Some((root, mut steps)) = operands.get("left").and_then(attribute_path) {
                    for name in tested_attributes(operands) {
                        steps.push(name);
                        self.record_access(root, &steps, None, true);
                    }
                } else {
                    self.reads_other_entities = true;
                    self.visit_operands(expression, None);
                }
            }
            // `principal in Group::"x"` needs the ancestors of the request's own entities, which are complete; those of others
            // are not known.
            "in" | "is" => {
                let is_variable = operands
                    .get("left")
                    .and_then(operator_and_operands)
                    .is_some_and(|(operator, _)| operator == "Var");
                self.reads_other_entities |=
                    !is_variable && (operator == "in" || operands.get("in").is_some());
                self.visit_operands(expression, None);
            }
            "hasTag" | "getTag" => {
                self.required_attributes.reads_tags = true;
                let is_resource = operands
                    .get("left")
                    .and_then(operator_and_operands)
                    .is_some_and(|(operator, name)| operator == "Var" && name.as_str() == Some("resource"));
                self.reads_other_entities |= !is_resource;
                self.visit_operands(expression, Some(&ParameterType::String));
            }
            // Both operands count, although Cedar may not reach the second one: an attribute that is missing there would be an
            // error.
            "&&" | "||" | "!" => self.visit_operands(expression, Some(&ParameterType::Bool)),
            "<" | "<=" | ">" | ">=" | "+" | "-" | "*" | "neg" => {
                self.visit_operands(expression, Some(&ParameterType::Long));
            }
            "like" => self.visit_operands(expression, Some(&ParameterType::String)),
            "==" | "!=" | "containsAll" | "containsAny" => {
                self.visit_operand_pair(operands, Clone::clone, Clone::clone);
            }
            "contains" => self.visit_operand_pair(
                operands,
                |right| ParameterType::set_of(right.clone()),
                |left| match left {
                    ParameterType::Set(element) => (**element).clone(),
                    other => other.clone(),
                },
            ),
            "if-then-else" => {
                let branches = [("if", Some(&ParameterType::Bool)), ("then", used_as), ("else", used_as)];
                for (role, used_as) in branches {
                    if let Some(branch) = operands.get(role) {
                        self.visit_expression(branch, used_as);
                    }
                }
            }
            "Set" => {
                let element = match used_as {
                    Some(ParameterType::Set(element)) => Some(&**element),
                    _ => None,
                };
                self.visit_operands(expression, element);
            }
            _ => self.visit_operands(expression, None),
        }
    }

    fn visit_operands(&mut self, expression: &Value, used_as: Option<&ParameterType>) {
        for operand in child_expressions(expression) {
            self.visit_expression(operand, used_as);
        }
    }

    /// Visits two operands, each of which has the type that the other tells.
    fn visit_operand_pair(
        &mut self,
        operands: &Value,
        from_right: impl Fn(&ParameterType) -> ParameterType,
        from_left: impl Fn(&ParameterType) -> ParameterType,
    ) {
        let (Some(left), Some(right)) = (operands.get("left"), operands.get("right")) else { return };
        let left_type = infer_type(right).map(|right_type| from_right(&right_type));
        let right_type = infer_type(left).map(|left_type| from_left(&left_type));
        self.visit_expression(left, left_type.as_ref());
        self.visit_expression(right, right_type.as_ref());
    }

    /// Records that `<root>.<steps>` is read, or tested with `has`.
    fn record_access(
        &mut self,
        root: &str,
        steps: &[&str],
        used_as: Option<&ParameterType>,
        is_has_test: bool,
    ) {
        match (root, steps) {
            ("principal", _) => self.required_attributes.reads_principal = true,
            ("resource", _) => self.required_attributes.reads_resource = true,
            ("context", [name, rest @ ..]) => {
                let Some(attribute) = ContextAttribute::from_name(name) else { return };
                self.required_attributes.context.insert(attribute);
                match attribute {
                    ContextAttribute::Params => self.reads_params = true,
                    ContextAttribute::Arguments => self.reads_arguments = true,
                    _ => return,
                }
                match rest.first() {
                    // `context has params` reads no member; `context.params == {...}` reads all of them.
                    None if is_has_test => {}
                    None => {
                        self.required_attributes.request_members = RequestMembers::All;
                        if attribute == ContextAttribute::Arguments {
                            self.record_argument_use(rest, used_as, is_has_test);
                        }
                    }
                    Some(member) => {
                        if let RequestMembers::Named(names) = &mut self.required_attributes.request_members {
                            names.insert((*member).into());
                        }
                        if attribute == ContextAttribute::Arguments {
                            self.record_argument_use(rest, used_as, is_has_test);
                        }
                    }
                }
            }
            // Tags have operators of their own, so this cannot read them.
            _ => {
                self.required_attributes = RequiredAttributes {
                    reads_tags: self.required_attributes.reads_tags,
                    ..RequiredAttributes::all()
                }
            }
        }
    }

    fn record_argument_use(&mut self, steps: &[&str], used_as: Option<&ParameterType>, is_has_test: bool) {
        if let Err(known) = self.inferred_arguments.record_use(steps, used_as, is_has_test) {
            self.type_conflicts.push(format!(
                "argument `{}` is used as {} and as {}",
                steps.join("."),
                known.describe(),
                used_as.map(ParameterType::describe).unwrap_or_default()
            ));
        }
    }
}

/// The type of an expression where its form alone tells.
fn infer_type(expression: &Value) -> Option<ParameterType> {
    let (operator, operands) = operator_and_operands(expression)?;
    match operator {
        "Value" => match operands {
            Value::String(_) => Some(ParameterType::String),
            Value::Number(_) => Some(ParameterType::Long),
            Value::Bool(_) => Some(ParameterType::Bool),
            Value::Array(items) => items
                .first()
                .and_then(|item| infer_type(&json!({ "Value": item })))
                .map(ParameterType::set_of),
            _ => None,
        },
        "Record" => {
            let member = |(name, value): (&String, &Value)| Some((name.clone(), infer_type(value)?));
            operands.as_object()?.iter().map(member).collect::<Option<_>>().map(ParameterType::Record)
        }
        "Set" => operands.as_array()?.iter().find_map(infer_type).map(ParameterType::set_of),
        "+" | "-" | "*" | "neg" => Some(ParameterType::Long),
        "&&" | "||" | "!" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "like" | "has" | "contains"
        | "containsAll" | "containsAny" | "in" | "is" => Some(ParameterType::Bool),
        "." => match attribute_path(expression)? {
            ("principal", steps) if steps == ["acting_for"] => {
                Some(ParameterType::set_of(ParameterType::String))
            }
            ("principal" | "resource", _) => Some(ParameterType::String),
            ("context", steps) => match steps.as_slice() {
                [name] => match ContextAttribute::from_name(name)?.row().cedar_type {
                    ContextType::String => Some(ParameterType::String),
                    ContextType::Boolean => Some(ParameterType::Bool),
                    ContextType::Long => Some(ParameterType::Long),
                    ContextType::StringSet => Some(ParameterType::set_of(ParameterType::String)),
                    ContextType::IpAddress | ContextType::Datetime | ContextType::Record => None,
                },
                _ => None,
            },
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
            found.required_attributes.context.contains(ContextAttribute::Region)
                && found.required_attributes.context.contains(ContextAttribute::Account)
                && found.required_attributes.reads_resource
        );
        assert!(
            !found.required_attributes.context.contains(ContextAttribute::Now)
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
            found.required_attributes.context.contains(ContextAttribute::Region)
                && found.required_attributes.context.contains(ContextAttribute::Now)
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
