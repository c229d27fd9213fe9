//! Runs botocore's endpoint rulesets (the Smithy rules engine), as far as plain regional requests need it.
//!
//! A function this file does not know makes its condition false, so an unexpected ruleset gives no endpoint rather than a
//! wrong one.

use serde_json::{Value, json};
use std::collections::BTreeMap;

type RulesetVariables = BTreeMap<String, Value>;

/// The endpoint object of `ruleset` for `parameters`, with its URL filled in; `None` for an error rule or no rule.
pub fn resolve_endpoint(
    ruleset: &Value,
    parameters: &RulesetVariables,
    partition: &dyn Fn(&str) -> Value,
) -> Option<Value> {
    let mut scope = RulesetVariables::new();
    for (name, parameter) in ruleset["parameters"].as_object()? {
        let value = parameters.get(name).cloned().unwrap_or_else(|| parameter["default"].clone());
        if !value.is_null() {
            scope.insert(name.clone(), value);
        }
    }
    match evaluate_rules(ruleset["rules"].as_array()?, &scope, partition)? {
        RuleOutcome::Endpoint(endpoint) => Some(endpoint),
        RuleOutcome::Error => None,
    }
}

/// What the first rule that holds gives.
enum RuleOutcome {
    Endpoint(Value),
    Error,
}

fn evaluate_rules(
    list: &[Value],
    scope: &RulesetVariables,
    partition: &dyn Fn(&str) -> Value,
) -> Option<RuleOutcome> {
    for rule in list {
        let mut inner = scope.clone();
        let holds = rule["conditions"].as_array()?.iter().all(|condition| {
            let value = call_function(condition, &inner, partition);
            let truth = !value.is_null() && value != Value::Bool(false);
            if truth && let Some(name) = condition["assign"].as_str() {
                inner.insert(name.to_owned(), value);
            }
            truth
        });
        if !holds {
            continue;
        }
        return match rule["type"].as_str()? {
            "tree" => evaluate_rules(rule["rules"].as_array()?, &inner, partition),
            "endpoint" => Some(RuleOutcome::Endpoint(fill_value(&rule["endpoint"], &inner, partition))),
            _ => Some(RuleOutcome::Error),
        };
    }
    None
}

fn fill_value(value: &Value, scope: &RulesetVariables, partition: &dyn Fn(&str) -> Value) -> Value {
    match value {
        Value::String(text) => Value::String(fill_template(text, scope)),
        Value::Array(items) => items.iter().map(|item| fill_value(item, scope, partition)).collect(),
        Value::Object(map) if map.contains_key("ref") || map.contains_key("fn") => {
            evaluate_argument(value, scope, partition)
        }
        Value::Object(map) => {
            map.iter().map(|(key, item)| (key.clone(), fill_value(item, scope, partition))).collect()
        }
        other => other.clone(),
    }
}

/// `{Region}` and `{PartitionResult#dnsSuffix}` replaced by what they stand for.
fn fill_template(text: &str, scope: &RulesetVariables) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else { break };
        out.push_str(before);
        let (variable, path) = name.split_once('#').unwrap_or((name, ""));
        let value = scope.get(variable).map(|value| read_attribute(value, path)).unwrap_or_default();
        out.push_str(value.as_str().unwrap_or_default());
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn evaluate_argument(value: &Value, scope: &RulesetVariables, partition: &dyn Fn(&str) -> Value) -> Value {
    match value {
        Value::Object(map) => match map.get("ref").and_then(Value::as_str) {
            Some(name) => scope.get(name).cloned().unwrap_or_default(),
            None if map.contains_key("fn") => call_function(value, scope, partition),
            None => value.clone(),
        },
        Value::String(text) => Value::String(fill_template(text, scope)),
        other => other.clone(),
    }
}

