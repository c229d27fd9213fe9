//! Signs of life to a client that wants to hear of progress while people are asked: its answer begins as an event stream, with a
//! notification now and then, and ends with what the line made of the request.
//!
//! The line walks on inside the stream, unchanged: the intent is durable before anything is sent, what is refused from here on is
//! an event with a JSON-RPC error, and a client that leaves takes the request along. A request that is decided quickly is
//! answered as ever.

use crate::body::{BoxBody, BoxError};
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
const STREAM_START_DELAY: Duration = Duration::from_secs(1);
/// How often the client hears that it waits (idle time-outs of clients are 60 s and more).
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);
/// Progress must grow, also when a server counts from 1 on after us.
const PROGRESS_STEP: f64 = 1e-6;

/// That a request waits for people, and how its client is told.
#[derive(Debug, Clone)]
pub(super) struct HoldNotice {
    /// The client's name for what it hears.
    pub progress_token: Value,
    pub message: String,
}

/// Where the line leaves that note.
#[derive(Debug, Clone)]
pub(super) struct HoldNotifier(watch::Sender<Option<HoldNotice>>);

impl HoldNotifier {
    pub fn new() -> (Self, watch::Receiver<Option<HoldNotice>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    pub fn notify(&self, note: HoldNotice) {
        self.0.send_replace(Some(note));
    }

    /// It waits no longer: what may still take time is the server's.
    pub fn clear_notice(&self) {
        self.0.send_replace(None);
    }
}

type PipelineFuture = Pin<Box<dyn Future<Output = Response<BoxBody>> + Send>>;

/// The answer that `walking` comes to; an event stream if it waits for people for more than a moment.
pub(super) async fn respond_with_progress(
    walking: PipelineFuture,
    notes: watch::Receiver<Option<HoldNotice>>,
) -> Response<BoxBody> {
    respond_after_delay(STREAM_START_DELAY, PROGRESS_INTERVAL, walking, notes).await
}

async fn respond_after_delay(
    grace: Duration,
    every: Duration,
    mut walking: PipelineFuture,
    mut notes: watch::Receiver<Option<HoldNotice>>,
) -> Response<BoxBody> {
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
    let stream = ProgressStream {
        notices: notes,
        notification_count: 0,
        progress_ticks: ticks,
        state: ProgressState::RunningPipeline(walking),
    };
    let mut response = Response::new(stream.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

enum ProgressState {
    RunningPipeline(PipelineFuture),
    /// The answer is one message: its bytes so far.
    BufferingMessage(BoxBody, BytesMut),
    /// The answer is an event stream itself.
    ForwardingStream(BoxBody),
    Done,
}

struct ProgressStream {
    notices: watch::Receiver<Option<HoldNotice>>,
    notification_count: u32,
    progress_ticks: Interval,
    state: ProgressState,
}

impl ProgressStream {
    fn next_notification(&mut self) -> Bytes {
        let Some(HoldNotice { progress_token: token, message }) = &*self.notices.borrow() else {
            return Bytes::from_static(sse::KEEP_ALIVE_COMMENT);
        };
        self.notification_count = self.notification_count.saturating_add(1);
        let progress = f64::from(self.notification_count) * PROGRESS_STEP;
        let params = json!({ "progressToken": token, "progress": progress, "message": message });
        let message = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
        sse::encode_event(message.to_string().as_bytes())
    }
}

fn is_event_stream(response: &Response<BoxBody>) -> bool {
    response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream")
}

impl http_body::Body for ProgressStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                ProgressState::RunningPipeline(walking) => {
                    if let Poll::Ready(response) = walking.as_mut().poll(context) {
                        let stream = is_event_stream(&response);
                        let body = response.into_body();
                        this.state = if stream {
                            ProgressState::ForwardingStream(body)
                        } else {
                            ProgressState::BufferingMessage(body, BytesMut::new())
                        };
                        continue;
                    }
                    ready!(this.progress_ticks.poll_tick(context));
                    return Poll::Ready(Some(Ok(Frame::data(this.next_notification()))));
                }
                ProgressState::BufferingMessage(body, bytes) => {
                    match ready!(Pin::new(body).poll_frame(context)) {
                        Some(Ok(frame)) => {
                            if let Ok(data) = frame.into_data() {
                                bytes.extend_from_slice(&data);
                            }
                        }
                        Some(Err(error)) => {
                            this.state = ProgressState::Done;
                            return Poll::Ready(Some(Err(error)));
                        }
                        None => {
                            let frame = sse::encode_event(bytes);
                            this.state = ProgressState::Done;
                            return Poll::Ready(Some(Ok(Frame::data(frame))));
                        }
                    }
                }
                ProgressState::ForwardingStream(body) => return Pin::new(body).poll_frame(context),
                ProgressState::Done => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::full_body;
    use tokio::sync::oneshot;

    fn hold_notice(token: &str) -> HoldNotice {
        HoldNotice { progress_token: json!(token), message: "waiting for approval: ask 1".to_owned() }
    }

    fn parse_messages(stream: &[u8]) -> Vec<Value> {
        let mut reader = sse::SseDecoder::new(10_000);
        reader.push(stream);
        let mut found = Vec::new();
        while let Some(event) = reader.next_event().unwrap() {
            if let sse::SseEvent::Message(text) = event {
                found.push(serde_json::from_slice(&text).unwrap());
            }
        }
        found
    }

    fn json_response(text: &'static str) -> Response<BoxBody> {
        let mut response = Response::new(full_body(text));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    const SHORT_DELAY: Duration = Duration::from_millis(1);
    const LONG_DELAY: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn requests_held_briefly_or_not_at_all_get_a_plain_response() {
        for (waits, grace) in [(false, Duration::ZERO), (true, LONG_DELAY)] {
            let (waiting, notes) = HoldNotifier::new();
            let walking = Box::pin(async move {
                if waits {
                    waiting.notify(hold_notice("t"));
                }
                tokio::task::yield_now().await;
                json_response("{\"id\":1}")
            });
            let response = respond_after_delay(grace, SHORT_DELAY, walking, notes).await;
            assert!(!is_event_stream(&response));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"id\":1}");
        }
    }

    /// The body of an answer that waits for people until `over`, and comes when the returned end is used.
    async fn start_held_stream(last: Response<BoxBody>) -> (BoxBody, HoldNotifier, oneshot::Sender<()>) {
        let (waiting, notes) = HoldNotifier::new();
        let (end, ended) = oneshot::channel();
        let own = waiting.clone();
        let walking = Box::pin(async move {
            own.notify(hold_notice("t"));
            ended.await.unwrap();
            last
        });
        let response = respond_after_delay(SHORT_DELAY, SHORT_DELAY, walking, notes).await;
        assert!(is_event_stream(&response));
        (response.into_body(), waiting, end)
    }

    async fn next_message(body: &mut BoxBody) -> Value {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        parse_messages(&frame).pop().unwrap()
    }

    #[tokio::test]
    async fn a_held_client_gets_progress_and_then_the_single_response() {
        let (mut body, waiting, end) = start_held_stream(json_response("{\"id\":1,\n\"result\":{}}")).await;
        let mut before = 0.0;
        for _ in 0..3 {
            let sign = next_message(&mut body).await;
            assert_eq!(sign["method"], "notifications/progress");
            assert_eq!(sign["params"]["progressToken"], "t");
            assert_eq!(sign["params"]["message"], "waiting for approval: ask 1");
            let progress = sign["params"]["progress"].as_f64().unwrap();
            assert!(before < progress && progress < 1.0);
            before = progress;
        }
        waiting.clear_notice();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, sse::KEEP_ALIVE_COMMENT, "it does not wait for approval any more");
        end.send(()).unwrap();
        let heard = parse_messages(&body.collect().await.unwrap().to_bytes());
        let answers: Vec<&Value> = heard.iter().filter(|message| message["method"].is_null()).collect();
        assert_eq!(answers, [&json!({ "id": 1, "result": {} })]);
    }

    #[tokio::test]
    async fn server_events_follow_progress_events() {
        let mut last = Response::new(full_body("event: message\ndata: {\"n\":1}\n\ndata: {\"id\":1}\n\n"));
        last.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let (mut body, _waiting, end) = start_held_stream(last).await;
        next_message(&mut body).await;
        end.send(()).unwrap();
        let heard = parse_messages(&body.collect().await.unwrap().to_bytes());
        assert!(heard.ends_with(&[json!({ "n": 1 }), json!({ "id": 1 })]), "{heard:?}");
    }

    #[tokio::test]
    async fn a_client_that_disconnects_drops_its_request() {
        let (mut body, _waiting, mut end) = start_held_stream(json_response("{}")).await;
        next_message(&mut body).await;
        assert!(!end.is_closed());
        drop(body);
        end.closed().await;
    }
}
