//! How long a decision takes, over policy sets of the shapes people write. `cargo run --release -p durward-policy --example
//! decision_time`.

use durward_catalog::Catalog;
use durward_core::{AccessLevel, Caller, CallerKind, Demand, Door, Operation, Resource, Traits};
use durward_policy::{Facts, PolicySet};
use std::{error::Error, fmt::Write as _, hint::black_box, io::Write as _, net::IpAddr, time::Instant};
use time::OffsetDateTime;

/// `count` policies over 200 groups, 100 buckets and a handful of actions.
fn policies(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let (group, bucket) = (number % 200, number % 100);
        // Writing to a String cannot fail.
        let _infallible = match number % 5 {
            0 => writeln!(
                text,
                "permit (principal in Group::\"g{group}\", action in Aws::Action::\"Read\", resource in \
                 Aws::Resource::\"arn:aws:s3:::b{bucket}\");"
            ),
            1 => writeln!(
                text,
                "permit (principal in Group::\"g{group}\", action == Aws::Action::\"s3:PutObject\", resource) \
                 when {{ resource.arn like \"arn:aws:s3:::b{bucket}/*\" }};"
            ),
            2 => writeln!(
                text,
                "forbid (principal in Group::\"g{group}\", action in Aws::Action::\"Write\", resource in \
                 Aws::Account::\"{:012}\") unless {{ context.source_ip.isInRange(ip(\"10.0.0.0/8\")) }};",
                number % 50
            ),
            3 => writeln!(
                text,
                "forbid (principal, action == Aws::Action::\"s3:DeleteObject\", resource in \
                 Aws::Resource::\"arn:aws:s3:::b{bucket}\") when {{ context.params has Key && context.params.Key like \"p{number}*\" }};"
            ),
            _ => writeln!(
                text,
                "permit (principal == Caller::\"corp/u{}\", action == Aws::Action::\"dynamodb:GetItem\", resource) \
                 when {{ principal.kind == \"workload\" }};",
                number % 1_000
            ),
        };
    }
    text
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    for count in [1, 100, 1_000, 10_000] {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("a.cedar"), policies(count))?;
        let start = Instant::now();
        let set = PolicySet::load(dir.path(), Catalog::embedded())?;
        let loaded = start.elapsed();
        let caller = Caller {
            provider: "corp".to_owned(),
            issuer: "https://login.example.com".to_owned(),
            subject: "u4".to_owned(),
            kind: CallerKind::Workload,
            groups: (0..4).map(|group| format!("g{group}")).collect(),
            act: Vec::new(),
        };
        let facts = Facts {
            connection: Some("demo"),
            source_ip: IpAddr::from([10, 0, 0, 1]),
            now: OffsetDateTime::from_unix_timestamp(1_800_000_000)?,
        };
        for (action, level, resource) in [
            ("s3:GetObject", AccessLevel::Read, "arn:aws:s3:::b0/key"),
            ("s3:PutObject", AccessLevel::Write, "arn:aws:s3:::b1/key"),
            ("s3:DeleteObject", AccessLevel::Write, "arn:aws:s3:::b3/p3/key"),
            ("dynamodb:GetItem", AccessLevel::Read, "arn:aws:dynamodb:eu-central-1:000000000002:table/T"),
        ] {
            let operation = Operation {
                door: Door::Aws,
                service: "s3".to_owned(),
                name: "GetObject".to_owned(),
                demands: vec![Demand {
                    action: action.to_owned(),
                    resource: Resource::Arn(resource.to_owned()),
                    access_level: level,
                }],
                parameters: serde_json::json!({ "Bucket": "b3", "Key": "p3/key" }),
                sensitive: Vec::new(),
                region: Some("eu-central-1".to_owned()),
                account: Some("000000000002".to_owned()),
                traits: Traits::default(),
                uninspected: Vec::new(),
                body_sha256: None,
            };
            let candidates = set.explain_operation(&caller, &operation, facts).considered().count();
            let mut best = f64::MAX;
            for _ in 0..50 {
                let start = Instant::now();
                for _ in 0..100 {
                    black_box(set.decide_operation(black_box(&caller), black_box(&operation), facts));
                }
                best = best.min(start.elapsed().as_secs_f64() * 1e6 / 100.0);
            }
            writeln!(
                out,
                "{count:>6} policies (loaded in {:>6} ms)  {action:<18} {candidates:>3} candidates  {best:>7.1} us",
                loaded.as_millis()
            )?;
        }
    }
    Ok(())
}
