//! Files that a command line or a configuration names: their content, or an error that names the file.

use durward_core::Secret;
use std::io;
use std::path::{Path, PathBuf};

/// Why a file is of no use. The text never holds what the file holds.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: is not text: it must hold the secret and nothing else", path.display())]
    NotText { path: PathBuf },
    #[error("{}: is empty: it must hold the secret", path.display())]
    Empty { path: PathBuf },
}

pub fn read_file(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| FileError::Unreadable { path: path.to_owned(), error })
}

/// Reads a file that holds one secret. White space around it is dropped: editors and `echo` end a file with a line feed.
pub fn read_secret(path: &Path) -> Result<Secret, FileError> {
    let text =
        String::from_utf8(read_file(path)?).map_err(|_error| FileError::NotText { path: path.to_owned() })?;
    match text.trim() {
        "" => Err(FileError::Empty { path: path.to_owned() }),
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_trimmed_and_must_be_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, " s3cret\n").unwrap();
        assert_eq!(read_secret(&file).unwrap().expose(), "s3cret");
        for (bytes, reason) in [(&b" \n"[..], "is empty"), (&b"\xff"[..], "is not text")] {
            std::fs::write(&file, bytes).unwrap();
            let error = read_secret(&file).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(&file.display().to_string()), "{error}");
        }
        let error = read_secret(&dir.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("cannot be read: No such file"), "{error}");
    }
}
