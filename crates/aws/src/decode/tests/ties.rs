//! Requests that several operations could claim: decided as one only where that cannot be the wrong one.

use super::*;

#[test]
fn a_request_that_two_services_could_claim_is_told_by_its_parameters_or_refused() {
    // lex v1 imports what v2 lists, by the same method and path
    let import = |body: &str| post("lex", "/imports/").with("content-type", "application/json").body(body);
    let read =
        import(r#"{"payload":"AA==","resourceType":"BOT","mergeStrategy":"FAIL_ON_CONFLICT"}"#).reads();
    assert_eq!(read.title(), "lex:StartImport");
    assert_eq!(import(r#"{"botId":"b"}"#).reads().title(), "lex:ListImports");
    // without its payload nothing is imported
    assert_eq!(import("{}").reads().title(), "lex:ListImports");
    for both in [r#"{"payload":"AA==","resourceType":"BOT","mergeStrategy":"X","botId":"b"}"#, r#"{"x":1}"#] {
        assert_eq!(import(both).refused(), Reason::UnknownOperation, "{both}");
    }
}

#[test]
fn services_that_share_a_wire_are_decided_as_the_one_that_needs_most() {
    let call = form(
        "rds",
        "Action=CreateDBCluster&Version=2014-10-31&DBClusterIdentifier=c&Engine=docdb&DomainIAMRoleName=r",
    );
    let decoded = call.decode().unwrap();
    assert_eq!(decoded.service.id, "rds");
    assert!(
        demands(&decoded.operation)
            .contains(&"rds:CreateDBCluster arn:aws:rds:eu-west-1:111122223333:cluster:c".to_owned())
    );
}

#[test]
fn aws_own_host_tells_services_that_share_a_name_apart() {
    let tag = |host: &str| {
        post("chime", "/tags?operation=tag-resource")
            .with("host", host)
            .with("content-type", "application/json")
            .body(r#"{"ResourceARN":"arn:aws:chime:us-east-1:111122223333:vc/v","Tags":[]}"#)
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
    let call = json_call("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t"}"#);
    assert_eq!(call.with("host", "kms.eu-west-1.amazonaws.com").reads().title(), "dynamodb:GetItem");
}

#[test]
fn s3_control_and_objects_of_a_bucket_like_its_version_are_never_confused() {
    let control = put("s3", "/v20180820/bucket/example-bucket");
    assert_eq!(control.refused(), Reason::UnknownOperation);
    let outposts = Request { service: "s3-outposts", ..control.clone() };
    assert_eq!(outposts.decode().unwrap().service.id, "s3control");
    // in a bucket of its own name, said by the host, it is an object
    assert_eq!(control.host("photos").reads().name, "PutObject");
    let job = get("s3", "/v20180820/jobs/j").with("x-amz-account-id", "111122223333");
    assert_eq!(job.decode().unwrap().service.id, "s3control");
}

#[test]
fn a_part_in_front_of_the_host_is_only_for_s3() {
    json_call("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t"}"#).host("bucket").refused();
    get("lambda", "/2015-03-31/functions/f/configuration").host("bucket").refused();
}

#[test]
fn a_dotted_target_goes_by_its_last_part_too() {
    for target in [
        "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.StopLogging",
        "CloudTrail_20131101.StopLogging",
    ] {
        assert_eq!(
            json_call("cloudtrail", target, r#"{"Name":"t"}"#).reads().title(),
            "cloudtrail:StopLogging"
        );
    }
    json_call("cloudtrail", "v20131101.CloudTrail_20131101.StopLogging", r#"{"Name":"t"}"#).refused();
}
