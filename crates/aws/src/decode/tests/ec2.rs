//! EC2 requests that name several resources: an id covers none of the others.

use super::*;

const OWN_GROUP: &str = "sg-0123456789abcdef0";
const PROD_GROUP: &str = "sg-0fedcba9876543210";

/// The required resources of an EC2 request; permissions for other actions keep their action.
fn ec2_resources(action: &str, parameters: &str) -> Vec<String> {
    let read =
        form_request("ec2", &format!("Action={action}&Version=2016-11-15&{parameters}")).expect_decoded();
    permission_texts(&read)
        .into_iter()
        .map(|permission| permission.replace(&format!("ec2:{action} "), ""))
        .collect()
}

fn ec2_arn(resource: &str) -> String {
    format!("arn:aws:ec2:eu-west-1:111122223333:{resource}")
}

#[track_caller]
fn assert_any_resource(action: &str, parameters: &str) {
    let permissions = ec2_resources(action, parameters);
    assert!(permissions.iter().any(|permission| permission == "*"), "{action} {parameters}: {permissions:?}");
}

#[track_caller]
fn assert_resources(action: &str, parameters: &str, resources: &[&str]) {
    let expected: Vec<String> = resources.iter().map(|resource| ec2_arn(resource)).collect();
    assert_eq!(ec2_resources(action, parameters), expected, "{action} {parameters}");
}

#[test]
fn an_id_does_not_cover_a_group_given_by_name() {
    let rule = "IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=22&IpPermissions.1.ToPort=22";
    let decoy = format!("{rule}&IpPermissions.1.Groups.1.GroupId={OWN_GROUP}");
    let text = format!("{rule}&IpPermissions.1.IpRanges.1.Description={OWN_GROUP}");
    let rules = format!("SecurityGroupRuleId.1=sgr-0123456789abcdef0&{rule}");
    for action in ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"] {
        assert_any_resource(action, &format!("GroupName=prod&{decoy}"));
        assert_any_resource(action, &format!("GroupName=prod&{text}"));
        assert_any_resource(action, &format!("GroupName=prod&GroupId={OWN_GROUP}&{rule}"));
        assert_any_resource(action, &format!("GroupId={OWN_GROUP}&{rule}&SourceSecurityGroupName=prod"));
        assert_any_resource(
            action,
            &format!("GroupId={OWN_GROUP}&{rule}&IpPermissions.1.Groups.1.GroupName=prod"),
        );
    }
    assert_any_resource("RevokeSecurityGroupIngress", &rules);
    // Given by their ids, only these are required. Of a group with a name and an id, the id counts.
    let (own, prod) = (format!("security-group/{OWN_GROUP}"), format!("security-group/{PROD_GROUP}"));
    assert_resources(
        "AuthorizeSecurityGroupIngress",
        &format!("GroupId={PROD_GROUP}&{decoy}"),
        &[&prod, &own],
    );
    let both = format!("{decoy}&IpPermissions.1.Groups.1.GroupName=mine");
    assert_resources(
        "AuthorizeSecurityGroupIngress",
        &format!("GroupId={PROD_GROUP}&{both}"),
        &[&prod, &own],
    );
    assert_resources("RevokeSecurityGroupIngress", &format!("GroupId={PROD_GROUP}&{text}"), &[&prod]);
}

#[test]
fn an_id_does_not_cover_a_launch_template_given_by_name() {
    let data = format!("LaunchTemplateData.SecurityGroupId.1={OWN_GROUP}");
    assert_any_resource("CreateLaunchTemplateVersion", &format!("LaunchTemplateName=prod&{data}"));
    assert_any_resource(
        "RunInstances",
        &format!(
            "MinCount=1&MaxCount=1&LaunchTemplate.LaunchTemplateName=prod&SecurityGroupId.1={OWN_GROUP}"
        ),
    );
    // Nor where nothing names it.
    assert_any_resource("CreateLaunchTemplateVersion", &data);
    assert_resources(
        "CreateLaunchTemplateVersion",
        &format!("LaunchTemplateId=lt-0123456789abcdef0&{data}"),
        &[&format!("security-group/{OWN_GROUP}"), "launch-template/lt-0123456789abcdef0"],
    );
    // The name of a new one names nothing that is there.
    assert_resources(
        "CreateLaunchTemplate",
        &format!("LaunchTemplateName=new&{data}"),
        &[&format!("security-group/{OWN_GROUP}")],
    );
    assert_resources(
        "CreateSecurityGroup",
        "GroupName=new&GroupDescription=d&VpcId=vpc-01234567",
        &["vpc/vpc-01234567"],
    );
}

#[test]
fn an_id_does_not_cover_an_address() {
    assert_any_resource("AssociateAddress", "PublicIp=192.0.2.1&InstanceId=i-0123456789abcdef0");
    assert_any_resource("ReleaseAddress", "PublicIp=192.0.2.1&AllocationId=eipalloc-0123456789abcdef0");
    assert_resources(
        "AssociateAddress",
        "AllocationId=eipalloc-0123456789abcdef0&InstanceId=i-0123456789abcdef0",
        &["elastic-ip/eipalloc-0123456789abcdef0", "instance/i-0123456789abcdef0"],
    );
}

