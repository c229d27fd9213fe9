//! Bodies that are not what they say, names no model knows, and input made to be read twice or for long.

use super::*;

fn lambda(body: &str) -> Request {
    put("lambda", "/2015-03-31/functions/f/configuration").with("content-type", "application/json").body(body)
}

#[test]
fn a_body_that_is_not_what_its_type_says_is_refused() {
    for (media, body) in [
        ("application/json", "<a/>"),
        ("application/json", "a=b"),
        ("application/json", "\u{feff}{}"),
        ("application/xml", "{}"),
        ("application/x-www-form-urlencoded", "{}"),
        ("text/plain", "{}"),
        ("application/json; charset=utf-16", "{}"),
    ] {
        let call =
            put("lambda", "/2015-03-31/functions/f/configuration").with("content-type", media).body(body);
        assert_eq!(call.refused(), Reason::Malformed, "{media} {body}");
    }
    for (media, body) in [("application/json", "{}"), ("application/xml", "{}"), ("text/xml", "a=b")] {
        put("s3", "/bucket?tagging").with("content-type", media).body(body).refused();
    }
    let cbor = |media: &str, body: &'static [u8]| {
        post("monitoring", "/service/GraniteServiceVersion20100801/operation/ListMetrics")
            .with("smithy-protocol", "rpc-v2-cbor")
            .with("content-type", media)
            .body(body)
    };
    cbor("application/cbor", b"\xbf\xff").reads();
    cbor("application/cbor", b"{}").refused();
    cbor("application/json", b"{}").refused();
    json_call("dynamodb", "DynamoDB_20120810.GetItem", "[]").refused();
    post("dynamodb", "/")
        .with("x-amz-target", "DynamoDB_20120810.GetItem")
        .with("content-type", "application/x-www-form-urlencoded")
        .body("TableName=t")
        .refused();
}

