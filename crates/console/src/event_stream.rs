//! Server-sent events: which ask has changed. They say no more than that; whoever listens asks for the rest.
//!
//! A stream ends with the sign-in or token that opened it, and there is a bound on how many there are, and on those of one person.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Interval, MissedTickBehavior, interval},
};

/// Between two signs of life: proxies close what is silent for a minute.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Pages and programs that listen at once.
const MAX_SUBSCRIBERS: usize = 512;
/// Those of one person: a page or two in each window, and programs. Others must be able to listen.
const MAX_SUBSCRIBERS_PER_PERSON: usize = 16;

/// Who listens, and how often.
#[derive(Debug, Default)]
pub struct EventSubscribers(Mutex<HashMap<String, usize>>);

impl EventSubscribers {
    /// A place among them; none when all or the person's own are taken.
    pub fn subscribe(self: &Arc<Self>, person: &str) -> Option<EventSubscription> {
        let mut all = self.lock_counts();
        let theirs = all.get(person).copied().unwrap_or_default();
        if theirs >= MAX_SUBSCRIBERS_PER_PERSON || all.values().sum::<usize>() >= MAX_SUBSCRIBERS {
            return None;
        }
        all.insert(person.to_owned(), theirs + 1);
        Some(EventSubscription { subscribers: self.clone(), person: person.to_owned() })
    }

    fn lock_counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, until it is dropped.
pub struct EventSubscription {
    subscribers: Arc<EventSubscribers>,
    person: String,
}

impl Drop for EventSubscription {
    fn drop(&mut self) {
        let mut all = self.subscribers.lock_counts();
        if let Some(theirs) = all.get_mut(&self.person) {
            *theirs -= 1;
            if *theirs == 0 {
                all.remove(&self.person);
            }
        }
    }
}

struct EventStreamState<F> {
    changes: Receiver<durward_approval::ApprovalRequestId>,
    keep_alive: Interval,
    /// Whether the listener may still listen.
    is_admitted: F,
    _subscription: EventSubscription,
}

/// A stream of `ask` events for as long as `admitted` says so.
pub fn stream_events<A: Future<Output = bool> + Send>(
    changes: Receiver<durward_approval::ApprovalRequestId>,
    place: EventSubscription,
    admitted: impl Fn() -> A + Send + 'static,
) -> Response<Body> {
    let mut beat = interval(KEEP_ALIVE_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let listener =
        EventStreamState { changes, keep_alive: beat, is_admitted: admitted, _subscription: place };
    let events = stream::unfold(listener, |mut listener| async move {
        let text = next_event_text(&mut listener).await?;
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

async fn next_event_text<A: Future<Output = bool>, F: Fn() -> A>(
    listener: &mut EventStreamState<F>,
) -> Option<String> {
    let text = tokio::select! {
        changed = listener.changes.recv() => match changed {
            Ok(id) => format!("event: approval_request\ndata: {{\"id\":\"{id}\"}}\n\n"),
            // Some were missed: whoever listens looks at everything again.
            Err(RecvError::Lagged(_missed)) => "event: approval_request\ndata: {}\n\n".to_owned(),
            Err(RecvError::Closed) => return None,
        },
        _beat = listener.keep_alive.tick() => ": keep-alive\n\n".to_owned(),
    };
    (listener.is_admitted)().await.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_are_bounded_and_who_has_gone_is_forgotten() {
        let listeners = Arc::new(EventSubscribers::default());
        let people = (0..MAX_SUBSCRIBERS).map(|number| format!("corp/p{number}"));
        let places: Vec<_> = people.map_while(|person| listeners.subscribe(&person)).collect();
        assert_eq!(places.len(), MAX_SUBSCRIBERS);
        assert!(listeners.subscribe("corp/late").is_none());
        drop(places);
        assert!(listeners.lock_counts().is_empty());
        assert!(listeners.subscribe("corp/late").is_some());
    }
}
