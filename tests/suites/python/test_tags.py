"""Policies that read the tags of resources: live from AWS, labels of the configuration over them, and the risk that grows with both."""

import json

import pytest
from botocore.exceptions import ClientError

from approval_gateway import ApprovalTestGateway, Call, client, gone  # noqa: F401: `client` is a fixture
from conftest import REGION

pytestmark = [pytest.mark.gateway, pytest.mark.moto]

POLICIES = """
@id("agents-connect")
permit (principal, action == Action::"connect", resource);
@id("agents-work")
permit (principal, action, resource);
@id("delete-critical-bucket")
@approval("oncall") @quorum("2") @timeout("1m") @on_timeout("reject")
forbid (principal, action in [Aws::Action::"s3:DeleteBucket", Aws::Action::"s3:DeleteObject"], resource)
when { resource.hasTag("critical") && resource.getTag("critical") == "true" };
@id("no-production-writes")
forbid (
    principal,
    action in [Aws::Action::"dynamodb:*", Aws::Action::"sqs:*", Aws::Action::"sns:*", Aws::Action::"iam:*", Aws::Action::"kms:*",
        Aws::Action::"secretsmanager:*", Aws::Action::"ec2:*", Aws::Action::"lambda:*", Aws::Action::"logs:*", Aws::Action::"ssm:*"],
    resource
) when { resource.hasTag("env") && resource.getTag("env") == "production" };
@id("no-marking-as-harmless")
forbid (principal, action == Aws::Action::"s3:PutBucketTagging", resource)
when { context.request_tags.contains("critical=false") };
@id("too-risky")
forbid (principal, action == Aws::Action::"s3:PutBucketVersioning", resource)
when { context.risk >= 70 };
"""


class TaggingTestGateway(ApprovalTestGateway):
    policy_text = POLICIES

    def configuration(self):
        labels = (
            '\n[[aws.label]]\narn = "arn:aws:s3:::labelled-*"\ntags = { critical = "true" }\n'
            '\n[[aws.label]]\narn = "arn:aws:s3:::harmless-*"\ntags = { critical = "false" }\n'
        )
        return super().configuration() + '\n[[approval.risky_tag]]\nkey = "critical"\nvalue = "true"\nweight = 40\n' + labels


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with TaggingTestGateway("moto", tmp_path_factory.mktemp("tags") / "gateway") as made:
        yield made


def tag(gateway, bucket, **tags):
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    gateway.root("s3").put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": pairs})


def refusal(call, **arguments):
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    return str(refused.value)


def test_a_bucket_tagged_critical_requires_approval_and_others_do_not(gateway, client, name):
    s3 = client("s3")
    for bucket in (name, f"{name}-plain", f"{name}-other"):
        s3.create_bucket(Bucket=bucket)
    tag(gateway, name, critical="true", owner="payroll")
    tag(gateway, f"{name}-other", critical="false")
    s3.delete_bucket(Bucket=f"{name}-plain")
    s3.delete_bucket(Bucket=f"{name}-other")
    call = Call(s3.delete_bucket, Bucket=name)
    approval_request = gateway.wait_for_request(name)
    text = json.dumps(approval_request)
    assert '"owner": "payroll"' in text, "the approver sees the tags"
    assert "+40 affects a resource tagged critical=true" in text
    for person in ("ann", "bob"):
        assert gateway.approve(person, approval_request)[0] == 200
    assert call.done().error is None
    assert gone(gateway, name)


def test_objects_have_the_tags_of_their_bucket(gateway, client, name):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x", Tagging="critical=false")
    tag(gateway, name, critical="true")
    call = Call(s3.delete_object, Bucket=name, Key="k")
    approval_request = gateway.wait_for_request(f"{name}/k")
    gateway.api("ann", f"/approval-requests/{approval_request['id']}/votes", {"vote": "deny", "reason": "it is payroll"})
    assert "it is payroll" in str(call.done().error)


def test_a_tag_set_through_the_gateway_counts_at_once(gateway, client, name):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    s3.delete_object(Bucket=name, Key="k")
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "critical", "Value": "true"}]})
    call = Call(s3.delete_bucket, Bucket=name)
    approval_request = gateway.wait_for_request(name)
    gateway.api("ann", f"/approval-requests/{approval_request['id']}/votes", {"vote": "deny", "reason": "no"})
    assert call.done().error is not None


def test_a_bucket_that_is_not_there_has_no_tags(gateway, client, name):
    message = refusal(client("s3").delete_bucket, Bucket=name)
    assert "NoSuchBucket" in message


