//! Which input members fill the placeholders of an ARN template.
//!
//! Names differ between the models and the authorization data in suffixes, plurals and the resource type that is left out;
//! the rules below try them from the strictest to the loosest and leave a placeholder open rather than guess wildly.

use super::name_words;
use super::overlay::{ArnOverlay, ResourceOverlay, ServiceOverlay};
use durward_catalog::{
    ArnTemplate, MemberLocation, OperationModel, RequiredAction, ServiceModel, ShapeKind, ShapeMember,
};
use durward_core::AccessLevel;
use std::collections::BTreeSet;

/// An input member and whether it holds one text or a list of texts.
struct InputMember {
    name: String,
    wire_name: String,
    normalized_name: String,
    /// What it names: `db cluster` for `DBClusterIdentifiers`.
    subject: Vec<String>,
    is_text_list: bool,
    is_single_text: bool,
    is_required: bool,
}

impl InputMember {
    fn from_member(service: &ServiceModel, member: &ShapeMember, before: &str) -> Self {
        let is_text = |id| matches!(service.shape(id).map(|shape| &shape.kind), Some(ShapeKind::String));
        let list = match service.shape(member.shape).map(|shape| &shape.kind) {
            Some(ShapeKind::List { member, .. }) => is_text(*member),
            _ => false,
        };
        Self {
            name: format!("{before}{}", member.name),
            wire_name: member.wire_name.clone().unwrap_or_else(|| member.name.clone()),
            normalized_name: normalize_name(&member.name),
            subject: name_words::subject_words(&member.name),
            is_text_list: list,
            is_single_text: is_text(member.shape),
            is_required: member.is_required,
        }
    }

    fn member_path(&self) -> String {
        if self.is_text_list { format!("{}[]", self.name) } else { self.name.clone() }
    }

    /// A member that holds ARNs is the whole resource, never a part of one.
    fn is_part(&self) -> bool {
        !self.holds_arn()
    }

    fn holds_arn(&self) -> bool {
        self.normalized_name.ends_with("arn") || self.normalized_name.ends_with("arns")
    }
}

/// The top-level input members of one operation.
pub struct InputMembers {
    top_level: Vec<InputMember>,
    /// Resource types of the service, in lower case, that operations other than those that create find by name.
    types_found_by_name: BTreeSet<String>,
    /// Texts in the structures and lists of structures among them; `name` is the path.
    nested: Vec<InputMember>,
}

impl InputMembers {
    pub fn of_operation(service: &ServiceModel, operation: &OperationModel) -> Self {
        let input = operation.input_shape.map(|id| service.structure_members(id)).unwrap_or_default();
        let slots: Vec<InputMember> = input
            .iter()
            .filter(|member| member.location != MemberLocation::PrefixHeaders)
            .map(|member| InputMember::from_member(service, member, ""))
            .collect();
        let mut nested = Vec::new();
        for member in input.iter().filter(|member| member.is_required) {
            let kind = |id| service.shape(id).map(|shape| &shape.kind);
            let (inner, before) = match kind(member.shape) {
                Some(ShapeKind::Structure { members, .. }) => (members, format!("{}.", member.name)),
                Some(ShapeKind::List { member: item, .. }) => match kind(*item) {
                    Some(ShapeKind::Structure { members, .. }) => (members, format!("{}[].", member.name)),
                    _ => continue,
                },
                _ => continue,
            };
            nested.extend(
                inner
                    .iter()
                    .filter(|member| member.is_required)
                    .map(|member| InputMember::from_member(service, member, &before)),
            );
        }
        Self { top_level: slots, nested, types_found_by_name: BTreeSet::new() }
    }

    pub fn with_types_found_by_name(mut self, types: &BTreeSet<String>) -> Self {
        self.types_found_by_name.clone_from(types);
        self
    }

    /// Whether the path's first step is a member.
    pub fn has_member(&self, path: &str) -> bool {
        let first = path.split(['.', '[', '{']).next().unwrap_or_default();
        self.top_level.iter().any(|slot| slot.name == first)
    }

    pub fn find_by_wire_name(&self, wire: &str) -> Option<String> {
        self.top_level.iter().find(|slot| slot.wire_name == wire).map(|slot| slot.name.clone())
    }

