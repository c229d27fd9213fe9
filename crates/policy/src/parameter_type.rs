//! The Cedar types of request parameters and tool arguments.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The Cedar type of a request parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterType {
    String,
    Bool,
    Long,
    Set(Box<ParameterType>),
    Record(BTreeMap<String, ParameterType>),
}

impl ParameterType {
    pub(crate) fn set_of(element: Self) -> Self {
        Self::Set(Box::new(element))
    }

    /// The type in Cedar's JSON schema format. Every attribute of a record is optional.
    pub(crate) fn to_schema(&self) -> Value {
        match self {
            Self::String => json!({ "type": "String" }),
            Self::Bool => json!({ "type": "Boolean" }),
            Self::Long => json!({ "type": "Long" }),
            Self::Set(element) => json!({ "type": "Set", "element": element.to_schema() }),
            Self::Record(members) => record_schema(members),
        }
    }

    /// The type that fits both: records are merged member by member. `None`: the types conflict.
    pub(crate) fn merge(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Record(left), Self::Record(right)) => Some(Self::Record(merge_records(left, right))),
            (Self::Set(left), Self::Set(right)) => Some(Self::set_of(left.merge(right)?)),
            (left, right) => (left == right).then(|| left.clone()),
        }
    }

    /// The type in a message: "a set with a string in it".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::String => "a string".to_owned(),
            Self::Long => "a number".to_owned(),
            Self::Bool => "a boolean".to_owned(),
            Self::Set(element) => format!("a set with {} in it", element.describe()),
            Self::Record(_) => "a record".to_owned(),
        }
    }
}

/// The members of both records. A member whose types conflict is left out, so that no policy can read it.
pub(crate) fn merge_records(
    left: &BTreeMap<String, ParameterType>,
    right: &BTreeMap<String, ParameterType>,
) -> BTreeMap<String, ParameterType> {
    let mut merged = right.clone();
    for (name, left_type) in left {
        match right.get(name) {
            None => {
                merged.insert(name.clone(), left_type.clone());
            }
            Some(right_type) => match left_type.merge(right_type) {
                Some(both) => {
                    merged.insert(name.clone(), both);
                }
                None => {
                    merged.remove(name);
                }
            },
        }
    }
    merged
}

/// A record type in Cedar's JSON schema format, every member optional.
pub(crate) fn record_schema(members: &BTreeMap<String, ParameterType>) -> Value {
    let mut attributes = Map::new();
    for (name, member_type) in members {
        let mut schema = member_type.to_schema();
        schema["required"] = Value::Bool(false);
        attributes.insert(name.clone(), schema);
    }
    json!({ "type": "Record", "attributes": attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_the_members_whose_types_agree() {
        let record = |members: &[(&str, ParameterType)]| -> BTreeMap<String, ParameterType> {
            members.iter().map(|(name, member_type)| ((*name).to_owned(), member_type.clone())).collect()
        };
        let left = record(&[
            ("left", ParameterType::Bool),
            ("same", ParameterType::set_of(ParameterType::String)),
            ("conflict", ParameterType::Long),
            ("nested", ParameterType::Record(record(&[("a", ParameterType::Long)]))),
        ]);
        let right = record(&[
            ("right", ParameterType::Bool),
            ("same", ParameterType::set_of(ParameterType::String)),
            ("conflict", ParameterType::String),
            ("nested", ParameterType::Record(record(&[("b", ParameterType::Long)]))),
        ]);
        let nested = record(&[("a", ParameterType::Long), ("b", ParameterType::Long)]);
        let expected = record(&[
            ("left", ParameterType::Bool),
            ("right", ParameterType::Bool),
            ("same", ParameterType::set_of(ParameterType::String)),
            ("nested", ParameterType::Record(nested)),
        ]);
        assert_eq!(merge_records(&left, &right), expected);
        assert_eq!(merge_records(&right, &left), expected);
    }
}
