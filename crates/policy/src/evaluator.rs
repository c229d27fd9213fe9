//! One caller's questions about one operation, put to the policies whose scope matches.
//!
//! Cedar's evaluator runs the conditions; the index has decided the scopes. What cannot be put to Cedar is not decided.

use crate::{
    attribute_usage::CombinedAttributes,
    cedar_context::build_cedar_context,
    entities::{self, EntityRef, EntitySet},
    explanation::PolicyOutcome,
    implicit_targets::with_resource,
    policy_set::{CompiledPolicy, PolicyQuery, PolicySet, RequestContext},
};
use cedar_policy_core::{
    ast::{Context, Entity, EntityUID, EntityUIDEntry, Expr, Literal, Request, SlotEnv, ValueKind},
    entities::{Entities, NoEntitiesSchema, TCComputation},
    evaluator::Evaluator,
    extensions::Extensions,
};
use durward_core::{AccessLevel, Caller, Operation, RequiredPermission, Resource};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How the policies that can apply came out.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    pub outcomes: Vec<(u32, PolicyOutcome)>,
    /// The question could not be put to Cedar at all.
    pub query_error: Option<String>,
    /// Forbids that hold because the request may be about this resource, which it does not name exactly.
    pub implicit_matches: Vec<(u32, String)>,
}

/// Which policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyFilter<'a> {
    All,
    /// The forbids that name this resource: for others it is no reason.
    ForbidsNaming(&'a str),
}

impl Evaluation {
    /// Takes in how forbids come out on a resource that the request may be about: what holds for one holds, what cannot be
    /// evaluated for one cannot.
    pub(crate) fn merge_implicit_target(&mut self, exact: &str, on_it: Evaluation) {
        self.query_error = self.query_error.take().or(on_it.query_error);
        for (number, outcome) in on_it.outcomes {
            let known = self.outcomes.iter_mut().find(|(known, _)| *known == number);
            match (known, &outcome) {
                (_, PolicyOutcome::NotSatisfied)
                | (Some((_, PolicyOutcome::Failed(_))), _)
                | (Some((_, PolicyOutcome::Satisfied)), PolicyOutcome::Satisfied) => continue,
                (Some((_, known)), _) => *known = outcome,
                (None, _) => self.outcomes.push((number, outcome)),
            }
            self.implicit_matches.push((number, exact.to_owned()));
        }
        self.outcomes.sort_by_key(|(number, _)| *number);
    }
}

/// What is the same for all questions of one caller about one operation.
pub(crate) struct EvaluationContext<'a> {
    policy_set: &'a PolicySet,
    caller: &'a Caller,
    request_context: RequestContext<'a>,
    principal: EntityRef<'a>,
    principal_uid: Arc<EntityUID>,
    /// The caller without and with attributes, where there is anything to tell.
    principal_without_attributes: OnceCell<Option<Entity>>,
    principal_with_attributes: OnceCell<Option<Entity>>,
    cached_context: Option<(CombinedAttributes<'a>, Option<AccessLevel>, Context)>,
    /// Of the resources that forbids name, those among the operation's parameters.
    mentioned_targets: OnceCell<BTreeSet<&'a str>>,
}

impl<'a> EvaluationContext<'a> {
    pub(crate) fn new(set: &'a PolicySet, caller: &'a Caller, facts: RequestContext<'a>) -> Self {
        let principal = EntityRef::for_caller(&set.entity_literals, caller);
        let uid = Arc::new(principal.uid(&set.entity_types));
        Self {
            policy_set: set,
            caller,
            request_context: facts,
            principal,
            principal_uid: uid,
            principal_without_attributes: OnceCell::new(),
            principal_with_attributes: OnceCell::new(),
            cached_context: None,
            mentioned_targets: OnceCell::new(),
        }
    }

