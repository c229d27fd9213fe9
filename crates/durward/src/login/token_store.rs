//! The files that hold sign-ins: one for each console, in a directory of the user's own.
//!
//! A file or directory that other users can read or change is refused. A file is replaced as a whole, so that a command never
//! reads half of what another one writes. A file is written only under its lock.

use super::provider_client::{ClientRegistration, SignInTokens};
use crate::command_error::CommandError;
use crate::config;
use crate::console_endpoint::ConsoleEndpoint;
use durward_core::Secret;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Largest file that is read: two long tokens and the client registration.
const MAX_TOKEN_FILE_BYTES: u64 = 256 << 10;

/// A sign-in to one console. Only this file format turns the tokens into plain text.
#[derive(Serialize, Deserialize)]
pub struct StoredTokens {
    console_address: String,
    pub registration: ClientRegistration,
    pub subject: String,
    #[serde(with = "secret_text")]
    pub id_token: Secret,
    /// When the ID token expires, in seconds since 1970.
    pub expires_at: i64,
    #[serde(with = "optional_secret_text")]
    pub refresh_token: Option<Secret>,
}

mod secret_text {
    use durward_core::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

mod optional_secret_text {
    use durward_core::Secret;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
    }
}

/// Why a stored sign-in cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenStoreError {
    #[error("there is no HOME to store a sign-in in: use --token-file, or set XDG_STATE_HOME")]
    NoHome,
    #[error("{}: cannot be {action}: {error}", path.display())]
    Io { path: PathBuf, action: &'static str, error: io::Error },
    #[error(
        "{}: other users can read or change it (mode {mode:03o})\n  hint: `chmod go= {}`; if another user may have read it, run \
         `durward logout` and `durward login` afterwards",
        path.display(),
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{}: does not hold a sign-in to {address}: run `durward login` again", path.display())]
    Invalid { path: PathBuf, address: String },
}

impl TokenStoreError {
    fn io(path: &Path, action: &'static str) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::Io { path: path.clone(), action, error }
    }
}

impl From<TokenStoreError> for CommandError {
    fn from(error: TokenStoreError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl StoredTokens {
    pub fn new(console: &ConsoleEndpoint, registration: &ClientRegistration, tokens: SignInTokens) -> Self {
        Self {
            console_address: console.canonical_address(),
            registration: registration.clone(),
            subject: tokens.subject,
            id_token: tokens.id_token,
            expires_at: tokens.expires_at.unix_timestamp(),
            refresh_token: tokens.refresh_token,
        }
    }

    /// Returns true if the ID token is valid for longer than `margin`.
    pub fn is_valid_for(&self, now: OffsetDateTime, margin: time::Duration) -> bool {
        self.expires_at.saturating_sub(now.unix_timestamp()) > margin.whole_seconds()
    }

    pub fn load(console: &ConsoleEndpoint) -> Result<Option<Self>, TokenStoreError> {
        Self::load_from_dir(&token_directory()?, &console.canonical_address())
    }

    pub fn save(&self, console: &ConsoleEndpoint) -> Result<(), TokenStoreError> {
        self.save_to_dir(&token_directory()?, &console.canonical_address())
    }

    fn load_from_dir(directory: &Path, address: &str) -> Result<Option<Self>, TokenStoreError> {
        let path = token_file_path(directory, address, "json");
        let failed = TokenStoreError::io(&path, "read");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        check_private_directory(directory)?;
        // The mode of the open file, not of the path: the path may name another file by now.
        let metadata = file.metadata().map_err(&failed)?;
        check_private_mode(&path, &metadata.permissions())?;
        let mut text = String::new();
        // Bounded, so that a wrong file does not fill the memory.
        file.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(&failed)?;
        let stored: Option<Self> = serde_json::from_str(&text).ok();
        // File names are not unique: `token_file_path` writes several characters as `_`.
        match stored.filter(|stored| stored.console_address == address) {
            Some(stored) => Ok(Some(stored)),
            None => Err(TokenStoreError::Invalid { path, address: address.to_owned() }),
        }
    }

    fn save_to_dir(&self, directory: &Path, address: &str) -> Result<(), TokenStoreError> {
        let path = token_file_path(directory, address, "json");
        let draft = token_file_path(directory, address, "new");
        let failed = TokenStoreError::io(&path, "written");
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        // A process that was killed while it wrote may have left one. Nobody writes it now: the lock is ours.
        remove_file(&draft)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(&failed)?;
        // Synced before the rename: after a power cut the file must hold the old tokens or the new ones, not nothing.
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        written.and_then(|()| std::fs::rename(&draft, &path)).map_err(failed)
    }
}

/// Deletes the stored sign-in to a console.
pub fn remove_tokens(console: &ConsoleEndpoint) -> Result<(), TokenStoreError> {
    remove_file(&token_file_path(&token_directory()?, &console.canonical_address(), "json"))
}

fn remove_file(path: &Path) -> Result<(), TokenStoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(TokenStoreError::io(path, "removed")(error)),
        _ => Ok(()),
    }
}

