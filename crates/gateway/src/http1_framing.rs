//! The strict reading of an HTTP/1.1 byte stream, in front of the parser.
//!
//! Request smuggling needs two readers that disagree on where a request ends. So whatever RFC 9112 lets a server tolerate, repair
//! or ignore is refused here: every byte from a client passes [`HeadEndFinder`], [`parse_head`] and [`BodyFramingState`], and the
//! parser behind them only ever sees messages that cannot be read in two ways. No I/O here: `strict_http_stream` reads.

use durward_core::limits;

/// The reason for which a byte stream is refused, and the status of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramingViolation {
    pub status: u16,
    pub reason: &'static str,
}

const fn bad_request(reason: &'static str) -> FramingViolation {
    FramingViolation { status: 400, reason }
}

/// The length of the body after a head, or that it is chunked (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    Bytes(u64),
    Chunked,
}

/// Finds the end of a head, whole lines at a time.
#[derive(Debug, Default)]
pub struct HeadEndFinder {
    scanned: usize,
    line_start: usize,
}

impl HeadEndFinder {
    /// `bytes` is all that has arrived since the last message. Returns the length of the head once it is whole.
    pub fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, FramingViolation> {
        while let Some(at) = bytes.iter().skip(self.scanned).position(|byte| *byte == b'\n') {
            let newline = self.scanned + at;
            let line = bytes.get(self.line_start..newline).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r") else {
                // RFC 9112 section 2.2 lets a recipient accept it: two readers can disagree on where a line ends.
                return Err(bad_request("a line ends in a bare LF"));
            };
            let first = self.line_start == 0;
            self.scanned = newline + 1;
            self.line_start = self.scanned;
            if line.is_empty() {
                return if first {
                    // A server SHOULD ignore it (RFC 9112 section 2.2), and not every server does.
                    Err(bad_request("an empty line precedes the request"))
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
pub fn parse_head(head: &[u8]) -> Result<BodyLength, FramingViolation> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    check_request_line(lines.next().unwrap_or_default())?;
    let (mut hosts, mut fields) = (0_u32, 0_usize);
    let mut length = None;
    let mut chunked = false;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = split_header_field(line)?;
        fields += 1;
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            // Equal values could be merged (RFC 9110 section 8.6); no client needs that.
            if length.replace(parse_content_length(value)?).is_some() {
                return Err(bad_request("Content-Length is given twice"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // `xchunked` or `chunked, identity`: one reader sees chunks and the other none (TE.TE smuggling). 501 is the status
            // for a coding that is not understood (RFC 9112 section 6.1).
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(FramingViolation { status: 501, reason: "the only transfer coding is chunked" });
            }
            if std::mem::replace(&mut chunked, true) {
                return Err(bad_request("Transfer-Encoding is given twice"));
            }
        } else if name.eq_ignore_ascii_case(b"connection") {
            check_connection_header(value)?;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            // After an upgrade the connection would carry bytes that nothing here checks (h2c smuggling).
            return Err(bad_request("protocol upgrades are not served"));
        }
    }
    if fields > limits::MAX_HEADER_FIELDS {
        return Err(FramingViolation { status: 431, reason: "the request has too many header fields" });
    }
    // RFC 9112 section 3.2 demands 400 for none or several.
    if hosts != 1 {
        return Err(bad_request("exactly one Host header is needed"));
    }
    match (length, chunked) {
        // CL.TE and TE.CL smuggling (RFC 9112 section 6.1).
        (Some(_), true) => Err(bad_request("Content-Length and Transfer-Encoding exclude each other")),
        (Some(length), false) => Ok(BodyLength::Bytes(length)),
        (None, true) => Ok(BodyLength::Chunked),
        (None, false) => Ok(BodyLength::Bytes(0)),
    }
}

fn check_request_line(line: &[u8]) -> Result<(), FramingViolation> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad_request("the request line is not `method target version`"));
    };
    // HTTP/1.0 has no chunked coding: a message with both is framed in two ways (RFC 9112 section 6.1).
    if version != b"HTTP/1.1" {
        return Err(FramingViolation { status: 505, reason: "only HTTP/1.1 is served" });
    }
    // Methods are case-sensitive (RFC 9110 section 9.1), but not every reader compares them so.
    if method.is_empty() || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(bad_request("the method is not in capital letters"));
    }
    // A request target has no fragment (RFC 9112 section 3.2), and readers differ in what they make of a `#`.
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(bad_request("the request target holds bytes that must be percent-encoded"));
    }
    // Origin form, absolute form or `*` (RFC 9112 section 3.2). The front ends refuse the last two with a better message.
    if !target.starts_with(b"/") && !target.starts_with(b"http") && target != b"*" {
        return Err(bad_request("the request target is not a path"));
    }
    // hyper would refuse it too, without a reason.
    if http::Uri::try_from(target).is_err() {
        return Err(bad_request(
            "the request target holds characters that must be percent-encoded, or is not a URL",
        ));
    }
    Ok(())
}

