"""Attempts of one approved call: one is executed; the others get its response, or a refusal that names the exchange that executed it."""

import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
import uuid

import boto3
import botocore.config
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import recording
from conftest import EXCHANGE_ID, REGION
from test_gateway import free_port
from approval_gateway import ApprovalTestGateway, Call, policies, until  # noqa: F401: `policies` is a fixture

pytestmark = [pytest.mark.gateway, pytest.mark.moto]

POLICIES = """
@id("agents-connect")
permit (principal, action == Action::"connect", resource);
@id("agents-work")
permit (principal, action, resource);
@id("sending-needs-approval")
@approval("oncall")
forbid (principal, action == Aws::Action::"sqs:SendMessage", resource);
@id("reading-needs-approval")
@approval("oncall")
forbid (principal, action == Aws::Action::"s3:GetObject", resource);
@id("secrets-need-approval")
@approval("oncall")
forbid (principal, action == Aws::Action::"secretsmanager:GetSecretValue", resource);
@id("revealed-at-home-only")
forbid (principal, action == Action::"reveal", resource) when { context.source_ip.isInRange(ip("127.0.0.2/32")) };
"""
CHANGES = {
    "a mask": '@id("more") forbid (principal, action == Action::"reveal", resource);',
    "another forbid": '@id("more") forbid (principal, action == Aws::Action::"sqs:DeleteQueue", resource);',
}
SECRET = "correct horse battery staple 7f3a"

SENDING = "AmazonSQS.SendMessage"


class Gate:
    """A relay before the emulator. What names `marker` is passed on at once; its response waits until the gate is opened, or is cut off."""

    def __init__(self, upstream):
        self.upstream, self.port = upstream, free_port()
        self.free()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def stop_at(self, marker, cut=False):
        self.reached, self.opened, self.cut = threading.Event(), threading.Event(), cut
        self.marker = marker.encode()

    def free(self):
        self.marker = None

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.upstream))
            stopped = threading.Event()
            threading.Thread(target=self.there, args=(client, server, stopped), daemon=True).start()
            threading.Thread(target=self.back, args=(client, server, stopped), daemon=True).start()

    def there(self, client, server, stopped):
        try:
            while data := client.recv(65536):
                if self.marker and self.marker in data:
                    stopped.set()
                    server.sendall(data)
                    self.reached.set()
                else:
                    server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            server.close()

    def back(self, client, server, stopped):
        try:
            while data := server.recv(65536):
                if stopped.is_set():
                    stopped.clear()
                    if self.cut:
                        break
                    assert self.opened.wait(30)
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        client.close()


class CoalescingTestGateway(ApprovalTestGateway):
    policy_text = POLICIES
    def start_emulator(self):
        super().start_emulator()
        self.gate = Gate(self.emulator_port)

    def start(self, name, command, port, env=None):
        # the recorder's upstream is the gate
        if name == "recorder":
            command = [*command[:-1], self.gate.port]
        return super().start(name, command, port, env)

    def sent(self, text):
        """How often the upstream saw a request that names `text`."""
        seen = 0
        for path in self.recording.glob("*.sent"):
            seen += sum(text.encode() in head + body for head, body in recording.requests(path.read_bytes()))
        return seen

    def attempts(self, text, count):
        """Waits until `count` attempts wait for one approval request."""
        def joined():
            approval_request = self.wait_for_request(text)
            return approval_request if approval_request["attempts"] >= count else None

        return until(joined, lambda: f"{count} attempts did not join: {self.wait_for_request(text)}")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with CoalescingTestGateway("moto", tmp_path_factory.mktemp("coalesced") / "gateway") as made:
        yield made


@pytest.fixture(autouse=True)
def open_gate(gateway):
    yield
    gateway.gate.free()


def sign_in(gateway, caller="agent"):
    sts = boto3.client(
        "sts", endpoint_url=gateway.gateway_url, region_name=REGION,
        config=botocore.config.Config(signature_version=botocore.UNSIGNED),
    )
    got = sts.assume_role_with_web_identity(
        RoleArn=gateway.role_arn, RoleSessionName=caller, WebIdentityToken=gateway.token_file(caller).read_text()
    )["Credentials"]
    return Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])