/// Waits for the right to write the file of a console, which lasts until the returned file is dropped. Creates the directory
/// if there is none.
pub fn lock_token_store(console: &ConsoleEndpoint) -> Result<File, TokenStoreError> {
    lock_token_dir(&token_directory()?, &console.canonical_address())
}

fn lock_token_dir(directory: &Path, address: &str) -> Result<File, TokenStoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(TokenStoreError::io(directory, "created"))?;
    check_private_directory(directory)?;
    let path = token_file_path(directory, address, "lock");
    let failed = TokenStoreError::io(&path, "locked");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(&failed)?;
    // The lock is on a file of its own: the token file is replaced by a rename, and a lock on it would be on the old file.
    file.lock().map_err(failed)?;
    Ok(file)
}

fn token_directory() -> Result<PathBuf, TokenStoreError> {
    config::default_data_dir().map(|state| state.join("login")).ok_or(TokenStoreError::NoHome)
}

fn token_file_path(directory: &Path, address: &str, extension: &str) -> PathBuf {
    let replace = |character: char| {
        if character.is_ascii_alphanumeric() || ".-".contains(character) { character } else { '_' }
    };
    let name: String = address.chars().map(replace).collect();
    directory.join(format!("{name}.{extension}"))
}

fn check_private_directory(directory: &Path) -> Result<(), TokenStoreError> {
    let metadata = std::fs::metadata(directory).map_err(TokenStoreError::io(directory, "read"))?;
    check_private_mode(directory, &metadata.permissions())
}

fn check_private_mode(path: &Path, permissions: &Permissions) -> Result<(), TokenStoreError> {
    let mode = permissions.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenStoreError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CONSOLE_ADDRESS: &str = "https://durward.example.com:443";

    fn stored_tokens(refresh: &str) -> StoredTokens {
        StoredTokens {
            console_address: CONSOLE_ADDRESS.to_owned(),
            registration: ClientRegistration {
                name: "corp".to_owned(),
                issuer: "https://idp.example".to_owned(),
                client_id: "cli".to_owned(),
                scopes: Vec::new(),
            },
            subject: "alice".to_owned(),
            id_token: Secret::new("e30.e30.x"),
            expires_at: 1_000,
            refresh_token: Some(Secret::new(refresh)),
        }
    }

    #[test]
    fn stores_tokens_where_only_the_owner_can_read_them() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("durward/login");
        assert!(StoredTokens::load_from_dir(&directory, CONSOLE_ADDRESS).unwrap().is_none());
        let lock = lock_token_dir(&directory, CONSOLE_ADDRESS).unwrap();
        stored_tokens("one").save_to_dir(&directory, CONSOLE_ADDRESS).unwrap();
        stored_tokens("two").save_to_dir(&directory, CONSOLE_ADDRESS).unwrap();
        drop(lock);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = token_file_path(&directory, CONSOLE_ADDRESS, "json");
        assert_eq!((mode(&file), mode(&directory)), (0o600, 0o700));
        let loaded = StoredTokens::load_from_dir(&directory, CONSOLE_ADDRESS).unwrap().unwrap();
        assert_eq!(loaded.refresh_token.unwrap().expose(), "two");
        let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(files.len(), 2, "the file and its lock: {files:?}");
    }

    #[test]
    fn refuses_exposed_files_and_tokens_of_another_console() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("login");
        drop(lock_token_dir(&directory, CONSOLE_ADDRESS).unwrap());
        stored_tokens("one").save_to_dir(&directory, CONSOLE_ADDRESS).unwrap();
        let file = token_file_path(&directory, CONSOLE_ADDRESS, "json");
        let refused = |reason: &str| {
            let error = StoredTokens::load_from_dir(&directory, CONSOLE_ADDRESS).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        };
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        refused("other users can read or change it (mode 640)");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        refused("(mode 755)");
        assert!(lock_token_dir(&directory, CONSOLE_ADDRESS).is_err());
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        StoredTokens { console_address: "https://evil.example:443".to_owned(), ..stored_tokens("one") }
            .save_to_dir(&directory, CONSOLE_ADDRESS)
            .unwrap();
        refused("does not hold a sign-in to https://durward.example.com:443");
        fs::write(&file, "{").unwrap();
        refused("run `durward login` again");
    }

    #[test]
    fn a_token_is_valid_until_its_margin() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let margin = time::Duration::seconds(30);
        assert!(stored_tokens("x").is_valid_for(at(969), margin));
        assert!(!stored_tokens("x").is_valid_for(at(970), margin));
        assert!(
            stored_tokens("x").is_valid_for(at(999), time::Duration::ZERO)
                && !stored_tokens("x").is_valid_for(at(1_000), time::Duration::ZERO)
        );
    }
}
