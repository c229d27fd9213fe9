//! The aws-chunked decoder: however a body is split, the same data comes out, and never more than was declared.
#![no_main]

use bytes::Bytes;
use durward_aws::chunked::{Decoder, Piece};
use libfuzzer_sys::fuzz_target;

fn data(body: &[u8], step: usize) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(4096, Vec::new(), None);
    let mut out = Vec::new();
    for part in body.chunks(step) {
        for piece in decoder.push(Bytes::copy_from_slice(part)).ok()? {
            if let Piece::Data(bytes) = piece {
                out.extend_from_slice(&bytes);
            }
        }
    }
    assert!(out.len() <= 4096);
    Some(out)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, body) = input;
    assert_eq!(data(body, usize::from(step) + 1), data(body, body.len().max(1)));
});
