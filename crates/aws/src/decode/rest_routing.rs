//! Routing of the REST protocols by method, path template and query literals (Smithy, "HTTP bindings").
//!
//! Promise: a query key that selects another operation refuses the request. For S3 any query key that the operation does not
//! have refuses it: a sub-resource that the catalog does not know (`?newthing`) would select an operation that policy has
//! not seen.

use super::ambiguous_routes::resolve_ambiguity;
use super::bucket_name::{is_access_point_arn, is_bucket_name};
use super::request::{RequestHead, RequestScope};
use super::request_text::parse_query_pairs;
use super::route_choice::{AmbiguousRoute, RouteChoice};
use super::shape_conversion::wire_name;
use crate::form::{PlusSign, decode_escapes};
use crate::refusals::{malformed_request, quote_for_message, unknown_operation};
use durward_catalog::{MemberLocation, OperationModel, ServiceModel};
use durward_core::Refusal;
use std::borrow::Cow;
use std::sync::Arc;

/// The quality with which an operation fits a request: compared in this order, more is better.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct RouteFit {
    has_required_members: bool,
    literal_segments: usize,
    query_literals: usize,
    required_member_count: usize,
    /// The path ends in a slash exactly if the template does.
    matches_trailing_slash: bool,
}

struct RouteCandidate {
    service: Arc<ServiceModel>,
    operation_index: usize,
    fit: RouteFit,
}

/// Finds the operations whose templates fit the head best.
pub(super) fn route_by_template(
    services: &[Arc<ServiceModel>],
    scope: &RequestScope<'_>,
    head: &RequestHead<'_>,
) -> Result<AmbiguousRoute, Refusal> {
    let query = parse_query_pairs(head.query)?;
    // All paths of s3control begin with its API version, which could also be the name of a bucket. The account header, the
    // scope or AWS's own host (proxy mode) decides.
    let has_control_path = head.path.starts_with("/v20180820/");
    let is_control = has_control_path
        && (scope.service == "s3-outposts"
            || head.headers.contains_key("x-amz-account-id")
            || has_s3control_host(head));
    let mut candidates = Vec::new();
    let path = path_with_bucket(head)?;
    for service in services {
        let is_s3 = service.id == "s3";
        if (is_s3 && is_control) || (service.id == "s3control" && !is_control) {
            let may_be_either = has_control_path && !is_control && head.bucket_host.is_none();
            if service.id == "s3control" && may_be_either {
                refuse_control_without_account(service, head)?;
            }
            continue;
        }
        for (operation_index, operation) in service.operations.iter().enumerate() {
            if !method_fits(service, operation, head) {
                continue;
            }
            let is_form = is_search_form(service, operation, head);
            if !is_form && !operation.query_literals.iter().all(|literal| has_query_literal(&query, literal))
            {
                continue;
            }
            let Some(literal_segments) = match_path_template(&operation.path_template, &path, |_, _| {})
            else {
                continue;
            };
            if is_s3 && !fits_s3_request(scope, service, operation, &query) {
                continue;
            }
            let (required, missing) = count_required_members(service, operation, head, &query);
            // PutObject, CopyObject and UploadPart have one method and path. Their required headers and query keys tell them
            // apart.
            if is_s3 && missing > 0 {
                continue;
            }
            let fit = RouteFit {
                has_required_members: missing == 0,
                literal_segments,
                query_literals: operation.query_literals.len(),
                required_member_count: required,
                matches_trailing_slash: operation.path_template.ends_with('/') == path.ends_with('/'),
            };
            candidates.push(RouteCandidate { service: Arc::clone(service), operation_index, fit });
        }
    }
    select_best_fit(services, head, &path, &query, candidates)
}