@pytest.fixture(scope="module")
def credentials(gateway):
    return sign_in(gateway)


@pytest.fixture
def client(gateway, credentials):
    def make(service, **config):
        session = boto3.session.Session(credentials.access_key, credentials.secret_key, credentials.token, REGION)
        return session.client(service, endpoint_url=gateway.gateway_url, config=botocore.config.Config(**config))

    return make


class Attempt(threading.Thread):
    """One signed request as an SDK sends it: named as an attempt of a call, in a header that is not signed."""

    def __init__(self, gateway, credentials, service, method, path, headers=None, body=b"", call=None, number=1, source=None):
        super().__init__(daemon=True)
        request = AWSRequest(method, f"{gateway.gateway_url}{path}", headers=headers or {}, data=body)
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        SigV4Auth(credentials, service, REGION).add_auth(request)
        self.sent = dict(request.headers)
        if call:
            self.sent |= {"amz-sdk-invocation-id": call, "amz-sdk-request": f"attempt={number}"}
        self.method, self.path, self.body = method, path, body
        self.connection = http.client.HTTPConnection("127.0.0.1", gateway.gateway_port, timeout=60, source_address=source)
        self.status = self.response = self.headers = None
        self.start()

    def run(self):
        try:
            self.connection.request(self.method, self.path, self.body or None, self.sent)
            response = self.connection.getresponse()
            self.status, self.headers, self.response = response.status, dict(response.getheaders()), response.read()
        except OSError:
            self.status = "cut"

    def cut(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.join(10)
        assert self.status in ("cut", None)

    def done(self):
        self.join(60)
        assert not self.is_alive(), "still held"
        return self

    @property
    def text(self):
        return self.response.decode()


@pytest.fixture
def send(gateway, credentials, client, name):
    """An attempt to send one message to a queue of the test's own; each execution would have a MessageId of its own."""
    url = client("sqs").create_queue(QueueName=name)["QueueUrl"]

    def attempt(call=None, number=1, by=credentials):
        body = json.dumps({"QueueUrl": url, "MessageBody": "once"}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessage"}
        return Attempt(gateway, by, "sqs", "POST", "/", headers, body, call, number)

    return attempt


@pytest.fixture
def read(gateway, credentials, client, name):
    """An attempt to read one secret of the test's own."""
    client("secretsmanager").create_secret(Name=name, SecretString=SECRET)
    body = json.dumps({"SecretId": name}).encode()
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}

    def attempt(call, number=1, source=None):
        return Attempt(gateway, credentials, "secretsmanager", "POST", "/", headers, body, call, number, source)

    return attempt


def in_queue(gateway, name):
    sqs = gateway.root("sqs")
    attributes = sqs.get_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], AttributeNames=["All"])
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


def deny(gateway, approval_request):
    gateway.api("ann", f"/approval-requests/{approval_request['id']}/votes", {"vote": "deny", "reason": "enough"})


def journal(gateway):
    text = b"".join(part.read_bytes() for part in sorted(gateway.journal.glob("*.journal"))).decode("utf-8", "replace")
    return [json.JSONDecoder().raw_decode(text, found.start())[0] for found in re.finditer(r'\{"time":"', text)]


def test_three_attempts_of_one_call_one_execution_one_response(gateway, send, name):
    call = str(uuid.uuid4())
    attempts = [send(call, number) for number in (1, 2, 3)]
    approval_request = gateway.attempts(name, 3)
    assert gateway.approve("ann", approval_request)[0] == 200
    assert [attempt.done().status for attempt in attempts] == [200] * 3, [attempt.response for attempt in attempts]
    assert len({json.loads(attempt.response)["MessageId"] for attempt in attempts}) == 1
    assert in_queue(gateway, name) == 1, "executed more than once"
    executed = [one for one in journal(gateway) if one["type"] == "intent" and (one.get("grant") or {}).get("approval_request") == approval_request["id"]]
    coalesced = [one for one in journal(gateway) if one["type"] == "coalesced" and one["approval_request"] == approval_request["id"]]
    assert len(executed) == 1 and len(coalesced) == 2
    assert {one["executed_by"] for one in coalesced} == {executed[0]["exchange"]}
    assert {one["session"] for one in coalesced} == {executed[0]["session"]}
    assert {one["digest"] for one in coalesced} == {executed[0]["digest"]}
    durward = os.environ["DURWARD_BIN"]
    verified = subprocess.run([durward, "journal", "verify", "--dir", gateway.journal], capture_output=True, text=True, timeout=30)
    assert verified.returncode == 0, verified
    show = [durward, "sessions", "show", coalesced[0]["session"], "--dir", gateway.journal]
    shown = subprocess.run(show, capture_output=True, text=True, timeout=30)
    assert shown.stdout.count(f"stored response of exchange {executed[0]['exchange']}") == 2, shown


