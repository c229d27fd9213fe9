//! `/connections` and `/health`: the configured upstreams, and the health of the gateway.

use super::BrowserUser;
use crate::{
    display_text::DisplayText,
    health::{HealthReport, run_health_checks},
    html::{PageFrame, render_page},
    settings::ConnectionSummary,
    state::ConsoleState,
    template_filters as filters,
};
use askama::Template;
use axum::{body::Body, extract::State};
use durward_core::timestamps::format_utc;
use durward_notification::ChannelStatus;
use http::{Response, StatusCode};
use std::sync::Arc;

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

impl ConnectionView {
    fn from_summary(summary: &ConnectionSummary) -> Self {
        Self {
            name: DisplayText::new(&summary.name),
            kind: summary.kind.as_str(),
            target: DisplayText::new(&summary.target),
            description: DisplayText::new(&summary.description),
        }
    }
}

pub async fn show_connections(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
) -> Response<Body> {
    let frame = PageFrame::new(&state, Some(&user), "connections");
    let connections = state.settings.connections.iter().map(ConnectionView::from_summary).collect();
    render_page(StatusCode::OK, &ConnectionsPage { frame, connections })
}

/// A notification channel.
struct ChannelView {
    name: DisplayText,
    kind: &'static str,
    pending_messages: u64,
    last_success: Option<String>,
    /// Since when it fails, and the last error.
    failure: Option<(String, DisplayText)>,
}

impl ChannelView {
    fn from_status(channel: ChannelStatus) -> Self {
        let last_error = DisplayText::new(channel.last_error.unwrap_or_default());
        Self {
            name: DisplayText::new(channel.name),
            kind: channel.kind,
            pending_messages: channel.pending_messages,
            last_success: channel.last_success.map(format_utc),
            failure: channel.failing_since.map(|since| (format_utc(since), last_error)),
        }
    }
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    frame: PageFrame,
    report: HealthReport,
    channels: Vec<ChannelView>,
    version: &'static str,
}

pub async fn show_health(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
) -> Response<Body> {
    let report = run_health_checks(&state).await;
    // If the channels cannot be read, one of the checks says so.
    let channels = state.channels.read_all().await.unwrap_or_default();
    let channels = channels.into_iter().map(ChannelView::from_status).collect();
    let frame = PageFrame::new(&state, Some(&user), "health");
    let page = HealthPage { frame, report, channels, version: state.settings.version };
    render_page(StatusCode::OK, &page)
}
