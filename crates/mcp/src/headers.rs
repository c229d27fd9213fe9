//! The headers of MCP and their agreement with the body. A gateway decides by the body; whoever routes by the headers must
//! see the same, so a header that is missing, doubled or different is refused (2026-07-28, transports: header mismatch).

use crate::client_message::{ClientMessage, ClientRequest};
use crate::error::{JsonRpcError, error_codes};
use crate::revision::{self, MODERN_REVISIONS, ProtocolEra};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// The version of MCP a message keeps to.
const PROTOCOL_VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The session of a legacy message.
pub const SESSION_ID_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");
/// Before the name that a tool gives the mirror of an argument.
const PARAM_HEADER_PREFIX: &str = "mcp-param-";

const META_PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const META_CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The era of a message, and what its headers must be on the next hop: written anew from the body, not copied.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedHeaders {
    pub era: ProtocolEra,
    pub headers: HeaderMap,
}

impl ValidatedHeaders {
    /// Whether an error may send the client to a URL: one revision has that.
    pub fn has_url_elicitation_error(&self) -> bool {
        self.era == ProtocolEra::Legacy
            && self.headers.get(PROTOCOL_VERSION_HEADER).is_some_and(|version| version == "2025-11-25")
    }
}

/// Tells the era of a message and holds its headers to its body.
pub fn validate_headers(
    headers: &HeaderMap,
    message: &ClientMessage,
) -> Result<ValidatedHeaders, JsonRpcError> {
    let id = message.request_id();
    let mismatch = |why: String| JsonRpcError::new(error_codes::HEADER_MISMATCH, why).with_id(id);
    let version = get_single_header(headers, &PROTOCOL_VERSION_HEADER).map_err(mismatch)?;
    let params = match message {
        ClientMessage::Request(request) => Some(&request.params),
        ClientMessage::Notification(notification) => Some(&notification.params),
        ClientMessage::Response { .. } => None,
    };
    let meta = params.and_then(|params| params.get("_meta"));
    let own = meta.and_then(|meta| meta.get(META_PROTOCOL_VERSION));
    let unsupported = |requested: &str| JsonRpcError {
        requested_version: Some(requested.to_owned()),
        ..JsonRpcError::new(error_codes::UNSUPPORTED_PROTOCOL_VERSION, "this version of MCP is not supported")
            .with_id(id)
    };
    let modern = own.is_some() || version.as_deref().is_some_and(revision::is_modern_revision);
    if !modern {
        if let Some(version) = version.as_deref().filter(|version| !revision::is_supported_revision(version))
        {
            return Err(unsupported(version));
        }
    } else if let ClientMessage::Request(request) = message {
        let invalid = |why: &str| JsonRpcError::new(error_codes::INVALID_PARAMS, why).with_id(id);
        let own = own
            .and_then(Value::as_str)
            .ok_or_else(|| invalid("`_meta` does not name the protocol version as a text"))?;
        match version.as_deref() {
            None => return Err(mismatch("header `MCP-Protocol-Version` is missing".to_owned())),
            Some(version) if version != own => {
                return Err(mismatch(
                    "header `MCP-Protocol-Version` is not the version in `_meta`".to_owned(),
                ));
            }
            Some(_) if !MODERN_REVISIONS.contains(&own) => return Err(unsupported(own)),
            Some(_) => {}
        }
        if !meta.and_then(|meta| meta.get(META_CLIENT_CAPABILITIES)).is_some_and(Value::is_object) {
            return Err(invalid("`_meta` does not name the client's capabilities as an object"));
        }
        return check_mirrored_headers(headers, request).map_err(mismatch);
    }
    let mut next = HeaderMap::new();
    insert_header(&mut next, PROTOCOL_VERSION_HEADER, version.as_deref());
    Ok(ValidatedHeaders {
        era: if modern { ProtocolEra::Modern } else { ProtocolEra::Legacy },
        headers: next,
    })
}

