//! The response of STS to AssumeRole, read strictly: one root, each needed element once, no document type, a bounded size.
//!
//! Promise: an error names the fault and never repeats the response, which may hold a credential.

use durward_core::Secret;
use quick_xml::Reader;
use quick_xml::events::Event;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A real response is about 2 KiB, with a long session token 5 KiB.
pub(crate) const MAX_STS_RESPONSE_BYTES: usize = 64 << 10;
const MAX_XML_DEPTH: usize = 16;

/// A credential as STS issued it.
#[derive(Debug)]
pub(crate) struct StsCredentials {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub expires_at: OffsetDateTime,
}

/// Why a response cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StsResponseError {
    #[error("the response is too large")]
    TooLarge,
    #[error("the response is not UTF-8")]
    NotUtf8,
    #[error("the response is not well-formed XML")]
    NotXml,
    #[error("the response has more than one root or is too deep")]
    UnexpectedStructure,
    #[error("the response has an unknown entity")]
    UnknownEntity,
    #[error("the response has a document type or a processing instruction")]
    DocumentType,
    #[error("the response has text outside its root")]
    TextOutsideRoot,
    #[error("the response has no `{0}`")]
    MissingField(&'static str),
    #[error("the response has a field twice")]
    DuplicateField,
    #[error("a field of `Credentials` holds characters that no credential has")]
    InvalidCharacter,
    #[error("`Expiration` is not an RFC 3339 time")]
    InvalidExpiration,
}

/// The credential in an `AssumeRoleResponse`.
pub(crate) fn parse_assume_role_response(body: &[u8]) -> Result<StsCredentials, StsResponseError> {
    let leaves = XmlLeafTexts::parse(body)?;
    let field = |name| {
        leaves
            .unique_text(&format!("AssumeRoleResponse/AssumeRoleResult/Credentials/{name}"))?
            .filter(|text| !text.is_empty())
            .ok_or(StsResponseError::MissingField(name))
    };
    let access_key_id = field("AccessKeyId")?;
    let secret = field("SecretAccessKey")?;
    let session_token = field("SessionToken")?;
    let expiration = field("Expiration")?;
    if ![access_key_id, secret, session_token]
        .iter()
        .all(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        // They become header values: a line break would be header injection.
        return Err(StsResponseError::InvalidCharacter);
    }
    Ok(StsCredentials {
        access_key_id: access_key_id.to_owned(),
        secret_access_key: Secret::new(secret),
        session_token: Secret::new(session_token),
        expires_at: OffsetDateTime::parse(expiration, &Rfc3339)
            .map_err(|_error| StsResponseError::InvalidExpiration)?,
    })
}

/// Code and message of an `ErrorResponse`. `None` for any other body.
pub(crate) fn parse_error_response(body: &[u8]) -> Option<(String, String)> {
    let leaves = XmlLeafTexts::parse(body).ok()?;
    let code = leaves.unique_text("ErrorResponse/Error/Code").ok()??;
    let message = leaves.unique_text("ErrorResponse/Error/Message").ok()?.unwrap_or_default();
    // Codes go to logs and are compared: text that is no code comes from a proxy or an attacker and not from STS.
    let is_code = !code.is_empty()
        && code.len() <= 64
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:".contains(&byte));
    is_code.then(|| (code.to_owned(), message.to_owned()))
}

/// The text of each element without children, by its path of local names. It is wiped when dropped.
struct XmlLeafTexts(Vec<(String, Secret)>);

struct OpenElement {
    path: String,
    text: String,
    is_leaf: bool,
}

impl XmlLeafTexts {
    fn parse(body: &[u8]) -> Result<Self, StsResponseError> {
        if body.len() > MAX_STS_RESPONSE_BYTES {
            return Err(StsResponseError::TooLarge);
        }
        let body = std::str::from_utf8(body).map_err(|_error| StsResponseError::NotUtf8)?;
        let mut reader = Reader::from_str(body);
        reader.config_mut().expand_empty_elements = true;
        let mut leaves = Vec::new();
        let mut open: Vec<OpenElement> = Vec::new();
        let mut roots = 0_u32;
        loop {
            match reader.read_event().map_err(|_error| StsResponseError::NotXml)? {
                Event::Start(start) => {
                    let name = start.local_name();
                    let name = name.into_inner();
                    let path = if let Some(parent) = open.last_mut() {
                        parent.is_leaf = false;
                        format!("{}/{name}", parent.path)
                    } else {
                        roots += 1;
                        name.to_owned()
                    };
                    if open.len() >= MAX_XML_DEPTH || roots > 1 {
                        return Err(StsResponseError::UnexpectedStructure);
                    }
                    open.push(OpenElement { path, text: String::new(), is_leaf: true });
                }
                Event::End(_) => {
                    // The reader has checked that the names match.
                    let closed = open.pop().ok_or(StsResponseError::NotXml)?;
                    if closed.is_leaf {
                        leaves.push((closed.path, Secret::new(closed.text)));
                    }
                }
                Event::Text(text) => append_text(&mut open, &text.xml10_content())?,
                Event::CData(text) => append_text(&mut open, &text.xml10_content())?,
                Event::GeneralRef(reference) => {
                    let character = match &*reference {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => reference
                            .resolve_char_ref()
                            .ok()
                            .flatten()
                            .ok_or(StsResponseError::UnknownEntity)?,
                    };
                    append_text(&mut open, character.encode_utf8(&mut [0; 4]))?;
                }
                Event::Decl(_) | Event::Comment(_) => {}
                Event::DocType(_) | Event::PI(_) | Event::Empty(_) => {
                    // A document type could define entities (XXE, billion laughs).
                    return Err(StsResponseError::DocumentType);
                }
                Event::Eof => break,
            }
        }
        if roots != 1 || !open.is_empty() {
            return Err(StsResponseError::NotXml);
        }
        Ok(Self(leaves))
    }

