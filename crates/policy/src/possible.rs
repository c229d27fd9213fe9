//! What a request may be about beside what it says. A forbid that names a resource exactly holds also for a request that may be
//! about this resource and does not say: it names it by a pattern, by another name, or not at all where its action is on
//! resources. A permit is for what is named.

use crate::{
    literals::{Kind, Types},
    load::Checked,
    vocabulary::Vocabulary,
};
use cedar_policy::Effect;
use durward_core::{Arn, Demand, Operation, Resource, arn_may_be};
use std::collections::{BTreeSet, HashSet};

/// The resources that forbids name exactly.
#[derive(Debug, Default)]
pub(crate) struct Possible {
    arns: BTreeSet<String>,
    /// The actions of their services that have no resource.
    on_nothing: HashSet<String>,
}

impl Possible {
    pub(crate) fn new(policies: &[Checked], types: &Types, vocabulary: &dyn Vocabulary) -> Self {
        let forbids = policies.iter().filter(|checked| checked.policy.effect() == Effect::Forbid);
        let arns: BTreeSet<String> = forbids
            .flat_map(|checked| checked.policy.entity_literals())
            .filter(|uid| types.kind(uid.as_ref().entity_type()) == Some(Kind::AwsResource))
            .map(|uid| uid.id().unescaped().to_owned())
            .filter(|arn| Arn::parse(arn).is_some())
            .collect();
        let services: BTreeSet<&str> = arns.iter().filter_map(|arn| Some(Arn::parse(arn)?.service)).collect();
        let on_nothing = services
            .into_iter()
            .flat_map(|service| vocabulary.actions_of(service))
            .filter(|action| !vocabulary.may_have_resource(action))
            .collect();
        Self { arns, on_nothing }
    }

    /// The resources that this part of an operation may be about beside the one it names.
    pub(crate) fn of<'a>(&'a self, operation: &Operation, demand: &Demand) -> Vec<&'a str> {
        if self.arns.is_empty() {
            return Vec::new();
        }
        let may_be = |exact: &str| match &demand.resource {
            Resource::Arn(asked) => asked != exact && arn_may_be(asked, exact),
            Resource::Any => {
                !self.on_nothing.contains(&demand.action) && is_within_reach(exact, operation, demand)
            }
            Resource::McpTool { .. } | Resource::McpServer(_) => false,
        };
        self.arns.iter().map(String::as_str).filter(|exact| may_be(exact)).collect()
    }
}

/// Whether an action that names no resource may be about this one: its service's, in its account and region.
fn is_within_reach(exact: &str, operation: &Operation, demand: &Demand) -> bool {
    let Some(exact) = Arn::parse(exact) else { return false };
    let same = |theirs: &str, ours: &Option<String>| {
        theirs.is_empty() || ours.as_deref().is_none_or(|ours| ours == theirs)
    };
    demand.action.split(':').next() == Some(exact.service)
        && same(exact.account, &operation.account)
        && same(exact.region, &operation.region)
}
