"""A resource that is marked stays what it is, however a request names it: no name evades a policy that reads tags."""

import io
import json
import zipfile

import pytest
from botocore.exceptions import ClientError

from approval_gateway import ApprovalTestGateway, client  # noqa: F401: `client` is a fixture
from conftest import REGION

pytestmark = [pytest.mark.gateway, pytest.mark.moto]

ACCOUNT = "123456789012"
MARK = {"env": "production"}
TAGS = [{"Key": "env", "Value": "production"}]


class NamingTestGateway(ApprovalTestGateway):
    policy_text = """
@id("agents-connect")
permit (principal, action == Action::"connect", resource);
@id("agents-work")
permit (principal, action, resource);
@id("no-production")
forbid (
    principal,
    action in [Aws::Action::"Read", Aws::Action::"Write", Aws::Action::"Permissions management", Aws::Action::"Tagging"],
    resource
) when { resource.hasTag("env") && resource.getTag("env") == "production" };
"""

    def configuration(self):
        return super().configuration() + '\n[[aws.label]]\narn = "arn:aws:rds:*:*:db:guarded-*"\ntags = { env = "production" }\n'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with NamingTestGateway("moto", tmp_path_factory.mktemp("names") / "gateway") as made:
        made.root("iam").create_role(RoleName="lambda", AssumeRolePolicyDocument="{}")
        yield made


def ec2(root, client):
    key = root.create_key_pair(KeyName="kp", TagSpecifications=[{"ResourceType": "key-pair", "Tags": TAGS}])["KeyPairId"]
    yield client.delete_key_pair, {"KeyName": "kp"}
    yield client.delete_key_pair, {"KeyPairId": key}
    vpc = root.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = root.create_security_group(
        GroupName="sg", Description="x", VpcId=vpc, TagSpecifications=[{"ResourceType": "security-group", "Tags": TAGS}]
    )["GroupId"]
    opened = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIp": "0.0.0.0/0"}
    for name in ({"GroupName": "sg"}, {"GroupId": group}):
        yield client.authorize_security_group_ingress, {**name, **opened}
        yield client.delete_security_group, name
    # One's own ids beside a name, or in a text, do not stand for what is named.
    own = client.create_security_group(GroupName="own", Description="x", VpcId=vpc)["GroupId"]
    pair, text = {"UserIdGroupPairs": [{"GroupId": own}]}, {"IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": own}]}
    texts = {"IpRanges": [{"CidrIp": f"10.0.{at}.0/24", "Description": f"sg-{at:017x}"} for at in range(60)]}
    for decoy in (pair, text, texts):
        named = {"GroupName": "sg", "IpPermissions": [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **decoy}]}
        yield client.authorize_security_group_ingress, named
        yield client.revoke_security_group_ingress, named
    customer = root.create_customer_gateway(BgpAsn=65000, PublicIp="192.0.2.1", Type="ipsec.1")["CustomerGateway"]
    gateway = root.create_vpn_gateway(Type="ipsec.1")["VpnGateway"]["VpnGatewayId"]
    vpn = root.create_vpn_connection(
        CustomerGatewayId=customer["CustomerGatewayId"], VpnGatewayId=gateway, Type="ipsec.1",
        TagSpecifications=[{"ResourceType": "vpn-connection", "Tags": TAGS}],
    )["VpnConnection"]["VpnConnectionId"]
    for resources in ([vpn], [own, vpn]):
        yield client.delete_tags, {"Resources": resources, "Tags": [{"Key": "env"}]}
    image = root.describe_images()["Images"][0]["ImageId"]
    instance = root.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=[{"ResourceType": "instance", "Tags": TAGS}]
    )["Instances"][0]["InstanceId"]
    yield client.terminate_instances, {"InstanceIds": [instance]}
    yield client.delete_tags, {"Resources": [instance], "Tags": [{"Key": "env"}]}
    template = root.create_launch_template(
        LaunchTemplateName="template", LaunchTemplateData={"ImageId": image}, TagSpecifications=[{"ResourceType": "launch-template", "Tags": TAGS}]
    )["LaunchTemplate"]["LaunchTemplateId"]
    decoyed = {"LaunchTemplateName": "template", "LaunchTemplateData": {"SecurityGroupIds": [own]}}
    yield client.create_launch_template_version, decoyed
    yield client.delete_launch_template, {"LaunchTemplateName": "template"}
    yield client.delete_launch_template, {"LaunchTemplateId": template}


