//! What STS answers, read strictly: one root, each wanted element once, no document type, a bounded size. Error texts
//! here name what is wrong with an answer and never repeat it, for it may hold a credential.

use durward_core::Secret;
use quick_xml::Reader;
use quick_xml::events::Event;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The largest answer that is read. A real one is about 2 KiB, with a long session token 5 KiB.
const MAX_STS_RESPONSE_BYTES: usize = 64 << 10;
const MAX_XML_DEPTH: usize = 16;

/// A credential as STS issued it.
#[derive(Debug)]
pub(crate) struct StsCredentials {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Secret,
    pub expires_at: OffsetDateTime,
}

/// The credential in an `AssumeRoleResponse`.
pub(crate) fn parse_assume_role_response(body: &[u8]) -> Result<StsCredentials, &'static str> {
    let leaves = XmlLeafTexts::parse(body)?;
    let field =
        |path: &str, missing| leaves.unique_text(path)?.filter(|text| !text.is_empty()).ok_or(missing);
    let access_key_id = field(
        "AssumeRoleResponse/AssumeRoleResult/Credentials/AccessKeyId",
        "the answer has no `AccessKeyId`",
    )?;
    let secret = field(
        "AssumeRoleResponse/AssumeRoleResult/Credentials/SecretAccessKey",
        "the answer has no `SecretAccessKey`",
    )?;
    let session_token = field(
        "AssumeRoleResponse/AssumeRoleResult/Credentials/SessionToken",
        "the answer has no `SessionToken`",
    )?;
    let expiration = field(
        "AssumeRoleResponse/AssumeRoleResult/Credentials/Expiration",
        "the answer has no `Expiration`",
    )?;
    if ![access_key_id, secret, session_token]
        .iter()
        .all(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return Err("a field of `Credentials` holds characters that no credential has");
    }
    Ok(StsCredentials {
        access_key_id: access_key_id.to_owned(),
        secret_access_key: Secret::new(secret),
        session_token: Secret::new(session_token),
        expires_at: OffsetDateTime::parse(expiration, &Rfc3339)
            .map_err(|_error| "`Expiration` is no RFC 3339 time")?,
    })
}

/// Code and message of an `ErrorResponse`; nothing where the body is none.
pub(crate) fn parse_error_response(body: &[u8]) -> Option<(String, String)> {
    let leaves = XmlLeafTexts::parse(body).ok()?;
    let code = leaves.unique_text("ErrorResponse/Error/Code").ok()??;
    let message = leaves.unique_text("ErrorResponse/Error/Message").ok()?.unwrap_or_default();
    let is_code = !code.is_empty()
        && code.len() <= 64
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:".contains(&byte));
    is_code.then(|| (code.to_owned(), message.to_owned()))
}

/// The text of each element without children, by its path of local names. Wiped when dropped.
struct XmlLeafTexts(Vec<(String, Secret)>);

struct OpenElement {
    path: String,
    text: String,
    is_leaf: bool,
}

impl XmlLeafTexts {
    fn parse(body: &[u8]) -> Result<Self, &'static str> {
        const MALFORMED_XML: &str = "the answer is not well-formed XML";
        if body.len() > MAX_STS_RESPONSE_BYTES {
            return Err("the answer is too large");
        }
        let body = std::str::from_utf8(body).map_err(|_error| "the answer is not UTF-8")?;
        let mut reader = Reader::from_str(body);
        reader.config_mut().expand_empty_elements = true;
        let mut leaves = Vec::new();
        let mut open: Vec<OpenElement> = Vec::new();
        let mut roots = 0_u32;
        loop {
            match reader.read_event().map_err(|_error| MALFORMED_XML)? {
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
                        return Err("the answer has more than one root or is too deep");
                    }
                    open.push(OpenElement { path, text: String::new(), is_leaf: true });
                }
                Event::End(_) => {
                    // The reader has checked that the names match.
                    let closed = open.pop().ok_or(MALFORMED_XML)?;
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
                            .ok_or("the answer has an unknown entity")?,
                    };
                    append_text(&mut open, character.encode_utf8(&mut [0; 4]))?;
                }
                Event::Decl(_) | Event::Comment(_) => {}
                Event::DocType(_) | Event::PI(_) | Event::Empty(_) => {
                    return Err("the answer has a document type or a processing instruction");
                }
                Event::Eof => break,
            }
        }
        if roots != 1 || !open.is_empty() {
            return Err(MALFORMED_XML);
        }
        Ok(Self(leaves))
    }

    /// The text at `path`; an error where it is there twice.
    fn unique_text(&self, path: &str) -> Result<Option<&str>, &'static str> {
        let mut found = self.0.iter().filter(|(at, _)| at == path).map(|(_, text)| text.expose().trim());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err("the answer says a field twice"),
            (first, None) => Ok(first),
        }
    }
}

fn append_text(open: &mut [OpenElement], text: &str) -> Result<(), &'static str> {
    match open.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text
            .trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}')
            .is_empty() => {}
        None => return Err("the answer has text outside its root"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{parse_assume_role_response, parse_error_response};
    use crate::fakes::{ASSUME_ROLE_RESPONSE_XML, assume_role_response_xml};

    #[test]
    fn reads_what_sts_responds() {
        let issued = parse_assume_role_response(ASSUME_ROLE_RESPONSE_XML.as_bytes()).unwrap();
        assert_eq!(issued.access_key_id, "ASIAEXAMPLE");
        assert_eq!(issued.secret_access_key.expose(), "wJalr/secret+key");
        assert_eq!(issued.session_token.expose(), "token==&more");
        assert_eq!(issued.expires_at, time::macros::datetime!(2026-11-21 06:15:00 UTC));
    }

    #[test]
    fn refuses_what_is_not_exactly_one_credential() {
        let broken = [
            String::new(),
            "not xml".to_owned(),
            "{\"AssumeRoleResponse\":{}}".to_owned(),
            ASSUME_ROLE_RESPONSE_XML.replace("AccessKeyId", "Key"),
            ASSUME_ROLE_RESPONSE_XML.replace("<SessionToken>token==&amp;more</SessionToken>", ""),
            ASSUME_ROLE_RESPONSE_XML.replace("wJalr/secret+key", ""),
            ASSUME_ROLE_RESPONSE_XML.replace("wJalr/secret+key", "two words"),
            ASSUME_ROLE_RESPONSE_XML.replace("2026-11-21T06:15:00Z", "tomorrow"),
            ASSUME_ROLE_RESPONSE_XML
                .replace("</Credentials>", "<AccessKeyId>OTHER</AccessKeyId></Credentials>"),
            ASSUME_ROLE_RESPONSE_XML.replace("</AssumeRoleResponse>", ""),
            ASSUME_ROLE_RESPONSE_XML.replace("AssumeRoleResult", "GetCallerIdentityResult"),
            ASSUME_ROLE_RESPONSE_XML.replace("&amp;", "&evil;"),
            format!("{ASSUME_ROLE_RESPONSE_XML}{ASSUME_ROLE_RESPONSE_XML}"),
            format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{ASSUME_ROLE_RESPONSE_XML}"),
            assume_role_response_xml(&"A".repeat(70_000), "s", "t", "2026-11-21T06:15:00Z"),
        ];
        for xml in broken {
            let error = parse_assume_role_response(xml.as_bytes()).unwrap_err();
            assert!(!error.contains("secret+key"), "{error}");
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
