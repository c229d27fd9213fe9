"""Attempts of one approved call: one is executed, the others get its answer, or are told that it was executed and by which exchange."""

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
from stage import free_port
from asking import AskingStage, Call, policies, until  # noqa: F401: `policies` is a fixture

pytestmark = [pytest.mark.gateway, pytest.mark.moto]

POLICIES = """
@id("agents-connect")
permit (principal, action == Action::"connect", resource);
@id("agents-work")
permit (principal, action, resource);
@id("ask-before-sending")
@approval("oncall")
forbid (principal, action == Aws::Action::"sqs:SendMessage", resource);
@id("ask-before-reading")
@approval("oncall")
forbid (principal, action == Aws::Action::"s3:GetObject", resource);
@id("ask-before-telling")
@approval("oncall")
forbid (principal, action == Aws::Action::"secretsmanager:GetSecretValue", resource);
@id("told-at-home-only")
forbid (principal, action == Action::"reveal", resource) when { context.source_ip.isInRange(ip("127.0.0.2/32")) };
"""
CHANGES = {
    "a mask": '@id("more") forbid (principal, action == Action::"reveal", resource);',
    "another forbid": '@id("more") forbid (principal, action == Aws::Action::"sqs:DeleteQueue", resource);',
}
SECRET = "correct horse battery staple 7f3a"

SENDING = "AmazonSQS.SendMessage"


class Gate:
    """A relay before the emulator. What names `marker` is passed on at once; its answer waits until the gate is opened, or is cut off."""

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


class JoiningStage(AskingStage):
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
        """Waits until so many attempts wait for one ask."""
        for _ in range(200):
            ask = self.ask_about(text)
            if ask["attempts"] >= count:
                return ask
            time.sleep(0.05)
        raise AssertionError(f"{count} attempts did not join: {ask}")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with JoiningStage("moto", tmp_path_factory.mktemp("joined") / "stage") as made:
        yield made


@pytest.fixture(autouse=True)
def open_gate(stage):
    yield
    stage.gate.free()


def sign_in(stage, caller="agent"):
    sts = boto3.client(
        "sts", endpoint_url=stage.gateway_url, region_name=REGION,
        config=botocore.config.Config(signature_version=botocore.UNSIGNED),
    )
    got = sts.assume_role_with_web_identity(
        RoleArn=stage.role_arn, RoleSessionName=caller, WebIdentityToken=stage.token_file(caller).read_text()
    )["Credentials"]
    return Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])


@pytest.fixture(scope="module")
def credentials(stage):
    return sign_in(stage)


@pytest.fixture
def client(stage, credentials):
    def make(service, **config):
        session = boto3.session.Session(credentials.access_key, credentials.secret_key, credentials.token, REGION)
        return session.client(service, endpoint_url=stage.gateway_url, config=botocore.config.Config(**config))

    return make


class Attempt(threading.Thread):
    """One signed request as an SDK sends it: named as an attempt of a call, in a header that is not signed."""

    def __init__(self, stage, credentials, service, method, path, headers=None, body=b"", call=None, number=1, source=None):
        super().__init__(daemon=True)
        request = AWSRequest(method, f"{stage.gateway_url}{path}", headers=headers or {}, data=body)
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        SigV4Auth(credentials, service, REGION).add_auth(request)
        self.sent = dict(request.headers)
        if call:
            self.sent |= {"amz-sdk-invocation-id": call, "amz-sdk-request": f"attempt={number}"}
        self.method, self.path, self.body = method, path, body
        self.connection = http.client.HTTPConnection("127.0.0.1", stage.gateway_port, timeout=60, source_address=source)
        self.status = self.answer = self.headers = None
        self.start()

    def run(self):
        try:
            self.connection.request(self.method, self.path, self.body or None, self.sent)
            response = self.connection.getresponse()
            self.status, self.headers, self.answer = response.status, dict(response.getheaders()), response.read()
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
        return self.answer.decode()


@pytest.fixture
def send(stage, credentials, client, name):
    """An attempt to send one message to a queue of the test's own; each execution would have a MessageId of its own."""
    url = client("sqs").create_queue(QueueName=name)["QueueUrl"]

    def attempt(call=None, number=1, by=credentials):
        body = json.dumps({"QueueUrl": url, "MessageBody": "once"}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessage"}
        return Attempt(stage, by, "sqs", "POST", "/", headers, body, call, number)

    return attempt


@pytest.fixture
def read(stage, credentials, client, name):
    """An attempt to read one secret of the test's own."""
    client("secretsmanager").create_secret(Name=name, SecretString=SECRET)
    body = json.dumps({"SecretId": name}).encode()
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}

    def attempt(call, number=1, source=None):
        return Attempt(stage, credentials, "secretsmanager", "POST", "/", headers, body, call, number, source)

    return attempt


