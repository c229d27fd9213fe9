//! What a request may be about beside what it says. A forbid that names a resource exactly holds also for a request that may be
//! about this resource and does not say: it names it by a pattern, by another name, among its parameters, or not at all where its
//! action may be on resources of this kind. A permit is for what is named.

use crate::{
    entities::arn_parts,
    literals::{Kind, Types},
    load::Checked,
    vocabulary::{Unnamed, Vocabulary, is_making},
};
use cedar_policy::Effect;
use durward_core::{AccessLevel, Arn, Demand, Operation, Resource, arn_may_be};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The resources that forbids name exactly.
#[derive(Debug, Default)]
pub(crate) struct Possible {
    exact: BTreeMap<String, Exact>,
    kinds: Vec<Actions>,
}

#[derive(Debug)]
struct Exact {
    /// Which of `kinds` it is.
    kind: usize,
    /// The numbers of the forbids that name it.
    named_by: Vec<u32>,
}

/// The actions of a service that are not about what there is of a kind of its resources, when they name none.
#[derive(Debug)]
struct Actions {
    making: HashSet<String>,
    elsewhere: HashSet<String>,
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
            let kind = (parts.service.to_owned(), parts.kind.to_owned());
            let kind = *kinds.entry(kind).or_insert_with(|| {
                made.kinds.push(Actions::of(parts.service, parts.kind, vocabulary));
                made.kinds.len() - 1
            });
            let exact = made.exact.entry(arn.to_owned());
            exact.or_insert_with(|| Exact { kind, named_by: Vec::new() }).named_by.push(number);
        }
        made
    }

    /// The resources that the parameters of an operation name, wherever.
    pub(crate) fn mentioned(&self, parameters: &Value) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        if !self.exact.is_empty() {
            self.mention(parameters, &mut found);
        }
        found
    }

    fn mention<'a>(&'a self, value: &Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::String(text) => found.extend(self.exact.get_key_value(text).map(|(arn, _)| arn.as_str())),
            Value::Array(items) => items.iter().for_each(|item| self.mention(item, found)),
            Value::Object(members) => members.values().for_each(|member| self.mention(member, found)),
            _ => {}
        }
    }

    /// The resources that this part of an operation may be about beside the one it names.
    pub(crate) fn of<'a>(
        &'a self,
        operation: &Operation,
        demand: &Demand,
        mentioned: &BTreeSet<&str>,
    ) -> Vec<&'a str> {
        let asked = match &demand.resource {
            Resource::Arn(asked) => Some(asked.as_str()),
            Resource::Any => None,
            Resource::McpTool { .. } | Resource::McpServer(_) => return Vec::new(),
        };
        let may_be = |arn: &str, exact: &Exact| {
            let kind = self.kinds.get(exact.kind);
            asked != Some(arn)
                && (mentioned.contains(arn)
                    || kind.is_some_and(|kind| kind.may_be(arn, asked, operation, demand)))
        };
        let possible = self.exact.iter().filter(|(arn, exact)| may_be(arn, exact));
        possible.map(|(arn, _exact)| arn.as_str()).collect()
    }

    /// Whether a policy is one of the forbids that name this resource, or the bucket that it is in.
    pub(crate) fn is_named_by(&self, exact: &str, number: u32) -> bool {
        let names = |arn: &str| self.exact.get(arn).is_some_and(|exact| exact.named_by.contains(&number));
        names(exact)
            || arn_parts(exact).and_then(|parts| parts.bucket).is_some_and(|(bucket, _)| names(bucket))
    }
}

impl Actions {
    fn of(service: &str, kind: &str, vocabulary: &dyn Vocabulary) -> Self {
        let mut made = Self { making: HashSet::new(), elsewhere: HashSet::new() };
        for action in vocabulary.actions_of(service) {
            match vocabulary.unnamed(&action, kind) {
                // What a bucket holds is in it, and forbidden with it.
                Unnamed::Elsewhere
                    if kind == "bucket" && vocabulary.unnamed(&action, "object") == Unnamed::Possible => {}
                Unnamed::Possible => {}
                Unnamed::Made => {
                    made.making.insert(action);
                }
                Unnamed::Elsewhere => {
                    made.elsewhere.insert(action);
                }
            }
        }
        made
    }

    /// Whether this part of an operation, which asks for something else or for nothing by name, may be about this resource.
    fn may_be(&self, exact: &str, asked: Option<&str>, operation: &Operation, demand: &Demand) -> bool {
        let makes = self.making.contains(&demand.action);
        match asked {
            Some(asked) => {
                arn_may_be(asked, exact) && !(makes && names_only_kind(asked)) && !gives_alias(demand, asked)
            }
            None => {
                is_within_reach(exact, operation, demand)
                    && !makes
                    && !self.elsewhere.contains(&demand.action)
                    && !tags_what_it_makes(operation, demand)
            }
        }
    }
}

/// The same action on another resource.
pub(crate) fn as_if(demand: &Demand, arn: &str) -> Demand {
    Demand { resource: Resource::Arn(arn.to_owned()), ..demand.clone() }
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
    demand.access_level == AccessLevel::Tagging && is_part && is_making(&operation.name)
}