/// Name and value, the value without the white space around it. A folded line (RFC 9112 section 5.2) is refused: its name is
/// empty or holds white space.
fn split_header_field(line: &[u8]) -> Result<(&[u8], &[u8]), FramingViolation> {
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or_else(|| bad_request("a header line has no colon"))?;
    let (name, rest) = line.split_at(colon);
    let value = rest.get(1..).unwrap_or_default();
    // White space before the colon must be refused (RFC 9112 section 5.1): some readers strip it, others see an unknown header.
    if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
        return Err(bad_request("a header name holds white space or characters that names cannot have"));
    }
    // CR, LF and NUL must be refused or replaced (RFC 9110 section 5.5). Readers that replace them see another value.
    if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
        return Err(bad_request("a header value holds control characters"));
    }
    Ok((name, value.trim_ascii()))
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn parse_content_length(value: &[u8]) -> Result<u64, FramingViolation> {
    let number = std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        // No body is longer, and sums with it do not overflow.
        .filter(|number| *number <= u64::MAX >> 1);
    number.ok_or_else(|| bad_request("Content-Length is not a number of bytes"))
}

/// `Connection` can name headers that a proxy must drop (RFC 9110 section 7.6.1): a caller could have headers removed that were
/// signed and decided on.
fn check_connection_header(value: &[u8]) -> Result<(), FramingViolation> {
    let is_allowed = |option: &[u8]| {
        let option = option.trim_ascii();
        option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
    };
    if value.split(|byte| *byte == b',').all(is_allowed) {
        Ok(())
    } else {
        Err(bad_request("the Connection header may hold only `keep-alive` or `close`"))
    }
}

/// The position in a body, as its bytes pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyFramingState {
    Bytes(u64),
    /// In the line with the size of the next chunk: digits so far, and whether its CR was seen. Chunk extensions are refused,
    /// since readers disagree on where they end (RFC 9112 section 7.1.1).
    ChunkSize {
        digits: u8,
        size: u64,
        seen_cr: bool,
    },
    ChunkData(u64),
    /// The CRLF after a chunk.
    ChunkEnd {
        seen_cr: bool,
    },
    /// The CRLF after the last chunk. HTTP trailers are refused: no SigV4 signature covers them.
    LastChunkEnd {
        seen_cr: bool,
    },
    Done,
}

impl BodyFramingState {
    pub fn from_length(length: BodyLength) -> Self {
        match length {
            BodyLength::Bytes(0) => Self::Done,
            BodyLength::Bytes(count) => Self::Bytes(count),
            BodyLength::Chunked => Self::expecting_chunk_size(),
        }
    }

    fn expecting_chunk_size() -> Self {
        Self::ChunkSize { digits: 0, size: 0, seen_cr: false }
    }

    /// Consumes the bytes of this body and returns how many that is: fewer than `bytes` only when the body is done.
    pub fn consume(&mut self, bytes: &[u8]) -> Result<usize, FramingViolation> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self {
                Self::Done => break,
                Self::Bytes(left) | Self::ChunkData(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    taken += count;
                    if *left == 0 {
                        *self = if matches!(self, Self::ChunkData(_)) {
                            Self::ChunkEnd { seen_cr: false }
                        } else {
                            Self::Done
                        };
                    }
                }
                _ => {
                    let Some(byte) = rest.first() else { break };
                    self.consume_framing_byte(*byte)?;
                    taken += 1;
                }
            }
        }
        Ok(taken)
    }

    /// Consumes one byte of chunk framing.
    fn consume_framing_byte(&mut self, byte: u8) -> Result<(), FramingViolation> {
        match self {
            Self::ChunkSize { digits, size, seen_cr: false } => match char::from(byte).to_digit(16) {
                // Fifteen digits cannot overflow 64 bits, which some readers let happen.
                Some(digit) if *digits < 15 => {
                    *digits += 1;
                    *size = *size << 4 | u64::from(digit);
                }
                None if byte == b'\r' && *digits > 0 => {
                    *self = Self::ChunkSize { digits: *digits, size: *size, seen_cr: true };
                }
                _ => return Err(bad_request("a chunk size is not plain hexadecimal digits")),
            },
            Self::ChunkSize { size, seen_cr: true, .. } if byte == b'\n' => {
                *self =
                    if *size == 0 { Self::LastChunkEnd { seen_cr: false } } else { Self::ChunkData(*size) };
            }
            Self::ChunkEnd { seen_cr: cr } | Self::LastChunkEnd { seen_cr: cr } if !*cr && byte == b'\r' => {
                *cr = true;
            }
            Self::ChunkEnd { seen_cr: true } if byte == b'\n' => *self = Self::expecting_chunk_size(),
            Self::LastChunkEnd { seen_cr: true } if byte == b'\n' => *self = Self::Done,
            Self::LastChunkEnd { seen_cr: false } => {
                return Err(bad_request("HTTP trailers are not part of a signed request"));
            }
            _ => return Err(bad_request("a chunk is not framed by CRLF, or is longer than it says")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
