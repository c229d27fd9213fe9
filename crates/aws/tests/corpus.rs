//! Every operation of 13 services as botocore serialises it: recognised as itself with the parameters it was given, or
//! refused; never read as another. The corpus is made by `tests/corpus/generate.py`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_aws::decode::{Head, Scope, decode, recognise};
use durward_catalog::Catalog;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use std::collections::BTreeMap;

#[test]
#[ignore = "needs the corpus: .suites/bin/python tests/corpus/generate.py > .suites/corpus.jsonl"]
fn reads_every_botocore_request_as_what_it_is() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.suites/corpus.jsonl");
    let corpus = std::fs::read_to_string(path).expect("the corpus was generated");
    let catalog = Catalog::embedded();
    let mut wrong = Vec::new();
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut total = 0;
    for line in corpus.lines() {
        let case: Value = serde_json::from_str(line).expect("a line is json");
        let field = |name: &str| case[name].as_str().unwrap_or_default();
        let (service, operation) = (field("service"), field("operation"));
        let mut headers = HeaderMap::new();
        for (name, value) in case["headers"].as_object().expect("headers") {
            let name = HeaderName::try_from(name.as_str()).expect("a header name");
            headers
                .append(name, HeaderValue::try_from(value.as_str().expect("text")).expect("a header value"));
        }
        let method = Method::try_from(field("method")).expect("a method");
        let body = STANDARD.decode(field("body")).expect("base64");
        let head = Head {
            method: &method,
            path: field("path"),
            query: field("query"),
            headers: &headers,
            bucket_host: None,
        };
        let scope = Scope { service: field("signing"), region: "us-east-1", account: "111122223333" };
        total += 1;
        let id = format!("{service}:{operation} full={}", case["full"]);
        let outcome = recognise(catalog, &scope, &head).and_then(|recognised| {
            let whole = recognised.needs_body().then_some(body.as_slice());
            decode(catalog, &scope, &head, &recognised, whole)
        });
        match outcome {
            Ok(decoded) => {
                let name = &decoded.operation.name;
                let twins = [
                    ("PutBucketLifecycle", "PutBucketLifecycleConfiguration"),
                    ("PutBucketNotification", "PutBucketNotificationConfiguration"),
                    ("GetBucketLifecycle", "GetBucketLifecycleConfiguration"),
                    ("GetBucketNotification", "GetBucketNotificationConfiguration"),
                ];
                let twin = twins.iter().any(|(old, new)| {
                    [*old, *new].contains(&operation) && [*old, *new].contains(&name.as_str())
                });
                if decoded.service.id != service || (name != operation && !twin) {
                    wrong.push(format!("{id} read as {}:{name}", decoded.service.id));
                } else if let Some(difference) = difference(&case["meant"], &decoded.operation.parameters, "")
                    && !twin
                {
                    wrong.push(format!("{id}: {difference}"));
                }
                if decoded.operation.demands.is_empty() {
                    wrong.push(format!("{id} demands nothing"));
                }
            }
            Err(refusal) => refused.entry(refusal.to_string()).or_default().push(id),
        }
    }
    for (why, ids) in &refused {
        println!("{} refused: {why}: {}", ids.len(), ids[..ids.len().min(4)].join(", "));
    }
    println!("{total} requests, {} refused", refused.values().map(Vec::len).sum::<usize>());
    assert!(refused.is_empty(), "requests of SDKs are refused");
    assert!(wrong.is_empty(), "{} misread:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

/// Where the parameters read differ from those meant. `{"$any": true}` is a value whose wire form is free.
fn difference(meant: &Value, read: &Value, path: &str) -> Option<String> {
    match (meant, read) {
        (Value::Object(any), _) if any.contains_key("$any") => None,
        (Value::Object(meant), Value::Object(read)) => {
            for (key, value) in meant {
                match read.get(key) {
                    Some(found) => {
                        if let Some(difference) = difference(value, found, &format!("{path}/{key}")) {
                            return Some(difference);
                        }
                    }
                    None if hollow(value) || (path.is_empty() && value.get("$any").is_some()) => {}
                    None => return Some(format!("{path}/{key} is missing")),
                }
            }
            None
        }
        (Value::Array(meant), Value::Array(read)) => {
            if meant.iter().all(hollow) && read.iter().all(hollow) {
                return None;
            }
            if meant.len() != read.len() {
                return Some(format!("{path} has {} items instead of {}", read.len(), meant.len()));
            }
            meant
                .iter()
                .zip(read)
                .enumerate()
                .find_map(|(at, (meant, read))| difference(meant, read, &format!("{path}/{at}")))
        }
        (meant, read) if meant == read || (hollow(meant) && hollow(read)) => None,
        _ => Some(format!("{path} is {read} instead of {meant}")),
    }
}

/// Nothing but empty structures and lists, which forms and XML cannot write.
fn hollow(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(hollow),
        Value::Array(items) => items.iter().all(hollow),
        _ => false,
    }
}
