//! The sample service of this crate's tests, and the promises that hold for every kind of body.

use std::time::{Duration, Instant};

use durward_catalog::model::{Location, Member, Protocol, Service, Shape, ShapeId, ShapeKind};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(crate) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

pub(crate) fn masker() -> &'static Masker {
    static MASKER: std::sync::LazyLock<Masker> = std::sync::LazyLock::new(Masker::default);
    &MASKER
}

pub(crate) fn nothing(_: &str) -> bool {
    false
}

/// The text with each byte written as `one` does.
pub(crate) fn spelled(text: &str, one: impl Fn(u8) -> String) -> String {
    text.bytes().map(one).collect::<Vec<_>>().concat()
}

pub(crate) fn member(name: &str, shape: ShapeId) -> Member {
    Member {
        name: name.to_owned(),
        wire_name: None,
        ec2_name: None,
        shape,
        location: Location::Body,
        required: false,
        sensitive: false,
        flattened: false,
        xml_attribute: false,
    }
}

fn marked(name: &str, shape: ShapeId) -> Member {
    Member { sensitive: true, ..member(name, shape) }
}

fn structure(members: Vec<Member>) -> ShapeKind {
    ShapeKind::Structure { members, payload: None, union: false }
}

pub(crate) const OUTPUT: ShapeId = 0;
pub(crate) const PAYLOAD: ShapeId = 15;

/// Members of every kind, with and without marks.
pub(crate) fn service() -> Service {
    let plain = |kind| Shape { kind, sensitive: false };
    let secret = |kind| Shape { kind, sensitive: true };
    let list = |member, item_name: Option<&str>, flattened| ShapeKind::List {
        member,
        item_name: item_name.map(str::to_owned),
        flattened,
    };
    let map =
        |key, value, flattened| ShapeKind::Map { key, value, key_name: None, value_name: None, flattened };
    let shapes = vec![
        plain(structure(vec![
            member("Secret", 2),
            member("Plain", 1),
            member("AccessKeyId", 1),
            marked("SecretBinary", 5),
            marked("Number", 3),
            marked("Flag", 4),
            marked("When", 6),
            member("Nested", 7),
            member("Env", 8),
            member("Items", 9),
            Member { wire_name: Some("flat".into()), flattened: true, ..member("Flats", 11) },
            Member { flattened: true, ..member("FlatMap", 8) },
            Member {
                wire_name: Some("x-amz-secret".into()),
                location: Location::Header,
                ..member("Header", 2)
            },
            Member {
                wire_name: Some("x-amz-meta-".into()),
                location: Location::Headers,
                ..marked("Metadata", 14)
            },
            Member {
                wire_name: Some("x-amz-count".into()),
                location: Location::Header,
                ..marked("Count", 3)
            },
            member("Grantee", 12),
            member("ByName", 13),
            member("Self", OUTPUT),
        ])),
        plain(ShapeKind::String),
        secret(ShapeKind::String),
        plain(ShapeKind::Integer),
        plain(ShapeKind::Boolean),
        plain(ShapeKind::Blob { streaming: false }),
        plain(ShapeKind::Timestamp { format: None }),
        secret(structure(vec![
            member("Name", 1),
            member("Count", 3),
            member("On", 4),
            member("Data", 5),
            member("At", 6),
            member("Tags", 14),
        ])),
        plain(map(1, 2, false)),
        plain(list(10, None, false)),
        plain(structure(vec![
            Member { wire_name: Some("pw".into()), ..marked("Password", 1) },
            member("Name", 1),
        ])),
        plain(list(2, None, false)),
        plain(structure(vec![
            Member { xml_attribute: true, ..marked("hint", 1) },
            Member { xml_attribute: true, wire_name: Some("xsi:type".into()), ..member("Type", 1) },
            member("ID", 1),
        ])),
        plain(map(2, 1, false)),
        plain(map(1, 1, false)),
        plain(ShapeKind::Structure {
            members: vec![marked("Body", 5)],
            payload: Some("Body".into()),
            union: false,
        }),
    ];
    Service {
        id: "sample".into(),
        iam_prefix: "sample".into(),
        signing_name: "sample".into(),
        api_version: "2026-01-01".into(),
        target_prefix: None,
        protocols: vec![Protocol::Json11],
        query_compatible: false,
        xml_namespace: None,
        operations: Vec::new(),
        shapes,
    }
}

