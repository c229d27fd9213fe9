//! The sample service of this crate's tests, and the promises that hold for every kind of body.

use std::time::{Duration, Instant};

use durward_catalog::service_model::{
    AwsProtocol, MemberLocation, ModelShape, ReturnedMember, ServiceModel, ShapeId, ShapeKind, ShapeMember,
};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(crate) const SAMPLE_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SAMPLE_SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

pub(crate) fn shared_masker() -> &'static Masker {
    static MASKER: std::sync::LazyLock<Masker> = std::sync::LazyLock::new(Masker::default);
    &MASKER
}

pub(crate) fn reveal_nothing(_: &str) -> bool {
    false
}

/// The text with each byte written as `one` does.
pub(crate) fn spell_bytes(text: &str, one: impl Fn(u8) -> String) -> String {
    text.bytes().map(one).collect::<Vec<_>>().concat()
}

pub(crate) fn plain_member(name: &str, shape: ShapeId) -> ShapeMember {
    ShapeMember {
        name: name.to_owned(),
        wire_name: None,
        ec2_name: None,
        shape,
        location: MemberLocation::Body,
        is_required: false,
        is_sensitive: false,
        is_flattened: false,
        is_xml_attribute: false,
        returned: ReturnedMember::No,
    }
}

fn sensitive_member(name: &str, shape: ShapeId) -> ShapeMember {
    ShapeMember { is_sensitive: true, ..plain_member(name, shape) }
}

fn structure_shape(members: Vec<ShapeMember>) -> ShapeKind {
    ShapeKind::Structure { members, payload: None, is_union: false }
}

pub(crate) const OUTPUT_SHAPE: ShapeId = 0;
pub(crate) const PAYLOAD_SHAPE: ShapeId = 15;

/// Members of every kind, with and without marks.
pub(crate) fn sample_service() -> ServiceModel {
    let plain = |kind| ModelShape { kind, is_sensitive: false, has_marked_values: false };
    let secret = |kind| ModelShape { kind, is_sensitive: true, has_marked_values: false };
    let list = |member, item_name: Option<&str>, flattened| ShapeKind::List {
        member,
        item_name: item_name.map(str::to_owned),
        is_flattened: flattened,
    };
    let map = |key, value, flattened| ShapeKind::Map {
        key,
        value,
        key_name: None,
        value_name: None,
        is_flattened: flattened,
    };
    let shapes = vec![
        plain(structure_shape(vec![
            plain_member("Secret", 2),
            plain_member("Plain", 1),
            plain_member("AccessKeyId", 1),
            sensitive_member("SecretBinary", 5),
            sensitive_member("Number", 3),
            sensitive_member("Flag", 4),
            sensitive_member("When", 6),
            plain_member("Nested", 7),
            plain_member("Env", 8),
            plain_member("Items", 9),
            ShapeMember { wire_name: Some("flat".into()), is_flattened: true, ..plain_member("Flats", 11) },
            ShapeMember { is_flattened: true, ..plain_member("FlatMap", 8) },
            ShapeMember {
                wire_name: Some("x-amz-secret".into()),
                location: MemberLocation::Header,
                ..plain_member("Header", 2)
            },
            ShapeMember {
                wire_name: Some("x-amz-meta-".into()),
                location: MemberLocation::PrefixHeaders,
                ..sensitive_member("Metadata", 14)
            },
            ShapeMember {
                wire_name: Some("x-amz-count".into()),
                location: MemberLocation::Header,
                ..sensitive_member("Count", 3)
            },
            plain_member("Grantee", 12),
            plain_member("ByName", 13),
            plain_member("Self", OUTPUT_SHAPE),
            plain_member("NextToken", 1),
            plain_member("Blob", 5),
        ])),
        plain(ShapeKind::String),
        secret(ShapeKind::String),
        plain(ShapeKind::Integer),
        plain(ShapeKind::Boolean),
        plain(ShapeKind::Blob { is_streaming: false }),
        plain(ShapeKind::Timestamp { format: None }),
        secret(structure_shape(vec![
            plain_member("Name", 1),
            plain_member("Count", 3),
            plain_member("On", 4),
            plain_member("Data", 5),
            plain_member("At", 6),
            plain_member("Tags", 14),
        ])),
        plain(map(1, 2, false)),
        plain(list(10, None, false)),
        plain(structure_shape(vec![
            ShapeMember { wire_name: Some("pw".into()), ..sensitive_member("Password", 1) },
            plain_member("Name", 1),
        ])),
        plain(list(2, None, false)),
        plain(structure_shape(vec![
            ShapeMember { is_xml_attribute: true, ..sensitive_member("hint", 1) },
            ShapeMember {
                is_xml_attribute: true,
                wire_name: Some("xsi:type".into()),
                ..plain_member("Type", 1)
            },
            plain_member("ID", 1),
        ])),
        plain(map(2, 1, false)),
        plain(map(1, 1, false)),
        plain(ShapeKind::Structure {
            members: vec![sensitive_member("Body", 5)],
            payload: Some("Body".into()),
            is_union: false,
        }),
    ];
    let mut service = ServiceModel {
        id: "sample".into(),
        iam_prefix: "sample".into(),
        signing_name: "sample".into(),
        api_version: "2026-01-01".into(),
        target_prefix: None,
        protocols: vec![AwsProtocol::Json11],
        is_query_compatible: false,
        xml_namespace: None,
        operations: Vec::new(),
        shapes,
    };
    service.mark_returned_members();
    service.mark_shapes();
    service
}

