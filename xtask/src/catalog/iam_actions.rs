//! Which IAM actions an operation needs, in the order of trust: the overlay, the action of the same name, the action whose
//! documentation links to the operation, a few name rules. What is left has no action and is denied by default.

use super::arn_members::{self, InputMembers};
use super::catalog_error::CatalogError;
use super::inferred_access_level;
use super::overlay::{Overlay, ServiceOverlay};
use super::source_packages::SourcePackages;
use durward_catalog::index_format::PrefixActions;
use durward_catalog::{ArnTemplate, OperationModel, RequiredAction, ServiceModel};
use durward_core::AccessLevel;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub struct IamAction {
    /// `s3:GetObject`
    pub full_name: String,
    pub access_level: AccessLevel,
    /// Resource types, and whether each is always checked.
    resource_types: Vec<(String, bool)>,
}

#[derive(Default)]
struct IamPrefix {
    /// By lower-case name.
    actions: BTreeMap<String, IamAction>,
    /// Resource type, as the data spell it, and its ARN template, by lower-case key.
    arn_templates: BTreeMap<String, (String, String)>,
}

/// What the two packages say about IAM.
pub struct AuthorizationReference {
    prefixes: BTreeMap<String, IamPrefix>,
    /// (prefix, lower-case operation) to the actions that link to its documentation.
    documentation_links: BTreeMap<(String, String), BTreeSet<String>>,
    /// Actions that depend on iam:PassRole.
    pass_role_actions: BTreeSet<String>,
}

impl AuthorizationReference {
    /// What the packages say, and the overlay's newer actions beside it.
    pub fn load(sources: &SourcePackages, overlay: &Overlay) -> Result<Self, CatalogError> {
        let mut prefixes: BTreeMap<String, IamPrefix> = BTreeMap::new();
        for prefix in sources.iam_prefixes()? {
            let mut entry = IamPrefix::default();
            for (key, source) in sources.load_iam_file("actions", &prefix)?.as_object().into_iter().flatten()
            {
                entry.actions.insert(key.to_ascii_lowercase(), read_action(&prefix, source)?);
            }
            for (key, source) in
                sources.load_iam_file("resourceTypes", &prefix)?.as_object().into_iter().flatten()
            {
                let arn = source["arn"].as_str().ok_or_else(|| {
                    CatalogError::unknown_form(prefix.as_str(), format!("resource type {key} has no ARN"))
                })?;
                let spelt = source["key"].as_str().unwrap_or(key).to_owned();
                entry.arn_templates.insert(key.to_ascii_lowercase(), (spelt, normalize_account(arn)));
            }
            prefixes.insert(prefix, entry);
        }
        for (prefix, names) in &overlay.newer {
            let entry = prefixes.get_mut(prefix).ok_or_else(|| {
                CatalogError::UnusedOverlayEntries(vec![format!("[newer] of the prefix {prefix}")])
            })?;
            for name in names {
                let action = IamAction {
                    full_name: format!("{prefix}:{name}"),
                    access_level: inferred_access_level::infer_access_level(name),
                    resource_types: Vec::new(),
                };
                if entry.actions.insert(name.to_ascii_lowercase(), action).is_some() {
                    return Err(CatalogError::SupersededOverlayEntry(format!("{prefix}:{name}")));
                }
            }
        }
        let actions = || prefixes.values().flat_map(|entry| entry.actions.values());
        let unused = overlay
            .levels
            .unused_entries(actions().map(|action| (action.full_name.as_str(), action.access_level)));
        if !unused.is_empty() {
            return Err(CatalogError::UnusedOverlayEntries(unused));
        }
        for action in prefixes.values_mut().flat_map(|entry| entry.actions.values_mut()) {
            action.access_level = overlay.levels.correct_level(&action.full_name, action.access_level);
        }
        let (links, pass_role) = read_definition(&sources.load_iam_definition()?);
        Ok(Self { prefixes, documentation_links: links, pass_role_actions: pass_role })
    }

    /// The action `prefix:Name`, whatever its case.
    pub fn find_action(&self, full: &str) -> Option<&IamAction> {
        let (prefix, name) = full.split_once(':')?;
        self.prefixes.get(prefix)?.actions.get(&name.to_ascii_lowercase())
    }

    pub fn prefix_actions(&self) -> Vec<PrefixActions> {
        self.prefixes
            .iter()
            .filter(|(_, entry)| !entry.actions.is_empty())
            .map(|(prefix, entry)| {
                let name = |action: &IamAction| {
                    action.full_name.split_once(':').map_or_else(String::new, |pair| pair.1.to_owned())
                };
                let mut actions: Vec<_> =
                    entry.actions.values().map(|action| (name(action), action.access_level)).collect();
                actions.sort_unstable();
                PrefixActions { prefix: prefix.clone(), actions }
            })
            .collect()
    }

