"""The other ways to sign in: credential_process, the container-credentials endpoint, and `durward run`."""

import json
import os
import subprocess

import boto3
import botocore.session
import pytest

from conftest import ACCOUNT, GATEWAY_URL, REGION, TEST_DIRECTORY
from test_gateway import SUITES, clean_environment

pytestmark = pytest.mark.gateway
DURWARD = os.environ.get("DURWARD_BIN", "durward")
SIGN_IN = ["--endpoint", GATEWAY_URL or "", "--connection", "suite", "--token-file", str(TEST_DIRECTORY / "agent.jwt")]
WHO = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"


def python(environment, code=WHO):
    done = subprocess.run(
        [SUITES / "client/bin/python", "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_credential_process(tmp_path):
    config = tmp_path / "config"
    config.write_text(
        f"[default]\nregion = {REGION}\nendpoint_url = {GATEWAY_URL}\n"
        f"credential_process = {DURWARD} credentials {' '.join(SIGN_IN)}\n"
    )
    assert python(clean_environment(AWS_CONFIG_FILE=config)) == ACCOUNT


def test_credential_process_prints_what_the_sdks_document():
    done = subprocess.run([DURWARD, "credentials", *SIGN_IN], capture_output=True, text=True, timeout=30, check=True)
    response = json.loads(done.stdout)
    assert response["Version"] == 1
    assert {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"} <= set(response)


def test_credential_process_that_is_refused_says_why(tmp_path):
    words = [*SIGN_IN[:-1], str(TEST_DIRECTORY / "nobody.jwt")]
    done = subprocess.run([DURWARD, "credentials", *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and done.stdout == "" and "refused" in done.stderr


@pytest.mark.parametrize("as_file", [False, True])
def test_container_credentials(tmp_path, as_file):
    token = (TEST_DIRECTORY / "agent.jwt").read_text().strip()
    how = {"AWS_CONTAINER_AUTHORIZATION_TOKEN": token}
    if as_file:
        file = tmp_path / "token"
        file.write_text(token)
        how = {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file)}
    environment = clean_environment(
        AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{GATEWAY_URL}/.durward/container-credentials/suite",
        AWS_ENDPOINT_URL=GATEWAY_URL, AWS_REGION=REGION, AWS_DEFAULT_REGION=REGION, **how,
    )
    assert python(environment) == ACCOUNT


def test_run_gives_one_command_the_way_in():
    environment = clean_environment(AWS_DEFAULT_REGION=REGION, AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE", AWS_SECRET_ACCESS_KEY="x")
    done = subprocess.run(
        [DURWARD, "run", *SIGN_IN, "--", SUITES / "cli/bin/aws", "sts", "get-caller-identity"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Account"] == ACCOUNT


def test_run_passes_the_exit_code_on():
    done = subprocess.run([DURWARD, "run", *SIGN_IN, "--", "sh", "-c", "exit 37"], timeout=30, check=False)
    assert done.returncode == 37


def test_credential_lives_on_when_the_token_file_is_gone(tmp_path):
    """The gateway credential is self-contained: one sign-in serves many calls."""
    token = tmp_path / "token"
    token.write_text((TEST_DIRECTORY / "agent.jwt").read_text())
    core = botocore.session.Session()
    core.set_config_variable("web_identity_token_file", str(token))
    s3 = boto3.session.Session(botocore_session=core).client("s3")
    before = s3.list_buckets()["Buckets"]
    token.unlink()
    assert s3.list_buckets()["Buckets"] == before