/// The masked body, or the body itself.
pub(crate) fn mask_sample(body: &[u8], content: BodyFormat, protocol: AwsProtocol) -> Vec<u8> {
    let service = sample_service();
    let plan = MaskingPlan::new(&service, None, Some(OUTPUT_SHAPE), protocol);
    match shared_masker().mask_body(body, content, Some(&plan), &reveal_nothing).unwrap() {
        MaskedBody::Unchanged => body.to_vec(),
        MaskedBody::Changed { body, .. } => body,
    }
}

#[test]
fn masks_plain_text_and_counts_by_class() {
    let text =
        format!("keys {SAMPLE_KEY_ID} and ASIAIOSFODNN7EXAMPLE, aws_secret_access_key = {SAMPLE_SECRET_KEY}");
    let (masked, counts) = shared_masker().mask_text(&text, &reveal_nothing);
    assert_eq!(
        masked,
        "keys [masked: aws-key] and [masked: aws-key], aws_secret_access_key = [masked: aws-secret]"
    );
    assert_eq!(
        counts,
        [
            DataClassCount { data_class: DataClass::AWS_KEY, count: 2 },
            DataClassCount { data_class: DataClass::AWS_SECRET, count: 1 }
        ]
    );
    assert!(
        matches!(shared_masker().mask_text("nothing here", &reveal_nothing), (Cow::Borrowed(_), counts) if counts.is_empty())
    );
}

#[test]
fn shows_a_revealed_class_and_still_masks_the_others() {
    let text = format!("{SAMPLE_KEY_ID} aws_secret_access_key={SAMPLE_SECRET_KEY}");
    let (masked, _) = shared_masker().mask_text(&text, &|class| class == "aws-key");
    assert_eq!(masked, format!("{SAMPLE_KEY_ID} aws_secret_access_key=[masked: aws-secret]"));
    assert_eq!(shared_masker().mask_text(&text, &|_| true).0, text);
}

#[test]
fn checks_reveal_once_for_each_class_that_occurs() {
    let asked = std::cell::RefCell::new(Vec::new());
    let text = format!("{SAMPLE_KEY_ID} {SAMPLE_KEY_ID} {SAMPLE_KEY_ID}");
    shared_masker().mask_text(&text, &|class| {
        asked.borrow_mut().push(class.to_owned());
        false
    });
    assert_eq!(*asked.borrow(), ["aws-key"]);
}

