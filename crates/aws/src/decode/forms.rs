//! Requests of the query and ec2 protocols: the operation is the `Action` of the form (or of the query of a GET), its
//! service the one with that operation and that `Version`.

use super::parse_query::{Reader, parse_body, take, tree};
use super::recognise::{Recognised, strictest};
use super::text::{malformed, query_pairs, quote, unknown};
use super::{Head, Read, shape};
use durward_catalog::{Protocol, Service};
use durward_core::Refusal;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Service, operation and parameters of a form.
pub(super) fn read(
    head: &Head<'_>,
    recognised: &Recognised,
    body: &[u8],
) -> Result<(Arc<Service>, usize, Read), Refusal> {
    let in_query = query_pairs(head.query)?;
    let mut pairs = if body.is_empty() { in_query } else { body_only(&in_query, body)? };
    let action = take(&mut pairs, "Action")?.ok_or_else(|| unknown("the request has no Action"))?;
    let version = take(&mut pairs, "Version")?.ok_or_else(|| malformed("the request has no Version"))?;
    let mut found = Vec::new();
    for service in recognised.candidates().iter().filter(|service| service.api_version == version) {
        if let Some(at) = service.operations.iter().position(|op| op.name == action) {
            found.push((Arc::clone(service), at));
        }
    }
    let (service, at) = strictest(found)?.ok_or_else(|| {
        unknown(format!(
            "the operation `{}` (version `{}`) of {} is not in the catalog",
            quote(&action),
            quote(&version),
            recognised.service().id
        ))
    })?;
    let node = tree(pairs)?;
    let input = service.operations.get(at).and_then(|op| op.input);
    let reader = Reader { service: &service, ec2: recognised.protocol() == Protocol::Ec2 };
    let members = input.map_or(&[][..], |input| service.members(input));
    let parameters: Map<String, Value> = reader.structure(members, node)?;
    let sensitive = shape::sensitive(&service, input, &parameters);
    Ok((service, at, Read { parameters, sensitive, uninspected: Vec::new() }))
}

fn body_only(in_query: &[(String, String)], body: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    if in_query.is_empty() {
        return parse_body(body);
    }
    Err(malformed("the request has parameters both in its query and in its body; send one form"))
}
