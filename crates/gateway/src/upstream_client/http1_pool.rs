//! Idle HTTP/1.1 connections. Each serves one request at a time and returns to the pool when its response has been read to the
//! end.

use crate::body::{BoxBody, BoxError};
use bytes::Bytes;
use durward_core::Origin;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

/// Idle connections kept for one origin.
const MAX_IDLE_PER_ORIGIN: usize = 256;

struct IdleConnection {
    sender: SendRequest<BoxBody>,
    idle_since: Instant,
}

#[derive(Clone, Default)]
pub(super) struct Http1Pool(Arc<Mutex<HashMap<Origin, Vec<IdleConnection>>>>);

impl Http1Pool {
    pub async fn take_idle(&self, origin: &Origin) -> Option<SendRequest<BoxBody>> {
        loop {
            // The connection that was used last is the most likely to be open still.
            let idle = durward_core::lock_ignoring_poison(&self.0).get_mut(origin)?.pop()?;
            let mut sender = idle.sender;
            if idle.idle_since.elapsed() < super::IDLE_TIMEOUT
                && !sender.is_closed()
                && sender.ready().await.is_ok()
            {
                return Some(sender);
            }
        }
    }
}

/// Returns the connection to the pool when the response has been read to its end. If the response is dropped before, the
/// connection is closed: the next request would read the rest of it.
pub(super) struct ConnectionLease {
    pub sender: Option<SendRequest<BoxBody>>,
    pub pool: Http1Pool,
    pub origin: Origin,
}

impl ConnectionLease {
    pub fn return_to_pool(&mut self) {
        if let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed()) {
            let mut pool = durward_core::lock_ignoring_poison(&self.pool.0);
            let idle = pool.entry(self.origin.clone()).or_default();
            if idle.len() < MAX_IDLE_PER_ORIGIN {
                idle.push(IdleConnection { sender, idle_since: Instant::now() });
            }
        }
    }
}

pub(super) struct LeasedBody {
    pub body: Incoming,
    pub lease: ConnectionLease,
}

impl http_body::Body for LeasedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // A reader of a body with a known length does not poll again after its last frame.
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.lease.return_to_pool();
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.lease.sender.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