fn call_function(condition: &Value, scope: &RulesetVariables, partition: &dyn Fn(&str) -> Value) -> Value {
    let arguments: Vec<Value> = condition["argv"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|argument| evaluate_argument(argument, scope, partition))
        .collect();
    let argument = |at: usize| arguments.get(at).cloned().unwrap_or_default();
    match condition["fn"].as_str().unwrap_or_default() {
        "isSet" => Value::Bool(!argument(0).is_null()),
        "not" => Value::Bool(argument(0) == Value::Bool(false) || argument(0).is_null()),
        "booleanEquals" | "stringEquals" => Value::Bool(!argument(0).is_null() && argument(0) == argument(1)),
        "getAttr" => read_attribute(&argument(0), argument(1).as_str().unwrap_or_default()),
        "aws.partition" => argument(0).as_str().map(partition).unwrap_or_default(),
        "coalesce" => arguments.into_iter().find(|value| !value.is_null()).unwrap_or_default(),
        "isValidHostLabel" => {
            json!(argument(0).as_str().is_some_and(|text| is_host_label(text, argument(1) == true)))
        }
        _ => Value::Null,
    }
}

/// `a.b[0]` of a value.
fn read_attribute(value: &Value, path: &str) -> Value {
    let mut at = value;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let (name, index) = step.split_once('[').map_or((step, None), |(name, rest)| (name, Some(rest)));
        if !name.is_empty() {
            at = &at[name];
        }
        if let Some(index) = index.and_then(|text| text.trim_end_matches(']').parse::<usize>().ok()) {
            at = &at[index];
        }
    }
    at.clone()
}

fn is_host_label(text: &str, dots: bool) -> bool {
    if dots {
        return text.split('.').all(|part| is_host_label(part, false));
    }
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_ruleset() -> Value {
        json!({
            "parameters": {"Region": {"type": "String"}, "UseFIPS": {"type": "Boolean", "default": false}},
            "rules": [
                {"type": "error", "error": "no", "conditions": [{"fn": "booleanEquals", "argv": [{"ref": "UseFIPS"}, true]}]},
                {"type": "tree", "conditions": [
                    {"fn": "isSet", "argv": [{"ref": "Region"}]},
                    {"fn": "aws.partition", "argv": [{"ref": "Region"}], "assign": "P"},
                ], "rules": [
                    {"type": "endpoint",
                     "conditions": [{"fn": "stringEquals", "argv": [{"fn": "getAttr", "argv": [{"ref": "P"}, "name"]}, "aws"]}],
                     "endpoint": {"url": "https://x.{Region}.{P#dnsSuffix}", "properties": {}}},
                ]},
            ],
        })
    }

    fn resolve_in_region(region: Option<&str>, fips: bool, partition: &str) -> Option<Value> {
        let mut parameters = RulesetVariables::from([("UseFIPS".to_owned(), Value::Bool(fips))]);
        parameters.extend(region.map(|region| ("Region".to_owned(), Value::from(region))));
        let outputs = json!({"name": partition, "dnsSuffix": "example.com"});
        resolve_endpoint(&sample_ruleset(), &parameters, &|_| outputs.clone())
    }

    #[test]
    fn fills_the_url_of_the_first_rule_that_holds() {
        let endpoint = resolve_in_region(Some("eu-west-1"), false, "aws").expect("a rule holds");
        assert_eq!(endpoint["url"], "https://x.eu-west-1.example.com");
    }

    #[test]
    fn gives_nothing_for_an_error_rule_or_no_rule() {
        assert_eq!(resolve_in_region(Some("eu-west-1"), true, "aws"), None);
        assert_eq!(resolve_in_region(None, false, "aws"), None);
        assert_eq!(resolve_in_region(Some("cn-north-1"), false, "aws-cn"), None);
    }

    #[test]
    fn an_unknown_function_is_false() {
        let condition = json!({"fn": "aws.somethingNew", "argv": []});
        assert_eq!(call_function(&condition, &RulesetVariables::new(), &|_| Value::Null), Value::Null);
    }

    #[test]
    fn reads_nested_attributes() {
        let value = json!({"a": {"b": ["x", "y"]}});
        assert_eq!(read_attribute(&value, "a.b[1]"), "y");
        assert_eq!(read_attribute(&value, "a.c"), Value::Null);
    }
}
