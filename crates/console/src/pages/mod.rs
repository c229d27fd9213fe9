//! The pages. Each is a template over a view; none decides anything.

pub mod approval_request;
pub mod approvals;
pub mod policies;
pub mod sessions;
pub mod sign_in;

use self::policies::PolicyFilesStatus;
use crate::{
    AwsIdentityState, ConsoleState,
    approval_request_view::format_utc,
    display_text::DisplayText,
    event_stream,
    logins::{ConsoleCookie, SignedInUser},
    users::BrowserUser,
};
use askama::Template;
use axum::{
    body::Body,
    extract::{Request, State},
};
use durward_approval::{ApprovalRequestFilter, ApprovalState as AskState};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use std::sync::Arc;

/// What every page has around it.
pub struct PageFrame {
    pub style_path: String,
    pub script_path: String,
    pub icon_path: String,
    /// The page's own entry of the menu.
    pub active_menu_item: &'static str,
    pub person: Option<PersonView>,
}

pub struct PersonView {
    pub name: DisplayText,
    pub id: DisplayText,
    pub csrf_token: String,
}

impl PageFrame {
    pub fn new(inner: &ConsoleState, session: Option<&SignedInUser>, here: &'static str) -> Self {
        Self {
            style_path: inner.assets.style_path.clone(),
            script_path: inner.assets.script_path.clone(),
            icon_path: inner.assets.icon_path.clone(),
            active_menu_item: here,
            person: session.map(|session| PersonView {
                name: DisplayText::new(&session.person.name),
                id: DisplayText::new(&session.person.id),
                csrf_token: session.csrf_token.clone(),
            }),
        }
    }
}

pub fn render_page(status: StatusCode, template: &impl Template) -> Response<Body> {
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
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: PageFrame,
    title: &'a str,
    message: DisplayText,
}

/// A page that says what is wrong and what to do.
pub fn error_page(
    inner: &ConsoleState,
    session: Option<&SignedInUser>,
    status: StatusCode,
    title: &str,
    text: &str,
) -> Response<Body> {
    render_page(
        status,
        &ErrorPage { frame: PageFrame::new(inner, session, ""), title, message: DisplayText::new(text) },
    )
}

/// The page of a part that failed; the log has the rest.
pub fn internal_error_page(
    inner: &ConsoleState,
    session: Option<&SignedInUser>,
    error: &dyn std::fmt::Display,
) -> Response<Body> {
    tracing::error!(%error, "the console failed");
    error_page(
        inner,
        session,
        StatusCode::INTERNAL_SERVER_ERROR,
        "This cannot be shown now",
        "A part of the gateway failed; its log says which. Nothing was changed. Try again.",
    )
}

pub fn redirect_see_other(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::from_str(to).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, to);
    response
}

pub async fn not_found_page(State(inner): State<Arc<ConsoleState>>, request: Request) -> Response<Body> {
    if request.uri().path().starts_with("/api/") {
        return crate::api::not_found_response();
    }
    // The page is the same for everybody but for its head.
    let session = crate::users::find_signed_in_user(&inner, request.headers()).await.unwrap_or_default();
    error_page(
        &inner,
        session.as_deref(),
        StatusCode::NOT_FOUND,
        "There is no such page",
        "Go back to the approvals.",
    )
}

pub async fn method_not_allowed_page(
    State(inner): State<Arc<ConsoleState>>,
    request: Request,
) -> Response<Body> {
    if request.uri().path().starts_with("/api/") {
        return crate::api::method_not_allowed_response();
    }
    error_page(
        &inner,
        None,
        StatusCode::METHOD_NOT_ALLOWED,
        "Bad request",
        "Nothing was changed. Vote with the buttons on the page of an approval request.",
    )
}

