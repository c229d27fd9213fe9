//! A disk of 64 MiB that can be filled and freed.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory; unmounted when dropped.
pub struct SmallDisk {
    pub directory: PathBuf,
}

impl SmallDisk {
    /// Fails where this user may not mount.
    pub fn mount(directory: &Path) -> Result<Self, String> {
        fs::create_dir_all(directory)
            .map_err(|error| format!("{} cannot be made: {error}", directory.display()))?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(directory)
            .output()
            .map_err(|error| format!("mount cannot be run: {error}"))?;
        if mounted.status.success() {
            Ok(Self { directory: directory.to_owned() })
        } else {
            Err(format!("tmpfs cannot be mounted: {}", String::from_utf8_lossy(&mounted.stderr).trim()))
        }
    }

    fn ballast(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    /// Writes until there is no space.
    pub fn fill(&self) -> Result<(), String> {
        let describe = |error| format!("cannot write {}: {error}", self.ballast().display());
        let mut file = File::create(self.ballast()).map_err(describe)?;
        loop {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(describe(error)),
            }
        }
    }

    pub fn free(&self) -> Result<(), String> {
        fs::remove_file(self.ballast()).map_err(|error| format!("cannot remove the ballast: {error}"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing more can be done if it fails: the next mount is over this one.
        drop(Command::new("umount").arg(&self.directory).output());
    }
}
