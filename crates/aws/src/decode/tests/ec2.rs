//! EC2 requests that name several things: no id in them stands for what they name otherwise.

use super::*;

const OWN: &str = "sg-0123456789abcdef0";
const PROD: &str = "sg-0fedcba9876543210";

/// The demands of a request of EC2, without the action's own prefix.
fn of(action: &str, parameters: &str) -> Vec<String> {
    let read = form("ec2", &format!("Action={action}&Version=2016-11-15&{parameters}")).reads();
    demands(&read).into_iter().map(|demand| demand.replace(&format!("ec2:{action} "), "")).collect()
}

fn arn(resource: &str) -> String {
    format!("arn:aws:ec2:eu-west-1:111122223333:{resource}")
}

#[track_caller]
fn is_open(action: &str, parameters: &str) {
    let demands = of(action, parameters);
    assert!(demands.iter().any(|demand| demand == "*"), "{action} {parameters}: {demands:?}");
}

#[track_caller]
fn is_on(action: &str, parameters: &str, resources: &[&str]) {
    let expected: Vec<String> = resources.iter().map(|resource| arn(resource)).collect();
    assert_eq!(of(action, parameters), expected, "{action} {parameters}");
}

#[test]
fn an_id_does_not_stand_for_a_group_that_is_named_by_name() {
    let rule = "IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=22";
    let decoy = format!("{rule}&IpPermissions.1.Groups.1.GroupId={OWN}");
    let text = format!("{rule}&IpPermissions.1.IpRanges.1.Description={OWN}");
    let rules = format!("SecurityGroupRuleId.1=sgr-0123456789abcdef0&{rule}");
    for action in ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"] {
        is_open(action, &format!("GroupName=prod&{decoy}"));
        is_open(action, &format!("GroupName=prod&{text}"));
        is_open(action, &format!("GroupName=prod&GroupId={OWN}&{rule}"));
        is_open(action, &format!("GroupId={OWN}&{rule}&SourceSecurityGroupName=prod"));
        is_open(action, &format!("GroupId={OWN}&{rule}&IpPermissions.1.Groups.1.GroupName=prod"));
    }
    is_open("RevokeSecurityGroupIngress", &rules);
    // By their ids it is on these alone, and a group that is named by both by its id.
    let (own, prod) = (format!("security-group/{OWN}"), format!("security-group/{PROD}"));
    is_on("AuthorizeSecurityGroupIngress", &format!("GroupId={PROD}&{decoy}"), &[&prod, &own]);
    let both = format!("{decoy}&IpPermissions.1.Groups.1.GroupName=mine");
    is_on("AuthorizeSecurityGroupIngress", &format!("GroupId={PROD}&{both}"), &[&prod, &own]);
    is_on("RevokeSecurityGroupIngress", &format!("GroupId={PROD}&{text}"), &[&prod]);
}

#[test]
fn an_id_does_not_stand_for_a_launch_template_that_is_named_by_name() {
    let data = format!("LaunchTemplateData.SecurityGroupId.1={OWN}");
    is_open("CreateLaunchTemplateVersion", &format!("LaunchTemplateName=prod&{data}"));
    is_open(
        "RunInstances",
        &format!("MinCount=1&MaxCount=1&LaunchTemplate.LaunchTemplateName=prod&SecurityGroupId.1={OWN}"),
    );
    // Nor where nothing names it.
    is_open("CreateLaunchTemplateVersion", &data);
    is_on(
        "CreateLaunchTemplateVersion",
        &format!("LaunchTemplateId=lt-0123456789abcdef0&{data}"),
        &[&format!("security-group/{OWN}"), "launch-template/lt-0123456789abcdef0"],
    );
    // The name of a new one names nothing that is there.
    is_on(
        "CreateLaunchTemplate",
        &format!("LaunchTemplateName=new&{data}"),
        &[&format!("security-group/{OWN}")],
    );
    is_on(
        "CreateSecurityGroup",
        "GroupName=new&GroupDescription=d&VpcId=vpc-01234567",
        &["vpc/vpc-01234567"],
    );
}

#[test]
fn an_id_does_not_stand_for_an_address() {
    is_open("AssociateAddress", "PublicIp=192.0.2.1&InstanceId=i-0123456789abcdef0");
    is_open("ReleaseAddress", "PublicIp=192.0.2.1&AllocationId=eipalloc-0123456789abcdef0");
    is_on(
        "AssociateAddress",
        "AllocationId=eipalloc-0123456789abcdef0&InstanceId=i-0123456789abcdef0",
        &["elastic-ip/eipalloc-0123456789abcdef0", "instance/i-0123456789abcdef0"],
    );
}

