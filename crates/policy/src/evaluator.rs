//! Evaluation of one caller's queries about one operation, by the policies whose scope matches.
//!
//! The index decides the scopes, and Cedar's evaluator the conditions. A query for which Cedar cannot be given all that a policy
//! reads is not evaluated at all, and its error denies it.

use crate::{
    attribute_usage::AttributeUsage,
    cedar_context::{CedarContext, build_cedar_context},
    context_attributes::{ContextAttribute, ContextAttributeSet},
    entities::{self, EntityRef, EntitySet},
    implicit_targets::with_resource,
    policy_query::{PolicyQuery, RequestContext},
    policy_set::{CompiledPolicy, PolicySet},
    query_error::QueryError,
    required_attributes::CombinedAttributes,
    unrepresentable::{UnrepresentableParameter, UnrepresentableValues},
};
use cedar_policy_core::{
    ast::{
        Entity, EntityUID, EntityUIDEntry, Expr, Literal, PartialValue, Request, SlotEnv, Value, ValueKind,
    },
    entities::{Entities, NoEntitiesSchema, TCComputation},
    evaluator::Evaluator,
    extensions::Extensions,
};
use durward_core::{AccessLevel, Caller, FrontEndKind, Operation, RequiredPermission, Resource};
use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The outcome of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyOutcome {
    Satisfied,
    NotSatisfied,
    Failed(PolicyFailure),
}

/// Why a policy could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFailure {
    /// The text is Cedar's, for the log and the operator, not for the caller.
    #[error("{0}")]
    Evaluation(String),
    /// Its outcome depends on a value of the request that Cedar cannot hold.
    #[error("{0}")]
    UnrepresentableParameter(UnrepresentableParameter),
}

/// The outcomes of the policies whose scope matches a query.
#[derive(Debug, Default)]
pub(crate) struct Evaluation {
    /// By the numbers of the policies, ascending.
    pub outcomes: Vec<(u32, PolicyOutcome)>,
    /// Why the query could not be evaluated at all.
    pub query_error: Option<QueryError>,
    /// Forbids that are satisfied, or fail, because the request may affect this resource, which it does not name exactly.
    pub implicit_matches: Vec<(u32, String)>,
}

/// The policies that are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyFilter<'a> {
    All,
    /// The forbids that name this resource. For all other policies, a resource that the request only may affect is no reason.
    ForbidsNaming(&'a str),
}

impl Evaluation {
    /// Adds the outcomes of forbids on a resource that the request may affect. A forbid that is satisfied for one resource is
    /// satisfied; a forbid that fails for one resource has failed.
    fn merge_implicit_target(&mut self, target: &str, on_target: Evaluation) {
        self.query_error = self.query_error.take().or(on_target.query_error);
        for (number, outcome) in on_target.outcomes {
            let known = self.outcomes.iter_mut().find(|(known, _)| *known == number);
            match (known, &outcome) {
                (_, PolicyOutcome::NotSatisfied)
                | (Some((_, PolicyOutcome::Failed(_))), _)
                | (Some((_, PolicyOutcome::Satisfied)), PolicyOutcome::Satisfied) => continue,
                (Some((_, known)), _) => *known = outcome,
                (None, _) => self.outcomes.push((number, outcome)),
            }
            self.implicit_matches.push((number, target.to_owned()));
        }
        self.outcomes.sort_by_key(|(number, _)| *number);
    }
}

/// The parts of an evaluation that are the same for all queries of one caller about one operation.
pub(crate) struct EvaluationContext<'a> {
    policy_set: &'a PolicySet,
    caller: &'a Caller,
    request_context: RequestContext<'a>,
    principal: EntityRef<'a>,
    principal_uid: Arc<EntityUID>,
    principal_without_attributes: OnceCell<Option<Entity>>,
    principal_with_attributes: OnceCell<Option<Entity>>,
    cached_context: Option<CachedContext<'a>>,
    /// The resources among the operation's parameters that forbids name.
    mentioned_targets: OnceCell<BTreeSet<&'a str>>,
}

/// A context, and all that it depends on beside the caller and the operation. `context.tool`, which depends on the resource, is
/// never cached.
struct CachedContext<'a> {
    required: CombinedAttributes<'a>,
    access_level: Option<AccessLevel>,
    is_unknown_operation: bool,
    context: CedarContext,
}

