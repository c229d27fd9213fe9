//! The policy directory on disk: read as one whole, or refused as one whole.
//!
//! Only `*.cedar` files directly in the directory count. What others may write, or what lies outside it, is refused.

use crate::load_error::{PolicyLoadError, PolicyProblem};
use aws_lc_rs::digest::{Context, SHA256};
use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// One policy file.
#[derive(Debug, Clone)]
pub(crate) struct PolicyFile {
    /// As shown to people: the directory as configured, and the file name.
    pub path: PathBuf,
    /// The file name without `.cedar`.
    pub stem: String,
    pub text: String,
}

/// What the directory looked like. Equal: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirectoryFingerprint(Vec<FileFingerprint>);

/// One file: where, which inode, how long, and when its content and its inode last changed.
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
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "cedar") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What the directory looks like now, without reading the files. None: it cannot be read.
pub(crate) fn fingerprint_directory(dir: &Path) -> Option<DirectoryFingerprint> {
    let looks = list_policy_files(dir).ok()?.into_iter().map(|path| {
        let metadata = fs::metadata(&path).ok()?;
        Some(FileFingerprint {
            inode: metadata.ino(),
            length_bytes: metadata.len(),
            modified_at: (metadata.mtime(), metadata.mtime_nsec()),
            inode_changed_at: (metadata.ctime(), metadata.ctime_nsec()),
            path,
        })
    });
    looks.collect::<Option<_>>().map(DirectoryFingerprint)
}

/// Reads every policy file, or says everything that is wrong with the directory.
pub(crate) fn read_policy_files(dir: &Path) -> Result<Vec<PolicyFile>, PolicyLoadError> {
    let mut problems = Vec::new();
    let mut sources = Vec::new();
    let files = list_policy_files(dir)?;
    let home = dir.canonicalize().map_err(|error| {
        PolicyProblem::of_file(dir, format!("cannot be resolved: {error}"), "check the path")
    })?;
    if let Some(problem) = check_not_writable_by_others(&home, dir) {
        problems.push(problem);
    }
    if files.is_empty() {
        problems.push(PolicyProblem::of_file(
            dir,
            "the policy directory holds no *.cedar file",
            "add a policy; without one nothing is permitted",
        ));
    }
    for path in files {
        match read_policy_file(&home, &path) {
            Ok(source) => sources.push(source),
            Err(error) => problems.extend(error.into_problems()),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(PolicyLoadError::new(problems)) }
}

fn read_policy_file(home: &Path, path: &Path) -> Result<PolicyFile, PolicyLoadError> {
    let real = path.canonicalize().map_err(|error| {
        PolicyProblem::of_file(path, format!("cannot be resolved: {error}"), "remove the dead link")
    })?;
    // Links inside the directory are how Kubernetes mounts a ConfigMap; a link out of it would let another place decide.
    if !real.starts_with(home) {
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
    let text = fs::read_to_string(&real).map_err(|error| {
        PolicyProblem::of_file(
            path,
            format!("cannot be read as UTF-8 text: {error}"),
            "make it a readable text file",
        )
    })?;
    // A file caught while an editor truncates it would silently lose its forbids.
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

/// The version of a policy set: the first 16 hex digits of the SHA-256 of its sources with their names.
pub(crate) fn compute_version(sources: &[PolicyFile]) -> String {
    let mut hash = Context::new(&SHA256);
    for source in sources {
        for part in [source.stem.as_bytes(), source.text.as_bytes()] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finish().as_ref().iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}
