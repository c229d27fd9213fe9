use durward_catalog::model::Protocol;

use super::*;
use crate::tests::{KEY_ID, SECRET, masked, masker, nothing};
use crate::{Content, Masked};

fn text(text: &str) -> Vec<u8> {
    written(TEXT, text.as_bytes())
}

fn pair(key: &str, value: &[u8]) -> Vec<u8> {
    [text(key), value.to_vec()].concat()
}

fn map(pairs: &[Vec<u8>]) -> Vec<u8> {
    [vec![0xa0 | pairs.len() as u8], pairs.concat()].concat()
}

fn planned(body: &[u8]) -> Vec<u8> {
    masked(body, Content::Cbor, Protocol::RpcV2Cbor)
}

fn refused(body: &[u8]) -> MaskError {
    masker().mask_answer(body, Content::Cbor, None, &nothing).unwrap_err()
}

#[test]
fn masks_marked_members_and_keeps_every_other_byte() {
    let word = text("[masked: aws-sensitive]");
    let body = |secret: &[u8], bytes: &[u8], number: &[u8], flag: u8| {
        let when = [&[0xc1, 0xfb][..], &1.5_f64.to_be_bytes()].concat();
        let pairs = [
            pair("Secret", secret),
            pair("Plain", b"\x7f\x61a\x61b\xff"),
            pair("SecretBinary", bytes),
            pair("Number", number),
            pair("Flag", &[flag]),
            pair("When", &when),
            pair(
                "Items",
                &[&[0x9f][..], &map(&[pair("pw", secret), pair("Name", &text("n"))]), &[0xff]].concat(),
            ),
        ];
        [&[0xbf][..], &pairs.concat(), &[0xff]].concat()
    };
    let masked_bytes = written(BYTES, b"[masked: aws-sensitive]");
    let expected = body(&word, &masked_bytes, &[0], 0xf4);
    assert_eq!(planned(&body(&text("s"), b"\x43abc", &[0x39, 1, 0], 0xf5)), expected);
    assert_eq!(
        planned(&body(b"\x7f\x61a\x60\xff", b"\x5f\x41a\xff", &[0x1b, 0, 0, 0, 0, 0, 0, 0, 9], 0xf5)),
        expected
    );
}

#[test]
fn keeps_floats_big_numbers_and_times_of_their_type() {
    assert_eq!(
        planned(&map(&[pair("Number", b"\xfa\x3f\x80\x00\x00")])),
        map(&[pair("Number", b"\xfa\0\0\0\0")])
    );
    assert_eq!(planned(&map(&[pair("Number", b"\xc2\x42\x01\x02")])), map(&[pair("Number", b"\0")]));
    let nested = |at: &[u8]| map(&[pair("Nested", &map(&[pair("Unknown", at)]))]);
    assert_eq!(planned(&nested(b"\xc1\x05")), nested(b"\xc1\x05"));
    assert_eq!(
        planned(&nested(b"\xc1\x61x")),
        nested(&[b"\xc1", &text("[masked: aws-sensitive]")[..]].concat())
    );
}

#[test]
fn finds_secrets_in_texts_chunks_byte_strings_and_keys() {
    let (head, tail) = KEY_ID.split_at(7);
    let chunks = [&[0x7f][..], &text(head), &text(tail), &[0xff]].concat();
    let word = text("[masked: aws-key]");
    assert_eq!(planned(&map(&[pair("x", &chunks)])), map(&[pair("x", &word)]));
    assert_eq!(planned(&map(&[pair(KEY_ID, &[1])])), map(&[[word, vec![1]].concat()]));
    let bytes = written(BYTES, &[&[0xff, 0][..], KEY_ID.as_bytes(), b" "].concat());
    let masked = written(BYTES, b"\xff\0[masked: aws-key] ");
    // a word boundary stands before the id, as zero is no letter
    assert_eq!(planned(&map(&[pair("x", &bytes)])), map(&[pair("x", &masked)]));
    let named = map(&[pair("Name", &text("SecretAccessKey")), pair("Value", &text(SECRET))]);
    let expected =
        map(&[pair("Name", &text("SecretAccessKey")), pair("Value", &text("[masked: aws-secret]"))]);
    assert_eq!(planned(&named), expected);
    let allowed = map(&[pair("AccessKeyId", &text(KEY_ID))]);
    assert_eq!(planned(&allowed), allowed);
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
        assert!(matches!(refused(body), MaskError::Malformed { format: "CBOR", .. }), "{body:x?}");
    }
    assert_eq!(refused(b"\x62a\xff"), MaskError::NotUtf8 { format: "CBOR", offset: 2 });
    assert!(matches!(refused(&vec![0x81; 1 << 20]), MaskError::TooDeep { .. }));
    assert!(matches!(refused(&vec![0xc1; 1 << 20]), MaskError::TooDeep { .. }));
    assert_eq!(masker().mask_answer(b"\xbf\xff", Content::Cbor, None, &nothing), Ok(Masked::Unchanged));
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
        let out = written(TEXT, &vec![b'a'; len]);
        assert!(out.starts_with(head) && out.len() == head.len() + len, "{len}");
    }
}
