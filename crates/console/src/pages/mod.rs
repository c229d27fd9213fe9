//! The pages. Each is a template over a view; none decides anything.

pub mod ask;
pub mod policies;
pub mod queue;
pub mod sessions;
pub mod signin;

use self::policies::OnDisk;
use crate::{
    IdentityState, Inner, events as event_stream,
    people::Visitor,
    sessions::{Cookie, SignedIn},
    text::Text,
    view::moment,
};
use askama::Template;
use axum::{
    body::Body,
    extract::{Request, State},
};
use durward_approval::{Filter, State as AskState};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;

/// What every page has around it.
pub struct Frame {
    pub style: String,
    pub script: String,
    pub icon: String,
    /// The page's own entry of the menu.
    pub here: &'static str,
    pub person: Option<PersonView>,
}

pub struct PersonView {
    pub name: Text,
    pub id: Text,
    pub csrf: String,
}

impl Frame {
    pub fn new(inner: &Inner, session: Option<&SignedIn>, here: &'static str) -> Self {
        Self {
            style: inner.assets.style.clone(),
            script: inner.assets.script.clone(),
            icon: inner.assets.icon.clone(),
            here,
            person: session.map(|session| PersonView {
                name: Text::new(&session.person.name),
                id: Text::new(&session.person.id),
                csrf: session.csrf.clone(),
            }),
        }
    }
}

pub fn page(status: StatusCode, template: &impl Template) -> Response<Body> {
    let mut response = match template.render() {
        Ok(text) => Response::new(Body::from(text)),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            let mut response = Response::new(Body::from("the page could not be written\n"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        }
    };
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem<'a> {
    frame: Frame,
    title: &'a str,
    text: Text,
}

/// A page that says what is wrong and what to do.
pub fn problem(
    inner: &Inner,
    session: Option<&SignedIn>,
    status: StatusCode,
    title: &str,
    text: &str,
) -> Response<Body> {
    page(status, &Problem { frame: Frame::new(inner, session, ""), title, text: Text::new(text) })
}

/// The page of a part that failed; the log has the rest.
pub fn broken(inner: &Inner, session: Option<&SignedIn>, error: &dyn std::fmt::Display) -> Response<Body> {
    tracing::error!(%error, "the console cannot answer");
    problem(
        inner,
        session,
        StatusCode::INTERNAL_SERVER_ERROR,
        "This cannot be shown now",
        "A part of the gateway failed; its log says which. Nothing was changed. Try again.",
    )
}

pub fn see_other(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, to);
    response
}

pub async fn not_found(State(inner): State<Arc<Inner>>, request: Request) -> Response<Body> {
    if request.uri().path().starts_with("/api/") {
        return crate::api::not_found();
    }
    // The page is the same for everybody but for its head.
    let session = crate::people::signed_in(&inner, request.headers()).await.unwrap_or_default();
    problem(
        &inner,
        session.as_deref(),
        StatusCode::NOT_FOUND,
        "There is no such page",
        "Go back to the approvals.",
    )
}

pub async fn wrong_method(State(inner): State<Arc<Inner>>, request: Request) -> Response<Body> {
    if request.uri().path().starts_with("/api/") {
        return crate::api::wrong_method();
    }
    problem(
        &inner,
        None,
        StatusCode::METHOD_NOT_ALLOWED,
        "This page does not work so",
        "Nothing was changed. Answers are given with the buttons on the page of an ask.",
    )
}