#[test]
fn unknown_parameters_are_kept_and_shown_as_unknown() {
    let operation =
        lambda(r#"{"Timeout":3,"Sandbox":{"a":1},"Environment":{"Variables":{"k":"v"},"Extra":1}}"#).reads();
    assert_eq!(operation.parameters["Sandbox"], json!({"a": 1}));
    assert_eq!(operation.uninspected, ["/Environment/Extra", "/Sandbox"]);
    let operation =
        form("iam", "Action=CreateUser&Version=2010-05-08&UserName=u&Wings.member.1=left").reads();
    assert_eq!(operation.parameters["Wings"], json!({"member": {"1": "left"}}));
    assert_eq!(operation.uninspected, ["/Wings"]);
    let operation = get("lambda", "/2015-03-31/functions/f/configuration?Wings=left").reads();
    assert_eq!(
        (&operation.parameters["Wings"], operation.uninspected.as_slice()),
        (&json!("left"), &["/Wings".to_owned()][..])
    );
    let operation = get("s3", "/bucket/key").with("x-amz-wings", "left").reads();
    assert_eq!(operation.uninspected, ["/x-amz-wings"]);
    // a streamed body and an unknown header, both told
    let operation = put("s3", "/bucket/key").with("x-amz-wings", "left").body("data").reads();
    assert!(
        operation.uninspected.contains(&"body".to_owned())
            && operation.uninspected.contains(&"/x-amz-wings".to_owned())
    );
    // what the SDKs add of themselves is not news
    let operation = get("s3", "/bucket/key?x-id=GetObject").with("x-amz-checksum-crc32", "AAAAAA==").reads();
    assert!(operation.uninspected.is_empty(), "{:?}", operation.uninspected);
}

#[test]
fn a_name_like_a_known_one_is_refused_where_it_hides() {
    lambda(r#"{"timeout":900,"Timeout":3}"#).refused();
    lambda(r#"{"VpcConfig":{"subnetids":[]}}"#).refused();
    form("iam", "Action=CreateUser&Version=2010-05-08&username=u&UserName=v").refused();
    get("lambda", "/2015-03-31/functions/f/configuration?qualifier=1&Qualifier=2").refused();
}

#[test]
fn duplicate_keys_are_refused_in_every_protocol() {
    lambda(r#"{"Timeout":3,"Timeout":900}"#).refused();
    lambda(r#"{"Environment":{"Variables":{"a":"1","\u0061":"2"}}}"#).refused();
    form("iam", "Action=CreateUser&Version=2010-05-08&UserName=u&UserName=v").refused();
    form("ec2", "Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-a&InstanceId.1=i-b").refused();
    form("iam", "Action=CreateUser&Version=2010-05-08&UserName=u&Action=DeleteUser").refused();
    get("lambda", "/2015-03-31/functions/f/configuration?Qualifier=1&Qualifier=2").refused();
    put("s3", "/bucket?versioning")
        .with("content-type", "application/xml")
        .body("<VersioningConfiguration><Status>Enabled</Status><Status>Suspended</Status></VersioningConfiguration>")
        .refused();
    put("s3", "/bucket/key")
        .with("x-amz-acl", "private")
        .with("x-amz-acl", "public-read")
        .body("x")
        .refused();
    post("monitoring", "/service/GraniteServiceVersion20100801/operation/ListMetrics")
        .with("smithy-protocol", "rpc-v2-cbor")
        .with("content-type", "application/cbor")
        .body(b"\xa2\x69Namespace\x61a\x69Namespace\x61b")
        .refused();
}

#[test]
fn deep_nesting_is_refused_in_every_protocol() {
    let depth = durward_core::limits::DEPTH + 1;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(depth), close.repeat(depth));
    lambda(&format!(r#"{{"Sandbox":{}}}"#, deep("[", "]"))).refused();
    put("s3", "/bucket?tagging").with("content-type", "application/xml").body(deep("<a>", "</a>")).refused();
    form("iam", &format!("Action=CreateUser&Version=2010-05-08&{}=1", vec!["a"; depth].join("."))).refused();
    let mut cbor = b"\xa1\x69Namespace".to_vec();
    cbor.extend(vec![0x81; depth]);
    cbor.push(1);
    post("monitoring", "/service/GraniteServiceVersion20100801/operation/ListMetrics")
        .with("smithy-protocol", "rpc-v2-cbor")
        .with("content-type", "application/cbor")
        .body(cbor)
        .refused();
}

#[test]
fn more_values_than_fit_in_memory_are_too_large_in_every_protocol() {
    use durward_core::limits::{ATTRIBUTES, FORM_PARTS, VALUES};
    let too_large = |call: Request| assert_eq!(call.decode().unwrap_err().reason, Reason::TooLarge);
    too_large(lambda(&format!(r#"{{"Layers":[{}0]}}"#, "0,".repeat(VALUES))));
    let tagging =
        |body: String| put("s3", "/bucket?tagging").with("content-type", "application/xml").body(body);
    too_large(tagging(format!("<Tagging>{}</Tagging>", "<a/>".repeat(VALUES))));
    let attributes: Vec<String> = (0..=ATTRIBUTES).map(|at| format!(" a{at}=\"\"")).collect();
    tagging(format!("<Tagging{}/>", attributes.concat())).refused();
    let create = |rest: &str| form("iam", &format!("Action=CreateUser&Version=2010-05-08{rest}"));
    too_large(create(&"&a".repeat(FORM_PARTS)));
    // A name of many parts is as many.
    let name = vec!["a"; 60].join(".");
    let long: Vec<String> = (0..FORM_PARTS / 50).map(|at| format!("&{at}.{name}=")).collect();
    too_large(create(&long.concat()));
    let mut cbor = b"\xa1\x69Namespace\x9f".to_vec();
    cbor.extend(vec![0; VALUES]);
    cbor.push(0xff);
    too_large(
        post("monitoring", "/service/GraniteServiceVersion20100801/operation/ListMetrics")
            .with("smithy-protocol", "rpc-v2-cbor")
            .with("content-type", "application/cbor")
            .body(cbor),
    );
}

#[test]
fn a_body_over_the_limit_is_too_large_also_when_unpacked() {
    let limit = durward_core::limits::BODY;
    let call = lambda(&format!(r#"{{"Description":"{}"}}"#, "x".repeat(limit)));
    assert_eq!(call.decode().unwrap_err().reason, Reason::TooLarge);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..=limit >> 20 {
        packed.write_all(&zeros).unwrap();
    }
    let call = lambda("").body(packed.finish().unwrap()).with("content-encoding", "gzip");
    assert_eq!(call.decode().unwrap_err().reason, Reason::TooLarge);
}

#[test]
fn a_search_sent_as_a_form_is_read_as_the_search() {
    let search = |body: &str| {
        post("cloudsearch", "/2013-01-01/search")
            .with("content-type", "application/x-www-form-urlencoded")
            .body(body)
    };
    let operation = search("format=sdk&pretty=true&q=cats&size=3").reads();
    assert_eq!(
        (operation.name.as_str(), &operation.parameters),
        ("Search", &json!({"query": "cats", "size": 3}))
    );
    search("format=sdk&q=cats&q=dogs").refused();
}

#[test]
fn a_role_inside_a_structure_is_a_role_that_is_passed() {
    let role = "arn:aws:iam::111122223333:role/admin";
    let body = format!(
        r#"{{"Rule":"r","Targets":[{{"Id":"1","Arn":"a"}},{{"Id":"2","Arn":"b","RoleArn":"{role}"}}]}}"#
    );
    let operation = json_call("events", "AWSEvents.PutTargets", &body).reads();
    assert_eq!(
        demands(&operation),
        ["events:PutTargets arn:aws:events:eu-west-1:111122223333:rule/r", &format!("iam:PassRole {role}")]
    );
    assert!(operation.traits.escalates);
    let plain = r#"{"Rule":"r","Targets":[{"Id":"1","Arn":"a"}]}"#;
    let operation = json_call("events", "AWSEvents.PutTargets", plain).reads();
    assert!(!operation.traits.escalates && demands(&operation).len() == 1, "{operation:?}");
}

#[test]
fn a_resource_known_in_part_has_a_star_for_the_rest() {
    let delete = |name: &str| {
        form("cloudformation", &format!("Action=DeleteStack&Version=2010-05-15&StackName={name}")).reads()
    };
    let arn = "arn:aws:cloudformation:eu-west-1:111122223333:stack/web";
    assert_eq!(demands(&delete("web")), [format!("cloudformation:DeleteStack {arn}/*")]);
    let whole = format!("{arn}/0b2e");
    assert_eq!(demands(&delete(&whole.replace(':', "%3A"))), [format!("cloudformation:DeleteStack {whole}")]);
}

#[test]
fn one_header_makes_an_upload_an_escalation() {
    assert!(!put("s3", "/bucket/key").body("x").reads().traits.escalates);
    assert!(put("s3", "/bucket/key").with("x-amz-acl", "public-read").body("x").reads().traits.escalates);
    let attribute = |rest: &str| {
        form(
            "ec2",
            &format!(
                "Action=ModifyInstanceAttribute&Version=2016-11-15&InstanceId=i-0123456789abcdef0&{rest}"
            ),
        )
        .reads()
    };
    assert!(attribute("UserData.Value=aWQ%3D").traits.indirect);
    assert!(!attribute("InstanceType.Value=t3.large").traits.indirect);
}
