//! EC2: the prefix of an id gives the type of the resource (EC2 User Guide, "Resource IDs").
//!
//! Promise: ids are taken only from members that hold ids, never from free text. Whatever else the request names (by a name,
//! by an address, or by an id of unknown type) requires the permission on any resource: a caller cannot cover a resource that
//! it may not touch with the id of one that it may.

use super::super::permission_templates::{
    PermissionContext, permission_on_any, permission_on_arn, push_template_permissions,
};
use durward_catalog::RequiredAction;
use durward_core::{AccessLevel, Arn, Refusal, RequiredPermission, Resource};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The prefix of an id, and the resource type in its ARN.
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

/// Members that hold ids although their names do not end in `Id`.
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

/// Members whose names end in `Id` although they hold no id of an EC2 resource.
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

/// Endings of the names of more such members.
const DATA_MEMBER_SUFFIXES: [&str; 7] =
    ["AccountId", "AccountIds", "OfferingId", "OwnerId", "OwnerIds", "ZoneId", "ZoneIds"];

/// Members that name no existing resource in one operation: the name is for a new resource, or the operation also requires the
/// id of the resource that this is a part of.
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
    let applicable: Vec<&RequiredAction> = context.applicable_actions().collect();
    let mut actions = HashSet::new();
    for required_action in &applicable {
        if !is_resource_level_action(required_action) {
            push_template_permissions(context, required_action, &mut out);
        } else if actions.insert(&required_action.action) {
            let is_same_action = |other: &&&RequiredAction| {
                is_resource_level_action(other) && other.action == required_action.action
            };
            named.push_permissions(
                &applicable.iter().filter(is_same_action).copied().collect::<Vec<_>>(),
                &mut out,
            );
        }
    }
    if context.operation_model.name == "RunInstances" {
        out.push(permission_on_arn(
            "ec2:RunInstances",
            AccessLevel::Write,
            context.build_arn("ec2", "instance/*"),
        ));
        if context.has_parameter("IamInstanceProfile") {
            // The request names the instance profile, not the role in it.
            out.push(permission_on_any("iam:PassRole", AccessLevel::Write));
        }
    }
    if context.operation_model.name.starts_with("Associate") && context.has_parameter("IamInstanceProfile") {
        out.push(permission_on_any("iam:PassRole", AccessLevel::Write));
    }
    // Tags at creation need `ec2:CreateTags` as well (EC2 User Guide, "Grant permission to tag resources during creation").
    if context.has_parameter("TagSpecifications") {
        out.push(permission_on_any("ec2:CreateTags", AccessLevel::Tagging));
    }
    Ok(Some(out))
}

/// Returns true if the request sets the user data of an instance, which the instance runs at its next start.
pub(super) fn changes_user_data(context: &PermissionContext<'_>) -> bool {
    context.operation_model.name == "ModifyInstanceAttribute" && context.has_parameter("UserData")
}

/// Returns true for an EC2 action with resource-level permissions.
fn is_resource_level_action(required_action: &RequiredAction) -> bool {
    required_action.action.starts_with("ec2:") && !required_action.resources.is_empty()
}

/// The kinds of values of a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MemberKind {
    Id,
    Arn,
    /// The name of a key pair or placement group, whose ARN contains the name.
    NameInArn(&'static str),
    /// The name or address of a resource whose ARN contains its id, which the request does not give.
    Name,
    Data,
}