#[test]
fn masks_a_marked_payload_whole_and_keeps_empty_bodies() {
    let service = sample_service();
    let plan = MaskingPlan::new(&service, None, Some(PAYLOAD_SHAPE), AwsProtocol::RestJson);
    let outcome =
        shared_masker().mask_body(b"anything", BodyFormat::Text, Some(&plan), &reveal_nothing).unwrap();
    assert!(matches!(outcome, MaskedBody::Changed { body, .. } if body == b"[masked: aws-sensitive]"));
    for content in [BodyFormat::Json, BodyFormat::Xml, BodyFormat::Cbor, BodyFormat::Text] {
        assert_eq!(
            shared_masker().mask_body(b"", content, Some(&plan), &reveal_nothing),
            Ok(MaskedBody::Unchanged)
        );
    }
}

#[test]
fn refuses_what_it_cannot_inspect() {
    let service = sample_service();
    let plan = MaskingPlan::new(&service, None, Some(99), AwsProtocol::Json11);
    let refused = shared_masker().mask_body(b"{}", BodyFormat::Json, Some(&plan), &reveal_nothing);
    assert_eq!(refused, Err(MaskError::UnknownShape { shape: 99 }));
    let refused = shared_masker().mask_body(b"ab\xff", BodyFormat::Text, None, &reveal_nothing);
    assert_eq!(refused, Err(MaskError::NotUtf8 { format: "text", offset: 2 }));
}

#[test]
fn masks_values_at_pointers_and_secrets_anywhere() {
    let mut value = json!({
        "Password": "hunter2", "Options": {"Port": 22, "Deep": ["x", true, null, ""]},
        "Note": format!("uses {SAMPLE_KEY_ID}"), SAMPLE_KEY_ID: 1,
        "environment": [{"name": "AWS_SECRET_ACCESS_KEY", "value": SAMPLE_SECRET_KEY}, {"name": "OTHER", "value": SAMPLE_SECRET_KEY}],
        "Credentials": {"SecretAccessKey": {"S": SAMPLE_SECRET_KEY}},
    });
    let pointers = ["/Password", "/Options", "/Absent/x"].map(str::to_owned);
    let counts = shared_masker().mask_value(&mut value, &pointers, &reveal_nothing);
    assert_eq!(
        value,
        json!({
            "Password": "[masked: aws-sensitive]",
            "Options": {"Port": 0, "Deep": ["[masked: aws-sensitive]", false, null, ""]},
            "Note": "uses [masked: aws-key]", "[masked: aws-key]": 1,
            "environment": [
                {"name": "AWS_SECRET_ACCESS_KEY", "value": "[masked: aws-secret]"},
                {"name": "OTHER", "value": SAMPLE_SECRET_KEY},
            ],
            "Credentials": {"SecretAccessKey": {"S": "[masked: aws-secret]"}},
        })
    );
    let count = |class| counts.iter().find(|one| one.data_class == class).map(|one| one.count);
    assert_eq!(count(DataClass::AWS_SENSITIVE), Some(4));
    assert_eq!(count(DataClass::AWS_KEY), Some(2));
    assert_eq!(count(DataClass::AWS_SECRET), Some(2));
}

