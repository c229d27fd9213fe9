"""The suite's fixtures: clients as an application makes them, by the environment that `test_gateway.py` (or a person) set."""

import os
import re
import uuid
from pathlib import Path

import boto3
import botocore.config
import botocore.session
import pytest
from botocore.exceptions import ClientError

KIND = os.environ.get("DW_KIND", "ministack")
GATEWAY_URL = os.environ.get("DW_GATEWAY_URL")
DIRECT_URL = os.environ["DW_DIRECT_URL"]
ROLE_ARN = os.environ["DW_ROLE_ARN"]
TEST_DIRECTORY = Path(os.environ["DW_TEST_DIRECTORY"])
REGION = "us-east-1"
ACCOUNT = ROLE_ARN.split(":")[4]
EXCHANGE_ID = re.compile(r"\b[0-9a-f]{32}\b")


def pytest_collection_modifyitems(items):
    # `sort` is stable: within the two halves the order stays.
    items.sort(key=lambda item: item.get_closest_marker("after_all") is not None)
    for item in items:
        if item.get_closest_marker("gateway") and not GATEWAY_URL:
            item.add_marker(pytest.mark.skip(reason="talks to the emulator directly"))
        for kind in ("ministack", "moto"):
            if item.get_closest_marker(kind) and KIND != kind:
                item.add_marker(pytest.mark.skip(reason=f"for {kind}"))


@pytest.fixture(scope="session")
def sessions():
    """One boto3 session per caller, each signing in once. `agent` is configured by the environment alone."""
    made = {}

    def session(caller):
        if caller not in made:
            if caller == "agent" or not GATEWAY_URL:
                made[caller] = boto3.session.Session()
            else:
                config = TEST_DIRECTORY / f"{caller}.aws"
                config.write_text(
                    f"[profile {caller}]\nregion = {REGION}\nrole_arn = {ROLE_ARN}\nrole_session_name = {caller}\n"
                    f"web_identity_token_file = {TEST_DIRECTORY}/{caller}.jwt\n"
                )
                core = botocore.session.Session(profile=caller)
                core.set_config_variable("config_file", str(config))
                made[caller] = boto3.session.Session(botocore_session=core)
        return made[caller]

    return session


@pytest.fixture(scope="session")
def client(sessions):
    """`client("s3")`, `client("s3", "sre", read_timeout=5)`."""

    def make(service, caller="agent", **config):
        return sessions(caller).client(service, config=botocore.config.Config(**config))

    return make


@pytest.fixture(scope="session")
def direct():
    """A client of the emulator itself, as its root: to look at what really happened there."""

    def make(service, **config):
        return boto3.session.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION
        ).client(service, endpoint_url=DIRECT_URL, config=botocore.config.Config(**config))

    return make


@pytest.fixture
def name():
    return f"dw-{uuid.uuid4().hex[:12]}"


class Failure:
    """The error of a failing call, as the application sees it."""

    def __init__(self, error):
        self.type = type(error).__name__
        response = error.response
        self.code = response["Error"]["Code"]
        self.message = response["Error"].get("Message", "")
        self.status = response["ResponseMetadata"]["HTTPStatusCode"]
        self.attempts = response["ResponseMetadata"].get("RetryAttempts", 0) + 1
        self.headers = response["ResponseMetadata"].get("HTTPHeaders", {})

    def __repr__(self):
        return f"{self.type}({self.code}, {self.status}, {self.attempts} attempts): {self.message}"


@pytest.fixture(scope="session")
def failure():
    """`failure(call, **arguments)` calls and returns how it failed; a call that succeeds fails the test."""

    def call(function, *arguments, **keywords):
        try:
            response = function(*arguments, **keywords)
        except ClientError as error:
            return Failure(error)
        pytest.fail(f"was not refused: {str(response)[:300]}")

    return call
