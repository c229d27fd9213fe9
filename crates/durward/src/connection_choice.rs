//! The connection of a request that `durward policy explain` explains.
//!
//! A forbid in the scope of a connection holds for nothing else, so a request without one would be explained as something that no
//! gateway decides.

use crate::config::Config;
use durward_catalog::Catalog;
use durward_core::{Arn, Verdict};
use durward_policy::{NameKind, PolicyQueryInput, PolicySet};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};

/// A connection that the request could go through.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    name: String,
    /// The account of its role; `None` without a configuration.
    account: Option<String>,
}

/// The connection of a request, and why it is that one.
#[derive(Debug)]
pub struct ConnectionChoice {
    /// Every connection that is known. Empty for a request that goes through none.
    candidates: Vec<Candidate>,
    chosen: Option<Candidate>,
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
    pub fn new(
        set: &PolicySet,
        config: Option<&Config>,
        action: &str,
        resource: &str,
        given: Option<&str>,
    ) -> Self {
        let (candidates, source) = match config {
            Some(config) => (configured_candidates(config), "the configuration"),
            None => (named_candidates(set), "the policies"),
        };
        let choice = |chosen: Option<Candidate>, reason| Self {
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
            let given = || Candidate { name: given.to_owned(), account: None };
            return choice(Some(known.cloned().unwrap_or_else(given)), reason);
        }
        let account = Arn::parse(resource).map(|arn| arn.account).filter(|account| !account.is_empty());
        let of_account: Vec<&Candidate> = candidates
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

    fn others(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter().filter(|candidate| Some(*candidate) != self.chosen.as_ref())
    }
}

fn configured_candidates(config: &Config) -> Vec<Candidate> {
    let account = |role_arn: &str| Arn::parse(role_arn).map(|arn| arn.account.to_owned());
    let connections = config.aws.connection.iter();
    connections.map(|one| Candidate { name: one.name.clone(), account: account(&one.role_arn) }).collect()
}

/// The names in policies do not say which connections are MCP servers, except where the servers are named as such.
fn named_candidates(set: &PolicySet) -> Vec<Candidate> {
    let servers = set.named(NameKind::McpServer);
    let mut names: BTreeSet<&str> = set.named(NameKind::Connection);
    names.retain(|name| !servers.contains(name));
    names.extend(set.named(NameKind::AwsConnection));
    names.into_iter().map(|name| Candidate { name: name.to_owned(), account: None }).collect()
}

impl fmt::Display for ConnectionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            ChoiceReason::NotNeeded => return Ok(()),
            ChoiceReason::NoneKnown => {
                return writeln!(
                    f,
                    "connection: none is named in {}; name one with --connection",
                    self.source
                );
            }
            ChoiceReason::Given => String::new(),
            ChoiceReason::GivenUnknown => format!(" (there is none of this name in {})", self.source),
            ChoiceReason::Only => format!(" (the only one of {})", self.source),
            ChoiceReason::Account => " (the only one with a role in the resource's account)".to_owned(),
            ChoiceReason::First => format!(" (the first of {}; choose with --connection)", self.source),
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

/// Names the other connections with which the same request would be decided less strictly.
pub fn write_near_misses(
    choice: &ConnectionChoice,
    query: &PolicyQueryInput,
    given_account: Option<&str>,
    verdict: Verdict,
    set: &PolicySet,
    out: &mut impl Write,
) -> io::Result<()> {
    for other in choice.others() {
        let with_other = PolicyQueryInput {
            connection: Some(other.name.clone()),
            account: given_account.map(str::to_owned).or_else(|| other.account.clone()),
            ..query.clone()
        };
        // The request has a meaning, since it was explained with another connection.
        let Ok(explanation) = with_other.explain(set, Catalog::embedded()) else { continue };
        if strictness(explanation.decision.verdict) < strictness(verdict) {
            let would = match explanation.decision.verdict {
                Verdict::Allow => "permit",
                Verdict::RequireApproval => "require approval",
                Verdict::Deny => continue,
            };
            writeln!(out, "  would {would} with connection `{}`", other.name)?;
        }
    }
    Ok(())
}
