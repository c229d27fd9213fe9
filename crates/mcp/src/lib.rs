//! The MCP wire, pure over bytes: JSON-RPC messages, revisions and their headers, event streams, answers of a server.
//!
//! Two readers of one message must not see two things: what they could read differently (a name given twice or in another
//! case, a batch, a header that contradicts the body) is refused here, so that what policy decides is what a server does.

mod answer;
mod client;
mod error;
mod headers;
mod json;
mod message;
mod revision;
pub mod sse;

pub use answer::{Expected, Incoming, Response, read as read_answer};
pub use error::{Error, code, error_body};
pub use headers::{Names, SESSION, classify};
pub use message::{Id, Message, Notification, Request};
pub use revision::Era;
