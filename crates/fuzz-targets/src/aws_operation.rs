//! The operation decoder: every request is one operation or a refusal.
//!
//! `decode` reads a whole request. The targets of one protocol build the head of some operation, so that the fuzzer's bytes
//! reach the readers of bodies, labels, queries and headers.

use crate::request_text::{RequestText, parse_request_text, split_target};
use durward_aws::decode::{RequestHead, RequestScope, decode_request, route_operation};
use durward_catalog::{AwsProtocol, Catalog, OperationModel, ServiceModel};
use durward_core::{Operation, Resource};
use http::{HeaderMap, HeaderValue, Method};
use std::sync::{Arc, OnceLock};

/// Few of the many services, so that the fuzzer comes back to each.
const FUZZED_SERVICES: [&str; 24] = [
    "apigateway",
    "cloudformation",
    "cloudfront",
    "cloudwatch",
    "cognito-idp",
    "docdb",
    "dynamodb",
    "ec2",
    "events",
    "glacier",
    "iam",
    "iot-data",
    "kms",
    "lambda",
    "lex-models",
    "lexv2-models",
    "rds",
    "route53",
    "s3",
    "s3control",
    "secretsmanager",
    "sns",
    "sqs",
    "ssm",
];

/// Input: `SIGNING_NAME METHOD PATH?QUERY`, headers, body.
pub(crate) fn decode_any_request(input: &[u8]) -> bool {
    let Some(request) = parse_request_text(input) else { return false };
    let mut words = request.first_line.splitn(3, ' ');
    let (Some(service), Some(method), Some(target)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return false };
    let (path, query) = split_target(target);
    decode(service, &method, path, query, &request.headers, request.body)
}

pub(crate) fn decode_ec2(input: &[u8]) -> bool {
    decode_with_protocol(AwsProtocol::Ec2, input)
}

pub(crate) fn decode_json(input: &[u8]) -> bool {
    decode_with_protocol(AwsProtocol::Json11, input)
}

pub(crate) fn decode_query(input: &[u8]) -> bool {
    decode_with_protocol(AwsProtocol::Query, input)
}

pub(crate) fn decode_rest_json(input: &[u8]) -> bool {
    decode_with_protocol(AwsProtocol::RestJson, input)
}

pub(crate) fn decode_rest_xml(input: &[u8]) -> bool {
    decode_with_protocol(AwsProtocol::RestXml, input)
}

pub(crate) fn decode_rpc_v2_cbor(input: &[u8]) -> bool {
    decode_with_protocol(AwsProtocol::RpcV2Cbor, input)
}

/// Input: `SERVICE OPERATION ?QUERY LABEL...`, headers, body. Unknown names stand for some service or operation, so that a
/// mutation of a name changes the operation and is not wasted.
fn decode_with_protocol(protocol: AwsProtocol, input: &[u8]) -> bool {
    let Some(RequestText { first_line, mut headers, body }) = parse_request_text(input) else { return false };
    let mut words = first_line.split(' ');
    let services = services_with_protocol(protocol);
    let Some(service) = find_or_some(services, words.next().unwrap_or_default(), |service| &service.id)
    else {
        return false;
    };
    let name = words.next().unwrap_or_default();
    let Some(operation) = find_or_some(&service.operations, name, |operation| &operation.name) else {
        return false;
    };
    let query = words.next().unwrap_or_default().trim_start_matches('?');
    let labels: Vec<&str> = words.collect();
    headers.insert("content-length", HeaderValue::from(body.len()));
    let request = BuiltRequest::for_operation(protocol, service, operation, &labels, query, body);
    for (name, value) in &request.headers {
        headers.insert(*name, HeaderValue::from_str(value).expect("names of the catalog are header values"));
    }
    decode(&service.signing_name, &request.method, &request.path, &request.query, &headers, &request.body)
}

fn services_with_protocol(protocol: AwsProtocol) -> &'static [Arc<ServiceModel>] {
    type Services = Vec<(AwsProtocol, Vec<Arc<ServiceModel>>)>;
    static SERVICES: OnceLock<Services> = OnceLock::new();
    let by_protocol = SERVICES.get_or_init(|| {
        let all: Vec<Arc<ServiceModel>> =
            FUZZED_SERVICES.iter().filter_map(|id| Catalog::embedded().service(id)).collect();
        [
            AwsProtocol::Ec2,
            AwsProtocol::Json11,
            AwsProtocol::Query,
            AwsProtocol::RestJson,
            AwsProtocol::RestXml,
            AwsProtocol::RpcV2Cbor,
        ]
        .map(|one| (one, all.iter().filter(|service| service.protocols.contains(&one)).cloned().collect()))
        .into()
    });
    by_protocol.iter().find(|(one, _)| *one == protocol).map_or(&[], |(_, services)| services)
}

