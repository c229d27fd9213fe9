//! `/policies`: the policy files, their state, and the decision of the set in force for one request.

use super::BrowserUser;
use crate::{
    display_text::{DisplayText, as_sentence},
    html::{PageFrame, internal_error_page, render_page},
    policy_files::{PolicyFileView, PolicyFilesStatus, compare_policy_files, read_policy_files},
    settings::{ConnectionKind, ConnectionSummary},
    state::ConsoleState,
    template_filters as filters,
};
use askama::Template;
use axum::{
    body::Body,
    extract::{Query, State},
};
use durward_core::parse_strict_json;
use durward_policy::{CallerInput, ConnectionCandidate, ConnectionChoice, PolicyQueryInput, PolicySet};
use http::{Response, StatusCode};
use serde::Deserialize;
use std::sync::Arc;

/// The request that the form describes.
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
    #[serde(default)]
    parameters: String,
}

/// The form as it was filled in.
struct ExplainForm {
    action: DisplayText,
    resource: DisplayText,
    subject: DisplayText,
    groups: DisplayText,
    connection: DisplayText,
    tags: DisplayText,
    parameters: DisplayText,
    /// The names of the configured AWS connections, to choose from.
    connections: Vec<DisplayText>,
}

impl ExplainForm {
    fn from_query(query: &ExplainQuery, state: &ConsoleState) -> Self {
        Self {
            action: DisplayText::new(&query.action),
            resource: DisplayText::new(&query.resource),
            subject: DisplayText::new(&query.subject),
            groups: DisplayText::new(&query.groups),
            connection: DisplayText::new(&query.connection),
            tags: DisplayText::new(&query.tags),
            parameters: DisplayText::new(&query.parameters),
            connections: aws_connections(state).map(|one| DisplayText::new(&one.name)).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "policies.html")]
struct PoliciesPage {
    frame: PageFrame,
    version: DisplayText,
    policy_count: usize,
    dir: DisplayText,
    /// Why the files are not the set in force.
    files_warning: Option<DisplayText>,
    files: Vec<PolicyFileView>,
    form: ExplainForm,
    explanation: Option<DisplayText>,
    error: Option<DisplayText>,
}

pub async fn show_policies(
    State(state): State<Arc<ConsoleState>>,
    BrowserUser(user): BrowserUser,
    Query(query): Query<ExplainQuery>,
) -> Response<Body> {
    let frame = PageFrame::new(&state, Some(&user), "policies");
    let task_state = state.clone();
    let page = tokio::task::spawn_blocking(move || build_page(&task_state, frame, &query));
    match page.await {
        Ok(page) => render_page(StatusCode::OK, &page),
        Err(error) => internal_error_page(&state, Some(&user), &error),
    }
}

/// Blocks on file I/O.
fn build_page(state: &ConsoleState, frame: PageFrame, query: &ExplainQuery) -> PoliciesPage {
    let set = state.policies.current();
    let dir = &state.settings.policy_dir;
    let files_warning = match compare_policy_files(state, &set) {
        PolicyFilesStatus::InForce => None,
        PolicyFilesStatus::Newer(version) => Some(DisplayText::new(format!(
            "The files have policy version {version}, which is not in force yet."
        ))),
        PolicyFilesStatus::Invalid(reason) => Some(DisplayText::from_multiline(&format!(
            "The files do not load, and the last good set stays in force:\n{reason}"
        ))),
    };
    let (explanation, error) = match explain_query(state, &set, query) {
        None => (None, None),
        Some(Ok(explanation)) => (Some(DisplayText::from_multiline(&explanation)), None),
        Some(Err(error)) => (None, Some(DisplayText::new(as_sentence(&error)))),
    };
    PoliciesPage {
        frame,
        version: DisplayText::new(set.version()),
        policy_count: set.len(),
        dir: DisplayText::new(dir.display().to_string()),
        files_warning,
        files: read_policy_files(dir),
        form: ExplainForm::from_query(query, state),
        explanation,
        error,
    }
}

/// Explains the decision of the set in force, if the form names an action. An error is the policy crate's own text.
fn explain_query(
    state: &ConsoleState,
    set: &PolicySet,
    query: &ExplainQuery,
) -> Option<Result<String, String>> {
    if query.action.trim().is_empty() {
        return None;
    }
    let non_empty = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let tag = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Some((non_empty(key)?, value.trim().to_owned()))
    };
    // As the gateway reads them, so that a number is the number that it is there.
    let parameters = match non_empty(&query.parameters) {
        None => serde_json::json!({}),
        Some(text) => match parse_strict_json(text.as_bytes()) {
            Ok(parameters) => parameters,
            Err(error) => return Some(Err(format!("the parameters are not JSON: {error}"))),
        },
    };
    let action = query.action.trim();
    let resource = non_empty(&query.resource).unwrap_or_else(|| "*".to_owned());
    let configured = aws_connections(state).map(|one| ConnectionCandidate::with_role(&one.name, &one.target));
    let given = non_empty(&query.connection);
    let choice = ConnectionChoice::new(set, Some(configured.collect()), action, &resource, given.as_deref());
    let input = PolicyQueryInput {
        caller: CallerInput {
            subject: non_empty(&query.subject).unwrap_or_else(|| "tester".to_owned()),
            groups: query.groups.split(',').filter_map(non_empty).collect(),
            ..CallerInput::default()
        },
        action: action.to_owned(),
        resource,
        params: parameters,
        operation: None,
        connection: choice.chosen_name(),
        account: choice.chosen_account(),
        region: None,
        source_ip: None,
        now: None,
        tags: query.tags.split(',').filter_map(tag).collect(),
        risk: None,
    };
    let explained = input.explain(set, state.schema_source).map(|explanation| {
        let verdict = explanation.decision.verdict;
        let near_misses = choice.near_misses(&input, None, verdict, set, state.schema_source);
        format!("{choice}{explanation}{near_misses}")
    });
    Some(explained.map_err(|error| error.to_string()))
}

fn aws_connections(state: &ConsoleState) -> impl Iterator<Item = &ConnectionSummary> {
    state.settings.connections.iter().filter(|one| one.kind == ConnectionKind::AwsRole)
}
