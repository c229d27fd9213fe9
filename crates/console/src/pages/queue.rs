//! `/`: the asks that wait for people, the windows that are open, then the asks that were answered lately.

use super::{Frame, broken, page};
use crate::{
    Inner,
    people::Visitor,
    view::Line,
    windows::{self, WindowLine},
};
use askama::Template;
use axum::{body::Body, extract::State};
use durward_approval::{Filter, State as AskState};
use http::{Response, StatusCode};
use std::sync::Arc;

/// Waiting asks of the page; the caps of the approval room are of this order.
const WAITING: usize = 200;
/// Answered asks of the page.
const ANSWERED: usize = 25;

#[derive(Template)]
#[template(path = "queue.html")]
struct Queue {
    frame: Frame,
    /// Those the visitor can answer.
    yours: Vec<Line>,
    others: Vec<Line>,
    windows: Vec<WindowLine>,
    more_windows: bool,
    answered: Vec<Line>,
    more: bool,
}

pub async fn queue(State(inner): State<Arc<Inner>>, Visitor(session): Visitor) -> Response<Body> {
    let filter = |states: Vec<AskState>, limit| Filter { states, caller: None, limit };
    let answered = [
        AskState::Approved,
        AskState::Denied,
        AskState::TimedOut,
        AskState::Used,
        AskState::Expired,
        AskState::Damaged,
    ];
    let now = (inner.now)();
    let listed = tokio::try_join!(
        inner.approvals.list(filter(vec![AskState::Pending], WAITING)),
        inner.approvals.list(filter(answered.to_vec(), ANSWERED)),
        windows::open(&inner.approvals, now),
    );
    let (mut waiting, mut answered, open) = match listed {
        Ok(listed) => listed,
        Err(error) => return broken(&inner, Some(&session), &error),
    };
    let more = waiting.len() == WAITING;
    // Whose time runs out first comes first.
    waiting.sort_by_key(|ask| ask.deadline);
    let line = |ask: &durward_approval::Ask| Line::of(ask, &session.person, now);
    let (yours, others) = waiting.iter().map(line).partition(|line: &Line| line.yours);
    // Those are a section of their own.
    answered.retain(|ask| open.asks.iter().all(|window| window.id != ask.id));
    let answered = answered.iter().map(line).collect();
    let windows = open.asks.iter().filter_map(|ask| WindowLine::of(ask, &session.person, now)).collect();
    let frame = Frame::new(&inner, Some(&session), "approvals");
    page(StatusCode::OK, &Queue { frame, yours, others, windows, more_windows: open.more, answered, more })
}
