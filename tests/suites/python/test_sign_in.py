"""Signing in by web identity: what is accepted, and which STS error each kind of bad token gets."""

import base64
import json
import time

import boto3
import botocore
import botocore.config
import issuer
import jwt
import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa

from conftest import ACCOUNT, DIRECT_URL, GATEWAY_URL, KIND, REGION, ROLE_ARN, TEST_DIRECTORY
from test_gateway import TestGateway

pytestmark = pytest.mark.gateway
KEYS = TEST_DIRECTORY / "issuer"


@pytest.fixture(scope="module")
def assume(failure):
    """Calls AssumeRoleWithWebIdentity without any credential, as an SDK's provider does."""
    sts = boto3.client(
        "sts", endpoint_url=GATEWAY_URL, region_name=REGION,
        config=botocore.config.Config(signature_version=botocore.UNSIGNED),
    )

    def call(token, role=ROLE_ARN):
        return sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName="suite", WebIdentityToken=token)

    call.refused = lambda token, role=ROLE_ARN: failure(call, token, role)
    return call


def test_response_is_what_an_sdk_expects(assume):
    response = assume(issuer.mint(KEYS, "agent", ["agents"]))
    credentials = response["Credentials"]
    assert credentials["AccessKeyId"].startswith("ASIA") or len(credentials["AccessKeyId"]) >= 16
    assert credentials["SessionToken"]
    assert 0 < credentials["Expiration"].timestamp() - time.time() <= 12 * 3600
    assert response["SubjectFromWebIdentityToken"] == "agent"
    assert f"::{ACCOUNT}:" in response["AssumedRoleUser"]["Arn"]


@pytest.mark.ministack
def test_gateway_credential_is_useless_at_the_upstream(assume):
    credentials = assume(issuer.mint(KEYS, "agent", ["agents"]))["Credentials"]
    s3 = boto3.client(
        "s3", endpoint_url=DIRECT_URL, region_name=REGION, aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"], aws_session_token=credentials["SessionToken"],
    )
    with pytest.raises(ClientError):
        s3.list_buckets()


def test_token_may_end_in_a_newline(assume):
    assert assume(issuer.mint(KEYS, "agent", ["agents"]) + "\n")["Credentials"]


def test_audience_may_be_one_of_several(assume):
    assert assume(issuer.mint(KEYS, "agent", ["agents"], aud=["other", issuer.AUDIENCE]))["Credentials"]


def segment(document):
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def unsigned(algorithm="none"):
    claims = issuer.claims(KEYS, "agent", ["agents"])
    return f"{segment({'alg': algorithm, 'typ': 'JWT'})}.{segment(claims)}."


def key_confusion():
    """HS256 with the public RSA key as its secret."""
    kid, _ = issuer.signing_key(KEYS)
    head = segment({"alg": "HS256", "typ": "JWT", "kid": kid})
    body = segment(issuer.claims(KEYS, "agent", ["agents"]))
    key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    mac = key.sign(f"{head}.{body}".encode(), issuer.public_pem(KEYS))
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def signed_by_stranger(kid):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(issuer.claims(KEYS, "agent", ["agents"]), key, algorithm="RS256", headers={"kid": kid})


def tampered():
    head, body, signature = issuer.mint(KEYS, "reader", ["readers"]).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    return f"{head}.{segment(claims | {'groups': ['agents', 'sre']})}.{signature}"


BAD_TOKENS = {
    "expired": (lambda: issuer.mint(KEYS, "agent", ["agents"], exp=int(time.time()) - 600), "ExpiredTokenException"),
    "foreign audience": (lambda: issuer.mint(KEYS, "agent", ["agents"], aud="elsewhere"), "InvalidIdentityToken"),
    "no audience": (lambda: issuer.mint(KEYS, "agent", ["agents"], aud=None), "InvalidIdentityToken"),
    "no expiry": (lambda: issuer.mint(KEYS, "agent", ["agents"], exp=None), "InvalidIdentityToken"),
    "not yet valid": (lambda: issuer.mint(KEYS, "agent", ["agents"], nbf=int(time.time()) + 3600), "InvalidIdentityToken"),
    "foreign issuer": (lambda: issuer.mint(KEYS, "agent", ["agents"], iss="http://127.0.0.1:9/"), "InvalidIdentityToken"),
    "no subject": (lambda: issuer.mint(KEYS, None, ["agents"]), "InvalidIdentityToken"),
    "alg none": (unsigned, "InvalidIdentityToken"),
    "alg NoNe": (lambda: unsigned("NoNe"), "InvalidIdentityToken"),
    "key confusion": (key_confusion, "InvalidIdentityToken"),
    "unknown kid": (lambda: signed_by_stranger("never-published"), "InvalidIdentityToken"),
    "foreign key": (lambda: signed_by_stranger(issuer.signing_key(KEYS)[0]), "InvalidIdentityToken"),
    "tampered groups": (tampered, "InvalidIdentityToken"),
    "garbage": (lambda: "not.a.token", "InvalidIdentityToken"),
    "no groups": (lambda: issuer.mint(KEYS, "nobody", []), "AccessDenied"),
}


@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_bad_token_gets_its_sts_error(assume, kind):
    make, code = BAD_TOKENS[kind]
    refused = assume.refused(make())
    assert refused.code == code, refused
    assert refused.status in (400, 403)
    assert refused.attempts == 1
    assert refused.message


def test_refused_sign_in_does_not_echo_the_token(assume):
    token = issuer.mint(KEYS, "agent", ["agents"], aud="elsewhere")
    assert token.split(".")[1] not in assume.refused(token).message


def test_issuer_that_is_down_gets_the_error_that_sdks_repeat(tmp_path, failure):
    with TestGateway(KIND, tmp_path / "gateway") as gateway:
        [provider] = [process for process in gateway.processes if process.log.stem == "issuer"]
        provider.stop()
        sts = boto3.client(
            "sts", endpoint_url=gateway.gateway_url, region_name=REGION,
            config=botocore.config.Config(signature_version=botocore.UNSIGNED, retries={"mode": "standard"}),
        )
        refused = failure(
            sts.assume_role_with_web_identity, RoleArn=gateway.role_arn, RoleSessionName="suite",
            WebIdentityToken=gateway.token_file("agent").read_text(),
        )
    assert (refused.code, refused.status) == ("IDPCommunicationError", 400)
    assert refused.type == "IDPCommunicationErrorException" and refused.attempts == 3
    assert gateway.issuer_url not in refused.message


def test_unknown_role_is_denied_like_a_forbidden_one(assume):
    token = issuer.mint(KEYS, "agent", ["agents"])
    assert assume.refused(token, f"arn:aws:iam::{ACCOUNT}:role/other").code == "AccessDenied"


def test_new_signing_key_is_found(assume):
    """Rotation: a token signed by a key that was published a moment ago is accepted, and so are those signed before."""
    before = issuer.mint(KEYS, "agent", ["agents"])
    issuer.rotate(KEYS)
    deadline = time.monotonic() + 40
    while True:
        try:
            assert assume(issuer.mint(KEYS, "agent", ["agents"]))["Credentials"]
            break
        except ClientError as error:
            # unknown keys are looked up at a bounded rate: the test above has used it up
            assert error.response["Error"]["Code"] == "InvalidIdentityToken"
            assert time.monotonic() < deadline, "the new key was never found"
            time.sleep(1)
    assert assume(before)["Credentials"]
