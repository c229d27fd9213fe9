use super::*;
use crate::tests::{
    SAMPLE_KEY_ID, SAMPLE_SECRET_KEY, mask_sample, reveal_nothing, shared_masker, spell_bytes,
};
use crate::{BodyFormat, MaskedBody};

fn mask_xml_text(body: &str, protocol: AwsProtocol) -> String {
    String::from_utf8(mask_sample(body.as_bytes(), BodyFormat::Xml, protocol)).unwrap()
}

fn mask_without_plan(body: &str) -> String {
    match shared_masker().mask_body(body.as_bytes(), BodyFormat::Xml, None, &reveal_nothing).unwrap() {
        MaskedBody::Unchanged => body.to_owned(),
        MaskedBody::Changed { body, .. } => String::from_utf8(body).unwrap(),
    }
}

fn xml_error(body: &str) -> MaskError {
    shared_masker().mask_body(body.as_bytes(), BodyFormat::Xml, None, &reveal_nothing).unwrap_err()
}

const SAMPLE_MEMBERS: &str = "<Secret>s</Secret> <Plain>p &amp; q</Plain>\n<Items><member><pw>a</pw><Name>n</Name></member>\
    <member><Name>m</Name></member></Items><flat>f</flat><flat>g</flat><Number>7</Number><Flag>true</Flag>\
    <When>2026-11-21T00:00:00Z</When><SecretBinary>AQID</SecretBinary>";
const SAMPLE_MEMBERS_MASKED: &str = "<Secret>[masked: aws-sensitive]</Secret> <Plain>p &amp; q</Plain>\n<Items><member>\
    <pw>[masked: aws-sensitive]</pw><Name>n</Name></member><member><Name>m</Name></member></Items>\
    <flat>[masked: aws-sensitive]</flat><flat>[masked: aws-sensitive]</flat><Number>0</Number><Flag>false</Flag>\
    <When>2026-11-21T00:00:00Z</When><SecretBinary>W21hc2tlZDogYXdzLXNlbnNpdGl2ZV0=</SecretBinary>";

#[test]
fn masks_marked_members_of_each_protocol() {
    let query = |inner: &str| {
        format!(
            "<GetResponse xmlns=\"https://x/\"><GetResult>{inner}</GetResult><ResponseMetadata><RequestId>r</RequestId>\
             </ResponseMetadata></GetResponse>"
        )
    };
    assert_eq!(mask_xml_text(&query(SAMPLE_MEMBERS), AwsProtocol::Query), query(SAMPLE_MEMBERS_MASKED));
    let ec2 = |inner: &str| format!("<GetResponse><requestId>r</requestId>{inner}</GetResponse>");
    assert_eq!(mask_xml_text(&ec2(SAMPLE_MEMBERS), AwsProtocol::Ec2), ec2(SAMPLE_MEMBERS_MASKED));
    let rest = |inner: &str| format!("\u{feff}<?xml version='1.0' encoding='UTF-8'?>\n<Get>{inner}</Get>\n");
    assert_eq!(mask_xml_text(&rest(SAMPLE_MEMBERS), AwsProtocol::RestXml), rest(SAMPLE_MEMBERS_MASKED));
}

#[test]
fn masks_map_values_wrapped_and_flattened() {
    let map = |value: &str| {
        format!(
            "<R><Env><entry><key>A</key><value>{value}</value></entry></Env>\
             <FlatMap><key>B</key><value>{value}</value></FlatMap></R>"
        )
    };
    assert_eq!(mask_xml_text(&map("v"), AwsProtocol::RestXml), map("[masked: aws-sensitive]"));
    assert_eq!(
        mask_xml_text(
            "<R><ByName><entry><key>alice</key><value>1</value></entry></ByName></R>",
            AwsProtocol::RestXml
        ),
        "<R><ByName><entry><key>[masked: aws-sensitive]</key><value>1</value></entry></ByName></R>"
    );
}

