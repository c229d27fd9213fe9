//! `aws-chunked` bodies (S3 API reference, "Signature calculations: transferring payload in multiple chunks"):
//! a push decoder that checks framing, chunk signatures, signed trailers and the checksums in trailers while the bytes pass.
//!
//! It holds at most one chunk head or trailer line in memory. A body that ends before its final chunk, whose signature
//! chain breaks or whose checksum differs is an error; the caller must then break off the upstream request. A checksum
//! given as a header (`x-amz-checksum-*`, `Content-MD5`) travels on under our signature and is S3's to check.

mod checksum;

use crate::sigv4::{EMPTY_SHA256, Signature, SigningKey, sha256_hex};
use aws_lc_rs::digest;
use bytes::{Buf, Bytes};
use checksum::TrailerChecksum;
use durward_core::encode_hex;
use std::fmt::Write as _;

/// Longest chunk head or trailer line, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Most trailers of one body.
const MAX_TRAILERS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedBodyError {
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
pub enum ChunkEvent {
    /// A chunk of this many bytes begins; 0 is the final one.
    Chunk(u64),
    Data(Bytes),
    Trailer(String, String),
    /// The body is complete and everything that is signed was right.
    End,
}

/// The rolling signature of a signed body.
#[derive(Debug)]
pub struct SignatureChain {
    signing_key: SigningKey,
    timestamp: String,
    credential_scope: String,
    previous_signature: Signature,
    has_signed_trailer: bool,
}

impl SignatureChain {
    /// `seed` is the signature of the request itself.
    pub fn new(
        key: SigningKey,
        timestamp: &str,
        scope: String,
        seed: Signature,
        signed_trailer: bool,
    ) -> Self {
        Self {
            signing_key: key,
            timestamp: timestamp.to_owned(),
            credential_scope: scope,
            previous_signature: seed,
            has_signed_trailer: signed_trailer,
        }
    }

    fn sign_next(&self, kind: &str, hashes: &str) -> Signature {
        let text = format!(
            "AWS4-HMAC-SHA256-{kind}\n{}\n{}\n{}\n{hashes}",
            self.timestamp,
            self.credential_scope,
            self.previous_signature.to_hex()
        );
        self.signing_key.sign(text.as_bytes())
    }

    /// Signature of a chunk whose data has this hex SHA-256.
    fn sign_chunk(&self, data_sha256: &str) -> Signature {
        self.sign_next("PAYLOAD", &format!("{EMPTY_SHA256}\n{data_sha256}"))
    }

    fn sign_trailers(&self, canonical: &str) -> Signature {
        self.sign_next("TRAILER", &sha256_hex(canonical.as_bytes()))
    }
}

enum DecoderState {
    /// Reading a chunk head line.
    ChunkHead,
    Data {
        remaining: u64,
    },
    /// The CRLF after the data of a chunk.
    DataEnd,
    Trailer,
    Done,
}

pub struct ChunkedDecoder {
    state: DecoderState,
    line_buffer: Vec<u8>,
    declared_length: u64,
    decoded_length: u64,
    signature_chain: Option<SignatureChain>,
    claimed_signature: Option<Signature>,
    chunk_hash: digest::Context,
    /// One for each checksum that is declared.
    checksums: Vec<TrailerChecksum>,
    declared_trailers: Vec<String>,
    trailers: Vec<(String, String)>,
    trailer_signature: Option<Signature>,
}

impl ChunkedDecoder {
    /// `trailers_declared`: the lower-case names of `x-amz-trailer`.
    pub fn new(declared_length: u64, trailers_declared: Vec<String>, chain: Option<SignatureChain>) -> Self {
        let mut checksums: Vec<TrailerChecksum> = Vec::new();
        for checksum in trailers_declared.iter().filter_map(|name| TrailerChecksum::from_trailer_name(name)) {
            // A name that is declared a hundred times is not worth a hundred hashes of each byte.
            if checksums.iter().all(|other| other.trailer_name() != checksum.trailer_name()) {
                checksums.push(checksum);
            }
        }
        Self {
            state: DecoderState::ChunkHead,
            line_buffer: Vec::new(),
            declared_length,
            decoded_length: 0,
            signature_chain: chain,
            claimed_signature: None,
            chunk_hash: digest::Context::new(&digest::SHA256),
            checksums,
            declared_trailers: trailers_declared,
            trailers: Vec::new(),
            trailer_signature: None,
        }
    }

    /// Whether the final chunk and its trailers have been read and were right.
    pub fn is_done(&self) -> bool {
        matches!(self.state, DecoderState::Done)
    }

    /// Takes the next bytes of the body as they came, and hands on what they held.
    pub fn push(&mut self, mut bytes: Bytes) -> Result<Vec<ChunkEvent>, ChunkedBodyError> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            match self.state {
                DecoderState::Data { remaining: left } => self.read_data(left, &mut bytes, &mut pieces),
                DecoderState::Done => return Err(ChunkedBodyError::Framing("bytes after the final chunk")),
                DecoderState::ChunkHead | DecoderState::DataEnd | DecoderState::Trailer => {
                    if let Some(line) = self.read_line(&mut bytes)? {
                        self.process_line(&line, &mut pieces)?;
                    }
                }
            }
        }
        Ok(pieces)
    }

    fn read_data(&mut self, left: u64, bytes: &mut Bytes, pieces: &mut Vec<ChunkEvent>) {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let data = bytes.split_to(count);
        if self.signature_chain.is_some() {
            self.chunk_hash.update(&data);
        }
        for checksum in &mut self.checksums {
            checksum.update(&data);
        }
        self.decoded_length += count as u64;
        pieces.push(ChunkEvent::Data(data));
        let left = left - count as u64;
        self.state = if left == 0 { DecoderState::DataEnd } else { DecoderState::Data { remaining: left } };
    }

    /// One line without its CRLF, once it is whole. A bare LF or CR is refused: two readers could disagree on it.
    fn read_line(&mut self, bytes: &mut Bytes) -> Result<Option<String>, ChunkedBodyError> {
        while bytes.has_remaining() {
            let byte = bytes.get_u8();
            if self.line_buffer.last() == Some(&b'\r') {
                if byte != b'\n' {
                    return Err(ChunkedBodyError::Framing("a carriage return without a line feed"));
                }
                self.line_buffer.pop();
                let line = String::from_utf8(std::mem::take(&mut self.line_buffer))
                    .map_err(|_invalid| ChunkedBodyError::Framing("a line is not UTF-8"))?;
                return Ok(Some(line));
            }
            if byte == b'\n' {
                return Err(ChunkedBodyError::Framing("a line feed without a carriage return"));
            }
            if self.line_buffer.len() >= MAX_LINE_BYTES {
                return Err(ChunkedBodyError::Framing("a line is longer than 1024 bytes"));
            }
            self.line_buffer.push(byte);
        }
        Ok(None)
    }

    fn process_line(&mut self, line: &str, pieces: &mut Vec<ChunkEvent>) -> Result<(), ChunkedBodyError> {
        match self.state {
            DecoderState::ChunkHead => self.process_chunk_head(line, pieces),
            DecoderState::DataEnd if line.is_empty() => {
                self.verify_chunk_signature()?;
                self.state = DecoderState::ChunkHead;
                Ok(())
            }
            DecoderState::DataEnd => Err(ChunkedBodyError::Framing("a chunk is longer than its head says")),
            _ => self.process_trailer(line, pieces),
        }
    }

    fn process_chunk_head(
        &mut self,
        line: &str,
        pieces: &mut Vec<ChunkEvent>,
    ) -> Result<(), ChunkedBodyError> {
        let (size, extension) = match line.split_once(';') {
            Some((size, extension)) => (size, Some(extension)),
            None => (line, None),
        };
        if size.is_empty() || size.len() > 15 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ChunkedBodyError::Framing("a chunk size is not a hexadecimal number"));
        }
        let size = u64::from_str_radix(size, 16)
            .map_err(|_invalid| ChunkedBodyError::Framing("a chunk size is too large"))?;
        self.claimed_signature = match (
            extension.map(|text| text.strip_prefix("chunk-signature=")),
            self.signature_chain.is_some(),
        ) {
            (Some(Some(signature)), true) => {
                Some(Signature::parse(signature).ok_or(ChunkedBodyError::ChunkSignature)?)
            }
            (None, false) => None,
            (_, true) => return Err(ChunkedBodyError::ChunkSignature),
            (Some(_), false) => {
                return Err(ChunkedBodyError::Framing("a chunk extension in an unsigned body"));
            }
        };
        if self.decoded_length.checked_add(size).is_none_or(|total| total > self.declared_length) {
            return Err(ChunkedBodyError::Length {
                declared: self.declared_length,
                actual: self.decoded_length.saturating_add(size),
            });
        }
        if size > 0 {
            pieces.push(ChunkEvent::Chunk(size));
            self.state = DecoderState::Data { remaining: size };
            return Ok(());
        }
        self.verify_chunk_signature()?;
        if self.decoded_length != self.declared_length {
            return Err(ChunkedBodyError::Length {
                declared: self.declared_length,
                actual: self.decoded_length,
            });
        }
        pieces.push(ChunkEvent::Chunk(0));
        self.state = DecoderState::Trailer;
        Ok(())
    }

    fn verify_chunk_signature(&mut self) -> Result<(), ChunkedBodyError> {
        let Some(chain) = &mut self.signature_chain else { return Ok(()) };
        let hash = std::mem::replace(&mut self.chunk_hash, digest::Context::new(&digest::SHA256)).finish();
        let ours = chain.sign_chunk(&encode_hex(hash.as_ref()));
        let claimed = self.claimed_signature.take().ok_or(ChunkedBodyError::ChunkSignature)?;
        if !ours.matches(&claimed) {
            return Err(ChunkedBodyError::ChunkSignature);
        }
        chain.previous_signature = ours;
        Ok(())
    }

    fn process_trailer(&mut self, line: &str, pieces: &mut Vec<ChunkEvent>) -> Result<(), ChunkedBodyError> {
        if line.is_empty() {
            self.verify_trailers()?;
            self.state = DecoderState::Done;
            for (name, value) in self.trailers.drain(..) {
                pieces.push(ChunkEvent::Trailer(name, value));
            }
            pieces.push(ChunkEvent::End);
            return Ok(());
        }
        let (name, value) =
            line.split_once(':').ok_or(ChunkedBodyError::Framing("a trailer has no colon"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "x-amz-trailer-signature" {
            let signature = Signature::parse(value).ok_or(ChunkedBodyError::TrailerSignature)?;
            if self.trailer_signature.replace(signature).is_some() {
                return Err(ChunkedBodyError::TrailerSignature);
            }
            return Ok(());
        }
        if self.trailers.len() == MAX_TRAILERS {
            return Err(ChunkedBodyError::Framing("more than 16 trailers"));
        }
        self.trailers.push((name, value.to_owned()));
        Ok(())
    }

    fn verify_trailers(&mut self) -> Result<(), ChunkedBodyError> {
        let mut names: Vec<&str> = self.trailers.iter().map(|(name, _value)| name.as_str()).collect();
        names.sort_unstable();
        let mut declared: Vec<&str> = self.declared_trailers.iter().map(String::as_str).collect();
        declared.sort_unstable();
        if names != declared {
            return Err(ChunkedBodyError::Trailers);
        }
        for (name, value) in &self.trailers {
            let known = self.checksums.iter().find(|checksum| checksum.trailer_name() == name);
            if let Some(checksum) = known.filter(|checksum| !checksum.matches(value)) {
                return Err(ChunkedBodyError::Checksum(checksum.trailer_name()));
            }
        }
        match (&self.signature_chain, self.trailer_signature) {
            (Some(chain), claimed) if chain.has_signed_trailer => {
                let mut canonical = String::new();
                for (name, value) in &self.trailers {
                    // Writing to a String cannot fail.
                    let _infallible = writeln!(canonical, "{name}:{value}");
                }
                let claimed = claimed.ok_or(ChunkedBodyError::TrailerSignature)?;
                if chain.sign_trailers(&canonical).matches(&claimed) {
                    Ok(())
                } else {
                    Err(ChunkedBodyError::TrailerSignature)
                }
            }
            (_, Some(_unexpected)) => Err(ChunkedBodyError::TrailerSignature),
            (_, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
