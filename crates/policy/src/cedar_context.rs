//! The facts of one question as Cedar's `context`: only those that a policy at hand reads.
//!
//! A value that Cedar cannot hold exactly (a float, a null, a list with one of these in it) is left out whole: a policy that
//! reads it then errs, and the operation is refused.

use crate::{
    attribute_usage::{CONTEXT_ATTRIBUTES, CombinedAttributes},
    entity_literals::EntityTypes,
    policy_set::{PolicyQuery, RequestContext},
};
use cedar_policy_core::ast::{Context, Value, ValueKind};
use durward_core::{FrontEndKind, Operation, RequiredPermission, Resource};
use serde_json::Value as Json;
use std::net::IpAddr;

/// Parameters nested deeper are left out; the schema offers three levels.
const MAX_PARAMETER_DEPTH: usize = 8;

pub(crate) fn build_cedar_context(
    types: &EntityTypes,
    ask: &PolicyQuery<'_>,
    facts: &RequestContext<'_>,
    wanted: &CombinedAttributes<'_>,
) -> Result<Context, String> {
    if wanted.context_bits == 0 {
        return Ok(Context::empty());
    }
    let mut pairs: Vec<(&'static str, Value)> = Vec::new();
    for (bit, name) in CONTEXT_ATTRIBUTES.into_iter().enumerate() {
        if wanted.context_bits & (1 << bit) != 0
            && let Some(value) = context_attribute(name, types, ask, facts, wanted)?
        {
            pairs.push((name, value));
        }
    }
    match ValueKind::record(pairs) {
        ValueKind::Record(attributes) => Ok(Context::Value(attributes)),
        _ => Err("the context is not a record".to_owned()),
    }
}

/// One attribute of the context. None: a question of this sort has no such fact.
fn context_attribute(
    name: &str,
    types: &EntityTypes,
    ask: &PolicyQuery<'_>,
    facts: &RequestContext<'_>,
    wanted: &CombinedAttributes<'_>,
) -> Result<Option<Value>, String> {
    match name {
        "source_ip" => return types.ip_value(&canonical_ip(facts.source_ip).to_string()).map(Some),
        "now" => return format_cedar_datetime(facts.now).map(|text| types.datetime_value(&text)).transpose(),
        _ => {}
    }
    let PolicyQuery::Permission { operation, permission: demand } = ask else { return Ok(None) };
    let members = || {
        let fields = operation.parameters.as_object()?;
        Some(cedar_record(fields.iter().filter(|(name, _)| wanted.reads_member(name)), MAX_PARAMETER_DEPTH))
    };
    Ok(match (operation.front_end, name) {
        (FrontEndKind::Aws, "operation") => Some(Value::from(operation.name.as_str())),
        (FrontEndKind::Aws, "region") => operation.region.as_deref().map(Value::from),
        (FrontEndKind::Aws, "account") => operation.account.as_deref().map(Value::from),
        (FrontEndKind::Aws, "connection") => facts.connection.map(Value::from),
        (FrontEndKind::Aws, "access_level") => Some(Value::from(demand.access_level.as_str())),
        (FrontEndKind::Aws, "irreversible") => Some(Value::from(operation.traits.irreversible)),
        (FrontEndKind::Aws, "escalates") => Some(Value::from(operation.traits.escalates)),
        (FrontEndKind::Aws, "indirect") => Some(Value::from(operation.traits.indirect)),
        (FrontEndKind::Aws, "returns_credentials") => Some(Value::from(operation.traits.returns_credentials)),
        (_, "risk") => facts.risk.map(|risk| Value::from(i64::from(risk))),
        (FrontEndKind::Aws, "request_tags") => Some(request_tag_set(operation)?),
        (FrontEndKind::Aws, "params") => {
            refuse_unmodeled_parameters(operation, demand, wanted)?;
            members()
        }
        (FrontEndKind::Mcp, "arguments") => members(),
        (FrontEndKind::Mcp, "server") => Some(Value::from(operation.service.as_str())),
        (FrontEndKind::Mcp, "tool") => match &demand.resource {
            Resource::McpTool { name, .. } => Some(Value::from(name.as_str())),
            _ => None,
        },
        _ => None,
    })
}

/// The tags that a request would set, each as `key=value`.
fn request_tag_set(operation: &Operation) -> Result<Value, String> {
    let tags = durward_core::collect_request_tags(operation)
        .ok_or("the request has tags where no model of the operation knows any")?;
    Ok(Value::set(tags.into_iter().map(|(key, value)| Value::from(format!("{key}={value}"))), None))
}

/// A parameter that no model of the operation knows says nothing: the service may not read it. Of an operation that nobody knows
/// every parameter is one, and whoever permits it means them.
fn refuse_unmodeled_parameters(
    operation: &Operation,
    demand: &RequiredPermission,
    wanted: &CombinedAttributes<'_>,
) -> Result<(), String> {
    if demand.action.ends_with(":*unknown*") {
        return Ok(());
    }
    let unknown = operation.uninspected_parts.iter().filter_map(|pointer| pointer.strip_prefix('/'));
    match unknown.filter(|name| !name.contains('/')).find(|name| wanted.reads_member(name)) {
        Some(name) => Err(format!("no model of the operation knows the parameter `{name}`")),
        None => Ok(()),
    }
}

/// An IPv4 address in an IPv6 socket is the IPv4 address a policy means.
fn canonical_ip(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// `YYYY-MM-DDThh:mm:ss.SSSZ`, the form of Cedar's datetime extension.
fn format_cedar_datetime(now: time::OffsetDateTime) -> Option<String> {
    let utc = now.to_offset(time::UtcOffset::UTC);
    // Cedar's format has a four-digit year.
    (0..=9999).contains(&utc.year()).then(|| {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            utc.year(),
            u8::from(utc.month()),
            utc.day(),
            utc.hour(),
            utc.minute(),
            utc.second(),
            utc.millisecond()
        )
    })
}

fn cedar_record<'a>(fields: impl Iterator<Item = (&'a String, &'a Json)>, depth: usize) -> Value {
    Value::record(fields.filter_map(|(name, json)| Some((name.as_str(), cedar_value(json, depth)?))), None)
}

