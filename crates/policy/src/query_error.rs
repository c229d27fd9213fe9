//! Why a query could not be evaluated at all. Each of these denies the query.

use cedar_policy_core::{entities::err::EntitiesError, evaluator::EvaluationError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// Cedar's entity hierarchy has no cycles, so such an action cannot be an entity.
    #[error("the action `{action}` would be a member of itself")]
    ActionInItself { action: String },
    #[error("the tags of {arn} are not known")]
    UnknownTags { arn: String },
    #[error("no model of the operation knows the parameter `{name}`")]
    UnmodeledParameter { name: String },
    #[error("the request has tags in a parameter that no model of the operation knows")]
    UnmodeledTags,
    #[error("the context is not a record")]
    ContextNotARecord,
    #[error("`{text}` is not a value of the extension function `{function}`")]
    NotAnExtensionValue { function: &'static str, text: String },
    #[error(transparent)]
    Entities(Box<EntitiesError>),
    #[error(transparent)]
    Evaluation(Box<EvaluationError>),
}

impl From<EntitiesError> for QueryError {
    fn from(error: EntitiesError) -> Self {
        Self::Entities(Box::new(error))
    }
}

impl From<EvaluationError> for QueryError {
    fn from(error: EvaluationError) -> Self {
        Self::Evaluation(Box::new(error))
    }
}