/// The masked body, or the body itself.
pub(crate) fn masked(body: &[u8], content: Content, protocol: Protocol) -> Vec<u8> {
    let service = service();
    let plan = Plan::new(&service, Some(OUTPUT), protocol);
    match masker().mask_answer(body, content, Some(&plan), &nothing).unwrap() {
        Masked::Unchanged => body.to_vec(),
        Masked::Changed { body, .. } => body,
    }
}

#[test]
fn masks_plain_text_and_counts_by_class() {
    let text = format!("keys {KEY_ID} and ASIAIOSFODNN7EXAMPLE, aws_secret_access_key = {SECRET}");
    let (masked, hits) = masker().mask_text(&text, &nothing);
    assert_eq!(
        masked,
        "keys [masked: aws-key] and [masked: aws-key], aws_secret_access_key = [masked: aws-secret]"
    );
    assert_eq!(
        hits,
        [
            Hit { data_class: DataClass::AWS_KEY, count: 2 },
            Hit { data_class: DataClass::AWS_SECRET, count: 1 }
        ]
    );
    assert!(
        matches!(masker().mask_text("nothing here", &nothing), (Cow::Borrowed(_), hits) if hits.is_empty())
    );
}

#[test]
fn shows_a_revealed_class_and_still_masks_the_others() {
    let text = format!("{KEY_ID} aws_secret_access_key={SECRET}");
    let (masked, _) = masker().mask_text(&text, &|class| class == "aws-key");
    assert_eq!(masked, format!("{KEY_ID} aws_secret_access_key=[masked: aws-secret]"));
    assert_eq!(masker().mask_text(&text, &|_| true).0, text);
}

#[test]
fn asks_once_for_each_class_and_only_when_it_occurs() {
    let asked = std::cell::RefCell::new(Vec::new());
    let text = format!("{KEY_ID} {KEY_ID} {KEY_ID}");
    masker().mask_text(&text, &|class| {
        asked.borrow_mut().push(class.to_owned());
        false
    });
    assert_eq!(*asked.borrow(), ["aws-key"]);
}

#[test]
fn masks_a_marked_payload_whole_and_keeps_empty_bodies() {
    let service = service();
    let plan = Plan::new(&service, Some(PAYLOAD), Protocol::RestJson);
    let answer = masker().mask_answer(b"anything", Content::Text, Some(&plan), &nothing).unwrap();
    assert!(matches!(answer, Masked::Changed { body, .. } if body == b"[masked: aws-sensitive]"));
    for content in [Content::Json, Content::Xml, Content::Cbor, Content::Text] {
        assert_eq!(masker().mask_answer(b"", content, Some(&plan), &nothing), Ok(Masked::Unchanged));
    }
}

#[test]
fn refuses_what_it_cannot_inspect() {
    let service = service();
    let plan = Plan::new(&service, Some(99), Protocol::Json11);
    let refused = masker().mask_answer(b"{}", Content::Json, Some(&plan), &nothing);
    assert_eq!(refused, Err(MaskError::UnknownShape { shape: 99 }));
    let refused = masker().mask_answer(b"ab\xff", Content::Text, None, &nothing);
    assert_eq!(refused, Err(MaskError::NotUtf8 { format: "text", offset: 2 }));
}

#[test]
fn masks_values_at_pointers_and_secrets_anywhere() {
    let mut value = json!({
        "Password": "hunter2", "Options": {"Port": 22, "Deep": ["x", true, null, ""]},
        "Note": format!("uses {KEY_ID}"), KEY_ID: 1,
        "environment": [{"name": "AWS_SECRET_ACCESS_KEY", "value": SECRET}, {"name": "OTHER", "value": SECRET}],
        "Credentials": {"SecretAccessKey": {"S": SECRET}},
    });
    let pointers = ["/Password", "/Options", "/Absent/x"].map(str::to_owned);
    let hits = masker().mask_value(&mut value, &pointers, &nothing);
    assert_eq!(
        value,
        json!({
            "Password": "[masked: aws-sensitive]",
            "Options": {"Port": 0, "Deep": ["[masked: aws-sensitive]", false, null, ""]},
            "Note": "uses [masked: aws-key]", "[masked: aws-key]": 1,
            "environment": [
                {"name": "AWS_SECRET_ACCESS_KEY", "value": "[masked: aws-secret]"},
                {"name": "OTHER", "value": SECRET},
            ],
            "Credentials": {"SecretAccessKey": {"S": "[masked: aws-secret]"}},
        })
    );
    let count = |class| hits.iter().find(|hit| hit.data_class == class).map(|hit| hit.count);
    assert_eq!(count(DataClass::AWS_SENSITIVE), Some(4));
    assert_eq!(count(DataClass::AWS_KEY), Some(2));
    assert_eq!(count(DataClass::AWS_SECRET), Some(2));
}

