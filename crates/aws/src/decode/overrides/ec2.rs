//! EC2: what an id is, its prefix tells. An instance that is launched is a resource before it has an id.
//!
//! Ids are read from the members that hold ids, never from free text, and no id stands for what the request names besides:
//! by a name, by an address, or by an id that nothing here can place. That is also demanded, on any resource.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, push_template_permissions, push_unique,
};
use durward_catalog::RequiredAction;
use durward_core::{AccessLevel, Arn, Refusal, RequiredPermission, Resource};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Prefix of an id and the resource type in its ARN.
const ID_PREFIXES: [(&str, &str); 78] = [
    ("acl-", "network-acl"),
    ("afi-", "fpga-image"),
    ("aki-", "image"),
    ("ami-", "image"),
    ("ari-", "image"),
    ("cagw-", "carrier-gateway"),
    ("cgw-", "customer-gateway"),
    ("cr-", "capacity-reservation"),
    ("crf-", "capacity-reservation-fleet"),
    ("cvpn-endpoint-", "client-vpn-endpoint"),
    ("dopt-", "dhcp-options"),
    ("eice-", "instance-connect-endpoint"),
    ("eigw-", "egress-only-internet-gateway"),
    ("eipalloc-", "elastic-ip"),
    ("eni-", "network-interface"),
    ("export-ami-", "export-image-task"),
    ("export-i-", "export-instance-task"),
    ("fl-", "vpc-flow-log"),
    ("fleet-", "fleet"),
    ("h-", "dedicated-host"),
    ("i-", "instance"),
    ("iew-", "instance-event-window"),
    ("igw-", "internet-gateway"),
    ("import-ami-", "import-image-task"),
    ("import-snap-", "import-snapshot-task"),
    ("ipam-", "ipam"),
    ("ipam-pool-", "ipam-pool"),
    ("ipam-res-disco-", "ipam-resource-discovery"),
    ("ipam-res-disco-assoc-", "ipam-resource-discovery-association"),
    ("ipam-scope-", "ipam-scope"),
    ("ipv4pool-coip-", "coip-pool"),
    ("ipv4pool-ec2-", "ipv4pool-ec2"),
    ("ipv6pool-ec2-", "ipv6pool-ec2"),
    ("key-", "key-pair"),
    ("lgw-", "local-gateway"),
    ("lgw-rtb-", "local-gateway-route-table"),
    ("lgw-vif-", "local-gateway-virtual-interface"),
    ("lgw-vif-grp-", "local-gateway-virtual-interface-group"),
    ("lt-", "launch-template"),
    ("nat-", "natgateway"),
    ("nia-", "network-insights-analysis"),
    ("nip-", "network-insights-path"),
    ("nis-", "network-insights-access-scope"),
    ("nisa-", "network-insights-access-scope-analysis"),
    ("pcx-", "vpc-peering-connection"),
    ("pg-", "placement-group"),
    ("pl-", "prefix-list"),
    ("replacevol-", "replace-root-volume-task"),
    ("rs-", "route-server"),
    ("rse-", "route-server-endpoint"),
    ("rsp-", "route-server-peer"),
    ("rtb-", "route-table"),
    ("sfr-", "spot-fleet-request"),
    ("sg-", "security-group"),
    ("sgr-", "security-group-rule"),
    ("sir-", "spot-instances-request"),
    ("snap-", "snapshot"),
    ("subnet-", "subnet"),
    ("tgw-", "transit-gateway"),
    ("tgw-attach-", "transit-gateway-attachment"),
    ("tgw-connect-peer-", "transit-gateway-connect-peer"),
    ("tgw-mcast-domain-", "transit-gateway-multicast-domain"),
    ("tgw-ptb-", "transit-gateway-policy-table"),
    ("tgw-rtb-", "transit-gateway-route-table"),
    ("tmf-", "traffic-mirror-filter"),
    ("tmfr-", "traffic-mirror-filter-rule"),
    ("tms-", "traffic-mirror-session"),
    ("tmt-", "traffic-mirror-target"),
    ("vae-", "verified-access-endpoint"),
    ("vagr-", "verified-access-group"),
    ("vai-", "verified-access-instance"),
    ("vatp-", "verified-access-trust-provider"),
    ("vgw-", "vpn-gateway"),
    ("vol-", "volume"),
    ("vpc-", "vpc"),
    ("vpce-", "vpc-endpoint"),
    ("vpce-svc-", "vpc-endpoint-service"),
    ("vpn-", "vpn-connection"),
];

