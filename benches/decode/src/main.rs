//! Medians of routing and decoding requests, the time to load the catalog, and its resident memory.
//!
//!     cargo run --profile dist --manifest-path benches/decode/Cargo.toml [part of a name]
//!
//! Goals (issue 3): 1 KiB in under 10 us, 1 MiB of JSON at more than 500 MB/s, start-up in under 20 ms, under 30 MiB with twenty
//! services in use. The process ends with 1 when one is missed.
#![expect(clippy::print_stdout, reason = "a command line tool for developers")]

use durward_aws::decode::{RequestHead, RequestScope, decode_request, route_operation};
use durward_catalog::Catalog;
use http::{HeaderMap, HeaderValue, Method};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 401;
/// Twenty services of all protocols that agents use, the largest among them.
const SERVICES: [&str; 20] = [
    "apigateway",
    "athena",
    "cloudformation",
    "cloudfront",
    "cloudtrail",
    "cloudwatch",
    "dynamodb",
    "ec2",
    "ecs",
    "glue",
    "iam",
    "kms",
    "lambda",
    "logs",
    "rds",
    "route53",
    "s3",
    "secretsmanager",
    "sqs",
    "ssm",
];

struct Call {
    name: &'static str,
    service: &'static str,
    method: Method,
    path: &'static str,
    query: &'static str,
    headers: HeaderMap,
    body: Vec<u8>,
}

fn call(
    name: &'static str,
    service: &'static str,
    method: Method,
    target: &'static str,
    body: Vec<u8>,
) -> Call {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    headers.insert("content-length", HeaderValue::from(body.len()));
    headers.insert("host", HeaderValue::from_static("aws.gw.example"));
    Call { name, service, method, path, query, headers, body }
}

impl Call {
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    fn read(&self, catalog: &Catalog) {
        let scope = RequestScope { service: self.service, region: "eu-west-1", account: "111122223333" };
        let head = RequestHead {
            method: &self.method,
            path: self.path,
            query: self.query,
            headers: &self.headers,
            bucket_host: None,
        };
        let route = route_operation(catalog, &scope, &head).expect("the requests are of known operations");
        let body = route.needs_body().then_some(self.body.as_slice());
        black_box(decode_request(catalog, &scope, &head, &route, body).expect("the requests are well-formed"));
    }

    fn median(&self, catalog: &Catalog, calls: u32) -> Duration {
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let began = Instant::now();
                for _ in 0..calls {
                    self.read(catalog);
                }
                began.elapsed() / calls
            })
            .collect();
        times.sort_unstable();
        times.get(ROUNDS / 2).copied().unwrap_or_default()
    }
}

const JSON: &str = "application/x-amz-json-1.0";
const FORM: &str = "application/x-www-form-urlencoded";

