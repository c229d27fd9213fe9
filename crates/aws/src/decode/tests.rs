use super::*;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use durward_core::Resource;
use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use serde_json::json;
use std::io::Write as _;

/// A request that a test builds step by step.
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
    // The name in the model does not replace the name on the wire.
    form_request("ec2", "Action=TerminateInstances&Version=2016-11-15&InstanceIds.1=i-0123456789abcdef0")
        .expect_refused();
}

#[test]
fn a_presigned_query_request_is_read_from_its_query() {
    let read =
        get_request("sts", "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Signature=00&X-Amz-Date=1")
            .expect_decoded();
    assert_eq!((read.name.as_str(), &read.parameters), ("GetCallerIdentity", &json!({})));
}

#[test]
fn unknown_parameters_name_no_resource() {
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
            "the unknown parameters are kept and marked"
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
    // A body that the operation does not have is read, so that it can be refused.
    assert_eq!(needs(&get_request("s3", "/example-bucket/k").with_body("x")), BodyUse::Whole);
    get_request("s3", "/example-bucket/k").with_body("x").expect_refused();
}

#[test]
fn a_lambda_payload_is_kept_as_base64() {
    let read =
        post_request("lambda", "/2015-03-31/functions/f/invocations").with_body(b"\xff{}").expect_decoded();
    assert_eq!(read.parameters["Payload"], STANDARD.encode(b"\xff{}"));
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
mod s3;
mod service_overrides;
mod unknown_operations;
