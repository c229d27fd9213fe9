//! `/policies`: the policy files as they are, whether they are in force, and what they answer to one question.

use super::{PageFrame, internal_error_page, render_page};
use crate::{ConsoleState, display_text::DisplayText, users::BrowserUser};
use askama::Template;
use axum::{
    body::Body,
    extract::{Query, State},
};
use durward_policy::{CallerInput, PolicyQueryInput, PolicySet};
use http::{Response, StatusCode};
use serde::Deserialize;
use std::{path::Path, sync::Arc};

/// Bytes of one file that the page shows.
const MAX_POLICY_FILE_CHARS: usize = 256 << 10;

struct PolicyFileView {
    name: DisplayText,
    /// The `@id`s in it.
    ids: Vec<DisplayText>,
    text: DisplayText,
    hidden_chars: usize,
}

/// What the form asks.
#[derive(Deserialize, Default)]
pub struct ExplainQuery {
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
struct ExplainForm {
    action: DisplayText,
    resource: DisplayText,
    subject: DisplayText,
    groups: DisplayText,
    connection: DisplayText,
    tags: DisplayText,
}

#[derive(Template)]
#[template(path = "policies.html")]
struct PoliciesPage {
    frame: PageFrame,
    version: DisplayText,
    policy_count: usize,
    dir: DisplayText,
    /// Why what is on disk is not what is in force.
    files_warning: Option<DisplayText>,
    files: Vec<PolicyFileView>,
    form: ExplainForm,
    explanation: Option<DisplayText>,
    error: Option<DisplayText>,
}

/// The policy files, beside the set in force.
pub enum PolicyFilesStatus {
    InForce,
    /// Loads, and has this version.
    Newer(String),
    /// Does not load, for this reason.
    Invalid(String),
}

/// Reads the policy files: it blocks.
pub fn compare_policy_files(inner: &ConsoleState, set: &PolicySet) -> PolicyFilesStatus {
    match PolicySet::load(&inner.settings.policy_dir, inner.schema_source) {
        Ok(files) if files.version() == set.version() => PolicyFilesStatus::InForce,
        Ok(files) => PolicyFilesStatus::Newer(files.version().to_owned()),
        Err(error) => PolicyFilesStatus::Invalid(error.to_string()),
    }
}

pub async fn show_policies(
    State(inner): State<Arc<ConsoleState>>,
    BrowserUser(visitor): BrowserUser,
    Query(question): Query<ExplainQuery>,
) -> Response<Body> {
    let frame = PageFrame::new(&inner, Some(&visitor), "policies");
    let reading = inner.clone();
    let read = tokio::task::spawn_blocking(move || {
        let inner = reading;
        let set = inner.policies.current();
        let dir = &inner.settings.policy_dir;
        let pending = match compare_policy_files(&inner, &set) {
            PolicyFilesStatus::InForce => None,
            PolicyFilesStatus::Newer(version) => {
                Some(DisplayText::new(format!("The files are version {version} and not in force yet.")))
            }
            PolicyFilesStatus::Invalid(why) => Some(DisplayText::from_multiline(&format!(
                "The files do not load, and the last good set stays in force:\n{why}"
            ))),
        };
        let (answer, wrong) = match explain_query(&inner, &set, &question) {
            None => (None, None),
            Some(Ok(answer)) => (Some(DisplayText::from_multiline(&answer)), None),
            Some(Err(why)) => (None, Some(DisplayText::new(why))),
        };
        PoliciesPage {
            frame,
            version: DisplayText::new(set.version()),
            policy_count: set.len(),
            dir: DisplayText::new(dir.display().to_string()),
            files_warning: pending,
            files: read_policy_files(dir),
            form: ExplainForm {
                action: DisplayText::new(&question.action),
                resource: DisplayText::new(&question.resource),
                subject: DisplayText::new(&question.subject),
                groups: DisplayText::new(&question.groups),
                connection: DisplayText::new(&question.connection),
                tags: DisplayText::new(&question.tags),
            },
            explanation: answer,
            error: wrong,
        }
    });
    match read.await {
        Ok(policies) => render_page(StatusCode::OK, &policies),
        Err(error) => internal_error_page(&inner, Some(&visitor), &error),
    }
}

/// What the set in force answers, if something was asked.
fn explain_query(
    inner: &ConsoleState,
    set: &PolicySet,
    question: &ExplainQuery,
) -> Option<Result<String, String>> {
    if question.action.trim().is_empty() {
        return None;
    }
    let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let tag = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Some((filled(key)?, value.trim().to_owned()))
    };
    let asked = PolicyQueryInput {
        caller: CallerInput {
            subject: filled(&question.subject).unwrap_or_else(|| "tester".to_owned()),
            groups: question.groups.split(',').filter_map(filled).collect(),
            ..CallerInput::default()
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
    Some(
        asked
            .explain(set, inner.schema_source)
            .map(|explanation| explanation.to_string())
            .map_err(|error| error.to_string()),
    )
}

/// The `*.cedar` files of the directory in name order. One that cannot be read says so.
fn read_policy_files(dir: &Path) -> Vec<PolicyFileView> {
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
        let ids =
            text.split("@id(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(DisplayText::new);
        let ids = ids.collect();
        let (text, cut) = DisplayText::from_multiline(&text).truncate_chars(MAX_POLICY_FILE_CHARS);
        PolicyFileView { name: DisplayText::new(name), ids, text, hidden_chars: cut }
    };
    paths.into_iter().map(file).collect()
}
