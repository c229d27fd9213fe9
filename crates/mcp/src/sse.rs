//! Server-sent events (WHATWG HTML, "Server-sent events") as MCP uses them: each event is one JSON-RPC message.
//!
//! The reader takes bytes as they come, holds at most one event, and refuses one that is larger than its limit. Ids and
//! retry times are not kept: a stream that was cut is not resumed through the gateway.

use bytes::{Buf as _, Bytes, BytesMut};

/// What a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Message(Bytes),
    /// A comment, an event without data, or one of a type MCP does not have: a sign of life only.
    Silence,
}

/// An event is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {limit} bytes")]
pub struct TooLarge {
    pub limit: usize,
}

/// Reads a stream piece by piece.
#[derive(Debug)]
pub struct Reader {
    limit: usize,
    buffer: BytesMut,
    /// Bytes of `buffer` in which no line ends.
    scanned: usize,
    /// The last line ended in a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    started: bool,
    data: Option<BytesMut>,
    /// The event is of a type that is not `message`.
    other: bool,
}

impl Reader {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            scanned: 0,
            after_return: false,
            started: false,
            data: None,
            other: false,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next event that is complete. What the stream ends in without a blank line is no event.
    pub fn event(&mut self) -> Result<Option<Event>, TooLarge> {
        while let Some(line) = self.line()? {
            if let Some(event) = self.take(&line)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn line(&mut self) -> Result<Option<BytesMut>, TooLarge> {
        if self.after_return && !self.buffer.is_empty() {
            self.after_return = false;
            if self.buffer.first() == Some(&b'\n') {
                self.buffer.advance(1);
            }
        }
        let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(found) = unseen.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.scanned = self.buffer.len();
            self.check(self.buffer.len())?;
            return Ok(None);
        };
        let mut line = self.buffer.split_to(self.scanned + found);
        self.scanned = 0;
        self.after_return = self.buffer.first() == Some(&b'\r');
        self.buffer.advance(1);
        if !self.started {
            self.started = true;
            if line.starts_with(b"\xef\xbb\xbf") {
                line.advance(3);
            }
        }
        Ok(Some(line))
    }

    fn take(&mut self, line: &[u8]) -> Result<Option<Event>, TooLarge> {
        if line.is_empty() {
            let (data, other) = (self.data.take(), std::mem::take(&mut self.other));
            return Ok(Some(match data {
                Some(data) if !other && !data.is_empty() => Event::Message(data.freeze()),
                _ => Event::Silence,
            }));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = match colon {
            Some(0) => return Ok(Some(Event::Silence)),
            Some(at) => (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default()),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                self.check(self.data.as_ref().map_or(0, BytesMut::len) + value.len() + 1)?;
                match &mut self.data {
                    Some(data) => {
                        data.extend_from_slice(b"\n");
                        data.extend_from_slice(value);
                    }
                    None => self.data = Some(value.into()),
                }
            }
            b"event" => self.other = !matches!(value, b"" | b"message"),
            _ => {}
        }
        Ok(None)
    }

    fn check(&self, size: usize) -> Result<(), TooLarge> {
        if size > self.limit { Err(TooLarge { limit: self.limit }) } else { Ok(()) }
    }
}

/// One message as an event. In JSON a line break stands only between tokens, where a blank does as well.
pub fn frame(message: &[u8]) -> Bytes {
    const BEFORE: &[u8] = b"event: message\ndata: ";
    let mut event = BytesMut::with_capacity(BEFORE.len() + message.len() + 2);
    event.extend_from_slice(BEFORE);
    event.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

/// A comment: what keeps a silent connection open.
pub const SILENCE: &[u8] = b":\n\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]]) -> Vec<Event> {
        let mut reader = Reader::new(1_000);
        let mut found = Vec::new();
        for piece in pieces {
            reader.push(piece);
            while let Some(event) = reader.event().unwrap() {
                found.push(event);
            }
        }
        found
    }

    fn message(text: &'static str) -> Event {
        Event::Message(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn reads_events_as_browsers_do() {
        assert_eq!(events(&[b"\xef\xbb\xbfdata: {}\n\n"]), [message("{}")]);
        assert_eq!(
            events(&[b"event: message\r\nid: 7\r\nretry: 5\r\ndata:{\r\ndata: }\r\n\r\n"]),
            [message("{\n}")]
        );
        assert_eq!(events(&[b"data: a\r\rdata: b\r\r"]), [message("a"), message("b")]);
        assert_eq!(events(&[b"data: a\r", b"\n\r", b"\ndata: b\n\n"]), [message("a"), message("b")]);
        assert_eq!(events(&[b": ping\n\n"]), [Event::Silence, Event::Silence]);
        assert_eq!(events(&[b"id: 1\ndata: \n\n"]), [Event::Silence], "the prime event of 2025-11-25");
        assert_eq!(events(&[b"event: endpoint\ndata: /x\n\ndata: y\n\n"]), [Event::Silence, message("y")]);
        assert_eq!(events(&[b"data: cut off"]), []);
        assert_eq!(events(&[b"datax: a\nxdata: b\ndata\n\n"]), [Event::Silence]);
    }

    #[test]
    fn refuses_an_event_over_the_limit_however_it_is_cut() {
        for stream in
            [format!("data: {}", "x".repeat(2_000)), "data: 0123456789\n".repeat(100), "x".repeat(2_000)]
        {
            for size in [1, 7, 5_000] {
                let mut reader = Reader::new(1_000);
                let refused = stream.as_bytes().chunks(size).any(|piece| {
                    reader.push(piece);
                    reader.event().is_err()
                });
                assert!(refused, "{size}");
            }
        }
    }

    #[test]
    fn a_framed_message_is_one_event() {
        assert_eq!(events(&[&frame(b"{\n\"a\":\r1}")]), [message("{ \"a\": 1}")]);
        assert_eq!(events(&[SILENCE, &frame(b"1")]).last(), Some(&message("1")));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(stream in proptest::collection::vec(proptest::sample::select(
            &b"\r\n:data idevent{}\xef\xbb\xbf"[..]), 0..200), cuts in proptest::collection::vec(0usize..200, 0..8)) {
            let whole = events(&[&stream]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&pieces), whole);
        }
    }
}