impl<'a> EvaluationContext<'a> {
    pub(crate) fn new(
        policy_set: &'a PolicySet,
        caller: &'a Caller,
        request_context: RequestContext<'a>,
    ) -> Self {
        let principal = EntityRef::for_caller(&policy_set.entity_literals, caller);
        let principal_uid = Arc::new(principal.uid(&policy_set.entity_types));
        Self {
            policy_set,
            caller,
            request_context,
            principal,
            principal_uid,
            principal_without_attributes: OnceCell::new(),
            principal_with_attributes: OnceCell::new(),
            cached_context: None,
            mentioned_targets: OnceCell::new(),
        }
    }

    /// The resources that the operation may affect by this permission, beside the one that the permission names.
    fn implicit_targets(&self, operation: &Operation, permission: &RequiredPermission) -> Vec<&'a str> {
        let targets = &self.policy_set.implicit_targets;
        let mentioned = self.mentioned_targets.get_or_init(|| targets.find_mentioned(&operation.parameters));
        targets.find_targets(operation, permission, mentioned)
    }

    /// Evaluates all policies on the query itself, and the forbids that name it on each implicit target.
    ///
    /// A policy that reads one of the attributes in `unknown` is not evaluated: it counts in the caller's favor.
    pub(crate) fn evaluate(&mut self, query: &PolicyQuery<'_>, unknown: ContextAttributeSet) -> Evaluation {
        let mut evaluation = self.evaluate_query(query, PolicyFilter::All, unknown);
        if let PolicyQuery::Permission { operation, permission } = *query {
            for target in self.implicit_targets(operation, permission) {
                let permission = with_resource(permission, target);
                let query = PolicyQuery::Permission { operation, permission: &permission };
                let on_target = self.evaluate_query(&query, PolicyFilter::ForbidsNaming(target), unknown);
                evaluation.merge_implicit_target(target, on_target);
            }
        }
        evaluation
    }

    fn evaluate_query(
        &mut self,
        query: &PolicyQuery<'_>,
        filter: PolicyFilter<'_>,
        unknown: ContextAttributeSet,
    ) -> Evaluation {
        self.try_evaluate_query(query, filter, unknown).unwrap_or_else(|error| {
            tracing::warn!(%error, query = query.title(), "a query could not be evaluated");
            Evaluation { query_error: Some(error), ..Evaluation::default() }
        })
    }

    fn try_evaluate_query(
        &mut self,
        query: &PolicyQuery<'_>,
        filter: PolicyFilter<'_>,
        unknown: ContextAttributeSet,
    ) -> Result<Evaluation, QueryError> {
        let set = self.policy_set;
        let entity_set = EntitySet::new(&set.entity_literals, query, &self.request_context)?;
        let candidates = self.candidate_policies(&entity_set, filter);
        let mut required = CombinedAttributes::new(&set.distinct_attributes);
        let mut any_condition = false;
        for number in &candidates {
            if let Some(CompiledPolicy { condition: Some(_), attributes_index, .. }) =
                set.compiled_policy(*number)
            {
                any_condition = true;
                required.include(*attributes_index);
            }
        }
        if !any_condition {
            let outcomes = candidates.into_iter().map(|number| (number, PolicyOutcome::Satisfied)).collect();
            return Ok(Evaluation { outcomes, ..Evaluation::default() });
        }
        let (request, entities, unrepresentable) = self.build_request(query, &entity_set, required)?;
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        // Templates are not loaded, so there is no slot to fill.
        let slots = SlotEnv::new();
        let mut outcomes = Vec::with_capacity(candidates.len());
        for number in candidates {
            let Some(compiled) = set.compiled_policy(number) else { continue };
            let outcome = match &compiled.condition {
                None => PolicyOutcome::Satisfied,
                // In the favor of the caller, because this serves lists only: each call is decided with the real values.
                Some(_)
                    if compiled.checked.attribute_usage.required_attributes.context.intersects(unknown) =>
                {
                    if compiled.is_forbid {
                        PolicyOutcome::NotSatisfied
                    } else {
                        PolicyOutcome::Satisfied
                    }
                }
                Some(condition) => {
                    let usage = &compiled.checked.attribute_usage;
                    match find_unreadable(query, usage, unrepresentable.as_deref()) {
                        None => evaluate_condition(&evaluator, condition, &slots, &[]),
                        Some(values) => {
                            let (condition, parameters) = values.replace_reads(condition);
                            evaluate_condition(&evaluator, &condition, &slots, &parameters)
                        }
                    }
                }
            };
            if let PolicyOutcome::Failed(error) = &outcome {
                tracing::warn!(
                    policy = compiled.checked.id,
                    %error,
                    query = query.title(),
                    "a policy could not be evaluated"
                );
            }
            outcomes.push((number, outcome));
        }
        Ok(Evaluation { outcomes, ..Evaluation::default() })
    }

    /// The policies whose scope matches.
    fn candidate_policies(&self, entity_set: &EntitySet<'_>, filter: PolicyFilter<'_>) -> Vec<u32> {
        let set = self.policy_set;
        let mut found = set.index.find_candidates(
            &entity_set.action.scope_tests(),
            &self.principal.scope_tests(),
            &entity_set.resource.scope_tests(),
        );
        if let PolicyFilter::ForbidsNaming(target) = filter {
            found.retain(|number| set.implicit_targets.is_named_by(target, *number));
        }
        found
    }

    /// The attributes that the policies whose scope matches read together.
    pub(crate) fn required_attributes(
        &self,
        query: &PolicyQuery<'_>,
        filter: PolicyFilter<'_>,
    ) -> CombinedAttributes<'a> {
        let set = self.policy_set;
        let mut required = CombinedAttributes::new(&set.distinct_attributes);
        // A query that has no entities is denied when it is evaluated.
        if let Ok(entity_set) = EntitySet::new(&set.entity_literals, query, &self.request_context) {
            for number in self.candidate_policies(&entity_set, filter) {
                if let Some(CompiledPolicy { condition: Some(_), attributes_index, .. }) =
                    set.compiled_policy(number)
                {
                    required.include(*attributes_index);
                }
            }
        }
        required
    }

    /// The tags of the query's resource. A resource that was not looked up may have any tags, so that is an error.
    fn resource_tags(
        &self,
        query: &PolicyQuery<'_>,
    ) -> Result<Option<&'a BTreeMap<String, String>>, QueryError> {
        let PolicyQuery::Permission {
            permission: RequiredPermission { resource: Resource::Arn(arn), .. },
            ..
        } = query
        else {
            return Ok(None);
        };
        let tags = self.request_context.tags.and_then(|tags| tags.get(arn));
        tags.map(Some).ok_or_else(|| QueryError::UnknownTags { arn: arn.clone() })
    }

    /// Cedar's request, the entities that the policies read, and the values of the request that Cedar cannot hold.
    fn build_request(
        &mut self,
        query: &PolicyQuery<'_>,
        entity_set: &EntitySet<'_>,
        required: CombinedAttributes<'a>,
    ) -> Result<(Request, Entities, Option<Arc<UnrepresentableValues>>), QueryError> {
        let set = self.policy_set;
        let cached_principal = if required.reads_principal {
            &self.principal_with_attributes
        } else {
            &self.principal_without_attributes
        };
        let principal = cached_principal.get_or_init(|| {
            let attributes =
                if required.reads_principal { entities::caller_attributes(self.caller) } else { Vec::new() };
            self.principal.to_entity(&set.entity_literals, &self.principal_uid, attributes, None)
        });
        let action = entity_set.action.uid(&set.entity_types);
        let resource = entity_set.resource.uid(&set.entity_types);
        let attributes =
            if required.reads_resource { entity_set.resource_attributes(query) } else { Vec::new() };
        let tags = if required.reads_tags { self.resource_tags(query)? } else { None };
        let entities = [
            principal.clone(),
            entity_set.action.to_entity(&set.entity_literals, &action, Vec::new(), None),
            entity_set.resource.to_entity(&set.entity_literals, &resource, attributes, tags),
        ];
        // `AssumeAlreadyComputed`: the ancestors of each entity are complete, and closing the hierarchy again would cost more
        // than the evaluation of several policies.
        let entities = Entities::from_entities(
            entities.into_iter().flatten(),
            None::<&NoEntitiesSchema>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )?;
        let CedarContext { context, unrepresentable } = self.context(query, required)?;
        // Unchecked, because validation against a schema copies every action of it into each request; the policies are validated
        // when they are loaded.
        let request = Request::new_unchecked(
            EntityUIDEntry::Known { euid: Arc::clone(&self.principal_uid), loc: None },
            EntityUIDEntry::known(action, None),
            EntityUIDEntry::known(resource, None),
            Some(context),
        );
        Ok((request, entities, unrepresentable))
    }

    /// Cedar's context for a query: the cached one if the query's own would be equal.
    fn context(
        &mut self,
        query: &PolicyQuery<'_>,
        required: CombinedAttributes<'a>,
    ) -> Result<CedarContext, QueryError> {
        let access_level = match query {
            PolicyQuery::Permission { permission, .. } => Some(permission.access_level),
            PolicyQuery::Connect { .. } | PolicyQuery::Reveal { .. } => None,
        };
        let is_unknown_operation = query.is_unknown_operation();
        if let Some(cached) = &self.cached_context
            && cached.required.is_same_selection(&required)
            && cached.access_level == access_level
            && cached.is_unknown_operation == is_unknown_operation
            // `context.tool` is the name in the resource of the permission, which the other keys of the cache do not hold.
            && !required.reads_context(ContextAttribute::Tool)
        {
            return Ok(cached.context.clone());
        }
        let context =
            build_cedar_context(&self.policy_set.entity_types, query, &self.request_context, &required)?;
        self.cached_context =
            Some(CachedContext { required, access_level, is_unknown_operation, context: context.clone() });
        Ok(context)
    }
}

