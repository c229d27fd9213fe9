//! Which input members fill the placeholders of an ARN template.
//!
//! Names differ between the models and the authorization data in suffixes, plurals and the resource type that is left out;
//! the rules below try them from the strictest to the loosest and leave a placeholder open rather than guess wildly.

use super::overlay::{ArnOverlay, ResourceOverlay, ServiceOverlay};
use super::words;
use durward_catalog::{ActionUse, ArnTemplate, Location, Member, Operation, Service, ShapeKind};
use durward_core::AccessLevel;
use std::collections::BTreeSet;

/// An input member and whether it holds one text or a list of texts.
struct Slot {
    name: String,
    wire: String,
    key: String,
    /// What it names: `db cluster` for `DBClusterIdentifiers`.
    noun: Vec<String>,
    list: bool,
    text: bool,
    required: bool,
}

impl Slot {
    fn of(service: &Service, member: &Member, before: &str) -> Self {
        let is_text = |id| matches!(service.shape(id).map(|shape| &shape.kind), Some(ShapeKind::String));
        let list = match service.shape(member.shape).map(|shape| &shape.kind) {
            Some(ShapeKind::List { member, .. }) => is_text(*member),
            _ => false,
        };
        Self {
            name: format!("{before}{}", member.name),
            wire: member.wire_name.clone().unwrap_or_else(|| member.name.clone()),
            key: plain(&member.name),
            noun: words::noun(&member.name),
            list,
            text: is_text(member.shape),
            required: member.required,
        }
    }

    fn path(&self) -> String {
        if self.list { format!("{}[]", self.name) } else { self.name.clone() }
    }

    /// A member that holds ARNs is the whole resource, never a part of one.
    fn is_part(&self) -> bool {
        !self.holds_arn()
    }

    fn holds_arn(&self) -> bool {
        self.key.ends_with("arn") || self.key.ends_with("arns")
    }
}

/// The top-level input members of one operation.
pub struct Members {
    slots: Vec<Slot>,
    /// Resource types of the service, in lower case, that operations other than those that create find by name.
    found_by_name: BTreeSet<String>,
    /// Texts in the structures and lists of structures among them; `name` is the path.
    nested: Vec<Slot>,
}

impl Members {
    pub fn of(service: &Service, operation: &Operation) -> Self {
        let input = operation.input.map(|id| service.members(id)).unwrap_or_default();
        let slots: Vec<Slot> = input
            .iter()
            .filter(|member| member.location != Location::Headers)
            .map(|member| Slot::of(service, member, ""))
            .collect();
        let mut nested = Vec::new();
        for member in input.iter().filter(|member| member.required) {
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
                    .filter(|member| member.required)
                    .map(|member| Slot::of(service, member, &before)),
            );
        }
        Self { slots, nested, found_by_name: BTreeSet::new() }
    }

    pub fn found_by_name(mut self, types: &BTreeSet<String>) -> Self {
        self.found_by_name.clone_from(types);
        self
    }

    /// Whether the path's first step is a member.
    pub fn has(&self, path: &str) -> bool {
        let first = path.split(['.', '[', '{']).next().unwrap_or_default();
        self.slots.iter().any(|slot| slot.name == first)
    }

    pub fn by_wire_name(&self, wire: &str) -> Option<String> {
        self.slots.iter().find(|slot| slot.wire == wire).map(|slot| slot.name.clone())
    }

    fn find(&self, test: impl Fn(&Slot) -> bool) -> Option<String> {
        let usable = |slot: &&Slot| (slot.text || slot.list) && test(slot);
        self.slots.iter().filter(usable).min_by_key(|slot| (!slot.required, slot.list)).map(Slot::path)
    }

    /// The one required member that passes; none when several do.
    fn only(&self, test: impl Fn(&Slot) -> bool) -> Option<String> {
        only(&self.slots, test)
    }

    /// `Name` or `Id`, when it is the only thing that the request must name; a new `Name` beside the `Id` is a value.
    fn bare_id(&self) -> Option<String> {
        const BARE: [&str; 4] = ["id", "identifier", "uuid", "name"];
        let naming = ["id", "identifier", "uuid", "name", "arn", "ids", "names", "arns"];
        let ids: Vec<&Slot> = self
            .slots
            .iter()
            .filter(|slot| slot.required && (slot.text || slot.list))
            .filter(|slot| naming.iter().any(|word| slot.key.ends_with(word)))
            .collect();
        match ids.as_slice() {
            [one] if BARE.contains(&one.key.as_str()) => Some(one.path()),
            [one, other] | [other, one] if other.key == "name" && BARE[..3].contains(&one.key.as_str()) => {
                Some(one.path())
            }
            _ => None,
        }
    }

    /// The one required text of a required member that passes.
    fn only_nested(&self, test: impl Fn(&Slot) -> bool) -> Option<String> {
        only(&self.nested, test)
    }
}

