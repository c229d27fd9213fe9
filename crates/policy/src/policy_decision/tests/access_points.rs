//! Forbids on buckets, and requests that reach a bucket through an access point or an alias (docs/adr/0020).

use super::*;

const ACCESS_POINT: &str = "arn:aws:s3:eu-central-1:123456789012:accesspoint/reports";

/// Every form of a name behind which the bucket `prod` may be.
const OTHER_NAMES_OF_PROD: [&str; 7] = [
    "arn:aws:s3:eu-central-1:123456789012:accesspoint/reports/object/customers.csv",
    "arn:aws:s3:eu-central-1:999999999999:accesspoint/reports/object/customers.csv",
    "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap/object/customers.csv",
    "arn:aws:s3-object-lambda:eu-central-1:123456789012:accesspoint/o/object/customers.csv",
    "arn:aws:s3:::reports-abcdefgh-s3alias/customers.csv",
    "arn:aws:s3:::o-abcdefgh--ol-s3/customers.csv",
    "arn:aws:s3:::reports-abcdefgh-S3Alias/customers.csv",
];

fn decide_read(policies: &str, resource: &str) -> Decision {
    let copies = [("s3:PutObject", "arn:aws:s3:::results/copy.csv"), ("s3:GetObject", resource)];
    decide_for_groups(&compile_test_set(policies), &["agents"], &test_operation(&copies, json!({})))
}

#[test]
fn no_forbid_on_a_bucket_is_evaded_through_an_access_point_or_alias() {
    for forbid in [
        "forbid (principal, action, resource in Aws::Resource::\"arn:aws:s3:::prod\");",
        "forbid (principal, action, resource == Aws::Resource::\"arn:aws:s3:::prod/customers.csv\");",
        "forbid (principal, action, resource is Aws::Resource) when { resource.arn like \"arn:aws:s3:::prod/*\" };",
        "forbid (principal, action, resource is Aws::Resource) when { resource has bucket && resource.bucket == \"prod\" };",
    ] {
        for permit in [
            "permit (principal, action, resource);",
            "permit (principal, action, resource in Aws::Account::\"123456789012\");",
            "permit (principal, action, resource) when { resource in Connection::\"demo\" };",
            "permit (principal, action in [Aws::Action::\"s3:*\"], resource is Aws::Resource)
                 when { resource.arn like \"arn:aws:s3:*\" };",
        ] {
            let policies = format!("{permit}\n{forbid}");
            assert_eq!(
                decide_read(&policies, "arn:aws:s3:::prod/customers.csv").verdict,
                Verdict::Deny,
                "{policies}"
            );
            for name in OTHER_NAMES_OF_PROD {
                let decision = decide_read(&policies, name);
                assert_eq!(decision.verdict, Verdict::Deny, "{name} under {policies}");
            }
            assert_eq!(
                decide_read(&policies, "arn:aws:s3:::data/customers.csv").verdict,
                Verdict::Allow,
                "{policies}"
            );
        }
    }
}

#[test]
fn the_refusal_names_the_access_point_and_what_is_missing() {
    let policies = "permit (principal, action, resource);";
    let reason = decide_read(policies, &format!("{ACCESS_POINT}/object/k")).reason;
    assert!(reason.contains(&format!("it goes through {ACCESS_POINT}, and")), "{reason}");
    assert!(reason.contains("a permit must name it"), "{reason}");
    // A caller that no policy permits anything learns nothing about access points.
    let reason = decide_read("permit (principal in Group::\"x\", action, resource);", ACCESS_POINT).reason;
    assert!(!reason.contains("goes through"), "{reason}");
}

#[test]
fn a_permit_that_names_an_access_point_covers_what_is_in_it() {
    let object = format!("{ACCESS_POINT}/object/2026/q3.csv");
    let results = "permit (principal, action == Aws::Action::\"s3:PutObject\", resource);";
    let named = |scope: &str| format!("{results} permit (principal, action, {scope});");
    let access_point = format!("Aws::Resource::\"{ACCESS_POINT}\"");
    let verdict = |policies: &str, resource: &str| decide_read(policies, resource).verdict;
    let in_access_point = named(&format!("resource in {access_point}"));
    assert_eq!(verdict(&in_access_point, &object), Verdict::Allow);
    assert_eq!(verdict(&in_access_point, ACCESS_POINT), Verdict::Allow);
    assert_eq!(verdict(&in_access_point, &object.replace("reports", "reports2")), Verdict::Deny);
    let one_object = named(&format!("resource == Aws::Resource::\"{object}\""));
    assert_eq!(verdict(&one_object, &object), Verdict::Allow);
    assert_eq!(verdict(&one_object, &format!("{ACCESS_POINT}/object/other")), Verdict::Deny);
    let alias = named("resource in Aws::Resource::\"arn:aws:s3:::reports-abcdefgh-s3alias\"");
    assert_eq!(verdict(&alias, "arn:aws:s3:::reports-abcdefgh-s3alias/k"), Verdict::Allow);
    // A forbid on the access point covers its objects, too.
    let forbidden = format!("{in_access_point} forbid (principal, action, resource in {access_point});");
    assert_eq!(verdict(&forbidden, &object), Verdict::Deny);
}

#[test]
fn an_access_point_is_managed_like_any_resource() {
    let set = compile_test_set("permit (principal, action, resource in Aws::Account::\"123456789012\");");
    let verdict = |action: &str| {
        decide_for_groups(&set, &[], &test_operation(&[(action, ACCESS_POINT)], json!({}))).verdict
    };
    assert_eq!(verdict("s3:GetAccessPointPolicy"), Verdict::Allow);
    assert_eq!(verdict("s3:ListBucket"), Verdict::Deny);
}
