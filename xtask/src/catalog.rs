//! `cargo xtask generate catalog`: crates/catalog/data/catalog.bin and manifest.json from pinned public packages.
//!
//! The result depends on the pinned packages, the overlay and this code only, byte for byte. The packages are kept in
//! `$CARGO_TARGET_DIR/xtask-catalog` and checked against their hashes before each use.

mod arn_members;
mod catalog_difference;
mod catalog_error;
mod credential_members;
mod endpoint_ruleset;
mod endpoints;
mod iam_actions;
mod inferred_access_level;
mod name_words;
mod operation_traits;
mod overlay;
mod reviewed_levels;
mod service_model;
mod source_packages;

use crate::generated_file::GeneratedFile;
use crate::repository::Repository;
pub use catalog_error::CatalogError;
use durward_catalog::index_format::{self, ActionOperations, CatalogIndex, PrefixActions};
use durward_catalog::{AwsProtocol, ServiceModel};
use serde_json::{Value, json};
use source_packages::SourcePackages;
use std::collections::{BTreeMap, BTreeSet};

/// The index and its manifest. Prints the operations without an IAM action, and how the index differs from the committed
/// one.
pub fn generate_catalog(repository: &Repository) -> Result<Vec<GeneratedFile>, CatalogError> {
    let data = repository.root.join("crates/catalog/data");
    let overlay_path = data.join("overlay.toml");
    let overlay_text =
        std::fs::read_to_string(&overlay_path).map_err(CatalogError::on_file("read", overlay_path))?;
    let overlay = overlay::Overlay::parse(&overlay_text)?;
    let sources = SourcePackages::fetch(&repository.target_directory)?;
    let (index, manifest, services) = generate_index(&sources, &overlay, &overlay_text)?;
    match std::fs::read(data.join("catalog.bin")) {
        Ok(committed) => catalog_difference::print_difference(committed, &services),
        Err(error) => println!("there is no committed index to compare with: {error}"),
    }
    Ok(vec![
        GeneratedFile { path: data.join("catalog.bin"), content: index },
        GeneratedFile { path: data.join("manifest.json"), content: manifest.into_bytes() },
    ])
}

fn generate_index(
    sources: &SourcePackages,
    overlay: &overlay::Overlay,
    overlay_text: &str,
) -> Result<(Vec<u8>, String, Vec<ServiceModel>), CatalogError> {
    let authorization = iam_actions::AuthorizationReference::load(sources, overlay)?;
    overlay.check_actions(&authorization)?;
    let mut services = Vec::new();
    let mut models = BTreeMap::new();
    for id in sources.service_ids()? {
        let model = sources.load_model(&id)?;
        let mut service = service_model::build_service(&id, &model, overlay)?;
        iam_actions::map_operation_actions(&mut service, &model, &authorization, overlay)?;
        operation_traits::set_operation_traits(&mut service, overlay);
        models.insert(id, (model["metadata"]["endpointPrefix"].as_str().unwrap_or_default()).to_owned());
        services.push(service);
    }
    overlay.check_operations(&services)?;
    let actions = authorization.prefix_actions();
    let users = users_of_actions(&services);
    let endpoints = endpoints::build_endpoint_table(sources, &models, overlay)?;
    let bytes = index_format::encode_index(&CatalogIndex {
        services: &services,
        iam_actions: &actions,
        action_operations: &users,
        endpoints: &endpoints,
    })?;
    let manifest = build_manifest(&services, &actions, &bytes, overlay_text);
    print_unmapped_operations(&services);
    Ok((bytes, manifest, services))
}

/// The table of operations without an IAM action, by service, and how many operations have one.
fn print_unmapped_operations(services: &[ServiceModel]) {
    let mut missing: Vec<(&str, usize, Vec<&str>)> = services
        .iter()
        .map(|service| {
            let without = service.operations.iter().filter(|one| one.required_actions.is_empty());
            (service.id.as_str(), service.operations.len(), without.map(|one| one.name.as_str()).collect())
        })
        .filter(|(_, _, without): &(_, _, Vec<&str>)| !without.is_empty())
        .collect();
    missing.sort_by_key(|(id, _, without)| (std::cmp::Reverse(without.len()), *id));
    println!("operations without an IAM action (unknown, denied by default):");
    for (id, operations, without) in &missing {
        println!("{:>6} of {operations:>4}  {id}: {}", without.len(), without.join(" "));
    }
    let all: usize = services.iter().map(|service| service.operations.len()).sum();
    let without: usize = missing.iter().map(|(_, _, without)| without.len()).sum();
    println!(
        "{} of {all} operations have an action ({:.2} %)",
        all - without,
        100.0 * (all - without) as f64 / all as f64
    );
}

fn users_of_actions(services: &[ServiceModel]) -> Vec<ActionOperations> {
    let mut users: BTreeMap<&str, BTreeSet<(u32, &str)>> = BTreeMap::new();
    for (at, service) in services.iter().enumerate() {
        for operation in &service.operations {
            for needed in &operation.required_actions {
                users.entry(&needed.action).or_default().insert((at as u32, &operation.name));
            }
        }
    }
    users
        .into_iter()
        .map(|(action, users)| ActionOperations {
            action: action.to_owned(),
            operations: users.into_iter().map(|(at, name)| (at, name.to_owned())).collect(),
        })
        .collect()
}

fn build_manifest(
    services: &[ServiceModel],
    actions: &[PrefixActions],
    bytes: &[u8],
    overlay_text: &str,
) -> String {
    let operations = || services.iter().flat_map(|service| &service.operations);
    let protocol =
        |wanted: AwsProtocol| services.iter().filter(|service| service.protocols.contains(&wanted)).count();
    let traits = |test: fn(&durward_core::OperationTraits) -> bool| {
        operations().filter(|one| test(&one.traits)).count()
    };
    let packages: Vec<Value> = source_packages::PINNED_PACKAGES
        .iter()
        .map(|package| {
            json!({
                "registry": package.registry.as_str(),
                "name": package.name,
                "version": package.version,
                "sha256": package.sha256,
                "licence": package.licence,
            })
        })
        .collect();
    let manifest = json!({
        "packages": packages,
        "overlay_sha256": source_packages::sha256_hex(overlay_text.as_bytes()),
        "index_sha256": source_packages::sha256_hex(bytes),
        "index_bytes": bytes.len(),
        "services": services.len(),
        "operations": operations().count(),
        "operations_without_action": operations().filter(|one| one.required_actions.is_empty()).count(),
        "shapes": services.iter().map(|service| service.shapes.len()).sum::<usize>(),
        "iam_prefixes": actions.len(),
        "iam_actions": actions.iter().map(|prefix| prefix.actions.len()).sum::<usize>(),
        "services_speaking": {
            "query": protocol(AwsProtocol::Query),
            "ec2": protocol(AwsProtocol::Ec2),
            "json10": protocol(AwsProtocol::Json10),
            "json11": protocol(AwsProtocol::Json11),
            "rest-json": protocol(AwsProtocol::RestJson),
            "rest-xml": protocol(AwsProtocol::RestXml),
            "rpc-v2-cbor": protocol(AwsProtocol::RpcV2Cbor),
        },
        "operations_with_trait": {
            "irreversible": traits(|one| one.irreversible),
            "escalates": traits(|one| one.escalates),
            "indirect": traits(|one| one.indirect),
            "returns_credentials": traits(|one| one.returns_credentials),
        },
    });
    // A manifest of strings and numbers always serialises.
    let mut text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
    text.push('\n');
    text
}
