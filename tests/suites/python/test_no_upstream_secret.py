"""Promise 2, after everything else has run: no credential the upstream would accept is in a log, the journal or an answer."""

import os

import pytest

import recording
from conftest import TEST_DIRECTORY

pytestmark = pytest.mark.gateway


def test_no_upstream_secret_is_anywhere():
    issued_credentials = recording.issued_credentials(TEST_DIRECTORY / "recording")
    assert len(issued_credentials) > 10, "the recording holds too few credentials to prove anything"
    canaries = {value.encode() for one in issued_credentials for value in (one.secret, one.token)}
    environment = (TEST_DIRECTORY / "base-secret").read_text().strip()
    if environment != "test":
        canaries.add(environment.encode())
    places = [TEST_DIRECTORY / "gateway.log", *(TEST_DIRECTORY / "data").rglob("*")]
    for place in places:
        if place.is_file():
            content = place.read_bytes()
            assert not any(canary in content for canary in canaries), f"an upstream secret is in {place}"


def test_no_identity_token_is_anywhere():
    tokens = [path.read_text().strip() for path in TEST_DIRECTORY.glob("*.jwt")]
    for place in [TEST_DIRECTORY / "gateway.log", *(TEST_DIRECTORY / "data" / "journal").glob("*")]:
        content = place.read_text(errors="replace")
        for token in tokens:
            assert token not in content and token.split(".")[2] not in content, f"an identity token is in {place}"


def test_gateway_key_stays_in_the_gateway():
    """The seal key is readable by its owner only."""
    for key in (TEST_DIRECTORY / "data" / "keys").iterdir():
        assert os.stat(key).st_mode & 0o077 == 0, key
