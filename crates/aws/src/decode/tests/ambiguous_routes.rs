//! Requests that fit several operations: decided as one only if that cannot be the wrong one.

use super::*;

#[test]
fn a_request_that_fits_two_services_is_resolved_by_its_parameters_or_refused() {
    // Lex v1 imports and Lex v2 lists imports by the same method and path.
    let import = |body: &str| {
        post_request("lex", "/imports/").with_header("content-type", "application/json").with_body(body)
    };
    let read = import(r#"{"payload":"AA==","resourceType":"BOT","mergeStrategy":"FAIL_ON_CONFLICT"}"#)
        .expect_decoded();
    assert_eq!(read.qualified_name(), "lex:StartImport");
    assert_eq!(import(r#"{"botId":"b"}"#).expect_decoded().qualified_name(), "lex:ListImports");
    // StartImport requires a payload.
    assert_eq!(import("{}").expect_decoded().qualified_name(), "lex:ListImports");
    for both in [r#"{"payload":"AA==","resourceType":"BOT","mergeStrategy":"X","botId":"b"}"#, r#"{"x":1}"#] {
        assert_eq!(import(both).expect_refused(), RefusalReason::UnknownOperation, "{both}");
    }
}

#[test]
fn a_request_that_fits_several_services_is_decided_as_the_strictest() {
    let call = form_request(
        "rds",
        "Action=CreateDBCluster&Version=2014-10-31&DBClusterIdentifier=c&Engine=docdb&DomainIAMRoleName=r",
    );
    let decoded = call.decode().unwrap();
    assert_eq!(decoded.service.id, "rds");
    assert!(
        permission_texts(&decoded.operation)
            .contains(&"rds:CreateDBCluster arn:aws:rds:eu-west-1:111122223333:cluster:c".to_owned())
    );
}

#[test]
fn the_aws_host_distinguishes_services_that_share_a_signing_name() {
    let tag = |host: &str| {
        post_request("chime", "/tags?operation=tag-resource")
            .with_header("host", host)
            .with_header("content-type", "application/json")
            .with_body(r#"{"ResourceARN":"arn:aws:chime:us-east-1:111122223333:vc/v","Tags":[]}"#)
            .decode()
            .unwrap()
            .service
            .id
            .clone()
    };
    assert_eq!(tag("voice-chime.eu-west-1.amazonaws.com"), "chime-sdk-voice");
    assert_eq!(tag("messaging-chime.eu-west-1.amazonaws.com"), "chime-sdk-messaging");
    // Another host decides nothing, and never leads to a service with another signing name.
    assert_eq!(tag("evil.example"), tag("gateway.example"));
    let call = json_request("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t"}"#);
    assert_eq!(
        call.with_header("host", "kms.eu-west-1.amazonaws.com").expect_decoded().qualified_name(),
        "dynamodb:GetItem"
    );
}

#[test]
fn s3control_and_objects_of_a_bucket_named_like_its_version_are_never_confused() {
    let control = put_request("s3", "/v20180820/bucket/example-bucket");
    assert_eq!(control.expect_refused(), RefusalReason::UnknownOperation);
    let outposts = TestRequest { service: "s3-outposts", ..control.clone() };
    assert_eq!(outposts.decode().unwrap().service.id, "s3control");
    // With a bucket in the host, the path is an object key.
    assert_eq!(control.with_bucket_host("photos").expect_decoded().name, "PutObject");
    let job = get_request("s3", "/v20180820/jobs/j").with_header("x-amz-account-id", "111122223333");
    assert_eq!(job.decode().unwrap().service.id, "s3control");
}

#[test]
fn only_s3_takes_a_bucket_from_the_host() {
    json_request("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t"}"#)
        .with_bucket_host("bucket")
        .expect_refused();
    get_request("lambda", "/2015-03-31/functions/f/configuration")
        .with_bucket_host("bucket")
        .expect_refused();
}

#[test]
fn a_dotted_target_prefix_may_be_cut_to_its_last_part() {
    for target in [
        "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.StopLogging",
        "CloudTrail_20131101.StopLogging",
    ] {
        assert_eq!(
            json_request("cloudtrail", target, r#"{"Name":"t"}"#).expect_decoded().qualified_name(),
            "cloudtrail:StopLogging"
        );
    }
    json_request("cloudtrail", "v20131101.CloudTrail_20131101.StopLogging", r#"{"Name":"t"}"#)
        .expect_refused();
}
