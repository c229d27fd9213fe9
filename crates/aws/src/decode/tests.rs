use super::*;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_core::Resource;
use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use serde_json::json;
use std::io::Write as _;

/// A request as the tests write it.
#[derive(Clone)]
struct TestRequest {
    service: &'static str,
    method: Method,
    path: String,
    query: String,
    headers: http::HeaderMap,
    body: Vec<u8>,
    bucket_host: Option<&'static str>,
}

fn test_request(service: &'static str, method: Method, target: &str) -> TestRequest {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    TestRequest {
        service,
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers: http::HeaderMap::new(),
        body: Vec::new(),
        bucket_host: None,
    }
}

fn get_request(service: &'static str, target: &str) -> TestRequest {
    test_request(service, Method::GET, target)
}

fn put_request(service: &'static str, target: &str) -> TestRequest {
    test_request(service, Method::PUT, target)
}

fn post_request(service: &'static str, target: &str) -> TestRequest {
    test_request(service, Method::POST, target)
}

fn json_request(service: &'static str, target: &'static str, body: &str) -> TestRequest {
    let version = if matches!(service, "dynamodb" | "sqs" | "monitoring") { "0" } else { "1" };
    post_request(service, "/")
        .with_header("x-amz-target", target)
        .with_header("content-type", &format!("application/x-amz-json-1.{version}"))
        .with_body(body)
}

fn form_request(service: &'static str, body: &str) -> TestRequest {
    post_request(service, "/")
        .with_header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
        .with_body(body)
}

impl TestRequest {
    fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    fn with_body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self.headers.insert("content-length", HeaderValue::from(self.body.len()));
        self
    }

    fn with_bucket_host(mut self, bucket: &'static str) -> Self {
        self.bucket_host = Some(bucket);
        self
    }

    fn decode(&self) -> Result<DecodedRequest, Refusal> {
        let catalog = Catalog::embedded();
        let scope = RequestScope { service: self.service, region: "eu-west-1", account: "111122223333" };
        let head = RequestHead {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            bucket_host: self.bucket_host,
        };
        let route = route_operation(catalog, &scope, &head)?;
        let body = route.needs_body().then_some(self.body.as_slice());
        decode_request(catalog, &scope, &head, &route, body)
    }

    #[track_caller]
    fn expect_decoded(&self) -> Operation {
        self.decode().unwrap_or_else(|refusal| panic!("refused: {refusal}")).operation
    }

    #[track_caller]
    fn expect_refused(&self) -> RefusalReason {
        match self.decode() {
            Ok(decoded) => panic!("read as {}", decoded.operation.qualified_name()),
            Err(refusal) => {
                assert!(
                    matches!(refusal.reason, RefusalReason::Malformed | RefusalReason::UnknownOperation),
                    "{refusal:?}"
                );
                refusal.reason
            }
        }
    }
}

fn permission_texts(operation: &Operation) -> Vec<String> {
    operation
        .required_permissions
        .iter()
        .map(|permission| format!("{} {}", permission.action, permission.resource.to_text()))
        .collect()
}

