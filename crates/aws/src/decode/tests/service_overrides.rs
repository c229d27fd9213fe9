//! The required permissions of services with an override.

use super::*;

#[test]
fn dynamodb_requires_permission_for_every_table() {
    let arn = "arn:aws:dynamodb:eu-west-1:111122223333:table";
    let call = |target, body: &str| json_request("dynamodb", target, body);
    let query = call("DynamoDB_20120810.Query", r#"{"TableName":"t","IndexName":"i"}"#).expect_decoded();
    assert_eq!(permission_texts(&query), [format!("dynamodb:Query {arn}/t/index/i")]);
    let other = "arn:aws:dynamodb:eu-west-1:999988887777:table/x";
    let batch =
        call("DynamoDB_20120810.BatchGetItem", &format!(r#"{{"RequestItems":{{"a":{{}},"{other}":{{}}}}}}"#))
            .expect_decoded();
    assert_eq!(
        permission_texts(&batch),
        [format!("dynamodb:BatchGetItem {arn}/a"), format!("dynamodb:BatchGetItem {other}")]
    );
    let transact = call(
        "DynamoDB_20120810.TransactWriteItems",
        r#"{"TransactItems":[{"Put":{"TableName":"a"}},{"Delete":{"TableName":"b"}}]}"#,
    )
    .expect_decoded();
    assert_eq!(
        permission_texts(&transact),
        [format!("dynamodb:PutItem {arn}/a"), format!("dynamodb:DeleteItem {arn}/b")]
    );
    let partiql =
        call("DynamoDB_20120810.ExecuteStatement", r#"{"Statement":"DELETE FROM \"t\" WHERE k=1"}"#)
            .expect_decoded();
    assert_eq!(permission_texts(&partiql), [format!("dynamodb:PartiQLDelete {arn}/t")]);
    for (target, body) in [
        ("DynamoDB_20120810.BatchGetItem", r#"{"RequestItems":{}}"#),
        ("DynamoDB_20120810.TransactWriteItems", r#"{"TransactItems":[{"Steal":{"TableName":"a"}}]}"#),
        ("DynamoDB_20120810.ExecuteStatement", r#"{"Statement":"SELECT * FROM a, b"}"#),
        ("DynamoDB_20120810.BatchExecuteStatement", r#"{"Statements":[{"Statement":"SELECT * FROM a"},{}]}"#),
    ] {
        call(target, body).expect_refused();
    }
}

#[test]
fn lambda_functions_are_named_in_three_ways() {
    let arn = "arn:aws:lambda:eu-west-1:111122223333:function:f";
    for (label, expected) in [
        ("f", arn.to_owned()),
        ("f%3A1", format!("{arn}:1")),
        ("111122223333%3Afunction%3Af", arn.to_owned()),
        ("999988887777%3Afunction%3Af", "arn:aws:lambda:eu-west-1:999988887777:function:f".to_owned()),
        ("arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Af%3Alive", format!("{arn}:live")),
    ] {
        let read =
            post_request("lambda", &format!("/2015-03-31/functions/{label}/invocations")).expect_decoded();
        assert_eq!(permission_texts(&read), [format!("lambda:InvokeFunction {expected}")]);
    }
    post_request("lambda", "/2015-03-31/functions/f%3A1/invocations?Qualifier=2").expect_refused();
}

#[test]
fn a_web_acl_is_named_as_its_arn_names_its_scope() {
    for (in_request, in_arn) in [("REGIONAL", "regional"), ("CLOUDFRONT", "global")] {
        let body = format!(r#"{{"Name":"REGIONAL","Scope":"{in_request}","Id":"i","LockToken":"t"}}"#);
        let read = json_request("wafv2", "AWSWAF_20190729.DeleteWebACL", &body).decode().unwrap().operation;
        let arn = format!("arn:aws:wafv2:eu-west-1:111122223333:{in_arn}/webacl/REGIONAL/i");
        assert_eq!(permission_texts(&read), [format!("wafv2:DeleteWebACL {arn}")]);
    }
}

#[test]
fn the_tagging_api_requires_permission_for_each_arn() {
    let body = r#"{"ResourceARNList":["arn:aws:s3:::b","arn:aws:sqs:r:1:q"],"TagKeys":["env"]}"#;
    let read = json_request("tagging", "ResourceGroupsTaggingAPI_20170126.UntagResources", body);
    let read = read.decode().unwrap().operation;
    for arn in ["arn:aws:s3:::b", "arn:aws:sqs:r:1:q"] {
        assert!(
            permission_texts(&read).contains(&format!("tag:UntagResources {arn}")),
            "{:?}",
            permission_texts(&read)
        );
    }
}

#[test]
fn sqs_queues_are_named_by_urls_of_their_region() {
    let call =
        |url: &str| json_request("sqs", "AmazonSQS.PurgeQueue", &json!({ "QueueUrl": url }).to_string());
    for good in
        ["https://sqs.eu-west-1.amazonaws.com/111122223333/q.fifo", "http://127.0.0.1:8610/111122223333/q"]
    {
        call(good).expect_decoded();
    }
    for bad in [
        "https://sqs.us-east-1.amazonaws.com/111122223333/q",
        "https://gw/111122223333/q/../r",
        "https://gw/1/q",
        "ftp://gw/111122223333/q",
        "https://gw@evil/111122223333/q",
        "q",
    ] {
        call(bad).expect_refused();
    }
}

#[test]
fn launching_instances_requires_the_role_and_the_tags() {
    let read = form_request(
        "ec2",
        "Action=RunInstances&Version=2016-11-15&ImageId=ami-01234567&MinCount=1&MaxCount=1\
         &IamInstanceProfile.Name=p&TagSpecification.1.Tag.1.Key=k&TagSpecification.1.ResourceType=instance",
    )
    .expect_decoded();
    let permissions = permission_texts(&read);
    for expected in [
        "ec2:RunInstances arn:aws:ec2:eu-west-1::image/ami-01234567",
        "ec2:RunInstances arn:aws:ec2:eu-west-1:111122223333:instance/*",
        "iam:PassRole *",
    ] {
        assert!(permissions.iter().any(|permission| permission == expected), "{expected}: {permissions:?}");
    }
    assert!(permissions.iter().any(|permission| permission.starts_with("ec2:CreateTags")), "{permissions:?}");
}