fn only(slots: &[Slot], test: impl Fn(&Slot) -> bool) -> Option<String> {
    let mut found = slots.iter().filter(|slot| slot.required && (slot.text || slot.list) && test(slot));
    let first = found.next()?;
    found.next().is_none().then(|| first.path())
}

/// Lower case, letters and digits only.
pub fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Without the suffixes that say how a thing is named: `tablename`, `tableid`, `tablearns` are `table`.
fn stem(key: &str) -> &str {
    const SUFFIXES: [&str; 10] =
        ["identifiers", "identifier", "names", "name", "uuid", "ids", "id", "arns", "arn", "s"];
    for suffix in SUFFIXES {
        if let Some(rest) = key.strip_suffix(suffix)
            && rest.len() > 1
        {
            return rest;
        }
    }
    key
}

/// What a request can say about the resources of one type.
pub struct Candidate {
    /// One, or alternatives where the overlay knows several members.
    pub arns: Vec<ArnTemplate>,
    /// Every placeholder has a member, or there is none.
    pub filled: bool,
    /// At least one has, so that the ARN says more than its type.
    pub partly: bool,
}

impl Candidate {
    /// The member that holds the whole ARN when nothing else is known of the resource (`ResourceArn`).
    pub fn generic_member(&self) -> Option<&str> {
        match self.arns.as_slice() {
            [one] if one.fill.is_empty() => one.arn_member.as_deref(),
            _ => None,
        }
    }

    /// The last optional member that fills the template: with it in the request, the resource is meant.
    pub fn telling_member(&self, members: &Members) -> Option<String> {
        let paths =
            self.arns.iter().flat_map(|arn| arn.fill.iter().map(|(_, path)| path).chain(&arn.arn_member));
        let mut names = paths.filter_map(|path| path.split(['.', '[', '{']).next());
        let optional = |name: &&str| members.slots.iter().any(|slot| slot.name == **name && !slot.required);
        names.rfind(optional).map(str::to_owned)
    }
}

/// The overlay's template, as far as the operation has the members.
pub fn explicit(arn: &ArnOverlay, members: &Members) -> ArnTemplate {
    ArnTemplate {
        template: arn.template.clone(),
        fill: arn.fill.iter().map(|(placeholder, path)| (placeholder.clone(), path.clone())).collect(),
        arn_member: arn.arn_member.clone().filter(|path| members.has(path)),
    }
}

/// A resource of any type whose ARN `member` holds.
pub fn whole(member: String) -> ArnTemplate {
    ArnTemplate { template: "*".to_owned(), fill: Vec::new(), arn_member: Some(member) }
}