def test_a_call_without_a_name_that_waited_too_gets_the_response(gateway, send, name):
    attempts = [send(), send(str(uuid.uuid4()))]
    assert gateway.approve("ann", gateway.attempts(name, 2))[0] == 200
    assert [attempt.done().status for attempt in attempts] == [200, 200]
    assert in_queue(gateway, name) == 1


def test_a_broken_connection_costs_neither_the_response_nor_a_second_execution(gateway, send, name):
    call = str(uuid.uuid4())
    gateway.gate.stop_at(SENDING)
    first = send(call)
    assert gateway.approve("ann", gateway.wait_for_request(name))[0] == 200
    assert gateway.gate.reached.wait(30)
    first.cut()
    early = send(call, 2)
    gateway.gate.opened.set()
    assert early.done().status == 200, early.response
    late = send(call, 3).done()
    assert late.status == 200 and late.response == early.response
    assert in_queue(gateway, name) == 1
    outcomes = [one for one in journal(gateway) if one["type"] == "outcome" and one.get("status") == 499]
    assert not outcomes, "the execution did not run to its end"
    another = send(str(uuid.uuid4()))
    approval_request = gateway.wait_for_request(name)
    assert in_queue(gateway, name) == 1, "the response of one call let another pass"
    deny(gateway, approval_request)
    assert another.done().status == 400 and "enough" in another.text


def test_boto3_tries_again_while_people_think_and_while_it_is_executed(gateway, client, name):
    sqs = client("sqs", read_timeout=2, retries={"total_max_attempts": 8, "mode": "standard"})
    url = client("sqs").create_queue(QueueName=name)["QueueUrl"]
    tries = []
    sqs.meta.events.register("before-send.sqs.SendMessage", lambda **_: tries.append(time.monotonic()) and None)
    gateway.gate.stop_at(SENDING)
    call = Call(sqs.send_message, QueueUrl=url, MessageBody="once")

    def tried(count):
        until(lambda: len(tries) >= count, lambda: f"boto3 sent it {len(tries)} times")

    tried(2)
    approval_request = gateway.attempts(name, 2)
    assert gateway.approve("ann", approval_request)[0] == 200
    assert gateway.gate.reached.wait(30)
    tried(len(tries) + 1)
    gateway.gate.opened.set()
    call.done()
    assert call.error is None and call.response["MessageId"]
    assert in_queue(gateway, name) == 1
    assert any(one["type"] == "coalesced" and one["approval_request"] == approval_request["id"] for one in journal(gateway))


@pytest.mark.parametrize(("size", "kept"), [(1000, True), (300 << 10, False)])
def test_what_is_not_kept_is_not_read_twice_either(gateway, credentials, client, name, size, kept):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x" * size)
    call = str(uuid.uuid4())
    attempts = [Attempt(gateway, credentials, "s3", "GET", f"/{name}/k", call=call, number=number) for number in (1, 2)]
    approval_request = gateway.attempts(name, 2)
    assert gateway.approve("ann", approval_request)[0] == 200
    attempts.sort(key=lambda attempt: attempt.done().status)
    first, other = attempts
    assert first.status == 200 and first.response == b"x" * size
    if kept:
        assert other.status == 200 and other.response == b"x" * size
        of = lambda attempt: {name.lower(): value for name, value in attempt.headers.items() if name.lower() != "date"}
        assert of(other) == of(first) and "etag" in of(other)
    else:
        executed = [one for one in journal(gateway) if one["type"] == "intent" and (one.get("grant") or {}).get("approval_request") == approval_request["id"]]
        assert other.status == 403 and executed[0]["exchange"] in other.text and "executed it once" in other.text, other.text
        later = Attempt(gateway, credentials, "s3", "GET", f"/{name}/k", call=call, number=3).done()
        assert later.status == 403 and executed[0]["exchange"] in later.text
    assert gateway.sent(f"GET /{name}/k") == 1


