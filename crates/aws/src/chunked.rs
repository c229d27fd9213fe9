//! `aws-chunked` bodies (S3 API reference, "Signature calculations: transferring payload in multiple chunks"):
//! a push decoder that checks framing, chunk signatures, signed trailers and the checksums in trailers while the bytes pass.
//!
//! It holds at most one chunk head or trailer line in memory. A body that ends before its final chunk, whose signature
//! chain breaks or whose checksum differs is an error; the caller must then break off the upstream request. A checksum
//! given as a header (`x-amz-checksum-*`, `Content-MD5`) travels on under our signature and is S3's to check.

mod checksum;

use crate::sigv4::{EMPTY_SHA256, Signature, SigningKey, hex, sha256_hex};
use aws_lc_rs::digest;
use bytes::{Buf, Bytes};
use checksum::Checksum;
use std::fmt::Write as _;

/// Longest chunk head or trailer line, in bytes.
const LINE: usize = 1024;
/// Most trailers of one body.
const TRAILERS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("the aws-chunked framing is broken: {0}")]
    Framing(&'static str),
    #[error("the signature of a chunk does not match")]
    ChunkSignature,
    #[error("the signature of the trailers does not match")]
    TrailerSignature,
    #[error("the body is {actual} bytes long and `x-amz-decoded-content-length` says {declared}")]
    Length { declared: u64, actual: u64 },
    #[error("the trailers are not those that `x-amz-trailer` declares")]
    Trailers,
    #[error("the body does not have the checksum of its trailer `{0}`")]
    Checksum(&'static str),
}

/// What the decoder hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A chunk of this many bytes begins; 0 is the final one.
    Chunk(u64),
    Data(Bytes),
    Trailer(String, String),
    /// The body is complete and everything that is signed was right.
    End,
}

/// The rolling signature of a signed body.
#[derive(Debug)]
pub struct Chain {
    key: SigningKey,
    timestamp: String,
    scope: String,
    previous: Signature,
    signed_trailer: bool,
}

impl Chain {
    /// `seed` is the signature of the request itself.
    pub fn new(
        key: SigningKey,
        timestamp: &str,
        scope: String,
        seed: Signature,
        signed_trailer: bool,
    ) -> Self {
        Self { key, timestamp: timestamp.to_owned(), scope, previous: seed, signed_trailer }
    }

    fn next(&self, kind: &str, hashes: &str) -> Signature {
        let text = format!(
            "AWS4-HMAC-SHA256-{kind}\n{}\n{}\n{}\n{hashes}",
            self.timestamp,
            self.scope,
            self.previous.hex()
        );
        self.key.sign(text.as_bytes())
    }

    /// Signature of a chunk whose data has this hex SHA-256.
    fn chunk(&self, data_sha256: &str) -> Signature {
        self.next("PAYLOAD", &format!("{EMPTY_SHA256}\n{data_sha256}"))
    }

    fn trailer(&self, canonical: &str) -> Signature {
        self.next("TRAILER", &sha256_hex(canonical.as_bytes()))
    }
}

enum State {
    /// Reading a chunk head line.
    Head,
    Data {
        left: u64,
    },
    /// The CRLF after the data of a chunk.
    DataEnd,
    Trailer,
    Done,
}

pub struct Decoder {
    state: State,
    line: Vec<u8>,
    declared_length: u64,
    seen: u64,
    chain: Option<Chain>,
    claimed: Option<Signature>,
    hash: digest::Context,
    /// One for each checksum that is declared.
    checksums: Vec<Checksum>,
    trailers_declared: Vec<String>,
    trailers: Vec<(String, String)>,
    trailer_signature: Option<Signature>,
}

impl Decoder {
    /// `trailers_declared`: the lower-case names of `x-amz-trailer`.
    pub fn new(declared_length: u64, trailers_declared: Vec<String>, chain: Option<Chain>) -> Self {
        let mut checksums: Vec<Checksum> = Vec::new();
        for checksum in trailers_declared.iter().filter_map(|name| Checksum::named(name)) {
            // A name that is declared a hundred times is not worth a hundred hashes of each byte.
            if checksums.iter().all(|other| other.trailer() != checksum.trailer()) {
                checksums.push(checksum);
            }
        }
        Self {
            state: State::Head,
            line: Vec::new(),
            declared_length,
            seen: 0,
            chain,
            claimed: None,
            hash: digest::Context::new(&digest::SHA256),
            checksums,
            trailers_declared,
            trailers: Vec::new(),
            trailer_signature: None,
        }
    }

