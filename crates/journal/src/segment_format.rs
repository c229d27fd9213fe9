//! The bytes on disk: segment headers, frames and the chain. `FORMAT.md` describes the same in words.
//!
//! Nothing here does I/O, and nothing here trusts what it decodes.

use aws_lc_rs::digest::{Context, SHA256};

pub use durward_core::limits::MAX_RECORD_BYTES;

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"DURWJRNL";
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment header.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 60;
/// Bytes of a frame in front of its record.
pub(crate) const FRAME_HEAD_BYTES: usize = 44;
/// Bytes of a frame that hold its length and the checksum of the length.
pub(crate) const FRAME_LENGTH_BYTES: usize = 8;

/// A leaf or a link of the chain.
pub(crate) type Sha256Hash = [u8; 32];

/// The link before the first record of a journal.
pub(crate) const GENESIS_LINK: Sha256Hash = [0; 32];

/// The state of the chain after a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HashChain {
    pub link: Sha256Hash,
    /// The number of records in the chain, which is also the number of the last one.
    pub record_count: u64,
}

impl HashChain {
    pub const START: Self = Self { link: GENESIS_LINK, record_count: 0 };

    /// The chain after one more record.
    pub fn with_leaf(self, leaf: &Sha256Hash) -> Self {
        Self { link: link_hash(&self.link, leaf), record_count: self.record_count.saturating_add(1) }
    }
}

/// The leaf hash of RFC 6962 section 2.1.
pub(crate) fn leaf_hash(record: &[u8]) -> Sha256Hash {
    sha256_of_parts(&[&[0x00], record])
}

/// The prefix 0x02 separates links from the leaves (0x00) and the nodes (0x01) of RFC 6962: no record can be passed off as a link.
fn link_hash(previous: &Sha256Hash, leaf: &Sha256Hash) -> Sha256Hash {
    sha256_of_parts(&[&[0x02], previous, leaf])
}

fn sha256_of_parts(parts: &[&[u8]]) -> Sha256Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The header of segment `number`, which continues `chain`.
pub(crate) fn encode_header(number: u32, chain: &HashChain) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut out = [0; SEGMENT_HEADER_BYTES];
    out[..8].copy_from_slice(&SEGMENT_MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&number.to_le_bytes());
    out[16..24].copy_from_slice(&chain.record_count.to_le_bytes());
    out[24..56].copy_from_slice(&chain.link);
    let check = crc32fast::hash(&out[..56]);
    out[56..].copy_from_slice(&check.to_le_bytes());
    out
}

/// Why a header cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Magic,
    Checksum,
    Version(u32),
}

/// The number of the segment, and the chain that it continues.
pub(crate) fn decode_header(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<(u32, HashChain), HeaderError> {
    if bytes[..8] != SEGMENT_MAGIC {
        return Err(HeaderError::Magic);
    }
    if crc32fast::hash(&bytes[..56]) != read_u32_le(bytes, 56) {
        return Err(HeaderError::Checksum);
    }
    let version = read_u32_le(bytes, 8);
    if version != FORMAT_VERSION {
        return Err(HeaderError::Version(version));
    }
    let mut records = [0; 8];
    records.copy_from_slice(&bytes[16..24]);
    let mut link = [0; 32];
    link.copy_from_slice(&bytes[24..56]);
    Ok((read_u32_le(bytes, 12), HashChain { link, record_count: u64::from_le_bytes(records) }))
}

fn read_u32_le(bytes: &[u8; SEGMENT_HEADER_BYTES], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Fills the head of a frame whose record is in its place already.
pub(crate) fn seal_frame(frame: &mut [u8], link: &Sha256Hash) {
    // The length fits: `encode_record` refuses records over MAX_RECORD_BYTES.
    let length = ((frame.len() - FRAME_HEAD_BYTES) as u32).to_le_bytes();
    frame[..4].copy_from_slice(&length);
    // The length has a checksum of its own: with a damaged length, the reader would look for the checksum of the record in a
    // wrong place.
    frame[4..8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
    frame[12..FRAME_HEAD_BYTES].copy_from_slice(link);
    let check = crc32fast::hash(&frame[12..]);
    frame[8..12].copy_from_slice(&check.to_le_bytes());
}

/// The length of the record, or `None` if the checksum does not match or the length is out of range.
pub(crate) fn decode_frame_length(bytes: [u8; FRAME_LENGTH_BYTES]) -> Option<usize> {
    let [a, b, c, d, check @ ..] = bytes;
    let length = [a, b, c, d];
    if crc32fast::hash(&length) != u32::from_le_bytes(check) {
        return None;
    }
    let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
    // Zero is refused: a hole of zeros in a file is not a sequence of empty records.
    (1..=MAX_RECORD_BYTES).contains(&length).then_some(length)
}

/// The name of a segment's file.
pub(crate) fn segment_file_name(number: u32) -> String {
    format!("{number:08}.journal")
}

/// The number in the file name of a segment, or `None` for any other file.
pub(crate) fn parse_segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".journal")?;
    let number = digits.parse().ok()?;
    (number > 0 && segment_file_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_hashed_as_rfc_6962_says() {
        // printf '\0' | sha256sum: the leaf hash of the empty entry.
        assert_eq!(
            leaf_hash(b"")[..8],
            [0x6e, 0x34, 0x0b, 0x9c, 0xff, 0xb3, 0x7a, 0x98],
            "RFC 6962 test vector of the empty leaf"
        );
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_byte_is_an_error() {
        let chain = HashChain { link: [7; 32], record_count: 41 };
        let bytes = encode_header(3, &chain);
        assert_eq!(decode_header(&bytes), Ok((3, chain)));
        for at in 0..SEGMENT_HEADER_BYTES {
            for mask in [0x01, 0x80, 0xff] {
                let mut flipped = bytes;
                flipped[at] ^= mask;
                assert!(decode_header(&flipped).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_flipped_length_is_no_length() {
        let mut frame = vec![0; FRAME_HEAD_BYTES + 5];
        seal_frame(&mut frame, &GENESIS_LINK);
        let mut length = [0; FRAME_LENGTH_BYTES];
        length.copy_from_slice(&frame[..FRAME_LENGTH_BYTES]);
        assert_eq!(decode_frame_length(length), Some(5));
        for at in 0..FRAME_LENGTH_BYTES {
            for mask in 1..=255 {
                let mut flipped = length;
                flipped[at] ^= mask;
                assert_eq!(decode_frame_length(flipped), None, "byte {at} mask {mask}");
            }
        }
        assert_eq!(decode_frame_length([0; FRAME_LENGTH_BYTES]), None);
    }

    #[test]
    fn only_canonical_names_are_segments() {
        assert_eq!(parse_segment_number("00000012.journal"), Some(12));
        for name in [
            "12.journal",
            "00000012.journal.old",
            "+0000012.journal",
            "00000000.journal",
            "lock",
            "x0000012.journal",
        ] {
            assert_eq!(parse_segment_number(name), None, "{name}");
        }
    }
}
