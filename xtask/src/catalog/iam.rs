//! Which IAM actions an operation needs, in the order of trust: the overlay, the action of the same name, the action whose
//! documentation links to the operation, a few name rules. What is left has no action and is denied by default.

use super::arns::{self, Members};
use super::newer;
use super::overlay::{Overlay, ServiceOverlay};
use super::sources::Sources;
use durward_catalog::index::PrefixActions;
use durward_catalog::{ActionUse, ArnTemplate, Operation, Service};
use durward_core::AccessLevel;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub struct Action {
    /// `s3:GetObject`
    pub full: String,
    pub level: AccessLevel,
    /// Resource types, and whether each is always checked.
    types: Vec<(String, bool)>,
}

#[derive(Default)]
struct Prefix {
    /// By lower-case name.
    actions: BTreeMap<String, Action>,
    /// Resource type, as the data spell it, and its ARN template, by lower-case key.
    arns: BTreeMap<String, (String, String)>,
}

/// What the two packages say about IAM.
pub struct Authorization {
    prefixes: BTreeMap<String, Prefix>,
    /// (prefix, lower-case operation) to the actions that link to its documentation.
    links: BTreeMap<(String, String), BTreeSet<String>>,
    /// Actions that depend on iam:PassRole.
    pass_role: BTreeSet<String>,
}

impl Authorization {
    /// What the packages say, and the overlay's newer actions beside it.
    pub fn load(sources: &Sources, overlay: &Overlay) -> Result<Self, String> {
        let mut prefixes: BTreeMap<String, Prefix> = BTreeMap::new();
        for prefix in sources.iam_prefixes()? {
            let mut entry = Prefix::default();
            for (key, source) in sources.iam("actions", &prefix)?.as_object().into_iter().flatten() {
                entry.actions.insert(key.to_ascii_lowercase(), action(&prefix, source)?);
            }
            for (key, source) in sources.iam("resourceTypes", &prefix)?.as_object().into_iter().flatten() {
                let arn = source["arn"]
                    .as_str()
                    .ok_or_else(|| format!("resource type {prefix} {key} has no ARN"))?;
                let spelt = source["key"].as_str().unwrap_or(key).to_owned();
                entry.arns.insert(key.to_ascii_lowercase(), (spelt, in_account(arn)));
            }
            prefixes.insert(prefix, entry);
        }
        for (prefix, names) in &overlay.newer {
            let entry = prefixes.get_mut(prefix).ok_or_else(|| {
                format!("overlay.toml: [newer] names the prefix {prefix}, which does not exist")
            })?;
            for name in names {
                let action =
                    Action { full: format!("{prefix}:{name}"), level: newer::level(name), types: Vec::new() };
                if entry.actions.insert(name.to_ascii_lowercase(), action).is_some() {
                    return Err(format!(
                        "overlay.toml: the packages know {prefix}:{name} by now; take it out of [newer]"
                    ));
                }
            }
        }
        let (links, pass_role) = definition(&sources.definition()?);
        Ok(Self { prefixes, links, pass_role })
    }

    /// The action `prefix:Name`, whatever its case.
    pub fn action(&self, full: &str) -> Option<&Action> {
        let (prefix, name) = full.split_once(':')?;
        self.prefixes.get(prefix)?.actions.get(&name.to_ascii_lowercase())
    }

    pub fn actions(&self) -> Vec<PrefixActions> {
        self.prefixes
            .iter()
            .filter(|(_, entry)| !entry.actions.is_empty())
            .map(|(prefix, entry)| {
                let name = |action: &Action| {
                    action.full.split_once(':').map_or_else(String::new, |pair| pair.1.to_owned())
                };
                let mut actions: Vec<_> =
                    entry.actions.values().map(|action| (name(action), action.level)).collect();
                actions.sort_unstable();
                PrefixActions { prefix: prefix.clone(), actions }
            })
            .collect()
    }

    fn has(&self, prefix: &str, name: &str) -> Option<&Action> {
        self.prefixes.get(prefix)?.actions.get(&name.to_ascii_lowercase())
    }
}

/// The template with `${Account}` as its account, whatever the data call it (`${AccountId}`, `${VpcOwnerAccount}`).
fn in_account(arn: &str) -> String {
    let mut parts: Vec<&str> = arn.splitn(6, ':').collect();
    if let [_, _, _, _, account, _] = parts.as_mut_slice()
        && account.starts_with("${")
    {
        *account = "${Account}";
    }
    parts.join(":")
}

fn action(prefix: &str, source: &Value) -> Result<Action, String> {
    let name = source["name"].as_str().unwrap_or_default();
    // "Tagging, Write" is the level Tagging: the reference lists the special ones first.
    let level = source["accessLevel"].as_str().and_then(|text| AccessLevel::parse(text.split(", ").next()?));
    let types = source["resourceTypes"].as_array().into_iter().flatten();
    Ok(Action {
        full: format!("{prefix}:{name}"),
        level: level
            .ok_or_else(|| format!("{prefix}:{name} has the unknown level {}", source["accessLevel"]))?,
        types: types
            .map(|one| {
                (one["name"].as_str().unwrap_or_default().to_ascii_lowercase(), one["required"] == true)
            })
            .filter(|(name, _)| !name.is_empty() && name != "*")
            .collect(),
    })
}

