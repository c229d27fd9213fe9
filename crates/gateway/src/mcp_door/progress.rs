//! Signs of life to a client that wants to hear of progress while people are asked: its answer begins as an event stream, with a
//! notification now and then, and ends with what the line made of the request.
//!
//! The line walks on inside the stream, unchanged: the intent is durable before anything is sent, what is refused from here on is
//! an event with a JSON-RPC error, and a client that leaves takes the request along. A request that is decided quickly is
//! answered as ever.

use crate::body::{Body, BoxError};
use bytes::{Bytes, BytesMut};
use durward_mcp::sse;
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// How long a held request may still be answered as ever.
const GRACE: Duration = Duration::from_secs(1);
/// How often the client hears that it waits (idle time-outs of clients are 60 s and more).
const EVERY: Duration = Duration::from_secs(15);
/// Progress must grow, also when a server counts from 1 on after us.
const STEP: f64 = 1e-6;

/// That a request waits for people, and how its client is told.
#[derive(Debug, Clone)]
pub(super) struct Note {
    /// The client's name for what it hears.
    pub token: Value,
    pub message: String,
}

/// Where the line leaves that note.
#[derive(Debug, Clone)]
pub(super) struct Waiting(watch::Sender<Option<Note>>);

impl Waiting {
    pub fn new() -> (Self, watch::Receiver<Option<Note>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    pub fn note(&self, note: Note) {
        self.0.send_replace(Some(note));
    }

    /// It waits no longer: what may still take time is the server's.
    pub fn over(&self) {
        self.0.send_replace(None);
    }
}

type Walking = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// The answer that `walking` comes to; an event stream if it waits for people for more than a moment.
pub(super) async fn answer(walking: Walking, notes: watch::Receiver<Option<Note>>) -> Response<Body> {
    answer_after(GRACE, EVERY, walking, notes).await
}

async fn answer_after(
    grace: Duration,
    every: Duration,
    mut walking: Walking,
    mut notes: watch::Receiver<Option<Note>>,
) -> Response<Body> {
    let held = async {
        loop {
            if notes.wait_for(Option::is_some).await.is_err() {
                return std::future::pending().await;
            }
            tokio::time::sleep(grace).await;
            if notes.borrow().is_some() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        response = &mut walking => return response,
        () = held => {}
    }
    let mut ticks = interval_at(Instant::now(), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = Held { notes, told: 0, ticks, state: State::Walking(walking) };
    let mut response = Response::new(stream.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

enum State {
    Walking(Walking),
    /// The answer is one message: its bytes so far.
    Reading(Body, BytesMut),
    /// The answer is an event stream itself.
    Passing(Body),
    Done,
}

struct Held {
    notes: watch::Receiver<Option<Note>>,
    told: u32,
    ticks: Interval,
    state: State,
}

impl Held {
    fn sign(&mut self) -> Bytes {
        let Some(Note { token, message }) = &*self.notes.borrow() else {
            return Bytes::from_static(sse::SILENCE);
        };
        self.told = self.told.saturating_add(1);
        let progress = f64::from(self.told) * STEP;
        let params = json!({ "progressToken": token, "progress": progress, "message": message });
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
        sse::frame(message.to_string().as_bytes())
    }
}

fn is_stream(response: &Response<Body>) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Walking(walking) => {
                    if let Poll::Ready(response) = walking.as_mut().poll(context) {
                        let stream = is_stream(&response);
                        let body = response.into_body();
                        this.state =
                            if stream { State::Passing(body) } else { State::Reading(body, BytesMut::new()) };
                        continue;
                    }
                    ready!(this.ticks.poll_tick(context));
                    return Poll::Ready(Some(Ok(Frame::data(this.sign()))));
                }
                State::Reading(body, bytes) => match ready!(Pin::new(body).poll_frame(context)) {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            bytes.extend_from_slice(&data);
                        }
                    }
                    Some(Err(error)) => {
                        this.state = State::Done;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        let frame = sse::frame(bytes);
                        this.state = State::Done;
                        return Poll::Ready(Some(Ok(Frame::data(frame))));
                    }
                },
                State::Passing(body) => return Pin::new(body).poll_frame(context),
                State::Done => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::full;
    use tokio::sync::oneshot;

    fn note(token: &str) -> Note {
        Note { token: json!(token), message: "waiting for approval: ask 1".to_owned() }
    }

    fn messages(stream: &[u8]) -> Vec<Value> {
        let mut reader = sse::Reader::new(10_000);
        reader.push(stream);
        let mut found = Vec::new();
        while let Some(event) = reader.event().unwrap() {
            if let sse::Event::Message(text) = event {
                found.push(serde_json::from_slice(&text).unwrap());
            }
        }
        found
    }

    fn json_answer(text: &'static str) -> Response<Body> {
        let mut response = Response::new(full(text));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    const SOON: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn what_does_not_wait_or_not_for_long_is_answered_as_ever() {
        for (waits, grace) in [(false, Duration::ZERO), (true, NEVER)] {
            let (waiting, notes) = Waiting::new();
            let walking = Box::pin(async move {
                if waits {
                    waiting.note(note("t"));
                }
                tokio::task::yield_now().await;
                json_answer("{\"id\":1}")
            });
            let response = answer_after(grace, SOON, walking, notes).await;
            assert!(!is_stream(&response));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"id\":1}");
        }
    }

    /// The body of an answer that waits for people until `over`, and comes when the returned end is used.
    async fn held(last: Response<Body>) -> (Body, Waiting, oneshot::Sender<()>) {
        let (waiting, notes) = Waiting::new();
        let (end, ended) = oneshot::channel();
        let own = waiting.clone();
        let walking = Box::pin(async move {
            own.note(note("t"));
            ended.await.unwrap();
            last
        });
        let response = answer_after(SOON, SOON, walking, notes).await;
        assert!(is_stream(&response));
        (response.into_body(), waiting, end)
    }

    async fn sign(body: &mut Body) -> Value {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        messages(&frame).pop().unwrap()
    }

    #[tokio::test]
    async fn who_waits_hears_of_it_and_then_gets_the_one_answer() {
        let (mut body, waiting, end) = held(json_answer("{\"id\":1,\n\"result\":{}}")).await;
        let mut before = 0.0;
        for _ in 0..3 {
            let sign = sign(&mut body).await;
            assert_eq!(sign["method"], "notifications/progress");
            assert_eq!(sign["params"]["progressToken"], "t");
            assert_eq!(sign["params"]["message"], "waiting for approval: ask 1");
            let progress = sign["params"]["progress"].as_f64().unwrap();
            assert!(before < progress && progress < 1.0);
            before = progress;
        }
        waiting.over();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, sse::SILENCE, "it does not wait for approval any more");
        end.send(()).unwrap();
        let heard = messages(&body.collect().await.unwrap().to_bytes());
        let answers: Vec<&Value> = heard.iter().filter(|message| message["method"].is_null()).collect();
        assert_eq!(answers, [&json!({ "id": 1, "result": {} })]);
    }

    #[tokio::test]
    async fn the_events_of_a_server_follow_ours() {
        let mut last = Response::new(full("event: message\ndata: {\"n\":1}\n\ndata: {\"id\":1}\n\n"));
        last.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let (mut body, _waiting, end) = held(last).await;
        sign(&mut body).await;
        end.send(()).unwrap();
        let heard = messages(&body.collect().await.unwrap().to_bytes());
        assert!(heard.ends_with(&[json!({ "n": 1 }), json!({ "id": 1 })]), "{heard:?}");
    }

    #[tokio::test]
    async fn a_client_that_leaves_takes_its_request_along() {
        let (mut body, _waiting, mut end) = held(json_answer("{}")).await;
        sign(&mut body).await;
        assert!(!end.is_closed());
        drop(body);
        end.closed().await;
    }
}
