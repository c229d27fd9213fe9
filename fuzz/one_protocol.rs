//! Requests of one wire protocol for the decoder: the head is right for some operation, so that the fuzzer's bytes reach the
//! readers of bodies, labels, queries and headers.

use durward_aws::decode::{Head, Scope, decode, recognise};
use durward_catalog::{Catalog, Operation, Protocol, Service};
use durward_core::{Operation as Decided, Resource};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::sync::{Arc, OnceLock};

/// Which operation, and what the fuzzer puts into labels, query, a header and the body.
pub type Input<'a> = (u16, u16, Vec<&'a str>, &'a str, (u8, &'a [u8]), &'a [u8]);

/// The services that speak the protocol. Few of the many, so that the fuzzer comes back to each; unpacked once.
fn services(protocol: Protocol) -> &'static [Arc<Service>] {
    static SERVICES: OnceLock<Vec<Arc<Service>>> = OnceLock::new();
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

/// Decodes one request; what it must hold is asserted.
pub fn run(protocol: Protocol, input: Input<'_>) {
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
        Protocol::Json10 | Protocol::Json11 => {
            set("x-amz-target", &format!("{prefix}.{name}"));
            set(
                "content-type",
                if protocol == Protocol::Json10 {
                    "application/x-amz-json-1.0"
                } else {
                    "application/x-amz-json-1.1"
                },
            );
            query.clear();
        }
        Protocol::RpcV2Cbor => {
            set("smithy-protocol", "rpc-v2-cbor");
            set("content-type", "application/cbor");
            path = format!("/service/{prefix}/operation/{name}");
            query.clear();
        }
        Protocol::Query | Protocol::Ec2 => {
            set("content-type", "application/x-www-form-urlencoded");
            body = [format!("Action={name}&Version={}&", service.api_version).into_bytes(), body].concat();
            query.clear();
        }
        Protocol::RestJson | Protocol::RestXml => {
            set(
                "content-type",
                if protocol == Protocol::RestJson { "application/json" } else { "application/xml" },
            );
            if service.id == "s3control" {
                set("x-amz-account-id", "123456789012");
            }
            post = Method::from_bytes(operation.method.as_bytes()).expect("a method");
            path = filled(operation, &labels);
            let literals: Vec<String> = operation
                .query
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
    let scope = Scope { service: &service.signing_name, region: "us-east-1", account: "123456789012" };
    let head = Head { method: &post, path: &path, query: &query, headers: &headers, bucket_host: None };
    let Ok(recognised) = recognise(Catalog::embedded(), &scope, &head) else { return };
    let whole = recognised.needs_body().then_some(body.as_slice());
    if let Ok(decoded) = decode(Catalog::embedded(), &scope, &head, &recognised, whole) {
        check(&decoded.operation);
    }
}

/// The path of an operation with the fuzzer's text for its labels.
fn filled(operation: &Operation, labels: &[&str]) -> String {
    let mut labels = labels.iter().copied().chain(std::iter::repeat("label"));
    let mut out = String::new();
    let mut rest = operation.path.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        out.push_str(labels.next().unwrap_or("label"));
        rest = after.split_once('}').map_or("", |(_, tail)| tail);
    }
    out + rest
}

fn check(operation: &Decided) {
    assert!(!operation.demands.is_empty(), "an operation without a demand would be allowed by no policy");
    for demand in &operation.demands {
        assert!(demand.action.contains(':'), "{}", demand.action);
        assert!(!matches!(&demand.resource, Resource::Arn(arn) if arn.is_empty()), "{}", demand.action);
    }
    for pointer in &operation.sensitive {
        assert!(
            operation.parameters.pointer(pointer).is_some(),
            "{pointer} points at nothing, so nothing would be masked"
        );
    }
    // The record and the digest are made of it.
    assert!(!operation.canonical().is_empty());
}
