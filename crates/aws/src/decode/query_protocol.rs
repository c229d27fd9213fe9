//! Requests of the query and EC2 protocols: `Action` names the operation, and `Version` chooses among the services of a signing
//! name. Both are in the form, or in the query of a GET.

use super::ambiguous_routes::{refuse_ambiguous_route, resolve_ambiguity};
use super::form_conversion::{FormDecoder, build_form_tree, take_parameter, untyped_parameters};
use super::operation_routing::{Route, UNKNOWN_OPERATION_INDEX, is_operation_name};
use super::request::{DecodedParameters, RequestHead};
use super::request_text::parse_query_pairs;
use super::route_choice::RouteChoice;
use super::shape_conversion;
use crate::form::{ParameterPair, parse_form_body, require_form_name};
use crate::refusals::{malformed_request, quote_for_message, unknown_operation};
use durward_catalog::{AwsProtocol, ServiceModel};
use durward_core::Refusal;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Decodes a form: returns the service, the position of the operation and the parameters.
pub(super) fn decode_form_request(
    head: &RequestHead<'_>,
    route: &Route,
    body: &[u8],
) -> Result<(Arc<ServiceModel>, usize, DecodedParameters), Refusal> {
    let in_query = parse_query_pairs(head.query)?;
    let mut pairs: Vec<ParameterPair<'_>> = if body.is_empty() {
        in_query.iter().try_for_each(|(name, _value)| require_form_name(name))?;
        in_query.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    } else {
        parse_body_parameters(&in_query, body)?
    };
    refuse_other_format(&pairs)?;
    let action = take_parameter(&mut pairs, "Action")?
        .ok_or_else(|| unknown_operation("the request has no Action"))?;
    let version = take_parameter(&mut pairs, "Version")?
        .ok_or_else(|| malformed_request("the request has no Version"))?;
    let mut found = Vec::new();
    for service in route.form_services().iter().filter(|service| service.api_version == version) {
        if let Some(operation_index) = service.operation_index(&action) {
            found.push(RouteChoice { service: Arc::clone(service), operation_index, labels: Vec::new() });
        }
    }
    if found.is_empty() {
        let service = find_service_of_unknown_operation(route, &action, &version)?;
        let parameters = untyped_parameters(build_form_tree(&pairs)?)?;
        return Ok((
            service,
            UNKNOWN_OPERATION_INDEX,
            DecodedParameters::for_unknown_operation(action, parameters),
        ));
    }
    let ambiguous = resolve_ambiguity(found);
    if ambiguous.needs_parameters {
        return Err(refuse_ambiguous_route(&ambiguous.candidates));
    }
    let RouteChoice { service, operation_index, .. } =
        ambiguous.candidates.into_iter().next().ok_or_else(|| unknown_operation("no operation matches"))?;
    let tree = build_form_tree(&pairs)?;
    let input = service.operations.get(operation_index).and_then(|operation| operation.input_shape);
    let decoder = FormDecoder { service: &service, is_ec2: route.protocol() == AwsProtocol::Ec2 };
    let members = input.map_or(&[][..], |input| service.structure_members(input));
    let parameters: Map<String, Value> = decoder.decode_structure(members, tree)?;
    let marked = shape_conversion::mark_parameters(&service, input, &parameters);
    let decoded = DecodedParameters {
        parameters,
        sensitive: marked.sensitive,
        uninspected: marked.unknown,
        unknown_operation: None,
    };
    Ok((service, operation_index, decoded))
}

/// The service of an operation that the catalog does not have: one with this version, preferably the one named like the signing
/// name.
fn find_service_of_unknown_operation(
    route: &Route,
    action: &str,
    version: &str,
) -> Result<Arc<ServiceModel>, Refusal> {
    let mut with_version = route.form_services().iter().filter(|service| service.api_version == version);
    let first = with_version.next();
    let preferred = with_version.chain(first).find(|service| service.id == service.signing_name).or(first);
    match preferred {
        Some(service) if is_operation_name(action) => Ok(Arc::clone(service)),
        _ => Err(unknown_operation(format!(
            "the operation `{}` (version `{}`) of {} is not in the catalog",
            quote_for_message(action),
            quote_for_message(version),
            route.service().id
        ))),
    }
}

/// Services of the query protocol answer in JSON if this parameter asks for it; no model has it. Masking reads the XML that the
/// model describes.
fn refuse_other_format(pairs: &[ParameterPair<'_>]) -> Result<(), Refusal> {
    let asks = |(name, value): &&ParameterPair<'_>| {
        name.eq_ignore_ascii_case("ContentType") && !value.eq_ignore_ascii_case("XML")
    };
    match pairs.iter().find(asks) {
        Some((name, _value)) => Err(malformed_request(format!(
            "the parameter `{}` asks for another format than XML, and the gateway reads the response as XML only; leave it out",
            quote_for_message(name)
        ))),
        None => Ok(()),
    }
}

fn parse_body_parameters<'a>(
    in_query: &[(String, String)],
    body: &'a [u8],
) -> Result<Vec<ParameterPair<'a>>, Refusal> {
    // Readers differ in whether they merge the two or take one of them, so one `Action` could be decided and another executed.
    if in_query.is_empty() {
        return parse_form_body(body);
    }
    Err(malformed_request("the request has parameters both in its query and in its body; send one form"))
}
