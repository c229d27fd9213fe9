//! Percent-encoded text: query strings and `application/x-www-form-urlencoded` bodies, read strictly.
//!
//! Promise: a bad escape, bytes that are not UTF-8, a parameter without a name and a name that a second reader could take for
//! another are refused. A lenient reader would replace them, and the service behind the gateway could read another name or value
//! than policy did.

use crate::refusals::{malformed_request, quote_for_message, too_many_values};
use durward_core::{Refusal, limits};
use std::borrow::Cow;
use std::collections::HashMap;

/// A decoded name and its value.
pub(crate) type ParameterPair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The meaning of a `+`. RFC 3986 gives it none; the form encoding makes it a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlusSign {
    Literal,
    Space,
}

/// The parameters of a form body in which each name occurs once.
#[derive(Debug)]
pub struct FormParameters(HashMap<String, String>);

impl FormParameters {
    /// Reads a whole body. Refuses a name that occurs twice: two readers could pick different values.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let mut parameters = HashMap::new();
        for (name, value) in parse_form_body(body)? {
            if parameters.contains_key(name.as_ref()) {
                return Err(malformed_request(format!(
                    "the form parameter `{}` is given twice",
                    quote_for_message(&name)
                )));
            }
            parameters.insert(name.into_owned(), value.into_owned());
        }
        Ok(Self(parameters))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// The pairs of a form body, in order.
pub(crate) fn parse_form_body(body: &[u8]) -> Result<Vec<ParameterPair<'_>>, Refusal> {
    let text = std::str::from_utf8(body)
        .map_err(|_invalid| malformed_request("the form body is not valid utf-8"))?;
    let pairs = parse_pairs(text, PlusSign::Space)?;
    pairs.iter().try_for_each(|(name, _value)| require_form_name(name))?;
    Ok(pairs)
}

/// Refuses the decoded name of a form parameter that another reader could take for another name: one that trims blanks or
/// controls, folds Unicode, decodes twice (`%2541ction`), or ends a pair at `;` as HTML 4 allowed (CVE-2021-23336). Names of the
/// query and EC2 protocols are printable ASCII without these characters.
pub(crate) fn require_form_name(name: &str) -> Result<(), Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'+' | b'&' | b'=' | b';');
    if name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(malformed_request(format!(
        "the name of the parameter `{}` has blanks, control or non-ASCII characters, `;`, or a second encoding; send the plain name",
        quote_for_message(name)
    )))
}

/// The pairs of a query string or form, in order. A name without `=` has an empty value.
pub(crate) fn parse_pairs(text: &str, plus: PlusSign) -> Result<Vec<ParameterPair<'_>>, Refusal> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    // Counted before anything is collected: a pair takes many times the memory of its bytes.
    if text.bytes().filter(|byte| *byte == b'&').count() >= limits::MAX_FORM_NAME_PARTS {
        return Err(too_many_values("parameters", limits::MAX_FORM_NAME_PARTS));
    }
    text.split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.is_empty() {
                return Err(malformed_request("a query or form parameter has no name"));
            }
            Ok((decode_escapes(name, plus)?, decode_escapes(value, plus)?))
        })
        .collect()
}

/// Decodes percent escapes; borrows where there are none.
pub(crate) fn decode_escapes(text: &str, plus: PlusSign) -> Result<Cow<'_, str>, Refusal> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(parse_hex_digit);
                let low = bytes.next().and_then(parse_hex_digit);
                let (Some(high), Some(low)) = (high, low) else {
                    return Err(malformed_request(
                        "a percent sign is not followed by two hexadecimal digits",
                    ));
                };
                decoded.push(high << 4 | low);
            }
            b'+' if plus == PlusSign::Space => decoded.push(b' '),
            other => decoded.push(other),
        }
    }
    let decoded = String::from_utf8(decoded)
        .map_err(|_invalid| malformed_request("percent-encoded text is not valid utf-8"))?;
    Ok(Cow::Owned(decoded))
}

fn parse_hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use durward_core::RefusalReason;

    #[test]
    fn decodes_percent_escapes_strictly() {
        assert_eq!(decode_escapes("a%20b%2Bc%C3%bc", PlusSign::Literal).unwrap(), "a b+cü");
        assert_eq!(decode_escapes("a+b", PlusSign::Literal).unwrap(), "a+b");
        assert_eq!(decode_escapes("a+b", PlusSign::Space).unwrap(), "a b");
        for bad in ["%", "%4", "%zz", "%ff", "%C3%28", "%+1", "%C3"] {
            assert!(decode_escapes(bad, PlusSign::Literal).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_form_gives_each_name_once() {
        let form = FormParameters::parse(b"Action=AssumeRole&Name=a+b%2F&Empty=&Flag").unwrap();
        assert_eq!(form.get("Action"), Some("AssumeRole"));
        assert_eq!(form.get("Name"), Some("a b/"));
        assert_eq!((form.get("Empty"), form.get("Flag"), form.get("flag")), (Some(""), Some(""), None));
        assert!(FormParameters::parse(b"").unwrap().get("Action").is_none());
        for bad in [
            &b"Action=a&Action=a"[..],
            b"Action=a&%41ction=b",
            b"Action=%",
            b"Action=%ff",
            b"Action=\xff",
            b"=a",
            b"a=1&&b=2",
            b"a=1&",
            b"Action =a",
            b"Action+=a",
            b"%09Action=a",
            b"Action%00=a",
            b"%41ction%0D=a",
            b"%2541ction=a",
            b"%252541ction=a",
            b"Role%2BArn=a",
            b"Role%26Action=a",
            b"a;Action=a",
            b"\xef\xbc\xa1ction=a",
            b"Action%E2%80%8B=a",
        ] {
            let refusal = FormParameters::parse(bad).unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::Malformed, "{bad:?}");
        }
        let many = "&a".repeat(limits::MAX_FORM_NAME_PARTS);
        assert_eq!(FormParameters::parse(many.as_bytes()).unwrap_err().reason, RefusalReason::TooLarge);
    }
}
