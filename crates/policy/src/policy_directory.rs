//! The policy directory on disk: read as a whole, or refused as a whole.
//!
//! Only `*.cedar` files directly in the directory are policies. A file that other users may write, or that is a link out of the
//! directory, is refused: another user's file must not decide.

use crate::load_error::{PolicyLoadError, PolicyProblem};
use aws_lc_rs::digest::{Context, SHA256};
use durward_core::encode_hex;
use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The bytes of the SHA-256 that a version keeps.
const VERSION_BYTES: usize = 8;

/// One policy file.
#[derive(Debug, Clone)]
pub(crate) struct PolicyFile {
    /// The path for messages: the directory as configured, and the file name.
    pub path: PathBuf,
    /// The file name without `.cedar`.
    pub stem: String,
    pub text: String,
}

/// The metadata of the policy files. Two equal fingerprints: no file changed in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectoryFingerprint(Vec<FileFingerprint>);

/// The metadata of one file, times as seconds and nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileFingerprint {
    path: PathBuf,
    inode: u64,
    length_bytes: u64,
    modified_at: (i64, i64),
    inode_changed_at: (i64, i64),
}

/// The `*.cedar` files of a directory in name order.
fn list_policy_files(dir: &Path) -> Result<Vec<PathBuf>, PolicyLoadError> {
    let unreadable = |error: std::io::Error| -> PolicyLoadError {
        PolicyProblem::of_file(
            dir,
            format!("the policy directory cannot be read: {error}"),
            "create it, or set `dir` under [policy] in the configuration",
        )
        .into()
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // Editors keep their swap and backup files beside the file, with a leading dot.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "cedar") {
            files.push(path);
        }
    }
    // `read_dir` returns the files in any order, and the version is a hash over all of them in order.
    files.sort();
    Ok(files)
}

/// The current fingerprint, without reading the files. `None`: the directory cannot be read.
pub(crate) fn fingerprint_directory(dir: &Path) -> Option<DirectoryFingerprint> {
    let fingerprints = list_policy_files(dir).ok()?.into_iter().map(|path| {
        let metadata = fs::metadata(&path).ok()?;
        Some(FileFingerprint {
            inode: metadata.ino(),
            length_bytes: metadata.len(),
            modified_at: (metadata.mtime(), metadata.mtime_nsec()),
            // `touch` can set mtime to any value; ctime changes with each write and cannot be set (inode(7)).
            inode_changed_at: (metadata.ctime(), metadata.ctime_nsec()),
            path,
        })
    });
    fingerprints.collect::<Option<_>>().map(DirectoryFingerprint)
}

/// Reads every policy file, or reports every problem of the directory.
pub(crate) fn read_policy_files(dir: &Path) -> Result<Vec<PolicyFile>, PolicyLoadError> {
    let mut problems = Vec::new();
    let mut policy_files = Vec::new();
    let paths = list_policy_files(dir)?;
    let real_dir = dir.canonicalize().map_err(|error| {
        PolicyProblem::of_file(dir, format!("cannot be resolved: {error}"), "check the path")
    })?;
    if let Some(problem) = check_not_writable_by_others(&real_dir, dir) {
        problems.push(problem);
    }
    if paths.is_empty() {
        problems.push(PolicyProblem::of_file(
            dir,
            "the policy directory holds no *.cedar file",
            "add a policy; without one nothing is permitted",
        ));
    }
    for path in paths {
        match read_policy_file(&real_dir, &path) {
            Ok(file) => policy_files.push(file),
            Err(error) => problems.extend(error.into_problems()),
        }
    }
    if problems.is_empty() { Ok(policy_files) } else { Err(PolicyLoadError::new(problems)) }
}

