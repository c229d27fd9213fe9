//! `aws-chunked` bodies (S3 API Reference, "Signature calculations: transferring payload in multiple chunks"): a push decoder
//! that verifies framing, chunk signatures, signed trailers and the checksums in trailers while the bytes pass.
//!
//! Promise: it holds at most one chunk head or trailer line in memory. A body that ends early, whose signature chain breaks or
//! whose checksum differs is an error, and the caller must then abort the upstream request. S3 verifies a checksum in a header
//! (`x-amz-checksum-*`, `Content-MD5`), which is sent on under the gateway's signature.

mod checksum;

use crate::sigv4::{EMPTY_SHA256, Signature, SigningKey, sha256_hex};
use aws_lc_rs::digest;
use bytes::{Buf, Bytes};
use checksum::TrailerChecksum;
use durward_core::encode_hex;
use std::fmt::Write as _;

/// Longest chunk head or trailer line, in bytes. A signed chunk head has some 90.
const MAX_LINE_BYTES: usize = 1024;
/// Most trailers of one body. SDKs send one checksum and its signature.
const MAX_TRAILERS: usize = 16;

/// The reasons for which a body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedBodyError {
    #[error("the aws-chunked framing is broken: {0}")]
    Framing(&'static str),
    #[error("a line of the aws-chunked framing is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    #[error("the body has more than {MAX_TRAILERS} trailers")]
    TooManyTrailers,
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

/// A decoded part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkEvent {
    /// A chunk of this many bytes begins; 0 is the final one.
    Chunk(u64),
    Data(Bytes),
    Trailer(String, String),
    /// The body is complete and verified.
    End,
}

/// The rolling signature of a signed body: each chunk is signed together with the signature before it.
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

    /// The signature of a chunk whose data has this SHA-256, in hexadecimal.
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
    /// Reading the CRLF after the data of a chunk.
    DataEnd,
    Trailer,
    Done,
}

/// Decodes one body.
pub struct ChunkedDecoder {
    state: DecoderState,
    line_buffer: Vec<u8>,
    declared_length: u64,
    decoded_length: u64,
    signature_chain: Option<SignatureChain>,
    claimed_signature: Option<Signature>,
    chunk_hash: digest::Context,
    /// One for each declared checksum.
    checksums: Vec<TrailerChecksum>,
    declared_trailers: Vec<String>,
    trailers: Vec<(String, String)>,
    trailer_signature: Option<Signature>,
}

impl ChunkedDecoder {
    /// `declared_trailers`: the names in `x-amz-trailer`, in lower case.
    pub fn new(declared_length: u64, declared_trailers: Vec<String>, chain: Option<SignatureChain>) -> Self {
        let mut checksums: Vec<TrailerChecksum> = Vec::new();
        for checksum in declared_trailers.iter().filter_map(|name| TrailerChecksum::from_trailer_name(name)) {
            // A name that is declared a hundred times must not cost a hundred hashes of each byte.
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
            declared_trailers,
            trailers: Vec::new(),
            trailer_signature: None,
        }
    }

    /// Returns true once the final chunk and its trailers have been read and verified.
    pub fn is_done(&self) -> bool {
        matches!(self.state, DecoderState::Done)
    }

