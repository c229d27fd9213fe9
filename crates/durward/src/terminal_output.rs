//! Standard output and standard error of the commands.
//!
//! A reader may stop early (`durward sessions ls | head -1`). The program then ends as every program in a pipe does, without
//! an error message.

use crate::command_error::CommandError;
use std::io::{self, ErrorKind, Write};

/// The exit status that a shell reports for a program that SIGPIPE ended (128 + 13): scripts do not take it for success.
const SIGPIPE_EXIT_CODE: i32 = 141;

/// Standard output. Every command prints through this.
pub struct PipeSafeStdout;

impl Write for PipeSafeStdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        exit_on_broken_pipe(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        exit_on_broken_pipe(io::stdout().flush())
    }
}

fn exit_on_broken_pipe<T>(result: io::Result<T>) -> io::Result<T> {
    match result {
        // Rust programs ignore SIGPIPE, so a closed pipe is an error here and not a signal.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(SIGPIPE_EXIT_CODE),
        result => result,
    }
}

/// Prints one line and flushes it.
pub fn print_line(text: &str) -> Result<(), CommandError> {
    let mut out = PipeSafeStdout;
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(CommandError::Output)
}

/// Prints an error message to standard error. A closed standard error changes nothing.
pub fn print_error(message: &str) {
    let _unread = writeln!(io::stderr(), "durward: {message}");
}
