//! One caller's questions about one operation, put to the policies whose scope matches.
//!
//! Cedar's evaluator runs the conditions; the index has decided the scopes. What cannot be put to Cedar is not decided.

use crate::{
    context::context,
    entities::{self, Cast, Player},
    explain::Outcome,
    possible::as_if,
    reading::Wanted,
    set::{Ask, Compiled, Facts, PolicySet},
};
use cedar_policy_core::{
    ast::{Context, Entity, EntityUID, EntityUIDEntry, Expr, Literal, Request, SlotEnv, ValueKind},
    entities::{Entities, NoEntitiesSchema, TCComputation},
    evaluator::Evaluator,
    extensions::Extensions,
};
use durward_core::{AccessLevel, Caller, Demand, Operation, Resource};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How the policies that can apply came out.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub outcomes: Vec<(u32, Outcome)>,
    /// The question could not be put to Cedar at all.
    pub failed: Option<String>,
    /// Forbids that hold because the request may be about this resource, which it does not name exactly.
    pub possible: Vec<(u32, String)>,
}

/// Which policies are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which<'a> {
    All,
    /// The forbids that name this resource: for others it is no reason.
    Naming(&'a str),
}

impl Judgement {
    /// Takes in how forbids come out on a resource that the request may be about: what holds for one holds, what cannot be
    /// evaluated for one cannot.
    pub(crate) fn may_be(&mut self, exact: &str, on_it: Judgement) {
        self.failed = self.failed.take().or(on_it.failed);
        for (number, outcome) in on_it.outcomes {
            let known = self.outcomes.iter_mut().find(|(known, _)| *known == number);
            match (known, &outcome) {
                (_, Outcome::NotSatisfied)
                | (Some((_, Outcome::Failed(_))), _)
                | (Some((_, Outcome::Satisfied)), Outcome::Satisfied) => continue,
                (Some((_, known)), _) => *known = outcome,
                (None, _) => self.outcomes.push((number, outcome)),
            }
            self.possible.push((number, exact.to_owned()));
        }
        self.outcomes.sort_by_key(|(number, _)| *number);
    }
}

