//! Untrusted text made safe to display: a terminal obeys nothing in it, and no part of it is invisible.

/// Returns true if a character is a control character, is invisible, or changes the direction or the order of the text around it.
/// An attacker uses these to clear a terminal, to hide instructions from a reviewer, or to reorder text ("Trojan Source",
/// CVE-2021-42574).
pub fn is_invisible(character: char) -> bool {
    // No category of Unicode has all of these: Hangul fillers (U+115F, U+3164, U+FFA0) and the Braille blank (U+2800) count as
    // letters and symbols, and tag characters (U+E0000 and above) hide text that language models read.
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{2000}'..='\u{200f}'
                | '\u{2028}'..='\u{202f}'
                | '\u{205f}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3000}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The text with each of these characters written as an escape: `\u{202e}`.
pub fn escape_invisible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_invisible(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_become_escapes() {
        for (hidden, shown) in [
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{7}\u{1b}[31m", "\\u{7}\\u{1b}[31m"),
            ("line\r\nfeed", "line\\u{d}\\u{a}feed"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("\u{e0041}\u{9f}\u{ad}", "\\u{e0041}\\u{9f}\\u{ad}"),
            ("plain <b> & \u{e9}\u{4e2d}", "plain <b> & \u{e9}\u{4e2d}"),
        ] {
            assert_eq!(escape_invisible(hidden), shown);
        }
    }

    #[test]
    fn no_character_that_changes_direction_or_is_a_control_survives() {
        for character in '\0'..=char::MAX {
            let marks_direction = matches!(character,
                '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if character.is_control() || marks_direction {
                assert!(!escape_invisible(&character.to_string()).contains(character), "{character:?}");
            }
        }
    }
}
