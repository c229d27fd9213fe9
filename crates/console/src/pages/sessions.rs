//! `/sessions` and `/sessions/{id}`: what the journal tells of who did what.

use super::{Frame, broken, page, problem};
use crate::{
    Inner,
    people::Visitor,
    recordings::{self, Exchange, Reading, Session},
};
use askama::Template;
use axum::{
    body::Body,
    extract::{Path, State},
};
use durward_core::SessionId;
use http::{Response, StatusCode};
use std::{collections::VecDeque, path::PathBuf, sync::Arc};

#[derive(Template)]
#[template(path = "sessions.html")]
struct List {
    frame: Frame,
    sessions: Vec<Session>,
    reading: Reading,
}

#[derive(Template)]
#[template(path = "session.html")]
struct Story {
    frame: Frame,
    session: Session,
    exchanges: VecDeque<Exchange>,
    reading: Reading,
}

/// Reads the journal on a thread of its own, one reader at a time.
async fn reading<T: Send + 'static>(
    inner: &Arc<Inner>,
    work: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> Result<T, String> {
    let place = inner.reading.clone().acquire_owned().await.map_err(|error| error.to_string())?;
    let dir = inner.settings.journal_dir.clone();
    let task = tokio::task::spawn_blocking(move || {
        let read = work(dir);
        drop(place);
        read
    });
    task.await.map_err(|error| error.to_string())
}

pub async fn list(State(inner): State<Arc<Inner>>, Visitor(visitor): Visitor) -> Response<Body> {
    let frame = Frame::new(&inner, Some(&visitor), "sessions");
    match reading(&inner, |dir| recordings::sessions(&dir)).await {
        Ok((sessions, reading)) => page(StatusCode::OK, &List { frame, sessions, reading }),
        Err(error) => broken(&inner, &visitor, &error),
    }
}

pub async fn show(
    State(inner): State<Arc<Inner>>,
    Visitor(visitor): Visitor,
    Path(id): Path<String>,
) -> Response<Body> {
    let missing = || {
        problem(
            &inner,
            Some(&visitor),
            StatusCode::NOT_FOUND,
            "There is no such session",
            "The journal does not know it. The sessions page lists those it knows.",
        )
    };
    let Ok(id) = id.parse::<SessionId>() else { return missing() };
    let frame = Frame::new(&inner, Some(&visitor), "sessions");
    match reading(&inner, move |dir| recordings::story(&dir, id)).await {
        Ok((Some(session), exchanges, reading)) => {
            page(StatusCode::OK, &Story { frame, session, exchanges, reading })
        }
        Ok((None, ..)) => missing(),
        Err(error) => broken(&inner, &visitor, &error),
    }
}