#[test]
fn masks_marked_attributes_and_keeps_types() {
    assert_eq!(
        mask_xml_text(
            "<R><Grantee xmlns:xsi='http://x' xsi:type='Canonical&quot;User'  hint='a'><ID>1</ID></Grantee><Grantee hint=\"b\" /></R>",
            AwsProtocol::RestXml
        ),
        "<R><Grantee xmlns:xsi=\"http://x\" xsi:type=\"Canonical&quot;User\" hint=\"[masked: aws-sensitive]\"><ID>1</ID></Grantee>\
         <Grantee hint=\"[masked: aws-sensitive]\"/></R>"
    );
}

#[test]
fn masks_everything_below_a_marked_structure() {
    assert_eq!(
        mask_xml_text(
            "<R><Nested>\n <Name>n</Name>\n <Tags><entry><key>k</key><value>v</value></entry></Tags><New><X>1</X></New></Nested></R>",
            AwsProtocol::RestXml
        ),
        "<R><Nested>\n <Name>[masked: aws-sensitive]</Name>\n <Tags><entry><key>k</key><value>[masked: aws-sensitive]</value></entry></Tags><New><X>[masked: aws-sensitive]</X></New></Nested></R>"
    );
}

#[test]
fn finds_secrets_however_they_are_written() {
    let (head, tail) = SAMPLE_KEY_ID.split_at(6);
    for content in [
        SAMPLE_KEY_ID.to_owned(),
        format!("&#x41;{}", &SAMPLE_KEY_ID[1..]),
        format!("{head}<![CDATA[{tail}]]>"),
        format!("<![CDATA[{SAMPLE_KEY_ID}]]>"),
        format!("{head}<!-- x -->{tail}"),
        format!("{head}<?x y?>{tail}"),
        spell_bytes(SAMPLE_KEY_ID, |b| format!("&#{b};")),
    ] {
        assert_eq!(
            mask_without_plan(&format!("<R><A>{content}</A></R>")),
            "<R><A>[masked: aws-key]</A></R>",
            "{content}"
        );
    }
    assert_eq!(
        mask_without_plan(&format!("<R><A>a &lt; {SAMPLE_KEY_ID} &amp;<B/> c&#13;{SAMPLE_KEY_ID}</A></R>")),
        "<R><A>a &lt; [masked: aws-key] &amp;<B/> c&#13;[masked: aws-key]</A></R>"
    );
    assert_eq!(
        mask_without_plan(&format!("<R a='x' b='&#65;{}'/>", &SAMPLE_KEY_ID[1..])),
        "<R a=\"x\" b=\"[masked: aws-key]\"/>"
    );
}

#[test]
fn drops_comments_and_instructions_that_hold_secrets() {
    assert_eq!(
        mask_without_plan(&format!(
            "<!-- {SAMPLE_KEY_ID} --><R><A>x<!--{SAMPLE_KEY_ID}-->y&amp;</A><!-- fine --></R>"
        )),
        "<R><A>xy&amp;</A><!-- fine --></R>"
    );
    assert_eq!(mask_without_plan(&format!("<R><?p {SAMPLE_KEY_ID}?></R>")), "<R></R>");
}

#[test]
fn knows_secret_keys_by_the_names_beside_them() {
    for (before, after) in [
        ("<SecretAccessKey>", "</SecretAccessKey>"),
        ("<E><key>SecretAccessKey</key><value>", "</value></E>"),
        ("<E><Name>AWS_SECRET_ACCESS_KEY</Name><Value>", "</Value></E>"),
    ] {
        let body = format!("<R>{before}{SAMPLE_SECRET_KEY}{after}</R>");
        assert_eq!(mask_without_plan(&body), body.replace(SAMPLE_SECRET_KEY, "[masked: aws-secret]"));
    }
}

#[test]
fn leaves_key_ids_where_the_model_has_them() {
    let body = format!("<R><AccessKeyId>{SAMPLE_KEY_ID}</AccessKeyId><Plain>{SAMPLE_KEY_ID}</Plain></R>");
    let expected =
        format!("<R><AccessKeyId>{SAMPLE_KEY_ID}</AccessKeyId><Plain>[masked: aws-key]</Plain></R>");
    assert_eq!(mask_xml_text(&body, AwsProtocol::RestXml), expected);
}