def rds(root, client):
    made = {"DBInstanceClass": "db.t3.micro", "Engine": "postgres", "MasterUsername": "a", "MasterUserPassword": "abcdefgh1"}
    root.create_db_instance(DBInstanceIdentifier="tagged", Tags=TAGS, **made)
    root.create_db_instance(DBInstanceIdentifier="guarded-1", **made)
    for name in ("tagged", "guarded-1", "Guarded-1"):
        yield client.delete_db_instance, {"DBInstanceIdentifier": name, "SkipFinalSnapshot": True}


def wafv2(root, client):
    seen = {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": "m"}
    acl = root.create_web_acl(Name="acl", Scope="REGIONAL", DefaultAction={"Allow": {}}, VisibilityConfig=seen, Tags=TAGS)["Summary"]
    yield client.delete_web_acl, {"Name": "acl", "Scope": "REGIONAL", "Id": acl["Id"], "LockToken": acl["LockToken"]}


def dynamodb(root, client):
    root.create_table(
        TableName="t", KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST", Tags=TAGS,
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
    )
    key = {"k": {"S": "1"}}
    for name in ("t", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t"):
        yield client.delete_item, {"TableName": name, "Key": key}
    for statement in ("DELETE FROM t WHERE k='1'", "delete from \"t\" where \"k\"='1'"):
        yield client.execute_statement, {"Statement": statement}
        yield client.batch_execute_statement, {"Statements": [{"Statement": statement}]}
    yield client.transact_write_items, {"TransactItems": [{"Delete": {"TableName": "t", "Key": key}}]}
    yield client.batch_write_item, {"RequestItems": {"t": [{"DeleteRequest": {"Key": key}}]}}


def awslambda(root, client):
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("a.py", "x")
    root.create_function(
        FunctionName="f", Role=f"arn:aws:iam::{ACCOUNT}:role/lambda", Runtime="python3.12", Handler="a.b",
        Code={"ZipFile": code.getvalue()}, Tags=MARK,
    )
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    for name in ("f", "f:$LATEST", f"{ACCOUNT}:function:f", arn, f"{arn}:$LATEST"):
        yield client.get_function_configuration, {"FunctionName": name}


def secretsmanager(root, client):
    arn = root.create_secret(Name="s", SecretString="x", Tags=TAGS)["ARN"]
    for name in ("s", arn, arn[:-7]):
        yield client.get_secret_value, {"SecretId": name}
    yield client.batch_get_secret_value, {"Filters": [{"Key": "name", "Values": ["s"]}]}


def ssm(root, client):
    for name in ("/a/b", "/top"):
        root.put_parameter(Name=name, Value="x", Type="String", Tags=TAGS)
    for name in ("/a/b", "/a/b:1", "/top", "top", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/a/b"):
        yield client.get_parameter, {"Name": name}
    yield client.get_parameter, {"Name": f"arn:aws:ssm:{REGION}:999999999999:parameter/a/b"}
    yield client.get_parameters_by_path, {"Path": "/a"}
    yield client.get_parameters_by_path, {"Path": "/", "Recursive": True}
    yield client.get_parameters, {"Names": ["/other", "/a/b"]}


def kms(root, client):
    key = root.create_key(Tags=[{"TagKey": "env", "TagValue": "production"}])["KeyMetadata"]["KeyId"]
    root.create_alias(AliasName="alias/k", TargetKeyId=key)
    for name in (key, "alias/k", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/k"):
        yield client.encrypt, {"KeyId": name, "Plaintext": b"x"}
    sealed = root.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"]
    yield client.decrypt, {"CiphertextBlob": sealed, "KeyId": key}
    yield client.decrypt, {"CiphertextBlob": sealed}
    other = root.create_key()["KeyMetadata"]["KeyId"]
    yield client.re_encrypt, {"CiphertextBlob": sealed, "DestinationKeyId": other}


def s3(root, client):
    for name in ("naming-marked", "naming-plain"):
        root.create_bucket(Bucket=name)
    root.put_bucket_tagging(Bucket="naming-marked", Tagging={"TagSet": TAGS})
    root.put_object(Bucket="naming-marked", Key="k", Body=b"x")
    yield client.get_object, {"Bucket": "naming-marked", "Key": "k"}
    yield client.get_object, {"Bucket": "naming-marked", "Key": "k*"}
    yield client.copy_object, {"Bucket": "naming-plain", "Key": "y", "CopySource": "naming-marked/k"}
    yield client.delete_objects, {"Bucket": "naming-marked", "Delete": {"Objects": [{"Key": str(key)} for key in range(150)]}}


def iam(root, client):
    root.create_role(RoleName="deploy", Path="/team/", AssumeRolePolicyDocument="{}", Tags=TAGS)
    yield client.get_role, {"RoleName": "deploy"}
    root.create_user(UserName="u", Tags=TAGS)
    yield client.create_access_key, {"UserName": "u"}
    root.create_group(GroupName="g")
    yield client.get_group, {"GroupName": "g"}


def logs(root, client):
    root.create_log_group(logGroupName="/lg", tags=MARK)
    arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/lg"
    yield client.delete_log_group, {"logGroupName": "/lg"}
    yield client.filter_log_events, {"logGroupIdentifier": arn}
    period = {"startTime": 0, "endTime": 1}
    yield client.start_query, {"logGroupName": "/lg", "queryString": "fields @message", **period}
    yield client.start_query, {"queryString": "SOURCE '/lg' | fields @message", **period}


def sqs(root, client):
    url = root.create_queue(QueueName="q", tags=MARK)["QueueUrl"]
    for name in (url, "q", url.replace(ACCOUNT, f"{ACCOUNT}/")):
        yield client.purge_queue, {"QueueUrl": name}


def sns(root, client):
    arn = root.create_topic(Name="t", Tags=TAGS)["TopicArn"]
    yield client.publish, {"TopicArn": arn, "Message": "x"}
    yield client.publish, {"TargetArn": arn, "Message": "x"}


def cloudformation(root, client):
    template = json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})
    root.create_stack(StackName="st", TemplateBody=template, Tags=TAGS)
    yield client.delete_stack, {"StackName": "st"}


def events(root, client):
    root.put_rule(Name="r", ScheduleExpression="rate(1 day)", Tags=TAGS)
    yield client.delete_rule, {"Name": "r"}


def resourcegroupstaggingapi(root, client):
    marked = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t"
    yield client.untag_resources, {"ResourceARNList": [marked], "TagKeys": ["env"]}


# The last one takes the mark from the table that the one of DynamoDB made.
SERVICES = [ec2, rds, wafv2, dynamodb, awslambda, secretsmanager, ssm, kms, s3, iam, logs, sqs, sns, cloudformation, events]


@pytest.mark.parametrize("service", [*SERVICES, resourcegroupstaggingapi], ids=lambda service: service.__name__)
def test_no_name_of_a_marked_resource_gets_past(gateway, client, service):
    name = service.__name__.removeprefix("aws")
    executed, tried = [], 0
    for call, arguments in service(gateway.root(name), client(name)):
        tried += 1
        try:
            call(**arguments)
        except ClientError as refused:
            if "durward: " in str(refused):
                continue
            executed.append((call.__name__, arguments, str(refused)))
        else:
            executed.append((call.__name__, arguments))
    assert tried and not executed


def with_more(client, service, **more):
    """What an SDK would never send: members that its model does not have."""

    def add(request, **_):
        request.data = json.dumps({**json.loads(request.data or b"{}"), **more}).encode()

    client.meta.events.register(f"before-sign.{service}", add)
    return client


def test_a_parameter_that_no_model_knows_stands_for_no_resource(gateway, client, name):
    tables = gateway.root("dynamodb")
    made = {"KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}], "BillingMode": "PAY_PER_REQUEST"}
    made["AttributeDefinitions"] = [{"AttributeName": "k", "AttributeType": "S"}]
    arn = tables.create_table(TableName=name, Tags=TAGS, **made)["TableDescription"]["TableArn"]
    tables.create_table(TableName=f"{name}-decoy", **made)
    group = f"/{name}"
    gateway.root("logs").create_log_group(logGroupName=group, tags=MARK)
    sealed = gateway.root("kms").encrypt(
        KeyId=gateway.root("kms").create_key(Tags=[{"TagKey": "env", "TagValue": "production"}])["KeyMetadata"]["KeyId"], Plaintext=b"x"
    )["CiphertextBlob"]
    own = gateway.root("kms").create_key()["KeyMetadata"]["KeyId"]
    group_arn = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"
    for call, arguments in [
        (with_more(client("dynamodb"), "dynamodb", TableName=f"{name}-decoy").untag_resource, {"ResourceArn": arn, "TagKeys": ["env"]}),
        (with_more(client("logs"), "logs", logGroupName="/decoy").untag_resource, {"resourceArn": group_arn, "tagKeys": ["env"]}),
        (with_more(client("kms"), "kms", TargetKeyId=own).decrypt, {"CiphertextBlob": sealed}),
    ]:
        with pytest.raises(ClientError) as refused:
            call(**arguments)
        assert "durward: " in str(refused.value)
    assert tables.list_tags_of_resource(ResourceArn=arn)["Tags"] == TAGS
