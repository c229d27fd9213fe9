//! The headers of MCP, which mirror the body of a request (MCP 2026-07-28, "Transports", "Server validation").
//!
//! Promise: policy decides by the body, but proxies and servers may route by the headers. So a header that is missing, repeated
//! or different from the body is refused, and the headers for the server are written anew from the body.

use crate::client_message::{ClientMessage, ClientRequest};
use crate::error::{JsonRpcError, error_codes};
use crate::revision::{self, MODERN_REVISIONS, ProtocolEra};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// The protocol version of a message.
const PROTOCOL_VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The session of a legacy message.
pub const SESSION_ID_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");
/// The prefix of headers that mirror an argument of a tool call (`x-mcp-header` in the schema of the tool).
const PARAM_HEADER_PREFIX: &str = "mcp-param-";

const META_PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const META_CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The era of a message, and its headers for the server.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedHeaders {
    pub era: ProtocolEra,
    pub headers: HeaderMap,
}

impl ValidatedHeaders {
    /// Returns true if an error to this message may send the client to a URL.
    pub fn has_url_elicitation_error(&self) -> bool {
        let version = self.headers.get(PROTOCOL_VERSION_HEADER).and_then(|version| version.to_str().ok());
        self.era == ProtocolEra::Legacy && version.is_some_and(revision::has_url_elicitation_error)
    }
}

/// A header that is invalid or contradicts the body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum HeaderError {
    #[error("header `{header}` is missing; it mirrors `{mirrored}` of the body")]
    Missing { header: HeaderName, mirrored: &'static str },
    #[error("header `{0}` is given twice")]
    Repeated(HeaderName),
    #[error("header `{0}` is not ASCII")]
    NotAscii(HeaderName),
    #[error("header `{0}` is not the Base64 of UTF-8 text")]
    NotBase64(HeaderName),
    #[error("header `{0}` contradicts the body")]
    ContradictsBody(HeaderName),
    #[error("header `{0}` is not the value of any argument")]
    MirrorsNoArgument(HeaderName),
    #[error("header `{0}` cannot be written")]
    Unwritable(HeaderName),
}

/// Finds the era of a message and checks its headers against its body.
pub fn validate_headers(
    headers: &HeaderMap,
    message: &ClientMessage,
) -> Result<ValidatedHeaders, JsonRpcError> {
    let id = message.request_id();
    let mismatch =
        |error: HeaderError| JsonRpcError::new(error_codes::HEADER_MISMATCH, error.to_string()).with_id(id);
    let version = get_single_header(headers, &PROTOCOL_VERSION_HEADER).map_err(mismatch)?;
    let params = match message {
        ClientMessage::Request(request) => Some(&request.params),
        ClientMessage::Notification(notification) => Some(&notification.params),
        ClientMessage::Response { .. } => None,
    };
    let meta = params.and_then(|params| params.get("_meta"));
    let version_in_body = meta.and_then(|meta| meta.get(META_PROTOCOL_VERSION));
    let unsupported = |requested: &str| JsonRpcError {
        requested_version: Some(requested.to_owned()),
        ..JsonRpcError::new(error_codes::UNSUPPORTED_PROTOCOL_VERSION, "this version of MCP is not supported")
            .with_id(id)
    };
    // Either of the two makes a request modern. A request in which they disagree is refused below, so nobody can show one version
    // to the gateway and another to the server.
    let is_modern = version_in_body.is_some() || version.as_deref().is_some_and(revision::is_modern_revision);
    if !is_modern {
        if let Some(version) = version.as_deref().filter(|version| !revision::is_supported_revision(version))
        {
            return Err(unsupported(version));
        }
    } else if let ClientMessage::Request(request) = message {
        let invalid = |why: &str| JsonRpcError::new(error_codes::INVALID_PARAMS, why).with_id(id);
        let version_in_body = version_in_body
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("`_meta` does not give the protocol version as a string"))?;
        match version.as_deref() {
            None => {
                return Err(mismatch(HeaderError::Missing {
                    header: PROTOCOL_VERSION_HEADER,
                    mirrored: META_PROTOCOL_VERSION,
                }));
            }
            Some(version) if version != version_in_body => {
                return Err(mismatch(HeaderError::ContradictsBody(PROTOCOL_VERSION_HEADER)));
            }
            Some(_) if !MODERN_REVISIONS.contains(&version_in_body) => {
                return Err(unsupported(version_in_body));
            }
            Some(_) => {}
        }
        if !meta.and_then(|meta| meta.get(META_CLIENT_CAPABILITIES)).is_some_and(Value::is_object) {
            return Err(invalid("`_meta` does not give the client's capabilities as an object"));
        }
        return check_mirrored_headers(headers, request).map_err(mismatch);
    }
    // The rest are legacy messages and notifications, for which MCP defines no mirrored headers.
    let mut next = HeaderMap::new();
    insert_header(&mut next, PROTOCOL_VERSION_HEADER, version.as_deref()).map_err(mismatch)?;
    Ok(ValidatedHeaders {
        era: if is_modern { ProtocolEra::Modern } else { ProtocolEra::Legacy },
        headers: next,
    })
}