/// The values of a request that a policy cannot read: those that Cedar cannot hold, and tool arguments of another type than the one
/// as which the policy reads them.
fn find_unreadable<'v>(
    query: &PolicyQuery<'_>,
    usage: &AttributeUsage,
    unrepresentable: Option<&'v UnrepresentableValues>,
) -> Option<Cow<'v, UnrepresentableValues>> {
    let reads = usage.required_attributes.context;
    let unrepresentable = unrepresentable.filter(|values| reads.contains(values.attribute));
    let arguments = match query {
        PolicyQuery::Permission { operation, .. } if usage.reads_arguments => {
            operation.parameters.as_object().filter(|_| operation.front_end == FrontEndKind::Mcp)
        }
        _ => None,
    };
    match arguments.and_then(|arguments| usage.inferred_arguments.find_other_types(arguments)) {
        None => unrepresentable.map(Cow::Borrowed),
        Some(other_types) => {
            let values = match unrepresentable {
                Some(unrepresentable) => unrepresentable.values.clone().merge(other_types),
                None => other_types,
            };
            Some(Cow::Owned(UnrepresentableValues { attribute: ContextAttribute::Arguments, values }))
        }
    }
}

/// `unrepresentable`: the parameters for which the condition has unknowns, by their names.
fn evaluate_condition(
    evaluator: &Evaluator<'_>,
    condition: &Expr,
    slots: &SlotEnv,
    unrepresentable: &[UnrepresentableParameter],
) -> PolicyOutcome {
    let failed = |text: String| PolicyOutcome::Failed(PolicyFailure::Evaluation(text));
    match evaluator.partial_interpret(condition, slots) {
        Ok(PartialValue::Value(Value { value: ValueKind::Lit(Literal::Bool(true)), .. })) => {
            PolicyOutcome::Satisfied
        }
        Ok(PartialValue::Value(Value { value: ValueKind::Lit(Literal::Bool(false)), .. })) => {
            PolicyOutcome::NotSatisfied
        }
        // Strict validation excludes this. It is an error and not false: otherwise a forbid could silently not apply.
        Ok(PartialValue::Value(_)) => failed("its condition is neither true nor false".to_owned()),
        Ok(PartialValue::Residual(residual)) => {
            let parameter = residual.unknowns().find_map(|unknown| {
                let index: usize = unknown.name.parse().ok()?;
                unrepresentable.get(index)
            });
            match parameter {
                Some(parameter) => {
                    PolicyOutcome::Failed(PolicyFailure::UnrepresentableParameter(parameter.clone()))
                }
                None => failed(format!("its condition has no value: {residual}")),
            }
        }
        Err(error) => failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PolicyOutcome::{NotSatisfied, Satisfied};

    #[test]
    fn a_forbid_has_the_strictest_of_its_outcomes_on_all_targets() {
        let failed = || PolicyOutcome::Failed(PolicyFailure::Evaluation("e".to_owned()));
        for (on_request, on_target, expected, is_implicit) in [
            (Some(NotSatisfied), NotSatisfied, Some(NotSatisfied), false),
            (Some(NotSatisfied), Satisfied, Some(Satisfied), true),
            (Some(Satisfied), Satisfied, Some(Satisfied), false),
            (Some(Satisfied), NotSatisfied, Some(Satisfied), false),
            (Some(Satisfied), failed(), Some(failed()), true),
            (Some(failed()), Satisfied, Some(failed()), false),
            (None, Satisfied, Some(Satisfied), true),
            (None, NotSatisfied, None, false),
        ] {
            let case = format!("{on_request:?} {on_target:?}");
            let evaluation = |outcome: Option<PolicyOutcome>| Evaluation {
                outcomes: outcome.into_iter().map(|outcome| (7, outcome)).collect(),
                ..Evaluation::default()
            };
            let mut merged = evaluation(on_request);
            merged.merge_implicit_target("arn:x", evaluation(Some(on_target)));
            assert_eq!(merged.outcomes.pop().map(|(_, outcome)| outcome), expected, "{case}");
            assert_eq!(!merged.implicit_matches.is_empty(), is_implicit, "{case}");
        }
    }
}
