//! The connection of a request that a person wants explained, in `policy explain` and in the console.
//!
//! A forbid in the scope of a connection holds for nothing else, so a request without one would be explained as something that no
//! gateway decides.

use crate::{
    configured_names::NameKind, policy_query_input::PolicyQueryInput, policy_set::PolicySet,
    schema_source::SchemaSource,
};
use durward_core::{Arn, Verdict};
use std::{collections::BTreeSet, fmt};

/// A connection that the request could go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionCandidate {
    pub name: String,
    /// The account of its role; `None` without a configuration.
    pub account: Option<String>,
}

impl ConnectionCandidate {
    /// A configured connection.
    pub fn with_role(name: &str, role_arn: &str) -> Self {
        let account = Arn::parse(role_arn).map(|arn| arn.account.to_owned());
        Self { name: name.to_owned(), account }
    }
}

/// The connection of a request, and why it is that one.
#[derive(Debug)]
pub struct ConnectionChoice {
    /// Every connection that is known. Empty for a request that goes through none.
    candidates: Vec<ConnectionCandidate>,
    chosen: Option<ConnectionCandidate>,
    reason: ChoiceReason,
    /// Where the connections are known from.
    source: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChoiceReason {
    /// The request goes through no AWS connection.
    NotNeeded,
    Given,
    /// It was given, and is not among those that are known.
    GivenUnknown,
    Only,
    /// It is the only one whose role is in the resource's account.
    Account,
    First,
    NoneKnown,
}

impl ConnectionChoice {
    /// `configured`: the connections of the configuration; without one, those that the policies name are known.
    pub fn new(
        set: &PolicySet,
        configured: Option<Vec<ConnectionCandidate>>,
        action: &str,
        resource: &str,
        given: Option<&str>,
    ) -> Self {
        let (candidates, source) = match configured {
            Some(configured) => (configured, "the configuration"),
            None => (named_candidates(set), "the policies"),
        };
        let choice = |chosen: Option<ConnectionCandidate>, reason| Self {
            candidates: candidates.clone(),
            chosen,
            reason,
            source,
        };
        // An IAM action has its service before a colon; `connect`, `reveal` and MCP methods have none.
        if !action.contains(':') {
            return Self { candidates: Vec::new(), chosen: None, reason: ChoiceReason::NotNeeded, source };
        }
        if let Some(given) = given {
            let known = candidates.iter().find(|candidate| candidate.name == given);
            let reason = if known.is_some() || candidates.is_empty() {
                ChoiceReason::Given
            } else {
                ChoiceReason::GivenUnknown
            };
            let given = || ConnectionCandidate { name: given.to_owned(), account: None };
            return choice(Some(known.cloned().unwrap_or_else(given)), reason);
        }
        let account = Arn::parse(resource).map(|arn| arn.account).filter(|account| !account.is_empty());
        let of_account: Vec<&ConnectionCandidate> = candidates
            .iter()
            .filter(|candidate| account.is_some() && candidate.account.as_deref() == account)
            .collect();
        match (candidates.as_slice(), of_account.as_slice()) {
            ([], _) => choice(None, ChoiceReason::NoneKnown),
            ([only], _) => choice(Some(only.clone()), ChoiceReason::Only),
            (_, [only]) => choice(Some((*only).clone()), ChoiceReason::Account),
            ([first, ..], _) => choice(Some(first.clone()), ChoiceReason::First),
        }
    }

    pub fn chosen_name(&self) -> Option<String> {
        self.chosen.as_ref().map(|chosen| chosen.name.clone())
    }

    pub fn chosen_account(&self) -> Option<String> {
        self.chosen.as_ref().and_then(|chosen| chosen.account.clone())
    }

    fn others(&self) -> impl Iterator<Item = &ConnectionCandidate> {
        self.candidates.iter().filter(|candidate| Some(*candidate) != self.chosen.as_ref())
    }
}

/// The names in policies do not say which connections are MCP servers, except where the servers are named as such.
fn named_candidates(set: &PolicySet) -> Vec<ConnectionCandidate> {
    let servers = set.named(NameKind::McpServer);
    let mut names: BTreeSet<&str> = set.named(NameKind::Connection);
    names.retain(|name| !servers.contains(name));
    names.extend(set.named(NameKind::AwsConnection));
    names.into_iter().map(|name| ConnectionCandidate { name: name.to_owned(), account: None }).collect()
}

impl fmt::Display for ConnectionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            ChoiceReason::NotNeeded => return Ok(()),
            ChoiceReason::NoneKnown => {
                return writeln!(f, "connection: none is named in {}; name one", self.source);
            }
            ChoiceReason::Given => String::new(),
            ChoiceReason::GivenUnknown => format!(" (there is none of this name in {})", self.source),
            ChoiceReason::Only => format!(" (the only one of {})", self.source),
            ChoiceReason::Account => " (the only one with a role in the resource's account)".to_owned(),
            ChoiceReason::First => {
                format!(" (the first of {}; name another to see its decision)", self.source)
            }
        };
        let others: Vec<&str> = self.others().map(|other| other.name.as_str()).collect();
        let also = if others.is_empty() { String::new() } else { format!("; others: {}", others.join(", ")) };
        writeln!(f, "connection: {}{why}{also}", self.chosen.as_ref().map_or("", |chosen| &chosen.name))
    }
}

fn strictness(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::RequireApproval => 1,
        Verdict::Deny => 2,
    }
}

impl ConnectionChoice {
    /// The other connections with which the same request would be decided less strictly, each as a line.
    pub fn near_misses(
        &self,
        query: &PolicyQueryInput,
        given_account: Option<&str>,
        verdict: Verdict,
        set: &PolicySet,
        schema_source: &dyn SchemaSource,
    ) -> String {
        let near_miss = |other: &ConnectionCandidate| {
            let with_other = PolicyQueryInput {
                connection: Some(other.name.clone()),
                account: given_account.map(str::to_owned).or_else(|| other.account.clone()),
                ..query.clone()
            };
            // The request has a meaning, since it was explained with another connection.
            let found = with_other.explain(set, schema_source).ok()?.decision.verdict;
            let would = match found {
                _ if strictness(found) >= strictness(verdict) => return None,
                Verdict::Allow => "permit",
                Verdict::RequireApproval => "require approval",
                Verdict::Deny => return None,
            };
            Some(format!("  would {would} with connection `{}`\n", other.name))
        };
        self.others().filter_map(near_miss).collect()
    }
}
