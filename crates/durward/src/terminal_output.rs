//! Standard output and standard error of the commands. Whoever reads them may stop (`| head -1`): then the program ends as
//! every other one in a pipe does, and says nothing of it.

use std::io::{self, ErrorKind, Write};

/// What a shell reports of a program that SIGPIPE ended: nobody takes it for done.
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
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(SIGPIPE_EXIT_CODE),
        result => result,
    }
}

/// What a command comes to that wrote its answer.
pub fn map_write_error<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("cannot write: {error}"))
}

/// Says what went wrong, to whoever still reads it.
pub fn print_error(message: &str) {
    let _unread = writeln!(io::stderr(), "durward: {message}");
}
