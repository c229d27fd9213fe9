"""What fails at the emulator fails the same way through the gateway: code, status, message, typed exception, attempts."""

import io
import re

import pytest

from conftest import ACCOUNT, GATEWAY_URL, REGION

pytestmark = [pytest.mark.gateway, pytest.mark.moto]
QUEUE = f"/{ACCOUNT}/dw-none"
KEY = "11111111-2222-3333-4444-555555555555"

# (service, what, call); every call fails
CALLS = [
    ("s3", "get a missing key", lambda c: c.get_object(Bucket="dw-parity", Key="missing")),
    ("s3", "head a missing key", lambda c: c.head_object(Bucket="dw-parity", Key="missing")),
    ("s3", "list a missing bucket", lambda c: c.list_objects_v2(Bucket="dw-parity-none")),
    ("s3", "put into a missing bucket", lambda c: c.put_object(Bucket="dw-parity-none", Key="k", Body=b"x")),
    ("s3", "read a missing configuration", lambda c: c.get_bucket_lifecycle_configuration(Bucket="dw-parity")),
    ("s3", "complete an unknown upload", lambda c: c.complete_multipart_upload(
        Bucket="dw-parity", Key="k", UploadId="none", MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "x"}]})),
    ("s3", "copy a missing source", lambda c: c.copy_object(Bucket="dw-parity", Key="k", CopySource="dw-parity/missing")),
    ("s3", "read past the end", lambda c: c.get_object(Bucket="dw-parity", Key="present", Range="bytes=1000-2000")),
    ("dynamodb", "describe a missing table", lambda c: c.describe_table(TableName="dw-none")),
    ("dynamodb", "put into a missing table", lambda c: c.put_item(TableName="dw-none", Item={"a": {"S": "b"}})),
    ("dynamodb", "query nonsense", lambda c: c.query(TableName="dw-parity", KeyConditionExpression="nonsense ==")),
    ("dynamodb", "put without the key", lambda c: c.put_item(TableName="dw-parity", Item={"other": {"S": "b"}})),
    ("dynamodb", "fail a condition", lambda c: c.put_item(
        TableName="dw-parity", Item={"pk": {"S": "x"}}, ConditionExpression="attribute_exists(nothing)")),
    ("dynamodb", "make an existing table", lambda c: make_table(c)),
    ("sqs", "find a missing queue", lambda c: c.get_queue_url(QueueName="dw-none")),
    ("sqs", "send to a missing queue", lambda c: c.send_message(QueueUrl=c.meta.endpoint_url + QUEUE, MessageBody="x")),
    ("sqs", "receive too many", lambda c: c.receive_message(QueueUrl=c.meta.endpoint_url + QUEUE, MaxNumberOfMessages=99)),
    ("sns", "publish to a missing topic", lambda c: c.publish(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:dw-none", Message="x")),
    ("sns", "subscribe to a missing topic", lambda c: c.subscribe(
        TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:dw-none", Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:{ACCOUNT}:q")),
    ("secretsmanager", "read a missing secret", lambda c: c.get_secret_value(SecretId="dw-none")),
    ("secretsmanager", "make an existing secret", lambda c: c.create_secret(Name="dw-parity", SecretString="x")),
    ("ssm", "read a missing parameter", lambda c: c.get_parameter(Name="/dw/none")),
    ("ssm", "overwrite without saying so", lambda c: c.put_parameter(Name="/dw/parity", Value="y", Type="String")),
    ("iam", "get a missing user", lambda c: c.get_user(UserName="dw-none")),
    ("iam", "make an existing user", lambda c: c.create_user(UserName="dw-parity")),
    ("iam", "put a malformed policy", lambda c: c.put_user_policy(UserName="dw-parity", PolicyName="p", PolicyDocument="{")),
    ("ec2", "describe a missing instance", lambda c: c.describe_instances(InstanceIds=["i-0123456789abcdef0"])),
    ("ec2", "describe a malformed subnet", lambda c: c.describe_subnets(SubnetIds=["subnet-00000000"])),
    ("ec2", "make an impossible network", lambda c: c.create_vpc(CidrBlock="10.0.0.0/99")),
    ("lambda", "get a missing function", lambda c: c.get_function(FunctionName="dw-none")),
    ("lambda", "invoke a missing function", lambda c: c.invoke(FunctionName="dw-none", Payload=b"{}")),
    ("kms", "describe a missing key", lambda c: c.describe_key(KeyId=KEY)),
    ("kms", "decrypt garbage", lambda c: c.decrypt(CiphertextBlob=b"garbage")),
    ("logs", "write to a missing group", lambda c: c.put_log_events(
        logGroupName="dw-none", logStreamName="s", logEvents=[{"timestamp": 1, "message": "m"}])),
    ("logs", "make an existing group", lambda c: c.create_log_group(logGroupName="dw-parity")),
    ("cloudwatch", "put an empty metric name", lambda c: c.put_metric_data(Namespace="AWS/none", MetricData=[
        {"MetricName": "m", "Value": 1.0, "Values": [1.0]}])),
    ("sts", "assume a malformed role", lambda c: c.assume_role(RoleArn="arn:aws:iam::1:role/none", RoleSessionName="x" * 65)),
]


def make_table(dynamodb):
    return dynamodb.create_table(
        TableName="dw-parity", BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )


@pytest.fixture(scope="module", autouse=True)
def present(direct):
    direct("s3").create_bucket(Bucket="dw-parity")
    direct("s3").put_object(Bucket="dw-parity", Key="present", Body=io.BytesIO(b"ten bytes."))
    make_table(direct("dynamodb"))
    direct("secretsmanager").create_secret(Name="dw-parity", SecretString="x")
    direct("ssm").put_parameter(Name="/dw/parity", Value="x", Type="String")
    direct("iam").create_user(UserName="dw-parity")
    direct("logs").create_log_group(logGroupName="dw-parity")


def comparable(failed):
    """The failure without what differs from call to call: request ids, and the address the client used."""
    message = re.sub(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]+|[0-9A-Z]{40,}", "ID", failed.message)
    message = re.sub(r"127\.0\.0\.1:\d+", "HOST", message)
    return failed.type, failed.code, failed.status, message, failed.attempts


@pytest.mark.parametrize(("service", "what", "call"), CALLS, ids=[f"{service}: {what}" for service, what, _ in CALLS])
def test_fails_as_it_does_directly(client, direct, failure, service, what, call):
    settings = {"parameter_validation": False, "retries": {"max_attempts": 2, "mode": "standard"}}
    assert GATEWAY_URL
    expected = failure(call, direct(service, **settings))
    assert comparable(failure(call, client(service, **settings))) == comparable(expected)