    fn find_in_prefix(&self, prefix: &str, name: &str) -> Option<&IamAction> {
        self.prefixes.get(prefix)?.actions.get(&name.to_ascii_lowercase())
    }
}

/// The template with `${Account}` as its account, whatever the data call it (`${AccountId}`, `${VpcOwnerAccount}`).
fn normalize_account(arn: &str) -> String {
    let mut parts: Vec<&str> = arn.splitn(6, ':').collect();
    if let [_, _, _, _, account, _] = parts.as_mut_slice()
        && account.starts_with("${")
    {
        *account = "${Account}";
    }
    parts.join(":")
}

fn read_action(prefix: &str, source: &Value) -> Result<IamAction, CatalogError> {
    let name = source["name"].as_str().unwrap_or_default();
    // "Tagging, Write" is the level Tagging: the reference lists the special ones first.
    let level = source["accessLevel"].as_str().and_then(|text| AccessLevel::parse(text.split(", ").next()?));
    let types = source["resourceTypes"].as_array().into_iter().flatten();
    Ok(IamAction {
        full_name: format!("{prefix}:{name}"),
        access_level: level.ok_or_else(|| {
            CatalogError::unknown_form(
                format!("{prefix}:{name}"),
                format!("access level {}", source["accessLevel"]),
            )
        })?,
        resource_types: types
            .map(|one| {
                (one["name"].as_str().unwrap_or_default().to_ascii_lowercase(), one["required"] == true)
            })
            .filter(|(name, _)| !name.is_empty() && name != "*")
            .collect(),
    })
}

type LinksAndPassRole = (BTreeMap<(String, String), BTreeSet<String>>, BTreeSet<String>);

fn read_definition(source: &Value) -> LinksAndPassRole {
    let mut links: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut pass_role = BTreeSet::new();
    for (prefix, service) in source.as_object().into_iter().flatten() {
        for (name, privilege) in service["privileges"].as_object().into_iter().flatten() {
            let link = privilege["api_documentation_link"].as_str().unwrap_or_default();
            if let Some((_, page)) = link.rsplit_once("/API_") {
                let operation = page.split('.').next().unwrap_or_default().to_ascii_lowercase();
                links.entry((prefix.clone(), operation)).or_default().insert(format!("{prefix}:{name}"));
            }
            let types = privilege["resource_types"].as_object().into_iter().flatten();
            let mut dependents =
                types.flat_map(|(_, one)| one["dependent_actions"].as_array().into_iter().flatten());
            if dependents.any(|one| one == "iam:PassRole") {
                pass_role.insert(format!("{prefix}:{name}"));
            }
        }
    }
    (links, pass_role)
}

/// Sets the service's IAM prefix and the actions of its operations.
pub fn map_operation_actions(
    service: &mut ServiceModel,
    model: &Value,
    authorization: &AuthorizationReference,
    overlay: &Overlay,
) -> Result<(), CatalogError> {
    service.iam_prefix = choose_iam_prefix(service, model, authorization, overlay);
    let reviewed = overlay.service_overlay(&service.id);
    let found_by_name = types_found_by_name(service, authorization, reviewed);
    let mut mapped = Vec::with_capacity(service.operations.len());
    for operation in &service.operations {
        let members = InputMembers::of_operation(service, operation).with_types_found_by_name(&found_by_name);
        mapped.push(operation_uses(service, operation, authorization, reviewed, &members)?);
    }
    for (operation, actions) in service.operations.iter_mut().zip(mapped) {
        operation.required_actions = actions;
    }
    Ok(())
}

/// The resource types that an operation which reads, changes or deletes finds by a name.
fn types_found_by_name(
    service: &ServiceModel,
    authorization: &AuthorizationReference,
    reviewed: Option<&ServiceOverlay>,
) -> BTreeSet<String> {
    let on_existing = |operation: &&OperationModel| {
        ["Get", "Describe", "Delete", "Update", "Stop"].iter().any(|verb| operation.name.starts_with(verb))
    };
    let mut found = BTreeSet::new();
    for operation in service.operations.iter().filter(on_existing) {
        let members = InputMembers::of_operation(service, operation);
        for action in operation_actions(service, operation, authorization, reviewed) {
            let prefix = action.full_name.split_once(':').map_or("", |pair| pair.0);
            let arns = authorization.prefixes.get(prefix).map(|entry| &entry.arn_templates);
            for (kind, arn) in action.resource_types.iter().filter_map(|(name, _)| arns?.get(name)) {
                let candidate = arn_members::resource_candidate(
                    kind,
                    arn,
                    operation,
                    reviewed,
                    &members,
                    action.resource_types.len() == 1,
                );
                let last = candidate.arn_templates.iter().filter_map(|arn| arn.placeholder_members.last());
                if last.into_iter().any(|(_, path)| arn_members::ends_in_name(path)) {
                    found.insert(arn_members::normalize_name(kind));
                }
            }
        }
    }
    found
}