/// `GET /events`: the pages' own stream.
pub async fn stream_changes(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(session): BrowserUser,
    headers: HeaderMap,
) -> Response<Body> {
    let Some(place) = inner.event_subscribers.subscribe(&session.person.id) else {
        let mut response = Response::new(Body::from("too many pages are open: reload by hand\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return response;
    };
    let id = ConsoleCookie::Session.read_value(&headers, inner.origin.is_tls).unwrap_or_default().to_owned();
    let changes = inner.approvals.subscribe_changes();
    event_stream::stream_events(changes, place, move || {
        let (inner, id) = (inner.clone(), id.clone());
        async move { matches!(inner.logins.find_user(&id, (inner.clock)()).await, Ok(Some(_signed_in))) }
    })
}

#[derive(Template)]
#[template(path = "connections.html")]
struct ConnectionsPage {
    frame: PageFrame,
    connections: Vec<ConnectionView>,
}

struct ConnectionView {
    name: DisplayText,
    kind: &'static str,
    target: DisplayText,
    description: DisplayText,
}

pub async fn show_connections(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(session): BrowserUser,
) -> Response<Body> {
    let line = |one: &crate::ConnectionSummary| ConnectionView {
        name: DisplayText::new(&one.name),
        kind: one.kind,
        target: DisplayText::new(&one.target),
        description: DisplayText::new(&one.description),
    };
    let connections = inner.settings.connections.iter().map(line).collect();
    render_page(
        StatusCode::OK,
        &ConnectionsPage { frame: PageFrame::new(&inner, Some(&session), "connections"), connections },
    )
}

/// One part of the gateway, and how it is.
#[derive(serde::Serialize)]
pub struct HealthCheck {
    pub name: &'static str,
    pub healthy: bool,
    pub detail: DisplayText,
}

/// How the parts are that the console can see.
pub async fn run_health_checks(inner: &Arc<ConsoleState>) -> Vec<HealthCheck> {
    let pending = inner
        .approvals
        .list(ApprovalRequestFilter { states: vec![AskState::Pending], caller: None, limit: 1_000 })
        .await;
    let approvals = match pending {
        Ok(pending) => HealthCheck {
            name: "approvals",
            healthy: true,
            detail: DisplayText::new(format!("{} waiting", pending.len())),
        },
        Err(error) => {
            tracing::error!(%error, "health: the approvals' store does not respond");
            HealthCheck {
                name: "approvals",
                healthy: false,
                detail: DisplayText::new("their store does not respond; the log says why"),
            }
        }
    };
    let journal = match std::fs::metadata(&inner.settings.journal_dir) {
        Ok(dir) if dir.is_dir() => {
            HealthCheck { name: "journal", healthy: true, detail: DisplayText::new("readable") }
        }
        _ => HealthCheck {
            name: "journal",
            healthy: false,
            detail: DisplayText::new("its directory cannot be read"),
        },
    };
    let mut parts = vec![approvals, check_policies(inner).await, journal];
    parts.extend(check_aws_identity(inner).await);
    parts.extend(check_notifications(inner).await);
    parts
}

/// What is in force, and whether the files would load: a set that does not is not what whoever wrote it thinks.
async fn check_policies(inner: &Arc<ConsoleState>) -> HealthCheck {
    let reading = inner.clone();
    let read = tokio::task::spawn_blocking(move || {
        let set = reading.policies.current();
        let in_force = format!("{} in force, version {}", set.len(), set.version());
        match policies::compare_policy_files(&reading, &set) {
            PolicyFilesStatus::InForce => (!set.is_empty(), in_force),
            PolicyFilesStatus::Newer(version) => {
                (!set.is_empty(), format!("{in_force}; the files are version {version}"))
            }
            PolicyFilesStatus::Invalid(why) => (false, format!("{in_force}; the files do not load: {why}")),
        }
    });
    let (good, text) = read.await.unwrap_or_else(|error| {
        tracing::error!(%error, "health: the policy files cannot be compared");
        (false, "their files cannot be compared; the log says why".to_owned())
    });
    HealthCheck { name: "policies", healthy: good, detail: DisplayText::from_multiline(&text) }
}

/// Whether the gateway is somebody to AWS, if it has anything to do there.
async fn check_aws_identity(inner: &ConsoleState) -> Option<HealthCheck> {
    let (good, text) = match inner.aws_identity.as_ref()?.state().await {
        AwsIdentityState::Found { source, long_lived: false } => (true, format!("found: {source}")),
        AwsIdentityState::Found { source, long_lived: true } => {
            (true, format!("found: {source}; a long-lived access key, where a role would be better"))
        }
        AwsIdentityState::Missing { since, reason: why } => {
            (false, format!("none since {}, so nothing can be sent to AWS: {why}", format_utc(since)))
        }
        AwsIdentityState::Unresolved => (false, "none found yet, so nothing can be sent to AWS".to_owned()),
    };
    Some(HealthCheck { name: "AWS identity", healthy: good, detail: DisplayText::new(text) })
}

/// Whether people are told of asks, if anything is configured that tells them.
async fn check_notifications(inner: &ConsoleState) -> Option<HealthCheck> {
    let name = "notifications";
    let channels = match inner.channels.read_all().await {
        Ok(channels) => channels,
        Err(error) => {
            tracing::error!(%error, "health: the state of the channels cannot be read");
            return Some(HealthCheck {
                name,
                healthy: false,
                detail: DisplayText::new("their state cannot be read; the log says why"),
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
    Some(HealthCheck { name, healthy: failing.is_empty(), detail: DisplayText::new(text) })
}

/// A channel by which people are told.
struct ChannelView {
    name: DisplayText,
    kind: &'static str,
    pending_messages: u64,
    last_success: Option<DisplayText>,
    /// Since when it fails, and why.
    failure: Option<(DisplayText, DisplayText)>,
}

/// What cannot be read is told by [`parts`].
async fn channel_views(inner: &ConsoleState) -> Vec<ChannelView> {
    let line = |channel: durward_notification::ChannelStatus| ChannelView {
        name: DisplayText::new(channel.name),
        kind: channel.kind,
        pending_messages: channel.pending_messages,
        last_success: channel.last_success.map(format_utc),
        failure: channel
            .failing_since
            .map(|since| (format_utc(since), DisplayText::new(channel.last_error.unwrap_or_default()))),
    };
    inner.channels.read_all().await.unwrap_or_default().into_iter().map(line).collect()
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    frame: PageFrame,
    checks: Vec<HealthCheck>,
    channels: Vec<ChannelView>,
    version: &'static str,
    healthy: bool,
}

pub async fn show_health(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(session): BrowserUser,
) -> Response<Body> {
    let parts = run_health_checks(&inner).await;
    let good = parts.iter().all(|part| part.healthy);
    let channels = channel_views(&inner).await;
    let version = inner.settings.version;
    let frame = PageFrame::new(&inner, Some(&session), "health");
    render_page(StatusCode::OK, &HealthPage { frame, checks: parts, channels, version, healthy: good })
}