fn cedar_value(json: &Json, depth: usize) -> Option<Value> {
    let deeper = depth.checked_sub(1)?;
    match json {
        Json::Null => None,
        Json::Bool(value) => Some(Value::from(*value)),
        Json::Number(number) => number.as_i64().map(Value::from),
        Json::String(value) => Some(Value::from(value.as_str())),
        Json::Array(items) => {
            let items: Option<Vec<Value>> = items.iter().map(|item| cedar_value(item, deeper)).collect();
            Some(Value::set(items?, None))
        }
        Json::Object(fields) => Some(cedar_record(fields.iter(), deeper)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attribute_usage::RequiredAttributes, test_fixtures};
    use cedar_policy::RestrictedExpression;
    use proptest::prelude::*;
    use serde_json::json;
    use std::net::Ipv6Addr;

    fn params_in_context(parameters: Json) -> Json {
        let operation = test_fixtures::test_operation(&[("s3:GetObject", "*")], parameters);
        let ask =
            PolicyQuery::Permission { operation: &operation, permission: &operation.required_permissions[0] };
        let facts = RequestContext {
            connection: Some("demo"),
            source_ip: IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xa00, 1)),
            now: time::macros::datetime!(2026-11-21 06:00:00.5 +2),
            tags: None,
            risk: None,
        };
        let all = [RequiredAttributes::all()];
        let mut wanted = CombinedAttributes::new(&all);
        wanted.include_attributes(0);
        let context = build_cedar_context(&EntityTypes::new(), &ask, &facts, &wanted).expect("a context");
        let json = context.to_json_value().expect("a context has a JSON form");
        assert_eq!(json["source_ip"]["__extn"]["arg"], "10.0.0.1");
        assert_eq!(json["region"], "eu-central-1");
        json["params"].clone()
    }

    #[test]
    fn holds_scalars_sets_and_records() {
        let given =
            json!({ "a": "x", "b": true, "n": -7, "l": ["p", "q"], "r": { "s": { "t": 1 } }, "e": [] });
        assert_eq!(params_in_context(given.clone()), given);
    }

    #[test]
    fn leaves_out_what_cedar_cannot_hold_exactly() {
        assert_eq!(
            params_in_context(
                json!({ "f": 1.5, "z": null, "u": u64::MAX, "l": ["a", 1.5], "m": ["a", null], "k": 1 })
            ),
            json!({ "k": 1 })
        );
    }

    #[test]
    fn leaves_out_what_is_too_deep() {
        let mut deep = json!(1);
        for _ in 0..9 {
            deep = json!({ "x": deep });
        }
        assert!(!params_in_context(deep).to_string().contains('1'));
    }

    /// The same value by Cedar's own front door.
    fn cedar_expression(json: &Json, depth: usize) -> Option<RestrictedExpression> {
        let deeper = depth.checked_sub(1)?;
        match json {
            Json::Null => None,
            Json::Bool(value) => Some(RestrictedExpression::new_bool(*value)),
            Json::Number(number) => number.as_i64().map(RestrictedExpression::new_long),
            Json::String(value) => Some(RestrictedExpression::new_string(value.clone())),
            Json::Array(items) => {
                let items: Option<Vec<_>> = items.iter().map(|item| cedar_expression(item, deeper)).collect();
                Some(RestrictedExpression::new_set(items?))
            }
            Json::Object(fields) => {
                let fields = fields
                    .iter()
                    .filter_map(|(name, json)| Some((name.clone(), cedar_expression(json, deeper)?)));
                RestrictedExpression::new_record(fields.collect::<Vec<_>>()).ok()
            }
        }
    }

    fn arbitrary_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            (0..3i64).prop_map(Json::from),
            "[a-c]{0,2}".prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(10, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::hash_map("[a-c_]{1,2}|__entity|__extn", inner, 0..4)
                    .prop_map(|fields| Json::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn holds_the_values_that_cedar_makes_of_the_same_parameters(given in arbitrary_json()) {
            let ours = cedar_value(&given, MAX_PARAMETER_DEPTH).map(|value| [("x", value)]);
            let ours = ours.map(|pairs| match ValueKind::record(pairs) {
                ValueKind::Record(attributes) => Context::Value(attributes),
                _ => unreachable!("a record is a record"),
            });
            let theirs = cedar_expression(&given, MAX_PARAMETER_DEPTH).map(|value| {
                cedar_policy::Context::from_pairs([("x".to_owned(), value)]).expect("a context")
            });
            prop_assert_eq!(ours.as_ref(), theirs.as_ref().map(AsRef::as_ref));
        }
    }
}
