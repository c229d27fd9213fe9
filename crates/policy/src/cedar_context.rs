//! Cedar's `context` of one query, with only the attributes that an applicable policy reads.
//!
//! Promise: no value is rounded or left out. A value that Cedar cannot hold (a fraction, a null, a list with one of these in it) has a
//! placeholder in the context, and stands among the unrepresentable values, which the evaluator makes unreadable.

use crate::{
    context_attributes::ContextAttribute,
    entity_literals::EntityTypes,
    policy_query::{PolicyQuery, RequestContext},
    query_error::QueryError,
    required_attributes::CombinedAttributes,
    unrepresentable::{
        MAX_PARAMETER_DEPTH, UnrepresentableReason, UnrepresentableValue, UnrepresentableValues,
    },
};
use cedar_policy_core::ast::{Context, Value, ValueKind};
use durward_core::{FrontEndKind, Operation, RequiredPermission, Resource, collect_request_tags};
use serde_json::Value as Json;
use std::{collections::BTreeMap, sync::Arc};

/// The context of a query.
#[derive(Debug, Clone)]
pub(crate) struct CedarContext {
    pub context: Context,
    /// The values of the request that have only a placeholder in the context. Almost every request has none.
    pub unrepresentable: Option<Arc<UnrepresentableValues>>,
}

pub(crate) fn build_cedar_context(
    types: &EntityTypes,
    query: &PolicyQuery<'_>,
    context: &RequestContext<'_>,
    required: &CombinedAttributes<'_>,
) -> Result<CedarContext, QueryError> {
    if required.context.is_empty() {
        return Ok(CedarContext { context: Context::empty(), unrepresentable: None });
    }
    let mut pairs: Vec<(&'static str, Value)> = Vec::new();
    let mut unrepresentable = None;
    for attribute in required.context.iter() {
        if let Some((value, values)) = context_attribute(attribute, types, query, context, required)? {
            pairs.push((attribute.row().name, value));
            // A query has `params` or `arguments`, never both.
            unrepresentable = unrepresentable
                .or(values.map(|values| Arc::new(UnrepresentableValues { attribute, values })));
        }
    }
    match ValueKind::record(pairs) {
        ValueKind::Record(attributes) => {
            Ok(CedarContext { context: Context::Value(attributes), unrepresentable })
        }
        _ => Err(QueryError::ContextNotARecord),
    }
}

/// A value as Cedar holds it, and what of it is unrepresentable.
type ConvertedValue = (Value, Option<UnrepresentableValue>);

/// The value of one attribute. `None`: this query does not have it.
fn context_attribute(
    attribute: ContextAttribute,
    types: &EntityTypes,
    query: &PolicyQuery<'_>,
    context: &RequestContext<'_>,
    required: &CombinedAttributes<'_>,
) -> Result<Option<ConvertedValue>, QueryError> {
    if let PolicyQuery::Permission { operation, permission } = query {
        let front_end = match attribute {
            ContextAttribute::Params => Some(FrontEndKind::Aws),
            ContextAttribute::Arguments => Some(FrontEndKind::Mcp),
            _ => None,
        };
        if front_end == Some(operation.front_end) {
            if attribute == ContextAttribute::Params {
                refuse_unmodeled_parameters(operation, permission, required)?;
            }
            return Ok(request_members(operation, required));
        }
    }
    let value = simple_attribute(attribute, types, query, context)?;
    Ok(value.map(|value| (value, None)))
}

/// The value of an attribute other than `params` and `arguments`.
fn simple_attribute(
    attribute: ContextAttribute,
    types: &EntityTypes,
    query: &PolicyQuery<'_>,
    context: &RequestContext<'_>,
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
            FrontEndKind::Aws => aws_attribute(attribute, operation, permission, context),
            FrontEndKind::Mcp => Ok(mcp_attribute(attribute, operation, permission)),
        },
        (_, PolicyQuery::Connect { .. } | PolicyQuery::Reveal { .. }) => Ok(None),
    }
}

fn aws_attribute(
    attribute: ContextAttribute,
    operation: &Operation,
    permission: &RequiredPermission,
    context: &RequestContext<'_>,
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
        ContextAttribute::Server | ContextAttribute::Tool => None,
        ContextAttribute::Params | ContextAttribute::Arguments => None,
        ContextAttribute::SourceIp | ContextAttribute::Now | ContextAttribute::Risk => None,
    })
}

fn mcp_attribute(
    attribute: ContextAttribute,
    operation: &Operation,
    permission: &RequiredPermission,
) -> Option<Value> {
    match attribute {
        ContextAttribute::Server => Some(Value::from(operation.service.as_str())),
        ContextAttribute::Tool => match &permission.resource {
            Resource::McpTool { name, .. } => Some(Value::from(name.as_str())),
            _ => None,
        },
        _ => None,
    }
}

/// The parameters or arguments that an applicable policy reads, as a record.
fn request_members(operation: &Operation, required: &CombinedAttributes<'_>) -> Option<ConvertedValue> {
    let members = operation.parameters.as_object()?.iter();
    Some(convert_record(members.filter(|(name, _)| required.reads_member(name)), MAX_PARAMETER_DEPTH))
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

fn convert_record<'a>(fields: impl Iterator<Item = (&'a String, &'a Json)>, depth: usize) -> ConvertedValue {
    let mut unrepresentable = BTreeMap::new();
    let values = fields.map(|(name, json)| {
        let (value, below) = convert_value(json, depth);
        if let Some(below) = below {
            unrepresentable.insert(name.clone(), below);
        }
        (name.as_str(), value)
    });
    let record = Value::record(values, None);
    (record, (!unrepresentable.is_empty()).then_some(UnrepresentableValue::Members(unrepresentable)))
}