/// Members that hold ids and do not end in `Id`.
const ID_MEMBERS: [&str; 11] = [
    "CustomerOwnedIpv4Pool",
    "Destination",
    "DestinationPrefixLists",
    "Groups",
    "Instances",
    "Ipv6Pool",
    "PublicIpv4Pool",
    "Resources",
    "SecurityGroups",
    "Source",
    "SourcePrefixLists",
];

/// Members that end so and hold no id of a resource of EC2.
const DATA_MEMBERS: [&str; 16] = [
    "AWSAccessKeyId",
    "AccessGroupId",
    "AssetIds",
    "ClientId",
    "DeltaId",
    "DirectoryId",
    "InstanceEventId",
    "KmsKeyId",
    "MetricCategoryIds",
    "OrganizationTargetId",
    "QuoteId",
    "RestorableByUserIds",
    "TargetId",
    "TenantId",
    "UserId",
    "UserIds",
];

/// How the names of such members end.
const DATA_MEMBER_SUFFIXES: [&str; 7] =
    ["AccountId", "AccountIds", "OfferingId", "OwnerId", "OwnerIds", "ZoneId", "ZoneIds"];

/// Members that are data in one operation alone: what it makes gets the name, or it requires the id of what this is a part of.
const OPERATION_DATA_MEMBERS: [(&str, &str); 11] = [
    ("CreateCustomerGateway", "PublicIp"),
    ("CreateLaunchTemplate", "LaunchTemplateName"),
    ("CreateSecurityGroup", "GroupName"),
    ("DescribeClientVpnTargetNetworks", "AssociationIds"),
    ("DisassociateClientVpnTargetNetwork", "AssociationId"),
    ("DisassociateNatGatewayAddress", "AssociationIds"),
    ("GetIpamPoolAllocations", "IpamPoolAllocationId"),
    ("ModifyNetworkInterfaceAttribute", "AttachmentId"),
    ("ModifySnapshotAttribute", "GroupNames"),
    ("ReleaseIpamPoolAllocation", "IpamPoolAllocationId"),
    ("TerminateClientVpnConnections", "ConnectionId"),
];

#[expect(clippy::unnecessary_wraps, reason = "one of a table of functions, others of which can refuse")]
pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let named = NamedResources::from_request(context);
    let mut out = Vec::new();
    let all: Vec<&RequiredAction> = context.applicable_actions().collect();
    let mut actions = HashSet::new();
    for required_action in &all {
        if !is_resource_level_action(required_action) {
            push_template_permissions(context, required_action, &mut out);
        } else if actions.insert(&required_action.action) {
            let same = |other: &&&RequiredAction| {
                is_resource_level_action(other) && other.action == required_action.action
            };
            named.push_permissions(&all.iter().filter(same).copied().collect::<Vec<_>>(), &mut out);
        }
    }
    if context.operation_model.name == "RunInstances" {
        push_unique(
            &mut out,
            permission_on_arn("ec2:RunInstances", AccessLevel::Write, context.build_arn("ec2", "instance/*")),
        );
        if context.has_parameter("IamInstanceProfile") {
            // The role behind the profile is not in the request.
            push_unique(&mut out, permission_on_any("iam:PassRole", AccessLevel::Write));
        }
    }
    if context.operation_model.name.starts_with("Associate") && context.has_parameter("IamInstanceProfile") {
        push_unique(&mut out, permission_on_any("iam:PassRole", AccessLevel::Write));
    }
    if context.has_parameter("TagSpecifications") {
        push_unique(&mut out, permission_on_any("ec2:CreateTags", AccessLevel::Tagging));
    }
    Ok(Some(out))
}