fn read_policy_file(real_dir: &Path, path: &Path) -> Result<PolicyFile, PolicyLoadError> {
    let real = path.canonicalize().map_err(|error| {
        PolicyProblem::of_file(path, format!("cannot be resolved: {error}"), "remove the dead link")
    })?;
    // Kubernetes mounts a ConfigMap as links inside the directory (Kubernetes documentation, "ConfigMaps", mounted ConfigMaps are
    // updated automatically). A link out of the directory would escape its permissions.
    if !real.starts_with(real_dir) {
        return Err(PolicyProblem::of_file(
            path,
            format!("links out of the policy directory, to {}", real.display()),
            "copy the file into the directory",
        )
        .into());
    }
    if let Some(problem) = check_not_writable_by_others(&real, path) {
        return Err(problem.into());
    }
    // To read a FIFO or a device would wait for ever, and the reload with it.
    if !fs::metadata(&real).is_ok_and(|metadata| metadata.is_file()) {
        return Err(PolicyProblem::of_file(path, "is not a regular file", "replace it by a text file").into());
    }
    let text = fs::read_to_string(&real).map_err(|error| {
        PolicyProblem::of_file(
            path,
            format!("cannot be read as UTF-8 text: {error}"),
            "make it a readable text file",
        )
    })?;
    // An editor truncates a file before it writes the new text. Read in between, the file would silently lose its forbids.
    if text.trim().is_empty() {
        return Err(
            PolicyProblem::of_file(path, "the file is empty", "write a policy or remove the file").into()
        );
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(PolicyFile { path: path.to_owned(), stem, text })
}

fn check_not_writable_by_others(real: &Path, shown: &Path) -> Option<PolicyProblem> {
    match fs::metadata(real) {
        Ok(metadata) if metadata.mode() & 0o002 != 0 => Some(PolicyProblem::of_file(
            shown,
            format!("is writable by everybody (mode {:o})", metadata.mode() & 0o7777),
            format!("chmod o-w {}", shown.display()),
        )),
        Ok(_) => None,
        Err(error) => {
            Some(PolicyProblem::of_file(shown, format!("cannot be read: {error}"), "check its permissions"))
        }
    }
}

/// The version of a policy set: the first 16 hex digits of the SHA-256 of its files and their names.
pub(crate) fn compute_version(files: &[PolicyFile]) -> String {
    let mut hash = Context::new(&SHA256);
    for file in files {
        for part in [file.stem.as_bytes(), file.text.as_bytes()] {
            // The length keeps the parts apart: "a" + "bc" and "ab" + "c" are different sets.
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    encode_hex(&hash.finish().as_ref()[..VERSION_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_16_digits_and_depends_on_names_and_texts() {
        let version = |files: &[(&str, &str)]| {
            let file = |(stem, text): &(&str, &str)| PolicyFile {
                path: PathBuf::from(format!("/p/{stem}.cedar")),
                stem: (*stem).to_owned(),
                text: (*text).to_owned(),
            };
            compute_version(&files.iter().map(file).collect::<Vec<_>>())
        };
        let versions = [
            version(&[("a", "bc")]),
            version(&[("ab", "c")]),
            version(&[("a", "b"), ("c", "")]),
            version(&[("a", "bd")]),
        ];
        for (index, one) in versions.iter().enumerate() {
            assert!(one.len() == 16 && one.bytes().all(|digit| digit.is_ascii_hexdigit()), "{one}");
            assert!(!versions[index + 1..].contains(one), "{versions:?}");
        }
    }

    #[test]
    fn a_fifo_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fifo = dir.path().join("a.cedar");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
        assert!(made.success());
        let error = read_policy_file(&dir.path().canonicalize().expect("a path"), &fifo).err();
        assert!(error.is_some_and(|error| error.to_string().contains("is not a regular file")));
    }

    #[test]
    fn a_fingerprint_changes_with_a_policy_file_and_with_no_other() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.cedar"), "x").expect("written");
        let first = fingerprint_directory(dir.path());
        assert!(first.is_some());
        fs::write(dir.path().join("tests.toml"), "x").expect("written");
        fs::write(dir.path().join(".a.cedar.swp.cedar"), "x").expect("written");
        assert_eq!(fingerprint_directory(dir.path()), first);
        fs::write(dir.path().join("a.cedar"), "xy").expect("written");
        assert_ne!(fingerprint_directory(dir.path()), first);
        assert_eq!(fingerprint_directory(&dir.path().join("none")), None);
    }
}