#[test]
fn masks_marked_members_in_headers_and_secrets_in_any() {
    let service = sample_service();
    let plan = MaskingPlan::new(&service, None, Some(OUTPUT_SHAPE), AwsProtocol::RestJson);
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-secret", HeaderValue::from_static("s3cr3t"));
    headers.insert("x-amz-count", HeaderValue::from_static("17"));
    headers.insert("x-amz-meta-owner", HeaderValue::from_static("someone"));
    headers.insert("x-amz-request-id", HeaderValue::from_static("7a62c49f-347e-4fc4-9331-6e8eEXAMPLE"));
    headers.insert("x-other", HeaderValue::from_static("Bearer 0123456789abcdef01234"));
    headers.insert("etag", HeaderValue::from_bytes(b"\"caf\xe9\"").unwrap());
    let counts = shared_masker().mask_headers(&mut headers, Some(&plan), &reveal_nothing).unwrap();
    assert_eq!(headers["x-amz-secret"], "[masked: aws-sensitive]");
    assert_eq!(headers["x-amz-count"], "0");
    assert_eq!(headers["x-amz-meta-owner"], "[masked: aws-sensitive]");
    assert_eq!(headers["x-amz-request-id"], "7a62c49f-347e-4fc4-9331-6e8eEXAMPLE");
    assert_eq!(headers["x-other"], "Bearer [masked: token]");
    assert_eq!(headers["etag"], HeaderValue::from_bytes(b"\"caf\xe9\"").unwrap());
    assert_eq!(counts.iter().map(|one| one.count).sum::<u64>(), 4);
    assert!(shared_masker().mask_headers(&mut headers, Some(&plan), &|_| true).unwrap().is_empty());
}