/// Whether it is an action of EC2 that is allowed on single resources.
fn is_resource_level_action(required_action: &RequiredAction) -> bool {
    required_action.action.starts_with("ec2:") && !required_action.resources.is_empty()
}

/// What a member holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberKind {
    Id,
    Arn,
    /// The name of a key pair or placement group, which is in its ARN.
    NameInArn(&'static str),
    /// A name, or an address, of something that has an id, which the request does not say.
    Name,
    Data,
}

/// What a request names, in all its members.
struct NamedResources<'a> {
    context: &'a PermissionContext<'a>,
    arns: Vec<String>,
    /// Whether any of these is one of an id or a name. What a whole ARN names is added to the rest, and stands for none of it.
    is_named_by_id: bool,
    seen_arns: HashSet<String>,
    /// Texts where an id belongs, whose kind they do not tell.
    unplaced_ids: Vec<&'a str>,
    /// Something is named otherwise than by its id or ARN.
    is_named_by_name: bool,
}

impl<'a> NamedResources<'a> {
    fn from_request(context: &'a PermissionContext<'a>) -> Self {
        let mut named = Self {
            context,
            arns: Vec::new(),
            is_named_by_id: false,
            seen_arns: HashSet::new(),
            unplaced_ids: Vec::new(),
            is_named_by_name: false,
        };
        named.visit_structure("", context.parameters);
        named
    }

    fn visit_structure(&mut self, parent: &str, members: &'a Map<String, Value>) {
        for (member, value) in members {
            self.visit_value(parent, members, member, value);
        }
    }

    fn visit_value(&mut self, parent: &str, beside: &Map<String, Value>, member: &'a str, value: &'a Value) {
        match value {
            Value::Object(members) => self.visit_structure(member, members),
            Value::Array(items) => {
                for item in items {
                    self.visit_value(parent, beside, member, item);
                }
            }
            Value::String(text) if !text.is_empty() => {
                let held = member_kind(&self.context.operation_model.name, parent, beside, member);
                self.visit_text(held, member, text);
            }
            _ => {}
        }
    }

    fn visit_text(&mut self, held: MemberKind, member: &str, text: &'a str) {
        match held {
            MemberKind::Id if text.starts_with("arn:") => self.push_arn(text.to_owned()),
            MemberKind::Id => match id_arn(self.context, text) {
                Some(arn) => {
                    self.is_named_by_id = true;
                    self.push_arn(arn);
                }
                // A security group of the default network may be named in the place of its id.
                None if member == "SecurityGroups" => self.is_named_by_name = true,
                None => self.unplaced_ids.push(text),
            },
            MemberKind::Arn if text.split(':').nth(2) == Some("ec2") => self.push_arn(text.to_owned()),
            MemberKind::NameInArn(kind) => {
                self.is_named_by_id = true;
                self.push_arn(self.context.build_arn("ec2", &format!("{kind}/{text}")));
            }
            MemberKind::Name => self.is_named_by_name = true,
            MemberKind::Arn | MemberKind::Data => {}
        }
    }

    fn push_arn(&mut self, arn: String) {
        if self.seen_arns.insert(arn.clone()) {
            self.arns.push(arn);
        }
    }

    /// The demands of one action, which may be in several required_actions of it.
    fn push_permissions(&self, required_actions: &[&RequiredAction], out: &mut Vec<RequiredPermission>) {
        let Some(RequiredAction { action, access_level, .. }) = required_actions.first() else { return };
        let mut by_model = Vec::new();
        for required_action in required_actions {
            push_template_permissions(self.context, required_action, &mut by_model);
        }
        let placed = |text: &&str| by_model.iter().any(|one| is_on_resource(one, text));
        let mut open = self.is_named_by_name || !self.unplaced_ids.iter().all(placed);
        if self.is_named_by_id {
            by_model.retain(|one| self.unplaced_ids.iter().any(|text| is_on_resource(one, text)));
            open |= by_model.is_empty() && !self.cover_any_of(required_actions);
        }
        let known: HashSet<String> = by_model.iter().map(|one| one.resource.to_text()).collect();
        let arns = self.arns.iter().filter(|arn| !known.contains(*arn));
        out.extend(arns.map(|arn| permission_on_arn(action, *access_level, arn.clone())));
        out.append(&mut by_model);
        if open {
            push_unique(out, permission_on_any(action, *access_level));
        }
    }

