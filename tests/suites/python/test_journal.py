"""Promises 1 and 5: what the upstream saw is in the journal, also when the gateway is killed in the middle of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading

import boto3
import botocore
import botocore.config
import pytest
from botocore.exceptions import BotoCoreError, ClientError

import recording
from approval_gateway import until
from conftest import REGION, TEST_DIRECTORY
from test_gateway import TestGateway

pytestmark = [pytest.mark.gateway, pytest.mark.moto]
DURWARD = os.environ.get("DURWARD_BIN", "durward")


def verify(directory):
    return subprocess.run([DURWARD, "journal", "verify", "--dir", directory], capture_output=True, text=True, timeout=60, check=False)


def exchanges(directory):
    """Every recorded exchange of every session, as the command line tells them."""
    run = lambda *words: json.loads(subprocess.run(
        [DURWARD, "sessions", *words, "--dir", directory, "--json"], capture_output=True, text=True, timeout=60, check=True,
    ).stdout)
    return [one for session in run("ls")["sessions"] for one in run("show", session["session"])["exchanges"]]


def put_until_stopped(gateway, prefix, stop, done):
    """Puts objects with names of their own until `stop` is set or the gateway has ended, and appends each that succeeded to `done`."""
    token = gateway.token_file("agent").read_text()
    plain = boto3.session.Session(region_name=REGION)
    sts = plain.client("sts", endpoint_url=gateway.gateway_url, config=botocore.config.Config(signature_version=botocore.UNSIGNED))
    got = sts.assume_role_with_web_identity(RoleArn=gateway.role_arn, RoleSessionName="load", WebIdentityToken=token)["Credentials"]
    s3 = boto3.session.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"], REGION).client(
        "s3", endpoint_url=gateway.gateway_url, config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )
    number = 0
    while not stop.is_set():
        number += 1
        try:
            s3.put_object(Bucket="load", Key=f"{prefix}-{number}-end", Body=b"x" * 200)
            done.append(number)
        except (BotoCoreError, ClientError):
            if gateway.gateway_process.child.poll() is not None:
                return


def test_killed_under_load_nothing_unrecorded_went_upstream(tmp_path):
    with TestGateway("moto", tmp_path / "gateway") as gateway:
        gateway.root("s3").create_bucket(Bucket="load")
        for round_ in range(3):
            stop, done = threading.Event(), []
            workers = [
                threading.Thread(target=put_until_stopped, args=(gateway, f"put-{round_}-{worker}", stop, done)) for worker in range(4)
            ]
            for worker in workers:
                worker.start()
            # Three rounds make more than the 50 that the test needs.
            until(lambda: len(done) >= 20, lambda: f"only {len(done)} objects were put", seconds=120)
            gateway.gateway_process.stop(signal.SIGKILL)
            stop.set()
            for worker in workers:
                worker.join()
            checked = verify(gateway.journal)
            assert checked.returncode == 0, checked.stdout + checked.stderr
            gateway.restart_gateway()
        sent = b"".join(path.read_bytes() for path in gateway.recording.glob("*.sent"))
        seen = {match.decode() for match in re.findall(rb"PUT /load/(put-\d-\d-\d+-end)", sent)}
        assert len(seen) > 50, "the load was too small to prove anything"
        recorded = {one["operation"]["parameters"].get("Key") for one in exchanges(gateway.journal)}
        assert seen - recorded == set()
        assert verify(gateway.journal).returncode == 0


def test_flipped_byte_is_found_and_named(client, tmp_path):
    client("sts").get_caller_identity()
    copy = tmp_path / "journal"
    shutil.copytree(TEST_DIRECTORY / "data" / "journal", copy)
    [segment, *_] = sorted(copy.glob("*.journal"))
    content = bytearray(segment.read_bytes())
    content[content.index(b"GetCallerIdentity")] ^= 1
    segment.write_bytes(content)
    checked = verify(copy)
    assert checked.returncode == 1
    assert segment.name in checked.stdout + checked.stderr
    assert re.search(r"record +\d+", checked.stdout + checked.stderr), checked.stdout + checked.stderr


def test_denial_is_recorded_with_its_policy(client, failure):
    refused = failure(client("iam").delete_user, UserName="dw-journal")

    def recorded():
        """A refusal is sent before its record is on disk: nothing waits for it."""
        denied = [one for one in exchanges(TEST_DIRECTORY / "data" / "journal") if (one.get("decision") or {}).get("verdict") == "deny"]
        return [one for one in denied if one["operation"]["parameters"].get("UserName") == "dw-journal"]

    mine = until(recorded, "the record of the refusal")
    assert mine[-1]["decision"]["policies"] == ["no-destruction"]
    assert mine[-1]["exchange"].replace("-", "") in refused.message


def test_secret_parameters_are_masked_in_the_record(client, name):
    client("ssm").put_parameter(Name=f"/{name}", Value="canary-parameter-9f31", Type="SecureString")
    assert b"canary-parameter-9f31" not in b"".join(path.read_bytes() for path in (TEST_DIRECTORY / "data" / "journal").glob("*.journal"))
    assert recording.saw(TEST_DIRECTORY / "recording", "canary-parameter-9f31"), "the control: the upstream got the value"