fn select_best_fit(
    services: &[Arc<ServiceModel>],
    head: &RequestHead<'_>,
    path: &str,
    query: &[(String, String)],
    candidates: Vec<RouteCandidate>,
) -> Result<AmbiguousRoute, Refusal> {
    let id = services.first().map_or("", |service| service.id.as_str());
    let best = candidates.iter().map(|candidate| candidate.fit).max().ok_or_else(|| {
        unknown_operation(format!(
            "no operation of {id} has the method {}, the path and the query of this request",
            quote_for_message(head.method.as_str())
        ))
    })?;
    let fitting = candidates.iter().filter(|candidate| candidate.fit == best);
    let found = fitting
        .filter_map(|candidate| {
            let operation = candidate.service.operations.get(candidate.operation_index)?;
            let mut raw = Vec::new();
            match_path_template(&operation.path_template, path, |label, value| raw.push((label, value)))?;
            let choice = decode_labels(&candidate.service, operation, &raw).map(|labels| RouteChoice {
                service: Arc::clone(&candidate.service),
                operation_index: candidate.operation_index,
                labels,
            });
            Some(choice)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let ambiguous = resolve_ambiguity(found);
    let first = ambiguous.candidates.first().ok_or_else(|| unknown_operation("no operation matches"))?;
    let operation = first.operation_model().ok_or_else(|| unknown_operation("no operation matches"))?;
    refuse_other_selectors(services, operation, &first.service, head, path, query)?;
    // S3 ignores `x-id`, which the JavaScript SDK adds. One that contradicts the rest would make logs show another operation.
    if let Some((_, named)) = query.iter().find(|(key, _)| key == "x-id")
        && first.service.id == "s3"
        && *named != operation.name
    {
        return Err(unknown_operation(format!(
            "the query names the operation `{}` and the request is {}",
            quote_for_message(named),
            operation.name
        )));
    }
    Ok(ambiguous)
}

/// Refuses a query key that selects another operation of the same method and path, unless the chosen operation has it too.
fn refuse_other_selectors(
    services: &[Arc<ServiceModel>],
    operation: &OperationModel,
    service: &ServiceModel,
    head: &RequestHead<'_>,
    path: &str,
    query: &[(String, String)],
) -> Result<(), Refusal> {
    if query.is_empty() {
        return Ok(());
    }
    let members = operation.input_shape.map_or(&[][..], |input| service.structure_members(input));
    for (key, _) in query {
        let is_own = operation.query_literals.iter().any(|(literal, _)| literal == key)
            || members
                .iter()
                .any(|member| member.location == MemberLocation::Query && wire_name(member) == key);
        if is_own {
            continue;
        }
        let selects = services.iter().flat_map(|service| &service.operations).any(|other| {
            other.query_literals.iter().any(|(literal, _)| literal == key)
                && other.http_method == head.method.as_str()
                && match_path_template(&other.path_template, path, |_, _| {}).is_some()
        });
        if selects {
            return Err(unknown_operation(format!(
                "the query key `{}` selects another operation than {}; send only one of them",
                quote_for_message(key),
                operation.name
            )));
        }
    }
    Ok(())
}

/// The path with the bucket of a virtual-hosted-style request in front.
fn path_with_bucket<'a>(head: &RequestHead<'a>) -> Result<Cow<'a, str>, Refusal> {
    if !head.path.is_empty() && !head.path.starts_with('/') {
        return Err(malformed_request("the path does not begin with a slash"));
    }
    Ok(match head.bucket_host {
        // A slash in the ARN of an access point must not end the segment of the bucket.
        Some(bucket) => Cow::Owned(format!("/{}{}", bucket.replace('/', "%2F"), head.path)),
        None if head.path.is_empty() => Cow::Borrowed("/"),
        None => Cow::Borrowed(head.path),
    })
}

fn method_fits(service: &ServiceModel, operation: &OperationModel, head: &RequestHead<'_>) -> bool {
    operation.http_method == head.method.as_str() || is_search_form(service, operation, head)
}

/// The one REST operation that SDKs send as a form by POST, because the search text may be too long for a URL (botocore,
/// `change_get_to_post`).
pub(super) fn is_search_form(
    service: &ServiceModel,
    operation: &OperationModel,
    head: &RequestHead<'_>,
) -> bool {
    service.id == "cloudsearchdomain" && operation.name == "Search" && head.method == http::Method::POST
}

