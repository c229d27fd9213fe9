//! Event streams: however a stream is cut, the same events come out, none is larger than the limit, and what the gateway
//! writes is one event again.
#![no_main]

use durward_mcp::sse::{Event, Reader, frame};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fn events(stream: &[u8], step: usize) -> Option<Vec<Event>> {
    let mut reader = Reader::new(LIMIT);
    let mut all = Vec::new();
    for piece in stream.chunks(step) {
        reader.push(piece);
        while let Some(event) = reader.event().ok()? {
            all.push(event);
        }
    }
    Some(all)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, stream) = input;
    let Some(all) = events(stream, usize::from(step) + 1) else { return };
    for event in &all {
        if let Event::Message(data) = event {
            assert!(data.len() <= LIMIT);
            let again = events(&frame(data), 7).unwrap_or_default();
            assert!(again.len() <= 1, "one message is one event");
        }
    }
    if stream.len() <= LIMIT {
        assert_eq!(Some(all), events(stream, 1));
    }
});
