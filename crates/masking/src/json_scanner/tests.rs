use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use durward_catalog::service_model::AwsProtocol;

use super::*;
use crate::tests::{
    SAMPLE_KEY_ID, SAMPLE_SECRET_KEY, mask_sample, reveal_nothing, shared_masker, spell_bytes,
};
use crate::{BodyFormat, MaskedBody};

fn mask_json_text(body: &str) -> String {
    String::from_utf8(mask_sample(body.as_bytes(), BodyFormat::Json, AwsProtocol::Json11)).unwrap()
}

fn json_error(body: impl AsRef<[u8]>) -> MaskError {
    shared_masker().mask_body(body.as_ref(), BodyFormat::Json, None, &reveal_nothing).unwrap_err()
}

#[test]
fn masks_marked_members_and_keeps_every_other_byte() {
    assert_eq!(
        mask_json_text(
            r#" { "Plain" : "a\/b" ,"Secret":"x\"y" , "Other":1.50e+3, "Env":{"A":"1","B":""} } "#
        ),
        r#" { "Plain" : "a\/b" ,"Secret":"[masked: aws-sensitive]" , "Other":1.50e+3, "Env":{"A":"[masked: aws-sensitive]","B":""} } "#
    );
    assert_eq!(
        mask_json_text(
            r#"{"Items":[{"pw":"a","Name":"n"},{"Name":"m","Password":"b"}],"Flats":["a"],"flat":["b"]}"#
        ),
        r#"{"Items":[{"pw":"[masked: aws-sensitive]","Name":"n"},{"Name":"m","Password":"[masked: aws-sensitive]"}],"Flats":["[masked: aws-sensitive]"],"flat":["[masked: aws-sensitive]"]}"#
    );
}