fn has_s3control_host(head: &RequestHead<'_>) -> bool {
    let host = head.headers.get(http::header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    host.split('.').any(|label| matches!(label, "s3-control" | "s3-control-fips"))
}

/// Some operations of s3control have no account header (CreateBucket). Without it the request may as well mean an object of a
/// bucket named `v20180820`, so it is refused.
fn refuse_control_without_account(control: &ServiceModel, head: &RequestHead<'_>) -> Result<(), Refusal> {
    let claimed = control.operations.iter().find(|operation| {
        let members = operation.input_shape.map_or(&[][..], |input| control.structure_members(input));
        let account =
            members.iter().any(|member| member.is_required && wire_name(member) == "x-amz-account-id");
        !account
            && operation.http_method == head.method.as_str()
            && match_path_template(&operation.path_template, head.path, |_, _| {}).is_some()
    });
    match claimed {
        Some(operation) => Err(unknown_operation(format!(
            "the request may mean s3control:{} or an object of the bucket v20180820",
            operation.name
        ))),
        None => Ok(()),
    }
}

/// Returns the number of literal segments when the path fits the template, and passes each label to `label`.
fn match_path_template<'t, 'p>(
    template: &'t str,
    path: &'p str,
    mut label: impl FnMut(&'t str, &'p str),
) -> Option<usize> {
    let mut template = template.strip_prefix('/').unwrap_or(template);
    let mut rest = path.strip_prefix('/').unwrap_or(path);
    let mut literals = 0;
    loop {
        let (segment, tail) =
            template.split_once('/').map_or((template, None), |(one, tail)| (one, Some(tail)));
        if segment.is_empty() && tail.is_none() {
            // A trailing slash of the template, or the template `/`.
            return rest.is_empty().then_some(literals);
        }
        if let Some(name) = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix("+}")) {
            let tail = tail.unwrap_or_default().trim_end_matches('/');
            if tail.contains('{') {
                return None;
            }
            let value = if tail.is_empty() { rest } else { rest.strip_suffix(tail)?.strip_suffix('/')? };
            if value.is_empty() {
                return None;
            }
            label(name, value);
            return Some(literals + if tail.is_empty() { 0 } else { tail.split('/').count() });
        }
        let (value, after) = rest.split_once('/').map_or((rest, None), |(value, after)| (value, Some(after)));
        match segment.split_once('{') {
            None if segment == value => literals += 1,
            None => return None,
            Some((before, inner)) => {
                let (name, suffix) = inner.split_once('}')?;
                let value = value.strip_prefix(before)?.strip_suffix(suffix)?;
                if value.is_empty() || suffix.contains('{') {
                    return None;
                }
                label(name, value);
            }
        }
        match (after, tail) {
            (Some(after), Some(tail)) => (rest, template) = (after, tail),
            // AWS treats a path with one slash at its end as the same resource.
            (None | Some(""), None) | (None, Some("")) => return Some(literals),
            _ => return None,
        }
    }
}

fn has_query_literal(query: &[(String, String)], literal: &(String, Option<String>)) -> bool {
    let wanted = literal.1.as_deref().unwrap_or("");
    query.iter().any(|(key, value)| *key == literal.0 && value == wanted)
}

/// Returns true if the operation has every query key of the request. Keys that begin with `x-` are free: S3 ignores them and
/// writes them to its access logs (S3 User Guide, "Amazon S3 server access log format").
fn fits_s3_request(
    scope: &RequestScope<'_>,
    service: &ServiceModel,
    operation: &OperationModel,
    query: &[(String, String)],
) -> bool {
    let fits_scope = match operation.name.as_str() {
        "WriteGetObjectResponse" => scope.service == "s3-object-lambda",
        "ListDirectoryBuckets" => scope.service == "s3express",
        "ListBuckets" => scope.service != "s3express",
        // Older names of operations that now end in `Configuration`: same request, same IAM action.
        "GetBucketLifecycle" | "PutBucketLifecycle" | "GetBucketNotification" | "PutBucketNotification" => {
            false
        }
        _ => true,
    };
    let members = operation.input_shape.map_or(&[][..], |input| service.structure_members(input));
    fits_scope
        && query.iter().all(|(key, _)| {
            starts_with_ignore_case(key, "x-")
                || operation.query_literals.iter().any(|(literal, _)| literal == key)
                || members
                    .iter()
                    .any(|member| member.location == MemberLocation::Query && wire_name(member) == key)
        })
}

