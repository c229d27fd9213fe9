//! What makes operations risky beyond their access level, by the rules of the overlay.

use super::overlay::Overlay;
use durward_catalog::Service;
use durward_core::{AccessLevel, Traits};

/// Sets the traits of every operation. An operation that only reads or lists destroys nothing and gives no power, whatever
/// its name begins with.
pub fn set(service: &mut Service, overlay: &Overlay) {
    let rules = &overlay.traits;
    for operation in &mut service.operations {
        let levels = operation.actions.iter().map(|one| one.access_level);
        let changes = levels.max().is_none_or(|level| level > AccessLevel::Read);
        let name = operation.name.as_str();
        let permissions = operation.actions.iter().any(|one| {
            one.access_level == AccessLevel::PermissionsManagement || one.action == "iam:PassRole"
        });
        operation.traits = Traits {
            irreversible: changes && rules.irreversible.holds(&service.id, name),
            escalates: changes && (permissions || rules.escalates.holds(&service.id, name)),
            indirect: rules.indirect.holds(&service.id, name),
            returns_credentials: rules.returns_credentials.holds(&service.id, name),
        };
    }
}