def in_queue(stage, name):
    sqs = stage.root("sqs")
    attributes = sqs.get_queue_attributes(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], AttributeNames=["All"])
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


def deny(stage, ask):
    stage.api("ann", f"/asks/{ask['id']}/answer", {"answer": "deny", "reason": "enough"})


def journal(stage):
    text = b"".join(part.read_bytes() for part in sorted(stage.journal.glob("*.journal"))).decode("utf-8", "replace")
    return [json.JSONDecoder().raw_decode(text, found.start())[0] for found in re.finditer(r'\{"time":"', text)]


def test_three_attempts_of_one_call_one_execution_one_answer(stage, send, name):
    call = str(uuid.uuid4())
    attempts = [send(call, number) for number in (1, 2, 3)]
    ask = stage.attempts(name, 3)
    assert stage.approve("ann", ask)[0] == 200
    assert [attempt.done().status for attempt in attempts] == [200] * 3, [attempt.answer for attempt in attempts]
    assert len({json.loads(attempt.answer)["MessageId"] for attempt in attempts}) == 1
    assert in_queue(stage, name) == 1, "executed more than once"
    executed = [one for one in journal(stage) if one["type"] == "intent" and (one.get("approval") or {}).get("ask") == ask["id"]]
    joined = [one for one in journal(stage) if one["type"] == "joined" and one["ask"] == ask["id"]]
    assert len(executed) == 1 and len(joined) == 2
    assert {one["executed_by"] for one in joined} == {executed[0]["exchange"]}
    assert {one["session"] for one in joined} == {executed[0]["session"]}
    assert {one["digest"] for one in joined} == {executed[0]["digest"]}
    durward = os.environ["DURWARD_BIN"]
    verified = subprocess.run([durward, "journal", "verify", "--dir", stage.journal], capture_output=True, text=True, timeout=30)
    assert verified.returncode == 0, verified
    show = [durward, "sessions", "show", joined[0]["session"], "--dir", stage.journal]
    shown = subprocess.run(show, capture_output=True, text=True, timeout=30)
    assert shown.stdout.count(f"stored response of exchange {executed[0]['exchange']}") == 2, shown


def test_a_call_without_a_name_that_waited_too_gets_the_answer(stage, send, name):
    attempts = [send(), send(str(uuid.uuid4()))]
    assert stage.approve("ann", stage.attempts(name, 2))[0] == 200
    assert [attempt.done().status for attempt in attempts] == [200, 200]
    assert in_queue(stage, name) == 1


def test_a_broken_connection_costs_neither_the_answer_nor_a_second_execution(stage, send, name):
    call = str(uuid.uuid4())
    stage.gate.stop_at(SENDING)
    first = send(call)
    assert stage.approve("ann", stage.ask_about(name))[0] == 200
    assert stage.gate.reached.wait(30)
    first.cut()
    early = send(call, 2)
    stage.gate.opened.set()
    assert early.done().status == 200, early.answer
    late = send(call, 3).done()
    assert late.status == 200 and late.answer == early.answer
    assert in_queue(stage, name) == 1
    outcomes = [one for one in journal(stage) if one["type"] == "outcome" and one.get("status") == 499]
    assert not outcomes, "the execution did not run to its end"
    another = send(str(uuid.uuid4()))
    ask = stage.ask_about(name)
    assert in_queue(stage, name) == 1, "the answer of one call let another pass"
    deny(stage, ask)
    assert another.done().status == 400 and "enough" in another.text


def test_boto3_tries_again_while_people_think_and_while_it_is_executed(stage, client, name):
    sqs = client("sqs", read_timeout=2, retries={"total_max_attempts": 8, "mode": "standard"})
    url = client("sqs").create_queue(QueueName=name)["QueueUrl"]
    tries = []
    sqs.meta.events.register("before-send.sqs.SendMessage", lambda **_: tries.append(time.monotonic()) and None)
    stage.gate.stop_at(SENDING)
    call = Call(sqs.send_message, QueueUrl=url, MessageBody="once")

    def tried(count):
        deadline = time.monotonic() + 30
        while len(tries) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(tries) >= count

    tried(2)
    ask = stage.attempts(name, 2)
    assert stage.approve("ann", ask)[0] == 200
    assert stage.gate.reached.wait(30)
    tried(len(tries) + 1)
    stage.gate.opened.set()
    call.done()
    assert call.error is None and call.answer["MessageId"]
    assert in_queue(stage, name) == 1
    assert any(one["type"] == "joined" and one["ask"] == ask["id"] for one in journal(stage))