/// What is the same for all questions of one caller about one operation.
pub(crate) struct Session<'a> {
    set: &'a PolicySet,
    caller: &'a Caller,
    facts: Facts<'a>,
    principal: Player<'a>,
    uid: Arc<EntityUID>,
    /// The caller without and with attributes, where there is anything to tell.
    bare: OnceCell<Option<Entity>>,
    full: OnceCell<Option<Entity>>,
    context: Option<(Wanted<'a>, Option<AccessLevel>, Context)>,
    /// Of the resources that forbids name, those among the operation's parameters.
    mentioned: OnceCell<BTreeSet<&'a str>>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(set: &'a PolicySet, caller: &'a Caller, facts: Facts<'a>) -> Self {
        let principal = Player::caller(&set.literals, caller);
        let uid = Arc::new(principal.uid(&set.types));
        Self {
            set,
            caller,
            facts,
            principal,
            uid,
            bare: OnceCell::new(),
            full: OnceCell::new(),
            context: None,
            mentioned: OnceCell::new(),
        }
    }

    /// The resources that this part of the operation may be about beside the one it names.
    fn possible(&self, operation: &Operation, demand: &Demand) -> Vec<&'a str> {
        let possible = &self.set.possible;
        let mentioned = self.mentioned.get_or_init(|| possible.mentioned(&operation.parameters));
        possible.of(operation, demand, mentioned)
    }

    /// How the policies come out whose scope matches: all of them on what is asked, and forbids also on what it may be about.
    /// `unknown_arguments`: policies that read arguments count for the caller.
    pub(crate) fn judge(&mut self, ask: &Ask<'_>, unknown_arguments: bool) -> Judgement {
        let mut judgement = self.judge_as(ask, Which::All, unknown_arguments);
        if let Ask::Demand { operation, demand } = *ask {
            for exact in self.possible(operation, demand) {
                let as_if = as_if(demand, exact);
                let ask = Ask::Demand { operation, demand: &as_if };
                judgement.may_be(exact, self.judge_as(&ask, Which::Naming(exact), unknown_arguments));
            }
        }
        judgement
    }

    fn judge_as(&mut self, ask: &Ask<'_>, which: Which<'_>, unknown_arguments: bool) -> Judgement {
        self.try_judge(ask, which, unknown_arguments).unwrap_or_else(|error| {
            tracing::warn!(error, question = ask.title(), "a question could not be put to policy");
            Judgement { failed: Some(error), ..Judgement::default() }
        })
    }

    fn try_judge(
        &mut self,
        ask: &Ask<'_>,
        which: Which<'_>,
        unknown_arguments: bool,
    ) -> Result<Judgement, String> {
        let set = self.set;
        let cast = Cast::new(&set.literals, ask, &self.facts)?;
        let candidates = self.candidates(&cast, which);
        let mut wanted = Wanted::none_of(&set.needs);
        let mut conditions = false;
        for number in &candidates {
            if let Some(Compiled { condition: Some(_), needs, .. }) = set.compiled(*number) {
                conditions = true;
                wanted.add(*needs);
            }
        }
        if !conditions {
            let outcomes = candidates.into_iter().map(|number| (number, Outcome::Satisfied)).collect();
            return Ok(Judgement { outcomes, ..Judgement::default() });
        }
        let (request, entities) = self.scene(ask, &cast, wanted)?;
        let evaluator = Evaluator::new(request, &entities, Extensions::all_available());
        // Templates are not loaded: there is no slot to fill.
        let slots = SlotEnv::new();
        let mut outcomes = Vec::with_capacity(candidates.len());
        for number in candidates {
            let Some(compiled) = set.compiled(number) else { continue };
            let outcome = match &compiled.condition {
                _ if unknown_arguments && compiled.reads_arguments => {
                    if compiled.forbids {
                        Outcome::NotSatisfied
                    } else {
                        Outcome::Satisfied
                    }
                }
                None => Outcome::Satisfied,
                Some(condition) => evaluate(&evaluator, condition, &slots, &compiled.checked.id),
            };
            if let Outcome::Failed(error) = &outcome {
                tracing::warn!(
                    policy = compiled.checked.id,
                    error,
                    question = ask.title(),
                    "a policy could not be evaluated"
                );
            }
            outcomes.push((number, outcome));
        }
        Ok(Judgement { outcomes, ..Judgement::default() })
    }

    /// The policies whose scope matches.
    fn candidates(&self, cast: &Cast<'_>, which: Which<'_>) -> Vec<u32> {
        let set = self.set;
        let mut found =
            set.index.candidates(&cast.action.keys(), &self.principal.keys(), &cast.resource.keys());
        if let Which::Naming(exact) = which {
            found.retain(|number| set.possible.is_named_by(exact, *number));
        }
        found
    }

    /// What the policies that can apply to a question read together.
    pub(crate) fn wanted(&self, ask: &Ask<'_>, which: Which<'_>) -> Wanted<'a> {
        let set = self.set;
        let mut wanted = Wanted::none_of(&set.needs);
        // What is no question fails where it is judged.
        if let Ok(cast) = Cast::new(&set.literals, ask, &self.facts) {
            for number in self.candidates(&cast, which) {
                if let Some(Compiled { condition: Some(_), needs, .. }) = set.compiled(number) {
                    wanted.add(*needs);
                }
            }
        }
        wanted
    }

    /// The tags of the resource in question. An error: nobody looked, so it is not known that it has none.
    fn tags_of(&self, ask: &Ask<'_>) -> Result<Option<&'a BTreeMap<String, String>>, String> {
        let Ask::Demand { demand: Demand { resource: Resource::Arn(arn), .. }, .. } = ask else {
            return Ok(None);
        };
        let tags = self.facts.tags.and_then(|tags| tags.get(arn));
        tags.map(Some).ok_or_else(|| format!("the tags of {arn} are not known"))
    }

    /// What Cedar must know for these policies.
    fn scene(
        &mut self,
        ask: &Ask<'_>,
        cast: &Cast<'_>,
        wanted: Wanted<'a>,
    ) -> Result<(Request, Entities), String> {
        let set = self.set;
        let known = if wanted.principal { &self.full } else { &self.bare };
        let its_principal = known.get_or_init(|| {
            let attributes =
                if wanted.principal { entities::caller_attributes(self.caller) } else { Vec::new() };
            self.principal.entity(&set.literals, &self.uid, attributes, None)
        });
        let (action, resource) = (cast.action.uid(&set.types), cast.resource.uid(&set.types));
        let attributes = if wanted.resource { cast.attributes(ask) } else { Vec::new() };
        let tags = if wanted.tags { self.tags_of(ask)? } else { None };
        let all = [
            its_principal.clone(),
            cast.action.entity(&set.literals, &action, Vec::new(), None),
            cast.resource.entity(&set.literals, &resource, attributes, tags),
        ];
        let entities = Entities::from_entities(
            all.into_iter().flatten(),
            None::<&NoEntitiesSchema>,
            TCComputation::AssumeAlreadyComputed,
            Extensions::all_available(),
        )
        .map_err(|error| error.to_string())?;
        let level = match ask {
            Ask::Demand { demand, .. } => Some(demand.access_level),
            _ => None,
        };
        let context = match &self.context {
            Some((known, at, context)) if known.same(&wanted) && *at == level && !wanted.fact("tool") => {
                context.clone()
            }
            _ => {
                let made = context(&set.types, ask, &self.facts, &wanted)?;
                self.context = Some((wanted, level, made.clone()));
                made
            }
        };
        let request = Request::new_unchecked(
            EntityUIDEntry::Known { euid: Arc::clone(&self.uid), loc: None },
            EntityUIDEntry::known(action, None),
            EntityUIDEntry::known(resource, None),
            Some(context),
        );
        Ok((request, entities))
    }
}

fn evaluate(evaluator: &Evaluator<'_>, condition: &Expr, slots: &SlotEnv, policy: &str) -> Outcome {
    let failed = |error: &dyn std::fmt::Display| {
        Outcome::Failed(format!("error while evaluating policy `{policy}`: {error}"))
    };
    match evaluator.interpret(condition, slots) {
        Ok(value) => match value.value_kind() {
            ValueKind::Lit(Literal::Bool(true)) => Outcome::Satisfied,
            ValueKind::Lit(Literal::Bool(false)) => Outcome::NotSatisfied,
            _ => failed(&"its condition is neither true nor false"),
        },
        Err(error) => failed(&error),
    }
}
