"""s3s-fs behind the gateway: a server that, like AWS, checks each body against its signed hash and every chunk signature."""

import hashlib
import io
import os
import sys

import boto3
import botocore
import botocore.config
import pytest
from boto3.s3.transfer import TransferConfig

from conftest import REGION
from test_gateway import HERE, SUITES, TestGateway, free_port
from test_memory import PIECE, chunk_signer, plain, upload

pytestmark = [pytest.mark.gateway, pytest.mark.moto]
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


class S3sTestGateway(TestGateway):
    """The emulator is s3s-fs with a front that issues its one key."""

    def start_emulator(self):
        server, self.emulator_port = free_port(), free_port()
        root = self.directory / "objects"
        root.mkdir()
        self.start("s3s-fs", [
            SUITES / "s3s/bin/s3s-fs", "--host", "127.0.0.1", "--port", server, "--access-key", KEY, "--secret-key", SECRET, root,
        ], server)
        self.start("front", [sys.executable, HERE / "sts_front.py", self.emulator_port, server, KEY, SECRET], self.emulator_port)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with S3sTestGateway("moto", tmp_path_factory.mktemp("s3s") / "gateway") as made:
        yield made


@pytest.fixture(scope="module")
def session(gateway):
    sts = boto3.client(
        "sts", endpoint_url=gateway.gateway_url, region_name=REGION,
        config=botocore.config.Config(signature_version=botocore.UNSIGNED),
    )
    got = sts.assume_role_with_web_identity(
        RoleArn=gateway.role_arn, RoleSessionName="s3s", WebIdentityToken=gateway.token_file("agent").read_text()
    )["Credentials"]
    return boto3.session.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"], REGION)


@pytest.fixture(scope="module")
def s3(gateway, session):
    made = session.client("s3", endpoint_url=gateway.gateway_url)
    made.create_bucket(Bucket="big")
    return made


def test_hashed_body(s3):
    s3.put_object(Bucket="big", Key="hashed ü", Body=b"hashed")
    assert s3.get_object(Bucket="big", Key="hashed ü")["Body"].read() == b"hashed"


def test_multipart(s3):
    body = os.urandom(17 << 20)
    config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    s3.upload_fileobj(io.BytesIO(body), "big", "multipart", Config=config)
    back = io.BytesIO()
    s3.download_fileobj("big", "multipart", back, Config=config)
    assert back.getvalue() == body


def chunk_headers(pieces):
    """The headers of a body of so many signed chunks."""
    frame = lambda size: len(f"{size:x};chunk-signature={'0' * 64}\r\n\r\n")
    return {
        "Content-Length": str(pieces * (len(PIECE) + frame(len(PIECE))) + frame(0)), "Content-Encoding": "aws-chunked",
        "X-Amz-Decoded-Content-Length": str(pieces * len(PIECE)), "X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    }


@pytest.mark.parametrize("kind", ["unsigned", "hashed", "signed-chunks"])
def test_streamed_body(gateway, session, s3, kind):
    credentials = session.get_credentials().get_frozen_credentials()
    headers, frame = {"Content-Length": str(len(PIECE) * 40), "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, plain
    if kind == "hashed":
        headers["X-Amz-Content-SHA256"] = hashlib.sha256(PIECE * 40).hexdigest()
    if kind == "signed-chunks":
        headers, frame = chunk_headers(40), chunk_signer(credentials)
    digest = upload(gateway, credentials, kind, len(PIECE) * 40, headers, frame)
    got = s3.get_object(Bucket="big", Key=kind)["Body"].read()
    assert hashlib.sha256(got).hexdigest() == digest


def test_wrong_chunk_signature_is_refused(gateway, session, s3, failure):
    """One digit of the third chunk's signature is wrong: the upload must not complete."""
    credentials = session.get_credentials().get_frozen_credentials()
    signed = chunk_signer(credentials)
    sent = []

    def bent(previous, piece, request):
        wire, signature = signed(previous, piece, request)
        sent.append(piece)
        if len(sent) == 3:
            at = wire.index(b"chunk-signature=") + 20
            wire = wire[:at] + (b"1" if wire[at : at + 1] == b"0" else b"0") + wire[at + 1 :]
        return wire, signature

    with pytest.raises((AssertionError, OSError)):
        upload(gateway, credentials, "bent", len(PIECE) * 8, chunk_headers(8), bent)
    assert failure(s3.get_object, Bucket="big", Key="bent").code == "NoSuchKey"
