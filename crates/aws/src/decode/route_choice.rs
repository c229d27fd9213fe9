//! The operations that a request head may mean.

use durward_catalog::{OperationModel, ServiceModel};
use std::sync::Arc;

/// One operation that a head may mean.
#[derive(Debug, Clone)]
pub(super) struct RouteChoice {
    pub service: Arc<ServiceModel>,
    pub operation_index: usize,
    /// Path labels of the REST protocols by member name, decoded.
    pub labels: Vec<(String, String)>,
}

impl RouteChoice {
    pub(super) fn operation_model(&self) -> Option<&OperationModel> {
        self.service.operations.get(self.operation_index)
    }
}

/// All operations that a head may mean, the preferred one first.
#[derive(Debug, Clone, Default)]
pub(super) struct AmbiguousRoute {
    pub candidates: Vec<RouteChoice>,
    /// The candidates need different IAM actions, so that only the parameters can tell which is meant.
    pub needs_parameters: bool,
}