#[test]
fn an_id_of_a_known_type_does_not_cover_one_of_an_unknown_type() {
    let vpn = "vpn-0123456789abcdef0";
    let own = format!("security-group/{OWN_GROUP}");
    assert_resources(
        "DeleteTags",
        &format!("ResourceId.1={OWN_GROUP}&ResourceId.2={vpn}"),
        &[&own, &format!("vpn-connection/{vpn}")],
    );
    let unknown =
        ec2_resources("DeleteTags", &format!("ResourceId.1={OWN_GROUP}&ResourceId.2=new-0123456789abcdef0"));
    assert_eq!(unknown, [ec2_arn(&own), "arn:aws:ec2:eu-west-1:*:*/new-0123456789abcdef0".to_owned()]);
    assert_any_resource(
        "ReplaceRouteTableAssociation",
        "AssociationId=rtbassoc-0123456789abcdef0&RouteTableId=rtb-01234567",
    );
    assert_any_resource(
        "ReplaceNetworkAclAssociation",
        "AssociationId=aclassoc-01234567&NetworkAclId=acl-01234567",
    );
}

#[test]
fn free_text_names_no_resource() {
    let texts: Vec<String> =
        (1..=60).map(|at| format!("IpPermissions.1.IpRanges.{at}.Description=sg-{at:017x}")).collect();
    assert_eq!(
        ec2_resources("AuthorizeSecurityGroupIngress", &format!("GroupName=prod&{}", texts.join("&"))),
        ["*"]
    );
    let tagged = ec2_resources(
        "CreateTags",
        "ResourceId.1=vol-01234567&Tag.1.Key=vol-76543210&Tag.1.Value=i-01234567",
    );
    assert_eq!(tagged, [ec2_arn("volume/vol-01234567")]);
}

#[test]
fn resources_given_by_id_alone_are_required_alone() {
    let instance = "instance/i-0123456789abcdef0";
    assert_resources(
        "StopInstances",
        "InstanceId.1=i-0123456789abcdef0&InstanceId.2=i-01234567",
        &[instance, "instance/i-01234567"],
    );
    assert_resources("StopInstances", "InstanceId.1=i-odd", &["instance/i-odd"]);
    assert_resources(
        "DeleteFleets",
        "FleetId.1=fleet-12a34b55-67cd-8ef9-ba9b-9208dabcdef0&TerminateInstances=true",
        &["fleet/fleet-12a34b55-67cd-8ef9-ba9b-9208dabcdef0"],
    );
    assert_resources(
        "CreateSubnet",
        "VpcId=vpc-01234567&CidrBlock=10.0.0.0/24&AvailabilityZoneId=euw1-az1",
        &["vpc/vpc-01234567"],
    );
    assert_resources("DeleteKeyPair", "KeyPairId=key-0123456789abcdef0", &["key-pair/key-0123456789abcdef0"]);
    assert_resources("DeleteKeyPair", "KeyName=kp", &["key-pair/kp"]);
    assert_resources(
        "ModifyInstancePlacement",
        "InstanceId=i-0123456789abcdef0&GroupName=spread",
        &["placement-group/spread", instance],
    );
    assert_resources(
        "ModifyNetworkInterfaceAttribute",
        "NetworkInterfaceId=eni-01234567&Attachment.AttachmentId=eni-attach-01234567&Attachment.DeleteOnTermination=true",
        &["network-interface/eni-01234567"],
    );
    // A new resource has no id yet, and an ARN beside it does not cover it.
    let placed = format!(
        "InstanceType=t&InstancePlatform=p&InstanceCount=1&PlacementGroupArn={}",
        ec2_arn("placement-group/pg")
    );
    assert_eq!(
        ec2_resources("CreateCapacityReservation", &placed),
        [ec2_arn("placement-group/pg"), "*".to_owned()]
    );
    let ipam = ec2_resources("DeleteIpamPool", "IpamPoolId=ipam-pool-0123456789abcdef0");
    assert_eq!(ipam, ["arn:aws:ec2::111122223333:ipam-pool/ipam-pool-0123456789abcdef0"]);
    let mut run = ec2_resources(
        "RunInstances",
        &format!(
            "MinCount=1&MaxCount=1&ImageId=ami-01234567&KeyName=kp&SubnetId=subnet-01234567&SecurityGroupId.1={OWN_GROUP}\
             &LaunchTemplate.LaunchTemplateId=lt-01234567&Placement.GroupName=pg&Placement.AvailabilityZone=eu-west-1a\
             &BlockDeviceMapping.1.Ebs.SnapshotId=snap-01234567&BlockDeviceMapping.1.Ebs.KmsKeyId=alias/k"
        ),
    );
    let mut expected = vec![
        "arn:aws:ec2:eu-west-1::image/ami-01234567".to_owned(),
        "arn:aws:ec2:eu-west-1::snapshot/snap-01234567".to_owned(),
    ];
    let own = format!("security-group/{OWN_GROUP}");
    expected.extend(
        [
            "key-pair/kp",
            "subnet/subnet-01234567",
            &own,
            "launch-template/lt-01234567",
            "placement-group/pg",
            "instance/*",
        ]
        .map(ec2_arn),
    );
    expected.sort();
    run.sort();
    assert_eq!(run, expected);
}