#[test]
fn masks_marked_members_in_headers_and_secrets_in_any() {
    let service = service();
    let plan = Plan::new(&service, Some(OUTPUT), Protocol::RestJson);
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-secret", HeaderValue::from_static("s3cr3t"));
    headers.insert("x-amz-count", HeaderValue::from_static("17"));
    headers.insert("x-amz-meta-owner", HeaderValue::from_static("someone"));
    headers.insert("x-amz-request-id", HeaderValue::from_static("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE"));
    headers.insert("x-other", HeaderValue::from_static("Bearer 0123456789abcdef01234"));
    headers.insert("etag", HeaderValue::from_bytes(b"\"caf\xe9\"").unwrap());
    let hits = masker().mask_headers(&mut headers, Some(&plan), &nothing).unwrap();
    assert_eq!(headers["x-amz-secret"], "[masked: aws-sensitive]");
    assert_eq!(headers["x-amz-count"], "0");
    assert_eq!(headers["x-amz-meta-owner"], "[masked: aws-sensitive]");
    assert_eq!(headers["x-amz-request-id"], "7a62c49f-347e-4fc4-9331-6e8eEXAMPLE");
    assert_eq!(headers["x-other"], "Bearer [masked: token]");
    assert_eq!(headers["etag"], HeaderValue::from_bytes(b"\"caf\xe9\"").unwrap());
    assert_eq!(hits.iter().map(|hit| hit.count).sum::<u64>(), 4);
    assert!(masker().mask_headers(&mut headers, Some(&plan), &|_| true).unwrap().is_empty());
}

#[test]
fn masking_twice_changes_nothing_more() {
    let body = format!(r#"{{"Plain":"{KEY_ID}","x":"aws_secret_access_key={SECRET}"}}"#);
    let once = masked(body.as_bytes(), Content::Json, Protocol::Json11);
    assert_eq!(masker().mask_answer(&once, Content::Json, None, &nothing), Ok(Masked::Unchanged));
}

fn best_time(run: impl Fn()) -> Duration {
    let once = || {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    once().min(once()).min(once())
}

/// Eight times the text may take twenty-four times as long, on a busy machine; quadratic work takes sixty-four times.
#[test]
fn takes_linear_time_on_adversarial_text() {
    let pieces = [
        "eyJ",
        "eyJAAAAAAAA.",
        "eyJAAAAAAAA.eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN AKIA",
        "AKIA",
        "IQoJ",
        "secret_access_key=",
        "secretkey ",
        "bearer ",
        "bearer 1",
        "ghp_",
        "\\",
        "\\u005c",
        "%25",
        "%",
        "QUtJ",
        "A\n",
        "xoxb-",
        "AKIAIOSFODNN7EXAMPLE ",
        "-----END ",
        "\\\\\\\\\"",
        "a-",
        "a/",
    ];
    let time = |text: &str| best_time(|| drop(masker().mask_text(text, &nothing)));
    for piece in pieces {
        let small = time(&piece.repeat((128 << 10) / piece.len()));
        let large = time(&piece.repeat((1 << 20) / piece.len()));
        assert!(large < small * 24 + Duration::from_millis(100), "{piece:?}: {small:?} and {large:?}");
    }
}

/// Builds a body of some size.
type Body<'a> = &'a dyn Fn(usize) -> Vec<u8>;

#[test]
fn takes_linear_time_on_adversarial_bodies() {
    let attributes = |n: usize| (0..n).map(|n| format!(" a{n}='&amp;'")).collect::<Vec<_>>().concat();
    let bodies: [(Content, Body<'_>); 7] = [
        (Content::Json, &|n| format!("{{\"a\":\"{}\"}}", "\\u0041\\n".repeat(n)).into_bytes()),
        (Content::Json, &|n| {
            format!("[{}0]", format!("{{\"{KEY_ID}\":\"{KEY_ID}\"}},").repeat(n / 8)).into_bytes()
        }),
        (Content::Xml, &|n| format!("<r>{}</r>", "&amp;<!---->".repeat(n)).into_bytes()),
        (Content::Xml, &|n| format!("<r>{}</r>", "<![CDATA[a]]>".repeat(n)).into_bytes()),
        (Content::Xml, &|n| format!("<r{}/>", attributes(n)).into_bytes()),
        (Content::Xml, &|n| format!("<r>{}", "<!--".repeat(n)).into_bytes()),
        (Content::Cbor, &|n| [&b"\x7f"[..], &b"\x61a\x60".repeat(n), b"\xff"].concat()),
    ];
    for (content, body) in bodies {
        let time = |body: Vec<u8>| best_time(|| drop(masker().mask_answer(&body, content, None, &nothing)));
        let (small, large) = (time(body(8 << 10)), time(body(64 << 10)));
        let start = String::from_utf8_lossy(&body(1)).into_owned();
        assert!(large < small * 24 + Duration::from_millis(100), "{start}: {small:?} and {large:?}");
    }
}

/// A JSON value and what masking must make of it.
fn value_and_masked() -> impl Strategy<Value = (Value, Value)> {
    let text = "[ -~äß\\n\\t\u{1f600}]{0,12}".prop_map(|text| (json!(text), json!(text)));
    let leaf = prop_oneof![
        Just((Value::Null, Value::Null)),
        any::<bool>().prop_map(|flag| (json!(flag), json!(flag))),
        any::<i64>().prop_map(|number| (json!(number), json!(number))),
        any::<u32>().prop_map(|number| (json!(f64::from(number) / 8.0), json!(f64::from(number) / 8.0))),
        text,
        "[ .,:äß\"\\\\\n\u{1f600}]{0,9}".prop_map(|before| {
            (json!(format!("{before} {KEY_ID}")), json!(format!("{before} [masked: aws-key]")))
        }),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| {
                let (values, masked): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                (Value::Array(values), Value::Array(masked))
            }),
            prop::collection::btree_map("[ -~ß]{0,8}", inner, 0..6).prop_map(|members| {
                let split =
                    members.into_iter().map(|(key, (value, masked))| ((key.clone(), value), (key, masked)));
                let (values, masked): (serde_json::Map<_, _>, serde_json::Map<_, _>) = split.unzip();
                (Value::Object(values), Value::Object(masked))
            }),
        ]
    })
}

