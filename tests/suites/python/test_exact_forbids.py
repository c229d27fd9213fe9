"""A forbid on one exact ARN holds however a request names the resource, and for nothing that it names exactly beside it."""

import pytest
from botocore.exceptions import ClientError

from approval_gateway import ApprovalTestGateway, client, policies  # noqa: F401: `client` and `policies` are fixtures
from conftest import REGION

pytestmark = [pytest.mark.gateway, pytest.mark.moto]

ACCOUNT = "123456789012"


class ExactTestGateway(ApprovalTestGateway):
    policy_text = """
permit (principal, action == Action::"connect", resource);
permit (principal, action, resource);
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with ExactTestGateway("moto", tmp_path_factory.mktemp("exact") / "gateway") as made:
        yield made


# Each makes two resources and gives the ARN of one, the calls on it, and calls on what is named beside it.


def secretsmanager(root, client):
    arn = root.create_secret(Name="guarded", SecretString="x")["ARN"]
    root.create_secret(Name="guarded-not", SecretString="y")
    names = ["guarded", arn, arn[:-7]]
    # Nobody can tell which secrets these are.
    filtered = {"Filters": [{"Key": "name", "Values": ["guarded"]}]}
    return (
        arn,
        [(client.get_secret_value, {"SecretId": name}) for name in names] + [(client.batch_get_secret_value, filtered)],
        [(client.get_secret_value, {"SecretId": "guarded-not"}), (client.list_secrets, {})],
    )


def ssm(root, client):
    for name in ("/guarded/key", "/free/key"):
        root.put_parameter(Name=name, Value="x", Type="String")
    return (
        f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/guarded/key",
        [
            (client.get_parameter, {"Name": "/guarded/key"}),
            (client.get_parameters_by_path, {"Path": "/guarded"}),
            (client.get_parameters_by_path, {"Path": "/", "Recursive": True}),
        ],
        [(client.get_parameter, {"Name": "/free/key"}), (client.get_parameters_by_path, {"Path": "/free"})],
    )


def kms(root, client):
    guarded, free = (root.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    root.create_alias(AliasName="alias/guarded", TargetKeyId=guarded)
    sealed = {key: root.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"] for key in (guarded, free)}
    names = [guarded, guarded.rsplit("/", 1)[1], "alias/guarded"]
    return (
        guarded,
        [(client.encrypt, {"KeyId": name, "Plaintext": b"x"}) for name in names]
        + [(client.decrypt, {"CiphertextBlob": sealed[guarded]})],
        [(client.decrypt, {"CiphertextBlob": sealed[free], "KeyId": free}), (client.list_keys, {})],
    )


def iam(root, client):
    for name in ("guarded", "free"):
        root.create_role(RoleName=name, Path="/team/", AssumeRolePolicyDocument="{}")
    return (
        f"arn:aws:iam::{ACCOUNT}:role/team/guarded",
        [(client.get_role, {"RoleName": "guarded"}), (client.delete_role, {"RoleName": "guarded"})],
        [(client.get_role, {"RoleName": "free"}), (client.list_users, {})],
    )


def ec2(root, client):
    vpc = root.describe_vpcs()["Vpcs"][0]["VpcId"]
    groups = [root.create_security_group(GroupName=name, Description="x", VpcId=vpc)["GroupId"] for name in ("guarded", "free")]
    return (
        f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/{groups[0]}",
        [(client.delete_security_group, {"GroupId": groups[0]}), (client.delete_security_group, {"GroupName": "guarded"})],
        [
            (client.delete_security_group, {"GroupId": groups[1]}),
            (client.describe_security_groups, {}),
            # What is made, with its tags, is another.
            (client.create_security_group, {
                "GroupName": "made", "Description": "x", "VpcId": vpc,
                "TagSpecifications": [{"ResourceType": "security-group", "Tags": [{"Key": "a", "Value": "b"}]}],
            }),
        ],
    )


def logs(root, client):
    for name in ("/guarded", "/free"):
        root.create_log_group(logGroupName=name)
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/guarded"
    return (
        arn,
        [
            (client.delete_log_group, {"logGroupName": "/guarded"}),
            (client.filter_log_events, {"logGroupIdentifier": f"{arn}:*"}),
            (client.filter_log_events, {"logGroupName": "/guarded"}),
        ],
        [(client.filter_log_events, {"logGroupName": "/free"})],
    )


@pytest.mark.parametrize("service", [secretsmanager, ssm, kms, iam, ec2, logs], ids=lambda service: service.__name__)
def test_a_forbid_on_one_arn_holds_however_the_request_names_it(gateway, client, policies, service):  # noqa: F811
    name = service.__name__
    arn, guarded, free = service(gateway.root(name), client(name))
    policies(f'@id("guarded") forbid (principal, action, resource == Aws::Resource::"{arn}");')
    for call, arguments in guarded:
        with pytest.raises(ClientError, match="is forbidden by policy `guarded`"):
            call(**arguments)
    for call, arguments in free:
        call(**arguments)


def test_commands_on_what_tags_or_lists_choose_may_be_on_a_forbidden_instance(gateway, client, policies):  # noqa: F811
    image = gateway.root("ec2").describe_images()["Images"][0]["ImageId"]
    made = gateway.root("ec2").run_instances(ImageId=image, MinCount=2, MaxCount=2)["Instances"]
    guarded, free = (one["InstanceId"] for one in made)
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{guarded}"
    policies(f'@id("guarded") forbid (principal, action, resource == Aws::Resource::"{arn}");')
    ssm, run = client("ssm"), {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["id"]}}
    by_id, by_tag = {"Key": "InstanceIds", "Values": [guarded]}, {"Key": "tag:env", "Values": ["production"]}
    for call, arguments in [
        (ssm.send_command, {**run, "InstanceIds": [guarded]}),
        (ssm.send_command, {**run, "Targets": [by_id]}),
        (ssm.send_command, {**run, "Targets": [by_tag]}),
        (ssm.create_association, {"Name": "AWS-RunShellScript", "Targets": [by_id]}),
        (client("ec2").terminate_instances, {"InstanceIds": [guarded, free]}),
    ]:
        with pytest.raises(ClientError, match="is forbidden by policy `guarded`"):
            call(**arguments)
    ssm.send_command(**run, InstanceIds=[free])
    # What is started is another.
    client("ec2").run_instances(
        ImageId=image, MinCount=1, MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
