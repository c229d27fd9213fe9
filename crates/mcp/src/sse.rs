//! Server-sent events (WHATWG HTML, "Server-sent events") as MCP uses them: each event is one JSON-RPC message.
//!
//! Promise: the decoder holds at most one event, and refuses an event above its limit. Ids and retry times are dropped: the
//! gateway does not resume streams.

use bytes::{Buf as _, Bytes, BytesMut};

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SseEvent {
    Message(Bytes),
    /// A comment, an event without data, or an event of a type that MCP does not use: it only shows that the server is alive.
    KeepAlive,
}

/// An event above the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {max_event_bytes} bytes")]
pub struct EventTooLarge {
    pub max_event_bytes: usize,
}

/// Decodes a stream, however its bytes are split.
#[derive(Debug)]
pub struct SseDecoder {
    max_event_bytes: usize,
    buffer: BytesMut,
    /// The first bytes of `buffer`, in which no line ends.
    scanned_bytes: usize,
    /// The last line ended in a carriage return: a following line feed belongs to it.
    after_carriage_return: bool,
    is_bom_checked: bool,
    data: Option<BytesMut>,
    /// The event is of a type that is not `message`.
    is_other_type: bool,
}

impl SseDecoder {
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max_event_bytes,
            buffer: BytesMut::new(),
            scanned_bytes: 0,
            after_carriage_return: false,
            is_bom_checked: false,
            data: None,
            is_other_type: false,
        }
    }

    /// Adds the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete event. An event ends with a blank line; the end of the stream completes none.
    pub fn next_event(&mut self) -> Result<Option<SseEvent>, EventTooLarge> {
        while let Some(line) = self.next_line()? {
            if let Some(event) = self.process_line(&line)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<Option<BytesMut>, EventTooLarge> {
        if self.after_carriage_return && !self.buffer.is_empty() {
            self.after_carriage_return = false;
            if self.buffer.first() == Some(&b'\n') {
                self.buffer.advance(1);
            }
        }
        let unscanned = self.buffer.get(self.scanned_bytes..).unwrap_or_default();
        // CR, LF and CRLF all end a line (WHATWG HTML, "Parsing an event stream").
        let Some(found) = unscanned.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.scanned_bytes = self.buffer.len();
            self.check_size(self.buffer.len())?;
            return Ok(None);
        };
        let mut line = self.buffer.split_to(self.scanned_bytes + found);
        self.scanned_bytes = 0;
        self.after_carriage_return = self.buffer.first() == Some(&b'\r');
        self.buffer.advance(1);
        if !self.is_bom_checked {
            self.is_bom_checked = true;
            // One byte order mark at the start of the stream is ignored (WHATWG HTML, "Parsing an event stream").
            if line.starts_with(b"\xef\xbb\xbf") {
                line.advance(3);
            }
        }
        Ok(Some(line))
    }

    fn process_line(&mut self, line: &[u8]) -> Result<Option<SseEvent>, EventTooLarge> {
        if line.is_empty() {
            let (data, other) = (self.data.take(), std::mem::take(&mut self.is_other_type));
            return Ok(Some(match data {
                // An event whose data is empty is not dispatched (WHATWG HTML, "Interpreting an event stream").
                Some(data) if !other && !data.is_empty() => SseEvent::Message(data.freeze()),
                _ => SseEvent::KeepAlive,
            }));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(0) => return Ok(Some(SseEvent::KeepAlive)),
            Some(at) => (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default()),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                // Many short lines make one long event, so the limit holds for their sum.
                self.check_size(self.data.as_ref().map_or(0, BytesMut::len) + value.len() + 1)?;
                match &mut self.data {
                    Some(data) => {
                        data.extend_from_slice(b"\n");
                        data.extend_from_slice(value);
                    }
                    None => self.data = Some(value.into()),
                }
            }
            b"event" => self.is_other_type = !matches!(value, b"" | b"message"),
            _ => {}
        }
        Ok(None)
    }

    fn check_size(&self, size: usize) -> Result<(), EventTooLarge> {
        if size > self.max_event_bytes {
            Err(EventTooLarge { max_event_bytes: self.max_event_bytes })
        } else {
            Ok(())
        }
    }
}