@pytest.mark.parametrize(("size", "kept"), [(1000, True), (300 << 10, False)])
def test_what_is_not_kept_is_not_read_twice_either(stage, credentials, client, name, size, kept):
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x" * size)
    call = str(uuid.uuid4())
    attempts = [Attempt(stage, credentials, "s3", "GET", f"/{name}/k", call=call, number=number) for number in (1, 2)]
    ask = stage.attempts(name, 2)
    assert stage.approve("ann", ask)[0] == 200
    attempts.sort(key=lambda attempt: attempt.done().status)
    answered, other = attempts
    assert answered.status == 200 and answered.answer == b"x" * size
    if kept:
        assert other.status == 200 and other.answer == b"x" * size
        of = lambda attempt: {name.lower(): value for name, value in attempt.headers.items() if name.lower() != "date"}
        assert of(other) == of(answered) and "etag" in of(other)
    else:
        executed = [one for one in journal(stage) if one["type"] == "intent" and (one.get("approval") or {}).get("ask") == ask["id"]]
        assert other.status == 403 and executed[0]["exchange"] in other.text and "executed it once" in other.text, other.text
        later = Attempt(stage, credentials, "s3", "GET", f"/{name}/k", call=call, number=3).done()
        assert later.status == 403 and executed[0]["exchange"] in later.text
    assert stage.sent(f"GET /{name}/k") == 1


def test_an_execution_without_an_answer_is_not_repeated(stage, send, name):
    call = str(uuid.uuid4())
    stage.gate.stop_at(SENDING, cut=True)
    first = send(call)
    assert stage.approve("ann", stage.ask_about(name))[0] == 200
    assert first.done().status >= 500
    stage.gate.free()
    again = send(call, 2).done()
    assert again.status == 400 and "may have executed it" in again.text, again.text
    assert len(EXCHANGE_ID.findall(again.text)) >= 2
    assert in_queue(stage, name) == 1


def test_an_approval_that_could_not_be_used_is_asked_for_anew(stage, send, name):
    """No credential, so nothing was sent."""
    call = str(uuid.uuid4())
    stage.gate.stop_at("Action=AssumeRole", cut=True)
    first = send(call)
    ask = stage.ask_about(name)
    assert stage.approve("ann", ask)[0] == 200
    unsent = first.done()
    assert unsent.status >= 500 and f"[ask {ask['id']}] is used, and this was not sent" in unsent.text, unsent.text
    stage.gate.free()
    again = send(call, 2)
    another = stage.ask_about(name)
    assert another["id"] != ask["id"] and in_queue(stage, name) == 0
    assert stage.approve("ann", another)[0] == 200
    assert again.done().status == 200
    assert in_queue(stage, name) == 1


def test_another_session_of_the_same_caller_gets_nothing(stage, send, name):
    call = str(uuid.uuid4())
    mine, other = send(call), send(call, 2, by=sign_in(stage))
    assert stage.approve("ann", stage.attempts(name, 2))[0] == 200
    statuses = sorted([mine.done().status, other.done().status])
    assert statuses == [200, 400]
    assert in_queue(stage, name) == 1
    refused = mine if mine.status == 400 else other
    assert "used by another request" in refused.text


READING = "secretsmanager.GetSecretValue"


@pytest.mark.parametrize("change", CHANGES)
def test_an_answer_from_before_a_change_of_policy_is_not_given_after_it(stage, read, policies, name, change):
    call, before = str(uuid.uuid4()), stage.sent(READING)
    first = read(call)
    ask = stage.ask_about(name)
    assert stage.approve("ann", ask)[0] == 200
    assert first.done().status == 200 and SECRET in first.text
    assert SECRET in read(call, 2).done().text
    policies(CHANGES[change])
    later = read(call, 3).done()
    assert later.status == 400 and SECRET not in later.text, later.text
    assert ask["id"] in later.text and "executed it once" in later.text, later.text
    policies(None)
    assert SECRET in read(call, 4).done().text, "the policies are those of the answer again"
    assert stage.sent(READING) == before + 1


def test_an_attempt_from_where_less_is_revealed_does_not_get_the_answer(stage, read, name):
    call, before = str(uuid.uuid4()), stage.sent(READING)
    at_home = read(call)
    assert stage.approve("ann", stage.ask_about(name))[0] == 200
    assert at_home.done().status == 200 and SECRET in at_home.text
    away = read(call, 2, ("127.0.0.2", 0)).done()
    assert away.status == 400 and "executed it once" in away.text and SECRET not in away.text, away.text
    assert SECRET in read(call, 3).done().text
    assert stage.sent(READING) == before + 1


def test_a_window_lets_each_attempt_pass(stage, send, name):
    call = str(uuid.uuid4())
    attempts = [send(call, 1), send(call, 2)]
    ask = stage.attempts(name, 2)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    status, answer = stage.api("ann", f"/asks/{ask['id']}/answer", {"answer": "approve_window", "until": until})
    assert status == 200, answer
    assert [attempt.done().status for attempt in attempts] == [200, 200]
    assert len({json.loads(attempt.answer)["MessageId"] for attempt in attempts}) == 2
    assert in_queue(stage, name) == 2