#[test]
fn keeps_the_type_of_what_it_masks() {
    assert_eq!(
        mask_json_text(r#"{"SecretBinary":"AQID","Number":7,"Flag":true,"When":1.5,"Secret":null}"#),
        r#"{"SecretBinary":"W21hc2tlZDogYXdzLXNlbnNpdGl2ZV0=","Number":0,"Flag":false,"When":1.5,"Secret":null}"#
    );
    assert_eq!(
        mask_json_text(
            r#"{"Nested":{"Name":"n","Count":3,"On":true,"Data":"AQID","At":9,"Tags":{"k":"v"},"Unknown":["u",2]}}"#
        ),
        r#"{"Nested":{"Name":"[masked: aws-sensitive]","Count":0,"On":false,"Data":"W21hc2tlZDogYXdzLXNlbnNpdGl2ZV0=","At":9,"Tags":{"k":"[masked: aws-sensitive]"},"Unknown":["[masked: aws-sensitive]",0]}}"#
    );
    assert_eq!(mask_json_text(r#"{"Number":"NaN","Flag":"true"}"#), r#"{"Number":0,"Flag":false}"#);
}

#[test]
fn follows_recursive_shapes_and_escaped_names() {
    assert_eq!(
        mask_json_text(r#"{"Self":{"Self":{"\u0053ecret":"x"}}}"#),
        r#"{"Self":{"Self":{"\u0053ecret":"[masked: aws-sensitive]"}}}"#
    );
}

#[test]
fn keeps_masked_map_keys_apart() {
    assert_eq!(
        mask_json_text(r#"{"ByName":{"alice":"1","bob":"2"}}"#),
        r#"{"ByName":{"[masked: aws-sensitive]":"1","[masked: aws-sensitive] 2":"2"}}"#
    );
}

#[test]
fn masks_secrets_inside_revealed_members() {
    let body = format!(r#"{{"Secret":"db {SAMPLE_KEY_ID}","Number":7}}"#);
    let service = crate::tests::sample_service();
    let plan = MaskingPlan::new(&service, None, Some(0), AwsProtocol::Json11);
    let outcome = shared_masker()
        .mask_body(body.as_bytes(), BodyFormat::Json, Some(&plan), &|class| class == "aws-sensitive");
    let Ok(MaskedBody::Changed { body, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(String::from_utf8(body).unwrap(), r#"{"Secret":"db [masked: aws-key]","Number":7}"#);
}

#[test]
fn leaves_key_ids_where_the_model_has_them() {
    let body = format!(r#"{{"AccessKeyId":"{SAMPLE_KEY_ID}","Plain":"x {SAMPLE_KEY_ID}"}}"#);
    assert_eq!(
        mask_json_text(&body),
        format!(r#"{{"AccessKeyId":"{SAMPLE_KEY_ID}","Plain":"x [masked: aws-key]"}}"#)
    );
}

#[test]
fn knows_secret_keys_by_the_names_beside_them() {
    for body in [
        format!(r#"{{"SecretAccessKey":"{SAMPLE_SECRET_KEY}"}}"#),
        format!(r#"{{"secret_access_key":{{"S":"{SAMPLE_SECRET_KEY}"}}}}"#),
        format!(r#"{{"aws.secretKey":["{SAMPLE_SECRET_KEY}"]}}"#),
        format!(r#"[{{"Name":"AWS_SECRET_ACCESS_KEY","Value":"{SAMPLE_SECRET_KEY}"}}]"#),
        format!(r#"[{{"ParameterKey":"SecretAccessKey","ParameterValue":"{SAMPLE_SECRET_KEY}"}}]"#),
        format!(r#"{{"SessionToken":"{}"}}"#, "aB3/".repeat(60)),
    ] {
        let masked = mask_json_text(&body);
        assert!(masked.contains("[masked: aws-secret]") && !masked.contains(SAMPLE_SECRET_KEY), "{masked}");
    }
    let other = format!(r#"{{"Digest":"{SAMPLE_SECRET_KEY}","SecretKey":"short","SessionToken":"page-2"}}"#);
    assert_eq!(mask_json_text(&other), other);
}

#[test]
fn finds_secrets_behind_encodings() {
    let escaped = spell_bytes(SAMPLE_KEY_ID, |b| format!("\\u{b:04X}"));
    let percent = spell_bytes(SAMPLE_KEY_ID, |b| format!("%{b:02x}"));
    let config = format!("[default]\naws_secret_access_key = {SAMPLE_SECRET_KEY}\n");
    let wrapped = STANDARD.encode(format!("{} {SAMPLE_KEY_ID} {0}", "filler ".repeat(9)));
    let wrapped = wrapped
        .as_bytes()
        .chunks(16)
        .map(|line| str::from_utf8(line).unwrap())
        .collect::<Vec<_>>()
        .join("\\r\\n");
    for content in [
        escaped.clone(),
        format!("AKIA\\u0049{}", &SAMPLE_KEY_ID[5..]),
        percent.clone(),
        escaped.replace('\\', r"\\"),
        escaped.replace('\\', r"\\\\"),
        percent.replace('%', "%25"),
        percent.replace('%', r"\u0025"),
        STANDARD.encode(SAMPLE_KEY_ID),
        STANDARD.encode(STANDARD.encode(format!("{{\"k\":\"{escaped}\"}}"))),
        URL_SAFE_NO_PAD.encode(format!("??>>~~{SAMPLE_KEY_ID}")),
        STANDARD.encode(&config),
        STANDARD.encode(format!(r#"{{"SecretAccessKey":"{SAMPLE_SECRET_KEY}"}}"#)),
        format!("data:text/plain;base64,{} rest", STANDARD.encode(SAMPLE_KEY_ID)),
        format!(r#"{{\"aws_secret_access_key\": \"{SAMPLE_SECRET_KEY}\"}}"#),
        format!(r#"{{\"k\":\"{{\\\"SecretAccessKey\\\":\\\"{SAMPLE_SECRET_KEY}\\\"}}\"}}"#),
        wrapped,
    ] {
        let body = format!(r#"{{"Plain":"{content}"}}"#);
        let masked = mask_json_text(&body);
        assert_ne!(masked, body);
        assert_eq!(mask_json_text(&masked), masked, "{body} still holds it");
        assert!(!masked.contains(SAMPLE_KEY_ID) && !masked.contains(SAMPLE_SECRET_KEY), "{masked}");
        assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{masked}");
    }
}

#[test]
fn writes_the_mask_in_the_encoding_of_the_secret() {
    let filler = "filler ".repeat(9);
    let lines = |text: &str| {
        let lines: Vec<_> = text.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
        lines.join("\\n")
    };
    let percent = |text: &str| spell_bytes(text, |b| format!("%{b:02X}"));
    for (content, expected) in [
        (STANDARD.encode(SAMPLE_KEY_ID), STANDARD.encode("[masked: aws-key]")),
        (
            format!("data:;base64,{} rest", STANDARD.encode(format!("{filler} {SAMPLE_KEY_ID}"))),
            format!("data:;base64,{} rest", STANDARD.encode(format!("{filler} [masked: aws-key]"))),
        ),
        (
            URL_SAFE_NO_PAD.encode(format!("??>>~~{SAMPLE_KEY_ID}")),
            URL_SAFE_NO_PAD.encode("??>>~~[masked: aws-key]"),
        ),
        (
            STANDARD.encode(STANDARD.encode(format!(r#"{{"k":"{SAMPLE_KEY_ID}"}}"#))),
            STANDARD.encode(STANDARD.encode(r#"{"k":"[masked: aws-key]"}"#)),
        ),
        (
            lines(&STANDARD.encode(format!("{filler}{SAMPLE_KEY_ID} {filler}"))),
            lines(&STANDARD.encode(format!("{filler}[masked: aws-key] {filler}"))),
        ),
        // A document in a string, with the secret spelled in escapes of the document.
        (
            r#"{\"id\":\"\\u0041KIAIOSFODNN7EXAMPLE\",\"n\":[1,\"a\\nb\"]}"#.to_owned(),
            r#"{\"id\":\"[masked: aws-key]\",\"n\":[1,\"a\\nb\"]}"#.to_owned(),
        ),
        (
            format!("https://x.example/?key={}&n=1%202", percent(SAMPLE_KEY_ID)),
            "https://x.example/?key=%5Bmasked%3A%20aws-key%5D&n=1%202".to_owned(),
        ),
    ] {
        let masked = mask_json_text(&format!(r#"{{"Plain":"{content}"}}"#));
        assert_eq!(masked, format!(r#"{{"Plain":"{expected}"}}"#), "{content}");
    }
}

#[test]
fn searches_binary_members_decoded_only() {
    // Four letters in the middle of base64 are no session token, and an id is one only if the bytes hold it.
    let token_in_base64 = format!("AAAA{}", "IQoJ".to_owned() + &"QUJD".repeat(40));
    for untouched in [token_in_base64.clone(), format!("{}=", &token_in_base64[..163])] {
        let body = format!(r#"{{"Blob":"{untouched}","Plain":"{untouched}","b":["{untouched}"]}}"#);
        assert_eq!(mask_json_text(&body), body);
    }
    let blob = |content: &[u8]| format!(r#"{{"Blob":"{}"}}"#, STANDARD.encode(content));
    let text = format!(r#"{{"id":"{SAMPLE_KEY_ID}"}}"#);
    assert_eq!(mask_json_text(&blob(text.as_bytes())), blob(br#"{"id":"[masked: aws-key]"}"#));
    let archive = [b"\xff\0\x01", SAMPLE_KEY_ID.as_bytes(), b"\0\xfe"].concat();
    let masked = [&b"\xff\0\x01"[..], b"[masked: aws-key]***", b"\0\xfe"].concat();
    assert_eq!(mask_json_text(&blob(&archive)), blob(&masked));
    // A secret key is base64 itself.
    let body = format!(r#"{{"SecretAccessKey":{{"Blob":"{SAMPLE_SECRET_KEY}"}}}}"#);
    assert!(!mask_json_text(&body).contains(SAMPLE_SECRET_KEY));
}

#[test]
fn keeps_what_the_caller_sends_back() {
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJuIjoxfQ.c2lnbmF0dXJlLWhlcmU";
    let body = format!(r#"{{"NextToken":"{jwt}","nextMarker":"{jwt}"}}"#);
    assert_eq!(
        mask_json_text(&body),
        format!(r#"{{"NextToken":"{jwt}","nextMarker":"[masked: token]"}}"#),
        "the model has a NextToken and no nextMarker"
    );
}

#[test]
fn keeps_what_is_left_of_a_scan_or_batch() {
    let dynamodb = durward_catalog::Catalog::embedded().service("dynamodb").unwrap();
    let mask = |operation: &str, body: &str| {
        let operation = dynamodb.operation(operation).unwrap();
        let plan =
            MaskingPlan::new(&dynamodb, operation.input_shape, operation.output_shape, AwsProtocol::Json10);
        match shared_masker()
            .mask_body(body.as_bytes(), BodyFormat::Json, Some(&plan), &reveal_nothing)
            .unwrap()
        {
            MaskedBody::Unchanged => body.to_owned(),
            MaskedBody::Changed { body, .. } => String::from_utf8(body).unwrap(),
        }
    };
    let scan = |item: &str| {
        format!(
            r#"{{"Items":[{{"id":{{"S":"{item}"}}}}],"LastEvaluatedKey":{{"id":{{"S":"{SAMPLE_KEY_ID}"}}}}}}"#
        )
    };
    assert_eq!(mask("Scan", &scan(SAMPLE_KEY_ID)), scan("[masked: aws-key]"));
    let batch = format!(
        r#"{{"UnprocessedItems":{{"t":[{{"PutRequest":{{"Item":{{"id":{{"S":"{SAMPLE_KEY_ID}"}}}}}}}}]}}}}"#
    );
    assert_eq!(mask("BatchWriteItem", &batch), batch);
}

#[test]
fn computes_what_is_derived_again() {
    let text = format!("rotated to {SAMPLE_KEY_ID}");
    let masked = "rotated to [masked: aws-key]";
    let hex = |algorithm, text: &str| {
        durward_core::encode_hex(aws_lc_rs::digest::digest(algorithm, text.as_bytes()).as_ref())
    };
    let sha256 = |text: &str| hex(&aws_lc_rs::digest::SHA256, text);
    let body = |text: &str, digest: &str, size: usize| {
        format!(
            r#"{{"ContentSha256":"{digest}","Body":"{text}","bodySize":{size},"other":"{}"}}"#,
            sha256("other")
        )
    };
    assert_eq!(
        mask_json_text(&body(&text, &sha256(&text), text.len())),
        body(masked, &sha256(masked), masked.len())
    );
    let message = |id: &str, digest: &str| {
        format!(
            r#"{{"m":[{{"MD5OfMessageAttributes":"{digest}","MessageAttributes":{{"k":{{"DataType":"String","StringValue":"{id}"}}}}}}]}}"#
        )
    };
    let digest = |value: &str| {
        digest_of_attributes(vec![MessageAttribute {
            name: "k".into(),
            data_type: "String".into(),
            string_value: value.into(),
            ..MessageAttribute::default()
        }])
    };
    assert_eq!(
        mask_json_text(&message(SAMPLE_KEY_ID, &digest(SAMPLE_KEY_ID))),
        message("[masked: aws-key]", &digest("[masked: aws-key]"))
    );
}

#[test]
fn keeps_embedded_documents_readable_around_a_secret() {
    let body =
        format!(r#"{{"Plain":"{{\"user\":\"a\\tb\",\"aws_secret_access_key\":\"{SAMPLE_SECRET_KEY}\"}}"}}"#);
    assert_eq!(mask_json_text(&body), body.replace(SAMPLE_SECRET_KEY, "[masked: aws-secret]"));
}

#[test]
fn masks_secrets_in_names() {
    let body = format!(r#"{{"x {SAMPLE_KEY_ID}":{{"{SAMPLE_KEY_ID}":1}}}}"#);
    assert_eq!(mask_json_text(&body), r#"{"x [masked: aws-key]":{"[masked: aws-key] 2":1}}"#);
}

#[test]
fn masks_payloads_that_are_the_body() {
    let service = crate::tests::sample_service();
    let plan = MaskingPlan::new(&service, None, Some(crate::tests::PAYLOAD_SHAPE), AwsProtocol::RestJson);
    let outcome = shared_masker()
        .mask_body(br#"{"a":[1,"x"]}"#, BodyFormat::Json, Some(&plan), &reveal_nothing)
        .unwrap();
    let MaskedBody::Changed { body, .. } = outcome else { panic!("unchanged") };
    assert_eq!(body, br#"{"a":[0,"[masked: aws-sensitive]"]}"#);
}

#[test]
fn refuses_what_the_grammar_does_not_allow() {
    for body in [
        " ",
        "{",
        "[",
        "{}x",
        "{} {}",
        "{a:1}",
        "{'a':1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "[1,]",
        "[1 2]",
        "01",
        "+1",
        "1.",
        ".5",
        "1e",
        "-",
        "1e+",
        "0x1",
        "NaN",
        "tru",
        "True",
        "nul",
        "\"a",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u12",
        "\"a\nb\"",
        "\"\u{1}\"",
        "\u{feff}{}",
        "// c\n{}",
        "{\"a\":1}\u{0}",
        "\"\\",
        "]",
        "[}",
    ] {
        assert!(matches!(json_error(body), MaskError::Malformed { format: "JSON", .. }), "{body:?}");
    }
    assert_eq!(json_error(b"\"\xff\""), MaskError::NotUtf8 { format: "JSON", offset: 1 });
}

#[test]
fn refuses_deep_nesting_and_reads_what_is_as_deep_as_allowed() {
    let nested = |depth| ["[".repeat(depth), "]".repeat(depth)].concat();
    assert!(
        shared_masker()
            .mask_body(nested(MAX_NESTING_DEPTH).as_bytes(), BodyFormat::Json, None, &reveal_nothing)
            .is_ok()
    );
    assert!(matches!(json_error(nested(MAX_NESTING_DEPTH + 1)), MaskError::TooDeep { .. }));
    assert!(matches!(json_error("{\"a\":".repeat(1 << 18)), MaskError::TooDeep { .. }));
}

#[test]
fn reads_surrogates_and_every_escape() {
    assert_eq!(
        unescape_string(br#"\ud83d\ude00 \ud800 \udc00x \"\\\/\b\f\n\r\t \u00e9"#),
        "😀 \u{fffd} \u{fffd}x \"\\/\u{8}\u{c}\n\r\t é"
    );
    assert_eq!(escape_string("\"\\\n\r\t\u{1}é".as_bytes()), r#"\"\\\n\r\t\u0001é"#.as_bytes());
    let lone = format!(r#"{{"Plain":"\ud800 {SAMPLE_KEY_ID}"}}"#);
    assert_eq!(mask_json_text(&lone), "{\"Plain\":\"\u{fffd} [masked: aws-key]\"}");
}

#[test]
fn ends_strings_at_every_offset() {
    for before in 0..20 {
        for after in 0..20 {
            let body = format!(r#"["{}\"{}","{SAMPLE_KEY_ID}"]"#, "é".repeat(before), "b".repeat(after));
            assert_eq!(mask_json_text(&body), body.replace(SAMPLE_KEY_ID, "[masked: aws-key]"));
        }
    }
}