/// The mirrors of a modern request, checked.
fn check_mirrored_headers(headers: &HeaderMap, request: &ClientRequest) -> Result<ValidatedHeaders, String> {
    let mut next = HeaderMap::new();
    insert_header(
        &mut next,
        PROTOCOL_VERSION_HEADER,
        get_single_header(headers, &PROTOCOL_VERSION_HEADER)?.as_deref(),
    );
    match get_single_header(headers, &METHOD_HEADER)? {
        None => return Err("header `Mcp-Method` is missing".to_owned()),
        Some(method) if method != request.method => {
            return Err("header `Mcp-Method` is not the method of the body".to_owned());
        }
        Some(method) => insert_header(&mut next, METHOD_HEADER, Some(&method)),
    }
    let source = match request.method.as_str() {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    };
    let claimed =
        get_single_header(headers, &NAME_HEADER)?.map(|value| decode_header_value(&value)).transpose()?;
    let named = source.and_then(|source| request.name_param(source));
    match (source, claimed) {
        (None, None) => {}
        (Some(source), None) => {
            return Err(format!("header `Mcp-Name` is missing; it mirrors `params.{source}`"));
        }
        (_, Some(claimed)) if Some(claimed.as_str()) != named => {
            return Err("header `Mcp-Name` is not what the body names".to_owned());
        }
        (_, Some(claimed)) => insert_header(&mut next, NAME_HEADER, Some(&encode_header_value(&claimed))),
    }
    let empty = Map::new();
    let arguments = match (request.method.as_str(), request.params.get("arguments")) {
        ("tools/call", Some(Value::Object(arguments))) => arguments,
        _ => &empty,
    };
    for name in headers.keys().filter(|name| name.as_str().starts_with(PARAM_HEADER_PREFIX)) {
        let value = get_single_header(headers, name)?.unwrap_or_default();
        // Which argument it mirrors stands in the tool's schema; that it mirrors one can be told without.
        if !mirrors_any_argument(&decode_header_value(&value)?, arguments) {
            return Err(format!("header `{name}` is not the value of any argument"));
        }
        insert_header(&mut next, name.clone(), Some(&value));
    }
    Ok(ValidatedHeaders { era: ProtocolEra::Modern, headers: next })
}

fn mirrors_any_argument(claimed: &str, arguments: &Map<String, Value>) -> bool {
    arguments.values().any(|value| match value {
        Value::String(text) => text == claimed,
        Value::Bool(value) => claimed == if *value { "true" } else { "false" },
        Value::Number(number) => {
            let text = number.to_string();
            claimed == text
                || claimed.strip_suffix(".0") == Some(text.as_str())
                || text.strip_suffix(".0") == Some(claimed)
        }
        Value::Object(deeper) => mirrors_any_argument(claimed, deeper),
        Value::Null | Value::Array(_) => false,
    })
}

fn insert_header(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    // What was read from a header, or encoded for one, is a header value.
    if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
        headers.insert(name, value);
    }
}

/// The one value of a header, without the blanks around it.
fn get_single_header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("header `{name}` is given twice"));
    }
    let text = value.to_str().map_err(|_error| format!("header `{name}` is not ASCII"))?;
    Ok(Some(text.trim_matches([' ', '\t']).to_owned()))
}

/// A value that cannot stand in a header as it is stands there in Base64 between these.
const BASE64_PREFIX: &str = "=?base64?";
const BASE64_SUFFIX: &str = "?=";

fn decode_header_value(value: &str) -> Result<String, String> {
    let Some(coded) = value.strip_prefix(BASE64_PREFIX).and_then(|rest| rest.strip_suffix(BASE64_SUFFIX))
    else {
        return Ok(value.to_owned());
    };
    STANDARD
        .decode(coded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| "a header value is not the Base64 of UTF-8 text".to_owned())
}

/// `value` as a header can hold it.
fn encode_header_value(value: &str) -> String {
    let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value.trim_matches([' ', '\t']) == value
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
    fn a_modern_request_keeps_its_checked_mirrors() {
        let call = modern_request(
            "tools/call",
            json!({ "name": "read", "arguments": { "deep": { "region": "eu" }, "n": 42 } }),
        );
        let names = validate_headers(
            &with_changed_headers(&[("mcp-param-region", Some("eu")), ("mcp-param-n", Some("42.0"))]),
            &call,
        )
        .unwrap();
        assert_eq!(names.era, ProtocolEra::Modern);
        assert_eq!(names.headers.len(), 5);
        let coded = modern_request("tools/call", json!({ "name": "größe" }));
        let names =
            validate_headers(&with_changed_headers(&[("mcp-name", Some("=?base64?Z3LDtsOfZQ==?="))]), &coded)
                .unwrap();
        assert_eq!(names.headers["mcp-name"], "=?base64?Z3LDtsOfZQ==?=");
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
        for doubled in ["mcp-protocol-version", "mcp-method", "mcp-name"] {
            let mut twice = header_map(&VALID_HEADERS);
            let again = twice[doubled].clone();
            twice.append(doubled, again);
            assert_eq!(
                validate_headers(&twice, &call).unwrap_err().code,
                error_codes::HEADER_MISMATCH,
                "{doubled}"
            );
        }
        let list = modern_request("tools/list", json!({}));
        assert!(
            validate_headers(&with_changed_headers(&[("mcp-method", Some("tools/list"))]), &list).is_err(),
            "a name where none is"
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
    fn a_request_is_of_the_era_that_body_and_header_agree_on() {
        let legacy = ClientMessage::parse(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).unwrap();
        for version in [None, Some("2025-03-26"), Some("2025-06-18"), Some("2025-11-25")] {
            let given: Vec<_> = version.iter().map(|version| ("mcp-protocol-version", *version)).collect();
            let names = validate_headers(&header_map(&given), &legacy).unwrap();
            assert_eq!((names.era, names.headers.len()), (ProtocolEra::Legacy, given.len()));
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
            prop_assert_eq!(decode_header_value(coded.trim_matches([' ', '\t'])), Ok(value));
        }
    }
}
