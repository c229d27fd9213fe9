//! Server-sent events: which ask has changed. They say no more than that; whoever listens asks for the rest.
//!
//! A stream ends with the sign-in or token that opened it, and there is a bound on how many there are.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use std::{convert::Infallible, future::Future, time::Duration};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        broadcast::{Receiver, error::RecvError},
    },
    time::{Interval, MissedTickBehavior, interval},
};

/// Between two signs of life: proxies close what is silent for a minute.
const BEAT: Duration = Duration::from_secs(15);

struct Listener<F> {
    changes: Receiver<durward_approval::AskId>,
    beat: Interval,
    /// Whether the listener may still listen.
    admitted: F,
    _place: OwnedSemaphorePermit,
}

/// A stream of `ask` events for as long as `admitted` says so.
pub fn stream<A: Future<Output = bool> + Send>(
    changes: Receiver<durward_approval::AskId>,
    place: OwnedSemaphorePermit,
    admitted: impl Fn() -> A + Send + 'static,
) -> Response<Body> {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener = Listener { changes, beat, admitted, _place: place };
    let events = stream::unfold(listener, |mut listener| async move {
        let text = next(&mut listener).await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(text)), listener))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would otherwise hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn next<A: Future<Output = bool>, F: Fn() -> A>(listener: &mut Listener<F>) -> Option<String> {
    let text = tokio::select! {
        changed = listener.changes.recv() => match changed {
            Ok(id) => format!("event: ask\ndata: {{\"id\":\"{id}\"}}\n\n"),
            // Some were missed: whoever listens looks at everything again.
            Err(RecvError::Lagged(_missed)) => "event: ask\ndata: {}\n\n".to_owned(),
            Err(RecvError::Closed) => return None,
        },
        _beat = listener.beat.tick() => ": still here\n\n".to_owned(),
    };
    (listener.admitted)().await.then_some(text)
}