/// Encodes a message as an event. Line breaks would end the data; in JSON they occur only between tokens, where a space means the
/// same.
pub fn encode_event(message: &[u8]) -> Bytes {
    const MESSAGE_PREFIX: &[u8] = b"event: message\ndata: ";
    let mut event = BytesMut::with_capacity(MESSAGE_PREFIX.len() + message.len() + 2);
    event.extend_from_slice(MESSAGE_PREFIX);
    event.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

/// A comment that keeps an idle connection open.
pub const KEEP_ALIVE_COMMENT: &[u8] = b":\n\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_events(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let mut decoder = SseDecoder::new(1_000);
        let mut found = Vec::new();
        for piece in pieces {
            decoder.push(piece);
            while let Some(event) = decoder.next_event().unwrap() {
                found.push(event);
            }
        }
        found
    }

    fn message_event(text: &'static str) -> SseEvent {
        SseEvent::Message(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn decodes_events_as_browsers_do() {
        assert_eq!(decode_events(&[b"\xef\xbb\xbfdata: {}\n\n"]), [message_event("{}")]);
        assert_eq!(
            decode_events(&[b"event: message\r\nid: 7\r\nretry: 5\r\ndata:{\r\ndata: }\r\n\r\n"]),
            [message_event("{\n}")]
        );
        assert_eq!(decode_events(&[b"data: a\r\rdata: b\r\r"]), [message_event("a"), message_event("b")]);
        assert_eq!(
            decode_events(&[b"data: a\r", b"\n\r", b"\ndata: b\n\n"]),
            [message_event("a"), message_event("b")]
        );
        assert_eq!(decode_events(&[b": ping\n\n"]), [SseEvent::KeepAlive, SseEvent::KeepAlive]);
        assert_eq!(
            decode_events(&[b"id: 1\ndata: \n\n"]),
            [SseEvent::KeepAlive],
            "the priming event of 2025-11-25"
        );
        assert_eq!(
            decode_events(&[b"event: endpoint\ndata: /x\n\ndata: y\n\n"]),
            [SseEvent::KeepAlive, message_event("y")]
        );
        assert_eq!(decode_events(&[b"data: cut off"]), []);
        assert_eq!(decode_events(&[b"datax: a\nxdata: b\ndata\n\n"]), [SseEvent::KeepAlive]);
    }

    #[test]
    fn refuses_an_event_over_the_limit_however_it_is_split() {
        for stream in
            [format!("data: {}", "x".repeat(2_000)), "data: 0123456789\n".repeat(100), "x".repeat(2_000)]
        {
            for size in [1, 7, 5_000] {
                let mut decoder = SseDecoder::new(1_000);
                let refused = stream.as_bytes().chunks(size).any(|piece| {
                    decoder.push(piece);
                    decoder.next_event().is_err()
                });
                assert!(refused, "{size}");
            }
        }
    }

    #[test]
    fn an_encoded_message_is_one_event() {
        assert_eq!(decode_events(&[&encode_event(b"{\n\"a\":\r1}")]), [message_event("{ \"a\": 1}")]);
        assert_eq!(
            decode_events(&[KEEP_ALIVE_COMMENT, &encode_event(b"1")]).last(),
            Some(&message_event("1"))
        );
    }

    proptest! {
        #[test]
        fn splitting_makes_no_difference(stream in proptest::collection::vec(proptest::sample::select(
            &b"\r\n:data idevent{}\xef\xbb\xbf"[..]), 0..200), cuts in proptest::collection::vec(0usize..200, 0..8)) {
            let whole = decode_events(&[&stream]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode_events(&pieces), whole);
        }
    }
}
