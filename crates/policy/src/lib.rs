//! Cedar: schema, entities, index, decisions, explanations and policy tests.
//!
//! The only room that names Cedar. Default deny; a satisfied `forbid` without `@approval` is final; an
//! evaluation error denies and names the policy; a policy set that does not validate is never put in force.

mod approval;
mod cases;
mod condition;
mod context;
mod entities;
mod explain;
mod handle;
mod index;
mod judge;
mod literals;
mod load;
mod notation;
mod possible;
mod problem;
mod reading;
mod schema;
mod set;
mod source;
mod vocabulary;

pub use approval::Approval;
pub use cases::{Asked, AskedCaller, CaseOutcome, CasesError, run_cases};
pub use explain::{Considered, Explanation, Outcome};
pub use handle::Policies;
pub use problem::{Excerpt, LoadError, Problem};
pub use set::{Ask, Facts, PolicySet, Question, Reads};
pub use vocabulary::{ParamType, Vocabulary};

#[cfg(test)]
mod sample;
