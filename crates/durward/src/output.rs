//! Standard output and standard error of the commands. Whoever reads them may stop (`| head -1`): then the program ends as
//! every other one in a pipe does, and says nothing of it.

use std::io::{self, ErrorKind, Write};

/// What a shell reports of a program that SIGPIPE ended: nobody takes it for done.
const BROKEN_PIPE: i32 = 141;

/// Standard output. Every command prints through this.
pub struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_end(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_end(io::stdout().flush())
    }
}

fn or_end<T>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(BROKEN_PIPE),
        result => result,
    }
}

/// What a command comes to that wrote its answer.
pub fn written<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("cannot write: {error}"))
}

/// Says what went wrong, to whoever still reads it.
pub fn complain(message: &str) {
    let _unread = writeln!(io::stderr(), "durward: {message}");
}