/// The reviewed prefix, or of the names a service goes by the one that knows most of its operations.
fn choose_iam_prefix(
    service: &ServiceModel,
    model: &Value,
    authorization: &AuthorizationReference,
    overlay: &Overlay,
) -> String {
    if let Some(reviewed) = overlay.reviewed_prefix(&service.id) {
        return reviewed.to_owned();
    }
    let endpoint = model["metadata"]["endpointPrefix"].as_str().unwrap_or_default();
    let mut best = (0, service.signing_name.as_str());
    for candidate in [service.signing_name.as_str(), endpoint, service.id.as_str()] {
        let known = service
            .operations
            .iter()
            .filter(|operation| authorization.find_in_prefix(candidate, &operation.name).is_some())
            .count();
        if known > best.0 {
            best = (known, candidate);
        }
    }
    best.1.to_owned()
}

fn operation_uses(
    service: &ServiceModel,
    operation: &OperationModel,
    authorization: &AuthorizationReference,
    reviewed: Option<&ServiceOverlay>,
    members: &InputMembers,
) -> Result<Vec<RequiredAction>, CatalogError> {
    if service.iam_prefix == "apigateway" {
        return Ok(api_gateway_use(operation, authorization, members).into_iter().collect());
    }
    let mut uses: Vec<RequiredAction> = Vec::new();
    for action in operation_actions(service, operation, authorization, reviewed) {
        uses.extend(action_uses(action, operation, authorization, reviewed, members));
    }
    let passes = uses.iter().any(|one| authorization.pass_role_actions.contains(&one.action));
    uses.extend(arn_members::pass_role_uses(service, operation, &uses, passes, members));
    for extra in
        reviewed.into_iter().flat_map(|one| &one.uses).filter(|one| one.operations.contains(&operation.name))
    {
        let action = authorization.find_action(&extra.action).ok_or_else(|| {
            CatalogError::UnknownOverlayAction { service: service.id.clone(), action: extra.action.clone() }
        })?;
        let plain = match &extra.resources {
            None => action_uses(action, operation, authorization, reviewed, members),
            Some(arns) => vec![RequiredAction {
                action: action.full_name.clone(),
                access_level: action.access_level,
                resources: arns.iter().map(|arn| arn_members::reviewed_template(arn, members)).collect(),
                required_if_member: None,
                has_resource_level_permissions: !action.resource_types.is_empty(),
            }],
        };
        if extra.when.is_empty() {
            uses.extend(plain);
        } else {
            let present = extra.when.iter().filter(|path| members.has_member(path));
            uses.extend(present.flat_map(|path| {
                plain
                    .iter()
                    .map(|one| RequiredAction { required_if_member: Some(path.clone()), ..one.clone() })
            }));
        }
    }
    let mut uses = without_duplicates(uses);
    for one in &mut uses {
        one.resources = without_duplicates(std::mem::take(&mut one.resources));
    }
    for one in &uses {
        let paths = one
            .resources
            .iter()
            .flat_map(|arn| arn.placeholder_members.iter().map(|(_, path)| path).chain(&arn.arn_member));
        for path in paths.chain(&one.required_if_member) {
            if !members.has_member(path) {
                return Err(CatalogError::UnusedOverlayEntries(vec![format!(
                    "input member {path} of {}:{}",
                    service.id, operation.name
                )]));
            }
        }
    }
    Ok(uses)
}

/// In the same order, each once.
fn without_duplicates<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in list {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

fn operation_actions<'a>(
    service: &ServiceModel,
    operation: &OperationModel,
    authorization: &'a AuthorizationReference,
    reviewed: Option<&ServiceOverlay>,
) -> Vec<&'a IamAction> {
    let prefix = service.iam_prefix.as_str();
    let name = operation.name.as_str();
    if let Some(listed) = reviewed.and_then(|one| one.operations.get(&operation.name)) {
        return listed.iter().filter_map(|action| authorization.find_action(action)).collect();
    }
    if let Some(same) = authorization.find_in_prefix(prefix, name) {
        return vec![same];
    }
    let key = (prefix.to_owned(), name.to_ascii_lowercase());
    if let Some(linked) = authorization.documentation_links.get(&key)
        && let [one] = linked.iter().collect::<Vec<_>>().as_slice()
        && let Some(action) = authorization.find_action(one)
    {
        return vec![action];
    }
    alternative_names(name)
        .iter()
        .find_map(|name| authorization.find_in_prefix(prefix, name))
        .into_iter()
        .collect()
}

