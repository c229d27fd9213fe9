//! The MCP wire protocol, as pure functions over bytes: JSON-RPC messages, revisions and their headers, event streams, and
//! messages of a server.
//!
//! Begin with [`ClientMessage::parse`], which reads the body of a request, and [`validate_headers`], which compares its
//! headers with the body. [`parse_server_message`] reads a message of a server, and [`sse`] the event stream that carries
//! it.
//!
//! Promise: two readers of one message never see two things. Whatever they could read differently (a name given twice or in
//! another case, a batch, a header that contradicts the body) is refused here, so that the server does what policy decided.
//! Nothing here opens a connection, reads a clock or logs.

mod client_message;
mod error;
mod headers;
mod json;
mod request_id;
mod request_params;
mod revision;
mod server_message;
pub mod sse;

pub use client_message::{ClientMessage, ClientNotification, ClientRequest};
pub use error::{JsonRpcError, encode_error_response, error_codes};
pub use headers::{SESSION_ID_HEADER, ValidatedHeaders, validate_headers};
pub use request_id::RequestId;
pub use revision::ProtocolEra;
pub use server_message::{
    ExpectedResponse, ServerMessage, ServerMessageError, ServerResponse, parse_server_message,
};
