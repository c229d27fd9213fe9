//! The request that a front end may send: only the pipeline makes one, from a request that was decided, recorded and
//! credentialed.

use crate::exchange::Identity;
use durward_core::Operation;
use durward_credential::IssuedCredential;
use std::sync::Arc;

/// A decided request, unchanged since the decision, with the credential to execute it.
pub struct Forwardable<R> {
    identity: Arc<Identity>,
    operation: Arc<Operation>,
    request: R,
    credential: Option<Arc<IssuedCredential>>,
}

impl<R> Forwardable<R> {
    pub(super) fn new(
        identity: Arc<Identity>,
        operation: Arc<Operation>,
        request: R,
        credential: Option<Arc<IssuedCredential>>,
    ) -> Self {
        Self { identity, operation, request, credential }
    }

    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The request, and the credential where the front end needs one.
    pub fn into_request(self) -> (R, Option<Arc<IssuedCredential>>) {
        (self.request, self.credential)
    }
}