/// The template of a resource type with what the request can say about it. `${Partition}`, `${Region}` and `${Account}` are
/// the connection's.
pub fn candidate(
    key: &str,
    arn: &str,
    operation: &Operation,
    reviewed: Option<&ServiceOverlay>,
    members: &Members,
    alone: bool,
) -> Candidate {
    let applies = |one: &&ResourceOverlay| {
        one.r#type.eq_ignore_ascii_case(key)
            && (one.operations.is_empty() || one.operations.contains(&operation.name))
            && one.arn.fill.values().all(|path| members.has(path))
            && (!one.arn.fill.is_empty() || one.arn.arn_member.as_ref().is_none_or(|path| members.has(path)))
    };
    let overlaid: Vec<ArnTemplate> = reviewed
        .into_iter()
        .flat_map(|one| &one.resources)
        .filter(applies)
        .map(|one| explicit(&one.arn, members))
        .collect();
    if !overlaid.is_empty() {
        return Candidate { arns: overlaid, filled: true, partly: true };
    }
    let open = placeholders(arn);
    let key = key.strip_suffix("Resource").unwrap_or(key);
    let mut fill = Vec::new();
    let exact = |placeholder: &str| members.find(|slot| slot.key == plain(placeholder));
    let taken: Vec<String> = open.iter().filter_map(|placeholder| exact(placeholder)).collect();
    for placeholder in &open {
        let reviewed = reviewed.and_then(|one| one.placeholders.get(*placeholder));
        let path = match reviewed {
            Some(paths) => paths.iter().find(|path| members.has(path)).cloned(),
            None => member_for(placeholder, key, &open, operation, members).or_else(|| {
                let bare = if alone && open.len() == 1 { members.bare_id() } else { None };
                bare.filter(|path| !is_made(placeholder, &plain(key), path, operation, members))
            }),
        };
        // A member fills one placeholder, the one of its own name if there is: `stack/${StackName}/${Id}` is `stack/name/*`.
        let path = path.filter(|path| {
            let another = taken.contains(path) && exact(placeholder).as_ref() != Some(path);
            !another && !fill.iter().any(|(_, used)| used == path)
        });
        fill.extend(path.map(|path| ((*placeholder).to_owned(), path)));
    }
    let own = own_arn(key, &open, members)
        .or_else(|| if fill.is_empty() { arn_about(key, &open, operation, members) } else { None });
    let filled = fill.len() == open.len() || own.is_some();
    let partly = filled || !fill.is_empty();
    let single = || match fill.as_slice() {
        [(_, path)] if open.len() == 1 => Some(path.clone()),
        _ => None,
    };
    let generic = || {
        let names =
            ["resourcearn", "arn", "resourcearns", "arns", "resource", "resourceidentifier", "resourcename"];
        if fill.is_empty() { members.find(|slot| names.contains(&slot.key.as_str())) } else { None }
    };
    let arn_member = own.or_else(single).or_else(generic);
    Candidate { arns: vec![ArnTemplate { template: arn.to_owned(), fill, arn_member }], filled, partly }
}

fn placeholders(arn: &str) -> Vec<&str> {
    arn.split("${")
        .skip(1)
        .filter_map(|part| part.split_once('}').map(|pair| pair.0))
        .filter(|name| !["Partition", "Region", "Account"].contains(name))
        .collect()
}

fn member_for(
    placeholder: &str,
    kind: &str,
    open: &[&str],
    operation: &Operation,
    members: &Members,
) -> Option<String> {
    let (wanted, key) = (plain(placeholder), plain(kind));
    let wanted = wanted.strip_suffix("withpath").unwrap_or(&wanted);
    let wanted_stem = stem(wanted);
    let generic =
        ["id", "name", "uuid", "identifier", "resourceid", "resourcename", "arn", "resource", "resourcepath"];
    let is_part = Slot::is_part;
    let plurals = [format!("{wanted}s"), format!("{wanted}list")];
    let is_last = open.last() == Some(&placeholder);
    let open = open.len();
    let kind_words = words::noun(kind);
    let own_name =
        open == 1 && (is_about(operation, &kind_words) || is_about(operation, &words::noun(placeholder)));
    let found = members
        .find(|slot| slot.key == wanted)
        .or_else(|| members.find(|slot| slot.list && plurals.contains(&slot.key)))
        .or_else(|| members.find(|slot| is_part(slot) && stem(&slot.key) == wanted_stem))
        .or_else(|| members.find(|slot| is_last && is_part(slot) && stem(&slot.key) == key))
        .or_else(|| {
            members.find(|slot| own_name && slot.required && generic[..4].contains(&slot.key.as_str()))
        })
        .or_else(|| loosely(placeholder, kind, is_last, generic.contains(&wanted), operation, members));
    found.filter(|path| !is_made(placeholder, &key, path, operation, members))
}

/// Whether the operation is on the thing itself, or on one facet of it: `policy` of PutPolicy, GetPolicyStatus.
fn is_about(operation: &Operation, kind: &[String]) -> bool {
    const FACETS: [&str; 9] =
        ["policy", "status", "setting", "config", "attribute", "metadata", "location", "permission", "state"];
    let name = words::split(&operation.name);
    let verbs = if name.first().is_some_and(|word| word == "batch") { 2 } else { 1 };
    let rest = name.get(verbs..).unwrap_or_default();
    let facet = rest.strip_prefix(kind);
    !kind.is_empty()
        && facet.is_some_and(|facet| match facet {
            [] => true,
            [one] => FACETS.contains(&one.as_str()),
            _ => false,
        })
}

