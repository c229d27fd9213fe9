//! Which input members fill the placeholders of an ARN template.
//!
//! Names differ between the models and the authorization data in suffixes, plurals and the resource type that is left out;
//! the rules below try them from the strictest to the loosest and leave a placeholder open rather than guess wildly.

use super::overlay::{ArnOverlay, ResourceOverlay, ServiceOverlay};
use durward_catalog::{ActionUse, ArnTemplate, Location, Operation, Service, ShapeKind};
use durward_core::AccessLevel;

/// An input member and whether it holds one text or a list of texts.
struct Slot {
    name: String,
    wire: String,
    key: String,
    list: bool,
    text: bool,
    required: bool,
}

/// The top-level input members of one operation.
pub struct Members {
    slots: Vec<Slot>,
}

impl Members {
    pub fn of(service: &Service, operation: &Operation) -> Self {
        let input = operation.input.map(|id| service.members(id)).unwrap_or_default();
        let is_text = |id| matches!(service.shape(id).map(|shape| &shape.kind), Some(ShapeKind::String));
        let slots = input.iter().filter(|member| member.location != Location::Headers).map(|member| {
            let list = match service.shape(member.shape).map(|shape| &shape.kind) {
                Some(ShapeKind::List { member, .. }) => is_text(*member),
                _ => false,
            };
            Slot {
                name: member.name.clone(),
                wire: member.wire_name.clone().unwrap_or_else(|| member.name.clone()),
                key: plain(&member.name),
                list,
                text: is_text(member.shape),
                required: member.required,
            }
        });
        Self { slots: slots.collect() }
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
        let found = self.slots.iter().filter(usable).min_by_key(|slot| (!slot.required, slot.list))?;
        Some(if found.list { format!("{}[]", found.name) } else { found.name.clone() })
    }
}

/// Lower case, letters and digits only.
fn plain(text: &str) -> String {
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
        return Candidate { arns: overlaid, filled: true };
    }
    let open = placeholders(arn);
    let mut fill = Vec::new();
    for placeholder in &open {
        let reviewed = reviewed.and_then(|one| one.placeholders.get(*placeholder));
        let path = match reviewed {
            Some(paths) => paths.iter().find(|path| members.has(path)).cloned(),
            None => member_for(placeholder, key, open.len(), operation, members),
        };
        fill.extend(path.map(|path| ((*placeholder).to_owned(), path)));
    }
    let own = own_arn(key, &open, members);
    let filled = fill.len() == open.len() || own.is_some();
    let single = || match fill.as_slice() {
        [(_, path)] if open.len() == 1 => Some(path.clone()),
        _ => None,
    };
    let generic = || {
        let names = ["resourcearn", "arn", "resourcearns", "arns"];
        if fill.is_empty() { members.find(|slot| names.contains(&slot.key.as_str())) } else { None }
    };
    let arn_member = own.or_else(single).or_else(generic);
    Candidate { arns: vec![ArnTemplate { template: arn.to_owned(), fill, arn_member }], filled }
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
    key: &str,
    open: usize,
    operation: &Operation,
    members: &Members,
) -> Option<String> {
    let (wanted, key, name) = (plain(placeholder), plain(key), plain(&operation.name));
    let wanted = wanted.strip_suffix("withpath").unwrap_or(&wanted);
    let wanted_stem = stem(wanted);
    let generic = ["id", "name", "uuid", "identifier", "resourceid", "resourcename", "arn", "resource"];
    // A member that holds ARNs is the whole resource, never a part of one.
    let is_part = |slot: &Slot| !slot.key.ends_with("arn") && !slot.key.ends_with("arns");
    let plurals = [format!("{wanted}s"), format!("{wanted}list")];
    let about_type = open == 1 && (wanted_stem == key || generic.contains(&wanted) || wanted.ends_with(&key));
    let own_name = open == 1 && (name.ends_with(&key) || name.ends_with(wanted_stem));
    members
        .find(|slot| slot.key == wanted)
        .or_else(|| members.find(|slot| slot.list && plurals.contains(&slot.key)))
        .or_else(|| members.find(|slot| is_part(slot) && stem(&slot.key) == wanted_stem))
        .or_else(|| members.find(|slot| about_type && is_part(slot) && stem(&slot.key) == key))
        .or_else(|| {
            members.find(|slot| own_name && slot.required && generic[..4].contains(&slot.key.as_str()))
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
    let roles = members.slots.iter().filter(role);
    roles
        .map(|slot| ActionUse {
            action: "iam:PassRole".to_owned(),
            access_level: AccessLevel::Write,
            resources: vec![ArnTemplate {
                template: "arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}".to_owned(),
                fill: vec![("RoleNameWithPath".to_owned(), slot.name.clone())],
                arn_member: Some(slot.name.clone()),
            }],
            when_member: Some(slot.name.clone()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(slots: &[(&str, bool, bool)]) -> Members {
        let slots = slots.iter().map(|(name, list, required)| Slot {
            name: (*name).to_owned(),
            wire: (*name).to_owned(),
            key: plain(name),
            list: *list,
            text: !list,
            required: *required,
        });
        Members { slots: slots.collect() }
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
        let found = candidate(key, arn, &operation(name), None, &members(slots));
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