#[test]
fn reads_one_request_of_each_service() {
    let cases: Vec<(TestRequest, &str, &str)> = vec![
        (
            get_request("s3", "/example-bucket/a%20b"),
            "GetObject",
            "s3:GetObject arn:aws:s3:::example-bucket/a b",
        ),
        (
            json_request("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t","Key":{}}"#),
            "GetItem",
            "dynamodb:GetItem arn:aws:dynamodb:eu-west-1:111122223333:table/t",
        ),
        (
            json_request(
                "sqs",
                "AmazonSQS.SendMessage",
                r#"{"QueueUrl":"http://gw/444455556666/q","MessageBody":"m"}"#,
            ),
            "SendMessage",
            "sqs:SendMessage arn:aws:sqs:eu-west-1:444455556666:q",
        ),
        (
            form_request(
                "sns",
                "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A1%3At&Message=a+b",
            ),
            "Publish",
            "sns:Publish arn:aws:sns:eu-west-1:1:t",
        ),
        (
            json_request("secretsmanager", "secretsmanager.GetSecretValue", r#"{"SecretId":"db"}"#),
            "GetSecretValue",
            "secretsmanager:GetSecretValue arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-??????",
        ),
        (
            json_request("ssm", "AmazonSSM.GetParameter", r#"{"Name":"/a/b:3"}"#),
            "GetParameter",
            "ssm:GetParameter arn:aws:ssm:eu-west-1:111122223333:parameter/a/b",
        ),
        (
            form_request(
                "sts",
                "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::1:role/r&RoleSessionName=s",
            ),
            "AssumeRole",
            "sts:AssumeRole arn:aws:iam::1:role/r",
        ),
        (
            form_request(
                "iam",
                "Action=CreateRole&Version=2010-05-08&RoleName=r&Path=/p/&AssumeRolePolicyDocument={}",
            ),
            "CreateRole",
            "iam:CreateRole arn:aws:iam::111122223333:role/p/r",
        ),
        (
            form_request(
                "ec2",
                "Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0",
            ),
            "TerminateInstances",
            "ec2:TerminateInstances arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0",
        ),
        (
            post_request("lambda", "/2015-03-31/functions/f/invocations?Qualifier=live").with_body("{}"),
            "Invoke",
            "lambda:InvokeFunction arn:aws:lambda:eu-west-1:111122223333:function:f:live",
        ),
        (
            json_request("kms", "TrentService.Encrypt", r#"{"KeyId":"alias/a","Plaintext":"AA=="}"#),
            "Encrypt",
            "kms:Encrypt arn:aws:kms:eu-west-1:111122223333:alias/a",
        ),
        (
            json_request("logs", "Logs_20140328.GetLogEvents", r#"{"logGroupName":"g","logStreamName":"s"}"#),
            "GetLogEvents",
            "logs:GetLogEvents arn:aws:logs:eu-west-1:111122223333:log-group:g:log-stream:s",
        ),
        (
            json_request(
                "monitoring",
                "GraniteServiceVersion20100801.DeleteAlarms",
                r#"{"AlarmNames":["a"]}"#,
            ),
            "DeleteAlarms",
            "cloudwatch:DeleteAlarms arn:aws:cloudwatch:eu-west-1:111122223333:alarm:a",
        ),
        (
            form_request("monitoring", "Action=DeleteAlarms&Version=2010-08-01&AlarmNames.member.1=a"),
            "DeleteAlarms",
            "cloudwatch:DeleteAlarms arn:aws:cloudwatch:eu-west-1:111122223333:alarm:a",
        ),
        (
            post_request("monitoring", "/service/GraniteServiceVersion20100801/operation/DeleteAlarms")
                .with_header("smithy-protocol", "rpc-v2-cbor")
                .with_header("content-type", "application/cbor")
                .with_body(b"\xa1\x6aAlarmNames\x81\x61a"),
            "DeleteAlarms",
            "cloudwatch:DeleteAlarms arn:aws:cloudwatch:eu-west-1:111122223333:alarm:a",
        ),
    ];
    for (request, name, permission) in cases {
        let read = request.expect_decoded();
        assert_eq!(read.name, name);
        assert!(
            permission_texts(&read).contains(&permission.to_owned()),
            "{name}: {:?}",
            permission_texts(&read)
        );
    }
}

#[test]
fn the_scope_selects_the_service() {
    let call = json_request("dynamodb", "DynamoDB_20120810.GetItem", "{}");
    for other in ["sqs", "s3", "iam", "lambda", "nosuch"] {
        TestRequest { service: other, ..call.clone() }.expect_refused();
    }
    TestRequest { service: "sts", ..form_request("iam", "Action=CreateUser&Version=2010-05-08&UserName=u") }
        .expect_refused();
    TestRequest { service: "dynamodb", ..get_request("s3", "/bucket/key") }.expect_refused();
}

#[test]
fn refuses_json_requests_that_contradict_themselves() {
    let call = || json_request("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t"}"#);
    call().with_header("x-amz-target", "DynamoDB_20120810.DeleteItem").expect_refused();
    call().with_header("smithy-protocol", "rpc-v2-cbor").expect_refused();
    TestRequest { path: "/x".into(), ..call() }.expect_refused();
    TestRequest { query: "Action=DeleteTable".into(), ..call() }.expect_refused();
    TestRequest { method: Method::GET, ..call() }.expect_refused();
    call().with_header("content-type", "text/plain").expect_refused();
    let mut typed = call();
    typed.headers.insert("content-type", HeaderValue::from_static("application/json"));
    typed.expect_refused();
    for body in [
        r#"{"TableName":"t","TableName":"u"}"#,
        r#"{"TableName":"t","tablename":"u"}"#,
        r#"{"TableName":["t"]}"#,
        r#"{"Key":{"a":{"S":"x","S":"y"}},"TableName":"t"}"#,
        "[]",
        "{",
    ] {
        call().with_body(body).expect_refused();
    }
    call().with_body(b"{\"TableName\":\"\xff\"}").expect_refused();
}

#[test]
fn refuses_forms_that_contradict_themselves() {
    for body in [
        "Action=GetUser&Action=DeleteUser&Version=2010-05-08",
        "Action=GetUser&action=DeleteUser&Version=2010-05-08",
        "Action=GetUser",
        "Action=GetUser&Version=2009-01-01",
        "Version=2010-05-08",
        "Action=GetUser&Version=2010-05-08&UserName=a&UserName=b",
        "Action=GetUser&Version=2010-05-08&UserName=a&username=b",
        "Action=GetUser&Version=2010-05-08&UserName.1=a",
        "Action=GetUser&Version=2010-05-08&UserName=%ff",
        "Action=TagUser&Version=2010-05-08&UserName=u&Tags.member.1.Key=a&Tags.1.Key=b",
        "Action=TagUser&Version=2010-05-08&UserName=u&Tags.member.01.Key=a",
    ] {
        form_request("iam", body).expect_refused();
    }
    let body = "Action=GetUser&Version=2010-05-08";
    TestRequest { query: "Action=DeleteUser".into(), ..form_request("iam", body) }.expect_refused();
    TestRequest { method: Method::GET, ..form_request("iam", body) }.expect_refused();
    TestRequest { path: "/x".into(), ..form_request("iam", body) }.expect_refused();
    post_request("iam", "/").with_header("content-type", "application/json").with_body("{}").expect_refused();
    // The model's own name, where the wire's is another, cannot stand in for it.
    form_request("ec2", "Action=TerminateInstances&Version=2016-11-15&InstanceIds.1=i-0123456789abcdef0")
        .expect_refused();
}

#[test]
fn a_presigned_query_call_is_read_from_its_query() {
    let read =
        get_request("sts", "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Signature=00&X-Amz-Date=1")
            .expect_decoded();
    assert_eq!((read.name.as_str(), &read.parameters), ("GetCallerIdentity", &json!({})));
}

#[test]
fn s3_sub_resources_select_one_operation() {
    for (request, name) in [
        (get_request("s3", "/example-bucket?acl"), "GetBucketAcl"),
        (get_request("s3", "/example-bucket/"), "ListObjects"),
        (get_request("s3", "/example-bucket?list-type=2&prefix=a%2Fb"), "ListObjectsV2"),
        (get_request("s3", "/example-bucket/k?acl&versionId=v"), "GetObjectAcl"),
        (get_request("s3", "/example-bucket/k?uploadId=u&x-id=ListParts"), "ListParts"),
        (put_request("s3", "/example-bucket/k?partNumber=1&uploadId=u"), "UploadPart"),
        (
            put_request("s3", "/example-bucket/k").with_header("x-amz-copy-source", "/src-bucket/k"),
            "CopyObject",
        ),
        (put_request("s3", "/example-bucket/k?x-amz-copy-source=src-bucket%2Fk"), "CopyObject"),
        (test_request("s3", Method::HEAD, "/example-bucket"), "HeadBucket"),
        (get_request("s3", "/"), "ListBuckets"),
        (
            get_request("s3", "/?lifecycle").with_bucket_host("example-bucket"),
            "GetBucketLifecycleConfiguration",
        ),
        (get_request("s3", "/v20180820/key"), "GetObject"),
    ] {
        assert_eq!(request.expect_decoded().name, name);
    }
    for target in [
        "/example-bucket?acl&policy",
        "/example-bucket?policy&x-id=GetObject",
        "/example-bucket/k?x-id=PutObject",
        "/example-bucket?ACL",
        "/example-bucket?acl=1",
        "/example-bucket?acl&acl",
        "/example-bucket/k?newthing",
        "/example-bucket/k?versionId=a&versionId=b",
        "/example-bucket?list-type=3",
        "/..%2Fother/k",
        "/exam%70le-bucket/k",
        "/example-bucket%2Fk",
        "/example-bucket/a+b",
        "/example-bucket/%ff",
        "/example-bucket/%2",
    ] {
        get_request("s3", target).expect_refused();
    }
    put_request("s3", "/example-bucket/k?partNumber=1").expect_refused();
    put_request("s3", "/example-bucket/k?uploadId=1").expect_refused();
    post_request("s3", "/example-bucket")
        .with_header("content-type", "multipart/form-data; boundary=b")
        .with_body("--b")
        .expect_refused();
    let copy = || put_request("s3", "/example-bucket/k").with_header("x-amz-copy-source", "src-bucket/k");
    copy().with_header("x-amz-copy-source", "other/k").expect_refused();
    TestRequest { query: "x-amz-copy-source=other/k".into(), ..copy() }.expect_refused();
}

#[test]
fn s3_keys_are_kept_byte_for_byte() {
    for (path, key) in [
        ("/example-bucket//a", "/a"),
        ("/example-bucket/a/../b", "a/../b"),
        ("/example-bucket/a%2Fb", "a/b"),
        ("/example-bucket/a//b/", "a//b/"),
        ("/example-bucket/%C3%BC%2B", "ü+"),
    ] {
        assert_eq!(get_request("s3", path).expect_decoded().parameters["Key"], key);
    }
    let read = get_request("s3", "/../b").with_bucket_host("example-bucket").expect_decoded();
    assert_eq!(
        read.required_permissions[0].resource,
        Resource::Arn("arn:aws:s3:::example-bucket/../b".into())
    );
}

#[test]
fn s3_headers_and_versions_change_the_required_permissions() {
    let arn = "arn:aws:s3:::example-bucket/k";
    let read = put_request("s3", "/example-bucket/k")
        .with_header("x-amz-acl", "public-read")
        .with_header("x-amz-tagging", "a=b")
        .with_header("content-type", "text/plain")
        .with_body("hello")
        .expect_decoded();
    assert_eq!(
        permission_texts(&read),
        [
            format!("s3:PutObject {arn}"),
            format!("s3:PutObjectAcl {arn}"),
            format!("s3:PutObjectTagging {arn}")
        ]
    );
    assert_eq!(read.uninspected_parts, ["body"]);
    let hoisted = put_request("s3", "/example-bucket/k?x-amz-acl=public-read").expect_decoded();
    assert!(permission_texts(&hoisted).contains(&format!("s3:PutObjectAcl {arn}")));
    let version = test_request("s3", Method::DELETE, "/example-bucket/k?versionId=v").expect_decoded();
    assert_eq!(permission_texts(&version), [format!("s3:DeleteObjectVersion {arn}")]);
    let copy = put_request("s3", "/example-bucket/k")
        .with_header("x-amz-copy-source", "src-bucket/a%20b?versionId=v")
        .expect_decoded();
    assert!(permission_texts(&copy).contains(&"s3:GetObjectVersion arn:aws:s3:::src-bucket/a b".to_owned()));
    for bad in [
        "src-bucket",
        "src-bucket/",
        "src-bucket/k?x=1",
        "src-bucket/k?versionId=a&b",
        "a+b/k",
        "arn:aws:s3:::x",
    ] {
        put_request("s3", "/example-bucket/k").with_header("x-amz-copy-source", bad).expect_refused();
    }
}

#[test]
fn delete_objects_requires_permission_for_every_key() {
    let call = |body: &str| post_request("s3", "/example-bucket?delete").with_body(body);
    let read = call(
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a&amp;b</Key></Object>\
         <Object><Key>c</Key><VersionId>v</VersionId></Object></Delete>",
    )
    .expect_decoded();
    assert_eq!(
        permission_texts(&read),
        [
            "s3:DeleteObject arn:aws:s3:::example-bucket/a&b",
            "s3:DeleteObjectVersion arn:aws:s3:::example-bucket/c"
        ]
    );
    for bad in [
        "<Delete/>",
        "<Other><Object><Key>a</Key></Object></Other>",
        "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
        "<Delete><object><Key>a</Key></object></Delete>",
        "<Delete><Object><Key>a<!-- x -->b</Key></Object></Delete>",
        "<!DOCTYPE d [<!ENTITY x 'a'>]><Delete><Object><Key>&x;</Key></Object></Delete>",
        "<Delete><Object><Key><b/></Key></Object></Delete>",
        "",
    ] {
        call(bad).expect_refused();
    }
}

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
    for (asked, scope) in [("REGIONAL", "regional"), ("CLOUDFRONT", "global")] {
        let body = format!(r#"{{"Name":"REGIONAL","Scope":"{asked}","Id":"i","LockToken":"t"}}"#);
        let read = json_request("wafv2", "AWSWAF_20190729.DeleteWebACL", &body).decode().unwrap().operation;
        let arn = format!("arn:aws:wafv2:eu-west-1:111122223333:{scope}/webacl/REGIONAL/i");
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
fn what_no_model_knows_stands_for_no_resource() {
    let tag = r#""Tags":[{"Key":"a","Value":"b"}]"#;
    let table = "arn:aws:dynamodb:eu-west-1:111122223333:table/prod";
    let (group, queue) =
        ("arn:aws:logs:eu-west-1:111122223333:log-group:prod", "arn:aws:sqs:eu-west-1:111122223333:q");
    for (service, target, parameters, decoys) in [
        (
            "dynamodb",
            "DynamoDB_20120810.TagResource",
            format!(r#"{{"ResourceArn":"{table}",{tag}"#),
            r#""TableName":"decoy""#,
        ),
        (
            "dynamodb",
            "DynamoDB_20120810.PutResourcePolicy",
            format!(r#"{{"ResourceArn":"{table}","Policy":"{{}}""#),
            r#""TableName":"decoy","TransactItems":[{"Put":{"TableName":"decoy"}}]"#,
        ),
        (
            "logs",
            "Logs_20140328.UntagResource",
            format!(r#"{{"resourceArn":"{group}","tagKeys":["env"]"#),
            r#""logGroupName":"decoy","logGroupIdentifiers":["decoy"]"#,
        ),
        (
            "kms",
            "TrentService.Decrypt",
            r#"{"CiphertextBlob":"eA==""#.to_owned(),
            r#""TargetKeyId":"decoy","AliasName":"alias/decoy""#,
        ),
        (
            "sqs",
            "AmazonSQS.StartMessageMoveTask",
            format!(r#"{{"SourceArn":"{queue}""#),
            r#""QueueUrl":"https://sqs.eu-west-1.amazonaws.com/111122223333/decoy""#,
        ),
    ] {
        let plain = json_request(service, target, &format!("{parameters}}}")).decode().unwrap().operation;
        let decoyed =
            json_request(service, target, &format!("{parameters},{decoys}}}")).decode().unwrap().operation;
        assert_eq!(permission_texts(&plain), permission_texts(&decoyed), "{target}");
        assert!(
            !decoyed.uninspected_parts.is_empty() && decoyed.parameters != plain.parameters,
            "but it is shown"
        );
    }
}

#[test]
fn rest_paths_cannot_be_read_as_other_paths() {
    for path in [
        "/2015-03-31/functions/..%2Fevent-source-mappings%2F/code",
        "/2015-03-31/functions/a%2Fb",
        "/2015-03-31/functions/%2e%2e",
        "/2015-03-31/functions/..",
        "/2015-03-31//functions/f",
        "/2015-03-31/functions/f/../g",
        "/2015-03-31/nothing",
    ] {
        get_request("lambda", path).expect_refused();
    }
    let arn = "arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Af";
    let untag =
        test_request("lambda", Method::DELETE, &format!("/2017-03-31/tags/{arn}?tagKeys=a&tagKeys=b"))
            .expect_decoded();
    assert_eq!(untag.parameters["TagKeys"], json!(["a", "b"]));
    get_request("lambda", "/2015-03-31/functions/f?Qualifier=1&Qualifier=2").expect_refused();
    get_request("lambda", "/2019-09-30/functions/f/provisioned-concurrency?List=all&Qualifier=1")
        .expect_refused();
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
fn secrets_are_pointed_at_and_unknown_parameters_kept() {
    let body = r#"{"Name":"n","SecretString":"s3cret","Novel":{"x":1}}"#;
    let read = json_request("secretsmanager", "secretsmanager.CreateSecret", body).expect_decoded();
    assert!(read.sensitive_pointers.contains(&"/SecretString".to_owned()), "{:?}", read.sensitive_pointers);
    assert_eq!(read.parameters["Novel"], json!({"x": 1}));
}

#[test]
fn gzip_bodies_are_read_and_capped() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let call = |body: Vec<u8>| {
        json_request("monitoring", "GraniteServiceVersion20100801.DeleteAlarms", "")
            .with_header("content-encoding", "gzip")
            .with_body(body)
    };
    let small = gzip(br#"{"AlarmNames":["a"]}"#);
    assert_eq!(call(small.clone()).expect_decoded().parameters, json!({"AlarmNames": ["a"]}));
    let bomb = call(gzip(&vec![b' '; limits::MAX_BODY_BYTES + 1])).decode().unwrap_err();
    assert_eq!(bomb.reason, RefusalReason::TooLarge);
    call([small.clone(), b"x".to_vec()].concat()).expect_refused();
    call(small[..small.len() - 3].to_vec()).expect_refused();
    call(b"{}".to_vec()).expect_refused();
}

#[test]
fn the_body_is_needed_only_where_it_matters() {
    let catalog = Catalog::embedded();
    let needs = |request: &TestRequest| {
        let scope = RequestScope { service: request.service, region: "eu-west-1", account: "1" };
        let head = RequestHead {
            method: &request.method,
            path: &request.path,
            query: &request.query,
            headers: &request.headers,
            bucket_host: None,
        };
        route_operation(catalog, &scope, &head).unwrap().body_use()
    };
    assert_eq!(needs(&put_request("s3", "/example-bucket/k").with_body("x")), BodyUse::Streamed);
    assert_eq!(needs(&get_request("s3", "/example-bucket/k")), BodyUse::None);
    assert_eq!(needs(&post_request("s3", "/example-bucket?delete").with_body("x")), BodyUse::Whole);
    // A body where none belongs is read, so that it can be refused.
    assert_eq!(needs(&get_request("s3", "/example-bucket/k").with_body("x")), BodyUse::Whole);
    get_request("s3", "/example-bucket/k").with_body("x").expect_refused();
}

#[test]
fn a_lambda_payload_is_kept_as_base64() {
    let read =
        post_request("lambda", "/2015-03-31/functions/f/invocations").with_body(b"\xff{}").expect_decoded();
    assert_eq!(read.parameters["Payload"], STANDARD.encode(b"\xff{}"));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn never_panics_on_any_head(
        service in prop::sample::select(vec!["s3", "lambda", "iam", "ec2", "monitoring", "sqs"]),
        method in prop::sample::select(vec![Method::GET, Method::PUT, Method::POST, Method::DELETE]),
        path in "/[a-z%/.{}+2F?]{0,40}",
        query in "[a-zA-Z=&%+.]{0,40}",
        body in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let request = TestRequest { query, body, ..test_request(service, method, &path.replace('?', "")) };
        let _outcome = request.decode();
        let form = TestRequest { path: "/".into(), ..request }.with_header("content-type", "application/x-www-form-urlencoded");
        let _outcome = form.decode();
    }
}

mod ambiguous_routes;
mod bad_input;
mod ec2;
mod hidden_resources;
mod unknown_operations;