#[test]
fn refuses_document_types_and_broken_documents() {
    let bomb = "<!DOCTYPE r [<!ENTITY a \"AKIA\">]><r>&a;</r>";
    assert!(matches!(xml_error(bomb), MaskError::DocumentType { .. }));
    for body in [
        "<r>",
        "<r></s>",
        "</r>",
        "<r/><r/>",
        "text",
        "<r/>text",
        "<r>&a;</r>",
        "<r>&</r>",
        "<r a='1' a='2'/>",
        "<r a=1/>",
        "<r a/>",
        "<r>&#xD800;</r>",
        "<r><!-- -- --></r>",
        "<r",
        "<r a='&b;'/>",
        " ",
        "<?xml version='1.0' encoding='utf-16'?><r/>",
        "<r><![CDATA[x</r>",
    ] {
        assert!(matches!(xml_error(body), MaskError::Malformed { format: "XML", .. }), "{body}");
    }
    let nested = |depth| ["<a>".repeat(depth), "</a>".repeat(depth)].concat();
    assert!(
        shared_masker()
            .mask_body(nested(MAX_NESTING_DEPTH).as_bytes(), BodyFormat::Xml, None, &reveal_nothing)
            .is_ok()
    );
    assert!(matches!(xml_error(&nested(MAX_NESTING_DEPTH + 1)), MaskError::TooDeep { .. }));
}

/// A message of SQS in the query protocol, which SDKs from before the end of 2023 speak.
#[test]
fn computes_the_digests_of_masked_messages_again() {
    let attribute = |name: &str, value: &str| MessageAttribute {
        name: name.to_owned(),
        data_type: "String".to_owned(),
        string_value: value.to_owned(),
        ..MessageAttribute::default()
    };
    let message = |id: &str, other: &str, digest: &str| {
        let attributes = digest_of_attributes(vec![attribute("k", id), attribute("j & k", other)]);
        format!(
            "<R><Message><MD5OfBody>{digest}</MD5OfBody><Body>a &amp; {id}</Body>\n<MD5OfMessageAttributes>{attributes}</MD5OfMessageAttributes>\
             <MessageAttribute><Name>k</Name><Value><StringValue>{id}</StringValue><DataType>String</DataType></Value></MessageAttribute>\
             <MessageAttribute><Name>j &amp; k</Name><Value><StringValue>{other}</StringValue><DataType>String</DataType></Value></MessageAttribute>\
             </Message><Message><MD5OfBody>900150983cd24fb0d6963f7d28e17f72</MD5OfBody><Body>abc</Body></Message></R>"
        )
    };
    // Python: hashlib.md5(b"a & AKIAIOSFODNN7EXAMPLE"), hashlib.md5(b"a & [masked: aws-key]")
    let (original, masked) = ("20618805de7b446f7555ea4c1ba3637f", "a0e29de645e89bfbda5544e8990ca5b6");
    assert_eq!(
        mask_without_plan(&message(SAMPLE_KEY_ID, "o", original)),
        message("[masked: aws-key]", "o", masked)
    );
}

#[test]
fn searches_binary_members_decoded_only() {
    let looks_alike = format!("AAAAIQoJ{}", "QUJD".repeat(40));
    let body = format!("<R><Blob>{looks_alike}</Blob></R>");
    assert_eq!(mask_xml_text(&body, AwsProtocol::RestXml), body);
    // `id AKIAIOSFODNN7EXAMPLE`, on two lines
    let body = "<R><Blob>aWQgQUtJQUlPU0ZP\nRE5ON0VYQU1QTEU=</Blob></R>";
    let masked = "<R><Blob>aWQgW21hc2tlZDogYXdzLWtleV0=</Blob></R>";
    assert_eq!(mask_xml_text(body, AwsProtocol::RestXml), masked);
}
