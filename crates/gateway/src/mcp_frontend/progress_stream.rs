//! Progress for a client whose request is held: its response starts as an event stream with progress notifications, and ends with
//! the response of the pipeline. Clients abort a call that stays silent; progress may reset their timeouts
//! (MCP specification, "Timeouts").
//!
//! The pipeline runs on inside the stream, unchanged: the intent is durable before anything is sent, a refusal becomes an event
//! with a JSON-RPC error, and a client that disconnects drops the request. A request that is decided quickly gets a plain
//! response.

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

/// The time for which a request is held before its response becomes an event stream. A stream has begun with status 200, so the
/// response that follows can have no other.
const STREAM_START_DELAY: Duration = Duration::from_secs(1);
/// The interval at which the client gets a notification. Idle timeouts of clients are 60 s and more.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);
/// Progress must increase with each notification (MCP specification, "Progress"), even if the server counts from 1 after us.
const PROGRESS_STEP: f64 = 1e-6;

/// Tells the client that its request waits for approval.
#[derive(Debug, Clone)]
pub(super) struct HoldNotice {
    /// The token by which the client recognises notifications for this request.
    pub progress_token: Value,
    pub message: String,
}

/// The pipeline's end of the notice.
#[derive(Debug, Clone)]
pub(super) struct HoldNotifier(watch::Sender<Option<HoldNotice>>);

impl HoldNotifier {
    pub fn new() -> (Self, watch::Receiver<Option<HoldNotice>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    pub fn notify(&self, notice: HoldNotice) {
        self.0.send_replace(Some(notice));
    }

    /// The wait for approval is over; the server may still take time.
    pub fn clear_notice(&self) {
        self.0.send_replace(None);
    }
}

type PipelineFuture = Pin<Box<dyn Future<Output = Response<BoxBody>> + Send>>;

/// The response of `pipeline`, or an event stream if it waits for approval for longer than [`STREAM_START_DELAY`].
pub(super) async fn respond_with_progress(
    pipeline: PipelineFuture,
    notices: watch::Receiver<Option<HoldNotice>>,
) -> Response<BoxBody> {
    respond_after_delay(STREAM_START_DELAY, PROGRESS_INTERVAL, pipeline, notices).await
}

async fn respond_after_delay(
    start_delay: Duration,
    progress_interval: Duration,
    mut pipeline: PipelineFuture,
    mut notices: watch::Receiver<Option<HoldNotice>>,
) -> Response<BoxBody> {
    let long_hold = async {
        loop {
            if notices.wait_for(Option::is_some).await.is_err() {
                return std::future::pending().await;
            }
            tokio::time::sleep(start_delay).await;
            if notices.borrow().is_some() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        response = &mut pipeline => return response,
        () = long_hold => {}
    }
    // The first tick is immediate: the client learns at once what it waits for.
    let mut ticks = interval_at(Instant::now(), progress_interval);
    // After a pause the client needs one notification, not all that were missed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = ProgressStream {
        notices,
        notification_count: 0,
        progress_ticks: ticks,
        state: ProgressState::RunningPipeline(pipeline),
    };
    let mut response = Response::new(stream.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would buffer the stream otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

enum ProgressState {
    RunningPipeline(PipelineFuture),
    /// The response is one message: its bytes so far.
    BufferingMessage(BoxBody, BytesMut),
    /// The response is an event stream itself.
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
    response.headers().get(header::CONTENT_TYPE).is_some_and(|media_type| media_type == "text/event-stream")
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
                ProgressState::RunningPipeline(pipeline) => {
                    if let Poll::Ready(response) = pipeline.as_mut().poll(context) {
                        let is_stream = is_event_stream(&response);
                        let body = response.into_body();
                        this.state = if is_stream {
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
        HoldNotice {
            progress_token: json!(token),
            message: "waiting for approval: approval request 1".to_owned(),
        }
    }

    fn parse_messages(stream: &[u8]) -> Vec<Value> {
        let mut decoder = sse::SseDecoder::new(10_000);
        decoder.push(stream);
        let mut messages = Vec::new();
        while let Some(event) = decoder.next_event().unwrap() {
            if let sse::SseEvent::Message(text) = event {
                messages.push(serde_json::from_slice(&text).unwrap());
            }
        }
        messages
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
        for (is_held, start_delay) in [(false, Duration::ZERO), (true, LONG_DELAY)] {
            let (notifier, notices) = HoldNotifier::new();
            let pipeline = Box::pin(async move {
                if is_held {
                    notifier.notify(hold_notice("t"));
                }
                tokio::task::yield_now().await;
                json_response("{\"id\":1}")
            });
            let response = respond_after_delay(start_delay, SHORT_DELAY, pipeline, notices).await;
            assert!(!is_event_stream(&response));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "{\"id\":1}");
        }
    }

    /// The body of a response that is held until the returned sender is used, and then is `last`.
    async fn start_held_stream(last: Response<BoxBody>) -> (BoxBody, HoldNotifier, oneshot::Sender<()>) {
        let (notifier, notices) = HoldNotifier::new();
        let (release, released) = oneshot::channel();
        let pipeline_notifier = notifier.clone();
        let pipeline = Box::pin(async move {
            pipeline_notifier.notify(hold_notice("t"));
            released.await.unwrap();
            last
        });
        let response = respond_after_delay(SHORT_DELAY, SHORT_DELAY, pipeline, notices).await;
        assert!(is_event_stream(&response));
        (response.into_body(), notifier, release)
    }

    async fn next_message(body: &mut BoxBody) -> Value {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        parse_messages(&frame).pop().unwrap()
    }

    #[tokio::test]
    async fn a_held_client_gets_progress_and_then_the_single_response() {
        let (mut body, notifier, release) =
            start_held_stream(json_response("{\"id\":1,\n\"result\":{}}")).await;
        let mut previous = 0.0;
        for _ in 0..3 {
            let message = next_message(&mut body).await;
            assert_eq!(message["method"], "notifications/progress");
            assert_eq!(message["params"]["progressToken"], "t");
            assert_eq!(message["params"]["message"], "waiting for approval: approval request 1");
            let progress = message["params"]["progress"].as_f64().unwrap();
            assert!(previous < progress && progress < 1.0);
            previous = progress;
        }
        notifier.clear_notice();
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, sse::KEEP_ALIVE_COMMENT, "the notice was cleared");
        release.send(()).unwrap();
        let messages = parse_messages(&body.collect().await.unwrap().to_bytes());
        let responses: Vec<&Value> = messages.iter().filter(|message| message["method"].is_null()).collect();
        assert_eq!(responses, [&json!({ "id": 1, "result": {} })]);
    }

    #[tokio::test]
    async fn server_events_follow_progress_events() {
        let mut last = Response::new(full_body("event: message\ndata: {\"n\":1}\n\ndata: {\"id\":1}\n\n"));
        last.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        let (mut body, _notifier, release) = start_held_stream(last).await;
        next_message(&mut body).await;
        release.send(()).unwrap();
        let messages = parse_messages(&body.collect().await.unwrap().to_bytes());
        assert!(messages.ends_with(&[json!({ "n": 1 }), json!({ "id": 1 })]), "{messages:?}");
    }

    #[tokio::test]
    async fn a_client_that_disconnects_drops_its_request() {
        let (mut body, _notifier, mut release) = start_held_stream(json_response("{}")).await;
        next_message(&mut body).await;
        assert!(!release.is_closed());
        drop(body);
        release.closed().await;
    }
}
