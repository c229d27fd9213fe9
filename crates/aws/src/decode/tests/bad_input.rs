//! Bodies that contradict their type, names that the model does not know, and input made to be ambiguous or expensive.

use super::*;

fn lambda_request(body: &str) -> TestRequest {
    put_request("lambda", "/2015-03-31/functions/f/configuration")
        .with_header("content-type", "application/json")
        .with_body(body)
}

#[test]
fn a_body_that_contradicts_its_media_type_is_refused() {
    for (media, body) in [
        ("application/json", "<a/>"),
        ("application/json", "a=b"),
        ("application/json", "\u{feff}{}"),
        ("application/xml", "{}"),
        ("application/x-www-form-urlencoded", "{}"),
        ("text/plain", "{}"),
        ("application/json; charset=utf-16", "{}"),
    ] {
        let call = put_request("lambda", "/2015-03-31/functions/f/configuration")
            .with_header("content-type", media)
            .with_body(body);
        assert_eq!(call.expect_refused(), RefusalReason::Malformed, "{media} {body}");
    }
    for (media, body) in [("application/json", "{}"), ("application/xml", "{}"), ("text/xml", "a=b")] {
        put_request("s3", "/bucket?tagging")
            .with_header("content-type", media)
            .with_body(body)
            .expect_refused();
    }
    let cbor = |media: &str, body: &'static [u8]| {
        post_request("monitoring", "/service/GraniteServiceVersion20100801/operation/ListMetrics")
            .with_header("smithy-protocol", "rpc-v2-cbor")
            .with_header("content-type", media)
            .with_body(body)
    };
    cbor("application/cbor", b"\xbf\xff").expect_decoded();
    cbor("application/cbor", b"{}").expect_refused();
    cbor("application/json", b"{}").expect_refused();
    json_request("dynamodb", "DynamoDB_20120810.GetItem", "[]").expect_refused();
    post_request("dynamodb", "/")
        .with_header("x-amz-target", "DynamoDB_20120810.GetItem")
        .with_header("content-type", "application/x-www-form-urlencoded")
        .with_body("TableName=t")
        .expect_refused();
}

