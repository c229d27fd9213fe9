//! `/policies`: the policy files as they are, whether they are in force, and what they answer to one question.

use super::{Frame, broken, page};
use crate::{Inner, people::Visitor, text::Text};
use askama::Template;
use axum::{
    body::Body,
    extract::{Query, State},
};
use durward_policy::{Asked, AskedCaller, PolicySet};
use http::{Response, StatusCode};
use serde::Deserialize;
use std::{path::Path, sync::Arc};

/// Bytes of one file that the page shows.
const FILE: usize = 256 << 10;

struct File {
    name: Text,
    /// The `@id`s in it.
    ids: Vec<Text>,
    text: Text,
    cut: usize,
}

/// What the form asks.
#[derive(Deserialize, Default)]
pub struct Question {
    #[serde(default)]
    action: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    groups: String,
    #[serde(default)]
    connection: String,
    #[serde(default)]
    tags: String,
}

/// The form as it was filled in.
struct Form {
    action: Text,
    resource: Text,
    subject: Text,
    groups: Text,
    connection: Text,
    tags: Text,
}

#[derive(Template)]
#[template(path = "policies.html")]
struct Policies {
    frame: Frame,
    version: Text,
    count: usize,
    dir: Text,
    /// Why what is on disk is not what is in force.
    pending: Option<Text>,
    files: Vec<File>,
    form: Form,
    answer: Option<Text>,
    wrong: Option<Text>,
}

/// The policy files, beside the set in force.
pub enum OnDisk {
    InForce,
    /// Loads, and has this version.
    Newer(String),
    /// Does not load, for this reason.
    Broken(String),
}

/// Reads the policy files: it blocks.
pub fn on_disk(inner: &Inner, set: &PolicySet) -> OnDisk {
    match PolicySet::load(&inner.settings.policy_dir, inner.vocabulary) {
        Ok(files) if files.version() == set.version() => OnDisk::InForce,
        Ok(files) => OnDisk::Newer(files.version().to_owned()),
        Err(error) => OnDisk::Broken(error.to_string()),
    }
}

pub async fn list(
    State(inner): State<Arc<Inner>>,
    Visitor(visitor): Visitor,
    Query(question): Query<Question>,
) -> Response<Body> {
    let frame = Frame::new(&inner, Some(&visitor), "policies");
    let reading = inner.clone();
    let read = tokio::task::spawn_blocking(move || {
        let inner = reading;
        let set = inner.policies.current();
        let dir = &inner.settings.policy_dir;
        let pending = match on_disk(&inner, &set) {
            OnDisk::InForce => None,
            OnDisk::Newer(version) => {
                Some(Text::new(format!("The files are version {version} and not in force yet.")))
            }
            OnDisk::Broken(why) => Some(Text::file(&format!(
                "The files do not load, and the last good set stays in force:\n{why}"
            ))),
        };
        let (answer, wrong) = match ask(&inner, &set, &question) {
            None => (None, None),
            Some(Ok(answer)) => (Some(Text::file(&answer)), None),
            Some(Err(why)) => (None, Some(Text::new(why))),
        };
        Policies {
            frame,
            version: Text::new(set.version()),
            count: set.len(),
            dir: Text::new(dir.display().to_string()),
            pending,
            files: files(dir),
            form: Form {
                action: Text::new(&question.action),
                resource: Text::new(&question.resource),
                subject: Text::new(&question.subject),
                groups: Text::new(&question.groups),
                connection: Text::new(&question.connection),
                tags: Text::new(&question.tags),
            },
            answer,
            wrong,
        }
    });
    match read.await {
        Ok(policies) => page(StatusCode::OK, &policies),
        Err(error) => broken(&inner, Some(&visitor), &error),
    }
}

/// What the set in force answers, if something was asked.
fn ask(inner: &Inner, set: &PolicySet, question: &Question) -> Option<Result<String, String>> {
    if question.action.trim().is_empty() {
        return None;
    }
    let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let tag = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Some((filled(key)?, value.trim().to_owned()))
    };
    let asked = Asked {
        caller: AskedCaller {
            subject: filled(&question.subject).unwrap_or_else(|| "tester".to_owned()),
            groups: question.groups.split(',').filter_map(filled).collect(),
            ..AskedCaller::default()
        },
        action: question.action.trim().to_owned(),
        resource: filled(&question.resource).unwrap_or_else(|| "*".to_owned()),
        params: serde_json::json!({}),
        operation: None,
        connection: filled(&question.connection),
        account: None,
        region: None,
        source_ip: None,
        now: None,
        tags: question.tags.split(',').filter_map(tag).collect(),
        risk: None,
    };
    Some(asked.answer(set, inner.vocabulary).map(|explanation| explanation.to_string()))
}

/// The `*.cedar` files of the directory in name order. One that cannot be read says so.
fn files(dir: &Path) -> Vec<File> {
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cedar"))
        .collect();
    paths.sort();
    let file = |path: std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| format!("cannot be read: {error}"));
        let ids = text.split("@id(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(Text::new);
        let ids = ids.collect();
        let (text, cut) = Text::file(&text).cut(FILE);
        File { name: Text::new(name), ids, text, cut }
    };
    paths.into_iter().map(file).collect()
}
