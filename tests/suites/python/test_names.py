"""The gateway by its own DNS name: virtual-host-style buckets, and over TLS, where boto3 uploads in chunks with a trailing checksum."""

import hashlib
import io
import os
import socket

import boto3
import botocore
import botocore.config
import botocore.httpchecksum
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

import recording
from conftest import REGION
from test_gateway import GATEWAY_NAME, TestGateway

pytestmark = [pytest.mark.gateway, pytest.mark.ministack]


@pytest.fixture(scope="module", params=["http", "https"])
def gateway(request, tmp_path_factory):
    with TestGateway("ministack", tmp_path_factory.mktemp("names") / "gateway", tls=request.param == "https") as made:
        yield made


@pytest.fixture(autouse=True)
def resolver(monkeypatch):
    """What wildcard DNS does for a gateway that has a name."""
    real = socket.getaddrinfo

    def resolve(host, *arguments, **keywords):
        return real("127.0.0.1" if str(host).endswith(GATEWAY_NAME) else host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture
def make(gateway):
    url = gateway.gateway_url.replace("127.0.0.1", GATEWAY_NAME)
    trust = {"verify": str(gateway.directory / "tls.pem")} if gateway.tls else {}
    sts = boto3.client(
        "sts", endpoint_url=url, region_name=REGION, config=botocore.config.Config(signature_version=botocore.UNSIGNED), **trust
    )
    got = sts.assume_role_with_web_identity(
        RoleArn=gateway.role_arn, RoleSessionName="names", WebIdentityToken=gateway.token_file("agent").read_text()
    )["Credentials"]
    session = boto3.session.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"], REGION)

    def client(service, **config):
        return session.client(service, endpoint_url=url, config=botocore.config.Config(**config), **trust)

    return client


@pytest.mark.parametrize("style", ["path", "virtual"])
def test_round_trip_and_list(gateway, make, style, name):
    s3 = make("s3", s3={"addressing_style": style})
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="a b/ü", Body=b"named")
    assert s3.get_object(Bucket=name, Key="a b/ü")["Body"].read() == b"named"
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=name)["Contents"]] == ["a b/ü"]
    assert any(f'"arn:aws:s3:::{name}/a b/ü"' in one.policy for one in recording.issued_credentials(gateway.recording))


def test_upload_in_parts_with_checksums(make, name):
    s3 = make("s3", s3={"addressing_style": "virtual"})
    s3.create_bucket(Bucket=name)
    body = os.urandom(17 << 20)
    config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    s3.upload_fileobj(io.BytesIO(body), name, "large", Config=config)
    back = io.BytesIO()
    s3.download_fileobj(name, "large", back, Config=config)
    assert hashlib.sha256(back.getvalue()).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksum_is_checked_on_its_way(gateway, make, name, failure, monkeypatch, algorithm):
    """Over TLS the checksum follows the body as a trailer: one that does not fit breaks the upload off."""
    s3 = make("s3")
    s3.create_bucket(Bucket=name)
    body = os.urandom(3 << 20)
    s3.put_object(Bucket=name, Key="whole", Body=body, ChecksumAlgorithm=algorithm)
    assert s3.get_object(Bucket=name, Key="whole")["Body"].read() == body
    if not gateway.tls:
        return
    checksum = botocore.httpchecksum._CHECKSUM_CLS[algorithm.lower()]
    real = checksum.b64digest
    monkeypatch.setattr(checksum, "b64digest", lambda self: real(self).translate(str.maketrans("AZ", "ZA")).swapcase())
    refused = failure(s3.put_object, Bucket=name, Key="bent", Body=body, ChecksumAlgorithm=algorithm)
    assert refused.status == 400 and f"x-amz-checksum-{algorithm.lower()}" in refused.message
    assert refused.attempts == 1
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=name)["Contents"]] == ["whole"]


def test_closed_bucket_is_closed_under_its_name_too(make, failure):
    refused = failure(make("s3", s3={"addressing_style": "virtual"}).get_object, Bucket="dw-payroll", Key="x")
    assert refused.code == "AccessDenied" and "payroll-is-closed" in refused.message


def test_other_services_respond_under_the_name(make, name):
    assert make("sqs").create_queue(QueueName=name)["QueueUrl"].split("/")[2].startswith(GATEWAY_NAME)
    assert "Users" in make("iam").list_users()


def test_name_that_is_not_ours_is_refused(gateway, make):
    """A signature for another host is not a signature for this one."""
    s3 = make("s3", s3={"addressing_style": "path"})
    s3.meta.events.register("before-send.s3.ListBuckets", lambda request, **_: request.headers.__setitem__("Host", "evil.test"))
    with pytest.raises(ClientError) as refused:
        s3.list_buckets()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 403)