type Definition = (BTreeMap<(String, String), BTreeSet<String>>, BTreeSet<String>);

fn definition(source: &Value) -> Definition {
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
pub fn map(
    service: &mut Service,
    model: &Value,
    authorization: &Authorization,
    overlay: &Overlay,
) -> Result<(), String> {
    service.iam_prefix = prefix(service, model, authorization, overlay);
    let reviewed = overlay.service(&service.id);
    let found_by_name = found_by_name(service, authorization, reviewed);
    let mut mapped = Vec::with_capacity(service.operations.len());
    for operation in &service.operations {
        let members = Members::of(service, operation).found_by_name(&found_by_name);
        mapped.push(uses(service, operation, authorization, reviewed, &members)?);
    }
    for (operation, actions) in service.operations.iter_mut().zip(mapped) {
        operation.actions = actions;
    }
    Ok(())
}

/// The resource types that an operation which reads, changes or deletes finds by a name.
fn found_by_name(
    service: &Service,
    authorization: &Authorization,
    reviewed: Option<&ServiceOverlay>,
) -> BTreeSet<String> {
    let on_existing = |operation: &&Operation| {
        ["Get", "Describe", "Delete", "Update", "Stop"].iter().any(|verb| operation.name.starts_with(verb))
    };
    let mut found = BTreeSet::new();
    for operation in service.operations.iter().filter(on_existing) {
        let members = Members::of(service, operation);
        for action in actions(service, operation, authorization, reviewed) {
            let prefix = action.full.split_once(':').map_or("", |pair| pair.0);
            let arns = authorization.prefixes.get(prefix).map(|entry| &entry.arns);
            for (kind, arn) in action.types.iter().filter_map(|(name, _)| arns?.get(name)) {
                let candidate =
                    arns::candidate(kind, arn, operation, reviewed, &members, action.types.len() == 1);
                let last = candidate.arns.iter().filter_map(|arn| arn.fill.last());
                if last.into_iter().any(|(_, path)| arns::ends_in_name(path)) {
                    found.insert(arns::plain(kind));
                }
            }
        }
    }
    found
}

/// The reviewed prefix, or of the names a service goes by the one that knows most of its operations.
fn prefix(service: &Service, model: &Value, authorization: &Authorization, overlay: &Overlay) -> String {
    if let Some(reviewed) = overlay.prefix(&service.id) {
        return reviewed.to_owned();
    }
    let endpoint = model["metadata"]["endpointPrefix"].as_str().unwrap_or_default();
    let mut best = (0, service.signing_name.as_str());
    for candidate in [service.signing_name.as_str(), endpoint, service.id.as_str()] {
        let known = service
            .operations
            .iter()
            .filter(|operation| authorization.has(candidate, &operation.name).is_some())
            .count();
        if known > best.0 {
            best = (known, candidate);
        }
    }
    best.1.to_owned()
}

fn uses(
    service: &Service,
    operation: &Operation,
    authorization: &Authorization,
    reviewed: Option<&ServiceOverlay>,
    members: &Members,
) -> Result<Vec<ActionUse>, String> {
    if service.iam_prefix == "apigateway" {
        return Ok(api_gateway(operation, authorization, members).into_iter().collect());
    }
    let mut uses: Vec<ActionUse> = Vec::new();
    for action in actions(service, operation, authorization, reviewed) {
        uses.extend(action_uses(action, operation, authorization, reviewed, members));
    }
    let passes = uses.iter().any(|one| authorization.pass_role.contains(&one.action));
    uses.extend(arns::pass_role(service, operation, &uses, passes, members));
    for extra in
        reviewed.into_iter().flat_map(|one| &one.uses).filter(|one| one.operations.contains(&operation.name))
    {
        let action =
            authorization.action(&extra.action).ok_or_else(|| format!("no action {}", extra.action))?;
        let plain = match &extra.resources {
            None => action_uses(action, operation, authorization, reviewed, members),
            Some(arns) => vec![ActionUse {
                action: action.full.clone(),
                access_level: action.level,
                resources: arns.iter().map(|arn| arns::explicit(arn, members)).collect(),
                when_member: None,
                resource_level: !action.types.is_empty(),
            }],
        };
        if extra.when.is_empty() {
            uses.extend(plain);
        } else {
            let present = extra.when.iter().filter(|path| members.has(path));
            uses.extend(present.flat_map(|path| {
                plain.iter().map(|one| ActionUse { when_member: Some(path.clone()), ..one.clone() })
            }));
        }
    }
    let mut uses = unique(uses);
    for one in &mut uses {
        one.resources = unique(std::mem::take(&mut one.resources));
    }
    for one in &uses {
        let paths =
            one.resources.iter().flat_map(|arn| arn.fill.iter().map(|(_, path)| path).chain(&arn.arn_member));
        for path in paths.chain(&one.when_member) {
            if !members.has(path) {
                return Err(format!("{}:{} has no input member {path}", service.id, operation.name));
            }
        }
    }
    Ok(uses)
}

/// In the same order, each once.
fn unique<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in list {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

fn actions<'a>(
    service: &Service,
    operation: &Operation,
    authorization: &'a Authorization,
    reviewed: Option<&ServiceOverlay>,
) -> Vec<&'a Action> {
    let prefix = service.iam_prefix.as_str();
    let name = operation.name.as_str();
    if let Some(listed) = reviewed.and_then(|one| one.operations.get(&operation.name)) {
        return listed.iter().filter_map(|action| authorization.action(action)).collect();
    }
    if let Some(same) = authorization.has(prefix, name) {
        return vec![same];
    }
    let key = (prefix.to_owned(), name.to_ascii_lowercase());
    if let Some(linked) = authorization.links.get(&key)
        && let [one] = linked.iter().collect::<Vec<_>>().as_slice()
        && let Some(action) = authorization.action(one)
    {
        return vec![action];
    }
    alike(name).iter().find_map(|name| authorization.has(prefix, name)).into_iter().collect()
}