/// Returns true if a text begins with an ASCII prefix, whatever its case.
pub(super) fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Counts the required query and header members: all, and those that the request lacks.
fn count_required_members(
    service: &ServiceModel,
    operation: &OperationModel,
    head: &RequestHead<'_>,
    query: &[(String, String)],
) -> (usize, usize) {
    let members = operation.input_shape.map_or(&[][..], |input| service.structure_members(input));
    let mut required = 0;
    let mut missing = 0;
    for member in members.iter().filter(|member| member.is_required) {
        let wire = wire_name(member);
        let present = match member.location {
            MemberLocation::Query => query.iter().any(|(key, _)| key == wire),
            // Presigned requests may carry `x-amz-` headers as query keys.
            MemberLocation::Header => {
                head.headers.contains_key(wire) || query.iter().any(|(key, _)| key.eq_ignore_ascii_case(wire))
            }
            _ => continue,
        };
        required += 1;
        missing += usize::from(!present);
    }
    (required, missing)
}

/// The decoded labels by member name. Only S3 keys may hold dot segments and double slashes: a service behind a path normaliser
/// would read another path.
fn decode_labels(
    service: &ServiceModel,
    operation: &OperationModel,
    labels: &[(&str, &str)],
) -> Result<Vec<(String, String)>, Refusal> {
    let members = operation.input_shape.map_or(&[][..], |input| service.structure_members(input));
    let mut out = Vec::with_capacity(labels.len());
    for (label, raw) in labels {
        let member = members
            .iter()
            .find(|member| member.location == MemberLocation::Uri && wire_name(member) == *label)
            .map_or(*label, |member| &member.name);
        let value = match (service.id.as_str(), member) {
            ("s3", "Bucket") => parse_bucket_label(raw)?,
            ("s3", _) => {
                if raw.contains('+') {
                    // S3 has been seen to read it as a space and as a plus.
                    return Err(malformed_request("the object key holds a bare `+`; send %2B or %20"));
                }
                decode_escapes(raw, PlusSign::Literal).map(Cow::into_owned)?
            }
            _ => {
                let greedy = operation.path_template.contains(&format!("{{{label}+}}"));
                decode_plain_label(raw, greedy)?
            }
        };
        out.push((member.to_owned(), value));
    }
    Ok(out)
}

/// A bucket name, never percent-encoded, or the ARN that the listener derived from the host of an access point.
fn parse_bucket_label(raw: &str) -> Result<String, Refusal> {
    if raw.starts_with("arn:") {
        let arn = decode_escapes(raw, PlusSign::Literal)?;
        if !is_access_point_arn(&arn) {
            return Err(malformed_request(format!(
                "`{}` is not the ARN of an access point",
                quote_for_message(&arn)
            )));
        }
        return Ok(arn.into_owned());
    }
    if !is_bucket_name(raw) {
        return Err(malformed_request(format!("`{}` is not the name of a bucket", quote_for_message(raw))));
    }
    Ok(raw.to_owned())
}

/// The label of a service other than S3. An encoded slash is allowed only in an ARN, which services take as one label.
fn decode_plain_label(raw: &str, greedy: bool) -> Result<String, Refusal> {
    let value = decode_escapes(raw, PlusSign::Literal).map(Cow::into_owned)?;
    let slashes_decoded = value.matches('/').count() > raw.matches('/').count();
    // Some path normalisers take a backslash for a slash (WHATWG URL Standard, "path state").
    let has_dot_segment = value.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."));
    let has_empty_segment = value.contains("//") && !value.starts_with("arn:");
    if has_dot_segment
        || has_empty_segment
        || (slashes_decoded && !greedy && !value.starts_with("arn:"))
        || value.contains('\0')
    {
        return Err(malformed_request(
            "the path holds a dot segment, an empty segment or an encoded slash that could name another resource",
        ));
    }
    Ok(value)
}
