//! The facts that policies are checked against: the IAM actions that exist, and the parameters of their requests.
//!
//! The catalog implements [`SchemaSource`]; tests use a small table. Only the actions that a policy set names are looked up, so
//! loading does not slow down as the catalog grows.

use crate::parameter_type::ParameterType;
use durward_core::{AccessLevel, OperationTraits};
use std::collections::BTreeMap;

/// The knowledge about AWS that policies are checked against.
pub trait SchemaSource: Send + Sync {
    /// The access level of an IAM action (`s3:GetObject`). `None`: there is no such action.
    fn access_level(&self, action: &str) -> Option<AccessLevel>;
    /// Every action of an IAM service prefix (`s3`). Empty: there is no such service.
    fn service_actions(&self, prefix: &str) -> Vec<String>;
    /// Classifies a request for an action that names no resource by its effect on resources of this type (`table`, `role`).
    fn classify_unnamed_resource(&self, action: &str, resource_type: &str) -> UnnamedResource;
    /// The known action that is most like a misspelt one.
    fn closest_action(&self, action: &str) -> Option<String>;
    /// The request parameters of all operations that need the action, merged.
    fn request_parameters(&self, action: &str) -> BTreeMap<String, ParameterType>;
    /// The name and traits of the operation that represents an action in policy tests and explanations.
    fn representative_operation(&self, action: &str) -> Option<(String, OperationTraits)>;
}

/// The relation of a request that names no resource to the resources of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnnamedResource {
    /// It may affect any existing one. Also where the catalog cannot tell.
    AnyExisting,
    /// It creates a new one.
    Created,
    /// It does not affect resources of this type.
    Unrelated,
}
