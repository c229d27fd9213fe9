//! Cedar's `context` of one query, with only the attributes that an applicable policy reads.
//!
//! Promise: a value that Cedar cannot hold exactly (a float, a null, a list with one of these in it) is left out whole. A policy
//! that reads it fails to evaluate then, which denies; a rounded value could satisfy a condition.

use crate::{
    context_attributes::ContextAttribute,
    entity_literals::EntityTypes,
    policy_query::{PolicyQuery, RequestContext},
    query_error::QueryError,
    required_attributes::CombinedAttributes,
};
use cedar_policy_core::ast::{Context, Value, ValueKind};
use durward_core::{FrontEndKind, Operation, RequiredPermission, Resource, collect_request_tags};
use serde_json::Value as Json;

/// Parameters that are nested deeper are left out. The schema offers fewer levels (`MAX_SCHEMA_DEPTH`), except of tool arguments,
/// which have the depth that a policy reads.
const MAX_PARAMETER_DEPTH: usize = 8;

pub(crate) fn build_cedar_context(
    types: &EntityTypes,
    query: &PolicyQuery<'_>,
    context: &RequestContext<'_>,
    required: &CombinedAttributes<'_>,
) -> Result<Context, QueryError> {
    if required.context.is_empty() {
        return Ok(Context::empty());
    }
    let mut pairs: Vec<(&'static str, Value)> = Vec::new();
    for attribute in required.context.iter() {
        if let Some(value) = context_attribute(attribute, types, query, context, required)? {
            pairs.push((attribute.row().name, value));
        }
    }
    match ValueKind::record(pairs) {
        ValueKind::Record(attributes) => Ok(Context::Value(attributes)),
        _ => Err(QueryError::ContextNotARecord),
    }
}

/// The value of one attribute. `None`: this query does not have it.
fn context_attribute(
    attribute: ContextAttribute,
    types: &EntityTypes,
    query: &PolicyQuery<'_>,
    context: &RequestContext<'_>,
    required: &CombinedAttributes<'_>,
) -> Result<Option<Value>, QueryError> {
    match (attribute, query) {
        // A client's IPv4 address on an IPv6 socket is `::ffff:10.0.0.1`; a policy means the IPv4 address (RFC 4291,
        // section 2.5.5.2).
        (ContextAttribute::SourceIp, _) => {
            types.ip_value(&context.source_ip.to_canonical().to_string()).map(Some)
        }
        (ContextAttribute::Now, _) => {
            format_cedar_datetime(context.now).map(|text| types.datetime_value(&text)).transpose()
        }
        (ContextAttribute::Risk, PolicyQuery::Permission { .. }) => {
            Ok(context.risk.map(|risk| Value::from(i64::from(risk))))
        }
        (_, PolicyQuery::Permission { operation, permission }) => match operation.front_end {
            FrontEndKind::Aws => aws_attribute(attribute, operation, permission, context, required),
            FrontEndKind::Mcp => Ok(mcp_attribute(attribute, operation, permission, required)),
        },
        (_, PolicyQuery::Connect { .. } | PolicyQuery::Reveal { .. }) => Ok(None),
    }
}

fn aws_attribute(
    attribute: ContextAttribute,
    operation: &Operation,
    permission: &RequiredPermission,
    context: &RequestContext<'_>,
    required: &CombinedAttributes<'_>,
) -> Result<Option<Value>, QueryError> {
    Ok(match attribute {
        ContextAttribute::Operation => Some(Value::from(operation.name.as_str())),
        ContextAttribute::Region => operation.region.as_deref().map(Value::from),
        ContextAttribute::Account => operation.account.as_deref().map(Value::from),
        ContextAttribute::Connection => context.connection.map(Value::from),
        ContextAttribute::AccessLevel => Some(Value::from(permission.access_level.as_str())),
        ContextAttribute::Irreversible => Some(Value::from(operation.traits.irreversible)),
        ContextAttribute::Escalates => Some(Value::from(operation.traits.escalates)),
        ContextAttribute::Indirect => Some(Value::from(operation.traits.indirect)),
        ContextAttribute::ReturnsCredentials => Some(Value::from(operation.traits.returns_credentials)),
        ContextAttribute::RequestTags => Some(request_tag_set(operation)?),
        ContextAttribute::Params => {
            refuse_unmodeled_parameters(operation, permission, required)?;
            request_members(operation, required)
        }
        ContextAttribute::Server | ContextAttribute::Tool | ContextAttribute::Arguments => None,
        ContextAttribute::SourceIp | ContextAttribute::Now | ContextAttribute::Risk => None,
    })
}

fn mcp_attribute(
    attribute: ContextAttribute,
    operation: &Operation,
    permission: &RequiredPermission,
    required: &CombinedAttributes<'_>,
) -> Option<Value> {
    match attribute {
        ContextAttribute::Arguments => request_members(operation, required),
        ContextAttribute::Server => Some(Value::from(operation.service.as_str())),
        ContextAttribute::Tool => match &permission.resource {
            Resource::McpTool { name, .. } => Some(Value::from(name.as_str())),
            _ => None,
        },
        _ => None,
    }
}

/// The parameters or arguments that an applicable policy reads, as a record.
fn request_members(operation: &Operation, required: &CombinedAttributes<'_>) -> Option<Value> {
    let members = operation.parameters.as_object()?.iter();
    Some(cedar_record(members.filter(|(name, _)| required.reads_member(name)), MAX_PARAMETER_DEPTH))
}

/// The tags that a request would set, each as `key=value`.
fn request_tag_set(operation: &Operation) -> Result<Value, QueryError> {
    let tags = collect_request_tags(operation).ok_or(QueryError::UnmodeledTags)?;
    Ok(Value::set(tags.into_iter().map(|(key, value)| Value::from(format!("{key}={value}"))), None))
}

/// A parameter that no model of the operation knows must satisfy no condition. The attack: an agent adds a parameter that the
/// service ignores, and with it satisfies a policy (`context.params.Owner == "me"`).
///
/// Of an operation that the catalog does not know, every parameter is such a one; a policy that permits it by name means them.
fn refuse_unmodeled_parameters(
    operation: &Operation,
    permission: &RequiredPermission,
    required: &CombinedAttributes<'_>,
) -> Result<(), QueryError> {
    if permission.is_unknown_operation() {
        return Ok(());
    }
    let unmodeled = operation.uninspected_parts.iter().filter_map(|pointer| pointer.strip_prefix('/'));
    match unmodeled.filter(|name| !name.contains('/')).find(|name| required.reads_member(name)) {
        Some(name) => Err(QueryError::UnmodeledParameter { name: name.to_owned() }),
        None => Ok(()),
    }
}

/// `YYYY-MM-DDThh:mm:ss.SSSZ`, the format of Cedar's datetime extension. `None`: the year has not four digits, as that format
/// requires.
fn format_cedar_datetime(now: time::OffsetDateTime) -> Option<String> {
    let utc = now.to_offset(time::UtcOffset::UTC);
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
        // Cedar's only number type is a 64-bit signed integer.
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
    use crate::{required_attributes::RequiredAttributes, test_fixtures};
    use cedar_policy::RestrictedExpression;
    use proptest::prelude::*;
    use serde_json::json;
    use std::net::{IpAddr, Ipv6Addr};

    fn params_in_context(parameters: Json) -> Json {
        let operation = test_fixtures::test_operation(&[("s3:GetObject", "*")], parameters);
        let query =
            PolicyQuery::Permission { operation: &operation, permission: &operation.required_permissions[0] };
        let request_context = RequestContext {
            connection: Some("demo"),
            source_ip: IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xa00, 1)),
            now: time::macros::datetime!(2026-11-21 06:00:00.5 +2),
            tags: None,
            risk: None,
        };
        let all = [RequiredAttributes::all()];
        let mut required = CombinedAttributes::new(&all);
        required.include(0);
        let context =
            build_cedar_context(&EntityTypes::new(), &query, &request_context, &required).expect("a context");
        let json = context.to_json_value().expect("a context has a JSON form");
        assert_eq!(json["source_ip"]["__extn"]["arg"], "10.0.0.1");
        assert_eq!(json["region"], "eu-central-1");
        json["params"].clone()
    }

    #[test]
    fn holds_scalars_sets_and_records() {
        let parameters =
            json!({ "a": "x", "b": true, "n": -7, "l": ["p", "q"], "r": { "s": { "t": 1 } }, "e": [] });
        assert_eq!(params_in_context(parameters.clone()), parameters);
    }

    #[test]
    fn leaves_out_values_that_cedar_cannot_hold_exactly() {
        assert_eq!(
            params_in_context(
                json!({ "f": 1.5, "z": null, "u": u64::MAX, "l": ["a", 1.5], "m": ["a", null], "k": 1 })
            ),
            json!({ "k": 1 })
        );
    }

    #[test]
    fn leaves_out_values_that_are_nested_too_deep() {
        let mut deep = json!(1);
        for _ in 0..9 {
            deep = json!({ "x": deep });
        }
        assert!(!params_in_context(deep).to_string().contains('1'));
    }

    /// The same value, built with Cedar's public interface.
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
        fn builds_the_values_that_cedar_builds_from_the_same_parameters(parameters in arbitrary_json()) {
            let ours = cedar_value(&parameters, MAX_PARAMETER_DEPTH).map(|value| [("x", value)]);
            let ours = ours.map(|pairs| match ValueKind::record(pairs) {
                ValueKind::Record(attributes) => Context::Value(attributes),
                _ => unreachable!("a record is a record"),
            });
            let theirs = cedar_expression(&parameters, MAX_PARAMETER_DEPTH).map(|value| {
                cedar_policy::Context::from_pairs([("x".to_owned(), value)]).expect("a context")
            });
            prop_assert_eq!(ours.as_ref(), theirs.as_ref().map(AsRef::as_ref));
        }
    }
}
