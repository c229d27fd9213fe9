//! The one body type of requests and responses in the gateway, and how a body is read whole within a limit.

use bytes::{Bytes, BytesMut};
use durward_core::{Refusal, RefusalReason};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type BoxBody = UnsyncBoxBody<Bytes, BoxError>;

pub fn full_body(bytes: impl Into<Bytes>) -> BoxBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a body whole, and refuses one that is longer than `limit` bytes. `what` names it in the refusal.
pub async fn read_limited_body<B>(mut body: B, limit: usize, what: &str) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    // It grows with what arrives. A `Content-Length` that promises more reserves nothing.
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::new(RefusalReason::Malformed, format!("the {what} is truncated")).with_detail(error)
        })?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(Refusal::new(
                    RefusalReason::TooLarge,
                    format!(
                        "the {what} is larger than {limit} bytes, the most that this gateway reads to decode or mask it"
                    ),
                ));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}
