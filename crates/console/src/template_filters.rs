//! Filters of the templates: untrusted text with marks of our own, such as where a line may break. Each escapes the text itself.

use askama::{
    Values,
    filters::{Escaper as _, Html, Safe},
};
use std::fmt::Display;

/// Writes text that may break after its colons and slashes, so that an ARN or a URL breaks between its parts.
fn write_breakable(html: &mut String, text: &str) -> askama::Result<()> {
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        Html.write_escaped_char(&mut *html, character)?;
        let is_end_of_part = characters.peek().is_some_and(|next| !matches!(next, ':' | '/' | ' ' | '\n'));
        if matches!(character, ':' | '/') && is_end_of_part {
            html.push_str("<wbr>");
        }
    }
    Ok(())
}

/// An ARN, an id or a URL, which may break between its parts.
#[askama::filter_fn]
pub fn breakable(text: impl Display, _values: &dyn Values) -> askama::Result<Safe<String>> {
    let mut html = String::new();
    write_breakable(&mut html, &text.to_string())?;
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
        html.push_str("<code>");
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
    #[template(source = "{{ text|breakable }} {{ text|inline_code }} {{ time|unbroken_time }}", ext = "html")]
    struct Filtered {
        text: &'static str,
        time: &'static str,
    }

    fn filter(text: &'static str, time: &'static str) -> String {
        Filtered { text, time }.render().unwrap()
    }

    #[test]
    fn text_breaks_after_its_colons_and_slashes_and_backticks_are_code() {
        assert_eq!(
            filter("arn:aws:s3:::b/k: `x:y`, `", "2026-11-21 03:07:05 UTC"),
            "arn:<wbr>aws:<wbr>s3:::<wbr>b/<wbr>k: `x:<wbr>y`, ` \
             arn:<wbr>aws:<wbr>s3:::<wbr>b/<wbr>k: <code>x:<wbr>y</code>, ` \
             <span class=\"nowrap\">2026-11-21</span> <span class=\"nowrap\">03:07:05 UTC</span>"
        );
    }

    #[test]
    fn markup_is_escaped() {
        let html = filter("<i>`<b>\"", "<u> <s>");
        for raw in ["<i>", "<b>", "<u>", "<s>"] {
            assert!(!html.contains(raw), "{html}");
        }
    }
}
