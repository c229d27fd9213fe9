//! Error bodies and their headers in each protocol (Smithy, "AWS JSON 1.0 protocol" and its siblings, "Operation error
//! serialization").

use super::ErrorEncoding;
use crate::xml::escape_xml;
use bytes::Bytes;
use durward_catalog::AwsProtocol;
use http::StatusCode;
use serde_json::json;

pub(super) struct EncodedError {
    pub body: Bytes,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
}

/// Encodes a code and a message, escaped for the protocol.
pub(super) fn encode_error(
    encoding: &ErrorEncoding,
    code: &str,
    message: &str,
    request_id: &str,
    status: StatusCode,
) -> EncodedError {
    let mut headers = vec![("x-amzn-requestid", request_id.to_owned())];
    let (content_type, body) = match encoding.effective_protocol() {
        protocol @ (AwsProtocol::Json10 | AwsProtocol::Json11) => {
            headers.extend(query_error_header(encoding, code, status));
            // Services write `message` or `Message`, and SDKs read one or both. SDKs drop the namespace before the `#` (Smithy,
            // "AWS JSON 1.0 protocol").
            let body = json!({"__type": format!("com.amazon.coral.service#{code}"), "message": message, "Message": message});
            let one = protocol == AwsProtocol::Json10;
            (if one { "application/x-amz-json-1.0" } else { "application/x-amz-json-1.1" }, body.to_string().into_bytes())
        }
        AwsProtocol::RestJson => {
            headers.push(("x-amzn-errortype", code.to_owned()));
            ("application/json", json!({"message": message, "Message": message}).to_string().into_bytes())
        }
        AwsProtocol::RpcV2Cbor => {
            headers.push(("smithy-protocol", "rpc-v2-cbor".to_owned()));
            headers.extend(query_error_header(encoding, code, status));
            ("application/cbor", encode_cbor_error(code, message))
        }
        AwsProtocol::Ec2 => (
            "text/xml",
            format!(
                "{XML_DECLARATION}<Response><Errors><Error><Code>{code}</Code><Message>{}</Message></Error></Errors>\
                 <RequestID>{}</RequestID></Response>",
                escape_xml(message),
                escape_xml(request_id)
            )
            .into_bytes(),
        ),
        AwsProtocol::RestXml if encoding.is_s3 => {
            // S3 has two ids for one request. Both name the exchange, so that whichever an SDK logs leads to the record.
            headers.push(("x-amz-request-id", request_id.to_owned()));
            headers.push(("x-amz-id-2", request_id.to_owned()));
            let id = escape_xml(request_id);
            (
                "application/xml",
                format!(
                    "{XML_DECLARATION}<Error><Code>{code}</Code><Message>{}</Message><RequestId>{id}</RequestId>\
                     <HostId>{id}</HostId></Error>",
                    escape_xml(message)
                )
                .into_bytes(),
            )
        }
        AwsProtocol::Query | AwsProtocol::RestXml => {
            let namespace = encoding
                .service
                .as_ref()
                .and_then(|service| service.xml_namespace.as_deref())
                .or(encoding.is_sts_sign_in.then_some("https://sts.amazonaws.com/doc/2011-06-15/"))
                .map(|uri| format!(" xmlns=\"{}\"", escape_xml(uri)))
                .unwrap_or_default();
            let fault = fault(status);
            (
                "text/xml",
                format!(
                    "{XML_DECLARATION}<ErrorResponse{namespace}><Error><Type>{fault}</Type><Code>{code}</Code>\
                     <Message>{}</Message></Error><RequestId>{}</RequestId></ErrorResponse>",
                    escape_xml(message),
                    escape_xml(request_id)
                )
                .into_bytes(),
            )
        }
    };
    EncodedError { body: Bytes::from(body), content_type, headers }
}

/// The party that an error blames, in the words of the query protocol.
fn fault(status: StatusCode) -> &'static str {
    if status.is_server_error() { "Receiver" } else { "Sender" }
}

/// Services that once used the query protocol tell SDKs the old code in a header (Smithy, "awsQueryCompatible trait"), because
/// callers match on it.
fn query_error_header(
    encoding: &ErrorEncoding,
    code: &str,
    status: StatusCode,
) -> Option<(&'static str, String)> {
    let is_query_compatible = encoding.service.as_ref().is_some_and(|service| service.is_query_compatible);
    let short = code.strip_suffix("Exception").unwrap_or(code);
    is_query_compatible.then(|| ("x-amzn-query-error", format!("{short};{}", fault(status))))
}

const XML_DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

fn encode_cbor_error(code: &str, message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = minicbor::Encoder::new(&mut out);
    let written = encoder
        .map(2)
        .and_then(|encoder| encoder.str("__type"))
        // SDKs drop the namespace (Smithy, "Smithy RPC v2 CBOR protocol").
        .and_then(|encoder| encoder.str(&format!("com.amazonaws.durward#{code}")))
        .and_then(|encoder| encoder.str("message"))
        .and_then(|encoder| encoder.str(message));
    // Writing to a Vec cannot fail; with an empty map the response would still be an error by its status.
    if written.is_err() { vec![0xa0] } else { out }
}