    fn find_best(&self, test: impl Fn(&InputMember) -> bool) -> Option<String> {
        let usable = |slot: &&InputMember| (slot.is_single_text || slot.is_text_list) && test(slot);
        self.top_level
            .iter()
            .filter(usable)
            .min_by_key(|slot| (!slot.is_required, slot.is_text_list))
            .map(InputMember::member_path)
    }

    /// The one required member that passes; none when several do.
    fn find_only_required(&self, test: impl Fn(&InputMember) -> bool) -> Option<String> {
        only_required(&self.top_level, test)
    }

    /// `Name` or `Id`, when it is the only thing that the request must name; a new `Name` beside the `Id` is a value.
    fn find_bare_id(&self) -> Option<String> {
        const BARE_ID_NAMES: [&str; 4] = ["id", "identifier", "uuid", "name"];
        let naming = ["id", "identifier", "uuid", "name", "arn", "ids", "names", "arns"];
        let ids: Vec<&InputMember> = self
            .top_level
            .iter()
            .filter(|slot| slot.is_required && (slot.is_single_text || slot.is_text_list))
            .filter(|slot| naming.iter().any(|word| slot.normalized_name.ends_with(word)))
            .collect();
        match ids.as_slice() {
            [one] if BARE_ID_NAMES.contains(&one.normalized_name.as_str()) => Some(one.member_path()),
            [one, other] | [other, one]
                if other.normalized_name == "name"
                    && BARE_ID_NAMES[..3].contains(&one.normalized_name.as_str()) =>
            {
                Some(one.member_path())
            }
            _ => None,
        }
    }

    /// The one required text of a required member that passes.
    fn find_only_nested(&self, test: impl Fn(&InputMember) -> bool) -> Option<String> {
        only_required(&self.nested, test)
    }
}

fn only_required(slots: &[InputMember], test: impl Fn(&InputMember) -> bool) -> Option<String> {
    let mut found = slots
        .iter()
        .filter(|slot| slot.is_required && (slot.is_single_text || slot.is_text_list) && test(slot));
    let first = found.next()?;
    found.next().is_none().then(|| first.member_path())
}