fn mutated(body: &[u8], changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut body = body.to_vec();
    for (index, byte) in changes {
        let at = index.index(body.len());
        body[at] = *byte;
    }
    body
}

proptest! {
    #[test]
    fn masked_json_equals_the_body_outside_masked_values((value, expected) in value_and_masked(), pretty: bool) {
        let body = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        match masker().mask_answer(&body, Content::Json, None, &nothing).unwrap() {
            Masked::Unchanged => prop_assert_eq!(value, expected),
            Masked::Changed { body, .. } => {
                prop_assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let service = service();
        for protocol in [Protocol::Query, Protocol::RestXml, Protocol::Json10, Protocol::RpcV2Cbor] {
            let plan = Plan::new(&service, Some(OUTPUT), protocol);
            for content in [Content::Json, Content::Xml, Content::Cbor, Content::Text] {
                drop(masker().mask_answer(&body, content, Some(&plan), &nothing));
            }
        }
    }

    #[test]
    fn accepts_the_json_that_serde_accepts_and_no_other(
        (value, _) in value_and_masked(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\"\\,:{}[]0-1e.+tu \x01a".to_vec())), 0..3),
    ) {
        let body = mutated(&serde_json::to_vec(&value).unwrap(), &changes);
        let ours = masker().mask_answer(&body, Content::Json, None, &nothing);
        if serde_json::from_slice::<Value>(&body).is_ok() {
            prop_assert!(ours.is_ok());
        }
        if ours.is_ok() {
            prop_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&body).is_ok());
        }
    }

    #[test]
    fn broken_xml_and_cbor_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let xml = br#"<?xml version="1.0"?><R xmlns="x"><Secret>a&amp;b<![CDATA[c]]><!-- d --></Secret><Env><entry><key>k</key><value>v</value></entry></Env></R>"#;
        let cbor = b"\xbf\x66Secret\x7f\x61a\x61b\xff\x65Items\x81\xa1\x62pw\x63abc\x64When\xc1\x1a\x00\x00\x00\x01\xff";
        let service = service();
        let plan = Plan::new(&service, Some(OUTPUT), Protocol::RestXml);
        drop(masker().mask_answer(&mutated(xml, &changes), Content::Xml, Some(&plan), &nothing));
        drop(masker().mask_answer(&mutated(cbor, &changes), Content::Cbor, Some(&plan), &nothing));
    }
}
