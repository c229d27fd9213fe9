//! The operations that create a resource, as their names tell.

/// `Restore`, `Copy` and `Import` are not here: such operations affect existing resources, too.
const CREATION_VERBS: [&str; 6] = ["Create", "Run", "Allocate", "Register", "Request", "Launch"];

/// Returns true if an operation creates a resource.
pub(crate) fn is_creation_operation(operation: &str) -> bool {
    CREATION_VERBS.iter().any(|verb| operation.starts_with(verb))
}

/// Returns true if an action creates resources of a type: its name says so (`CreateVpc`), or it creates them along with others.
pub(crate) fn creates_resource_type(action: &str, resource_type: &str) -> bool {
    // RunInstances creates the volumes and network interfaces of its instances (Service Authorization Reference, "Actions,
    // resources, and condition keys for Amazon EC2").
    if action == "ec2:RunInstances" && ["volume", "network-interface"].contains(&resource_type) {
        return true;
    }
    let name = action.split_once(':').map_or(action, |(_service, name)| name);
    let Some(noun) = CREATION_VERBS.iter().find_map(|verb| name.strip_prefix(verb)) else { return false };
    let (noun, resource_type) = (noun.to_lowercase(), resource_type.replace(['-', '_'], "").to_lowercase());
    noun == resource_type
        || noun.strip_suffix('s') == Some(&resource_type)
        || resource_type.strip_suffix('s') == Some(&noun)
}
