//! Server-sent events that name the approval request that changed. They contain the id and nothing else; a listener that may
//! see the request fetches it.
//!
//! The number of streams is limited, in total and for one person. A stream ends when its `is_admitted` says so: a page's
//! with the login, an API stream after an hour.

use axum::body::Body;
use bytes::Bytes;
use durward_approval::ApprovalRequestId;
use durward_core::lock_ignoring_poison;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Interval, MissedTickBehavior, interval},
};

/// Reverse proxies close a connection that is silent for about a minute (nginx: `proxy_read_timeout`, 60 s by default).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Most open streams, of pages and programs together.
const MAX_SUBSCRIBERS: usize = 512;
/// Most open streams of one person: a few browser tabs and programs. One person cannot use up the streams of the others.
const MAX_SUBSCRIBERS_PER_PERSON: usize = 16;

/// The number of open streams of each person.
#[derive(Debug, Default)]
pub struct EventSubscribers(Mutex<HashMap<String, usize>>);

impl EventSubscribers {
    /// Counts one more stream. `None`: a limit is reached.
    pub fn subscribe(self: &Arc<Self>, person_id: &str) -> Option<EventSubscription> {
        let mut counts = lock_ignoring_poison(&self.0);
        let own_count = counts.get(person_id).copied().unwrap_or_default();
        if own_count >= MAX_SUBSCRIBERS_PER_PERSON || counts.values().sum::<usize>() >= MAX_SUBSCRIBERS {
            return None;
        }
        counts.insert(person_id.to_owned(), own_count + 1);
        Some(EventSubscription { subscribers: self.clone(), person_id: person_id.to_owned() })
    }
}

/// One counted stream. Dropping it ends the count.
pub struct EventSubscription {
    subscribers: Arc<EventSubscribers>,
    person_id: String,
}

impl Drop for EventSubscription {
    fn drop(&mut self) {
        let mut counts = lock_ignoring_poison(&self.subscribers.0);
        if let Some(own_count) = counts.get_mut(&self.person_id) {
            *own_count -= 1;
            if *own_count == 0 {
                counts.remove(&self.person_id);
            }
        }
    }
}

struct EventStreamState<F> {
    changes: Receiver<ApprovalRequestId>,
    keep_alive: Interval,
    is_admitted: F,
    _subscription: EventSubscription,
}

/// A stream of `approval_request` events. It ends when `is_admitted` returns false, which is called before each event.
pub fn stream_events<A: Future<Output = bool> + Send>(
    changes: Receiver<ApprovalRequestId>,
    subscription: EventSubscription,
    is_admitted: impl Fn() -> A + Send + 'static,
) -> Response<Body> {
    let mut keep_alive = interval(KEEP_ALIVE_INTERVAL);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let state = EventStreamState { changes, keep_alive, is_admitted, _subscription: subscription };
    let events = stream::unfold(state, |mut state| async move {
        let text = next_event_text(&mut state).await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(text)), state))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx buffers responses by default and would hold events back (ngx_http_proxy_module, X-Accel-Buffering).
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn next_event_text<A: Future<Output = bool>, F: Fn() -> A>(
    state: &mut EventStreamState<F>,
) -> Option<String> {
    let text = tokio::select! {
        changed = state.changes.recv() => match changed {
            Ok(id) => format!("event: approval_request\ndata: {{\"id\":\"{id}\"}}\n\n"),
            // Events were lost, so the listener has to fetch everything again.
            Err(RecvError::Lagged(_lost)) => "event: approval_request\ndata: {}\n\n".to_owned(),
            Err(RecvError::Closed) => return None,
        },
        // Browsers ignore a line that begins with a colon (HTML standard, "Server-sent events").
        _tick = state.keep_alive.tick() => ": keep-alive\n\n".to_owned(),
    };
    (state.is_admitted)().await.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_limited_and_closed_streams_are_forgotten() {
        let subscribers = Arc::new(EventSubscribers::default());
        let people = (0..MAX_SUBSCRIBERS).map(|number| format!("corp/p{number}"));
        let subscriptions: Vec<_> = people.map_while(|person| subscribers.subscribe(&person)).collect();
        assert_eq!(subscriptions.len(), MAX_SUBSCRIBERS);
        assert!(subscribers.subscribe("corp/late").is_none());
        drop(subscriptions);
        assert!(lock_ignoring_poison(&subscribers.0).is_empty());
        assert!(subscribers.subscribe("corp/late").is_some());
    }
}
