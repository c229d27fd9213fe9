//! The operation decoder: any head and body is one operation or a refusal.
#![no_main]

use durward_aws::decode::{Head, Scope, decode, recognise};
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
    let scope = Scope { service: SERVICES[usize::from(service) % SERVICES.len()], region: "us-east-1", account: "123456789012" };
    let head = Head { method: &method, path, query, headers: &headers, bucket_host: None };
    if let Ok(recognised) = recognise(Catalog::embedded(), &scope, &head)
        && let Ok(decoded) = decode(Catalog::embedded(), &scope, &head, &recognised, Some(body))
    {
        assert!(!decoded.operation.demands.is_empty(), "an operation without a demand would be allowed by no policy");
    }
});
