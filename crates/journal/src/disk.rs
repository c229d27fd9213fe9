//! The file system as the writer sees it.
//!
//! The writer changes files in no other way, so a test that implements [`SegmentDisk`] sees every write and every sync.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The directory operations that the writer needs.
pub(crate) trait SegmentDisk: Send {
    /// Creates an empty segment. It is an error if the file exists.
    fn create_segment(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Opens an existing segment to append to it.
    fn open_segment(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    fn remove_segment(&mut self, path: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable: a file's name is not on disk before its directory is synced (fsync(2)).
    fn sync_directory(&mut self, dir: &Path) -> io::Result<()>;
}

/// A segment opened for appending.
pub(crate) trait SegmentFile: Send {
    /// Appends some of `bytes` and returns how many, as write(2) does.
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Makes all appended bytes durable: fdatasync(2).
    fn sync(&mut self) -> io::Result<()>;
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Returns true if `path` still names this file. A file that was deleted or replaced takes writes as before, and loses them when
    /// it is closed.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
}

/// The file system of this machine.
#[derive(Default)]
pub(crate) struct LocalDisk {
    /// Kept open, so that a rotation needs one file descriptor and not two.
    directory: Option<(PathBuf, File)>,
}

impl SegmentDisk for LocalDisk {
    fn create_segment(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        // `create_new`: a segment is never overwritten, even if the numbering were wrong. Others must not read what callers did.
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(LocalSegmentFile::new(file)?))
    }

    fn open_segment(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(LocalSegmentFile::new(OpenOptions::new().append(true).open(path)?)?))
    }

    fn remove_segment(&mut self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_directory(&mut self, dir: &Path) -> io::Result<()> {
        if let Some((open_dir, file)) = &self.directory
            && open_dir == dir
        {
            return file.sync_all();
        }
        let file = File::open(dir)?;
        file.sync_all()?;
        self.directory = Some((dir.to_owned(), file));
        Ok(())
    }
}

struct LocalSegmentFile {
    file: File,
    /// Device and inode of the open file, which another file at its path does not have.
    identity: (u64, u64),
}

impl LocalSegmentFile {
    fn new(file: File) -> io::Result<Self> {
        let open = file.metadata()?;
        Ok(Self { file, identity: (open.dev(), open.ino()) })
    }
}

impl SegmentFile for LocalSegmentFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        // fdatasync(2) also writes the new length, because reading the data needs it. It leaves out times, which would cost a
        // second write.
        self.file.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let named = match std::fs::symlink_metadata(path) {
            Ok(named) => named,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        Ok((named.dev(), named.ino()) == self.identity)
    }
}
