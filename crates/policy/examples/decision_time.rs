//! Measures how long a decision and a reload take, for the policies and operations of the load bench and for generated sets of up
//! to 10,000 policies. `cargo run --release -p durward-policy --example decision_time`.

use durward_catalog::Catalog;
use durward_core::{
    AccessLevel, Caller, CallerKind, FrontEndKind, Operation, OperationTraits, RequiredPermission, Resource,
};
use durward_policy::{PolicySet, PolicyStore, RequestContext};
use std::{
    error::Error, fmt::Write as _, hint::black_box, net::IpAddr, sync::atomic::AtomicBool,
    sync::atomic::Ordering, time::Instant,
};
use time::OffsetDateTime;

/// The policies of `benches/load`.
const LOAD_BENCH_POLICIES: &str = include_str!("../../../benches/load/policies.cedar");

const MEASUREMENT_ROUNDS: usize = 301;
const CALLS_PER_ROUND: usize = 100;

/// `count` policies over 200 groups, 100 buckets and a handful of actions.
fn generate_policies(count: usize) -> String {
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

fn bench_caller(groups: &[&str]) -> Caller {
    Caller {
        provider: "corp".to_owned(),
        issuer: "https://login.example.com".to_owned(),
        subject: "u4".to_owned(),
        kind: CallerKind::Workload,
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        act: Vec::new(),
    }
}

fn bench_operation(permissions: &[(&str, AccessLevel, &str)]) -> Operation {
    let first = permissions.first().map_or("", |(action, ..)| action);
    let (service, name) = first.split_once(':').unwrap_or_default();
    Operation {
        front_end: FrontEndKind::Aws,
        service: service.to_owned(),
        name: name.to_owned(),
        required_permissions: permissions
            .iter()
            .map(|(action, level, resource)| RequiredPermission {
                action: (*action).to_owned(),
                resource: Resource::Arn((*resource).to_owned()),
                access_level: *level,
            })
            .collect(),
        parameters: serde_json::json!({ "Bucket": "b3", "Key": "p3/key" }),
        sensitive_pointers: Vec::new(),
        region: Some("eu-central-1".to_owned()),
        account: Some("000000000002".to_owned()),
        traits: OperationTraits::default(),
        uninspected_parts: Vec::new(),
        body_sha256: None,
    }
}

fn bench_context() -> RequestContext<'static> {
    RequestContext {
        connection: Some("bench"),
        source_ip: IpAddr::from([10, 0, 0, 1]),
        now: OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(1_800_000_000),
        tags: None,
        risk: None,
    }
}

/// The median time of a decision, in microseconds.
fn median_decision_micros(set: &PolicySet, caller: &Caller, operation: &Operation) -> f64 {
    let mut times: Vec<f64> = (0..MEASUREMENT_ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..CALLS_PER_ROUND {
                black_box(set.decide_operation(black_box(caller), black_box(operation), bench_context()));
            }
            start.elapsed().as_secs_f64() * 1e6 / CALLS_PER_ROUND as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(MEASUREMENT_ROUNDS / 2).copied().unwrap_or_default()
}

fn report_decision_time(
    out: &mut impl std::io::Write,
    set: &PolicySet,
    caller: &Caller,
    label: &str,
    operation: &Operation,
) -> std::io::Result<()> {
    let candidates = set.explain_operation(caller, operation, bench_context()).evaluated_policies().count();
    let verdict = set.decide_operation(caller, operation, bench_context()).verdict;
    let micros = median_decision_micros(set, caller, operation);
    writeln!(
        out,
        "{:>6} policies  {label:<28} {candidates:>3} candidates  {:<6} {micros:>7.2} us",
        set.len(),
        format!("{verdict:?}")
    )
}

fn measure_load_bench_set(out: &mut impl std::io::Write) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("bench.cedar"), LOAD_BENCH_POLICIES)?;
    let set = PolicySet::load(dir.path(), Catalog::embedded())?;
    let agent = bench_caller(&["agents"]);
    let crowded: Vec<String> = (0..100).map(|number| format!("directory-group-{number}")).collect();
    let mut crowded: Vec<&str> = crowded.iter().map(String::as_str).collect();
    crowded.push("agents");
    const TABLE_ARN: &str = "arn:aws:dynamodb:us-east-1:123456789012:table/orders";
    const OBJECT_ARN: &str = "arn:aws:s3:::bench/objects/0001";
    let item = ("dynamodb:GetItem", AccessLevel::Read, TABLE_ARN);
    let object = ("s3:GetObject", AccessLevel::Read, OBJECT_ARN);
    let version = ("s3:GetObjectVersion", AccessLevel::Read, OBJECT_ARN);
    let list = ("s3:ListBucket", AccessLevel::List, "arn:aws:s3:::bench");
    let put = ("s3:PutObject", AccessLevel::Write, OBJECT_ARN);
    for (label, permissions) in [
        ("dynamodb:GetItem", vec![item]),
        ("s3:GetObject", vec![object]),
        ("four permissions", vec![object, version, list, item]),
        ("denied by default", vec![put]),
        ("denied by a forbid", vec![("s3:GetObject", AccessLevel::Read, "arn:aws:s3:::hr-payroll/2026.csv")]),
    ] {
        report_decision_time(out, &set, &agent, label, &bench_operation(&permissions))?;
    }
    report_decision_time(
        out,
        &set,
        &bench_caller(&crowded),
        "s3:GetObject, 101 groups",
        &bench_operation(&[object]),
    )?;
    Ok(())
}