/// Lower case, letters and digits only.
pub fn normalize_name(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Without the suffixes that say how a thing is named: `tablename`, `tableid`, `tablearns` are `table`.
fn strip_naming_suffix(key: &str) -> &str {
    const NAMING_SUFFIXES: [&str; 10] =
        ["identifiers", "identifier", "names", "name", "uuid", "ids", "id", "arns", "arn", "s"];
    for suffix in NAMING_SUFFIXES {
        if let Some(rest) = key.strip_suffix(suffix)
            && rest.len() > 1
        {
            return rest;
        }
    }
    key
}

/// What a request can say about the resources of one type.
pub struct ResourceCandidate {
    /// One, or alternatives where the overlay knows several members.
    pub arn_templates: Vec<ArnTemplate>,
    /// Every placeholder has a member, or there is none.
    pub is_filled: bool,
    /// At least one has, so that the ARN says more than its type.
    pub is_partly_filled: bool,
}

impl ResourceCandidate {
    /// The member that holds the whole ARN when nothing else is known of the resource (`ResourceArn`).
    pub fn generic_arn_member(&self) -> Option<&str> {
        match self.arn_templates.as_slice() {
            [one] if one.placeholder_members.is_empty() => one.arn_member.as_deref(),
            _ => None,
        }
    }

    /// The last optional member that fills the template: with it in the request, the resource is meant.
    pub fn deciding_member(&self, members: &InputMembers) -> Option<String> {
        let paths = self
            .arn_templates
            .iter()
            .flat_map(|arn| arn.placeholder_members.iter().map(|(_, path)| path).chain(&arn.arn_member));
        let mut names = paths.filter_map(|path| path.split(['.', '[', '{']).next());
        let optional =
            |name: &&str| members.top_level.iter().any(|slot| slot.name == **name && !slot.is_required);
        names.rfind(optional).map(str::to_owned)
    }
}

/// The overlay's template, as far as the operation has the members.
pub fn reviewed_template(arn: &ArnOverlay, members: &InputMembers) -> ArnTemplate {
    ArnTemplate {
        template: arn.template.clone(),
        placeholder_members: arn
            .fill
            .iter()
            .map(|(placeholder, path)| (placeholder.clone(), path.clone()))
            .collect(),
        arn_member: arn.arn_member.clone().filter(|path| members.has_member(path)),
    }
}

/// A resource of any type whose ARN `member` holds.
pub fn whole_arn_template(member: String) -> ArnTemplate {
    ArnTemplate { template: "*".to_owned(), placeholder_members: Vec::new(), arn_member: Some(member) }
}

/// The template of a resource type with what the request can say about it. `${Partition}`, `${Region}` and `${Account}` are
/// the connection's.
pub fn resource_candidate(
    key: &str,
    arn: &str,
    operation: &OperationModel,
    reviewed: Option<&ServiceOverlay>,
    members: &InputMembers,
    alone: bool,
) -> ResourceCandidate {
    let applies = |one: &&ResourceOverlay| {
        one.r#type.eq_ignore_ascii_case(key)
            && (one.operations.is_empty() || one.operations.contains(&operation.name))
            && one.arn.fill.values().all(|path| members.has_member(path))
            && (!one.arn.fill.is_empty()
                || one.arn.arn_member.as_ref().is_none_or(|path| members.has_member(path)))
    };
    let overlaid: Vec<ArnTemplate> = reviewed
        .into_iter()
        .flat_map(|one| &one.resources)
        .filter(applies)
        .map(|one| reviewed_template(&one.arn, members))
        .collect();
    if !overlaid.is_empty() {
        return ResourceCandidate { arn_templates: overlaid, is_filled: true, is_partly_filled: true };
    }
    let open = open_placeholders(arn);
    let key = key.strip_suffix("Resource").unwrap_or(key);
    let mut fill = Vec::new();
    let exact =
        |placeholder: &str| members.find_best(|slot| slot.normalized_name == normalize_name(placeholder));
    let taken: Vec<String> = open.iter().filter_map(|placeholder| exact(placeholder)).collect();
    for placeholder in &open {
        let reviewed = reviewed.and_then(|one| one.placeholders.get(*placeholder));
        let path = match reviewed {
            Some(paths) => paths.iter().find(|path| members.has_member(path)).cloned(),
            None => find_member_for(placeholder, key, &open, operation, members).or_else(|| {
                let bare = if alone && open.len() == 1 { members.find_bare_id() } else { None };
                bare.filter(|path| {
                    !names_created_resource(placeholder, &normalize_name(key), path, operation, members)
                })
            }),
        };
        // A member fills one placeholder, the one of its own name if there is: `stack/${StackName}/${Id}` is `stack/name/*`.
        let path = path.filter(|path| {
            let another = taken.contains(path) && exact(placeholder).as_ref() != Some(path);
            !another && !fill.iter().any(|(_, used)| used == path)
        });
        fill.extend(path.map(|path| ((*placeholder).to_owned(), path)));
    }
    let own = find_own_arn(key, &open, members)
        .or_else(|| if fill.is_empty() { find_subject_arn(key, &open, operation, members) } else { None });
    let filled = fill.len() == open.len() || own.is_some();
    let partly = filled || !fill.is_empty();
    let single = || match fill.as_slice() {
        [(_, path)] if open.len() == 1 => Some(path.clone()),
        _ => None,
    };
    let generic = || {
        let names =
            ["resourcearn", "arn", "resourcearns", "arns", "resource", "resourceidentifier", "resourcename"];
        if fill.is_empty() {
            members.find_best(|slot| names.contains(&slot.normalized_name.as_str()))
        } else {
            None
        }
    };
    let arn_member = own.or_else(single).or_else(generic);
    ResourceCandidate {
        arn_templates: vec![ArnTemplate { template: arn.to_owned(), placeholder_members: fill, arn_member }],
        is_filled: filled,
        is_partly_filled: partly,
    }
}

fn open_placeholders(arn: &str) -> Vec<&str> {
    arn.split("${")
        .skip(1)
        .filter_map(|part| part.split_once('}').map(|pair| pair.0))
        .filter(|name| !["Partition", "Region", "Account"].contains(name))
        .collect()
}

fn find_member_for(
    placeholder: &str,
    kind: &str,
    open: &[&str],
    operation: &OperationModel,
    members: &InputMembers,
) -> Option<String> {
    let (wanted, key) = (normalize_name(placeholder), normalize_name(kind));
    let wanted = wanted.strip_suffix("withpath").unwrap_or(&wanted);
    let wanted_stem = strip_naming_suffix(wanted);
    let generic =
        ["id", "name", "uuid", "identifier", "resourceid", "resourcename", "arn", "resource", "resourcepath"];
    let is_part = InputMember::is_part;
    let plurals = [format!("{wanted}s"), format!("{wanted}list")];
    let is_last = open.last() == Some(&placeholder);
    let open = open.len();
    let kind_words = name_words::subject_words(kind);
    let own_name = open == 1
        && (is_operation_on(operation, &kind_words)
            || is_operation_on(operation, &name_words::subject_words(placeholder)));
    let found = members
        .find_best(|slot| slot.normalized_name == wanted)
        .or_else(|| members.find_best(|slot| slot.is_text_list && plurals.contains(&slot.normalized_name)))
        .or_else(|| {
            members
                .find_best(|slot| is_part(slot) && strip_naming_suffix(&slot.normalized_name) == wanted_stem)
        })
        .or_else(|| {
            members.find_best(|slot| {
                is_last && is_part(slot) && strip_naming_suffix(&slot.normalized_name) == key
            })
        })
        .or_else(|| {
            members.find_best(|slot| {
                own_name && slot.is_required && generic[..4].contains(&slot.normalized_name.as_str())
            })
        })
        .or_else(|| {
            find_member_loosely(placeholder, kind, is_last, generic.contains(&wanted), operation, members)
        });
    found.filter(|path| !names_created_resource(placeholder, &key, path, operation, members))
}

/// Whether the operation is on the thing itself, or on one facet of it: `policy` of PutPolicy, GetPolicyStatus.
fn is_operation_on(operation: &OperationModel, kind: &[String]) -> bool {
    const RESOURCE_FACETS: [&str; 9] =
        ["policy", "status", "setting", "config", "attribute", "metadata", "location", "permission", "state"];
    let name = name_words::split_words(&operation.name);
    let verbs = if name.first().is_some_and(|word| word == "batch") { 2 } else { 1 };
    let rest = name.get(verbs..).unwrap_or_default();
    let facet = rest.strip_prefix(kind);
    !kind.is_empty()
        && facet.is_some_and(|facet| match facet {
            [] => true,
            [one] => RESOURCE_FACETS.contains(&one.as_str()),
            _ => false,
        })
}

/// Whether the member is the name of something new whose id AWS makes. Where other operations of the service find the thing by its
/// name, the name is what the ARN holds.
fn names_created_resource(
    placeholder: &str,
    key: &str,
    path: &str,
    operation: &OperationModel,
    members: &InputMembers,
) -> bool {
    let creates = ["Create", "Copy", "Import", "Allocate", "Register"]
        .iter()
        .any(|verb| operation.name.starts_with(verb));
    creates
        && is_id_placeholder(placeholder)
        && ends_in_name(path)
        && !members.types_found_by_name.contains(key)
}

fn is_id_placeholder(placeholder: &str) -> bool {
    name_words::split_words(placeholder)
        .last()
        .is_some_and(|word| ["id", "uuid", "identifier"].contains(&word.as_str()))
}

pub fn ends_in_name(path: &str) -> bool {
    name_words::split_words(path.trim_end_matches("[]")).last().is_some_and(|word| word == "name")
}

/// By words: the member named after the type, the one required member that ends as the placeholder does (or the other way round), the
/// same name one level down, or the bare id of an operation on the type.
fn find_member_loosely(
    placeholder: &str,
    kind: &str,
    is_last: bool,
    generic: bool,
    operation: &OperationModel,
    members: &InputMembers,
) -> Option<String> {
    const BARE_ID_NAMES: [&str; 5] = ["id", "name", "uuid", "identifier", "resourceidentifier"];
    // `GlobalClusterIdentifier` is no cluster, and the keys of tags are no keys.
    const UNRELATED_NOUNS: [&str; 7] = ["global", "tag", "destination", "new", "peer", "parent", "recipient"];
    let kind = name_words::subject_words(kind);
    let noun = name_words::subject_words(placeholder);
    let subject = if generic || noun.is_empty() { &kind } else { &noun };
    let of_type =
        || members.find_best(|slot| is_last && slot.is_part() && !kind.is_empty() && slot.subject == kind);
    let alike = || {
        if generic && !is_last {
            return None;
        }
        let like = |wanted: &[String]| {
            members.find_only_required(|slot| {
                slot.is_part()
                    && slot.subject != ["resource"]
                    && name_words::words_overlap(&slot.subject, wanted)
                    && !slot
                        .subject
                        .iter()
                        .any(|word| UNRELATED_NOUNS.contains(&word.as_str()) && !wanted.contains(word))
            })
        };
        like(subject).or_else(|| if is_last { like(&kind) } else { None })
    };
    let bare = || {
        if is_last && is_operation_on(operation, &kind) {
            members.find_only_required(|slot| BARE_ID_NAMES.contains(&slot.normalized_name.as_str()))
        } else {
            None
        }
    };
    // `StopWorkspaceRequests[].WorkspaceId`: the same name one level down, where it is the only one.
    let nested = || {
        members.find_only_nested(|slot| {
            slot.is_part()
                && !slot.subject.is_empty()
                && (slot.subject == noun
                    || is_last
                        && (slot.subject == kind
                            || generic && name_words::words_overlap(&slot.subject, &kind)))
        })
    };
    of_type().or_else(alike).or_else(nested).or_else(bare)
}

/// The one required member that holds an ARN and is named like the type, its last placeholder, or the operation's own subject:
/// `RuleArn` of ModifyRule.
fn find_subject_arn(
    kind: &str,
    open: &[&str],
    operation: &OperationModel,
    members: &InputMembers,
) -> Option<String> {
    const UNRELATED_ARN_NOUNS: [&str; 5] = ["role", "key", "topic", "certificate", "kms"];
    let kind = name_words::subject_words(kind);
    let last = open.last().map(|name| name_words::subject_words(name)).unwrap_or_default();
    let name = name_words::split_words(&operation.name);
    members.find_only_required(|slot| {
        let noun = &slot.subject;
        let other = noun
            .last()
            .is_none_or(|word| UNRELATED_ARN_NOUNS.contains(&word.as_str()) && !kind.contains(word));
        slot.holds_arn()
            && !other
            && (name_words::words_overlap(noun, &kind)
                || name_words::words_overlap(noun, &last)
                || name_words::contains_words(&name, noun))
    })
}

/// The member named as the ARN of this type: `topicArn` for a topic.
fn find_own_arn(key: &str, open: &[&str], members: &InputMembers) -> Option<String> {
    let key = normalize_name(key);
    let last = open.last().map(|name| normalize_name(name)).unwrap_or_default();
    let about = |slot: &InputMember, name: &str| {
        slot.normalized_name
            .strip_suffix("arn")
            .or_else(|| slot.normalized_name.strip_suffix("arns"))
            .is_some_and(|rest| rest == name)
    };
    members.find_best(|slot| about(slot, &key) || (last.len() > 2 && about(slot, strip_naming_suffix(&last))))
}

/// `iam:PassRole` on every role the request hands to the service. Taking a role away, or only reading, passes none.
pub fn pass_role_uses(
    service: &ServiceModel,
    operation: &OperationModel,
    uses: &[RequiredAction],
    documented: bool,
    members: &InputMembers,
) -> Vec<RequiredAction> {
    const SERVICES_WITHOUT_PASS_ROLE: [&str; 6] =
        ["sts", "iam", "sso", "sso-oidc", "signin", "rolesanywhere"];
    const PASS_ROLE_VERBS: [&str; 27] = [
        "Create",
        "Update",
        "Put",
        "Start",
        "Run",
        "Register",
        "Modify",
        "Submit",
        "Import",
        "Export",
        "Restore",
        "Associate",
        "Copy",
        "Add",
        "Enable",
        "Set",
        "Send",
        "Launch",
        "Provision",
        "Configure",
        "Execute",
        "Deploy",
        "Invoke",
        "Change",
        "Attach",
        "Request",
        "Replace",
    ];
    let writes = uses.iter().any(|one| one.access_level >= AccessLevel::Write);
    let hands_over = PASS_ROLE_VERBS.iter().any(|verb| operation.name.starts_with(verb));
    if SERVICES_WITHOUT_PASS_ROLE.contains(&service.id.as_str()) || !(documented || (writes && hands_over)) {
        return Vec::new();
    }
    let role = |slot: &&InputMember| {
        slot.is_single_text
            && (slot.normalized_name.ends_with("rolearn")
                || slot.normalized_name.ends_with("iamrole")
                || (slot.normalized_name.ends_with("role") && documented))
    };
    let roles = members.top_level.iter().filter(role).map(|slot| slot.name.clone());
    roles
        .chain(nested_role_paths(service, operation))
        .map(|path| RequiredAction {
            action: "iam:PassRole".to_owned(),
            access_level: AccessLevel::Write,
            resources: vec![ArnTemplate {
                template: "arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}".to_owned(),
                placeholder_members: vec![("RoleNameWithPath".to_owned(), path.clone())],
                arn_member: Some(path.clone()),
            }],
            required_if_member: Some(path),
            has_resource_level_permissions: true,
        })
        .collect()
}

/// Paths to the roles inside structures, lists and maps of the input: `Targets[].RoleArn`.
fn nested_role_paths(service: &ServiceModel, operation: &OperationModel) -> Vec<String> {
    /// Deeper than this no model has a role that a service takes on.
    const MAX_ROLE_DEPTH: usize = 5;
    fn collect_role_paths(
        service: &ServiceModel,
        shape: u32,
        path: &str,
        above: &mut Vec<u32>,
        found: &mut Vec<String>,
    ) {
        if above.len() >= MAX_ROLE_DEPTH || above.contains(&shape) {
            return;
        }
        above.push(shape);
        match service.shape(shape).map(|shape| &shape.kind) {
            Some(ShapeKind::Structure { members, .. }) => {
                for member in members.iter().filter(|member| member.location == MemberLocation::Body) {
                    let inner =
                        if path.is_empty() { member.name.clone() } else { format!("{path}.{}", member.name) };
                    let key = normalize_name(&member.name);
                    let text =
                        matches!(service.shape(member.shape).map(|one| &one.kind), Some(ShapeKind::String));
                    if text && !path.is_empty() && (key.ends_with("rolearn") || key.ends_with("iamrole")) {
                        found.push(inner);
                    } else if !text {
                        collect_role_paths(service, member.shape, &inner, above, found);
                    }
                }
            }
            Some(ShapeKind::List { member, .. }) => {
                collect_role_paths(service, *member, &format!("{path}[]"), above, found);
            }
            Some(ShapeKind::Map { value, .. }) => {
                collect_role_paths(service, *value, &format!("{path}{{}}"), above, found);
            }
            _ => {}
        }
        above.pop();
    }
    let mut found = Vec::new();
    if let Some(input) = operation.input_shape {
        collect_role_paths(service, input, "", &mut Vec::new(), &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample_members(slots: &[(&str, bool, bool)]) -> InputMembers {
        let slots = slots.iter().map(|(name, list, required)| InputMember {
            name: (*name).to_owned(),
            wire_name: (*name).to_owned(),
            normalized_name: normalize_name(name),
            subject: name_words::subject_words(name),
            is_text_list: *list,
            is_single_text: !list,
            is_required: *required,
        });
        InputMembers { top_level: slots.collect(), nested: Vec::new(), types_found_by_name: BTreeSet::new() }
    }

    fn sample_operation(name: &str) -> OperationModel {
        OperationModel {
            name: name.to_owned(),
            http_method: "POST".to_owned(),
            path_template: "/".to_owned(),
            query_literals: Vec::new(),
            input_shape: None,
            output_shape: None,
            host_prefix: None,
            required_actions: Vec::new(),
            traits: durward_core::OperationTraits::default(),
            is_unsigned: false,
        }
    }

    fn fill_template(
        key: &str,
        arn: &str,
        name: &str,
        slots: &[(&str, bool, bool)],
    ) -> (Vec<(String, String)>, Option<String>) {
        let found =
            resource_candidate(key, arn, &sample_operation(name), None, &sample_members(slots), false);
        let arn = found.arn_templates.into_iter().next().expect("a template");
        (arn.placeholder_members, arn.arn_member)
    }

    #[test]
    fn prefers_the_member_of_the_same_name() {
        let slots = [("Name", false, true), ("TableName", false, true)];
        let (filled, arn) = fill_template("table", "arn:x:table/${TableName}", "GetTable", &slots);
        assert_eq!(filled, [("TableName".to_owned(), "TableName".to_owned())]);
        assert_eq!(arn.as_deref(), Some("TableName"), "its value may be the whole ARN");
    }

    #[test]
    fn finds_plurals_and_the_type_itself() {
        let (filled, _) =
            fill_template("alarm", "arn:x:alarm:${AlarmName}", "DeleteAlarms", &[("AlarmNames", true, true)]);
        assert_eq!(filled, [("AlarmName".to_owned(), "AlarmNames[]".to_owned())]);
        let (filled, _) =
            fill_template("bucket", "arn:x:::${BucketName}", "GetBucketAcl", &[("Bucket", false, true)]);
        assert_eq!(filled, [("BucketName".to_owned(), "Bucket".to_owned())]);
    }

    #[test]
    fn a_bare_name_counts_only_for_operations_on_the_type() {
        let slots = [("Name", false, true)];
        let (filled, _) = fill_template("topic", "arn:x:${TopicName}", "CreateTopic", &slots);
        assert_eq!(filled, [("TopicName".to_owned(), "Name".to_owned())]);
        let (filled, _) = fill_template("topic", "arn:x:${TopicName}", "CreatePlatform", &slots);
        assert!(filled.is_empty());
    }

    #[test]
    fn an_id_that_aws_makes_is_not_filled_with_a_name() {
        let slots = [("Name", false, true)];
        assert!(fill_template("flow", "arn:x:flow/${FlowId}", "CreateFlow", &slots).0.is_empty());
        let (filled, _) = fill_template("flow", "arn:x:flow/${FlowId}", "DeleteFlow", &slots);
        assert_eq!(filled, [("FlowId".to_owned(), "Name".to_owned())]);
        // the id is of the gateway, not of the certificate
        let slots = [("Id", false, true), ("IotThing", false, true)];
        assert!(
            fill_template("cert", "arn:x:cert/${Certificate}", "AssociateGatewayWithCertificate", &slots)
                .0
                .is_empty()
        );
    }

    #[test]
    fn a_member_fills_one_placeholder() {
        let (filled, _) = fill_template(
            "stack",
            "arn:x:stack/${StackName}/${Id}",
            "DeleteStack",
            &[("StackName", false, true)],
        );
        assert_eq!(filled, [("StackName".to_owned(), "StackName".to_owned())]);
        let (filled, _) = fill_template(
            "fleet",
            "arn:x:fleet/${FleetName}:${FleetId}",
            "StopFleet",
            &[("FleetId", false, true)],
        );
        assert_eq!(filled, [("FleetId".to_owned(), "FleetId".to_owned())]);
    }

    #[test]
    fn another_kind_of_the_same_word_is_not_the_thing() {
        let slots = [("GlobalClusterIdentifier", false, true)];
        assert!(
            fill_template("cluster", "arn:x:cluster:${ClusterName}", "RemoveGlobalCluster", &slots)
                .0
                .is_empty()
        );
        let slots = [("DBClusterIdentifier", false, true)];
        let (filled, _) =
            fill_template("cluster", "arn:x:cluster:${DbClusterInstanceName}", "StopDBCluster", &slots);
        assert_eq!(filled, [("DbClusterInstanceName".to_owned(), "DBClusterIdentifier".to_owned())]);
    }

    #[test]
    fn a_member_that_holds_arns_fills_no_part_of_one() {
        let (filled, arn) =
            fill_template("topic", "arn:x:${TopicName}", "Publish", &[("TopicArn", false, false)]);
        assert!(filled.is_empty());
        assert_eq!(arn.as_deref(), Some("TopicArn"));
    }

    #[test]
    fn leaves_open_what_nothing_fills() {
        let (filled, arn) =
            fill_template("volume", "arn:x:volume/${VolumeId}", "CreateVolume", &[("Size", false, true)]);
        assert!(filled.is_empty() && arn.is_none());
    }

    #[test]
    fn leaves_partition_region_and_account_to_the_connection() {
        assert_eq!(open_placeholders("arn:${Partition}:x:${Region}:${Account}:t/${A}/${B}"), ["A", "B"]);
    }
}
