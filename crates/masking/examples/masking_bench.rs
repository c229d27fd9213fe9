//! Prints how fast responses without secrets are masked, against parsing and writing them with serde_json.
//! Run with `cargo run --release -p durward-masking --example masking_bench`.
#![expect(clippy::print_stdout, reason = "an example that reports")]

use std::time::{Duration, Instant};

use durward_masking::{BodyFormat, MaskedBody, Masker};

fn main() {
    let masker = Masker::default();
    for (name, body) in [
        ("instances", sample_instances(64)),
        ("instances, 1 KiB", sample_instances(2)),
        ("policies", sample_policies(300)),
    ] {
        let masked = gigabytes_per_second(body.len(), || {
            let masked = masker.mask_body(&body, BodyFormat::Json, None, &|_| false);
            assert_eq!(masked, Ok(MaskedBody::Unchanged));
        });
        let reparsed = gigabytes_per_second(body.len(), || {
            let value: serde_json::Value = serde_json::from_slice(&body).expect("the samples are JSON");
            assert!(!serde_json::to_vec(&value).expect("values can be written").is_empty());
        });
        println!(
            "{name}: {} bytes, masking {masked:.2} GB/s, serde_json {reparsed:.2} GB/s, {:.1} x",
            body.len(),
            masked / reparsed
        );
    }
}

/// The best of many short rounds, because the machine may be busy.
fn gigabytes_per_second(bytes: usize, mut run: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let start = Instant::now();
        for _ in 0..16 {
            run();
        }
        best = best.min(start.elapsed() / 16);
    }
    bytes as f64 / best.as_secs_f64() / 1e9
}

fn sample_instances(count: usize) -> Vec<u8> {
    let one = |n: usize| {
        format!(
            r#"{{"InstanceId":"i-0{n:016x}","ImageId":"ami-0abcdef1234567890","State":{{"Code":16,"Name":"running"}},"PrivateDnsName":"ip-10-0-{n}-17.eu-west-1.compute.internal","LaunchTime":"2026-11-21T05:12:{n:02}+00:00","Tags":[{{"Key":"Name","Value":"web server number {n}"}},{{"Key":"team","Value":"platform"}}],"SubnetId":"subnet-08{n:08x}","Monitoring":{{"State":"disabled"}},"CpuOptions":{{"CoreCount":2,"ThreadsPerCore":2}},"EbsOptimized":true}}"#
        )
    };
    let all: Vec<String> = (0..count).map(one).collect();
    format!(r#"{{"Reservations":[{{"Instances":[{}]}}]}}"#, all.join(",")).into_bytes()
}

/// Documents inside strings, all escapes: the worst case of responses without secrets.
fn sample_policies(count: usize) -> Vec<u8> {
    let one = |n: usize| {
        format!(
            r#"{{"PolicyName":"policy-{n}","Document":"{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":[\"s3:GetObject\",\"s3:ListBucket\"],\"Resource\":\"arn:aws:s3:::bucket-{n}/*\"}}]}}"}}"#
        )
    };
    let all: Vec<String> = (0..count).map(one).collect();
    format!("[{}]", all.join(",")).into_bytes()
}
