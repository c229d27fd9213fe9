//! The checksums in the trailers of an upload (S3 User Guide, "Checking object integrity in Amazon S3"), computed while it
//! passes.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;

/// The running checksum of the data.
pub(super) struct TrailerChecksum {
    trailer_name: &'static str,
    state: ChecksumState,
}

enum ChecksumState {
    Crc32(crc_fast::Digest),
    Crc64(crc_fast::Digest),
    Sha(digest::Context),
}

impl TrailerChecksum {
    /// The checksum in a trailer of this lower-case name. `None` for other trailers and for newer algorithms (MD5, SHA-512,
    /// XXHash), which S3 itself verifies.
    pub fn from_trailer_name(trailer: &str) -> Option<Self> {
        let crc32 = |algorithm| ChecksumState::Crc32(crc_fast::Digest::new(algorithm));
        let sha = |algorithm| ChecksumState::Sha(digest::Context::new(algorithm));
        let (trailer_name, state) = match trailer {
            "x-amz-checksum-crc32" => ("x-amz-checksum-crc32", crc32(CrcAlgorithm::Crc32IsoHdlc)),
            // CRC-32C is the Castagnoli polynomial, which the crate names after iSCSI.
            "x-amz-checksum-crc32c" => ("x-amz-checksum-crc32c", crc32(CrcAlgorithm::Crc32Iscsi)),
            "x-amz-checksum-crc64nvme" => (
                "x-amz-checksum-crc64nvme",
                ChecksumState::Crc64(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)),
            ),
            // S3 offers SHA-1 (S3 User Guide, "Checking object integrity in Amazon S3"). It finds damage here; nothing relies
            // on it as a signature.
            "x-amz-checksum-sha1" => ("x-amz-checksum-sha1", sha(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            "x-amz-checksum-sha256" => ("x-amz-checksum-sha256", sha(&digest::SHA256)),
            _ => return None,
        };
        Some(Self { trailer_name, state })
    }

    pub fn trailer_name(&self) -> &'static str {
        self.trailer_name
    }

    pub fn update(&mut self, data: &[u8]) {
        match &mut self.state {
            ChecksumState::Crc32(crc) | ChecksumState::Crc64(crc) => crc.update(data),
            ChecksumState::Sha(hash) => hash.update(data),
        }
    }

    /// Returns true if the base64 value of the trailer is the checksum of the data.
    pub fn matches(&self, value: &str) -> bool {
        let Ok(claimed) = STANDARD.decode(value) else { return false };
        match &self.state {
            // The trailer holds the bytes of a CRC in network order.
            ChecksumState::Crc32(crc) => {
                u32::try_from(crc.finalize()).is_ok_and(|crc| claimed == crc.to_be_bytes())
            }
            ChecksumState::Crc64(crc) => claimed == crc.finalize().to_be_bytes(),
            ChecksumState::Sha(hash) => claimed == hash.clone().finish().as_ref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of each algorithm, over `123456789`: the CRC catalogue (CRC-32/ISO-HDLC cbf43926, CRC-32/ISCSI
    /// e3069283, CRC-64/NVME ae8b14860a799888) and FIPS 180 by sha1sum and sha256sum.
    const CHECK_VALUES: [(&str, &str); 5] = [
        ("crc32", "y/Q5Jg=="),
        ("crc32c", "4waSgw=="),
        ("crc64nvme", "rosUhgp5mIg="),
        ("sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
        ("sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ];

    #[test]
    fn matches_the_check_value_of_each_algorithm_however_the_data_is_split() {
        for (name, value) in CHECK_VALUES {
            for parts in [&["123456789"][..], &["1", "", "2345678", "9"]] {
                let mut checksum =
                    TrailerChecksum::from_trailer_name(&format!("x-amz-checksum-{name}")).unwrap();
                for part in parts {
                    checksum.update(part.as_bytes());
                }
                assert!(checksum.matches(value), "{name}");
                assert!(!checksum.matches(&value.replacen(|_: char| true, "B", 1)), "{name}");
                for other in ["", "=", "AAAAAA==", "not base64"] {
                    assert!(!checksum.matches(other), "{name} {other}");
                }
            }
        }
    }

    #[test]
    fn leaves_unknown_checksums_to_s3() {
        for name in ["x-amz-checksum-md5", "x-amz-checksum-xxhash3", "x-amz-meta-a", "x-amz-checksum-"] {
            assert!(TrailerChecksum::from_trailer_name(name).is_none());
        }
    }
}