fn measure_generated_set(out: &mut impl std::io::Write, count: usize) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("a.cedar"), generate_policies(count))?;
    let set = PolicySet::load(dir.path(), Catalog::embedded())?;
    let caller = bench_caller(&["g0", "g1", "g2", "g3"]);
    for (action, level, resource) in [
        ("s3:GetObject", AccessLevel::Read, "arn:aws:s3:::b0/key"),
        ("s3:PutObject", AccessLevel::Write, "arn:aws:s3:::b1/key"),
        ("s3:DeleteObject", AccessLevel::Write, "arn:aws:s3:::b3/p3/key"),
        ("dynamodb:GetItem", AccessLevel::Read, "arn:aws:dynamodb:eu-central-1:000000000002:table/T"),
        ("iam:CreateUser", AccessLevel::PermissionsManagement, "arn:aws:iam::000000000002:user/x"),
    ] {
        report_decision_time(out, &set, &caller, action, &bench_operation(&[(action, level, resource)]))?;
    }
    Ok(())
}

/// Measures a reload of `count` policies and the decisions during it: a reload must not stall traffic.
fn measure_reload(out: &mut impl std::io::Write, count: usize) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("a.cedar");
    std::fs::write(&file, generate_policies(count))?;
    let policy_store = PolicyStore::open(dir.path(), Catalog::embedded())?;
    let caller = bench_caller(&["g0", "g1", "g2", "g3"]);
    let operation = bench_operation(&[("s3:GetObject", AccessLevel::Read, "arn:aws:s3:::b0/key")]);
    std::fs::write(&file, generate_policies(count + 1))?;
    let done = AtomicBool::new(false);
    let (loaded, mut times) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                black_box(policy_store.current().decide_operation(&caller, &operation, bench_context()));
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            times
        });
        let start = Instant::now();
        let reloaded = policy_store.reload();
        let loaded = start.elapsed();
        done.store(true, Ordering::Relaxed);
        (reloaded.map(|_| loaded), traffic.join().unwrap_or_default())
    });
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    writeln!(
        out,
        "{count:>6} policies  reload {:>6} ms; decisions during it: median {:.2} us, 99.9 % {:.1} us, slowest {:.0} us",
        loaded?.as_millis(),
        at(0.5),
        at(0.999),
        times.last().copied().unwrap_or_default()
    )?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    measure_load_bench_set(&mut out)?;
    for count in [100, 1_000, 10_000] {
        measure_generated_set(&mut out, count)?;
    }
    for count in [100, 10_000] {
        measure_reload(&mut out, count)?;
    }
    Ok(())
}
