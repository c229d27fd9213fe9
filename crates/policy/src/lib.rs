//! Cedar policies: schema, loading, index, decisions, explanations and policy tests.
//!
//! Promises:
//! - Default deny. A satisfied `forbid` without `@approval` is final.
//! - A policy that cannot be evaluated denies, and the log names it.
//! - A policy set with any problem is never put in force; the last good set stays.
//! - Only this crate names Cedar, so that Cedar's interface can change without touching another crate.
//!
//! Begin with [`PolicyStore`]: it keeps the set in force, [`PolicySet::decide_operation`] decides with it, and
//! [`PolicySet::explain_operation`] says why. docs/policies.md describes the policies themselves. The modules, from the bottom:
//!
//! | | |
//! |---|---|
//! | data | `policy_query`, `context_attributes`, `required_attributes`, `parameter_type`, `arn_parts` |
//! | loading | `policy_directory`, `policy_loader`, `schema`, `attribute_usage`, `configured_names` |
//! | a compiled set | `policy_set`, `scope_index`, `entity_literals`, `residual_condition`, `implicit_targets` |
//! | deciding | `entities`, `cedar_context`, `unrepresentable`, `evaluator`, `policy_decision`, `explanation` |
//! | for people | `policy_query_input`, `policy_tests`, `load_error`, `schema_text`, `unknown_names` |

mod access_points;
mod approval_annotations;
mod arn_parts;
mod attribute_usage;
mod catalog_schema_source;
mod cedar_context;
mod cedar_json;
mod configured_names;
mod connection_choice;
mod context_attributes;
mod creation_operations;
mod entities;
mod entity_literals;
mod evaluator;
mod explanation;
mod implicit_targets;
mod inferred_argument;
mod load_error;
mod parameter_type;
mod policy_decision;
mod policy_directory;
mod policy_loader;
mod policy_query;
mod policy_query_input;
mod policy_set;
mod policy_store;
mod policy_tests;
mod query_error;
mod required_attributes;
mod residual_condition;
mod schema;
mod schema_source;
mod schema_text;
mod scope_index;
mod unknown_names;
mod unrepresentable;

pub use approval_annotations::ApprovalRule;
pub use configured_names::{ConfiguredNames, NameKind};
pub use connection_choice::{ConnectionCandidate, ConnectionChoice};
pub use evaluator::{PolicyFailure, PolicyOutcome};
pub use explanation::{EvaluatedPolicy, Explanation};
pub use load_error::{PolicyLoadError, PolicyProblem, SourceExcerpt};
pub use parameter_type::ParameterType;
pub use policy_query::{AttributeReads, AuthorizationRequest, PolicyQuery, RequestContext};
pub use policy_query_input::{CallerInput, PolicyQueryError, PolicyQueryInput};
pub use policy_set::PolicySet;
pub use policy_store::PolicyStore;
pub use policy_tests::{PolicyTestError, PolicyTestResult, run_policy_tests};
pub use schema_source::{SchemaSource, UnnamedResource};
pub use schema_text::{SchemaTextError, render_schema};
pub use unrepresentable::UnrepresentableParameter;

#[cfg(test)]
mod test_fixtures;