fn find_or_some<'a, T>(items: &'a [T], name: &str, name_of: impl Fn(&T) -> &String) -> Option<&'a T> {
    let sum: usize = name.bytes().map(usize::from).sum();
    items.iter().find(|item| name_of(item) == name).or_else(|| items.get(sum % items.len().max(1)))
}

/// A request to one operation, as an SDK would send it.
struct BuiltRequest {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl BuiltRequest {
    fn for_operation(
        protocol: AwsProtocol,
        service: &ServiceModel,
        operation: &OperationModel,
        labels: &[&str],
        query: &str,
        body: &[u8],
    ) -> Self {
        let prefix = service.target_prefix.as_deref().unwrap_or_default();
        let name = &operation.name;
        let mut request = Self {
            method: Method::POST,
            path: "/".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: body.to_vec(),
        };
        let content_type = match protocol {
            AwsProtocol::Json10 => "application/x-amz-json-1.0",
            AwsProtocol::Json11 => "application/x-amz-json-1.1",
            AwsProtocol::RpcV2Cbor => "application/cbor",
            AwsProtocol::Query | AwsProtocol::Ec2 => "application/x-www-form-urlencoded",
            AwsProtocol::RestJson => "application/json",
            AwsProtocol::RestXml => "application/xml",
        };
        request.headers.push(("content-type", content_type.to_owned()));
        match protocol {
            AwsProtocol::Json10 | AwsProtocol::Json11 => {
                request.headers.push(("x-amz-target", format!("{prefix}.{name}")));
            }
            AwsProtocol::RpcV2Cbor => {
                request.headers.push(("smithy-protocol", "rpc-v2-cbor".to_owned()));
                request.path = format!("/service/{prefix}/operation/{name}");
            }
            AwsProtocol::Query | AwsProtocol::Ec2 => {
                let action = format!("Action={name}&Version={}&", service.api_version);
                request.body = [action.as_bytes(), body].concat();
            }
            AwsProtocol::RestJson | AwsProtocol::RestXml => {
                if service.id == "s3control" {
                    request.headers.push(("x-amz-account-id", "123456789012".to_owned()));
                }
                request.method = Method::from_bytes(operation.http_method.as_bytes())
                    .expect("the methods of the catalog are methods");
                request.path = fill_labels(operation, labels);
                request.query = join_query(operation, query);
            }
        }
        request
    }
}

fn join_query(operation: &OperationModel, query: &str) -> String {
    let literals = operation
        .query_literals
        .iter()
        .map(|(key, value)| value.as_ref().map_or(key.clone(), |value| format!("{key}={value}")));
    literals.chain([query.to_owned()]).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("&")
}

fn fill_labels(operation: &OperationModel, labels: &[&str]) -> String {
    let mut labels = labels.iter().copied().chain(std::iter::repeat("label"));
    let mut path = String::new();
    let mut rest = operation.path_template.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        path.push_str(before);
        path.push_str(labels.next().unwrap_or("label"));
        rest = after.split_once('}').map_or("", |(_, tail)| tail);
    }
    path + rest
}

fn decode(service: &str, method: &Method, path: &str, query: &str, headers: &HeaderMap, body: &[u8]) -> bool {
    let scope = RequestScope { service, region: "us-east-1", account: "123456789012" };
    let head = RequestHead { method, path, query, headers, bucket_host: None };
    let Ok(route) = route_operation(Catalog::embedded(), &scope, &head) else { return false };
    let whole_body = route.needs_body().then_some(body);
    let Ok(decoded) = decode_request(Catalog::embedded(), &scope, &head, &route, whole_body) else {
        return false;
    };
    assert_operation_is_decidable(&decoded.operation);
    true
}

fn assert_operation_is_decidable(operation: &Operation) {
    assert!(
        !operation.required_permissions.is_empty(),
        "no policy would be asked about an operation that requires no permission"
    );
    for permission in &operation.required_permissions {
        assert!(permission.action.contains(':'), "{}", permission.action);
        assert!(
            !matches!(&permission.resource, Resource::Arn(arn) if arn.is_empty()),
            "{}",
            permission.action
        );
    }
    for pointer in &operation.sensitive_pointers {
        assert!(
            operation.parameters.pointer(pointer).is_some(),
            "{pointer} points at nothing, so the recording would hold the value"
        );
    }
    // The journal and the digest that an approval is bound to are made of this.
    assert!(!operation.canonical_json().is_empty());
}
