//! Every operation of every service as SDKs serialise it: decoded as itself with its parameters, or refused, never decoded as
//! another. `tests/corpus/generate.py` (botocore) and `generate.mjs` (JavaScript) make the corpus.
#![expect(clippy::print_stdout, reason = "the run is for its table of results")]

#[path = "corpus/oracle.rs"]
mod oracle;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_aws::chunked::{ChunkEvent, ChunkedDecoder};
use durward_aws::decode::{DecodedRequest, RequestHead, RequestScope, decode_request, route_operation};
use durward_catalog::{Catalog, OperationModel};
use durward_core::{Refusal, Resource};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const SCOPE_ACCOUNT: &str = "111122223333";

/// Older names of S3's bucket operations: the same request, and the same action.
const RENAMED_OPERATIONS: [(&str, &str); 4] = [
    ("PutBucketLifecycle", "PutBucketLifecycleConfiguration"),
    ("PutBucketNotification", "PutBucketNotificationConfiguration"),
    ("GetBucketLifecycle", "GetBucketLifecycleConfiguration"),
    ("GetBucketNotification", "GetBucketNotificationConfiguration"),
];

/// Parameters that an SDK adds to what it was given, by service.
const SDK_ADDED_PARAMETERS: [(&str, &str); 24] = [
    ("apigateway", "accepts"),
    ("bedrock-agentcore", "contentType"),
    ("bedrock-runtime", "contentType"),
    ("ec2", "DestinationRegion"),
    ("ec2", "PresignedUrl"),
    ("glacier", "x-amz-glacier-version"),
    ("glacier", "checksum"),
    ("s3", "x-amz-checksum-crc32"),
    ("s3", "ChecksumAlgorithm"),
    ("s3", "ChecksumCRC32"),
    ("s3", "ChecksumMode"),
    ("s3", "ContentEncoding"),
    ("s3", "ContentType"),
    ("s3", "ContentLength"),
    ("s3", "EncodingType"),
    ("s3control", "x-amz-checksum-crc32"),
    // The models of these services still name SigV2, which the gateway does not accept. Its signature is in the form.
    ("sdb", "AWSAccessKeyId"),
    ("sdb", "Signature"),
    ("sdb", "SignatureMethod"),
    ("sdb", "SignatureVersion"),
    ("sdb", "Timestamp"),
    ("importexport", "AWSAccessKeyId"),
    ("importexport", "Timestamp"),
    ("importexport", "Signature"),
];

#[test]
#[ignore = "needs the corpus: cargo xtask test --only corpus"]
fn decodes_every_request_of_botocore_as_itself() {
    let tally = tally_corpus(&read_corpus("corpus.jsonl"));
    tally.print();
    assert!(tally.misread.is_empty(), "{} requests are misread", tally.misread.len());
    assert_eq!(
        tally.services.len(),
        Catalog::embedded().service_entries().len(),
        "the corpus has every service"
    );
    assert_eq!(tally.operations.len(), count_catalog_operations(), "the corpus has every operation");
    let share = |part: usize, whole: usize| part as f64 / whole as f64;
    let refused: usize = tally.refused.values().map(Vec::len).sum();
    assert!(share(tally.requests - refused, tally.requests) >= 0.995, "{refused} requests are refused");
    assert!(share(tally.refused_operations().len(), tally.operations.len()) <= 0.005);
    assert!(share(tally.with_action, tally.operations.len()) >= 0.98, "too many operations lack an action");
    assert!(
        share(tally.with_arn.len(), tally.resource_level.len()) >= 0.93,
        "too few operations have an ARN"
    );
}

#[test]
#[ignore = "needs the corpus: cargo xtask test --only corpus"]
fn decodes_every_request_of_the_javascript_sdk_as_itself() {
    let tally = tally_corpus(&read_corpus("corpus-js.jsonl"));
    tally.print();
    assert!(tally.misread.is_empty(), "{} requests are misread", tally.misread.len());
    assert!(tally.services.len() >= 40, "the sample has {} services", tally.services.len());
    let refused: usize = tally.refused.values().map(Vec::len).sum();
    assert!(refused as f64 <= 0.005 * tally.requests as f64, "{refused} requests are refused");
}