#[test]
fn masking_twice_changes_nothing_more() {
    let body = format!(r#"{{"Plain":"{SAMPLE_KEY_ID}","x":"aws_secret_access_key={SAMPLE_SECRET_KEY}"}}"#);
    let once = mask_sample(body.as_bytes(), BodyFormat::Json, AwsProtocol::Json11);
    assert_eq!(
        shared_masker().mask_body(&once, BodyFormat::Json, None, &reveal_nothing),
        Ok(MaskedBody::Unchanged)
    );
}

/// The least processor time of three runs. Other processes that share the machine do not count, as they would in wall time.
fn best_time(run: impl Fn()) -> Duration {
    let once = || {
        let start = thread_time();
        run();
        thread_time().saturating_sub(start)
    };
    once().min(once()).min(once())
}

/// The processor time of this thread, where Linux tells it; elsewhere the time since the first call.
fn thread_time() -> Duration {
    static FIRST_CALL: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = statistics.split(' ').next().and_then(|field| field.parse().ok());
    nanoseconds.map_or_else(|| FIRST_CALL.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// Eight times the text takes eight times as long; quadratic work would take sixty-four times.
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
    let time = |text: &str| best_time(|| drop(shared_masker().mask_text(text, &reveal_nothing)));
    for piece in pieces {
        let small = time(&piece.repeat((128 << 10) / piece.len()));
        let large = time(&piece.repeat((1 << 20) / piece.len()));
        assert!(large < small * 24 + Duration::from_millis(100), "{piece:?}: {small:?} and {large:?}");
    }
}

/// Builds a body of some size.
type BodyBuilder<'a> = &'a dyn Fn(usize) -> Vec<u8>;

#[test]
fn takes_linear_time_on_adversarial_bodies() {
    let attributes = |n: usize| (0..n).map(|n| format!(" a{n}='&amp;'")).collect::<Vec<_>>().concat();
    let bodies: [(BodyFormat, BodyBuilder<'_>); 7] = [
        (BodyFormat::Json, &|n| format!("{{\"a\":\"{}\"}}", "\\u0041\\n".repeat(n)).into_bytes()),
        (BodyFormat::Json, &|n| {
            format!("[{}0]", format!("{{\"{SAMPLE_KEY_ID}\":\"{SAMPLE_KEY_ID}\"}},").repeat(n / 8))
                .into_bytes()
        }),
        (BodyFormat::Xml, &|n| format!("<r>{}</r>", "&amp;<!---->".repeat(n)).into_bytes()),
        (BodyFormat::Xml, &|n| format!("<r>{}</r>", "<![CDATA[a]]>".repeat(n)).into_bytes()),
        (BodyFormat::Xml, &|n| format!("<r{}/>", attributes(n)).into_bytes()),
        (BodyFormat::Xml, &|n| format!("<r>{}", "<!--".repeat(n)).into_bytes()),
        (BodyFormat::Cbor, &|n| [&b"\x7f"[..], &b"\x61a\x60".repeat(n), b"\xff"].concat()),
    ];
    for (content, body) in bodies {
        let time = |body: Vec<u8>| {
            best_time(|| drop(shared_masker().mask_body(&body, content, None, &reveal_nothing)))
        };
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
            (json!(format!("{before} {SAMPLE_KEY_ID}")), json!(format!("{before} [masked: aws-key]")))
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

fn apply_mutations(body: &[u8], changes: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut body = body.to_vec();
    for (index, byte) in changes {
        let at = index.index(body.len());
        body[at] = *byte;
    }
    body
}

/// A body that is not refused and that changed is accepted again by the same reader, and its changes are counted.
fn assert_masked_body_is_readable(body: &[u8], format: BodyFormat, plan: &MaskingPlan<'_>) {
    let mask = |body: &[u8]| shared_masker().mask_body(body, format, Some(plan), &reveal_nothing);
    if let Ok(MaskedBody::Changed { body, counts }) = mask(body) {
        assert!(!counts.is_empty() && counts.iter().all(|one| one.count > 0), "{counts:?}");
        assert!(mask(&body).is_ok(), "{}", String::from_utf8_lossy(&body));
    }
}

proptest! {
    #[test]
    fn masked_json_equals_the_body_outside_masked_values((value, expected) in value_and_masked(), pretty: bool) {
        let body = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        match shared_masker().mask_body(&body, BodyFormat::Json, None, &reveal_nothing).unwrap() {
            MaskedBody::Unchanged => prop_assert_eq!(value, expected),
            MaskedBody::Changed { body, .. } => {
                prop_assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_masked_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let service = sample_service();
        for protocol in [AwsProtocol::Query, AwsProtocol::RestXml, AwsProtocol::Json10, AwsProtocol::RpcV2Cbor] {
            let plan = MaskingPlan::new(&service, None, Some(OUTPUT_SHAPE), protocol);
            for content in [BodyFormat::Json, BodyFormat::Xml, BodyFormat::Cbor, BodyFormat::Text] {
                assert_masked_body_is_readable(&body, content, &plan);
            }
        }
    }

    #[test]
    fn accepts_the_json_that_serde_accepts_and_no_other(
        (value, _) in value_and_masked(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\"\\,:{}[]0-1e.+tu \x01a".to_vec())), 0..3),
    ) {
        let body = apply_mutations(&serde_json::to_vec(&value).unwrap(), &changes);
        let ours = shared_masker().mask_body(&body, BodyFormat::Json, None, &reveal_nothing);
        if serde_json::from_slice::<Value>(&body).is_ok() {
            prop_assert!(ours.is_ok());
        }
        if ours.is_ok() {
            prop_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&body).is_ok());
        }
    }

    #[test]
    fn mutated_xml_and_cbor_are_masked_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let xml = br#"<?xml version="1.0"?><R xmlns="x"><Secret>a&amp;b<![CDATA[c]]><!-- d --></Secret><Env><entry><key>k</key><value>v</value></entry></Env></R>"#;
        let cbor = b"\xbf\x66Secret\x7f\x61a\x61b\xff\x65Items\x81\xa1\x62pw\x63abc\x64When\xc1\x1a\x00\x00\x00\x01\xff";
        let service = sample_service();
        let plan = MaskingPlan::new(&service, None, Some(OUTPUT_SHAPE), AwsProtocol::RestXml);
        assert_masked_body_is_readable(&apply_mutations(xml, &changes), BodyFormat::Xml, &plan);
        assert_masked_body_is_readable(&apply_mutations(cbor, &changes), BodyFormat::Cbor, &plan);
    }
}