def test_labels_of_the_operator_override_the_tags_at_aws(gateway, client, name):
    s3 = client("s3")
    for bucket in (f"labelled-{name}", f"harmless-{name}"):
        s3.create_bucket(Bucket=bucket)
        tag(gateway, bucket, critical="false" if bucket.startswith("labelled") else "true")
    s3.delete_bucket(Bucket=f"harmless-{name}")
    call = Call(s3.delete_bucket, Bucket=f"labelled-{name}")
    approval_request = gateway.wait_for_request(f"labelled-{name}")
    gateway.api("ann", f"/approval-requests/{approval_request['id']}/votes", {"vote": "deny", "reason": "no"})
    assert call.done().error is not None


def test_tags_in_the_request_can_be_forbidden(gateway, client, name):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    marks = {"TagSet": [{"Key": "critical", "Value": "false"}]}
    assert "no-marking-as-harmless" in refusal(s3.put_bucket_tagging, Bucket=name, Tagging=marks)


def test_risk_is_compared_with_its_tags(gateway, client, name):
    s3 = client("s3")
    for bucket in (name, f"{name}-plain"):
        s3.create_bucket(Bucket=bucket)
    tag(gateway, name, critical="true")
    versioning = {"Status": "Enabled"}
    s3.put_bucket_versioning(Bucket=f"{name}-plain", VersioningConfiguration=versioning)
    assert "too-risky" in refusal(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration=versioning)


PRODUCTION = [{"Key": "env", "Value": "production"}]


def dynamodb(root, client, name):
    arn = root("dynamodb").create_table(
        TableName=name, KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}], BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
    )["TableDescription"]["TableArn"]
    call = lambda: client("dynamodb").put_item(TableName=name, Item={"k": {"S": "a"}})
    return call, lambda: root("dynamodb").tag_resource(ResourceArn=arn, Tags=PRODUCTION)


def sqs(root, client, name):
    url = root("sqs").create_queue(QueueName=name)["QueueUrl"]
    call = lambda: client("sqs").send_message(QueueUrl=url, MessageBody="x")
    return call, lambda: root("sqs").tag_queue(QueueUrl=url, Tags={"env": "production"})


def sns(root, client, name):
    arn = root("sns").create_topic(Name=name)["TopicArn"]
    call = lambda: client("sns").publish(TopicArn=arn, Message="x")
    return call, lambda: root("sns").tag_resource(ResourceArn=arn, Tags=PRODUCTION)


def iam(root, client, name):
    root("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}", Path="/team/")
    call = lambda: client("iam").update_role(RoleName=name, Description="x")
    return call, lambda: root("iam").tag_role(RoleName=name, Tags=PRODUCTION)


def kms(root, client, name):
    key = root("kms").create_key()["KeyMetadata"]["KeyId"]
    call = lambda: client("kms").disable_key(KeyId=key)
    return call, lambda: root("kms").tag_resource(KeyId=key, Tags=[{"TagKey": "env", "TagValue": "production"}])


def secretsmanager(root, client, name):
    arn = root("secretsmanager").create_secret(Name=name, SecretString="x")["ARN"]
    call = lambda: client("secretsmanager").put_secret_value(SecretId=arn, SecretString="y")
    return call, lambda: root("secretsmanager").tag_resource(SecretId=arn, Tags=PRODUCTION)


def ec2(root, client, name):
    image = root("ec2").describe_images()["Images"][0]["ImageId"]
    instance = root("ec2").run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    call = lambda: client("ec2").stop_instances(InstanceIds=[instance])
    return call, lambda: root("ec2").create_tags(Resources=[instance], Tags=PRODUCTION)


def logs(root, client, name):
    root("logs").create_log_group(logGroupName=f"/a/{name}")
    call = lambda: client("logs").put_retention_policy(logGroupName=f"/a/{name}", retentionInDays=7)
    arn = f"arn:aws:logs:{REGION}:123456789012:log-group:/a/{name}"
    return call, lambda: root("logs").tag_resource(resourceArn=arn, tags={"env": "production"})


def ssm(root, client, name):
    root("ssm").put_parameter(Name=f"/a/{name}", Value="x", Type="String")
    call = lambda: client("ssm").put_parameter(Name=f"/a/{name}", Value="y", Type="String", Overwrite=True)
    tagging = {"ResourceType": "Parameter", "ResourceId": f"/a/{name}", "Tags": PRODUCTION}
    return call, lambda: root("ssm").add_tags_to_resource(**tagging)


@pytest.mark.parametrize("service", [dynamodb, sqs, sns, iam, kms, secretsmanager, ec2, logs, ssm])
def test_tags_of_each_service_are_read(gateway, client, name, service):
    call, mark = service(gateway.root, client, name)
    mark()
    assert "no-production-writes" in refusal(call)


@pytest.mark.parametrize("service", [dynamodb, sqs, sns, iam, kms, secretsmanager, ec2, logs, ssm])
def test_what_has_no_tags_passes(gateway, client, name, service):
    call, _mark = service(gateway.root, client, name)
    assert call()["ResponseMetadata"]["HTTPStatusCode"] // 100 == 2