fn read_corpus(file: &str) -> String {
    let suites = std::env::var_os("DURWARD_SUITES").filter(|path| !path.is_empty());
    let suites = suites
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.suites")), PathBuf::from);
    std::fs::read_to_string(suites.join(file)).expect("the corpus was generated")
}

fn count_catalog_operations() -> usize {
    Catalog::embedded().service_entries().iter().map(|entry| entry.operation_count as usize).sum()
}

/// The results of a corpus.
#[derive(Default)]
struct CorpusTally {
    services: BTreeSet<String>,
    operations: BTreeSet<String>,
    requests: usize,
    exact: usize,
    /// Requests decoded as a look-alike operation of another service that needs the same IAM actions or more.
    ambiguous: BTreeMap<String, usize>,
    refused: BTreeMap<String, Vec<String>>,
    misread: Vec<String>,
    with_action: usize,
    /// Operations with an action that supports resource-level permissions.
    resource_level: BTreeSet<String>,
    with_arn: BTreeSet<String>,
    /// Operations that require no permission on any resource although all their actions have resource-level permissions.
    with_arns_only: BTreeSet<String>,
}

impl CorpusTally {
    fn merge(&mut self, other: Self) {
        self.services.extend(other.services);
        self.operations.extend(other.operations);
        self.requests += other.requests;
        self.exact += other.exact;
        self.misread.extend(other.misread);
        self.resource_level.extend(other.resource_level);
        self.with_arn.extend(other.with_arn);
        self.with_arns_only.extend(other.with_arns_only);
        for (which, count) in other.ambiguous {
            *self.ambiguous.entry(which).or_default() += count;
        }
        for (why, ids) in other.refused {
            self.refused.entry(why).or_default().extend(ids);
        }
    }

    fn refused_operations(&self) -> BTreeSet<&str> {
        let ids = self.refused.values().flatten();
        ids.map(|id| id.split(' ').next().unwrap_or_default()).collect()
    }

    fn print(&self) {
        let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        let refused: usize = self.refused.values().map(Vec::len).sum();
        let ambiguous: usize = self.ambiguous.values().sum();
        println!("\n| corpus | count | share |\n|---|---:|---:|");
        println!("| services | {} | |", self.services.len());
        println!("| operations | {} | |", self.operations.len());
        println!("| requests | {} | |", self.requests);
        let read = self.exact + ambiguous;
        println!("| decoded | {read} | {:.2} % |", percent(read, self.requests));
        println!(
            "| of these one of several with the same wire and action | {ambiguous} | {:.2} % |",
            percent(ambiguous, self.requests)
        );
        println!("| refused | {refused} | {:.2} % |", percent(refused, self.requests));
        println!("| misread | {} | |", self.misread.len());
        let operations = self.operations.len();
        println!(
            "| operations with IAM action | {} | {:.2} % |",
            self.with_action,
            percent(self.with_action, operations)
        );
        println!("| operations with resource-level permissions | {} | |", self.resource_level.len());
        let whole = self.resource_level.len();
        println!(
            "| of these with ARN | {} | {:.2} % |",
            self.with_arn.len(),
            percent(self.with_arn.len(), whole)
        );
        println!(
            "| of these with nothing but ARNs | {} | {:.2} % |",
            self.with_arns_only.len(),
            percent(self.with_arns_only.len(), whole)
        );
        for (why, ids) in &self.refused {
            println!("refused {}: {why}: {}", ids.len(), ids[..ids.len().min(3)].join(", "));
        }
        for (which, count) in &self.ambiguous {
            println!("ambiguous {count}: {which}");
        }
        for wrong in &self.misread {
            println!("MISREAD {wrong}");
        }
        if std::env::var_os("DURWARD_CORPUS_MISSING").is_some() {
            for id in self.resource_level.difference(&self.with_arn) {
                println!("NOARN {id}");
            }
        }
    }
}

