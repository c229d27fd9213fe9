"""A denied call, in every wire protocol: the SDK's typed AccessDenied, our words, one attempt, nothing upstream."""

import hashlib
import socket

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from conftest import ACCOUNT, EXCHANGE_ID, GATEWAY_URL, REGION, TEST_DIRECTORY

pytestmark = pytest.mark.gateway

# service -> (call, code the SDK must see)
DENIED = {
    "s3": (lambda c: c.delete_bucket(Bucket="dw-denied"), "AccessDenied"),
    "dynamodb": (lambda c: c.delete_table(TableName="dw-denied"), "AccessDeniedException"),
    "sqs": (lambda c: c.purge_queue(QueueUrl=f"{c.meta.endpoint_url}/{ACCOUNT}/dw-denied"), "AccessDenied"),
    "sns": (lambda c: c.delete_topic(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:dw-denied"), "AuthorizationError"),
    "secretsmanager": (lambda c: c.delete_secret(SecretId="dw-denied"), "AccessDeniedException"),
    "ssm": (lambda c: c.delete_parameter(Name="/dw/denied"), "AccessDeniedException"),
    "iam": (lambda c: c.delete_user(UserName="dw-denied"), "AccessDenied"),
    "ec2": (lambda c: c.terminate_instances(InstanceIds=["i-0123456789abcdef0"]), "UnauthorizedOperation"),
    "lambda": (lambda c: c.delete_function(FunctionName="dw-denied"), "AccessDeniedException"),
    "kms": (lambda c: c.schedule_key_deletion(KeyId="11111111-2222-3333-4444-555555555555"), "AccessDeniedException"),
    "logs": (lambda c: c.delete_log_group(logGroupName="dw-denied"), "AccessDeniedException"),
    "cloudwatch": (lambda c: c.delete_alarms(AlarmNames=["dw-denied"]), "AccessDenied"),
}


@pytest.mark.parametrize("service", DENIED)
def test_denied_call_is_typed_explained_and_tried_once(client, failure, service):
    call, code = DENIED[service]
    refused = failure(call, client(service))
    assert refused.code in (code, "AccessDenied", "AccessDeniedException") and refused.status in (400, 403), refused
    assert "no-destruction" in refused.message, refused
    assert EXCHANGE_ID.search(refused.message), refused
    assert refused.attempts == 1
    assert not any(b"dw-denied" in sent.read_bytes() for sent in (TEST_DIRECTORY / "recording").glob("*.sent"))


@pytest.mark.parametrize("service", ["s3", "ec2"])
def test_code_is_the_one_aws_uses(client, failure, service):
    call, code = DENIED[service]
    assert failure(call, client(service)).code == code


def test_call_that_no_policy_permits_is_denied(client, failure):
    refused = failure(client("dynamodb", "reader").put_item, TableName="dw-none", Item={"pk": {"S": "x"}})
    assert refused.code == "AccessDeniedException"
    assert EXCHANGE_ID.search(refused.message), refused


def test_head_tells_the_status_at_least(client, failure):
    refused = failure(client("s3").head_object, Bucket="dw-payroll", Key="salaries")
    assert (refused.status, refused.attempts) == (403, 1)


def test_one_denied_key_denies_the_whole_batch(client, direct, failure, name):
    """DeleteObjects names many keys: every one must be allowed."""
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="mine", Body=b"x")
    direct("s3").put_object(Bucket=name, Key="payroll/2026", Body=b"x")
    refused = failure(s3.delete_objects, Bucket=name, Delete={"Objects": [{"Key": "mine"}, {"Key": "payroll/2026"}]})
    assert refused.code == "AccessDenied" and "payroll-is-closed" in refused.message, refused
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 2


def test_copy_from_a_closed_place_is_denied(client, direct, failure, name):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    direct("s3").put_object(Bucket=name, Key="payroll/2026", Body=b"x")
    refused = failure(s3.copy_object, Bucket=name, Key="mine", CopySource={"Bucket": name, "Key": "payroll/2026"})
    assert refused.code == "AccessDenied" and "payroll-is-closed" in refused.message, refused


def test_denied_upload_transfers_nothing(sessions):
    """A denial comes instead of `100 Continue`: the body, which would be 8 MiB, stays where it is."""
    url = f"{GATEWAY_URL}/dw-payroll/big"
    request = AWSRequest("PUT", url, headers={
        "Content-Length": str(8 << 20), "Expect": "100-continue", "X-Amz-Content-SHA256": hashlib.sha256(b"unseen").hexdigest(),
    })
    S3SigV4Auth(sessions("agent").get_credentials(), "s3", REGION).add_auth(request)
    host, port = url.split("/")[2].split(":")
    head = f"PUT /dw-payroll/big HTTP/1.1\r\nHost: {host}:{port}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items()) + "\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        response = connection.recv(1 << 16)
    assert response.startswith(b"HTTP/1.1 403 "), response
    assert b"AccessDenied" in response and b"payroll-is-closed" in response


def test_reader_can_list_but_sees_secrets_masked(client, name):
    client("secretsmanager").create_secret(Name=name, SecretString="a secret for nobody")
    response = client("secretsmanager", "reader").get_secret_value(SecretId=name)
    assert "a secret for nobody" not in response["SecretString"]


def test_credentials_of_a_stranger_are_refused(failure):
    s3 = boto3.client(
        "s3", aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    )
    refused = failure(s3.list_buckets)
    assert refused.code in ("InvalidAccessKeyId", "InvalidToken") and refused.status in (400, 403), refused
    assert refused.attempts == 1
