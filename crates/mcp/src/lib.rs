//! The MCP wire, pure over bytes: JSON-RPC messages, revisions and their headers, event streams, answers of a server.
//!
//! Two readers of one message must not see two things: what they could read differently (a name given twice or in another
//! case, a batch, a header that contradicts the body) is refused here, so that what policy decides is what a server does.

mod client_message;
mod error;
mod headers;
mod json;
mod request_params;
mod revision;
mod server_message;
pub mod sse;

pub use client_message::{ClientMessage, ClientNotification, ClientRequest, RequestId};
pub use error::{JsonRpcError, encode_error_response, error_codes};
pub use headers::{SESSION_ID_HEADER, ValidatedHeaders, validate_headers};
pub use revision::ProtocolEra;
pub use server_message::{
    ExpectedResponse, ServerMessage, ServerResponse, parse_server_message as read_answer,
};