    /// Whether the final chunk and its trailers have been read and were right.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the next bytes of the body as they came, and hands on what they held.
    pub fn push(&mut self, mut bytes: Bytes) -> Result<Vec<Piece>, ChunkError> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            match self.state {
                State::Data { left } => self.take_data(left, &mut bytes, &mut pieces),
                State::Done => return Err(ChunkError::Framing("bytes after the final chunk")),
                State::Head | State::DataEnd | State::Trailer => {
                    if let Some(line) = self.take_line(&mut bytes)? {
                        self.on_line(&line, &mut pieces)?;
                    }
                }
            }
        }
        Ok(pieces)
    }

    fn take_data(&mut self, left: u64, bytes: &mut Bytes, pieces: &mut Vec<Piece>) {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let data = bytes.split_to(count);
        if self.chain.is_some() {
            self.hash.update(&data);
        }
        for checksum in &mut self.checksums {
            checksum.update(&data);
        }
        self.seen += count as u64;
        pieces.push(Piece::Data(data));
        let left = left - count as u64;
        self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
    }

    /// One line without its CRLF, once it is whole. A bare LF or CR is refused: two readers could disagree on it.
    fn take_line(&mut self, bytes: &mut Bytes) -> Result<Option<String>, ChunkError> {
        while bytes.has_remaining() {
            let byte = bytes.get_u8();
            if self.line.last() == Some(&b'\r') {
                if byte != b'\n' {
                    return Err(ChunkError::Framing("a carriage return without a line feed"));
                }
                self.line.pop();
                let line = String::from_utf8(std::mem::take(&mut self.line))
                    .map_err(|_invalid| ChunkError::Framing("a line is not UTF-8"))?;
                return Ok(Some(line));
            }
            if byte == b'\n' {
                return Err(ChunkError::Framing("a line feed without a carriage return"));
            }
            if self.line.len() >= LINE {
                return Err(ChunkError::Framing("a line is longer than 1024 bytes"));
            }
            self.line.push(byte);
        }
        Ok(None)
    }

    fn on_line(&mut self, line: &str, pieces: &mut Vec<Piece>) -> Result<(), ChunkError> {
        match self.state {
            State::Head => self.on_head(line, pieces),
            State::DataEnd if line.is_empty() => {
                self.check_chunk()?;
                self.state = State::Head;
                Ok(())
            }
            State::DataEnd => Err(ChunkError::Framing("a chunk is longer than its head says")),
            _ => self.on_trailer(line, pieces),
        }
    }

    fn on_head(&mut self, line: &str, pieces: &mut Vec<Piece>) -> Result<(), ChunkError> {
        let (size, extension) = match line.split_once(';') {
            Some((size, extension)) => (size, Some(extension)),
            None => (line, None),
        };
        if size.is_empty() || size.len() > 15 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ChunkError::Framing("a chunk size is not a hexadecimal number"));
        }
        let size = u64::from_str_radix(size, 16)
            .map_err(|_invalid| ChunkError::Framing("a chunk size is too large"))?;
        self.claimed =
            match (extension.map(|text| text.strip_prefix("chunk-signature=")), self.chain.is_some()) {
                (Some(Some(signature)), true) => {
                    Some(Signature::parse(signature).ok_or(ChunkError::ChunkSignature)?)
                }
                (None, false) => None,
                (_, true) => return Err(ChunkError::ChunkSignature),
                (Some(_), false) => return Err(ChunkError::Framing("a chunk extension in an unsigned body")),
            };
        if self.seen.checked_add(size).is_none_or(|total| total > self.declared_length) {
            return Err(ChunkError::Length {
                declared: self.declared_length,
                actual: self.seen.saturating_add(size),
            });
        }
        if size > 0 {
            pieces.push(Piece::Chunk(size));
            self.state = State::Data { left: size };
            return Ok(());
        }
        self.check_chunk()?;
        if self.seen != self.declared_length {
            return Err(ChunkError::Length { declared: self.declared_length, actual: self.seen });
        }
        pieces.push(Piece::Chunk(0));
        self.state = State::Trailer;
        Ok(())
    }

    fn check_chunk(&mut self) -> Result<(), ChunkError> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        let hash = std::mem::replace(&mut self.hash, digest::Context::new(&digest::SHA256)).finish();
        let ours = chain.chunk(&hex(hash.as_ref()));
        let claimed = self.claimed.take().ok_or(ChunkError::ChunkSignature)?;
        if !ours.matches(&claimed) {
            return Err(ChunkError::ChunkSignature);
        }
        chain.previous = ours;
        Ok(())
    }

    fn on_trailer(&mut self, line: &str, pieces: &mut Vec<Piece>) -> Result<(), ChunkError> {
        if line.is_empty() {
            self.check_trailers()?;
            self.state = State::Done;
            for (name, value) in self.trailers.drain(..) {
                pieces.push(Piece::Trailer(name, value));
            }
            pieces.push(Piece::End);
            return Ok(());
        }
        let (name, value) = line.split_once(':').ok_or(ChunkError::Framing("a trailer has no colon"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "x-amz-trailer-signature" {
            let signature = Signature::parse(value).ok_or(ChunkError::TrailerSignature)?;
            if self.trailer_signature.replace(signature).is_some() {
                return Err(ChunkError::TrailerSignature);
            }
            return Ok(());
        }
        if self.trailers.len() == TRAILERS {
            return Err(ChunkError::Framing("more than 16 trailers"));
        }
        self.trailers.push((name, value.to_owned()));
        Ok(())
    }

    fn check_trailers(&mut self) -> Result<(), ChunkError> {
        let mut names: Vec<&str> = self.trailers.iter().map(|(name, _value)| name.as_str()).collect();
        names.sort_unstable();
        let mut declared: Vec<&str> = self.trailers_declared.iter().map(String::as_str).collect();
        declared.sort_unstable();
        if names != declared {
            return Err(ChunkError::Trailers);
        }
        for (name, value) in &self.trailers {
            let known = self.checksums.iter().find(|checksum| checksum.trailer() == name);
            if let Some(checksum) = known.filter(|checksum| !checksum.matches(value)) {
                return Err(ChunkError::Checksum(checksum.trailer()));
            }
        }
        match (&self.chain, self.trailer_signature) {
            (Some(chain), claimed) if chain.signed_trailer => {
                let mut canonical = String::new();
                for (name, value) in &self.trailers {
                    // Writing to a String cannot fail.
                    let _infallible = writeln!(canonical, "{name}:{value}");
                }
                let claimed = claimed.ok_or(ChunkError::TrailerSignature)?;
                if chain.trailer(&canonical).matches(&claimed) {
                    Ok(())
                } else {
                    Err(ChunkError::TrailerSignature)
                }
            }
            (_, Some(_unexpected)) => Err(ChunkError::TrailerSignature),
            (_, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