    /// The text at `path`. Two elements there are an error: two readers might take different ones.
    fn unique_text(&self, path: &str) -> Result<Option<&str>, StsResponseError> {
        let mut found = self.0.iter().filter(|(at, _)| at == path).map(|(_, text)| text.expose().trim());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(StsResponseError::DuplicateField),
            (first, None) => Ok(first),
        }
    }
}

fn append_text(open: &mut [OpenElement], text: &str) -> Result<(), StsResponseError> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text
            .trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}')
            .is_empty() => {}
        None => return Err(StsResponseError::TextOutsideRoot),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{StsResponseError, parse_assume_role_response, parse_error_response};
    use crate::fakes::{ASSUME_ROLE_RESPONSE_XML, assume_role_response_xml};

    #[test]
    fn reads_a_response_of_sts() {
        let issued = parse_assume_role_response(ASSUME_ROLE_RESPONSE_XML.as_bytes()).unwrap();
        assert_eq!(issued.access_key_id, "ASIAEXAMPLE");
        assert_eq!(issued.secret_access_key.expose(), "wJalr/secret+key");
        assert_eq!(issued.session_token.expose(), "token==&more");
        assert_eq!(issued.expires_at, time::macros::datetime!(2026-11-21 06:15:00 UTC));
    }

    #[test]
    fn refuses_a_response_without_exactly_one_credential() {
        let without = |from: &str, to: &str| ASSUME_ROLE_RESPONSE_XML.replace(from, to);
        for (xml, expected) in [
            (String::new(), StsResponseError::NotXml),
            ("not xml".to_owned(), StsResponseError::TextOutsideRoot),
            ("{\"AssumeRoleResponse\":{}}".to_owned(), StsResponseError::TextOutsideRoot),
            (without("AccessKeyId", "Key"), StsResponseError::MissingField("AccessKeyId")),
            (
                without("<SessionToken>token==&amp;more</SessionToken>", ""),
                StsResponseError::MissingField("SessionToken"),
            ),
            (without("wJalr/secret+key", ""), StsResponseError::MissingField("SecretAccessKey")),
            (without("wJalr/secret+key", "two words"), StsResponseError::InvalidCharacter),
            (without("2026-11-21T06:15:00Z", "tomorrow"), StsResponseError::InvalidExpiration),
            (
                without("</Credentials>", "<AccessKeyId>OTHER</AccessKeyId></Credentials>"),
                StsResponseError::DuplicateField,
            ),
            (without("</AssumeRoleResponse>", ""), StsResponseError::NotXml),
            (
                without("AssumeRoleResult", "GetCallerIdentityResult"),
                StsResponseError::MissingField("AccessKeyId"),
            ),
            (without("&amp;", "&evil;"), StsResponseError::UnknownEntity),
            (
                format!("{ASSUME_ROLE_RESPONSE_XML}{ASSUME_ROLE_RESPONSE_XML}"),
                StsResponseError::UnexpectedStructure,
            ),
            (
                format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{ASSUME_ROLE_RESPONSE_XML}"),
                StsResponseError::DocumentType,
            ),
            (
                assume_role_response_xml(&"A".repeat(70_000), "s", "t", "2026-11-21T06:15:00Z"),
                StsResponseError::TooLarge,
            ),
        ] {
            let error = parse_assume_role_response(xml.as_bytes()).unwrap_err();
            assert_eq!(error, expected, "{xml:.80}");
            assert!(!error.to_string().contains("secret+key"), "{error}");
        }
    }

    #[test]
    fn reads_an_error() {
        let xml = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                   <Code>AccessDenied</Code><Message>User: a is not authorized</Message></Error>\
                   <RequestId>1</RequestId></ErrorResponse>";
        assert_eq!(
            parse_error_response(xml.as_bytes()),
            Some(("AccessDenied".to_owned(), "User: a is not authorized".to_owned()))
        );
        assert_eq!(parse_error_response(b"<html>502</html>"), None);
        assert_eq!(parse_error_response(b"upstream down"), None);
    }
}