def test_an_execution_without_a_response_is_not_repeated(gateway, send, name):
    call = str(uuid.uuid4())
    gateway.gate.stop_at(SENDING, cut=True)
    first = send(call)
    assert gateway.approve("ann", gateway.wait_for_request(name))[0] == 200
    assert first.done().status >= 500
    gateway.gate.free()
    again = send(call, 2).done()
    assert again.status == 400 and "may have executed it" in again.text, again.text
    assert len(EXCHANGE_ID.findall(again.text)) >= 2
    assert in_queue(gateway, name) == 1


def test_an_approval_that_could_not_be_used_is_asked_for_anew(gateway, send, name):
    """No credential, so nothing was sent."""
    call = str(uuid.uuid4())
    gateway.gate.stop_at("Action=AssumeRole", cut=True)
    first = send(call)
    approval_request = gateway.wait_for_request(name)
    assert gateway.approve("ann", approval_request)[0] == 200
    unsent = first.done()
    assert unsent.status >= 500 and f"its grant is consumed [approval request {approval_request['id']}], and this was not sent" in unsent.text, unsent.text
    gateway.gate.free()
    again = send(call, 2)
    another = gateway.wait_for_request(name)
    assert another["id"] != approval_request["id"] and in_queue(gateway, name) == 0
    assert gateway.approve("ann", another)[0] == 200
    assert again.done().status == 200
    assert in_queue(gateway, name) == 1


def test_another_session_of_the_same_caller_gets_nothing(gateway, send, name):
    call = str(uuid.uuid4())
    mine, other = send(call), send(call, 2, by=sign_in(gateway))
    assert gateway.approve("ann", gateway.attempts(name, 2))[0] == 200
    statuses = sorted([mine.done().status, other.done().status])
    assert statuses == [200, 400]
    assert in_queue(gateway, name) == 1
    refused = mine if mine.status == 400 else other
    assert "consumed by another request" in refused.text


READING = "secretsmanager.GetSecretValue"


@pytest.mark.parametrize("change", CHANGES)
def test_a_response_from_before_a_change_of_policy_is_not_given_after_it(gateway, read, policies, name, change):
    call, before = str(uuid.uuid4()), gateway.sent(READING)
    first = read(call)
    approval_request = gateway.wait_for_request(name)
    assert gateway.approve("ann", approval_request)[0] == 200
    assert first.done().status == 200 and SECRET in first.text
    assert SECRET in read(call, 2).done().text
    policies(CHANGES[change])
    later = read(call, 3).done()
    assert later.status == 400 and SECRET not in later.text, later.text
    assert approval_request["id"] in later.text and "executed it once" in later.text, later.text
    policies(None)
    assert SECRET in read(call, 4).done().text, "the policies are those of the response again"
    assert gateway.sent(READING) == before + 1


def test_an_attempt_from_where_less_is_revealed_does_not_get_the_response(gateway, read, name):
    call, before = str(uuid.uuid4()), gateway.sent(READING)
    at_home = read(call)
    assert gateway.approve("ann", gateway.wait_for_request(name))[0] == 200
    assert at_home.done().status == 200 and SECRET in at_home.text
    away = read(call, 2, ("127.0.0.2", 0)).done()
    assert away.status == 400 and "executed it once" in away.text and SECRET not in away.text, away.text
    assert SECRET in read(call, 3).done().text
    assert gateway.sent(READING) == before + 1


def test_a_window_lets_each_attempt_pass(gateway, send, name):
    call = str(uuid.uuid4())
    attempts = [send(call, 1), send(call, 2)]
    approval_request = gateway.attempts(name, 2)
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    status, response = gateway.api("ann", f"/approval-requests/{approval_request['id']}/votes", {"vote": "approve_time_bound", "until": end})
    assert status == 200, response
    assert [attempt.done().status for attempt in attempts] == [200, 200]
    assert len({json.loads(attempt.response)["MessageId"] for attempt in attempts}) == 2
    assert in_queue(gateway, name) == 2
