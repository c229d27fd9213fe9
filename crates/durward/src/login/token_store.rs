//! The file that keeps a sign-in: one for each console, in a directory of the person's own.
//!
//! A file or directory that others may read or change is refused, and a file is replaced as a whole, so that two commands at
//! once never see half of one.

use super::provider_client::{ClientRegistration, SignInTokens};
use crate::admin_api::ConsoleEndpoint;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// Bytes of a file that are read: two long tokens and what belongs to them.
const MAX_TOKEN_FILE_BYTES: u64 = 256 << 10;

/// A sign-in to one console.
#[derive(Serialize, Deserialize)]
pub struct StoredTokens {
    console_address: String,
    pub registration: ClientRegistration,
    pub subject: String,
    pub id_token: String,
    /// When the ID token ends, in seconds since 1970.
    pub expires_at: i64,
    pub refresh_token: Option<String>,
}

impl StoredTokens {
    pub fn new(console: &ConsoleEndpoint, way: &ClientRegistration, granted: SignInTokens) -> Self {
        Self {
            console_address: console.canonical_address(),
            registration: way.clone(),
            subject: granted.subject,
            id_token: granted.id_token.expose().to_owned(),
            expires_at: granted.expires_at.unix_timestamp(),
            refresh_token: granted.refresh_token,
        }
    }

    /// Whether the ID token is good for at least `margin`.
    pub fn is_valid_for(&self, now: OffsetDateTime, margin: time::Duration) -> bool {
        self.expires_at.saturating_sub(now.unix_timestamp()) > margin.whole_seconds()
    }

    pub fn load(console: &ConsoleEndpoint) -> Result<Option<Self>, String> {
        Self::load_from_dir(&token_directory()?, &console.canonical_address())
    }

    pub fn save(&self, console: &ConsoleEndpoint) -> Result<(), String> {
        self.save_to_dir(&token_directory()?, &console.canonical_address())
    }

    fn load_from_dir(directory: &Path, address: &str) -> Result<Option<Self>, String> {
        let path = token_file_path(directory, address, "json");
        let failed = |error: std::io::Error| format!("{}: cannot be read: {error}", path.display());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        check_private_directory(directory)?;
        // Asked of the open file, so that what was checked is what is read.
        let metadata = file.metadata().map_err(failed)?;
        check_private_mode(&path, &metadata.permissions())?;
        let mut text = String::new();
        file.take(MAX_TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        let kept: Option<Self> = serde_json::from_str(&text).ok();
        kept.filter(|kept| kept.console_address == address).map(Some).ok_or_else(|| {
            format!("{}: is not a sign-in to {address}: run `durward login` again", path.display())
        })
    }

    fn save_to_dir(&self, directory: &Path, address: &str) -> Result<(), String> {
        let path = token_file_path(directory, address, "json");
        let draft = token_file_path(directory, address, "new");
        let failed = |error: std::io::Error| format!("{}: cannot be written: {error}", path.display());
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        // Of a process that ended in the middle; the lock is ours.
        remove_file(&draft)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
        let written = file.write_all(&text).and_then(|()| file.sync_all());
        written.and_then(|()| std::fs::rename(&draft, &path)).map_err(failed)
    }
}

/// Forgets the sign-in to a console.
pub fn remove_tokens(console: &ConsoleEndpoint) -> Result<(), String> {
    remove_file(&token_file_path(&token_directory()?, &console.canonical_address(), "json"))
}

fn remove_file(path: &Path) -> Result<(), String> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("{}: cannot be removed: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whoever holds this may write the file of a console. The directory is made if it is not there.
pub fn lock_token_store(console: &ConsoleEndpoint) -> Result<File, String> {
    lock_token_dir(&token_directory()?, &console.canonical_address())
}

fn lock_token_dir(directory: &Path, address: &str) -> Result<File, String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| format!("{}: cannot be made: {error}", directory.display()))?;
    check_private_directory(directory)?;
    let path = token_file_path(directory, address, "lock");
    let failed = |error: std::io::Error| format!("{}: cannot be locked: {error}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

fn token_directory() -> Result<PathBuf, String> {
    let state = crate::config::default_data_dir();
    let state =
        state.ok_or("there is no HOME to keep a sign-in in: use --token-file, or set XDG_STATE_HOME")?;
    Ok(state.join("login"))
}

fn token_file_path(directory: &Path, address: &str, kind: &str) -> PathBuf {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || ".-".contains(character) { character } else { '_' }
    };
    let name: String = address.chars().map(plain).collect();
    directory.join(format!("{name}.{kind}"))
}

fn check_private_directory(directory: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(directory)
        .map_err(|error| format!("{}: cannot be looked at: {error}", directory.display()))?;
    check_private_mode(directory, &metadata.permissions())
}

fn check_private_mode(path: &Path, permissions: &Permissions) -> Result<(), String> {
    let mode = permissions.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{}: others may read or change it (mode {mode:03o})\n  hint: `chmod go= {}`; if somebody may have read it, run `durward logout` and `durward login` after",
            path.display(),
            path.display()
        ));
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
            id_token: "e30.e30.x".to_owned(),
            expires_at: 1_000,
            refresh_token: Some(refresh.to_owned()),
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
        assert_eq!(loaded.refresh_token.as_deref(), Some("two"));
        let left: Vec<_> = fs::read_dir(&directory).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "the file and its lock: {left:?}");
    }

    #[test]
    fn refuses_exposed_files_and_tokens_of_another_console() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("login");
        drop(lock_token_dir(&directory, CONSOLE_ADDRESS).unwrap());
        stored_tokens("one").save_to_dir(&directory, CONSOLE_ADDRESS).unwrap();
        let file = token_file_path(&directory, CONSOLE_ADDRESS, "json");
        let refused = |said: &str| {
            let error = StoredTokens::load_from_dir(&directory, CONSOLE_ADDRESS).map(|_| ()).unwrap_err();
            assert!(error.contains(said), "{error}");
        };
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        refused("others may read or change it (mode 640)");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        refused("(mode 755)");
        assert!(lock_token_dir(&directory, CONSOLE_ADDRESS).is_err());
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        StoredTokens { console_address: "https://evil.example:443".to_owned(), ..stored_tokens("one") }
            .save_to_dir(&directory, CONSOLE_ADDRESS)
            .unwrap();
        refused("is not a sign-in to https://durward.example.com:443");
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
