//! Cedar: schema, entities, index, decisions, explanations and policy tests.
//!
//! The only room that names Cedar. Default deny; a satisfied `forbid` without `@approval` is final; an
//! evaluation error denies and names the policy; a policy set that does not validate is never put in force.

mod approval_annotations;
mod attribute_usage;
mod cedar_context;
mod cedar_json;
mod entities;
mod entity_literals;
mod evaluator;
mod explanation;
mod implicit_targets;
mod load_error;
mod policy_directory;
mod policy_loader;
mod policy_set;
mod policy_store;
mod policy_tests;
mod residual_condition;
mod schema;
mod schema_source;
mod scope_index;

pub use approval_annotations::ApprovalRule;
pub use explanation::{EvaluatedPolicy, Explanation, PolicyOutcome};
pub use load_error::{PolicyLoadError, PolicyProblem, SourceExcerpt};
pub use policy_set::{AttributeReads, AuthorizationRequest, PolicyQuery, PolicySet, RequestContext};
pub use policy_store::PolicyStore;
pub use policy_tests::{CallerInput, PolicyQueryInput, PolicyTestError, PolicyTestResult, run_policy_tests};
pub use schema_source::{ParameterType, SchemaSource};

#[cfg(test)]
mod test_fixtures;
