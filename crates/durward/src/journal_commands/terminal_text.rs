//! Recorded values as text for a terminal.
//!
//! Nothing that was recorded leaves here with a character that a terminal would obey or a reader would not see.

use durward_core::Caller;
use durward_core::is_invisible;
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{self, Write},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(super) fn format_caller(caller: Option<&Caller>) -> String {
    let Some(caller) = caller else { return "-".to_owned() };
    let mut out = caller.id();
    if !caller.act.is_empty() {
        out.push_str(" for ");
        out.push_str(&caller.act.join(", "));
    }
    out
}

pub(super) fn format_duration(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} us"),
        1_000..10_000_000 => format!("{}.{} ms", microseconds / 1_000, microseconds % 1_000 / 100),
        _ => format!("{} s", microseconds / 1_000_000),
    }
}

/// A recorded time to the second, as people read it.
pub(crate) fn format_utc(stamp: Option<&str>) -> String {
    let Some(stamp) = stamp else { return "-".to_owned() };
    match OffsetDateTime::parse(stamp, &Rfc3339) {
        Ok(at) => format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        ),
        Err(_) => escape_for_terminal(stamp),
    }
}

pub(crate) fn write_table<const N: usize>(rows: &[[String; N]], out: &mut dyn Write) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _infallible = write!(line, "{cell:<width$}  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

pub(crate) fn write_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        // JSON's own layout has line feeds; everything else that is unsafe stands within a string.
        if character == '\n' || !is_invisible(character) {
            safe.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _infallible = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    writeln!(out, "{safe}")
}

/// Recorded text as it may stand on a terminal.
pub(crate) fn escape_for_terminal(text: &str) -> String {
    durward_core::escape_invisible(text)
}
