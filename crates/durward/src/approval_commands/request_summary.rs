//! Parts of an approval request, as the admin API returns it, on one line each.

use crate::json_values::{format_scalar, list_items};
use crate::terminal_text::{escape_for_terminal, format_caller, format_first_three};
use durward_core::{Caller, Resource, RiskAssessment};
use serde_json::Value;
use std::fmt;

/// The state of an approval request, and what is unusual about it.
pub struct RequestState {
    pub word: String,
    pub marks: Vec<&'static str>,
}

impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)?;
        self.marks.iter().try_for_each(|mark| write!(f, " {mark}"))
    }
}

pub fn format_state(request: &Value) -> RequestState {
    let marks = [("break_glass", "BREAK-GLASS"), ("time_bound", "time-bound")];
    RequestState {
        word: format_scalar(&request["state"]),
        marks: marks.into_iter().filter_map(|(key, mark)| (request[key] == true).then_some(mark)).collect(),
    }
}

pub fn format_request_caller(request: &Value) -> String {
    match serde_json::from_value::<Caller>(request["details"]["caller"].clone()) {
        Ok(caller) => format_caller(&caller),
        // A gateway of another version may describe a caller differently.
        Err(_unknown) => format_scalar(&request["details"]["caller"]),
    }
}

/// The operation and the resources that it is about.
pub fn format_operation(request: &Value) -> String {
    let permissions = list_items(&request["details"]["operation"]["required_permissions"]);
    let resources = format_first_three(permissions.iter().map(|one| describe_resource(&one["resource"])));
    format!("{} {resources}", format_scalar(&request["title"]))
}

/// The votes that are still missing: `1 of oncall, 2 of security`. Empty if none is.
pub fn format_missing_votes(request: &Value) -> String {
    let missing = list_items(&request["missing_votes"]).iter().map(|missing| {
        format!("{} of {}", format_scalar(&missing["count"]), format_scalar(&missing["group"]))
    });
    missing.collect::<Vec<_>>().join(", ")
}

/// The broad grants of the request, with their positions in it.
pub fn format_broad_grants(request: &Value) -> Vec<String> {
    let risk = serde_json::from_value::<RiskAssessment>(request["risk"].clone()).unwrap_or_default();
    risk.broad_grants().map(escape_for_terminal).collect()
}

/// A resource in the notation of policies.
pub fn describe_resource(resource: &Value) -> String {
    match serde_json::from_value::<Resource>(resource.clone()) {
        Ok(resource) => escape_for_terminal(&resource.to_text()),
        // A gateway of another version may have a kind of resource that this one does not know.
        Err(_unknown) => format_scalar(resource),
    }
}