/// An item of `fields` attributes as DynamoDB takes them.
fn put_item(fields: usize, text: usize) -> Vec<u8> {
    let item: Vec<String> =
        (0..fields).map(|at| format!(r#""attribute-{at}":{{"S":"{}"}}"#, "x".repeat(text))).collect();
    format!(r#"{{"TableName":"orders","Item":{{{}}}}}"#, item.join(",")).into_bytes()
}

fn small() -> Vec<Call> {
    let tags: Vec<String> = (1..=12)
        .map(|at| format!("TagSpecification.1.Tag.{at}.Key=key-{at}&TagSpecification.1.Tag.{at}.Value=v"))
        .collect();
    let run = format!(
        "Action=RunInstances&Version=2016-11-15&ImageId=ami-0123456789abcdef0&MinCount=1&MaxCount=1&SubnetId=subnet-0123456789abcdef0\
         &TagSpecification.1.ResourceType=instance&{}",
        tags.join("&")
    );
    let function = format!(r#"{{"Timeout":3,"Environment":{{"Variables":{{"A":"{}"}}}}}}"#, "x".repeat(900));
    let tagging: String = (0..10)
        .map(|at| format!("<Tag><Key>key-{at}</Key><Value>{}</Value></Tag>", "v".repeat(40)))
        .collect();
    let mut metrics = b"\xa1\x69Namespace\x79\x03\xe8".to_vec();
    metrics.extend([b'n'; 1000]);
    vec![
        call("json 1.0  dynamodb PutItem", "dynamodb", Method::POST, "/", put_item(18, 20))
            .with("x-amz-target", "DynamoDB_20120810.PutItem")
            .with("content-type", JSON),
        call(
            "query     iam CreateUser",
            "iam",
            Method::POST,
            "/",
            b"Action=CreateUser&Version=2010-05-08&UserName=u".to_vec(),
        )
        .with("content-type", FORM),
        call("ec2       ec2 RunInstances", "ec2", Method::POST, "/", run.into_bytes())
            .with("content-type", FORM),
        call(
            "rest-json lambda UpdateFunctionConfiguration",
            "lambda",
            Method::PUT,
            "/2015-03-31/functions/f/configuration",
            function.into_bytes(),
        )
        .with("content-type", "application/json"),
        call(
            "rest-xml  s3 PutBucketTagging",
            "s3",
            Method::PUT,
            "/bucket?tagging",
            format!("<Tagging><TagSet>{tagging}</TagSet></Tagging>").into_bytes(),
        )
        .with("content-type", "application/xml"),
        call("rest-xml  s3 GetObject", "s3", Method::GET, "/bucket/dir/key.txt?versionId=v1", Vec::new()),
        call(
            "cbor      cloudwatch ListMetrics",
            "monitoring",
            Method::POST,
            "/service/GraniteServiceVersion20100801/operation/ListMetrics",
            metrics,
        )
        .with("smithy-protocol", "rpc-v2-cbor")
        .with("content-type", "application/cbor"),
    ]
}

fn large() -> Vec<Call> {
    let put = |name, body| {
        call(name, "dynamodb", Method::POST, "/", body)
            .with("x-amz-target", "DynamoDB_20120810.PutItem")
            .with("content-type", JSON)
    };
    let records = format!(r#"{{"SecretId":"s","SecretString":"{}"}}"#, "x".repeat(1 << 20));
    vec![
        call("1 MiB json, one text", "secretsmanager", Method::POST, "/", records.into_bytes())
            .with("x-amz-target", "secretsmanager.PutSecretValue")
            .with("content-type", "application/x-amz-json-1.1"),
        put("1 MiB json, texts of 4 KiB", put_item(256, 4096)),
        put("1 MiB json, texts of 256 bytes", put_item(3700, 256)),
    ]
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}

fn main() -> ExitCode {
    let mut missed = 0;
    let mut report = |name: &str, value: String, goal: &str, met: bool| {
        println!("{name:<46} {value:>14}   {goal}{}", if met { "" } else { "   MISSED" });
        missed += u8::from(!met);
    };
    let before = resident();
    let began = Instant::now();
    let catalog = Catalog::embedded();
    black_box(catalog.service_entries().len());
    let start = began.elapsed();
    report(
        "start-up",
        format!("{:.2} ms", start.as_secs_f64() * 1e3),
        "< 20 ms",
        start < Duration::from_millis(20),
    );
    let began = Instant::now();
    let loaded: usize =
        SERVICES.iter().filter_map(|id| catalog.service(id)).map(|service| service.operations.len()).sum();
    let held = resident().saturating_sub(before);
    println!(
        "{:<46} {:>11.2} ms",
        format!("twenty services unpacked ({loaded} operations)"),
        began.elapsed().as_secs_f64() * 1e3
    );
    report(
        "resident with twenty services",
        format!("{:.1} MiB", held as f64 / 1_048_576.0),
        "< 30 MiB",
        held < 30 << 20,
    );
    let only = std::env::args().nth(1).unwrap_or_default();
    for call in small().into_iter().filter(|call| call.name.contains(&only)) {
        let median = call.median(catalog, 50);
        let name = format!("{} ({} bytes)", call.name, call.body.len());
        report(
            &name,
            format!("{:.2} us", median.as_secs_f64() * 1e6),
            "< 10 us",
            median < Duration::from_micros(10),
        );
    }
    for call in large().into_iter().filter(|call| call.name.contains(&only)) {
        let median = call.median(catalog, 1);
        let rate = call.body.len() as f64 / median.as_secs_f64() / 1e6;
        report(call.name, format!("{rate:.0} MB/s"), "> 500 MB/s", rate > 500.0);
    }
    ExitCode::from(u8::from(missed > 0))
}
