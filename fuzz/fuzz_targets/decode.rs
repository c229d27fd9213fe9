//! The operation decoder: any head and body is one operation or a refusal.
#![no_main]

use durward_aws::decode::{RequestHead, RequestScope, decode_request, route_operation};
use durward_catalog::Catalog;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

const SERVICES: [&str; 13] = [
    "s3", "dynamodb", "sqs", "sns", "secretsmanager", "ssm", "sts", "iam", "ec2", "lambda", "kms", "logs", "monitoring",
];

fuzz_target!(|input: (u8, u8, &str, &str, Vec<(u8, &[u8])>, &[u8])| {
    const NAMES: [&str; 6] =
        ["x-amz-target", "content-type", "smithy-protocol", "content-encoding", "x-amz-copy-source", "content-length"];
    let (service, method, path, query, fields, body) = input;
    let method = [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::HEAD][usize::from(method) % 5].clone();
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(HeaderName::from_static(NAMES[usize::from(name) % NAMES.len()]), value);
        }
    }
    let scope = RequestScope { service: SERVICES[usize::from(service) % SERVICES.len()], region: "us-east-1", account: "123456789012" };
    let head = RequestHead { method: &method, path, query, headers: &headers, bucket_host: None };
    if let Ok(route) = route_operation(Catalog::embedded(), &scope, &head)
        && let Ok(decoded) = decode_request(Catalog::embedded(), &scope, &head, &route, Some(body))
    {
        assert!(!decoded.operation.required_permissions.is_empty(), "an operation without a required permission would need no policy");
    }
});
