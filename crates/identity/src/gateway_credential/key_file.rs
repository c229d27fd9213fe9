//! The file that holds the master keys of [`SealKeys`]: one key a line, as 64 hexadecimal digits. The first one issues; the
//! others only open. To rotate, insert a new first line on every replica, and delete the old one when its credentials have
//! expired.
//!
//! Promises: a file that other users may read is refused, and an existing file is never written.

use super::{MAX_MASTER_KEYS, SealKeys};
use aws_lc_rs::rand;
use durward_core::encode_hex;
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Bytes of a key file: enough for the keys of a few rotations.
const MAX_KEY_FILE_BYTES: u64 = 4_096;

/// Why the key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("seal key {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("seal key {path}: others may read it (mode {mode:03o}): chmod 600, and replace it if they did")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("seal key {path}: expected 1 to {MAX_MASTER_KEYS} different lines of 64 hexadecimal digits")]
    Malformed { path: PathBuf },
    #[error("seal key {path}: the system's random number generator failed")]
    Random { path: PathBuf },
}

impl SealKeys {
    /// Loads the keys of the file at `path`. If it does not exist, it and its directory are created, with one random key.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        match Self::load_key_file(path) {
            // Only for a file that is not there: a new key in place of one that cannot be read would end every session.
            Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                create_key_file(path)?;
                Self::load_key_file(path)
            }
            result => result,
        }
    }

    fn load_key_file(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // The metadata of the open file, not of the path: the file cannot be exchanged between check and read (TOCTOU).
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
        }
        let malformed = || KeyFileError::Malformed { path: path.to_owned() };
        if !metadata.is_file() || metadata.len() > MAX_KEY_FILE_BYTES {
            return Err(malformed());
        }
        // Allocated in full at the start: a buffer that grows would leave copies of the keys in freed memory.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES as usize + 1));
        file.take(MAX_KEY_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        let text = std::str::from_utf8(&text).map_err(|_| malformed())?;
        let masters: Option<Vec<_>> =
            text.lines().filter(|line| !line.trim().is_empty()).map(parse_master_key).collect();
        masters.and_then(|masters| Self::from_master_keys(&masters)).ok_or_else(malformed)
    }
}

/// Writes a draft beside the path and links it there: the file is complete from the start and overwrites no other process's.
fn create_key_file(path: &Path) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let (master, name) = (random_key_line(path)?, random_key_line(path)?);
    let draft = directory.join(format!(".seal-{}", name.get(..16).unwrap_or_default()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    let written = file
        .write_all(master.as_bytes())
        .and_then(|()| file.sync_all())
        // link(2) fails if the name exists, unlike rename(2), which would replace the key that another process issues with.
        .and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft).map_err(failed)?;
    match written {
        // Another process that shares this directory was first; its key is used.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // The directory too: otherwise a crash could lose the name of the file, and with it every issued credential (fsync(2)).
        written => written.and_then(|()| File::open(directory)?.sync_all()).map_err(failed),
    }
}

/// 32 random bytes as a line of the file.
fn random_key_line(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| KeyFileError::Random { path: path.to_owned() })?;
    let digits = Zeroizing::new(encode_hex(bytes.as_slice()));
    let mut line = Zeroizing::new(String::with_capacity(digits.len() + 1));
    line.push_str(&digits);
    line.push('\n');
    Ok(line)
}

fn parse_master_key(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits = line.trim().as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut master = Zeroizing::new([0; 32]);
    for (byte, pair) in master.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            *byte = (*byte << 4) | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
    }
    Some(master)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway_credential::{GatewayCredentialError, tests::NOW, tests::sample_claims};
    use std::fs;

    #[test]
    fn creates_a_private_file_once_and_reads_it_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys/seal.key");
        let first = SealKeys::load_or_create(&path).expect("created");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&directory.path().join("keys"))), (0o600, 0o700));
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(text.len(), 65);

        let again = SealKeys::load_or_create(&path).expect("read");
        assert_eq!(fs::read_to_string(&path).expect("readable"), text);
        let credential = first.issue(&sample_claims()).expect("issued");
        again.open(&credential.access_key_id, credential.session_token.expose(), NOW).expect("one key");
        assert_eq!(
            fs::read_dir(directory.path().join("keys")).expect("listed").count(),
            1,
            "a draft is left"
        );
    }

    #[test]
    fn refuses_a_file_that_others_may_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("seal.key");
        SealKeys::load_or_create(&path).expect("created");
        for mode in [0o640, 0o604, 0o660, 0o644, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
            assert!(matches!(SealKeys::load_or_create(&path), Err(KeyFileError::Exposed { .. })), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("changed");
        SealKeys::load_or_create(&path).expect("private");
    }

    #[test]
    fn refuses_a_file_that_holds_no_keys_and_leaves_it_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("seal.key");
        let key = "ab".repeat(32);
        for text in [
            String::new(),
            "short\n".to_owned(),
            format!("{key}0\n"),
            format!("{}\n", "zz".repeat(32)),
            format!("{key}\n{key}\n"),
            format!("{key}\nnonsense\n"),
            " ".repeat(5_000),
        ] {
            fs::write(&path, &text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
            assert!(
                matches!(SealKeys::load_or_create(&path), Err(KeyFileError::Malformed { .. })),
                "{text:.80}"
            );
            assert_eq!(fs::read_to_string(&path).expect("readable"), text);
        }
    }

    #[test]
    fn a_new_first_line_issues_and_the_old_one_still_opens() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("seal.key");
        let old = SealKeys::load_or_create(&path).expect("created");
        let credential = old.issue(&sample_claims()).expect("issued");
        let rotated = format!("{}\n{}", "c4".repeat(32), fs::read_to_string(&path).expect("readable"));
        fs::write(&path, rotated).expect("written");

        let new = SealKeys::load_or_create(&path).expect("read");
        new.open(&credential.access_key_id, credential.session_token.expose(), NOW).expect("old opens");
        let newer = new.issue(&sample_claims()).expect("issued");
        let refused = old.open(&newer.access_key_id, newer.session_token.expose(), NOW);
        assert_eq!(refused.err(), Some(GatewayCredentialError::Foreign));
    }
}
