//! The types of tool arguments, as a policy reads them.
//!
//! MCP's tool schemas are not known when policies are loaded, and the server that writes them is not trusted. So the types are
//! inferred from the policy, and a call whose arguments have others is not decided by it (docs/adr/0019).

use crate::{
    parameter_type::ParameterType,
    unrepresentable::{UnrepresentableReason, UnrepresentableValue},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// An argument of a tool, or a member of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct InferredArgument {
    inferred_type: Option<ParameterType>,
    /// The policy tests it with `has` somewhere. It is optional then, and strict validation wants the test before each use.
    is_optional: bool,
    members: BTreeMap<String, InferredArgument>,
}

impl InferredArgument {
    /// Records that a policy reads the argument at `steps` as a type. The error is another type, as which it reads it, too.
    pub(crate) fn record_use(
        &mut self,
        steps: &[&str],
        used_as: Option<&ParameterType>,
        is_has_test: bool,
    ) -> Result<(), ParameterType> {
        let mut argument = self;
        for step in steps {
            argument = argument.members.entry((*step).to_owned()).or_default();
        }
        argument.is_optional |= is_has_test;
        match (&argument.inferred_type, used_as) {
            (_, None) => {}
            // Compared with a record: each member is read.
            (_, Some(ParameterType::Record(members))) => {
                for (name, member) in members {
                    argument.record_use(&[name.as_str()], Some(member), false)?;
                }
            }
            (Some(known), Some(used_as)) if known != used_as => return Err(known.clone()),
            (_, Some(used_as)) => argument.inferred_type = Some(used_as.clone()),
        }
        Ok(())
    }

    /// The arguments of a call that have another type than the one as which the policy reads them.
    pub(crate) fn find_other_types(&self, arguments: &Map<String, Value>) -> Option<UnrepresentableValue> {
        let found: BTreeMap<String, UnrepresentableValue> = self
            .members
            .iter()
            .filter_map(|(name, member)| Some((name.clone(), member.compare_type(arguments.get(name)?)?)))
            .collect();
        (!found.is_empty()).then_some(UnrepresentableValue::Members(found))
    }

    fn compare_type(&self, value: &Value) -> Option<UnrepresentableValue> {
        if self.members.is_empty() {
            return find_other_type(value, self.inferred_type.as_ref()?);
        }
        match value {
            Value::Object(members) => self.find_other_types(members),
            _ => Some(other_type(value, &ParameterType::Record(BTreeMap::new()))),
        }
    }

    /// Adds the arguments that another policy reads. Of an argument that both read as different types, the first type stays.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (name, other_member) in &other.members {
            match self.members.get_mut(name) {
                None => {
                    self.members.insert(name.clone(), other_member.clone());
                }
                Some(member) => {
                    member.inferred_type = member.inferred_type.take().or(other_member.inferred_type.clone());
                    // A policy that does not test it would not validate if it were optional.
                    member.is_optional &= other_member.is_optional;
                    member.merge(other_member);
                }
            }
        }
    }

    /// The members as a record type in Cedar's JSON schema format. An argument that is never tested with `has` is required: a
    /// call without it fails the evaluation, which denies.
    pub(crate) fn to_record_schema(&self) -> Value {
        let mut attributes = Map::new();
        for (name, member) in &self.members {
            let mut schema = if member.members.is_empty() {
                member.inferred_type.as_ref().unwrap_or(&ParameterType::String).to_schema()
            } else {
                member.to_record_schema()
            };
            schema["required"] = Value::Bool(!member.is_optional);
            attributes.insert(name.clone(), schema);
        }
        json!({ "type": "Record", "attributes": attributes })
    }
}

/// A value, or the first item of a list, that has another type.
fn find_other_type(value: &Value, read_as: &ParameterType) -> Option<UnrepresentableValue> {
    match (value, read_as) {
        // Unrepresentable by themselves.
        (Value::Null, _) => None,
        (Value::Number(number), _) if !number.is_i64() => None,
        (Value::String(_), ParameterType::String)
        | (Value::Bool(_), ParameterType::Bool)
        | (Value::Number(_), ParameterType::Long)
        | (Value::Object(_), ParameterType::Record(_)) => None,
        (Value::Array(items), ParameterType::Set(element)) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| Some(find_other_type(item, element)?.in_list(index))),
        _ => Some(other_type(value, read_as)),
    }
}

fn other_type(value: &Value, read_as: &ParameterType) -> UnrepresentableValue {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a record",
    };
    UnrepresentableValue::whole(UnrepresentableReason::OtherType { found, read_as: read_as.describe() })
}
