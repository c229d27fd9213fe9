//! Recorded and received values as text for a terminal.
//!
//! Callers choose much of what is recorded. No text leaves here with a character that a terminal would obey (ESC, C1
//! controls) or that a reader would not see (direction marks, zero-width characters): both can forge what is on the screen.

use durward_core::{Caller, is_invisible, timestamps};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Every line of a list fits a terminal of this many columns.
pub const TERMINAL_COLUMNS: usize = 80;

/// A text that a caller could have written, with control and direction characters escaped.
pub fn escape_for_terminal(text: &str) -> String {
    durward_core::escape_invisible(text)
}

/// The caller's id, and on whose behalf it acts.
pub fn format_caller(caller: &Caller) -> String {
    let mut text = caller.id();
    if !caller.act.is_empty() {
        text.push_str(" for ");
        text.push_str(&caller.act.join(", "));
    }
    escape_for_terminal(&text)
}

pub fn format_duration(microseconds: u64) -> String {
    match microseconds {
        0..1_000 => format!("{microseconds} us"),
        1_000..10_000_000 => format!("{}.{} ms", microseconds / 1_000, microseconds % 1_000 / 100),
        _ => format!("{} s", microseconds / 1_000_000),
    }
}

/// A recorded time to the second; `-` for none.
pub fn format_time(recorded: Option<&str>) -> String {
    match recorded {
        None => "-".to_owned(),
        Some(text) => timestamps::format_recorded_time(text).unwrap_or_else(|| escape_for_terminal(text)),
    }
}

/// The distinct texts, joined; of more than three the first three and how many follow.
pub fn format_first_three(texts: impl IntoIterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for text in texts {
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    let hidden = distinct.len().saturating_sub(3);
    distinct.truncate(3);
    let shown = distinct.join(", ");
    if hidden > 0 { format!("{shown} and {hidden} more") } else { shown }
}

/// One entry of a list: a row of cells, and lines of their own below it for what may be long.
pub struct ListEntry<const N: usize> {
    pub cells: [String; N],
    pub details: Vec<String>,
}

/// Writes a list. Detail lines are indented, and cut where the terminal would break them: `show` commands print them whole.
pub fn write_list<const N: usize>(
    head: [&str; N],
    entries: &[ListEntry<N>],
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut widths = head.map(|title| title.chars().count());
    for entry in entries {
        for (width, cell) in widths.iter_mut().zip(&entry.cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    write_row(&head, widths, out)?;
    for entry in entries {
        write_row(&entry.cells, widths, out)?;
        for line in &entry.details {
            writeln!(out, "{}", cut_to_width(&format!("  {line}")))?;
        }
    }
    Ok(())
}

fn write_row<const N: usize>(
    cells: &[impl AsRef<str>; N],
    widths: [usize; N],
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        // Writing to a String cannot fail.
        let _infallible = write!(line, "{:<width$}  ", cell.as_ref());
    }
    writeln!(out, "{}", line.trim_end())
}

fn cut_to_width(line: &str) -> String {
    if line.chars().count() <= TERMINAL_COLUMNS {
        return line.to_owned();
    }
    let beginning: String = line.chars().take(TERMINAL_COLUMNS - 3).collect();
    format!("{beginning}...")
}

/// Writes a value as indented JSON.
pub fn write_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", escape_json(&serde_json::to_string_pretty(value)?))
}

/// JSON text with invisible characters written as `\u` escapes: the same value, safe on a terminal.
pub fn escape_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        // Line feeds are JSON's own layout; within a string they are escaped already.
        if character == '\n' || !is_invisible(character) {
            safe.push(character);
            continue;
        }
        // JSON escapes name UTF-16 code units (RFC 8259, section 7).
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _infallible = write!(safe, "\\u{unit:04x}");
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_is_the_same_value_without_invisible_characters() {
        let value = serde_json::json!({ "k": "a\u{1b}[2J\u{202e}b\u{e0041}\n" });
        let mut out = Vec::new();
        write_json(&value, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.chars().any(|character| character != '\n' && is_invisible(character)), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_list_has_aligned_cells_and_cuts_long_details() {
        let entry = |first: &str, detail: &str| ListEntry {
            cells: [first.to_owned(), "x".to_owned()],
            details: vec![detail.to_owned()],
        };
        let mut out = Vec::new();
        write_list(["ID", "STATE"], &[entry("long-id", "short"), entry("b", &"é".repeat(200))], &mut out)
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..4], ["ID       STATE", "long-id  x", "  short", "b        x"]);
        assert_eq!((lines[4].chars().count(), lines[4].ends_with("...")), (TERMINAL_COLUMNS, true));
    }

    #[test]
    fn only_the_first_three_distinct_texts_are_shown() {
        let format = |texts: &[&str]| format_first_three(texts.iter().map(|text| (*text).to_owned()));
        assert_eq!(format(&[]), "");
        assert_eq!(format(&["a", "b", "a"]), "a, b");
        assert_eq!(format(&["a", "b", "c", "d", "d", "e"]), "a, b, c and 2 more");
    }
}