/// Other names under which IAM may know an operation.
fn alike(name: &str) -> Vec<String> {
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

/// What one action demands: a use for each resource type that is always checked, one for each optional type that the
/// request names, or one whose optional types are alternatives.
fn action_uses(
    action: &Action,
    operation: &Operation,
    authorization: &Authorization,
    reviewed: Option<&ServiceOverlay>,
    members: &Members,
) -> Vec<ActionUse> {
    let prefix = action.full.split_once(':').map_or("", |pair| pair.0);
    let arns_of = |name: &str| authorization.prefixes.get(prefix).and_then(|entry| entry.arns.get(name));
    let one = |resources: Vec<ArnTemplate>, when_member: Option<String>| ActionUse {
        action: action.full.clone(),
        access_level: action.level,
        resources,
        when_member,
        resource_level: !action.types.is_empty(),
    };
    let alone = action.types.len() == 1;
    let candidates: Vec<(arns::Candidate, bool)> = action
        .types
        .iter()
        .filter_map(|(name, required)| {
            let (kind, arn) = arns_of(name)?;
            Some((arns::candidate(kind, arn, operation, reviewed, members, alone), *required))
        })
        .collect();
    if candidates.iter().any(|(_, required)| *required) {
        let mut uses = Vec::new();
        for (at, (candidate, required)) in candidates.iter().enumerate() {
            let shared = candidate.generic_member().filter(|member| {
                let mut others = candidates.iter().enumerate().filter(|(other, _)| *other != at);
                others.any(|(_, (other, _))| other.generic_member() == Some(member))
            });
            if let Some(member) = shared {
                // Several types, one member for the ARN: it is of one of them.
                uses.push(one(vec![arns::whole(member.to_owned())], None));
            } else if *required {
                uses.push(one(candidate.arns.clone(), None));
            } else if candidate.filled
                && let Some(when) = candidate.telling_member(members)
            {
                uses.push(one(candidate.arns.clone(), Some(when)));
            }
        }
        return uses;
    }
    let (named, rest): (Vec<_>, Vec<_>) = candidates.into_iter().partition(|(candidate, _)| candidate.filled);
    if !named.is_empty() {
        return vec![one(named.into_iter().flat_map(|(candidate, _)| candidate.arns).collect(), None)];
    }
    if rest.iter().any(|(candidate, _)| candidate.partly) {
        let partly = rest.into_iter().filter(|(candidate, _)| candidate.partly);
        return vec![one(partly.flat_map(|(candidate, _)| candidate.arns).collect(), None)];
    }
    let by_arn = rest.iter().find_map(|(candidate, _)| candidate.generic_member().map(str::to_owned));
    vec![one(by_arn.map(arns::whole).into_iter().collect(), None)]
}

/// API Gateway's actions are HTTP methods on the path of the call (Service Authorization Reference, "API Gateway management").
fn api_gateway(operation: &Operation, authorization: &Authorization, members: &Members) -> Option<ActionUse> {
    let action = authorization.has("apigateway", &operation.method)?;
    let mut template = "arn:${Partition}:apigateway:${Region}::".to_owned();
    let mut fill = Vec::new();
    for segment in operation.path.split('/').skip(1) {
        template.push('/');
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(label) => {
                let wire = label.trim_end_matches('+');
                let member = members.by_wire_name(wire)?;
                template.extend(["${", &member, "}"]);
                fill.push((member.clone(), member));
            }
            None => template.push_str(segment),
        }
    }
    Some(ActionUse {
        action: action.full.clone(),
        access_level: action.level,
        resources: vec![ArnTemplate { template, fill, arn_member: None }],
        when_member: None,
        resource_level: true,
    })
}