/// Whether the member is the name of something new whose id AWS makes. Where other operations of the service find the thing by its
/// name, the name is what the ARN holds.
fn is_made(placeholder: &str, key: &str, path: &str, operation: &Operation, members: &Members) -> bool {
    let creates = ["Create", "Copy", "Import", "Allocate", "Register"]
        .iter()
        .any(|verb| operation.name.starts_with(verb));
    creates && is_id(placeholder) && ends_in_name(path) && !members.found_by_name.contains(key)
}

fn is_id(placeholder: &str) -> bool {
    words::split(placeholder).last().is_some_and(|word| ["id", "uuid", "identifier"].contains(&word.as_str()))
}

pub fn ends_in_name(path: &str) -> bool {
    words::split(path.trim_end_matches("[]")).last().is_some_and(|word| word == "name")
}

/// By words: the member named after the type, the one required member that ends as the placeholder does (or the other way round), the
/// same name one level down, or the bare id of an operation on the type.
fn loosely(
    placeholder: &str,
    kind: &str,
    is_last: bool,
    generic: bool,
    operation: &Operation,
    members: &Members,
) -> Option<String> {
    const BARE: [&str; 5] = ["id", "name", "uuid", "identifier", "resourceidentifier"];
    // `GlobalClusterIdentifier` is no cluster, and the keys of tags are no keys.
    const OTHERS: [&str; 7] = ["global", "tag", "destination", "new", "peer", "parent", "recipient"];
    let kind = words::noun(kind);
    let noun = words::noun(placeholder);
    let subject = if generic || noun.is_empty() { &kind } else { &noun };
    let of_type = || members.find(|slot| is_last && slot.is_part() && !kind.is_empty() && slot.noun == kind);
    let alike = || {
        if generic && !is_last {
            return None;
        }
        let like = |wanted: &[String]| {
            members.only(|slot| {
                slot.is_part()
                    && slot.noun != ["resource"]
                    && words::overlap(&slot.noun, wanted)
                    && !slot.noun.iter().any(|word| OTHERS.contains(&word.as_str()) && !wanted.contains(word))
            })
        };
        like(subject).or_else(|| if is_last { like(&kind) } else { None })
    };
    let bare = || {
        if is_last && is_about(operation, &kind) {
            members.only(|slot| BARE.contains(&slot.key.as_str()))
        } else {
            None
        }
    };
    // `StopWorkspaceRequests[].WorkspaceId`: the same name one level down, where it is the only one.
    let nested = || {
        members.only_nested(|slot| {
            slot.is_part()
                && !slot.noun.is_empty()
                && (slot.noun == noun
                    || is_last && (slot.noun == kind || generic && words::overlap(&slot.noun, &kind)))
        })
    };
    of_type().or_else(alike).or_else(nested).or_else(bare)
}

/// The one required member that holds an ARN and is named like the type, its last placeholder, or the operation's own subject:
/// `RuleArn` of ModifyRule.
fn arn_about(kind: &str, open: &[&str], operation: &Operation, members: &Members) -> Option<String> {
    const OTHERS: [&str; 5] = ["role", "key", "topic", "certificate", "kms"];
    let kind = words::noun(kind);
    let last = open.last().map(|name| words::noun(name)).unwrap_or_default();
    let name = words::split(&operation.name);
    members.only(|slot| {
        let noun = &slot.noun;
        let other = noun.last().is_none_or(|word| OTHERS.contains(&word.as_str()) && !kind.contains(word));
        slot.holds_arn()
            && !other
            && (words::overlap(noun, &kind) || words::overlap(noun, &last) || words::holds(&name, noun))
    })
}

/// The member named as the ARN of this type: `topicArn` for a topic.
fn own_arn(key: &str, open: &[&str], members: &Members) -> Option<String> {
    let key = plain(key);
    let last = open.last().map(|name| plain(name)).unwrap_or_default();
    let about = |slot: &Slot, name: &str| {
        slot.key
            .strip_suffix("arn")
            .or_else(|| slot.key.strip_suffix("arns"))
            .is_some_and(|rest| rest == name)
    };
    members.find(|slot| about(slot, &key) || (last.len() > 2 && about(slot, stem(&last))))
}