    /// The resources that this part of the operation may be about beside the one it names.
    fn implicit_targets(&self, operation: &Operation, demand: &RequiredPermission) -> Vec<&'a str> {
        let possible = &self.policy_set.implicit_targets;
        let mentioned = self.mentioned_targets.get_or_init(|| possible.find_mentioned(&operation.parameters));
        possible.find_targets(operation, demand, mentioned)
    }

    /// How the policies come out whose scope matches: all of them on what is asked, and forbids also on what it may be about.
    /// `unknown_arguments`: policies that read arguments count for the caller.
    pub(crate) fn evaluate(&mut self, ask: &PolicyQuery<'_>, unknown_arguments: bool) -> Evaluation {
        let mut judgement = self.evaluate_query(ask, PolicyFilter::All, unknown_arguments);
        if let PolicyQuery::Permission { operation, permission: demand } = *ask {
            for exact in self.implicit_targets(operation, demand) {
                let as_if = with_resource(demand, exact);
                let ask = PolicyQuery::Permission { operation, permission: &as_if };
                judgement.merge_implicit_target(
                    exact,
                    self.evaluate_query(&ask, PolicyFilter::ForbidsNaming(exact), unknown_arguments),
                );
            }
        }
        judgement
    }

    fn evaluate_query(
        &mut self,
        ask: &PolicyQuery<'_>,
        which: PolicyFilter<'_>,
        unknown_arguments: bool,
    ) -> Evaluation {
        self.try_evaluate_query(ask, which, unknown_arguments).unwrap_or_else(|error| {
            tracing::warn!(error, query = query.title(), "a query could not be evaluated");
            Evaluation { query_error: Some(error), ..Evaluation::default() }
        })
    }

    fn try_evaluate_query(
        &mut self,
        ask: &PolicyQuery<'_>,
        which: PolicyFilter<'_>,
        unknown_arguments: bool,
    ) -> Result<Evaluation, String> {
        let set = self.policy_set;
        let cast = EntitySet::new(&set.entity_literals, ask, &self.request_context)?;
        let candidates = self.candidate_policies(&cast, which);
        let mut wanted = CombinedAttributes::new(&set.distinct_attributes);
        let mut conditions = false;
        for number in &candidates {
            if let Some(CompiledPolicy { condition: Some(_), attributes_index: needs, .. }) =
                set.compiled_policy(*number)
            {
                conditions = true;
                wanted.include_attributes(*needs);
            }
        }
        if !conditions {
            let outcomes = candidates.into_iter().map(|number| (number, PolicyOutcome::Satisfied)).collect();
            return Ok(Evaluation { outcomes, ..Evaluation::default() });
        }
        let (request, entities) = self.build_request(ask, &cast, wanted)?;
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        // Templates are not loaded: there is no slot to fill.
        let slots = SlotEnv::new();
        let mut outcomes = Vec::with_capacity(candidates.len());
        for number in candidates {
            let Some(compiled) = set.compiled_policy(number) else { continue };
            let outcome = match &compiled.condition {
                _ if unknown_arguments && compiled.reads_arguments => {
                    if compiled.is_forbid {
                        PolicyOutcome::NotSatisfied
                    } else {
                        PolicyOutcome::Satisfied
                    }
                }
                None => PolicyOutcome::Satisfied,
                Some(condition) => evaluate_condition(&evaluator, condition, &slots, &compiled.checked.id),
            };
            if let PolicyOutcome::Failed(error) = &outcome {
                tracing::warn!(
                    policy = compiled.checked.id,
                    error,
                    query = query.title(),
                    "a policy could not be evaluated"
                );
            }
            outcomes.push((number, outcome));
        }
        Ok(Evaluation { outcomes, ..Evaluation::default() })
    }

    /// The policies whose scope matches.
    fn candidate_policies(&self, cast: &EntitySet<'_>, which: PolicyFilter<'_>) -> Vec<u32> {
        let set = self.policy_set;
        let mut found = set.index.find_candidates(
            &cast.action.scope_tests(),
            &self.principal.scope_tests(),
            &cast.resource.scope_tests(),
        );
        if let PolicyFilter::ForbidsNaming(exact) = which {
            found.retain(|number| set.implicit_targets.is_named_by(exact, *number));
        }
        found
    }

    /// What the policies that can apply to a question read together.
    pub(crate) fn required_attributes(
        &self,
        ask: &PolicyQuery<'_>,
        which: PolicyFilter<'_>,
    ) -> CombinedAttributes<'a> {
        let set = self.policy_set;
        let mut wanted = CombinedAttributes::new(&set.distinct_attributes);
        // What is no question fails where it is judged.
        if let Ok(cast) = EntitySet::new(&set.entity_literals, ask, &self.request_context) {
            for number in self.candidate_policies(&cast, which) {
                if let Some(CompiledPolicy { condition: Some(_), attributes_index: needs, .. }) =
                    set.compiled_policy(number)
                {
                    wanted.include_attributes(*needs);
                }
            }
        }
        wanted
    }

    /// The tags of the resource in question. An error: nobody looked, so it is not known that it has none.
    fn resource_tags(&self, ask: &PolicyQuery<'_>) -> Result<Option<&'a BTreeMap<String, String>>, String> {
        let PolicyQuery::Permission {
            permission: RequiredPermission { resource: Resource::Arn(arn), .. },
            ..
        } = ask
        else {
            return Ok(None);
        };
        let tags = self.request_context.tags.and_then(|tags| tags.get(arn));
        tags.map(Some).ok_or_else(|| format!("the tags of {arn} are not known"))
    }

    /// What Cedar must know for these policies.
    fn build_request(
        &mut self,
        ask: &PolicyQuery<'_>,
        cast: &EntitySet<'_>,
        wanted: CombinedAttributes<'a>,
    ) -> Result<(Request, Entities), String> {
        let set = self.policy_set;
        let known = if wanted.reads_principal {
            &self.principal_with_attributes
        } else {
            &self.principal_without_attributes
        };
        let its_principal = known.get_or_init(|| {
            let attributes =
                if wanted.reads_principal { entities::caller_attributes(self.caller) } else { Vec::new() };
            self.principal.to_entity(&set.entity_literals, &self.principal_uid, attributes, None)
        });
        let (action, resource) = (cast.action.uid(&set.entity_types), cast.resource.uid(&set.entity_types));
        let attributes = if wanted.reads_resource { cast.resource_attributes(ask) } else { Vec::new() };
        let tags = if wanted.reads_tags { self.resource_tags(ask)? } else { None };
        let all = [
            its_principal.clone(),
            cast.action.to_entity(&set.entity_literals, &action, Vec::new(), None),
            cast.resource.to_entity(&set.entity_literals, &resource, attributes, tags),
        ];
        let entities = Entities::from_entities(
            all.into_iter().flatten(),
            None::<&NoEntitiesSchema>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )
        .map_err(|error| error.to_string())?;
        let level = match ask {
            PolicyQuery::Permission { permission: demand, .. } => Some(demand.access_level),
            _ => None,
        };
        let context = match &self.cached_context {
            Some((known, at, context))
                if known.is_same_selection(&wanted)
                    && *at == level
                    && !wanted.reads_context_attribute("tool") =>
            {
                context.clone()
            }
            _ => {
                let made = build_cedar_context(&set.entity_types, ask, &self.request_context, &wanted)?;
                self.cached_context = Some((wanted, level, made.clone()));
                made
            }
        };
        let request = Request::new_unchecked(
            EntityUIDEntry::Known { euid: Arc::clone(&self.principal_uid), loc: None },
            EntityUIDEntry::known(action, None),
            EntityUIDEntry::known(resource, None),
            Some(context),
        );
        Ok((request, entities))
    }
}

fn evaluate_condition(
    evaluator: &Evaluator<'_>,
    condition: &Expr,
    slots: &SlotEnv,
    policy: &str,
) -> PolicyOutcome {
    let failed = |error: &dyn std::fmt::Display| {
        PolicyOutcome::Failed(format!("error while evaluating policy `{policy}`: {error}"))
    };
    match evaluator.interpret(condition, slots) {
        Ok(value) => match value.value_kind() {
            ValueKind::Lit(Literal::Bool(true)) => PolicyOutcome::Satisfied,
            ValueKind::Lit(Literal::Bool(false)) => PolicyOutcome::NotSatisfied,
            _ => failed(&"its condition is neither true nor false"),
        },
        Err(error) => failed(&error),
    }
}