    /// Whether one of the ARNs is what the action is on. Where it is also on what it makes, none needs to be.
    fn cover_any_of(&self, required_actions: &[&RequiredAction]) -> bool {
        required_actions.iter().flat_map(|required_action| &required_action.resources).any(|template| {
            let makes = template.placeholder_members.is_empty() && template.arn_member.is_none();
            let kind = arn_resource_type(&template.template);
            makes || kind == "*" || self.arns.iter().any(|arn| arn_resource_type(arn) == kind)
        })
    }
}

/// The resource type in an ARN of EC2.
fn arn_resource_type(arn: &str) -> &str {
    let resource = Arn::parse(arn).map_or("", |arn| arn.resource);
    resource.split_once('/').map_or(resource, |(kind, _)| kind)
}

/// Whether a demand is on the resource of this id.
fn is_on_resource(permission: &RequiredPermission, id: &str) -> bool {
    let Resource::Arn(arn) = &permission.resource else { return false };
    arn.strip_suffix(id).is_some_and(|start| start.ends_with('/'))
}

fn member_kind(operation: &str, parent: &str, beside: &Map<String, Value>, member: &str) -> MemberKind {
    let stem = member.strip_suffix('s').unwrap_or(member);
    if OPERATION_DATA_MEMBERS.contains(&(operation, member)) {
        return MemberKind::Data;
    }
    match member {
        "KeyName" => MemberKind::NameInArn("key-pair"),
        "GroupName" if parent == "Placement" || operation.contains("Placement") => {
            MemberKind::NameInArn("placement-group")
        }
        // Of a group that a rule or a launch names by both, the id counts.
        "GroupName" if !parent.is_empty() && beside.get("GroupId").is_some_and(|id| id != "") => {
            MemberKind::Data
        }
        "GroupName" | "GroupNames" | "LaunchTemplateName" | "PublicIp" | "SourceSecurityGroupName" => {
            MemberKind::Name
        }
        _ if ID_MEMBERS.contains(&member) => MemberKind::Id,
        _ if DATA_MEMBERS.contains(&member)
            || DATA_MEMBER_SUFFIXES.iter().any(|end| member.ends_with(end)) =>
        {
            MemberKind::Data
        }
        _ if stem.ends_with("Id") || stem.ends_with("IdSet") => MemberKind::Id,
        _ if stem.ends_with("Arn") || stem.ends_with("ArnSet") => MemberKind::Arn,
        _ => MemberKind::Data,
    }
}

fn id_arn(context: &PermissionContext<'_>, id: &str) -> Option<String> {
    let (_, kind) = ID_PREFIXES
        .iter()
        .find(|(prefix, _)| id.strip_prefix(prefix).is_some_and(is_aws_generated_suffix))?;
    // Images and snapshots have no account in their ARN, and what is of an address manager has no region.
    let account = if matches!(*kind, "image" | "snapshot") { "" } else { context.scope.account };
    let region = if kind.starts_with("ipam") { "" } else { context.scope.region };
    Some(format!("arn:{}:ec2:{region}:{account}:{kind}/{id}", context.partition))
}

/// What follows the prefix of an id: eight or seventeen hexadecimal digits, or those of a UUID.
fn is_aws_generated_suffix(rest: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    let parts: Vec<&str> = rest.split('-').collect();
    parts.iter().all(|part| digits(part))
        && matches!(*parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8 | 17] | [8, 4, 4, 4, 12])
}