    /// Decodes the next bytes of the body, however they are split.
    pub fn push(&mut self, mut bytes: Bytes) -> Result<Vec<ChunkEvent>, ChunkedBodyError> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            match self.state {
                DecoderState::Data { remaining } => self.read_data(remaining, &mut bytes, &mut events),
                DecoderState::Done => return Err(ChunkedBodyError::Framing("bytes after the final chunk")),
                DecoderState::ChunkHead | DecoderState::DataEnd | DecoderState::Trailer => {
                    if let Some(line) = self.read_line(&mut bytes)? {
                        self.process_line(&line, &mut events)?;
                    }
                }
            }
        }
        Ok(events)
    }

    fn read_data(&mut self, remaining: u64, bytes: &mut Bytes, events: &mut Vec<ChunkEvent>) {
        let count = usize::try_from(remaining).unwrap_or(usize::MAX).min(bytes.len());
        let data = bytes.split_to(count);
        if self.signature_chain.is_some() {
            self.chunk_hash.update(&data);
        }
        for checksum in &mut self.checksums {
            checksum.update(&data);
        }
        // The data goes out before the signature of its chunk is verified, so that a chunk of any size needs no memory. The
        // caller holds back the end of the body until `End` (docs/adr/0016).
        self.decoded_length += count as u64;
        events.push(ChunkEvent::Data(data));
        let remaining = remaining - count as u64;
        self.state = if remaining == 0 { DecoderState::DataEnd } else { DecoderState::Data { remaining } };
    }

    /// Returns the next line without its CRLF once it is complete. A bare LF or CR is refused: readers differ in whether it ends
    /// the line, the way requests are smuggled past proxies (RFC 9112 section 11.2).
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
                return Err(ChunkedBodyError::LineTooLong);
            }
            self.line_buffer.push(byte);
        }
        Ok(None)
    }

    fn process_line(&mut self, line: &str, events: &mut Vec<ChunkEvent>) -> Result<(), ChunkedBodyError> {
        match self.state {
            DecoderState::ChunkHead => self.process_chunk_head(line, events),
            DecoderState::DataEnd if line.is_empty() => {
                self.verify_chunk_signature()?;
                self.state = DecoderState::ChunkHead;
                Ok(())
            }
            DecoderState::DataEnd => Err(ChunkedBodyError::Framing("a chunk is longer than its head says")),
            _ => self.process_trailer(line, events),
        }
    }

    fn process_chunk_head(
        &mut self,
        line: &str,
        events: &mut Vec<ChunkEvent>,
    ) -> Result<(), ChunkedBodyError> {
        let (size, extension) = match line.split_once(';') {
            Some((size, extension)) => (size, Some(extension)),
            None => (line, None),
        };
        // Fifteen digits always fit in a u64: a recipient must expect numbers that overflow (RFC 9112 section 7.1). The digits
        // are checked because `from_str_radix` accepts a `+` in front.
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
            // S3 defines one extension, `chunk-signature`, and only for signed bodies. Readers of unknown extensions differ.
            (Some(_), false) => {
                return Err(ChunkedBodyError::Framing("a chunk extension in an unsigned body"));
            }
        };
        // The declared length is a signed header. Checking it here refuses a chunk that is too long before any of its bytes go
        // upstream.
        if self.decoded_length.checked_add(size).is_none_or(|total| total > self.declared_length) {
            return Err(ChunkedBodyError::Length {
                declared: self.declared_length,
                actual: self.decoded_length.saturating_add(size),
            });
        }
        if size > 0 {
            events.push(ChunkEvent::Chunk(size));
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
        events.push(ChunkEvent::Chunk(0));
        self.state = DecoderState::Trailer;
        Ok(())
    }

    fn verify_chunk_signature(&mut self) -> Result<(), ChunkedBodyError> {
        let Some(chain) = &mut self.signature_chain else { return Ok(()) };
        let hash = std::mem::replace(&mut self.chunk_hash, digest::Context::new(&digest::SHA256)).finish();
        let expected = chain.sign_chunk(&encode_hex(hash.as_ref()));
        let claimed = self.claimed_signature.take().ok_or(ChunkedBodyError::ChunkSignature)?;
        if !expected.matches(&claimed) {
            return Err(ChunkedBodyError::ChunkSignature);
        }
        chain.previous_signature = expected;
        Ok(())
    }

    fn process_trailer(&mut self, line: &str, events: &mut Vec<ChunkEvent>) -> Result<(), ChunkedBodyError> {
        if line.is_empty() {
            self.verify_trailers()?;
            self.state = DecoderState::Done;
            for (name, value) in self.trailers.drain(..) {
                events.push(ChunkEvent::Trailer(name, value));
            }
            events.push(ChunkEvent::End);
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
            return Err(ChunkedBodyError::TooManyTrailers);
        }
        self.trailers.push((name, value.to_owned()));
        Ok(())
    }

    fn verify_trailers(&mut self) -> Result<(), ChunkedBodyError> {
        let mut names: Vec<&str> = self.trailers.iter().map(|(name, _value)| name.as_str()).collect();
        names.sort_unstable();
        let mut declared: Vec<&str> = self.declared_trailers.iter().map(String::as_str).collect();
        declared.sort_unstable();
        // In `STREAMING-UNSIGNED-PAYLOAD-TRAILER` only the header `x-amz-trailer` is signed, not the trailers: anyone on the
        // way could add one.
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
