//! Idle HTTP/1.1 connections, each used by one request at a time and given back when its answer has been read to the end.

use super::Origin;
use crate::body::{Body, BoxError};
use bytes::Bytes;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

/// Idle connections kept for one origin.
const IDLE_MOST: usize = 256;

struct Idle {
    sender: SendRequest<Body>,
    since: Instant,
}

#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<HashMap<Origin, Vec<Idle>>>>);

impl Pool {
    pub async fn idle(&self, origin: &Origin) -> Option<SendRequest<Body>> {
        loop {
            let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(origin)?.pop()?;
            let mut sender = idle.sender;
            if idle.since.elapsed() < super::IDLE_TIME && !sender.is_closed() && sender.ready().await.is_ok()
            {
                return Some(sender);
            }
        }
    }
}

/// Gives the connection back when the answer has been read to its end; an answer left halfway closes it.
pub(super) struct Lease {
    pub sender: Option<SendRequest<Body>>,
    pub pool: Pool,
    pub origin: Origin,
}

impl Lease {
    pub fn give_back(&mut self) {
        if let Some(sender) = self.sender.take().filter(|sender| !sender.is_closed()) {
            let mut pool = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = pool.entry(self.origin.clone()).or_default();
            if idle.len() < IDLE_MOST {
                idle.push(Idle { sender, since: Instant::now() });
            }
        }
    }
}

pub(super) struct Leased {
    pub body: Incoming,
    pub lease: Lease,
}

impl http_body::Body for Leased {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // Whoever reads a body of known length does not ask again after its last piece.
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.lease.give_back();
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