fn tally_corpus(corpus: &str) -> CorpusTally {
    let lines: Vec<&str> = corpus.lines().collect();
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut tally = CorpusTally::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers)
            .map(|first| {
                let mine: Vec<&str> = lines.iter().skip(first).step_by(workers).copied().collect();
                scope.spawn(move || tally_lines(&mine))
            })
            .collect();
        for worker in running {
            tally.merge(worker.join().expect("a worker does not panic"));
        }
    });
    let catalog = Catalog::embedded();
    tally.with_action = tally
        .operations
        .iter()
        .filter_map(|id| id.split_once(':'))
        .filter(|(service, name)| {
            let service = catalog.service(service).expect("a service of the catalog");
            service.operation(name).is_some_and(|model| !model.required_actions.is_empty())
        })
        .count();
    tally
}

fn tally_lines(lines: &[&str]) -> CorpusTally {
    let catalog = Catalog::embedded();
    let mut tally = CorpusTally::default();
    for line in lines {
        let case: Value = serde_json::from_str(line).expect("a line is json");
        let service = case["service"].as_str().unwrap_or_default();
        let name = case["operation"].as_str().unwrap_or_default();
        let id = format!("{service}:{name}");
        tally.services.insert(service.to_owned());
        tally.operations.insert(id.clone());
        for request in case["requests"].as_array().expect("requests") {
            let modes = request["modes"].as_array().expect("modes");
            let label = format!("{id} full={} {}", case["full"], request["modes"]);
            tally.requests += modes.len();
            match decode_corpus_request(catalog, request) {
                Err(refusal) => {
                    tally.refused.entry(refusal.to_string()).or_default().extend(vec![label; modes.len()]);
                }
                Ok(decoded) => tally_request(catalog, &mut tally, &case, &label, modes.len(), &decoded),
            }
        }
    }
    tally
}

fn tally_request(
    catalog: &Catalog,
    tally: &mut CorpusTally,
    case: &Value,
    label: &str,
    modes: usize,
    decoded: &DecodedRequest,
) {
    let service = case["service"].as_str().unwrap_or_default();
    let name = case["operation"].as_str().unwrap_or_default();
    let read_as = decoded.operation.name.as_str();
    let wanted = catalog.service(service).and_then(|service| service.operation(name).cloned());
    let exact = decoded.service.id == service && read_as == name;
    let twin = RENAMED_OPERATIONS
        .iter()
        .any(|(old, new)| [*old, *new].contains(&name) && [*old, *new].contains(&read_as));
    let as_strict = wanted.as_ref().is_some_and(|wanted| {
        decoded
            .operation_model()
            .is_some_and(|found| iam_action_names(found).is_superset(&iam_action_names(wanted)))
    });
    if !exact && !(as_strict && (twin || read_as == name)) {
        tally.misread.push(format!("{label} read as {}:{read_as}", decoded.service.id));
        return;
    }
    let streamed = decoded.operation.uninspected_parts.iter().any(|part| part == "body");
    let added: Vec<&str> =
        SDK_ADDED_PARAMETERS.iter().filter(|(of, _)| *of == service).map(|(_, added)| *added).collect();
    if let Some(difference) =
        oracle::find_difference(&case["meant"], &decoded.operation.parameters, streamed, exact, &added)
        && !twin
    {
        let other = if exact { String::new() } else { format!(" (as {})", decoded.service.id) };
        tally.misread.push(format!("{label}{other}: {difference}"));
        return;
    }
    if decoded.operation.required_permissions.is_empty() {
        tally.misread.push(format!("{label} requires no permission"));
        return;
    }
    if exact {
        tally.exact += modes;
    } else {
        *tally.ambiguous.entry(format!("{service} as {}", decoded.service.id)).or_default() += modes;
    }
    if let Some(wanted) = wanted {
        count_arns(tally, &format!("{service}:{name}"), &wanted, decoded, case["full"] == true);
    }
}