/// The resources that a request names in all its members.
struct NamedResources<'a> {
    context: &'a PermissionContext<'a>,
    arns: Vec<String>,
    /// At least one ARN comes from an id or a name. ARNs that are given as such only add permissions, they replace none.
    is_named_by_id: bool,
    seen_arns: HashSet<String>,
    /// Ids of unknown resource type.
    unplaced_ids: Vec<&'a str>,
    /// A resource is named by something other than its id or ARN.
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
                let kind = member_kind(&self.context.operation_model.name, parent, beside, member);
                self.visit_text(kind, member, text);
            }
            _ => {}
        }
    }

    fn visit_text(&mut self, kind: MemberKind, member: &str, text: &'a str) {
        match kind {
            MemberKind::Id if text.starts_with("arn:") => self.push_arn(text.to_owned()),
            MemberKind::Id => match id_arn(self.context, text) {
                Some(arn) => {
                    self.is_named_by_id = true;
                    self.push_arn(arn);
                }
                // In the default VPC a security group may be given by its name.
                None if member == "SecurityGroups" => self.is_named_by_name = true,
                None => self.unplaced_ids.push(text),
            },
            // ARNs of other services (a KMS key, a role) are no resources of an EC2 action.
            MemberKind::Arn if text.split(':').nth(2) == Some("ec2") => self.push_arn(text.to_owned()),
            MemberKind::NameInArn(resource_type) => {
                self.is_named_by_id = true;
                self.push_arn(self.context.build_arn("ec2", &format!("{resource_type}/{text}")));
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

    /// Adds the permissions for one action. `required_actions` are its entries in the catalog.
    fn push_permissions(&self, required_actions: &[&RequiredAction], out: &mut Vec<RequiredPermission>) {
        let Some(RequiredAction { action, access_level, .. }) = required_actions.first() else { return };
        let mut by_model = Vec::new();
        for required_action in required_actions {
            push_template_permissions(self.context, required_action, &mut by_model);
        }
        let is_placed = |text: &&str| by_model.iter().any(|one| is_on_resource(one, text));
        let mut needs_any = self.is_named_by_name || !self.unplaced_ids.iter().all(is_placed);
        if self.is_named_by_id {
            by_model.retain(|one| self.unplaced_ids.iter().any(|text| is_on_resource(one, text)));
            needs_any |= by_model.is_empty() && !self.cover_any_of(required_actions);
        }
        let known: HashSet<String> = by_model.iter().map(|one| one.resource.to_text()).collect();
        let arns = self.arns.iter().filter(|arn| !known.contains(*arn));
        out.extend(arns.map(|arn| permission_on_arn(action, *access_level, arn.clone())));
        out.append(&mut by_model);
        if needs_any {
            out.push(permission_on_any(action, *access_level));
        }
    }

    /// Returns true if one of the ARNs has a resource type of the action. An action on a new resource needs none.
    fn cover_any_of(&self, required_actions: &[&RequiredAction]) -> bool {
        required_actions.iter().flat_map(|required_action| &required_action.resources).any(|template| {
            let is_new = template.placeholder_members.is_empty() && template.arn_member.is_none();
            let kind = arn_resource_type(&template.template);
            is_new || kind == "*" || self.arns.iter().any(|arn| arn_resource_type(arn) == kind)
        })
    }
}

/// The resource type in an EC2 ARN.
fn arn_resource_type(arn: &str) -> &str {
    let resource = Arn::parse(arn).map_or("", |arn| arn.resource);
    resource.split_once('/').map_or(resource, |(kind, _)| kind)
}

/// Returns true if a permission is on the resource with this id.
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
        // Where a rule or a launch gives both the name and the id of a group, EC2 uses the id.
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
    // The ARNs of images and snapshots have no account, those of IPAM resources no region (Service Authorization Reference,
    // "Actions, resources, and condition keys for Amazon EC2").
    let account = if matches!(*kind, "image" | "snapshot") { "" } else { context.scope.account };
    let region = if kind.starts_with("ipam") { "" } else { context.scope.region };
    Some(format!("arn:{}:ec2:{region}:{account}:{kind}/{id}", context.partition))
}

/// Returns true if the text after the prefix is as AWS generates it: 8 or 17 hexadecimal digits (EC2 User Guide, "Resource IDs"),
/// or a UUID.
fn is_aws_generated_suffix(rest: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase());
    let parts: Vec<&str> = rest.split('-').collect();
    parts.iter().all(|part| digits(part))
        && matches!(*parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8 | 17] | [8, 4, 4, 4, 12])
}
