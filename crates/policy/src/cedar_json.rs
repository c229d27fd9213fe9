//! Reading expressions in Cedar's JSON format for policies (Cedar documentation, "JSON policy format").
//!
//! An expression is an object with one key: an operator, `Var`, `Value`, `Set`, `Record` or the name of a function.

use serde_json::Value;

/// The operator of an expression and its operands.
pub(crate) fn operator_and_operands(expression: &Value) -> Option<(&str, &Value)> {
    let object = expression.as_object()?;
    let (operator, operands) = object.iter().next()?;
    (object.len() == 1).then_some((operator.as_str(), operands))
}

/// `context.params.Bucket` as (`context`, [`params`, `Bucket`]). `None`: the root is not a variable.
pub(crate) fn attribute_path(expression: &Value) -> Option<(&str, Vec<&str>)> {
    match operator_and_operands(expression)? {
        ("Var", name) => Some((name.as_str()?, Vec::new())),
        (".", operands) => {
            let (root, mut steps) = attribute_path(operands.get("left")?)?;
            steps.push(operands.get("attr")?.as_str()?);
            Some((root, steps))
        }
        _ => None,
    }
}

/// The attributes that `has` tests: one, or a chain of them.
pub(crate) fn tested_attributes(operands: &Value) -> Vec<&str> {
    match operands.get("attr") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The expressions directly inside one.
pub(crate) fn child_expressions(expression: &Value) -> Vec<&Value> {
    match operator_and_operands(expression) {
        None | Some(("Value" | "Var" | "Slot", _)) => Vec::new(),
        Some((_, Value::Array(items))) => items.iter().collect(),
        Some(("Record", Value::Object(fields))) => fields.values().collect(),
        Some((_, Value::Object(fields))) => fields
            .iter()
            .filter(|(role, value)| {
                matches!(role.as_str(), "left" | "right" | "arg" | "if" | "then" | "else" | "in")
                    && value.is_object()
            })
            .map(|(_, value)| value)
            .collect(),
        Some(_) => Vec::new(),
    }
}
