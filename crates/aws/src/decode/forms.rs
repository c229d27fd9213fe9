//! Requests of the query and ec2 protocols: the operation is the `Action` of the form (or of the query of a GET), its
//! service the one with that operation and that `Version`.

use super::parse_query::{Reader, loose_parameters, parse_body, take, tree};
use super::recognise::{Choice, NO_OPERATION, Recognised, is_operation_name};
use super::text::{Pair, malformed, query_pairs, quote, unknown};
use super::ties::{settle, several};
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
    let mut pairs: Vec<Pair<'_>> = if body.is_empty() {
        in_query.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    } else {
        body_only(&in_query, body)?
    };
    let action = take(&mut pairs, "Action")?.ok_or_else(|| unknown("the request has no Action"))?;
    let version = take(&mut pairs, "Version")?.ok_or_else(|| malformed("the request has no Version"))?;
    let mut found = Vec::new();
    for service in recognised.forms().iter().filter(|service| service.api_version == version) {
        if let Some(op_index) = service.operation_index(&action) {
            found.push(Choice { service: Arc::clone(service), op_index, labels: Vec::new() });
        }
    }
    if found.is_empty() {
        let service = newer(recognised, &action, &version)?;
        let parameters = loose_parameters(tree(&pairs)?)?;
        return Ok((service, NO_OPERATION, Read::unknown(action, parameters)));
    }
    let tied = settle(found);
    if tied.open {
        return Err(several(&tied.list));
    }
    let Choice { service, op_index: at, .. } =
        tied.list.into_iter().next().ok_or_else(|| unknown("no operation matches"))?;
    let node = tree(&pairs)?;
    let input = service.operations.get(at).and_then(|op| op.input);
    let reader = Reader { service: &service, ec2: recognised.protocol() == Protocol::Ec2 };
    let members = input.map_or(&[][..], |input| service.members(input));
    let parameters: Map<String, Value> = reader.structure(members, node)?;
    let marked = shape::mark(&service, input, &parameters);
    let read = Read { parameters, sensitive: marked.sensitive, uninspected: marked.unknown, newer: None };
    Ok((service, at, read))
}

/// The service of an operation that is newer than the catalog: the one with that version, of several the one named like the scope.
fn newer(recognised: &Recognised, action: &str, version: &str) -> Result<Arc<Service>, Refusal> {
    let mut of_version = recognised.forms().iter().filter(|service| service.api_version == version);
    let first = of_version.next();
    let own = of_version.chain(first).find(|service| service.id == service.signing_name).or(first);
    match own {
        Some(service) if is_operation_name(action) => Ok(Arc::clone(service)),
        _ => Err(unknown(format!(
            "the operation `{}` (version `{}`) of {} is not in the catalog",
            quote(action),
            quote(version),
            recognised.service().id
        ))),
    }
}

fn body_only<'a>(in_query: &[(String, String)], body: &'a [u8]) -> Result<Vec<Pair<'a>>, Refusal> {
    if in_query.is_empty() {
        return parse_body(body);
    }
    Err(malformed("the request has parameters both in its query and in its body; send one form"))
}
