"""The credential the upstream saw, stolen and used outside the gateway: valid only for the operation it was issued for, and not for long."""

import time

import boto3
import pytest
from botocore.exceptions import ClientError

import recording
from conftest import DIRECT_URL, REGION, TEST_DIRECTORY

pytestmark = [pytest.mark.gateway, pytest.mark.ministack]


@pytest.fixture(scope="session")
def stolen(client):
    """A client of the emulator itself with the credential that was issued for one GetObject."""
    s3 = client("s3")
    bucket = "dw-stolen"
    s3.create_bucket(Bucket=bucket)
    for key in ("issued-for", "other"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.get_object(Bucket=bucket, Key="issued-for")
    [credential] = [
        one for one in recording.issued_credentials(TEST_DIRECTORY / "recording")
        if '"s3:GetObject"' in one.policy and f"{bucket}/issued-for" in one.policy
    ]
    made = boto3.session.Session(credential.key, credential.secret, credential.token, region_name=REGION)
    return lambda service: made.client(service, endpoint_url=DIRECT_URL)


def test_works_for_the_operation_it_was_issued_for(stolen):
    """The control: without it the refusals below would prove nothing."""
    assert stolen("s3").get_object(Bucket="dw-stolen", Key="issued-for")["Body"].read() == b"x"


@pytest.mark.parametrize(("what", "call"), {
    "another action": lambda c: c("s3").put_object(Bucket="dw-stolen", Key="issued-for", Body=b"y"),
    "delete": lambda c: c("s3").delete_object(Bucket="dw-stolen", Key="issued-for"),
    "another object": lambda c: c("s3").get_object(Bucket="dw-stolen", Key="other"),
    "a list": lambda c: c("s3").list_objects_v2(Bucket="dw-stolen"),
    "all buckets": lambda c: c("s3").list_buckets(),
    "another service": lambda c: c("dynamodb").list_tables(),
    "users": lambda c: c("iam").list_users(),
    "the role again": lambda c: c("sts").assume_role(RoleArn="arn:aws:iam::000000000000:role/suite", RoleSessionName="again"),
}.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_is_refused_for(stolen, failure, what, call):
    assert failure(call, stolen).status in (400, 403), what


def test_names_its_caller():
    sent = b"".join(path.read_bytes() for path in (TEST_DIRECTORY / "recording").glob("*.sent"))
    for field in (b"SourceIdentity=", b"RoleSessionName=durward-", b"Tags.member.1.Key="):
        assert field in sent


def test_is_refused_after_its_session_policy_ends(stolen):
    """The session policy ends within a minute or two, though STS never issues for less than fifteen."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        try:
            stolen("s3").get_object(Bucket="dw-stolen", Key="issued-for")
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
            return
        time.sleep(2)
    pytest.fail("still works after two and a half minutes")
