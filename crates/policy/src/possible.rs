//! What a request may be about beside what it says. A forbid that names a resource exactly holds also for a request that may be
//! about this resource and does not say: it names it by a pattern, by another name, or not at all where its action is on
//! resources of this kind. A permit is for what is named.

use crate::{
    entities::arn_parts,
    literals::{Kind, Types},
    load::Checked,
    vocabulary::{Vocabulary, makes},
};
use cedar_policy::Effect;
use durward_core::{AccessLevel, Arn, Demand, Operation, Resource, arn_may_be};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The resources that forbids name exactly.
#[derive(Debug, Default)]
pub(crate) struct Possible {
    exact: BTreeMap<String, Exact>,
    /// For a kind of resource the actions of its service that are not on what is there of it.
    elsewhere: Vec<HashSet<String>>,
}

#[derive(Debug)]
struct Exact {
    /// Which of `elsewhere` is of its kind.
    kind: usize,
    /// The numbers of the forbids that name it.
    named_by: Vec<u32>,
}

impl Possible {
    pub(crate) fn new(policies: &[Checked], types: &Types, vocabulary: &dyn Vocabulary) -> Self {
        let mut made = Self::default();
        let mut kinds: HashMap<(String, String), usize> = HashMap::new();
        let forbids =
            (0u32..).zip(policies).filter(|(_number, checked)| checked.policy.effect() == Effect::Forbid);
        let named = forbids.flat_map(|(number, checked)| {
            checked.policy.entity_literals().into_iter().map(move |uid| (number, uid))
        });
        for (number, uid) in named {
            let arn = uid.id().unescaped();
            let is_resource = types.kind(uid.as_ref().entity_type()) == Some(Kind::AwsResource);
            let Some(parts) = arn_parts(arn).filter(|_| is_resource) else { continue };
            let kind = *kinds.entry((parts.service.to_owned(), parts.kind.to_owned())).or_insert_with(|| {
                let actions = vocabulary.actions_of(parts.service).into_iter();
                // What a bucket holds is in it, and forbidden with it.
                let holds = if parts.kind == "bucket" { "object" } else { parts.kind };
                let is_on =
                    |action: &str| [parts.kind, holds].iter().any(|kind| vocabulary.may_be_on(action, kind));
                made.elsewhere.push(actions.filter(|action| !is_on(action)).collect());
                made.elsewhere.len() - 1
            });
            let exact =
                made.exact.entry(arn.to_owned()).or_insert_with(|| Exact { kind, named_by: Vec::new() });
            exact.named_by.push(number);
        }
        made
    }

    /// The resources that this part of an operation may be about beside the one it names.
    pub(crate) fn of<'a>(&'a self, operation: &Operation, demand: &Demand) -> Vec<&'a str> {
        if self.exact.is_empty() || tags_what_it_makes(operation, demand) {
            return Vec::new();
        }
        let is_elsewhere =
            |kind: usize| self.elsewhere.get(kind).is_some_and(|actions| actions.contains(&demand.action));
        let may_be = |exact: &str, kind: usize| match &demand.resource {
            Resource::Arn(asked) => {
                asked != exact
                    && arn_may_be(asked, exact)
                    && !(names_only_kind(asked) && is_elsewhere(kind))
                    && !gives_alias(demand, asked)
            }
            Resource::Any => is_within_reach(exact, operation, demand) && !is_elsewhere(kind),
            Resource::McpTool { .. } | Resource::McpServer(_) => false,
        };
        let possible = self.exact.iter().filter(|(arn, exact)| may_be(arn, exact.kind));
        possible.map(|(arn, _exact)| arn.as_str()).collect()
    }

    /// Whether a policy is one of the forbids that name this resource: for others it is no reason.
    pub(crate) fn is_named_by(&self, exact: &str, number: u32) -> bool {
        self.exact.get(exact).is_some_and(|exact| exact.named_by.contains(&number))
    }
}

/// An alias that is being made stands for no key yet.
fn gives_alias(demand: &Demand, asked: &str) -> bool {
    demand.action == "kms:CreateAlias" && arn_parts(asked).is_some_and(|parts| parts.kind == "alias")
}

/// `instance/*`: any of its kind.
fn names_only_kind(arn: &str) -> bool {
    arn_parts(arn).is_some_and(|parts| parts.name == "*")
}

/// Whether an action that names no resource may be about this one: its service's, in its account and region. A ciphertext may
/// be under a key of any account, and under a multi-Region key of any region.
fn is_within_reach(exact: &str, operation: &Operation, demand: &Demand) -> bool {
    let Some(exact) = Arn::parse(exact) else { return false };
    if exact.service == "kms" && demand.action.starts_with("kms:") {
        let ours = operation.region.as_deref().is_none_or(|ours| ours == exact.region);
        return ours || exact.resource.starts_with("key/mrk-");
    }
    let same = |theirs: &str, ours: &Option<String>| {
        theirs.is_empty() || ours.as_deref().is_none_or(|ours| ours == theirs)
    };
    demand.action.split(':').next() == Some(exact.service)
        && same(exact.account, &operation.account)
        && same(exact.region, &operation.region)
}

/// Whether this part of an operation gives tags to what another part makes (`TagSpecifications` of EC2).
fn tags_what_it_makes(operation: &Operation, demand: &Demand) -> bool {
    let is_part = demand.action.split_once(':').is_some_and(|(_service, name)| name != operation.name);
    demand.resource == Resource::Any
        && demand.access_level == AccessLevel::Tagging
        && is_part
        && makes(&operation.name)
}