#[test]
fn an_id_of_a_known_kind_does_not_stand_for_one_of_an_unknown_kind() {
    let vpn = "vpn-0123456789abcdef0";
    let own = format!("security-group/{OWN}");
    is_on(
        "DeleteTags",
        &format!("ResourceId.1={OWN}&ResourceId.2={vpn}"),
        &[&own, &format!("vpn-connection/{vpn}")],
    );
    let unknown = of("DeleteTags", &format!("ResourceId.1={OWN}&ResourceId.2=new-0123456789abcdef0"));
    assert_eq!(unknown, [arn(&own), "arn:aws:ec2:eu-west-1:*:*/new-0123456789abcdef0".to_owned()]);
    is_open(
        "ReplaceRouteTableAssociation",
        "AssociationId=rtbassoc-0123456789abcdef0&RouteTableId=rtb-01234567",
    );
    is_open("ReplaceNetworkAclAssociation", "AssociationId=aclassoc-01234567&NetworkAclId=acl-01234567");
}

#[test]
fn free_text_names_nothing() {
    let texts: Vec<String> =
        (1..=60).map(|at| format!("IpPermissions.1.IpRanges.{at}.Description=sg-{at:017x}")).collect();
    assert_eq!(of("AuthorizeSecurityGroupIngress", &format!("GroupName=prod&{}", texts.join("&"))), ["*"]);
    let tagged = of("CreateTags", "ResourceId.1=vol-01234567&Tag.1.Key=vol-76543210&Tag.1.Value=i-01234567");
    assert_eq!(tagged, [arn("volume/vol-01234567")]);
}

#[test]
fn what_ids_alone_name_is_demanded_alone() {
    let instance = "instance/i-0123456789abcdef0";
    is_on(
        "StopInstances",
        "InstanceId.1=i-0123456789abcdef0&InstanceId.2=i-01234567",
        &[instance, "instance/i-01234567"],
    );
    is_on("StopInstances", "InstanceId.1=i-odd", &["instance/i-odd"]);
    is_on(
        "DeleteFleets",
        "FleetId.1=fleet-12a34b55-67cd-8ef9-ba9b-9208dabcdef0&TerminateInstances=true",
        &["fleet/fleet-12a34b55-67cd-8ef9-ba9b-9208dabcdef0"],
    );
    is_on(
        "CreateSubnet",
        "VpcId=vpc-01234567&CidrBlock=10.0.0.0/24&AvailabilityZoneId=euw1-az1",
        &["vpc/vpc-01234567"],
    );
    is_on("DeleteKeyPair", "KeyPairId=key-0123456789abcdef0", &["key-pair/key-0123456789abcdef0"]);
    is_on("DeleteKeyPair", "KeyName=kp", &["key-pair/kp"]);
    is_on(
        "ModifyInstancePlacement",
        "InstanceId=i-0123456789abcdef0&GroupName=spread",
        &["placement-group/spread", instance],
    );
    is_on(
        "ModifyNetworkInterfaceAttribute",
        "NetworkInterfaceId=eni-01234567&Attachment.AttachmentId=eni-attach-01234567&Attachment.DeleteOnTermination=true",
        &["network-interface/eni-01234567"],
    );
    // What is made has no id yet, and an ARN beside that does not stand for it.
    let placed = format!(
        "InstanceType=t&InstancePlatform=p&InstanceCount=1&PlacementGroupArn={}",
        arn("placement-group/pg")
    );
    assert_eq!(of("CreateCapacityReservation", &placed), [arn("placement-group/pg"), "*".to_owned()]);
    let ipam = of("DeleteIpamPool", "IpamPoolId=ipam-pool-0123456789abcdef0");
    assert_eq!(ipam, ["arn:aws:ec2::111122223333:ipam-pool/ipam-pool-0123456789abcdef0"]);
    let mut run = of(
        "RunInstances",
        &format!(
            "MinCount=1&MaxCount=1&ImageId=ami-01234567&KeyName=kp&SubnetId=subnet-01234567&SecurityGroupId.1={OWN}\
             &LaunchTemplate.LaunchTemplateId=lt-01234567&Placement.GroupName=pg&Placement.AvailabilityZone=eu-west-1a\
             &BlockDeviceMapping.1.Ebs.SnapshotId=snap-01234567&BlockDeviceMapping.1.Ebs.KmsKeyId=alias/k"
        ),
    );
    let mut expected = vec![
        "arn:aws:ec2:eu-west-1::image/ami-01234567".to_owned(),
        "arn:aws:ec2:eu-west-1::snapshot/snap-01234567".to_owned(),
    ];
    let own = format!("security-group/{OWN}");
    expected.extend(
        [
            "key-pair/kp",
            "subnet/subnet-01234567",
            &own,
            "launch-template/lt-01234567",
            "placement-group/pg",
            "instance/*",
        ]
        .map(arn),
    );
    expected.sort();
    run.sort();
    assert_eq!(run, expected);
}