/// Checks the headers that mirror a modern request.
fn check_mirrored_headers(
    headers: &HeaderMap,
    request: &ClientRequest,
) -> Result<ValidatedHeaders, HeaderError> {
    let mut next = HeaderMap::new();
    insert_header(
        &mut next,
        PROTOCOL_VERSION_HEADER,
        get_single_header(headers, &PROTOCOL_VERSION_HEADER)?.as_deref(),
    )?;
    match get_single_header(headers, &METHOD_HEADER)? {
        None => return Err(HeaderError::Missing { header: METHOD_HEADER, mirrored: "method" }),
        Some(method) if method != request.method => {
            return Err(HeaderError::ContradictsBody(METHOD_HEADER));
        }
        Some(method) => insert_header(&mut next, METHOD_HEADER, Some(&method))?,
    }
    let mirrored = match request.method.as_str() {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    };
    let claimed = get_single_header(headers, &NAME_HEADER)?
        .map(|value| decode_header_value(&NAME_HEADER, &value))
        .transpose()?;
    let named = mirrored.and_then(|member| request.name_param(member));
    match (mirrored, claimed) {
        (None, None) => {}
        (Some(mirrored), None) => return Err(HeaderError::Missing { header: NAME_HEADER, mirrored }),
        (_, Some(claimed)) if Some(claimed.as_str()) != named => {
            return Err(HeaderError::ContradictsBody(NAME_HEADER));
        }
        (_, Some(claimed)) => insert_header(&mut next, NAME_HEADER, Some(&encode_header_value(&claimed)))?,
    }
    let empty = Map::new();
    let arguments = match (request.method.as_str(), request.params.get("arguments")) {
        ("tools/call", Some(Value::Object(arguments))) => arguments,
        _ => &empty,
    };
    for name in headers.keys().filter(|name| name.as_str().starts_with(PARAM_HEADER_PREFIX)) {
        let value = get_single_header(headers, name)?.unwrap_or_default();
        // The schema of the tool says which argument it mirrors, and the gateway does not have the schema. So the header may
        // carry the value of any argument, but no value that policy has not seen.
        if !mirrors_any_argument(&decode_header_value(name, &value)?, arguments) {
            return Err(HeaderError::MirrorsNoArgument(name.clone()));
        }
        insert_header(&mut next, name.clone(), Some(&value))?;
    }
    Ok(ValidatedHeaders { era: ProtocolEra::Modern, headers: next })
}

