//! Forms: `application/x-www-form-urlencoded` bodies and query strings.

/// The fields in their order; `None` where a name or value is not UTF-8 in percent encoding.
pub fn parse_form(text: &str) -> Option<Vec<(String, String)>> {
    text.split('&')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    // A space is written as a plus sign, and the plus sign as %2B (WHATWG URL, application/x-www-form-urlencoded).
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_names_and_values() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            parse_form("a=1+2&b%20c=%2B&&d"),
            Some(vec![field("a", "1 2"), field("b c", "+"), field("d", "")])
        );
        assert_eq!(parse_form("a=%ff"), None);
    }
}
