//! The facts of one question as Cedar's `context`: only those that a policy at hand reads.
//!
//! A value that Cedar cannot hold exactly (a float, a null, a list with one of these in it) is left out whole: a policy that
//! reads it then errs, and the operation is refused.

use crate::{
    reading::Needs,
    set::{Ask, Facts},
};
use cedar_policy::{Context, RestrictedExpression};
use durward_core::{Door, Resource};
use serde_json::Value;
use std::net::IpAddr;

/// Parameters nested deeper are left out; the schema offers three levels.
const DEPTH: usize = 8;

pub(crate) fn context(ask: &Ask<'_>, facts: &Facts<'_>, needs: &Needs) -> Result<Context, String> {
    let mut pairs: Vec<(String, RestrictedExpression)> = Vec::new();
    let mut put = |name: &str, value: &mut dyn FnMut() -> Option<RestrictedExpression>| {
        if needs.fact(name)
            && let Some(value) = value()
        {
            pairs.push((name.to_owned(), value));
        }
    };
    put("source_ip", &mut || Some(RestrictedExpression::new_ip(canonical(facts.source_ip).to_string())));
    put("now", &mut || moment(facts.now));
    if let Ask::Demand { operation, demand } = ask {
        let members = |needs: &Needs| {
            let fields = operation.parameters.as_object()?;
            let named = fields.iter().filter(|(name, _)| needs.member(name));
            record(named, DEPTH)
        };
        match operation.door {
            Door::Aws => {
                put("operation", &mut || Some(text(&operation.name)));
                put("region", &mut || operation.region.as_deref().map(text));
                put("account", &mut || operation.account.as_deref().map(text));
                put("connection", &mut || facts.connection.map(text));
                put("access_level", &mut || Some(text(demand.access_level.as_str())));
                for (name, value) in [
                    ("irreversible", operation.traits.irreversible),
                    ("escalates", operation.traits.escalates),
                    ("indirect", operation.traits.indirect),
                    ("returns_credentials", operation.traits.returns_credentials),
                ] {
                    put(name, &mut || Some(RestrictedExpression::new_bool(value)));
                }
                put("params", &mut || members(needs));
            }
            Door::Mcp => {
                put("server", &mut || Some(text(&operation.service)));
                put("tool", &mut || match &demand.resource {
                    Resource::McpTool { name, .. } => Some(text(name)),
                    _ => None,
                });
                put("arguments", &mut || members(needs));
            }
        }
    }
    Context::from_pairs(pairs).map_err(|error| error.to_string())
}

/// An IPv4 address in an IPv6 socket is the IPv4 address a policy means.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// `YYYY-MM-DDThh:mm:ss.SSSZ`, the form of Cedar's datetime extension.
fn moment(now: time::OffsetDateTime) -> Option<RestrictedExpression> {
    let utc = now.to_offset(time::UtcOffset::UTC);
    // Cedar's format has a four-digit year.
    (0..=9999).contains(&utc.year()).then(|| {
        RestrictedExpression::new_datetime(format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            utc.year(),
            u8::from(utc.month()),
            utc.day(),
            utc.hour(),
            utc.minute(),
            utc.second(),
            utc.millisecond()
        ))
    })
}

fn record<'a>(
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    depth: usize,
) -> Option<RestrictedExpression> {
    let fields = fields.filter_map(|(name, value)| Some((name.clone(), expression(value, depth)?)));
    RestrictedExpression::new_record(fields.collect::<Vec<_>>()).ok()
}

fn expression(value: &Value, depth: usize) -> Option<RestrictedExpression> {
    let deeper = depth.checked_sub(1)?;
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(RestrictedExpression::new_bool(*value)),
        Value::Number(number) => number.as_i64().map(RestrictedExpression::new_long),
        Value::String(value) => Some(text(value)),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| expression(item, deeper)).collect();
            Some(RestrictedExpression::new_set(items?))
        }
        Value::Object(fields) => record(fields.iter(), deeper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{reading::Needs, sample};
    use serde_json::json;
    use std::net::Ipv6Addr;

    fn params(parameters: Value) -> Value {
        let operation = sample::operation(&[("s3:GetObject", "*")], parameters);
        let ask = Ask::Demand { operation: &operation, demand: &operation.demands[0] };
        let facts = Facts {
            connection: Some("demo"),
            source_ip: IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xa00, 1)),
            now: time::macros::datetime!(2026-11-21 06:00:00.5 +2),
        };
        let context = context(&ask, &facts, &Needs::everything()).expect("a context");
        let json = context.to_json_value().expect("a context has a JSON form");
        assert_eq!(json["source_ip"]["__extn"]["arg"], "10.0.0.1");
        assert_eq!(json["region"], "eu-central-1");
        json["params"].clone()
    }

    #[test]
    fn holds_scalars_sets_and_records() {
        let given =
            json!({ "a": "x", "b": true, "n": -7, "l": ["p", "q"], "r": { "s": { "t": 1 } }, "e": [] });
        assert_eq!(params(given.clone()), given);
    }

    #[test]
    fn leaves_out_what_cedar_cannot_hold_exactly() {
        assert_eq!(
            params(json!({ "f": 1.5, "z": null, "u": u64::MAX, "l": ["a", 1.5], "m": ["a", null], "k": 1 })),
            json!({ "k": 1 })
        );
    }

    #[test]
    fn leaves_out_what_is_too_deep() {
        let mut deep = json!(1);
        for _ in 0..9 {
            deep = json!({ "x": deep });
        }
        assert!(!params(deep).to_string().contains('1'));
    }
}
