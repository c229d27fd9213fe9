//! The aws-chunked decoder: however a body is split, the same data comes out, and never more than was declared.
#![no_main]

use bytes::Bytes;
use durward_aws::chunked::{ChunkEvent, ChunkedDecoder};
use libfuzzer_sys::fuzz_target;

fn decode_in_steps(body: &[u8], step: usize) -> Option<Vec<u8>> {
    let mut decoder = ChunkedDecoder::new(4096, Vec::new(), None);
    let mut out = Vec::new();
    for part in body.chunks(step) {
        for event in decoder.push(Bytes::copy_from_slice(part)).ok()? {
            if let ChunkEvent::Data(bytes) = event {
                out.extend_from_slice(&bytes);
            }
        }
    }
    assert!(out.len() <= 4096);
    Some(out)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, body) = input;
    assert_eq!(decode_in_steps(body, usize::from(step) + 1), decode_in_steps(body, body.len().max(1)));
});
