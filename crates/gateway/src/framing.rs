//! The strict reading of an HTTP/1.1 byte stream, in front of the parser.
//!
//! Request smuggling needs two readers that disagree on where a request ends. So nothing that RFC 9112 lets a server
//! tolerate, mend or ignore is let in: every byte from a client passes [`Framing`], and the parser behind it only ever
//! sees messages that have one reading. Pure: bytes in, verdict out; [`crate::strict_io`] does the reading.

use durward_core::limits;

/// Why a byte stream is refused, and with which status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    pub status: u16,
    pub why: &'static str,
}

const fn bad(why: &'static str) -> Violation {
    Violation { status: 400, why }
}

/// How the body after a head is delimited (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    Bytes(u64),
    Chunked,
}

/// Looks for the end of a head, whole lines at a time.
#[derive(Debug, Default)]
pub struct HeadEnd {
    scanned: usize,
    line_start: usize,
}

impl HeadEnd {
    /// `bytes` is all that has arrived since the last message; gives the length of the head once it is whole.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        while let Some(at) = bytes.iter().skip(self.scanned).position(|byte| *byte == b'\n') {
            let newline = self.scanned + at;
            let line = bytes.get(self.line_start..newline).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(bad("a line ends in a bare LF"));
            };
            let first = self.line_start == 0;
            self.scanned = newline + 1;
            self.line_start = self.scanned;
            if line.is_empty() {
                return if first {
                    Err(bad("an empty line stands before the request"))
                } else {
                    Ok(Some(self.scanned))
                };
            }
        }
        self.scanned = bytes.len();
        Ok(None)
    }
}

/// Reads a whole head, its last empty line included.
pub fn read_head(head: &[u8]) -> Result<Length, Violation> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    check_request_line(lines.next().unwrap_or_default())?;
    let (mut hosts, mut fields) = (0_u32, 0_usize);
    let mut length = None;
    let mut chunked = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = split_field(line)?;
        fields += 1;
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(decimal(value)?).is_some() {
                return Err(bad("Content-Length is given twice"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation { status: 501, why: "the only transfer coding is chunked" });
            }
            if std::mem::replace(&mut chunked, true) {
                return Err(bad("Transfer-Encoding is given twice"));
            }
        } else if name.eq_ignore_ascii_case(b"connection") {
            check_connection(value)?;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            return Err(bad("protocol upgrades are not served"));
        }
    }
    if fields > limits::HEADERS {
        return Err(Violation { status: 431, why: "the request has too many header fields" });
    }
    if hosts != 1 {
        return Err(bad("exactly one Host header is needed"));
    }
    match (length, chunked) {
        (Some(_), true) => Err(bad("Content-Length and Transfer-Encoding exclude each other")),
        (Some(length), false) => Ok(Length::Bytes(length)),
        (None, true) => Ok(Length::Chunked),
        (None, false) => Ok(Length::Bytes(0)),
    }
}

fn check_request_line(line: &[u8]) -> Result<(), Violation> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("the request line is not `method target version`"));
    };
    if version != b"HTTP/1.1" {
        return Err(Violation { status: 505, why: "only HTTP/1.1 is served" });
    }
    if method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(bad("the method is not a word in capitals"));
    }
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(bad("the request target holds bytes that must be percent-encoded"));
    }
    // Origin form, absolute form or `*` (RFC 9112 section 3.2); the doors say what to do instead of the last two.
    if !target.starts_with(b"/") && !target.starts_with(b"http") && target != b"*" {
        return Err(bad("the request target is no path"));
    }
    // The parser would refuse it too, and say nothing.
    if http::Uri::try_from(target).is_err() {
        return Err(bad("the request target holds characters that must be percent-encoded, or is no URL"));
    }
    Ok(())
}

/// Name and value, the value without the white space around it. Folded lines are refused: their name is empty or spaced.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let colon =
        line.iter().position(|byte| *byte == b':').ok_or_else(|| bad("a header line has no colon"))?;
    let (name, rest) = line.split_at(colon);
    let value = rest.get(1..).unwrap_or_default();
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(bad("a header name holds white space or characters that names cannot have"));
    }
    if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err(bad("a header value holds control characters"));
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn decimal(value: &[u8]) -> Result<u64, Violation> {
    let number = std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        // No body is longer, and arithmetic on it does not overflow.
        .filter(|number| *number <= u64::MAX >> 1);
    number.ok_or_else(|| bad("Content-Length is not a number of bytes"))
}

/// `Connection` can name headers to be dropped on the way, and so take away what was signed and decided.
fn check_connection(value: &[u8]) -> Result<(), Violation> {
    let plain = |option: &[u8]| {
        let option = option.trim_ascii();
        option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
    };
    if value.split(|byte| *byte == b',').all(plain) {
        Ok(())
    } else {
        Err(bad("the Connection header may say `keep-alive` or `close` only"))
    }
}

/// Where a body is, as its bytes pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyState {
    Bytes(u64),
    /// In the line that says how long the next chunk is: digits so far, and whether its CR was seen.
    Size {
        digits: u8,
        size: u64,
        cr: bool,
    },
    Chunk(u64),
    /// The CRLF after a chunk.
    AfterChunk {
        cr: bool,
    },
    /// The CRLF after the last chunk: HTTP trailers are no part of a signed request.
    End {
        cr: bool,
    },
    Done,
}

impl BodyState {
    pub fn of(length: Length) -> Self {
        match length {
            Length::Bytes(0) => Self::Done,
            Length::Bytes(count) => Self::Bytes(count),
            Length::Chunked => Self::size(),
        }
    }

    fn size() -> Self {
        Self::Size { digits: 0, size: 0, cr: false }
    }

    /// Takes what belongs to this body and gives how many bytes that was; fewer than `bytes` only when the body is done.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self {
                Self::Done => break,
                Self::Bytes(left) | Self::Chunk(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    taken += count;
                    if *left == 0 {
                        *self = if matches!(self, Self::Chunk(_)) {
                            Self::AfterChunk { cr: false }
                        } else {
                            Self::Done
                        };
                    }
                }
                _ => {
                    let Some(byte) = rest.first() else { break };
                    self.step(*byte)?;
                    taken += 1;
                }
            }
        }
        Ok(taken)
    }

    /// One byte of what frames chunks.
    fn step(&mut self, byte: u8) -> Result<(), Violation> {
        match self {
            Self::Size { digits, size, cr: false } => match char::from(byte).to_digit(16) {
                // Fifteen digits cannot overflow; nobody sends an exabyte.
                Some(digit) if *digits < 15 => {
                    *digits += 1;
                    *size = *size << 4 | u64::from(digit);
                }
                None if byte == b'\r' && *digits > 0 => {
                    *self = Self::Size { digits: *digits, size: *size, cr: true };
                }
                _ => return Err(bad("a chunk size is not plain hexadecimal digits")),
            },
            Self::Size { size, cr: true, .. } if byte == b'\n' => {
                *self = if *size == 0 { Self::End { cr: false } } else { Self::Chunk(*size) };
            }
            Self::AfterChunk { cr } | Self::End { cr } if !*cr && byte == b'\r' => *cr = true,
            Self::AfterChunk { cr: true } if byte == b'\n' => *self = Self::size(),
            Self::End { cr: true } if byte == b'\n' => *self = Self::Done,
            Self::End { cr: false } => return Err(bad("HTTP trailers are not part of a signed request")),
            _ => return Err(bad("a chunk is not framed by CRLF, or is longer than it says")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
