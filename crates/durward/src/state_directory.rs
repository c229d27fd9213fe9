//! The directory of keys, journal and state: whoever can write there can replace what the gateway trusts.

use crate::start_error::StartError;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The write permission of users who are neither the owner nor in the group (chmod(1)). A group may be able to write: Kubernetes
/// gives the volumes of a pod to its `fsGroup` so.
const WRITABLE_BY_OTHERS: u32 = 0o002;
/// Only owners can rename and delete in such a directory, so what the gateway created cannot be replaced.
const STICKY: u32 = 0o1000;

/// Refuses a data directory in which every user of the machine can replace files. A directory that does not exist yet is created with
/// access for its owner only.
pub fn check_state_directory(data_dir: &Path) -> Result<(), StartError> {
    for dir in [data_dir.to_owned(), data_dir.join("keys"), data_dir.join("journal")] {
        let Ok(metadata) = fs::metadata(&dir) else { continue };
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
            return Err(StartError::ExposedDirectory { dir, mode });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_everybody_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        fs::create_dir(&journal).unwrap();
        check_state_directory(dir.path()).unwrap();
        check_state_directory(&dir.path().join("new")).unwrap();
        for exposed in [dir.path(), &journal] {
            for (mode, is_refused) in [(0o777, true), (0o702, true), (0o770, false), (0o1777, false)] {
                fs::set_permissions(exposed, fs::Permissions::from_mode(mode)).unwrap();
                assert_eq!(check_state_directory(dir.path()).is_err(), is_refused, "{mode:o}");
            }
            fs::set_permissions(exposed, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}
