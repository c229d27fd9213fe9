//! A request that a step stopped: the refusal travels with all that is needed to record and to write it.

use crate::exchange::Identity;
use crate::outcome::PendingOutcome;
use durward_core::{Decision, Operation, Refusal};
use std::sync::Arc;

/// A refusal, the context that its protocol needs to write it, and the progress that the request had made.
pub(crate) struct Stopped<C> {
    pub(super) refusal: Refusal,
    /// `None`: the head of the request is all that is known.
    pub(super) refusal_context: Option<C>,
    pub(super) progress: Progress,
}

/// The progress of a request, which decides how it is recorded.
pub(super) enum Progress {
    /// Nothing was sent. Each part is there once the step that finds it out has passed.
    BeforeIntent {
        identity: Option<Arc<Identity>>,
        /// As recorded: sensitive parameters masked.
        operation: Option<Arc<Operation>>,
        decision: Option<Box<Decision>>,
    },
    /// The intent is in the journal, so the refusal is recorded as its outcome.
    AfterIntent(PendingOutcome),
    /// The outcome could not be recorded: the journal fails, and there is nothing left to record.
    OutcomeLost,
}

impl<C> Stopped<C> {
    /// Stopped before the caller was known.
    pub(super) fn unidentified(refusal: Refusal, context: Option<C>) -> Box<Self> {
        let progress = Progress::BeforeIntent { identity: None, operation: None, decision: None };
        Box::new(Self { refusal, refusal_context: context, progress })
    }

    /// Stopped before the operation was known.
    pub(super) fn identified(refusal: Refusal, context: Option<C>, identity: Arc<Identity>) -> Box<Self> {
        let progress = Progress::BeforeIntent { identity: Some(identity), operation: None, decision: None };
        Box::new(Self { refusal, refusal_context: context, progress })
    }

    /// Stopped with an operation that was not sent.
    pub(super) fn with_operation(
        refusal: Refusal,
        context: C,
        identity: Arc<Identity>,
        operation: Arc<Operation>,
        decision: Option<&Decision>,
    ) -> Box<Self> {
        let decision = decision.cloned().map(Box::new);
        let progress =
            Progress::BeforeIntent { identity: Some(identity), operation: Some(operation), decision };
        Box::new(Self { refusal, refusal_context: Some(context), progress })
    }

    /// Stopped after the intent was recorded.
    pub(super) fn after_intent(refusal: Refusal, context: C, pending: PendingOutcome) -> Box<Self> {
        Box::new(Self { refusal, refusal_context: Some(context), progress: Progress::AfterIntent(pending) })
    }

    /// Stopped because the outcome could not be recorded.
    pub(super) fn outcome_lost(refusal: Refusal, context: C) -> Box<Self> {
        Box::new(Self { refusal, refusal_context: Some(context), progress: Progress::OutcomeLost })
    }

    /// Returns true if the operation may have been executed.
    pub(super) fn may_have_been_sent(&self) -> bool {
        match &self.progress {
            Progress::BeforeIntent { .. } => false,
            Progress::AfterIntent(pending) => pending.may_have_been_sent(),
            Progress::OutcomeLost => true,
        }
    }

    /// Writes the refusal with another context.
    pub(super) fn with_context(mut self: Box<Self>, context: Option<C>) -> Box<Self> {
        self.refusal_context = context.or(self.refusal_context);
        self
    }
}
