use super::*;
use crate::tests::{KEY_ID, SECRET, masked, masker, nothing, spelled};
use crate::{Content, Masked};

fn text(body: &str, protocol: Protocol) -> String {
    String::from_utf8(masked(body.as_bytes(), Content::Xml, protocol)).unwrap()
}

fn free(body: &str) -> String {
    match masker().mask_answer(body.as_bytes(), Content::Xml, None, &nothing).unwrap() {
        Masked::Unchanged => body.to_owned(),
        Masked::Changed { body, .. } => String::from_utf8(body).unwrap(),
    }
}

fn refused(body: &str) -> MaskError {
    masker().mask_answer(body.as_bytes(), Content::Xml, None, &nothing).unwrap_err()
}

const INNER: &str = "<Secret>s</Secret> <Plain>p &amp; q</Plain>\n<Items><member><pw>a</pw><Name>n</Name></member>\
    <member><Name>m</Name></member></Items><flat>f</flat><flat>g</flat><Number>7</Number><Flag>true</Flag>\
    <When>2026-11-21T00:00:00Z</When><SecretBinary>AQID</SecretBinary>";
const INNER_MASKED: &str = "<Secret>[masked: aws-sensitive]</Secret> <Plain>p &amp; q</Plain>\n<Items><member>\
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
    assert_eq!(text(&query(INNER), Protocol::Query), query(INNER_MASKED));
    let ec2 = |inner: &str| format!("<GetResponse><requestId>r</requestId>{inner}</GetResponse>");
    assert_eq!(text(&ec2(INNER), Protocol::Ec2), ec2(INNER_MASKED));
    let rest = |inner: &str| format!("\u{feff}<?xml version='1.0' encoding='UTF-8'?>\n<Get>{inner}</Get>\n");
    assert_eq!(text(&rest(INNER), Protocol::RestXml), rest(INNER_MASKED));
}

#[test]
fn masks_map_values_wrapped_and_flattened() {
    let map = |value: &str| {
        format!(
            "<R><Env><entry><key>A</key><value>{value}</value></entry></Env>\
             <FlatMap><key>B</key><value>{value}</value></FlatMap></R>"
        )
    };
    assert_eq!(text(&map("v"), Protocol::RestXml), map("[masked: aws-sensitive]"));
    assert_eq!(
        text("<R><ByName><entry><key>alice</key><value>1</value></entry></ByName></R>", Protocol::RestXml),
        "<R><ByName><entry><key>[masked: aws-sensitive]</key><value>1</value></entry></ByName></R>"
    );
}

#[test]
fn masks_marked_attributes_and_keeps_types() {
    assert_eq!(
        text(
            "<R><Grantee xmlns:xsi='http://x' xsi:type='Canonical&quot;User'  hint='a'><ID>1</ID></Grantee><Grantee hint=\"b\" /></R>",
            Protocol::RestXml
        ),
        "<R><Grantee xmlns:xsi=\"http://x\" xsi:type=\"Canonical&quot;User\" hint=\"[masked: aws-sensitive]\"><ID>1</ID></Grantee>\
         <Grantee hint=\"[masked: aws-sensitive]\"/></R>"
    );
}

#[test]
fn masks_everything_below_a_marked_structure() {
    assert_eq!(
        text(
            "<R><Nested>\n <Name>n</Name>\n <Tags><entry><key>k</key><value>v</value></entry></Tags><New><X>1</X></New></Nested></R>",
            Protocol::RestXml
        ),
        "<R><Nested>\n <Name>[masked: aws-sensitive]</Name>\n <Tags><entry><key>k</key><value>[masked: aws-sensitive]</value></entry></Tags><New><X>[masked: aws-sensitive]</X></New></Nested></R>"
    );
}

#[test]
fn finds_secrets_however_they_are_written() {
    let (head, tail) = KEY_ID.split_at(6);
    for content in [
        KEY_ID.to_owned(),
        format!("&#x41;{}", &KEY_ID[1..]),
        format!("{head}<![CDATA[{tail}]]>"),
        format!("<![CDATA[{KEY_ID}]]>"),
        format!("{head}<!-- x -->{tail}"),
        format!("{head}<?x y?>{tail}"),
        spelled(KEY_ID, |b| format!("&#{b};")),
    ] {
        assert_eq!(free(&format!("<R><A>{content}</A></R>")), "<R><A>[masked: aws-key]</A></R>", "{content}");
    }
    assert_eq!(
        free(&format!("<R><A>a &lt; {KEY_ID} &amp;<B/> c&#13;{KEY_ID}</A></R>")),
        "<R><A>a &lt; [masked: aws-key] &amp;<B/> c&#13;[masked: aws-key]</A></R>"
    );
    assert_eq!(
        free(&format!("<R a='x' b='&#65;{}'/>", &KEY_ID[1..])),
        "<R a=\"x\" b=\"[masked: aws-key]\"/>"
    );
}

#[test]
fn drops_comments_and_instructions_that_hold_secrets() {
    assert_eq!(
        free(&format!("<!-- {KEY_ID} --><R><A>x<!--{KEY_ID}-->y&amp;</A><!-- fine --></R>")),
        "<R><A>xy&amp;</A><!-- fine --></R>"
    );
    assert_eq!(free(&format!("<R><?p {KEY_ID}?></R>")), "<R></R>");
}

#[test]
fn knows_secret_keys_by_the_names_beside_them() {
    for (before, after) in [
        ("<SecretAccessKey>", "</SecretAccessKey>"),
        ("<E><key>SecretAccessKey</key><value>", "</value></E>"),
        ("<E><Name>AWS_SECRET_ACCESS_KEY</Name><Value>", "</Value></E>"),
    ] {
        let body = format!("<R>{before}{SECRET}{after}</R>");
        assert_eq!(free(&body), body.replace(SECRET, "[masked: aws-secret]"));
    }
}

#[test]
fn leaves_key_ids_where_the_model_has_them() {
    let body = format!("<R><AccessKeyId>{KEY_ID}</AccessKeyId><Plain>{KEY_ID}</Plain></R>");
    let expected = format!("<R><AccessKeyId>{KEY_ID}</AccessKeyId><Plain>[masked: aws-key]</Plain></R>");
    assert_eq!(text(&body, Protocol::RestXml), expected);
}

#[test]
fn refuses_document_types_and_broken_documents() {
    let bomb = "<!DOCTYPE r [<!ENTITY a \"AKIA\">]><r>&a;</r>";
    assert!(matches!(refused(bomb), MaskError::DocumentType { .. }));
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
        assert!(matches!(refused(body), MaskError::Malformed { format: "XML", .. }), "{body}");
    }
    let nested = |depth| ["<a>".repeat(depth), "</a>".repeat(depth)].concat();
    assert!(masker().mask_answer(nested(DEPTH).as_bytes(), Content::Xml, None, &nothing).is_ok());
    assert!(matches!(refused(&nested(DEPTH + 1)), MaskError::TooDeep { .. }));
}