/// `iam:PassRole` on every role the request hands to the service. Taking a role away, or only reading, passes none.
pub fn pass_role(
    service: &Service,
    operation: &Operation,
    uses: &[ActionUse],
    documented: bool,
    members: &Members,
) -> Vec<ActionUse> {
    const OTHERS_ROLES: [&str; 6] = ["sts", "iam", "sso", "sso-oidc", "signin", "rolesanywhere"];
    const HANDS_OVER: [&str; 27] = [
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
    let hands_over = HANDS_OVER.iter().any(|verb| operation.name.starts_with(verb));
    if OTHERS_ROLES.contains(&service.id.as_str()) || !(documented || (writes && hands_over)) {
        return Vec::new();
    }
    let role = |slot: &&Slot| {
        slot.text
            && (slot.key.ends_with("rolearn")
                || slot.key.ends_with("iamrole")
                || (slot.key.ends_with("role") && documented))
    };
    let roles = members.slots.iter().filter(role).map(|slot| slot.name.clone());
    roles
        .chain(inner_roles(service, operation))
        .map(|path| ActionUse {
            action: "iam:PassRole".to_owned(),
            access_level: AccessLevel::Write,
            resources: vec![ArnTemplate {
                template: "arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}".to_owned(),
                fill: vec![("RoleNameWithPath".to_owned(), path.clone())],
                arn_member: Some(path.clone()),
            }],
            when_member: Some(path),
            resource_level: true,
        })
        .collect()
}

/// Paths to the roles inside structures, lists and maps of the input: `Targets[].RoleArn`.
fn inner_roles(service: &Service, operation: &Operation) -> Vec<String> {
    /// Deeper than this no model has a role that a service takes on.
    const DEEPEST: usize = 5;
    fn descend(service: &Service, shape: u32, path: &str, above: &mut Vec<u32>, found: &mut Vec<String>) {
        if above.len() >= DEEPEST || above.contains(&shape) {
            return;
        }
        above.push(shape);
        match service.shape(shape).map(|shape| &shape.kind) {
            Some(ShapeKind::Structure { members, .. }) => {
                for member in members.iter().filter(|member| member.location == Location::Body) {
                    let inner =
                        if path.is_empty() { member.name.clone() } else { format!("{path}.{}", member.name) };
                    let key = plain(&member.name);
                    let text =
                        matches!(service.shape(member.shape).map(|one| &one.kind), Some(ShapeKind::String));
                    if text && !path.is_empty() && (key.ends_with("rolearn") || key.ends_with("iamrole")) {
                        found.push(inner);
                    } else if !text {
                        descend(service, member.shape, &inner, above, found);
                    }
                }
            }
            Some(ShapeKind::List { member, .. }) => {
                descend(service, *member, &format!("{path}[]"), above, found);
            }
            Some(ShapeKind::Map { value, .. }) => {
                descend(service, *value, &format!("{path}{{}}"), above, found);
            }
            _ => {}
        }
        above.pop();
    }
    let mut found = Vec::new();
    if let Some(input) = operation.input {
        descend(service, input, "", &mut Vec::new(), &mut found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(slots: &[(&str, bool, bool)]) -> Members {
        let slots = slots.iter().map(|(name, list, required)| Slot {
            name: (*name).to_owned(),
            wire: (*name).to_owned(),
            key: plain(name),
            noun: words::noun(name),
            list: *list,
            text: !list,
            required: *required,
        });
        Members { slots: slots.collect(), nested: Vec::new(), found_by_name: BTreeSet::new() }
    }

    fn operation(name: &str) -> Operation {
        Operation {
            name: name.to_owned(),
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: Vec::new(),
            input: None,
            output: None,
            host_prefix: None,
            actions: Vec::new(),
            traits: durward_core::Traits::default(),
            unsigned: false,
        }
    }

    fn fill(
        key: &str,
        arn: &str,
        name: &str,
        slots: &[(&str, bool, bool)],
    ) -> (Vec<(String, String)>, Option<String>) {
        let found = candidate(key, arn, &operation(name), None, &members(slots), false);
        let arn = found.arns.into_iter().next().expect("a template");
        (arn.fill, arn.arn_member)
    }

    #[test]
    fn prefers_the_member_of_the_same_name() {
        let slots = [("Name", false, true), ("TableName", false, true)];
        let (filled, arn) = fill("table", "arn:x:table/${TableName}", "GetTable", &slots);
        assert_eq!(filled, [("TableName".to_owned(), "TableName".to_owned())]);
        assert_eq!(arn.as_deref(), Some("TableName"), "its value may be the whole ARN");
    }

    #[test]
    fn finds_plurals_and_the_type_itself() {
        let (filled, _) =
            fill("alarm", "arn:x:alarm:${AlarmName}", "DeleteAlarms", &[("AlarmNames", true, true)]);
        assert_eq!(filled, [("AlarmName".to_owned(), "AlarmNames[]".to_owned())]);
        let (filled, _) = fill("bucket", "arn:x:::${BucketName}", "GetBucketAcl", &[("Bucket", false, true)]);
        assert_eq!(filled, [("BucketName".to_owned(), "Bucket".to_owned())]);
    }

    #[test]
    fn a_bare_name_counts_only_for_operations_on_the_type() {
        let slots = [("Name", false, true)];
        let (filled, _) = fill("topic", "arn:x:${TopicName}", "CreateTopic", &slots);
        assert_eq!(filled, [("TopicName".to_owned(), "Name".to_owned())]);
        let (filled, _) = fill("topic", "arn:x:${TopicName}", "CreatePlatform", &slots);
        assert!(filled.is_empty());
    }

    #[test]
    fn an_id_that_aws_makes_is_not_filled_with_a_name() {
        let slots = [("Name", false, true)];
        assert!(fill("flow", "arn:x:flow/${FlowId}", "CreateFlow", &slots).0.is_empty());
        let (filled, _) = fill("flow", "arn:x:flow/${FlowId}", "DeleteFlow", &slots);
        assert_eq!(filled, [("FlowId".to_owned(), "Name".to_owned())]);
        // the id is of the gateway, not of the certificate
        let slots = [("Id", false, true), ("IotThing", false, true)];
        assert!(
            fill("cert", "arn:x:cert/${Certificate}", "AssociateGatewayWithCertificate", &slots).0.is_empty()
        );
    }

    #[test]
    fn a_member_fills_one_placeholder() {
        let (filled, _) =
            fill("stack", "arn:x:stack/${StackName}/${Id}", "DeleteStack", &[("StackName", false, true)]);
        assert_eq!(filled, [("StackName".to_owned(), "StackName".to_owned())]);
        let (filled, _) =
            fill("fleet", "arn:x:fleet/${FleetName}:${FleetId}", "StopFleet", &[("FleetId", false, true)]);
        assert_eq!(filled, [("FleetId".to_owned(), "FleetId".to_owned())]);
    }

    #[test]
    fn another_kind_of_the_same_word_is_not_the_thing() {
        let slots = [("GlobalClusterIdentifier", false, true)];
        assert!(fill("cluster", "arn:x:cluster:${ClusterName}", "RemoveGlobalCluster", &slots).0.is_empty());
        let slots = [("DBClusterIdentifier", false, true)];
        let (filled, _) = fill("cluster", "arn:x:cluster:${DbClusterInstanceName}", "StopDBCluster", &slots);
        assert_eq!(filled, [("DbClusterInstanceName".to_owned(), "DBClusterIdentifier".to_owned())]);
    }

    #[test]
    fn a_member_that_holds_arns_fills_no_part_of_one() {
        let (filled, arn) = fill("topic", "arn:x:${TopicName}", "Publish", &[("TopicArn", false, false)]);
        assert!(filled.is_empty());
        assert_eq!(arn.as_deref(), Some("TopicArn"));
    }

    #[test]
    fn leaves_open_what_nothing_fills() {
        let (filled, arn) =
            fill("volume", "arn:x:volume/${VolumeId}", "CreateVolume", &[("Size", false, true)]);
        assert!(filled.is_empty() && arn.is_none());
    }

    #[test]
    fn leaves_partition_region_and_account_to_the_connection() {
        assert_eq!(placeholders("arn:${Partition}:x:${Region}:${Account}:t/${A}/${B}"), ["A", "B"]);
    }
}
