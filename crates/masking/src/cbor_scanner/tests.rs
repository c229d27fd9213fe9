use durward_catalog::service_model::AwsProtocol;

use super::*;
use crate::tests::{SAMPLE_KEY_ID, SAMPLE_SECRET_KEY, mask_sample, reveal_nothing, shared_masker};
use crate::{BodyFormat, MaskedBody};

fn encode_text(text: &str) -> Vec<u8> {
    encode_string(MAJOR_TEXT, text.as_bytes())
}

fn encode_pair(key: &str, value: &[u8]) -> Vec<u8> {
    [encode_text(key), value.to_vec()].concat()
}

fn encode_map(pairs: &[Vec<u8>]) -> Vec<u8> {
    [vec![0xa0 | pairs.len() as u8], pairs.concat()].concat()
}

fn mask_with_plan(body: &[u8]) -> Vec<u8> {
    mask_sample(body, BodyFormat::Cbor, AwsProtocol::RpcV2Cbor)
}

fn cbor_error(body: &[u8]) -> MaskError {
    shared_masker().mask_body(body, BodyFormat::Cbor, None, &reveal_nothing).unwrap_err()
}

#[test]
fn masks_marked_members_and_keeps_every_other_byte() {
    let word = encode_text("[masked: aws-sensitive]");
    let body = |secret: &[u8], bytes: &[u8], number: &[u8], flag: u8| {
        let when = [&[0xc1, 0xfb][..], &1.5_f64.to_be_bytes()].concat();
        let pairs = [
            encode_pair("Secret", secret),
            encode_pair("Plain", b"\x7f\x61a\x61b\xff"),
            encode_pair("SecretBinary", bytes),
            encode_pair("Number", number),
            encode_pair("Flag", &[flag]),
            encode_pair("When", &when),
            encode_pair(
                "Items",
                &[
                    &[0x9f][..],
                    &encode_map(&[encode_pair("pw", secret), encode_pair("Name", &encode_text("n"))]),
                    &[0xff],
                ]
                .concat(),
            ),
        ];
        [&[0xbf][..], &pairs.concat(), &[0xff]].concat()
    };
    let masked_bytes = encode_string(MAJOR_BYTES, b"[masked: aws-sensitive]");
    let expected = body(&word, &masked_bytes, &[0], 0xf4);
    assert_eq!(mask_with_plan(&body(&encode_text("s"), b"\x43abc", &[0x39, 1, 0], 0xf5)), expected);
    assert_eq!(
        mask_with_plan(&body(b"\x7f\x61a\x60\xff", b"\x5f\x41a\xff", &[0x1b, 0, 0, 0, 0, 0, 0, 0, 9], 0xf5)),
        expected
    );
}

#[test]
fn keeps_floats_big_numbers_and_times_of_their_type() {
    assert_eq!(
        mask_with_plan(&encode_map(&[encode_pair("Number", b"\xfa\x3f\x80\x00\x00")])),
        encode_map(&[encode_pair("Number", b"\xfa\0\0\0\0")])
    );
    assert_eq!(
        mask_with_plan(&encode_map(&[encode_pair("Number", b"\xc2\x42\x01\x02")])),
        encode_map(&[encode_pair("Number", b"\0")])
    );
    let nested = |at: &[u8]| encode_map(&[encode_pair("Nested", &encode_map(&[encode_pair("Unknown", at)]))]);
    assert_eq!(mask_with_plan(&nested(b"\xc1\x05")), nested(b"\xc1\x05"));
    assert_eq!(
        mask_with_plan(&nested(b"\xc1\x61x")),
        nested(&[b"\xc1", &encode_text("[masked: aws-sensitive]")[..]].concat())
    );
}

#[test]
fn finds_secrets_in_texts_chunks_byte_strings_and_keys() {
    let (head, tail) = SAMPLE_KEY_ID.split_at(7);
    let chunks = [&[0x7f][..], &encode_text(head), &encode_text(tail), &[0xff]].concat();
    let word = encode_text("[masked: aws-key]");
    assert_eq!(
        mask_with_plan(&encode_map(&[encode_pair("x", &chunks)])),
        encode_map(&[encode_pair("x", &word)])
    );
    assert_eq!(
        mask_with_plan(&encode_map(&[encode_pair(SAMPLE_KEY_ID, &[1])])),
        encode_map(&[[word, vec![1]].concat()])
    );
    let bytes = encode_string(MAJOR_BYTES, &[&[0xff, 0][..], SAMPLE_KEY_ID.as_bytes(), b" "].concat());
    // Bytes that are no text keep their length: a format around them may count on its offsets.
    let masked = encode_string(MAJOR_BYTES, b"\xff\0[masked: aws-key]*** ");
    assert_eq!(
        mask_with_plan(&encode_map(&[encode_pair("x", &bytes)])),
        encode_map(&[encode_pair("x", &masked)])
    );
    let named = encode_map(&[
        encode_pair("Name", &encode_text("SecretAccessKey")),
        encode_pair("Value", &encode_text(SAMPLE_SECRET_KEY)),
    ]);
    let expected = encode_map(&[
        encode_pair("Name", &encode_text("SecretAccessKey")),
        encode_pair("Value", &encode_text("[masked: aws-secret]")),
    ]);
    assert_eq!(mask_with_plan(&named), expected);
    let allowed = encode_map(&[encode_pair("AccessKeyId", &encode_text(SAMPLE_KEY_ID))]);
    assert_eq!(mask_with_plan(&allowed), allowed);
}

#[test]
fn refuses_what_is_not_well_formed() {
    for body in [
        &b"\x61"[..],
        b"\x7f\x41a\xff",
        b"\x7f\x7f\xff\xff",
        b"\xbf\x61a\xff",
        b"\xbf\x61a",
        b"\xff",
        b"\x82\x01",
        b"\xa1\x01\x02",
        b"\x1c",
        b"\x1f",
        b"\x01\x02",
        b"\xdf\x01",
        b"\xe0",
        b"\xf8\x20",
        b"\x3f",
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(matches!(cbor_error(body), MaskError::Malformed { format: "CBOR", .. }), "{body:x?}");
    }
    assert_eq!(cbor_error(b"\x62a\xff"), MaskError::NotUtf8 { format: "CBOR", offset: 2 });
    assert!(matches!(cbor_error(&vec![0x81; 1 << 20]), MaskError::TooDeep { .. }));
    assert!(matches!(cbor_error(&vec![0xc1; 1 << 20]), MaskError::TooDeep { .. }));
    assert_eq!(
        shared_masker().mask_body(b"\xbf\xff", BodyFormat::Cbor, None, &reveal_nothing),
        Ok(MaskedBody::Unchanged)
    );
}

#[test]
fn writes_lengths_of_every_size() {
    for (len, head) in [
        (0, &b"\x60"[..]),
        (23, b"\x77"),
        (24, b"\x78\x18"),
        (256, b"\x79\x01\0"),
        (65536, b"\x7b\0\0\0\0\0\x01\0\0"),
    ] {
        let out = encode_string(MAJOR_TEXT, &vec![b'a'; len]);
        assert!(out.starts_with(head) && out.len() == head.len() + len, "{len}");
    }
}