/// `GET /events`: the pages' own stream.
pub async fn events(
    State(inner): State<Arc<Inner>>,
    Visitor(session): Visitor,
    headers: HeaderMap,
) -> Response<Body> {
    let Some(place) = inner.listeners.place(&session.person.id) else {
        let mut response = Response::new(Body::from("too many pages are open: reload by hand\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    };
    let id = Cookie::Session.read(&headers, inner.origin.tls).unwrap_or_default().to_owned();
    let changes = inner.approvals.changes();
    event_stream::stream(changes, place, move || {
        let (inner, id) = (inner.clone(), id.clone());
        async move { matches!(inner.sessions.find(&id, (inner.now)()).await, Ok(Some(_signed_in))) }
    })
}

#[derive(Template)]
#[template(path = "connections.html")]
struct Connections {
    frame: Frame,
    connections: Vec<ConnectionLine>,
}

struct ConnectionLine {
    name: Text,
    kind: &'static str,
    target: Text,
    note: Text,
}

pub async fn connections(State(inner): State<Arc<Inner>>, Visitor(session): Visitor) -> Response<Body> {
    let line = |one: &crate::Connection| ConnectionLine {
        name: Text::new(&one.name),
        kind: one.kind,
        target: Text::new(&one.target),
        note: Text::new(&one.note),
    };
    let connections = inner.settings.connections.iter().map(line).collect();
    page(
        StatusCode::OK,
        &Connections { frame: Frame::new(&inner, Some(&session), "connections"), connections },
    )
}

/// One part of the gateway, and how it is.
#[derive(serde::Serialize)]
pub struct Part {
    pub name: &'static str,
    pub good: bool,
    pub text: Text,
}

/// How the parts are that the console can see.
pub async fn parts(inner: &Arc<Inner>) -> Vec<Part> {
    let pending =
        inner.approvals.list(Filter { states: vec![AskState::Pending], caller: None, limit: 1_000 }).await;
    let approvals = match pending {
        Ok(pending) => {
            Part { name: "approvals", good: true, text: Text::new(format!("{} waiting", pending.len())) }
        }
        Err(error) => {
            tracing::error!(%error, "health: the approvals' store does not answer");
            Part {
                name: "approvals",
                good: false,
                text: Text::new("their store does not answer; the log says why"),
            }
        }
    };
    let journal = match std::fs::metadata(&inner.settings.journal_dir) {
        Ok(dir) if dir.is_dir() => Part { name: "journal", good: true, text: Text::new("readable") },
        _ => Part { name: "journal", good: false, text: Text::new("its directory cannot be read") },
    };
    let mut parts = vec![approvals, policies(inner).await, journal];
    parts.extend(aws_identity(inner).await);
    parts.extend(notifications(inner).await);
    parts
}

/// What is in force, and whether the files would load: a set that does not is not what whoever wrote it thinks.
async fn policies(inner: &Arc<Inner>) -> Part {
    let reading = inner.clone();
    let read = tokio::task::spawn_blocking(move || {
        let set = reading.policies.current();
        let in_force = format!("{} in force, version {}", set.len(), set.version());
        match policies::on_disk(&reading, &set) {
            OnDisk::InForce => (!set.is_empty(), in_force),
            OnDisk::Newer(version) => {
                (!set.is_empty(), format!("{in_force}; the files are version {version}"))
            }
            OnDisk::Broken(why) => (false, format!("{in_force}; the files do not load: {why}")),
        }
    });
    let (good, text) = read.await.unwrap_or_else(|error| {
        tracing::error!(%error, "health: the policy files cannot be compared");
        (false, "their files cannot be compared; the log says why".to_owned())
    });
    Part { name: "policies", good, text: Text::file(&text) }
}

/// Whether the gateway is somebody to AWS, if it has anything to do there.
async fn aws_identity(inner: &Inner) -> Option<Part> {
    let (good, text) = match inner.aws_identity.as_ref()?.state().await {
        IdentityState::Found { source, long_lived: false } => (true, format!("found: {source}")),
        IdentityState::Found { source, long_lived: true } => {
            (true, format!("found: {source}; a long-lived access key, where a role would be better"))
        }
        IdentityState::Missing { since, why } => {
            (false, format!("none since {}, so nothing can be sent to AWS: {why}", moment(since)))
        }
        IdentityState::Looking => (false, "none found yet, so nothing can be sent to AWS".to_owned()),
    };
    Some(Part { name: "AWS identity", good, text: Text::new(text) })
}

/// Whether people are told of asks, if anything is configured that tells them.
async fn notifications(inner: &Inner) -> Option<Part> {
    let name = "notifications";
    let channels = match inner.channels.status().await {
        Ok(channels) => channels,
        Err(error) => {
            tracing::error!(%error, "health: the state of the channels cannot be read");
            return Some(Part {
                name,
                good: false,
                text: Text::new("their state cannot be read; the log says why"),
            });
        }
    };
    let failing: Vec<&str> = channels
        .iter()
        .filter(|channel| channel.failing_since.is_some())
        .map(|channel| channel.name.as_str())
        .collect();
    let text = match (channels.len(), failing.len()) {
        (0, _) => return None,
        (1, 0) => "1 channel".to_owned(),
        (all, 0) => format!("{all} channels"),
        (all, bad) => format!("{bad} of {all} channels failing: {}", failing.join(", ")),
    };
    Some(Part { name, good: failing.is_empty(), text: Text::new(text) })
}

/// A channel by which people are told.
struct ChannelLine {
    name: Text,
    kind: &'static str,
    waiting: u64,
    last_success: Option<Text>,
    /// Since when it fails, and why.
    failing: Option<(Text, Text)>,
}

/// What cannot be read is told by [`parts`].
async fn channels(inner: &Inner) -> Vec<ChannelLine> {
    let line = |channel: durward_notification::ChannelStatus| ChannelLine {
        name: Text::new(channel.name),
        kind: channel.kind,
        waiting: channel.waiting,
        last_success: channel.last_success.map(moment),
        failing: channel
            .failing_since
            .map(|since| (moment(since), Text::new(channel.last_error.unwrap_or_default()))),
    };
    inner.channels.status().await.unwrap_or_default().into_iter().map(line).collect()
}

#[derive(Template)]
#[template(path = "health.html")]
struct Health {
    frame: Frame,
    parts: Vec<Part>,
    channels: Vec<ChannelLine>,
    version: &'static str,
    good: bool,
}

pub async fn health(State(inner): State<Arc<Inner>>, Visitor(session): Visitor) -> Response<Body> {
    let parts = parts(&inner).await;
    let good = parts.iter().all(|part| part.good);
    let channels = channels(&inner).await;
    let version = inner.settings.version;
    let frame = Frame::new(&inner, Some(&session), "health");
    page(StatusCode::OK, &Health { frame, parts, channels, version, good })
}
