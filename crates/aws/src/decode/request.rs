//! The input of the decoder, and the parameters that a protocol's reader returns.

use super::json_pointer::json_pointer;
use serde_json::{Map, Value};

/// A request head as received.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    pub method: &'a http::Method,
    /// As sent, percent-encoded.
    pub path: &'a str,
    /// As sent, without the question mark.
    pub query: &'a str,
    pub headers: &'a http::HeaderMap,
    /// The bucket of a virtual-hosted-style request, or the ARN of an access point. The listener has taken it off the host.
    pub bucket_host: Option<&'a str>,
}

/// The facts about a request that come from its verified signature and its connection.
#[derive(Debug, Clone, Copy)]
pub struct RequestScope<'a> {
    /// Signing name from the verified credential scope.
    pub service: &'a str,
    pub region: &'a str,
    /// Account of the connection.
    pub account: &'a str,
}

/// The parameters of a request, as a protocol's reader returns them.
#[derive(Debug, Default)]
pub(super) struct DecodedParameters {
    pub parameters: Map<String, Value>,
    /// JSON Pointers to the values that the model marks sensitive.
    pub sensitive: Vec<String>,
    /// JSON Pointers to the values that the model does not know, and `body` for a streamed body.
    pub uninspected: Vec<String>,
    /// The name of an operation that the catalog does not have.
    pub unknown_operation: Option<String>,
}

impl DecodedParameters {
    /// The parameters of an operation that the catalog does not have: all of them may be sensitive, and none was understood.
    pub(super) fn for_unknown_operation(name: String, parameters: Map<String, Value>) -> Self {
        let all: Vec<String> = parameters.keys().map(|key| json_pointer(key)).collect();
        Self { sensitive: all.clone(), uninspected: all, unknown_operation: Some(name), parameters }
    }
}
