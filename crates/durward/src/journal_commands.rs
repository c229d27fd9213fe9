//! `durward journal verify` and `durward sessions ls|show|replay`: the journal as text for a terminal and as JSON.
//!
//! These commands only read, also while a gateway appends. The records are put together by [`durward_journal::history`]; the
//! JSON is its own. Recorded values are untrusted: control and direction characters are escaped before they reach a terminal.

mod exchange_line;
mod sessions;

pub use sessions::{list_sessions, replay_session, show_session};

use crate::config::{self, ConfigError, ConfigFileArgs};
use crate::terminal_output::print_error;
use crate::terminal_text::escape_for_terminal;
use clap::Args;
use durward_journal::history::JournalScan;
use durward_journal::{CorruptionKind, JournalCorruption, VerifiedJournal};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const EXIT_DONE: u8 = 0;
/// The id is not found, or the journal is corrupt.
const EXIT_REFUSED: u8 = 1;
/// There is no journal to read. A script must be able to tell this from a corrupt journal.
pub const EXIT_NO_JOURNAL: u8 = 2;

#[derive(Args)]
pub struct JournalDirArgs {
    /// Directory of the journal; by default that of the configuration
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFileArgs,
}

impl JournalDirArgs {
    /// The directory of the journal. If there is no journal in it, prints why and returns `None`.
    pub fn find_journal(&self) -> Result<Option<PathBuf>, ConfigError> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => config::load_config(&self.file.config)?.data_dir.join("journal"),
        };
        match require_journal(&dir) {
            Ok(()) => Ok(Some(dir)),
            Err(error) => {
                print_error(&error.to_string());
                Ok(None)
            }
        }
    }
}

/// Why a directory holds no journal that can be read.
#[derive(Debug, thiserror::Error)]
pub enum NoJournalError {
    #[error(
        "there is no journal in {}\n  hint: name the directory `journal` of data_dir with --dir, or the configuration file \
         with --config; a gateway that never started has none",
        shown(.0)
    )]
    Missing(PathBuf),
    #[error("there is no journal in {}\n  hint: there is one in {}: name that directory", shown(.0), shown(.1))]
    InSubdirectory(PathBuf, PathBuf),
    #[error(
        "there is no journal to read in {}: {error}\n  hint: name the directory `journal` of data_dir with --dir, or the \
         configuration file with --config",
        shown(dir)
    )]
    Unreadable { dir: PathBuf, error: io::Error },
}

fn shown(path: &Path) -> String {
    escape_for_terminal(&path.display().to_string())
}

/// Checks that there is a journal in `dir`.
pub fn require_journal(dir: &Path) -> Result<(), NoJournalError> {
    let found = durward_journal::journal_exists(dir);
    if matches!(found, Ok(true)) {
        return Ok(());
    }
    // A frequent mistake: `--dir` names data_dir.
    let subdirectory = dir.join("journal");
    if durward_journal::journal_exists(&subdirectory).is_ok_and(|exists| exists) {
        return Err(NoJournalError::InSubdirectory(dir.to_owned(), subdirectory));
    }
    match found {
        Ok(_) => Err(NoJournalError::Missing(dir.to_owned())),
        Err(error) => Err(NoJournalError::Unreadable { dir: dir.to_owned(), error }),
    }
}

/// Verifies the journal in `dir`, and prints what it holds or where the first corrupt record is.
pub fn print_verification(dir: &Path, out: &mut dyn Write) -> io::Result<u8> {
    match durward_journal::verify_journal(dir) {
        Ok(verified) => {
            writeln!(out, "journal {} is intact", shown(dir))?;
            write_verified_journal(&verified, out)?;
            Ok(EXIT_DONE)
        }
        Err(corruption) => {
            writeln!(out, "journal {} {}", shown(dir), corruption_verdict(&corruption))?;
            write_corruption(&corruption, out)?;
            Ok(EXIT_REFUSED)
        }
    }
}

fn write_verified_journal(verified: &VerifiedJournal, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  segments    {}", verified.segment_count)?;
    writeln!(out, "  records     {}", verified.record_count)?;
    if let (Some(first), Some(last)) = (&verified.first_record_time, &verified.last_record_time) {
        writeln!(out, "  first       {}", escape_for_terminal(first))?;
        writeln!(out, "  last        {}", escape_for_terminal(last))?;
    }
    writeln!(out, "  chain head  {}", verified.head_link)?;
    if let Some(tail) = &verified.tail {
        writeln!(
            out,
            "  unfinished  {} bytes at the end of {}, from byte {}: an append in progress, or one\n              \
             that a crash interrupted (never acknowledged; removed at the next start of the gateway)",
            tail.bytes,
            shown(&tail.file),
            tail.offset
        )?;
    }
    writeln!(
        out,
        "keep the chain head in another place: it proves later that no record was removed at the end"
    )
}

/// An I/O error proves nothing: a disk that cannot be read is not a journal that was changed.
fn corruption_verdict(corruption: &JournalCorruption) -> &'static str {
    match corruption.kind {
        CorruptionKind::Unreadable(_) => "CANNOT BE READ",
        _ => "is CORRUPT",
    }
}

fn write_corruption(corruption: &JournalCorruption, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  file           {}", shown(&corruption.file))?;
    writeln!(out, "  byte           {}", corruption.offset)?;
    writeln!(out, "  record         {}", corruption.record_number)?;
    writeln!(out, "  error          {}", escape_for_terminal(&corruption.kind.to_string()))?;
    if let Some(time) = &corruption.record_time {
        writeln!(out, "  recorded time  {} (unverified)", escape_for_terminal(time))?;
    }
    if let Some(time) = &corruption.last_good_time {
        writeln!(out, "  verified until {}", escape_for_terminal(time))?;
    }
    Ok(())
}

/// Writes what a scan of the journal left out.
fn write_scan_warnings(scan: &JournalScan, out: &mut dyn Write) -> io::Result<()> {
    if scan.newer_records > 0 {
        writeln!(out, "{} records of a newer version were left out", scan.newer_records)?;
    }
    if let Some(corruption) = &scan.corruption {
        writeln!(out, "the journal {}; nothing after this record was read", corruption_verdict(corruption))?;
        write_corruption(corruption, out)?;
    }
    Ok(())
}

fn scan_exit_code(scan: &JournalScan) -> u8 {
    if scan.corruption.is_some() { EXIT_REFUSED } else { EXIT_DONE }
}

#[cfg(test)]
mod tests;
