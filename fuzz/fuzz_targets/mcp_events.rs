//! Event streams: however a stream is split, the same events come out, none is larger than the limit, and a message that the
//! gateway encodes is one event again.
#![no_main]

use durward_mcp::sse::{SseDecoder, SseEvent, encode_event};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fn decode_in_steps(stream: &[u8], step: usize) -> Option<Vec<SseEvent>> {
    let mut decoder = SseDecoder::new(LIMIT);
    let mut all = Vec::new();
    for piece in stream.chunks(step) {
        decoder.push(piece);
        while let Some(event) = decoder.next_event().ok()? {
            all.push(event);
        }
    }
    Some(all)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, stream) = input;
    let Some(all) = decode_in_steps(stream, usize::from(step) + 1) else { return };
    for event in &all {
        if let SseEvent::Message(data) = event {
            assert!(data.len() <= LIMIT);
            let again = decode_in_steps(&encode_event(data), 7).unwrap_or_default();
            assert!(again.len() <= 1, "one message is one event");
        }
    }
    if stream.len() <= LIMIT {
        assert_eq!(Some(all), decode_in_steps(stream, 1));
    }
});
