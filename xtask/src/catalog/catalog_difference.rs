//! How a new index differs from the committed one: the report to read after a pin is raised or the overlay is edited.

use durward_catalog::{Catalog, OperationModel, ServiceModel};
use std::collections::{BTreeMap, BTreeSet};

/// Names of each kind that are printed; of more only the number.
const MAX_SHOWN_NAMES: usize = 40;

/// Prints the operations that are new, were removed, or have other IAM actions, resources or traits.
pub fn print_difference(old: Vec<u8>, new: &[ServiceModel]) {
    // The catalog borrows its bytes for the life of the program; this one ends soon.
    let Ok(old) = Catalog::from_bytes(old.leak()) else {
        println!("the committed index is of another format; there is nothing to compare with");
        return;
    };
    let old = describe_operations(
        old.service_entries()
            .iter()
            .filter_map(|entry| old.service(&entry.id))
            .map(|service| (service.id.clone(), service.operations.clone())),
    );
    let new = describe_operations(new.iter().map(|service| (service.id.clone(), service.operations.clone())));
    let (before, after): (BTreeSet<&String>, BTreeSet<&String>) =
        (old.keys().collect(), new.keys().collect());
    let changed = before.intersection(&after).filter(|id| old.get(**id) != new.get(**id)).copied().collect();
    for (what, names) in [
        ("new operations", after.difference(&before).copied().collect::<Vec<_>>()),
        ("removed operations", before.difference(&after).copied().collect()),
        ("operations with other actions, resources or traits", changed),
    ] {
        if !names.is_empty() {
            let shown: Vec<&str> = names.iter().take(MAX_SHOWN_NAMES).map(|name| name.as_str()).collect();
            let more = if names.len() > MAX_SHOWN_NAMES { " ..." } else { "" };
            println!("{} {what}: {}{more}", names.len(), shown.join(" "));
        }
    }
}

/// `service:Operation` to the part of it that policies see.
fn describe_operations(
    services: impl Iterator<Item = (String, Vec<OperationModel>)>,
) -> BTreeMap<String, String> {
    let operations = services.flat_map(|(id, operations)| {
        operations.into_iter().map(move |one| {
            (format!("{id}:{}", one.name), format!("{:?} {:?}", one.required_actions, one.traits))
        })
    });
    operations.collect()
}
