//! How requests leave this room. The gateway gives the transport, with its address checks, limits and TLS; this room
//! adds only how long it waits.

use bytes::Bytes;
use http::{Request, Response};
use std::pin::Pin;
use std::time::Duration;

/// Sends one request to the absolute URI it names and reads the whole answer. An implementation follows no redirect
/// (a redirect would carry a credential elsewhere) and puts neither headers nor bodies into its error text.
pub trait HttpClient: Send + Sync {
    fn send<'a>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send + 'a>>;
}

/// [`Transport::send`], given up after `limit`.
pub(crate) async fn send_with_timeout(
    transport: &dyn HttpClient,
    request: Request<Bytes>,
    limit: Duration,
) -> Result<Response<Bytes>, String> {
    tokio::time::timeout(limit, transport.send(request))
        .await
        .unwrap_or_else(|_elapsed| Err(format!("no answer within {} s", limit.as_secs())))
}
