//! The traits of operations, which make them risky beyond their access level, by the rules of the overlay.

use super::credential_members::returns_credential_member;
use super::overlay::Overlay;
use durward_catalog::{RequiredAction, ServiceModel, ShapeKind};
use durward_core::{AccessLevel, OperationTraits};

/// Sets the traits of every operation. An operation that only reads or lists destroys nothing and gives no power, whatever
/// its name begins with.
pub fn set_operation_traits(service: &mut ServiceModel, overlay: &Overlay) {
    let rules = &overlay.traits;
    let has_credential_member: Vec<bool> = service
        .operations
        .iter()
        .map(|operation| returns_credential_member(service, operation, overlay))
        .collect();
    let shapes = &service.shapes;
    for (operation, has_credential_member) in service.operations.iter_mut().zip(has_credential_member) {
        let levels = operation.required_actions.iter().map(|one| one.access_level);
        let changes = levels.max().is_none_or(|level| level > AccessLevel::Read);
        let name = operation.name.as_str();
        let required = |member: &str| {
            let members =
                operation.input_shape.and_then(|id| shapes.get(id as usize)).map(|shape| &shape.kind);
            let ShapeKind::Structure { members, .. } = members? else { return None };
            members.iter().find(|one| one.name == member).map(|one| one.is_required)
        };
        // The permission that an optional parameter requires is a trait of the request that has it, not of the operation.
        let always = |one: &&RequiredAction| {
            one.required_if_member.as_ref().is_none_or(|path| required(path) == Some(true))
        };
        let permissions = operation.required_actions.iter().filter(always).any(|one| {
            one.access_level == AccessLevel::PermissionsManagement || one.action == "iam:PassRole"
        });
        operation.traits = OperationTraits {
            irreversible: changes && rules.irreversible.applies_to(&service.id, name),
            escalates: changes && (permissions || rules.escalates.applies_to(&service.id, name)),
            indirect: rules.indirect.applies_to(&service.id, name),
            returns_credentials: rules.returns_credentials.applies_to(&service.id, name)
                || (has_credential_member && !rules.returns_credentials.excludes(&service.id, name)),
        };
    }
}
