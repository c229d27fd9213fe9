"""What policy requires an approval for: held, approved, denied, timed out, queued; each grant permits exactly one operation, once."""

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import os

import boto3
import botocore.config
import pytest
from botocore.exceptions import ClientError

from approval_gateway import ApprovalTestGateway, Call, client, gone, until  # noqa: F401: `client` is a fixture
from conftest import REGION
from test_gateway import clean_environment

pytestmark = [pytest.mark.gateway, pytest.mark.moto]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with ApprovalTestGateway("moto", tmp_path_factory.mktemp("approvals") / "gateway") as made:
        yield made


def test_held_until_two_people_approve_and_then_passes_once(gateway, client, name):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    call = Call(s3.delete_bucket, Bucket=name)
    approval_request = gateway.wait_for_request(name)
    assert gateway.approve("ann", approval_request)[0] == 200
    assert gateway.approve("ann", approval_request)[0] != 200, "one person counts once"
    one = gateway.get_request(approval_request)
    assert one["state"] == "pending" and [vote["by"]["subject"] for vote in one["votes"]] == ["ann"]
    assert one["missing_votes"] == [{"group": "oncall", "count": 1}], one
    assert call.is_alive() and not gone(gateway, name) and gateway.intent_count(name) == 0, "one yes of two was enough"
    assert gateway.approve("bob", approval_request)[0] == 200
    assert call.done().error is None
    assert gone(gateway, name)
    s3.create_bucket(Bucket=name)
    again = Call(s3.delete_bucket, Bucket=name)
    another = gateway.wait_for_request(name)
    assert another["id"] != approval_request["id"], "the approval was used twice"
    gateway.api("ann", f"/approval-requests/{another['id']}/votes", {"vote": "deny", "reason": "once is enough"})
    error = again.done().error
    assert isinstance(error, ClientError) and error.response["Error"]["Code"] == "AccessDenied"
    assert "once is enough" in str(error) and another["id"] in str(error)
    assert not gone(gateway, name)


def test_only_group_members_approve_and_no_person_approves_their_own_request(gateway, client, name):
    s3 = client("s3", "ann")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    call = Call(s3.delete_object, Bucket=name, Key="k")
    approval_request = gateway.wait_for_request(name)
    status, response = gateway.approve("ann", approval_request)
    assert status == 403, response
    assert gateway.approve("eve", approval_request)[0] == 403
    assert call.is_alive()
    assert gateway.approve("bob", approval_request)[0] == 200
    assert call.done().error is None


def test_an_approval_is_for_one_operation_only(gateway, client, name):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    for key in ("a", "b"):
        s3.put_object(Bucket=name, Key=key, Body=b"x")
    first, second = Call(s3.delete_object, Bucket=name, Key="a"), Call(s3.delete_object, Bucket=name, Key="b")
    approval_request = gateway.wait_for_request(f"{name}/a")
    gateway.wait_for_request(f"{name}/b")
    assert gateway.approve("ann", approval_request)[0] == 200
    assert first.done().error is None
    other = gateway.wait_for_request(f"{name}/b")
    assert other["state"] == "pending" and other["votes"] == [], "the yes to a was a yes to b"
    gateway.api("ann", f"/approval-requests/{other['id']}/votes", {"vote": "deny", "reason": "no"})
    assert second.done().error is not None
    assert gateway.intent_count(f"{name}/b") == 0


def test_time_out_rejects(gateway, client, name):
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    started = time.monotonic()
    with pytest.raises(ClientError) as refused:
        sqs.delete_queue(QueueUrl=url)
    assert 1.5 < time.monotonic() - started < 15
    assert "in time" in str(refused.value)
    assert gateway.root("sqs").get_queue_url(QueueName=name)


def test_queued_passes_when_sent_again_after_approval(gateway, client, name):
    sns = client("sns")
    arn = sns.create_topic(Name=name)["TopicArn"]
    with pytest.raises(ClientError) as pending:
        sns.delete_topic(TopicArn=arn)
    approval_request = gateway.wait_for_request(name)
    assert approval_request["id"] in str(pending.value)
    assert gateway.approve("ann", approval_request)[0] == 200
    sns.delete_topic(TopicArn=arn)
    assert arn not in [topic["TopicArn"] for topic in gateway.root("sns").list_topics()["Topics"]]


def test_an_approval_survives_kill_9_and_works_once(gateway, client, name):
    sns = client("sns")
    arn = sns.create_topic(Name=name)["TopicArn"]
    with pytest.raises(ClientError):
        sns.delete_topic(TopicArn=arn)
    assert gateway.approve("ann", gateway.wait_for_request(name))[0] == 200
    gateway.restart_gateway(signal.SIGKILL)
    client("sns").delete_topic(TopicArn=arn)
    client("sns").create_topic(Name=name)
    with pytest.raises(ClientError):
        client("sns").delete_topic(TopicArn=arn)