#[test]
fn a_value_of_another_type_than_the_model_says_is_refused() {
    for body in [
        r#"{"TableName":"t","Limit":"500"}"#,
        r#"{"TableName":"t","Limit":true}"#,
        r#"{"TableName":"t","ConsistentRead":"true"}"#,
        r#"{"TableName":"t","ConsistentRead":1}"#,
        r#"{"TableName":7}"#,
        r#"{"TableName":["t"]}"#,
        r#"{"TableName":"t","AttributesToGet":["a",7]}"#,
        r#"{"TableName":"t","ExpressionAttributeNames":{"n":7}}"#,
        r#"{"TableName":"t","ExclusiveStartKey":{"k":{"B":7}}}"#,
    ] {
        json_request("dynamodb", "DynamoDB_20120810.Scan", body).expect_refused();
    }
    let put_metrics = |value: &str| {
        let data = format!(r#"{{"Namespace":"n","MetricData":[{{"MetricName":"m","Timestamp":{value}}}]}}"#);
        json_request("monitoring", "GraniteServiceVersion20100801.PutMetricData", &data)
    };
    for time in ["1700000000", "1700000000.5", "\"2026-11-28T00:00:00Z\"", "null"] {
        put_metrics(time).expect_decoded();
    }
    put_metrics("true").expect_refused();
}

#[test]
fn unknown_parameters_are_kept_and_marked_uninspected() {
    let operation =
        lambda_request(r#"{"Timeout":3,"Sandbox":{"a":1},"Environment":{"Variables":{"k":"v"},"Extra":1}}"#)
            .expect_decoded();
    assert_eq!(operation.parameters["Sandbox"], json!({"a": 1}));
    assert_eq!(operation.uninspected_parts, ["/Environment/Extra", "/Sandbox"]);
    let operation =
        form_request("iam", "Action=CreateUser&Version=2010-05-08&UserName=u&Wings.member.1=left")
            .expect_decoded();
    assert_eq!(operation.parameters["Wings"], json!({"member": {"1": "left"}}));
    assert_eq!(operation.uninspected_parts, ["/Wings"]);
    let operation =
        get_request("lambda", "/2015-03-31/functions/f/configuration?Wings=left").expect_decoded();
    assert_eq!(
        (&operation.parameters["Wings"], operation.uninspected_parts.as_slice()),
        (&json!("left"), &["/Wings".to_owned()][..])
    );
    let operation = get_request("s3", "/bucket/key").with_header("x-amz-wings", "left").expect_decoded();
    assert_eq!(operation.uninspected_parts, ["/x-amz-wings"]);
    // A streamed body and an unknown header are both marked.
    let operation = put_request("s3", "/bucket/key")
        .with_header("x-amz-wings", "left")
        .with_body("data")
        .expect_decoded();
    assert!(
        operation.uninspected_parts.contains(&"body".to_owned())
            && operation.uninspected_parts.contains(&"/x-amz-wings".to_owned())
    );
    // Parameters that SDKs add by themselves are not marked.
    let operation = get_request("s3", "/bucket/key?x-id=GetObject")
        .with_header("x-amz-checksum-crc32", "AAAAAA==")
        .expect_decoded();
    assert!(operation.uninspected_parts.is_empty(), "{:?}", operation.uninspected_parts);
}

#[test]
fn a_name_that_resembles_a_known_one_is_refused() {
    lambda_request(r#"{"timeout":900,"Timeout":3}"#).expect_refused();
    lambda_request(r#"{"VpcConfig":{"subnetids":[]}}"#).expect_refused();
    form_request("iam", "Action=CreateUser&Version=2010-05-08&username=u&UserName=v").expect_refused();
    get_request("lambda", "/2015-03-31/functions/f/configuration?qualifier=1&Qualifier=2").expect_refused();
}

#[test]
fn a_form_name_that_the_service_could_read_otherwise_is_refused_and_named() {
    for (name, quoted) in [
        ("User%4eame%20", "UserName?"),
        ("+UserName", "?UserName"),
        ("User%00Name", "User?Name"),
        ("UserName%0a", "UserName?"),
        ("%2555serName", "%55serName"),
        ("User%252eName", "User%2eName"),
        ("User%C5%9Aame", "User?ame"),
        ("Tags.member.1%E2%80%8B.Key", "Tags.member.1?.Key"),
        ("x;UserName", "x;UserName"),
        ("x%26UserName", "x&UserName"),
    ] {
        let body = format!("Action=DeleteUser&Version=2010-05-08&{name}=admin");
        let in_query = (!name.contains('+')).then(|| get_request("iam", &format!("/?{body}")));
        for call in in_query.into_iter().chain([form_request("iam", &body)]) {
            let refusal = call.decode().unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::Malformed, "{name}");
            assert!(refusal.message.contains(&format!("`{quoted}`")), "{name}: {}", refusal.message);
        }
        let spot = body
            .replace("Action=DeleteUser&Version=2010-05-08", "Action=TerminateInstances&Version=2016-11-15");
        assert_eq!(form_request("ec2", &spot).expect_refused(), RefusalReason::Malformed, "{name}");
    }
    // Encoding a letter once changes nothing.
    let operation =
        form_request("iam", "%41ction=DeleteUser&Version=2010-05-08&User%4eame=admin").expect_decoded();
    assert_eq!(operation.parameters["UserName"], "admin");
}

#[test]
fn duplicate_keys_are_refused_in_every_protocol() {
    lambda_request(r#"{"Timeout":3,"Timeout":900}"#).expect_refused();
    lambda_request(r#"{"Environment":{"Variables":{"a":"1","\u0061":"2"}}}"#).expect_refused();
    form_request("iam", "Action=CreateUser&Version=2010-05-08&UserName=u&UserName=v").expect_refused();
    form_request("ec2", "Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-a&InstanceId.1=i-b")
        .expect_refused();
    form_request("iam", "Action=CreateUser&Version=2010-05-08&UserName=u&Action=DeleteUser").expect_refused();
    get_request("lambda", "/2015-03-31/functions/f/configuration?Qualifier=1&Qualifier=2").expect_refused();
    put_request("s3", "/bucket?versioning")
        .with_header("content-type", "application/xml")
        .with_body("<VersioningConfiguration><Status>Enabled</Status><Status>Suspended</Status></VersioningConfiguration>")
        .expect_refused();
    put_request("s3", "/bucket/key")
        .with_header("x-amz-acl", "private")
        .with_header("x-amz-acl", "public-read")
        .with_body("x")
        .expect_refused();
    post_request("monitoring", "/service/GraniteServiceVersion20100801/operation/ListMetrics")
        .with_header("smithy-protocol", "rpc-v2-cbor")
        .with_header("content-type", "application/cbor")
        .with_body(b"\xa2\x69Namespace\x61a\x69Namespace\x61b")
        .expect_refused();
}

#[test]
fn deep_nesting_is_refused_in_every_protocol() {
    let depth = durward_core::limits::MAX_NESTING_DEPTH + 1;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(depth), close.repeat(depth));
    lambda_request(&format!(r#"{{"Sandbox":{}}}"#, deep("[", "]"))).expect_refused();
    put_request("s3", "/bucket?tagging")
        .with_header("content-type", "application/xml")
        .with_body(deep("<a>", "</a>"))
        .expect_refused();
    form_request("iam", &format!("Action=CreateUser&Version=2010-05-08&{}=1", vec!["a"; depth].join(".")))
        .expect_refused();
    let mut cbor = b"\xa1\x69Namespace".to_vec();
    cbor.extend(vec![0x81; depth]);
    cbor.push(1);
    post_request("monitoring", "/service/GraniteServiceVersion20100801/operation/ListMetrics")
        .with_header("smithy-protocol", "rpc-v2-cbor")
        .with_header("content-type", "application/cbor")
        .with_body(cbor)
        .expect_refused();
}

#[test]
fn too_many_values_are_too_large_in_every_protocol() {
    use durward_core::limits::{MAX_BODY_VALUES, MAX_FORM_NAME_PARTS, MAX_XML_ATTRIBUTES};
    let too_large =
        |call: TestRequest| assert_eq!(call.decode().unwrap_err().reason, RefusalReason::TooLarge);
    too_large(lambda_request(&format!(r#"{{"Layers":[{}0]}}"#, "0,".repeat(MAX_BODY_VALUES))));
    let tagging = |body: String| {
        put_request("s3", "/bucket?tagging").with_header("content-type", "application/xml").with_body(body)
    };
    too_large(tagging(format!("<Tagging>{}</Tagging>", "<a/>".repeat(MAX_BODY_VALUES))));
    let attributes: Vec<String> = (0..=MAX_XML_ATTRIBUTES).map(|at| format!(" a{at}=\"\"")).collect();
    tagging(format!("<Tagging{}/>", attributes.concat())).expect_refused();
    let create = |rest: &str| form_request("iam", &format!("Action=CreateUser&Version=2010-05-08{rest}"));
    too_large(create(&"&a".repeat(MAX_FORM_NAME_PARTS)));
    // A name of many parts counts as many.
    let name = vec!["a"; 60].join(".");
    let long: Vec<String> = (0..MAX_FORM_NAME_PARTS / 50).map(|at| format!("&{at}.{name}=")).collect();
    too_large(create(&long.concat()));
    let mut cbor = b"\xa1\x69Namespace\x9f".to_vec();
    cbor.extend(vec![0; MAX_BODY_VALUES]);
    cbor.push(0xff);
    too_large(
        post_request("monitoring", "/service/GraniteServiceVersion20100801/operation/ListMetrics")
            .with_header("smithy-protocol", "rpc-v2-cbor")
            .with_header("content-type", "application/cbor")
            .with_body(cbor),
    );
}

#[test]
fn a_body_over_the_limit_is_too_large_packed_or_unpacked() {
    let limit = durward_core::limits::MAX_BODY_BYTES;
    let call = lambda_request(&format!(r#"{{"Description":"{}"}}"#, "x".repeat(limit)));
    assert_eq!(call.decode().unwrap_err().reason, RefusalReason::TooLarge);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..=limit >> 20 {
        packed.write_all(&zeros).unwrap();
    }
    let call = lambda_request("").with_body(packed.finish().unwrap()).with_header("content-encoding", "gzip");
    assert_eq!(call.decode().unwrap_err().reason, RefusalReason::TooLarge);
}

#[test]
fn permissions_are_listed_once_and_their_number_is_limited() {
    let get_parameters = |names: &[String]| {
        json_request("ssm", "AmazonSSM.GetParameters", &json!({ "Names": names }).to_string())
    };
    let operation = get_parameters(&vec!["/a".to_owned(); 100_000]).expect_decoded();
    assert_eq!(
        permission_texts(&operation),
        ["ssm:GetParameters arn:aws:ssm:eu-west-1:111122223333:parameter/a"]
    );
    // Without a set, 300,000 distinct names take minutes.
    let distinct: Vec<String> = (0..300_000).map(|at| format!("/{at}")).collect();
    let most = &distinct[..limits::MAX_REQUIRED_PERMISSIONS];
    assert_eq!(get_parameters(most).expect_decoded().required_permissions.len(), most.len());
    for too_many in [&distinct[..=limits::MAX_REQUIRED_PERMISSIONS], &distinct] {
        assert_eq!(get_parameters(too_many).decode().unwrap_err().reason, RefusalReason::TooLarge);
    }
}

#[test]
fn a_search_sent_as_a_form_is_decoded_as_the_search() {
    let search = |body: &str| {
        post_request("cloudsearch", "/2013-01-01/search")
            .with_header("content-type", "application/x-www-form-urlencoded")
            .with_body(body)
    };
    let operation = search("format=sdk&pretty=true&q=cats&size=3").expect_decoded();
    assert_eq!(
        (operation.name.as_str(), &operation.parameters),
        ("Search", &json!({"query": "cats", "size": 3}))
    );
    search("format=sdk&q=cats&q=dogs").expect_refused();
}

#[test]
fn a_role_inside_a_structure_requires_pass_role() {
    let role = "arn:aws:iam::111122223333:role/admin";
    let body = format!(
        r#"{{"Rule":"r","Targets":[{{"Id":"1","Arn":"a"}},{{"Id":"2","Arn":"b","RoleArn":"{role}"}}]}}"#
    );
    let operation = json_request("events", "AWSEvents.PutTargets", &body).expect_decoded();
    assert_eq!(
        permission_texts(&operation),
        ["events:PutTargets arn:aws:events:eu-west-1:111122223333:rule/r", &format!("iam:PassRole {role}")]
    );
    assert!(operation.traits.escalates);
    let plain = r#"{"Rule":"r","Targets":[{"Id":"1","Arn":"a"}]}"#;
    let operation = json_request("events", "AWSEvents.PutTargets", plain).expect_decoded();
    assert!(!operation.traits.escalates && permission_texts(&operation).len() == 1, "{operation:?}");
}

#[test]
fn a_partly_known_resource_has_wildcards_for_the_rest() {
    let delete = |name: &str| {
        form_request("cloudformation", &format!("Action=DeleteStack&Version=2010-05-15&StackName={name}"))
            .expect_decoded()
    };
    let arn = "arn:aws:cloudformation:eu-west-1:111122223333:stack/web";
    assert_eq!(permission_texts(&delete("web")), [format!("cloudformation:DeleteStack {arn}/*")]);
    let whole = format!("{arn}/0b2e");
    assert_eq!(
        permission_texts(&delete(&whole.replace(':', "%3A"))),
        [format!("cloudformation:DeleteStack {whole}")]
    );
}

#[test]
fn one_header_makes_an_upload_an_escalation() {
    assert!(!put_request("s3", "/bucket/key").with_body("x").expect_decoded().traits.escalates);
    assert!(
        put_request("s3", "/bucket/key")
            .with_header("x-amz-acl", "public-read")
            .with_body("x")
            .expect_decoded()
            .traits
            .escalates
    );
    let attribute = |rest: &str| {
        form_request(
            "ec2",
            &format!(
                "Action=ModifyInstanceAttribute&Version=2016-11-15&InstanceId=i-0123456789abcdef0&{rest}"
            ),
        )
        .expect_decoded()
    };
    assert!(attribute("UserData.Value=aWQ%3D").traits.indirect);
    assert!(!attribute("InstanceType.Value=t3.large").traits.indirect);
}