fn mirrors_any_argument(claimed: &str, arguments: &Map<String, Value>) -> bool {
    arguments.values().any(|value| match value {
        Value::String(text) => text == claimed,
        Value::Bool(value) => claimed == if *value { "true" } else { "false" },
        Value::Number(number) => {
            // Integers compare by value: 42 and 42.0 are equal (MCP 2026-07-28, "Transports", "Server validation").
            let text = number.to_string();
            claimed == text
                || claimed.strip_suffix(".0") == Some(text.as_str())
                || text.strip_suffix(".0") == Some(claimed)
        }
        Value::Object(deeper) => mirrors_any_argument(claimed, deeper),
        Value::Null | Value::Array(_) => false,
    })
}

fn insert_header(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) -> Result<(), HeaderError> {
    if let Some(value) = value {
        let value = HeaderValue::from_str(value).map_err(|_invalid| HeaderError::Unwritable(name.clone()))?;
        headers.insert(name, value);
    }
    Ok(())
}

/// The single value of a header, without the blanks around it.
fn get_single_header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, HeaderError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(HeaderError::Repeated(name.clone()));
    }
    let text = value.to_str().map_err(|_error| HeaderError::NotAscii(name.clone()))?;
    Ok(Some(text.trim_matches([' ', '\t']).to_owned()))
}

/// Around the Base64 of a value that a header cannot hold as it is (MCP 2026-07-28, "Transports", "Value encoding").
const BASE64_PREFIX: &str = "=?base64?";
const BASE64_SUFFIX: &str = "?=";

fn decode_header_value(name: &HeaderName, value: &str) -> Result<String, HeaderError> {
    let Some(coded) = value.strip_prefix(BASE64_PREFIX).and_then(|rest| rest.strip_suffix(BASE64_SUFFIX))
    else {
        return Ok(value.to_owned());
    };
    STANDARD
        .decode(coded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| HeaderError::NotBase64(name.clone()))
}

