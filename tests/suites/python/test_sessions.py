"""Sessions that are revoked: refused from the next call on, also after a restart; held calls end; a new sign-in is a new session."""

import json
import os
import signal
import subprocess
import time

import boto3
import botocore.config
import pytest
from botocore.exceptions import ClientError

from conftest import REGION
from test_gateway import clean_environment
from approval_gateway import ApprovalTestGateway, Call, until

pytestmark = [pytest.mark.gateway, pytest.mark.moto]


class RevokingTestGateway(ApprovalTestGateway):
    def configuration(self):
        # The hold is longer than any test waits: a held call that ends was ended.
        text = super().configuration().replace('hold = "20s"', 'hold = "5m"')
        (self.policies / "approvals.cedar").write_text(
            (self.policies / "approvals.cedar").read_text().replace('@timeout("1m")', '@timeout("5m")')
        )
        return text + '\n[console]\nallowed_groups = ["oncall", "agents"]\nrevoke_groups = ["oncall"]\n'

    def sign_in(self, caller="agent", **config):
        """A new session of the caller, each time."""
        sts = boto3.client(
            "sts", endpoint_url=self.gateway_url, region_name=REGION,
            config=botocore.config.Config(signature_version=botocore.UNSIGNED),
        )
        got = sts.assume_role_with_web_identity(
            RoleArn=self.role_arn, RoleSessionName=caller, WebIdentityToken=self.token_file(caller).read_text()
        )["Credentials"]
        session = boto3.session.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"], REGION)
        id = self.api("ann", "/sessions")[1]["sessions"][0]["session"]
        return id, lambda service: session.client(
            service, endpoint_url=self.gateway_url, config=botocore.config.Config(**config)
        )

    def revoke(self, session, person="ann"):
        status, response = self.api(person, f"/sessions/{session}/revoke", {"reason": "lost laptop"})
        assert status == 200 and response["known"], response

    def durward(self, *words, person="ann", online=False):
        command = [os.environ["DURWARD_BIN"], "sessions", *words]
        if online:
            command += ["--url", f"http://127.0.0.1:{self.console_port}", "--token-file", self.person_file(person)]
        else:
            command += ["--dir", self.journal]
        return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=30)

    def revocations(self):
        return [one for one in self.records() if one["type"] == "session_revoked"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with RevokingTestGateway("moto", tmp_path_factory.mktemp("revoking") / "gateway") as made:
        yield made


CALLS = {
    "s3": ("list_buckets", "InvalidAccessKeyId"),
    "dynamodb": ("list_tables", "UnrecognizedClientException"),
    "sqs": ("list_queues", "UnrecognizedClientException"),
    "sns": ("list_topics", "InvalidClientTokenId"),
    "ec2": ("describe_vpcs", "AuthFailure"),
    "lambda": ("list_functions", "UnrecognizedClientException"),
}


def test_the_very_next_call_is_refused_in_each_protocol_and_after_a_restart(gateway, failure):
    session, client = gateway.sign_in()
    _other, other = gateway.sign_in()
    for service, (call, _code) in CALLS.items():
        getattr(client(service), call)()
    gateway.revoke(session)

    def all_refused():
        for service, (call, code) in CALLS.items():
            refused = failure(getattr(client(service), call))
            assert (refused.code, refused.attempts) == (code, 1), refused
            assert "this session was revoked" in refused.message and "lost laptop" not in refused.message, refused

    all_refused()
    other("s3").list_buckets()
    gateway.restart_gateway(signal.SIGKILL)
    all_refused()
    other("s3").list_buckets()
    _new, client = gateway.sign_in()
    client("s3").list_buckets()


def test_a_held_call_ends_and_the_request_stays_for_other_sessions(gateway, name):
    session, client = gateway.sign_in(retries={"max_attempts": 0})
    _other, other = gateway.sign_in()
    client("s3").create_bucket(Bucket=name)
    client("s3").put_object(Bucket=name, Key="k", Body=b"x")
    held = Call(client("s3").delete_object, Bucket=name, Key="k")
    approval_request = gateway.wait_for_request(name)
    gateway.revoke(session)
    revoked = time.monotonic()
    error = held.done().error
    assert time.monotonic() - revoked < 1, "it was held on"
    assert isinstance(error, ClientError) and "this session was revoked" in str(error), error
    assert gateway.get_request(approval_request)["state"] == "pending"
    # The caller's other session waits for the same approval_request, and uses the approval.
    again = Call(other("s3").delete_object, Bucket=name, Key="k")
    until(lambda: gateway.get_request(approval_request)["attempts"] >= 2, lambda: "it did not join the approval request")
    assert gateway.approve("ann", approval_request)[0] == 200
    assert again.done().error is None


def test_an_approval_comes_too_late_for_a_revoked_session(gateway, name, failure):
    session, client = gateway.sign_in(retries={"max_attempts": 0})
    client("s3").create_bucket(Bucket=name)
    client("s3").put_object(Bucket=name, Key="k", Body=b"x")
    held = Call(client("s3").delete_object, Bucket=name, Key="k")
    approval_request = gateway.wait_for_request(name)
    gateway.revoke(session)
    assert held.done().error is not None
    assert gateway.approve("ann", approval_request)[0] == 200
    assert "revoked" in failure(client("s3").delete_object, Bucket=name, Key="k").message
    assert gateway.intent_count(f"{name}/k") == 0, "the object's end was sent on"
    assert gateway.root("s3").get_object(Bucket=name, Key="k")


def test_all_sessions_of_a_caller_at_once_from_the_terminal(gateway, failure):
    clients = [gateway.sign_in("other")[1] for _ in range(3)]
    _id, bystander = gateway.sign_in("agent")
    for client in clients:
        client("s3").list_buckets()
    revoked = gateway.durward("revoke", "--caller", "dev/other", "--reason", "left us", online=True)
    assert revoked.returncode == 0, revoked
    assert "dev/other" in revoked.stdout, revoked
    for client in clients:
        assert "this session was revoked" in failure(client("s3").list_buckets).message
    bystander("s3").list_buckets()
    _id, client = until(lambda: signs_in_again(gateway, "other"), "a newer token signs in")
    client("s3").list_buckets()


def signs_in_again(gateway, caller):
    """`iat` has whole seconds: only a token of the next second is surely newer than the revocation."""
    gateway.renew_token(caller)
    try:
        return gateway.sign_in(caller)
    except ClientError as error:
        assert "revoked after this token was issued" in str(error)
        return None


def test_who_may_revoke_and_what_is_said_of_mistakes(gateway):
    session, client = gateway.sign_in()
    status, response = gateway.api("eve", f"/sessions/{session}/revoke", {"reason": "x"})
    assert (status, response["error"]) == (403, "not_a_revoker")
    assert gateway.api("ann", f"/sessions/{session}/revoke", {"reason": " "})[0] == 400
    refused = gateway.durward("revoke", session, "--reason", "x", person="eve", online=True)
    assert refused.returncode == 1 and "revoke_groups" in refused.stderr, refused
    assert gateway.durward("revoke", "nonsense", "--reason", "x", online=True).returncode == 1
    assert gateway.durward("revoke", "--reason", "x", online=True).returncode == 2
    unknown = gateway.durward("revoke", "0190aaaabbbb7cccaddddddddddddddd", "--reason", "x", online=True)
    assert unknown.returncode == 1 and "no such session in the journal" in unknown.stderr, unknown
    client("s3").list_buckets()


def test_the_record_says_who_revoked_what_and_why(gateway):
    session, client = gateway.sign_in()
    client("s3").list_buckets()
    revoked = gateway.durward("revoke", session, "--reason", "lost\u202e laptop", "--json", online=True)
    assert revoked.returncode == 0 and json.loads(revoked.stdout)["revocation"]["by"] == "dev/ann", revoked
    until(lambda: any(one.get("session") == session for one in gateway.revocations()), lambda: "it is not on record")
    record = next(one for one in gateway.revocations() if one.get("session") == session)
    assert (record["by"], record["reason"]) == ("dev/ann", "lost\u202e laptop")
    assert [one["caller"] for one in gateway.revocations() if "caller" in one] == ["dev/other"]
    listed = gateway.durward("ls")
    assert listed.returncode == 0 and "\n  revoked " in listed.stdout, listed
    shown = gateway.durward("show", session)
    assert "by dev/ann: lost\\u{202e} laptop" in shown.stdout, shown
    replayed = gateway.durward("replay", session, "--speed", "1000")
    assert replayed.returncode == 0 and "s3:ListBuckets" in replayed.stdout, replayed
    # The API says the same as the journal.
    _status, response = gateway.api("ann", f"/sessions/{session}")
    assert response["session"]["revocation"]["by"] == "dev/ann"
    assert [(one["operation"]["service"], one["operation"]["name"]) for one in response["exchanges"]] == [("s3", "ListBuckets")]
    status, listed = gateway.api("ann", "/sessions")
    others = [one for one in listed["sessions"] if one["caller"]["subject"] == "other"]
    assert [bool(one.get("revocation")) for one in others] == [False, True, True, True], others
