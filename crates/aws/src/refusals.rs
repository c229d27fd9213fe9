//! The refusals that the readers of a request share, and caller text made safe for their messages.

use durward_core::{Refusal, RefusalReason};

/// Longest caller text in a message, in characters.
const MAX_QUOTED_CHARS: usize = 80;

/// The request contradicts itself or its protocol.
pub(crate) fn malformed_request(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::Malformed, message)
}

/// Reading the body would take too much memory.
pub(crate) fn too_many_values(values: &str, limit: usize) -> Refusal {
    Refusal::new(RefusalReason::TooLarge, format!("the body holds more than {limit} {values}"))
}

/// The request matches no operation, or more than one.
pub(crate) fn unknown_operation(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::UnknownOperation, message)
}

/// Caller text for a message: printable ASCII, cut to [`MAX_QUOTED_CHARS`].
pub(crate) fn quote_for_message(text: &str) -> String {
    // Messages reach terminals and logs: control and direction characters could forge lines there.
    let printable = text.chars().map(|c| if c.is_ascii_graphic() && c != '`' { c } else { '?' });
    printable.take(MAX_QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_printable_text() {
        assert_eq!(quote_for_message("Get\r\n`Object\u{202e}"), "Get???Object?");
        assert_eq!(quote_for_message(&"a".repeat(200)).len(), 80);
    }
}
