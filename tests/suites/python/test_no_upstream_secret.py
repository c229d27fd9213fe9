"""Promise 2: no credential that the upstream would accept is in a log, in the journal or in any other file of the gateway.

The traffic that these tests need, they make themselves. `after_all` moves them behind all others, so that they also search what the
other tests left.
"""

import os

import pytest
from botocore.exceptions import ClientError

import recording
from conftest import TEST_DIRECTORY

pytestmark = [pytest.mark.gateway, pytest.mark.after_all]

# Each call on a key of its own needs a credential of its own.
CALLS = 12


@pytest.fixture(scope="module", autouse=True)
def traffic(client):
    """Calls that succeed, that fail at the upstream and that are denied, by two callers."""
    bucket = f"dw-canary-{os.urandom(5).hex()}"
    for caller in ("agent", "sre"):
        s3 = client("s3", caller)
        s3.create_bucket(Bucket=bucket) if caller == "agent" else s3.head_bucket(Bucket=bucket)
        for number in range(CALLS):
            s3.put_object(Bucket=bucket, Key=f"{caller}-{number}", Body=b"x")
        with pytest.raises(ClientError):
            s3.get_object(Bucket=bucket, Key="missing")
        with pytest.raises(ClientError):
            s3.get_object(Bucket="dw-payroll", Key="x")


def gateway_files():
    return [TEST_DIRECTORY / "gateway.log", *(path for path in (TEST_DIRECTORY / "data").rglob("*") if path.is_file())]


def test_no_upstream_secret_is_anywhere():
    issued = recording.issued_credentials(TEST_DIRECTORY / "recording")
    assert len(issued) > 10, "the recording holds too few credentials to prove anything"
    canaries = {value.encode() for one in issued for value in (one.secret, one.token)}
    environment = (TEST_DIRECTORY / "base-secret").read_text().strip()
    if environment != "test":
        canaries.add(environment.encode())
    for path in gateway_files():
        content = path.read_bytes()
        assert not any(canary in content for canary in canaries), f"an upstream secret is in {path}"


def test_no_identity_token_is_anywhere():
    tokens = [path.read_text().strip() for path in TEST_DIRECTORY.glob("*.jwt")]
    assert tokens, "there is no token to search for"
    for path in gateway_files():
        content = path.read_text(errors="replace")
        for token in tokens:
            assert token not in content and token.split(".")[2] not in content, f"an identity token is in {path}"


def test_the_gateways_keys_are_readable_by_their_owner_only():
    keys = list((TEST_DIRECTORY / "data" / "keys").iterdir())
    assert keys, "the gateway keeps no keys"
    for key in keys:
        assert os.stat(key).st_mode & 0o077 == 0, key
