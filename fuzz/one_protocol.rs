//! Requests of one wire protocol for the decoder. The head fits some operation, so that the fuzzer's bytes reach the readers of
//! bodies, labels, queries and headers.

use durward_aws::decode::{RequestHead, RequestScope, decode_request, route_operation};
use durward_catalog::{AwsProtocol, Catalog, OperationModel, ServiceModel};
use durward_core::{Operation, Resource};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::sync::{Arc, OnceLock};

/// The operation, and the fuzzer's labels, query, header and body.
pub type Input<'a> = (u16, u16, Vec<&'a str>, &'a str, (u8, &'a [u8]), &'a [u8]);

/// Some services of the protocol: few, so that the fuzzer returns to each. Unpacked once.
fn services(protocol: AwsProtocol) -> &'static [Arc<ServiceModel>] {
    static SERVICES: OnceLock<Vec<Arc<ServiceModel>>> = OnceLock::new();
    SERVICES.get_or_init(|| {
        const IDS: [&str; 24] = [
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
        let all = IDS.iter().filter_map(|id| Catalog::embedded().service(id));
        all.filter(|service| service.protocols.contains(&protocol)).collect()
    })
}

/// Decodes one request and checks the operation.
pub fn run(protocol: AwsProtocol, input: Input<'_>) {
    const NAMES: [&str; 8] = [
        "x-amz-copy-source",
        "x-amz-meta-a",
        "x-amz-tagging",
        "content-encoding",
        "x-amz-object-lock-mode",
        "host",
        "range",
        "x-amz-version-id",
    ];
    let (service, operation, labels, query, (header, value), body) = input;
    let services = services(protocol);
    let service = &services[usize::from(service) % services.len()];
    let operation = &service.operations[usize::from(operation) % service.operations.len()];
    let mut headers = HeaderMap::new();
    headers.insert("content-length", HeaderValue::from(body.len()));
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(HeaderName::from_static(NAMES[usize::from(header) % NAMES.len()]), value);
    }
    let prefix = service.target_prefix.as_deref().unwrap_or_default();
    let name = &operation.name;
    let mut set = |name: &'static str, value: &str| {
        headers.insert(name, HeaderValue::from_str(value).expect("names of the catalog are header values"));
    };
    let mut post = Method::POST;
    let (mut path, mut query, mut body) = ("/".to_owned(), query.to_owned(), body.to_vec());
    match protocol {
        AwsProtocol::Json10 | AwsProtocol::Json11 => {
            set("x-amz-target", &format!("{prefix}.{name}"));
            set(
                "content-type",
                if protocol == AwsProtocol::Json10 {
                    "application/x-amz-json-1.0"
                } else {
                    "application/x-amz-json-1.1"
                },
            );
            query.clear();
        }
        AwsProtocol::RpcV2Cbor => {
            set("smithy-protocol", "rpc-v2-cbor");
            set("content-type", "application/cbor");
            path = format!("/service/{prefix}/operation/{name}");
            query.clear();
        }
        AwsProtocol::Query | AwsProtocol::Ec2 => {
            set("content-type", "application/x-www-form-urlencoded");
            body = [format!("Action={name}&Version={}&", service.api_version).into_bytes(), body].concat();
            query.clear();
        }
        AwsProtocol::RestJson | AwsProtocol::RestXml => {
            set(
                "content-type",
                if protocol == AwsProtocol::RestJson { "application/json" } else { "application/xml" },
            );
            if service.id == "s3control" {
                set("x-amz-account-id", "123456789012");
            }
            post = Method::from_bytes(operation.http_method.as_bytes()).expect("a method");
            path = filled(operation, &labels);
            let literals: Vec<String> = operation
                .query_literals
                .iter()
                .map(|(key, value)| value.as_ref().map_or(key.clone(), |value| format!("{key}={value}")))
                .collect();
            query = [literals.join("&"), query]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("&");
        }
    }
    let scope = RequestScope { service: &service.signing_name, region: "us-east-1", account: "123456789012" };
    let head = RequestHead { method: &post, path: &path, query: &query, headers: &headers, bucket_host: None };
    let Ok(route) = route_operation(Catalog::embedded(), &scope, &head) else { return };
    let whole = route.needs_body().then_some(body.as_slice());
    if let Ok(decoded) = decode_request(Catalog::embedded(), &scope, &head, &route, whole) {
        check(&decoded.operation);
    }
}

/// The path of an operation with the fuzzer's text for its labels.
fn filled(operation: &OperationModel, labels: &[&str]) -> String {
    let mut labels = labels.iter().copied().chain(std::iter::repeat("label"));
    let mut out = String::new();
    let mut rest = operation.path_template.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        out.push_str(labels.next().unwrap_or("label"));
        rest = after.split_once('}').map_or("", |(_, tail)| tail);
    }
    out + rest
}

fn check(operation: &Operation) {
    assert!(!operation.required_permissions.is_empty(), "an operation without a required permission would need no policy");
    for permission in &operation.required_permissions {
        assert!(permission.action.contains(':'), "{}", permission.action);
        assert!(!matches!(&permission.resource, Resource::Arn(arn) if arn.is_empty()), "{}", permission.action);
    }
    for pointer in &operation.sensitive_pointers {
        assert!(
            operation.parameters.pointer(pointer).is_some(),
            "{pointer} points at nothing, so nothing would be masked"
        );
    }
    // The journal record and the digest are made from it.
    assert!(!operation.canonical_json().is_empty());
}
