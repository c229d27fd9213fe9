//! Requests that several operations could claim: decided as one only where that cannot be the wrong one.

use super::*;

#[test]
fn a_request_that_two_services_could_claim_is_told_by_its_parameters_or_refused() {
    // lex v1 imports what v2 lists, by the same method and path
    let import = |body: &str| {
        post_request("lex", "/imports/").with_header("content-type", "application/json").with_body(body)
    };
    let read = import(r#"{"payload":"AA==","resourceType":"BOT","mergeStrategy":"FAIL_ON_CONFLICT"}"#)
        .expect_decoded();
    assert_eq!(read.qualified_name(), "lex:StartImport");
    assert_eq!(import(r#"{"botId":"b"}"#).expect_decoded().qualified_name(), "lex:ListImports");
    // without its payload nothing is imported
    assert_eq!(import("{}").expect_decoded().qualified_name(), "lex:ListImports");
    for both in [r#"{"payload":"AA==","resourceType":"BOT","mergeStrategy":"X","botId":"b"}"#, r#"{"x":1}"#] {
        assert_eq!(import(both).expect_refused(), RefusalReason::UnknownOperation, "{both}");
    }
}

#[test]
fn services_that_share_a_wire_are_decided_as_the_one_that_needs_most() {
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
fn aws_own_host_tells_services_that_share_a_name_apart() {
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
    // a host that is none of theirs says nothing
    assert_eq!(tag("evil.example"), tag("gateway.example"));
    // and never leads to a service of another name
    let call = json_request("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t"}"#);
    assert_eq!(
        call.with_header("host", "kms.eu-west-1.amazonaws.com").expect_decoded().qualified_name(),
        "dynamodb:GetItem"
    );
}

#[test]
fn s3_control_and_objects_of_a_bucket_like_its_version_are_never_confused() {
    let control = put_request("s3", "/v20180820/bucket/example-bucket");
    assert_eq!(control.expect_refused(), RefusalReason::UnknownOperation);
    let outposts = TestRequest { service: "s3-outposts", ..control.clone() };
    assert_eq!(outposts.decode().unwrap().service.id, "s3control");
    // in a bucket of its own name, said by the host, it is an object
    assert_eq!(control.with_bucket_host("photos").expect_decoded().name, "PutObject");
    let job = get_request("s3", "/v20180820/jobs/j").with_header("x-amz-account-id", "111122223333");
    assert_eq!(job.decode().unwrap().service.id, "s3control");
}

#[test]
fn a_part_in_front_of_the_host_is_only_for_s3() {
    json_request("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t"}"#)
        .with_bucket_host("bucket")
        .expect_refused();
    get_request("lambda", "/2015-03-31/functions/f/configuration")
        .with_bucket_host("bucket")
        .expect_refused();
}

#[test]
fn a_dotted_target_goes_by_its_last_part_too() {
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
