//! What a generator gives.

use std::path::PathBuf;

/// A file and the bytes that it must hold.
pub struct GeneratedFile {
    pub path: PathBuf,
    pub content: Vec<u8>,
}