/// Other names under which IAM may know an operation.
fn alternative_names(name: &str) -> Vec<String> {
    let mut names = Vec::new();
    for whole in [name.strip_suffix("Batch"), name.strip_prefix("Batch")].into_iter().flatten() {
        names.push(whole.to_owned());
        names.extend(whole.strip_suffix("ies").map(|start| format!("{start}y")));
        names.extend(whole.strip_suffix("es").map(str::to_owned));
        names.extend(whole.strip_suffix('s').map(str::to_owned));
    }
    names.extend(name.strip_suffix("V2").map(str::to_owned));
    names.extend(name.strip_prefix("Delete").map(|rest| format!("Put{rest}")));
    names
}

/// The permissions that one action requires: one for each resource type that is always checked, one for each optional type that the
/// request names, or one whose optional types are alternatives.
fn action_uses(
    action: &IamAction,
    operation: &OperationModel,
    authorization: &AuthorizationReference,
    reviewed: Option<&ServiceOverlay>,
    members: &InputMembers,
) -> Vec<RequiredAction> {
    let prefix = action.full_name.split_once(':').map_or("", |pair| pair.0);
    let arns_of =
        |name: &str| authorization.prefixes.get(prefix).and_then(|entry| entry.arn_templates.get(name));
    let one = |resources: Vec<ArnTemplate>, when_member: Option<String>| RequiredAction {
        action: action.full_name.clone(),
        access_level: action.access_level,
        resources,
        required_if_member: when_member,
        has_resource_level_permissions: !action.resource_types.is_empty(),
    };
    let alone = action.resource_types.len() == 1;
    let candidates: Vec<(arn_members::ResourceCandidate, bool)> = action
        .resource_types
        .iter()
        .filter_map(|(name, required)| {
            let (kind, arn) = arns_of(name)?;
            Some((arn_members::resource_candidate(kind, arn, operation, reviewed, members, alone), *required))
        })
        .collect();
    if candidates.iter().any(|(_, required)| *required) {
        let mut uses = Vec::new();
        for (at, (candidate, required)) in candidates.iter().enumerate() {
            let shared = candidate.generic_arn_member().filter(|member| {
                let mut others = candidates.iter().enumerate().filter(|(other, _)| *other != at);
                others.any(|(_, (other, _))| other.generic_arn_member() == Some(member))
            });
            if let Some(member) = shared {
                // Several types, one member for the ARN: it is of one of them.
                uses.push(one(vec![arn_members::whole_arn_template(member.to_owned())], None));
            } else if *required {
                uses.push(one(candidate.arn_templates.clone(), None));
            } else if candidate.is_filled
                && let Some(when) = candidate.deciding_member(members)
            {
                uses.push(one(candidate.arn_templates.clone(), Some(when)));
            }
        }
        return uses;
    }
    let (named, rest): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|(candidate, _)| candidate.is_filled);
    if !named.is_empty() {
        return vec![one(
            named.into_iter().flat_map(|(candidate, _)| candidate.arn_templates).collect(),
            None,
        )];
    }
    if rest.iter().any(|(candidate, _)| candidate.is_partly_filled) {
        let partly = rest.into_iter().filter(|(candidate, _)| candidate.is_partly_filled);
        return vec![one(partly.flat_map(|(candidate, _)| candidate.arn_templates).collect(), None)];
    }
    let by_arn = rest.iter().find_map(|(candidate, _)| candidate.generic_arn_member().map(str::to_owned));
    vec![one(by_arn.map(arn_members::whole_arn_template).into_iter().collect(), None)]
}

/// API Gateway's actions are HTTP methods on the path of the call (Service Authorization Reference, "API Gateway management").
fn api_gateway_use(
    operation: &OperationModel,
    authorization: &AuthorizationReference,
    members: &InputMembers,
) -> Option<RequiredAction> {
    let action = authorization.find_in_prefix("apigateway", &operation.http_method)?;
    let mut template = "arn:${Partition}:apigateway:${Region}::".to_owned();
    let mut fill = Vec::new();
    for segment in operation.path_template.split('/').skip(1) {
        template.push('/');
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(label) => {
                let wire = label.trim_end_matches('+');
                let member = members.find_by_wire_name(wire)?;
                template.extend(["${", &member, "}"]);
                fill.push((member.clone(), member));
            }
            None => template.push_str(segment),
        }
    }
    Some(RequiredAction {
        action: action.full_name.clone(),
        access_level: action.access_level,
        resources: vec![ArnTemplate { template, placeholder_members: fill, arn_member: None }],
        required_if_member: None,
        has_resource_level_permissions: true,
    })
}