fn convert_value(json: &Json, depth: usize) -> ConvertedValue {
    let Some(deeper) = depth.checked_sub(1) else { return placeholder(UnrepresentableReason::TooDeep) };
    match json {
        Json::Null => placeholder(UnrepresentableReason::Null),
        Json::Bool(value) => (Value::from(*value), None),
        // A float is never taken for a whole number here: 500.00000000000000000001 is 500.0 as a float. Readers that know how the
        // number was written make whole numbers integers (`durward_core::parse_strict_json`).
        Json::Number(number) => match number.as_i64() {
            Some(number) => (Value::from(number), None),
            None => placeholder(UnrepresentableReason::NotAnInteger),
        },
        Json::String(value) => (Value::from(value.as_str()), None),
        Json::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let (value, unrepresentable) = convert_value(item, deeper);
                if let Some(unrepresentable) = unrepresentable {
                    return (placeholder_value(), Some(unrepresentable.in_list(index)));
                }
                values.push(value);
            }
            (Value::set(values, None), None)
        }
        Json::Object(fields) => convert_record(fields.iter(), deeper),
    }
}

fn placeholder(reason: UnrepresentableReason) -> ConvertedValue {
    (placeholder_value(), Some(UnrepresentableValue::whole(reason)))
}

/// What stands in the context for an unrepresentable value. No condition reads it.
fn placeholder_value() -> Value {
    Value::empty_record(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{required_attributes::RequiredAttributes, test_fixtures};
    use cedar_policy::RestrictedExpression;
    use cedar_policy_core::ast::{Expr, Var};
    use proptest::prelude::*;
    use serde_json::json;
    use std::net::{IpAddr, Ipv6Addr};

    /// `context.params` of a query whose policies read everything, and its first unrepresentable value.
    fn params_in_context(parameters: Json) -> (Json, Option<String>) {
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
        let json = context.context.to_json_value().expect("a context has a JSON form");
        assert_eq!(json["source_ip"]["__extn"]["arg"], "10.0.0.1");
        assert_eq!(json["region"], "eu-central-1");
        let everything = Expr::var(Var::Context);
        let first = context.unrepresentable.map(|values| values.replace_reads(&everything).1[0].to_string());
        (json["params"].clone(), first)
    }

    #[test]
    fn holds_scalars_sets_and_records() {
        let parameters =
            json!({ "a": "x", "b": true, "n": -7, "l": ["p", "q"], "r": { "s": { "t": 1 } }, "e": [] });
        assert_eq!(params_in_context(parameters.clone()), (parameters, None));
    }

    #[test]
    fn holds_a_placeholder_for_each_value_that_cedar_cannot_hold() {
        let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ "x": inner }));
        for (value, path, reason) in [
            (json!(null), "", "null"),
            (json!(1.5), "", "not a whole number of 64 bits"),
            (json!(500.0), "", "not a whole number of 64 bits"),
            (json!(u64::MAX), "", "not a whole number of 64 bits"),
            (json!(["a", 1.5]), "[1]", "not a whole number of 64 bits"),
            (json!(["a", { "b": [1, null] }]), "[1].b[1]", "null"),
            (json!({ "a": 1, "m": { "n": null } }), ".m.n", "null"),
            (deep(8), ".x.x.x.x.x.x.x.x", "nested too deeply"),
            (json!([deep(7)]), "[0].x.x.x.x.x.x.x", "nested too deeply"),
        ] {
            let (params, first) = params_in_context(json!({ "v": value, "k": 1 }));
            let expected = format!("`context.params.v{path}` is {reason}, which policy cannot read");
            assert_eq!(first, Some(expected), "{value}");
            assert!(params["k"] == 1 && params.get("v").is_some(), "{params}");
        }
        assert_eq!(params_in_context(deep(8)).1, None);
    }

    #[test]
    fn a_path_in_a_refusal_has_no_invisible_characters_and_an_end() {
        let name = format!("\u{202e}{}", "x".repeat(500));
        let (_params, first) = params_in_context(json!({ "l": [{ name: null }] }));
        let text = first.expect("it is null");
        assert!(text.starts_with("`context.params.l[0].\\u{202e}xxx") && text.len() < 200, "{text}");
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
                let fields =
                    fields.iter().map(|(name, json)| Some((name.clone(), cedar_expression(json, deeper)?)));
                RestrictedExpression::new_record(fields.collect::<Option<Vec<_>>>()?).ok()
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
            let (value, unrepresentable) = convert_value(&parameters, MAX_PARAMETER_DEPTH);
            let theirs = cedar_expression(&parameters, MAX_PARAMETER_DEPTH);
            prop_assert_eq!(unrepresentable.is_none(), theirs.is_some());
            if let Some(theirs) = theirs {
                let ours = match ValueKind::record([("x", value)]) {
                    ValueKind::Record(attributes) => Context::Value(attributes),
                    _ => unreachable!("a record is a record"),
                };
                let theirs =
                    cedar_policy::Context::from_pairs([("x".to_owned(), theirs)]).expect("a context");
                prop_assert_eq!(&ours, theirs.as_ref());
            }
        }
    }
}