/// Counts the operations with resource-level permissions whose resources are known.
fn count_arns(
    tally: &mut CorpusTally,
    id: &str,
    wanted: &OperationModel,
    decoded: &DecodedRequest,
    full: bool,
) {
    let supports: BTreeSet<&str> = wanted
        .required_actions
        .iter()
        .filter(|needed| needed.has_resource_level_permissions && needed.action != "iam:PassRole")
        .map(|needed| needed.action.as_str())
        .collect();
    if supports.is_empty() {
        return;
    }
    tally.resource_level.insert(id.to_owned());
    let mut relevant = decoded
        .operation
        .required_permissions
        .iter()
        .filter(|permission| permission.action != "iam:PassRole");
    let open: BTreeSet<String> = wanted
        .required_actions
        .iter()
        .flat_map(|needed| &needed.resources)
        .filter_map(|arn| wildcard_arn(&arn.template))
        .collect();
    let concrete = |resource: &Resource| matches!(resource, Resource::Arn(arn) if !open.contains(arn));
    if full && relevant.clone().any(|permission| concrete(&permission.resource)) {
        tally.with_arn.insert(id.to_owned());
        if relevant.all(|permission| {
            concrete(&permission.resource) || !supports.contains(permission.action.as_str())
        }) {
            tally.with_arns_only.insert(id.to_owned());
        }
    }
}

/// The ARN of a template when the request fills no placeholder; `None` for a template without any.
fn wildcard_arn(template: &str) -> Option<String> {
    let known = [("${Partition}", "aws"), ("${Region}", "us-east-1"), ("${Account}", SCOPE_ACCOUNT)];
    let known = known.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
    let mut out = String::new();
    let mut rest = known.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        out.extend([before, "*"]);
        rest = after.split_once('}')?.1;
    }
    (!out.is_empty()).then(|| out + rest)
}

fn iam_action_names(model: &OperationModel) -> BTreeSet<&str> {
    model.required_actions.iter().map(|needed| needed.action.as_str()).collect()
}

/// Decodes one request as the gateway does: without the bucket in the host and the `aws-chunked` framing.
fn decode_corpus_request(catalog: &Catalog, request: &Value) -> Result<DecodedRequest, Refusal> {
    let field = |name: &str| request[name].as_str().unwrap_or_default();
    let mut headers = HeaderMap::new();
    for (name, value) in request["headers"].as_object().expect("headers") {
        let name = HeaderName::try_from(name.as_str()).expect("a header name");
        headers.append(name, HeaderValue::try_from(value.as_str().expect("text")).expect("a header value"));
    }
    let method = Method::try_from(field("method")).expect("a method");
    let head = RequestHead {
        method: &method,
        path: field("path"),
        query: field("query"),
        headers: &headers,
        bucket_host: request["bucket"].as_str(),
    };
    let scope = RequestScope { service: field("signing"), region: "us-east-1", account: SCOPE_ACCOUNT };
    let route = route_operation(catalog, &scope, &head)?;
    let body = route.needs_body().then(|| decode_body(&headers, field("body")));
    decode_request(catalog, &scope, &head, &route, body.as_deref())
}

fn decode_body(headers: &HeaderMap, base64: &str) -> Vec<u8> {
    let body = STANDARD.decode(base64).expect("base64");
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !text("x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING-")) {
        return body;
    }
    let length = text("x-amz-decoded-content-length").and_then(|text| text.parse().ok()).expect("a length");
    let trailers = text("x-amz-trailer").into_iter().map(str::to_owned).collect();
    let pieces = ChunkedDecoder::new(length, trailers, None).push(body.into()).expect("well framed");
    let data = pieces
        .into_iter()
        .filter_map(|piece| if let ChunkEvent::Data(data) = piece { Some(data) } else { None });
    data.flatten().collect()
}
