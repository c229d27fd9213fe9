//! Error bodies and their headers in each wire protocol.

use super::Wire;
use bytes::Bytes;
use durward_catalog::Protocol;
use http::StatusCode;
use serde_json::json;

pub(super) struct Written {
    pub body: Bytes,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
}

/// Code and message in the wire's protocol. The texts are escaped for it.
pub(super) fn write(wire: &Wire, code: &str, message: &str, request_id: &str, status: StatusCode) -> Written {
    let mut headers = vec![("x-amzn-requestid", request_id.to_owned())];
    let (content_type, body) = match wire.protocol() {
        protocol @ (Protocol::Json10 | Protocol::Json11) => {
            if wire.service.as_ref().is_some_and(|service| service.query_compatible) {
                let short = code.strip_suffix("Exception").unwrap_or(code);
                let fault = if status.is_server_error() { "Receiver" } else { "Sender" };
                headers.push(("x-amzn-query-error", format!("{short};{fault}")));
            }
            let body = json!({"__type": format!("com.amazon.coral.service#{code}"), "message": message, "Message": message});
            let one = protocol == Protocol::Json10;
            (if one { "application/x-amz-json-1.0" } else { "application/x-amz-json-1.1" }, body.to_string().into_bytes())
        }
        Protocol::RestJson => {
            headers.push(("x-amzn-errortype", code.to_owned()));
            ("application/json", json!({"message": message, "Message": message}).to_string().into_bytes())
        }
        Protocol::RpcV2Cbor => {
            headers.push(("smithy-protocol", "rpc-v2-cbor".to_owned()));
            if wire.service.as_ref().is_some_and(|service| service.query_compatible) {
                let short = code.strip_suffix("Exception").unwrap_or(code);
                let fault = if status.is_server_error() { "Receiver" } else { "Sender" };
                headers.push(("x-amzn-query-error", format!("{short};{fault}")));
            }
            ("application/cbor", cbor(code, message))
        }
        Protocol::Ec2 => (
            "text/xml",
            format!(
                "{DECLARATION}<Response><Errors><Error><Code>{code}</Code><Message>{}</Message></Error></Errors>\
                 <RequestID>{}</RequestID></Response>",
                escape(message),
                escape(request_id)
            )
            .into_bytes(),
        ),
        Protocol::RestXml if wire.s3 => {
            headers.push(("x-amz-request-id", request_id.to_owned()));
            headers.push(("x-amz-id-2", request_id.to_owned()));
            let id = escape(request_id);
            (
                "application/xml",
                format!(
                    "{DECLARATION}<Error><Code>{code}</Code><Message>{}</Message><RequestId>{id}</RequestId>\
                     <HostId>{id}</HostId></Error>",
                    escape(message)
                )
                .into_bytes(),
            )
        }
        Protocol::Query | Protocol::RestXml => {
            let namespace = wire
                .service
                .as_ref()
                .and_then(|service| service.xml_namespace.as_deref())
                .or(wire.sign_in.then_some("https://sts.amazonaws.com/doc/2011-06-15/"))
                .map(|uri| format!(" xmlns=\"{}\"", escape(uri)))
                .unwrap_or_default();
            let fault = if status.is_server_error() { "Receiver" } else { "Sender" };
            (
                "text/xml",
                format!(
                    "{DECLARATION}<ErrorResponse{namespace}><Error><Type>{fault}</Type><Code>{code}</Code>\
                     <Message>{}</Message></Error><RequestId>{}</RequestId></ErrorResponse>",
                    escape(message),
                    escape(request_id)
                )
                .into_bytes(),
            )
        }
    };
    Written { body: Bytes::from(body), content_type, headers }
}

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

fn cbor(code: &str, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = minicbor::Encoder::new(&mut out);
    let written = encoder
        .map(2)
        .and_then(|encoder| encoder.str("__type"))
        .and_then(|encoder| encoder.str(&format!("com.amazonaws.durward#{code}")))
        .and_then(|encoder| encoder.str("message"))
        .and_then(|encoder| encoder.str(message));
    // Writing to a Vec cannot fail; an empty map is still an error answer by its status.
    if written.is_err() { vec![0xa0] } else { out }
}

/// Text for XML: markup escaped, characters that XML 1.0 cannot hold replaced.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