def test_retries_join_the_request_and_it_is_executed_once(gateway, client, name):
    """boto3 gives up reading after a second and sends the call again: the attempts wait for one response, and one of them passes."""
    s3 = client("s3", read_timeout=2, retries={"max_attempts": 3})
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    # No interim responses for a client that does not look like boto3: it times out and repeats itself.
    s3.meta.events.register("before-sign.s3", lambda request, **_: request.headers.replace_header("User-Agent", "quiet/1"))
    call = Call(s3.delete_object, Bucket=name, Key="k")
    approval_request = gateway.wait_for_request(name)
    until(lambda: gateway.get_request(approval_request)["attempts"] >= 2, lambda: f"it was not sent again: {gateway.get_request(approval_request)}")
    assert len([one for one in gateway.approval_requests() if name in json.dumps(one) and one["state"] == "pending"]) == 1
    assert gateway.approve("ann", approval_request)[0] == 200
    assert call.done().error is None


def test_interim_responses_keep_the_connection_awake(gateway, client, name):
    """A read time-out shorter than the waiting: `100 Continue` restarts it. Raw, to see the bytes."""
    s3 = client("s3", signature_version="s3v4")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    url = s3.generate_presigned_url("delete_object", Params={"Bucket": name, "Key": "k"})
    path = url.split(str(gateway.gateway_port), 1)[1]
    with socket.create_connection(("127.0.0.1", gateway.gateway_port), timeout=30) as connection:
        connection.sendall(
            f"DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1:{gateway.gateway_port}\r\nUser-Agent: Boto3/1 test\r\nConnection: close\r\n\r\n".encode()
        )
        approval_request = gateway.wait_for_request(name)
        first = connection.recv(4096)
        assert first == b"HTTP/1.1 100 Continue\r\n\r\n", first
        assert gateway.approve("ann", approval_request)[0] == 200
        rest = b""
        while piece := connection.recv(4096):
            rest += piece
        assert rest.startswith(b"HTTP/1.1 204"), rest


def test_a_client_that_goes_away_leaves_the_request_and_nothing_is_executed(gateway, client, name):
    s3 = client("s3", signature_version="s3v4")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    path = s3.generate_presigned_url("delete_object", Params={"Bucket": name, "Key": "k"}).split(str(gateway.gateway_port), 1)[1]
    with socket.create_connection(("127.0.0.1", gateway.gateway_port), timeout=30) as connection:
        connection.sendall(f"DELETE {path} HTTP/1.1\r\nHost: 127.0.0.1:{gateway.gateway_port}\r\nUser-Agent: quiet/1\r\n\r\n".encode())
        approval_request = gateway.wait_for_request(name)
    assert gateway.approve("ann", approval_request)[0] == 200
    # Another call has gone all the way since: what was to happen for the client that left would have happened.
    s3.put_object(Bucket=name, Key="other", Body=b"x")
    assert gateway.get_request(approval_request)["state"] == "approved" and gateway.intent_count(f"{name}/k") == 0, "executed for a client that left"
    assert gateway.root("s3").get_object(Bucket=name, Key="k"), "executed for a client that left"
    s3.delete_object(Bucket=name, Key="k")
    assert [one["Key"] for one in gateway.root("s3").list_objects_v2(Bucket=name)["Contents"]] == ["other"]


def test_the_terminal_alone_is_enough(gateway, client, name):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    call = Call(s3.delete_object, Bucket=name, Key="k")
    approval_request = gateway.wait_for_request(name)

    def durward(*words):
        command = [os.environ["DURWARD_BIN"], "approvals", *words, "--url", f"http://127.0.0.1:{gateway.console_port}"]
        command += ["--token-file", gateway.person_file("ann")]
        return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=30)

    listed = durward("ls", "--json")
    assert listed.returncode == 0 and approval_request["id"] in listed.stdout, listed
    shown = durward("show", approval_request["id"])
    assert shown.returncode == 0 and "s3:DeleteObject" in shown.stdout and name in shown.stdout, shown
    assert durward("approve", "no-such-request").returncode != 0
    approved = durward("approve", approval_request["id"])
    assert approved.returncode == 0, approved
    assert call.done().error is None


def test_what_people_did_is_in_the_journal_whole(gateway):
    """Every event of every approval request, also of those before the gateway was killed; none twice but after the kill, and then recognisably."""
    approval_requests = gateway.api("ann", "/approval-requests?state=all&limit=1000")[1]["approval_requests"]
    happened = {(approval_request["id"], number): event["kind"] for approval_request in approval_requests for number, event in enumerate(approval_request["history"])}
    assert {"requested", "approve_once", "granted", "consumed", "deny", "timed_out"} <= set(happened.values())

    def recorded():
        return {(one["approval_request"], one["event_index"]): one["change"] for one in gateway.records() if one["type"] == "approval_request_changed"}

    until(lambda: happened.items() <= recorded().items(), lambda: f"missing: {happened.items() - recorded().items()}")
    kinds = [one["type"] for one in gateway.records()]
    assert "approval_requested" in kinds and any(one.get("grant") for one in gateway.records())
    verified = subprocess.run(
        [os.environ["DURWARD_BIN"], "journal", "verify", "--dir", gateway.journal], capture_output=True, text=True, timeout=30
    )
    assert verified.returncode == 0, verified