/// `value` as a header can hold it.
fn encode_header_value(value: &str) -> String {
    let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value.trim_matches([' ', '\t']) == value
        // A plain value that looks like an encoded one must be encoded, or the server would decode it.
        && !value.starts_with(BASE64_PREFIX);
    if plain { value.to_owned() } else { format!("{BASE64_PREFIX}{}{BASE64_SUFFIX}", STANDARD.encode(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn modern_request(method: &str, mut params: Value) -> ClientMessage {
        params["_meta"] = json!({ META_PROTOCOL_VERSION: "2026-07-28", META_CLIENT_CAPABILITIES: {} });
        ClientMessage::parse(
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string().as_bytes(),
        )
        .unwrap()
    }

    fn header_map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    const VALID_HEADERS: [(&str, &str); 3] =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "read")];

    fn with_changed_headers(changed: &[(&'static str, Option<&str>)]) -> HeaderMap {
        let mut all = header_map(&VALID_HEADERS);
        for (name, value) in changed {
            all.remove(*name);
            if let Some(value) = value {
                all.insert(*name, HeaderValue::from_str(value).unwrap());
            }
        }
        all
    }

    #[test]
    fn a_modern_request_keeps_its_checked_headers() {
        let call = modern_request(
            "tools/call",
            json!({ "name": "read", "arguments": { "deep": { "region": "eu" }, "n": 42 } }),
        );
        let validated = validate_headers(
            &with_changed_headers(&[("mcp-param-region", Some("eu")), ("mcp-param-n", Some("42.0"))]),
            &call,
        )
        .unwrap();
        assert_eq!(validated.era, ProtocolEra::Modern);
        assert_eq!(validated.headers.len(), 5);
        let coded = modern_request("tools/call", json!({ "name": "größe" }));
        let validated =
            validate_headers(&with_changed_headers(&[("mcp-name", Some("=?base64?Z3LDtsOfZQ==?="))]), &coded)
                .unwrap();
        assert_eq!(validated.headers["mcp-name"], "=?base64?Z3LDtsOfZQ==?=");
    }

    #[test]
    fn refuses_headers_that_contradict_the_body() {
        let call = modern_request(
            "tools/call",
            json!({ "name": "read", "arguments": { "path": "/srv", "l": ["x"] } }),
        );
        for changed in [
            ("mcp-protocol-version", None),
            ("mcp-protocol-version", Some("2025-11-25")),
            ("mcp-method", None),
            ("mcp-method", Some("tools/list")),
            ("mcp-method", Some("TOOLS/CALL")),
            ("mcp-name", None),
            ("mcp-name", Some("write")),
            ("mcp-name", Some("READ")),
            ("mcp-name", Some("=?base64?cmVhZA=?=")),
            ("mcp-name", Some("=?base64?d3JpdGU=?=")),
            ("mcp-param-path", Some("/etc")),
            ("mcp-param-l", Some("x")),
        ] {
            let error = validate_headers(&with_changed_headers(&[changed]), &call).unwrap_err();
            assert_eq!(
                (error.code, error.id.as_ref()),
                (error_codes::HEADER_MISMATCH, call.request_id()),
                "{changed:?}"
            );
        }
        for repeated in ["mcp-protocol-version", "mcp-method", "mcp-name"] {
            let mut twice = header_map(&VALID_HEADERS);
            let again = twice[repeated].clone();
            twice.append(repeated, again);
            assert_eq!(
                validate_headers(&twice, &call).unwrap_err().code,
                error_codes::HEADER_MISMATCH,
                "{repeated}"
            );
        }
        let list = modern_request("tools/list", json!({}));
        assert!(
            validate_headers(&with_changed_headers(&[("mcp-method", Some("tools/list"))]), &list).is_err(),
            "a name that the body does not have"
        );
        assert!(
            validate_headers(
                &with_changed_headers(&[("mcp-method", Some("tools/list")), ("mcp-name", None)]),
                &list
            )
            .is_ok()
        );
    }

    #[test]
    fn body_and_header_agree_on_the_era() {
        let legacy = ClientMessage::parse(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).unwrap();
        for version in [None, Some("2025-03-26"), Some("2025-06-18"), Some("2025-11-25")] {
            let given: Vec<_> = version.iter().map(|version| ("mcp-protocol-version", *version)).collect();
            let validated = validate_headers(&header_map(&given), &legacy).unwrap();
            assert_eq!((validated.era, validated.headers.len()), (ProtocolEra::Legacy, given.len()));
        }
        let code_of = |headers: &HeaderMap, message: &ClientMessage| {
            validate_headers(headers, message).unwrap_err().code
        };
        let version = |version| header_map(&[("mcp-protocol-version", version)]);
        assert_eq!(code_of(&version("2024-11-05"), &legacy), error_codes::UNSUPPORTED_PROTOCOL_VERSION);
        assert_eq!(code_of(&version("x"), &legacy), error_codes::INVALID_PARAMS);
        assert_eq!(code_of(&version("2026-07-28"), &legacy), error_codes::INVALID_PARAMS);
        let future = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping",
            "params": { "_meta": { META_PROTOCOL_VERSION: "2027-01-01", META_CLIENT_CAPABILITIES: {} } } });
        let future = ClientMessage::parse(future.to_string().as_bytes()).unwrap();
        let error = validate_headers(&version("2027-01-01"), &future).unwrap_err();
        assert_eq!(
            (error.code, error.error_data().unwrap()["requested"].as_str()),
            (error_codes::UNSUPPORTED_PROTOCOL_VERSION, Some("2027-01-01"))
        );
        let bare = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": { "_meta": { META_PROTOCOL_VERSION: "2026-07-28" } } });
        let bare = ClientMessage::parse(bare.to_string().as_bytes()).unwrap();
        assert_eq!(code_of(&version("2026-07-28"), &bare), error_codes::INVALID_PARAMS);
    }

    proptest! {
        #[test]
        fn a_value_comes_back_from_its_header(value in ".*") {
            let coded = encode_header_value(&value);
            prop_assert!(HeaderValue::from_str(&coded).is_ok());
            prop_assert_eq!(decode_header_value(&NAME_HEADER, coded.trim_matches([' ', '\t'])), Ok(value));
        }
    }
}
