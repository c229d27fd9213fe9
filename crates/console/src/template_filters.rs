//! Filters of the templates: untrusted text with marks of our own, such as where a line may break. Each escapes the text itself.

#![expect(clippy::inline_always, clippy::unused_self, reason = "the code that `askama::filter_fn` generates")]

use askama::{
    Values,
    filters::{Escaper as _, Html, Safe},
};
use std::fmt::Display;

/// Longest part of an ARN, or piece of code in a message, that never breaks, not even at a hyphen. It fits on a phone.
const MAX_UNBROKEN_CHARS: usize = 24;

/// Splits an ARN or a URL after its colons and slashes. A time is not split.
fn split_parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let is_separator = |byte: u8| matches!(byte, b':' | b'/');
    for (index, around) in text.as_bytes().windows(3).enumerate() {
        let &[before, here, after] = around else { continue };
        let is_in_time = before.is_ascii_digit() && after.is_ascii_digit();
        let ends_part = is_separator(here) && !is_separator(after) && !after.is_ascii_whitespace();
        if ends_part && !is_in_time {
            let end = index + 2;
            parts.extend(text.get(start..end));
            start = end;
        }
    }
    parts.extend(text.get(start..));
    parts
}

fn write_breakable(html: &mut String, text: &str) -> askama::Result<()> {
    for (index, part) in split_parts(text).into_iter().enumerate() {
        if index > 0 {
            html.push_str("<wbr>");
        }
        Html.write_escaped_str(&mut *html, part)?;
    }
    Ok(())
}

/// An ARN, an id or a URL, which breaks between its parts.
#[askama::filter_fn]
pub fn breakable(text: impl Display, _values: &dyn Values) -> askama::Result<Safe<String>> {
    let text = text.to_string();
    let mut html = String::new();
    for (index, part) in split_parts(&text).into_iter().enumerate() {
        if index > 0 {
            html.push_str("<wbr>");
        }
        let is_unbroken = part.contains('-') && part.chars().count() <= MAX_UNBROKEN_CHARS;
        html.push_str(if is_unbroken { "<span class=\"nowrap\">" } else { "" });
        Html.write_escaped_str(&mut html, part)?;
        html.push_str(if is_unbroken { "</span>" } else { "" });
    }
    Ok(Safe(html))
}

/// A message: what it has between two backticks is code.
#[askama::filter_fn]
pub fn inline_code(text: impl Display, _values: &dyn Values) -> askama::Result<Safe<String>> {
    let text = text.to_string();
    let mut html = String::new();
    let mut rest = text.as_str();
    while let Some((before, code, after)) = split_code(rest) {
        write_breakable(&mut html, before)?;
        let is_unbroken = code.chars().count() <= MAX_UNBROKEN_CHARS;
        html.push_str(if is_unbroken { "<code class=\"nowrap\">" } else { "<code>" });
        write_breakable(&mut html, code)?;
        html.push_str("</code>");
        rest = after;
    }
    write_breakable(&mut html, rest)?;
    Ok(Safe(html))
}

/// The text before the first pair of backticks, between them and after them.
fn split_code(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('`')?;
    let (code, after) = rest.split_once('`')?;
    Some((before, code, after))
}

/// A date and a time, neither of which breaks. Other text stays as it is.
#[askama::filter_fn]
pub fn unbroken_time(text: impl Display, _values: &dyn Values) -> askama::Result<Safe<String>> {
    let text = text.to_string();
    let mut html = String::new();
    for (index, part) in text.splitn(2, ' ').enumerate() {
        html.push_str(if index == 0 { "<span class=\"nowrap\">" } else { " <span class=\"nowrap\">" });
        for character in part.chars() {
            Html.write_escaped_char(&mut html, character)?;
        }
        html.push_str("</span>");
    }
    Ok(Safe(html))
}

#[cfg(test)]
mod tests {
    use crate::template_filters as filters;
    use askama::Template;

    #[derive(Template)]
    #[template(source = "{{ text|breakable }} {{ text|inline_code }} {{ text|unbroken_time }}", ext = "html")]
    struct Filtered {
        text: &'static str,
    }

    fn filter(text: &'static str) -> String {
        Filtered { text }.render().unwrap()
    }

    #[test]
    fn an_arn_breaks_between_its_parts() {
        let parts = |text| super::split_parts(text).join("|");
        assert_eq!(parts("arn:aws:s3:::b/k"), "arn:|aws:|s3:::|b/|k");
        assert_eq!(parts("at 03:07:05, s3:X: \u{e9}/\u{e9}/"), "at 03:07:05, s3:|X: \u{e9}/|\u{e9}/");
        let html = filter("s3:::a-b/k");
        assert!(html.starts_with("s3:::<wbr><span class=\"nowrap\">a-b/</span><wbr>k "), "{html}");
    }

    #[test]
    fn a_pair_of_backticks_marks_code() {
        let html = filter("by `x:y`, not `");
        assert!(html.contains(" by <code class=\"nowrap\">x:<wbr>y</code>, not ` "), "{html}");
    }

    #[test]
    fn a_date_and_a_time_do_not_break() {
        let html = filter("2026-11-21 03:07:05 UTC");
        let wanted = "<span class=\"nowrap\">2026-11-21</span> <span class=\"nowrap\">03:07:05 UTC</span>";
        assert!(html.ends_with(wanted), "{html}");
    }

    #[test]
    fn markup_is_escaped() {
        let html = filter("<i>`<b>` <u>-\"");
        for raw in ["<i>", "<b>", "<u>", "-\""] {
            assert!(!html.contains(raw), "{html}");
        }
    }
}
