"""Two gateways that share a PostgreSQL database: an approval request that one creates is voted on at the other, and a grant is consumed once in all."""

import copy
import os
import re
import shutil
import socket
import subprocess

import pytest
from botocore.exceptions import ClientError

import postgres
from approval_gateway import ApprovalTestGateway, Call, gone, sessions, until
from authority import HOST, certificate
from conftest import REGION
from test_gateway import clean_environment, free_port

pytestmark = [
    pytest.mark.gateway, pytest.mark.moto,
    pytest.mark.skipif(postgres.binaries() is None, reason="no PostgreSQL (apt-get install postgresql)"),
]


class SharedTestGateway(ApprovalTestGateway):
    def __init__(self, kind, directory):
        self.database = postgres.Postgres(free_port())
        self.database.sql("CREATE DATABASE durward OWNER durward")
        directory.mkdir(parents=True)
        (directory / "database.password").touch(0o600)
        (directory / "database.password").write_text(self.database.password + "\n")
        super().__init__(kind, directory)

    def configuration(self):
        return super().configuration() + f"""
[state.postgres]
host = "127.0.0.1"
port = {self.database.port}
password_file = "database.password"

[console]
revoke_groups = ["oncall"]
"""

    def replica(self):
        """The same gateway once more, with a journal and listeners of its own."""
        other = copy.copy(self)
        other.gateway_port, other.console_port = free_port(), free_port()
        config = self.directory / "replica.toml"
        text = self.config.read_text().replace(f'data_dir = "{self.directory}/data"', f'data_dir = "{self.directory}/replica/data"')
        for mine, its in [(self.gateway_port, other.gateway_port), (self.console_port, other.console_port)]:
            text = text.replace(f'"127.0.0.1:{mine}"', f'"127.0.0.1:{its}"')
        config.write_text(text)
        # Every replica opens what another one sealed.
        shutil.copytree(self.directory / "data/keys", self.directory / "replica/data/keys")
        env = clean_environment(AWS_REGION=REGION, DURWARD_LOG="debug", **self.base)
        command = [os.environ["DURWARD_BIN"], "serve", "--config", config]
        other.gateway_process = self.start("replica", command, other.gateway_port, env)
        return other

    @property
    def journal(self):
        return (self.directory / "data" if self.gateway_process.log.name == "gateway.log" else self.directory / "replica/data") / "journal"

    def close(self):
        super().close()
        self.database.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with SharedTestGateway("moto", tmp_path_factory.mktemp("shared") / "gateway") as made:
        yield made


@pytest.fixture(scope="module")
def other(gateway):
    return gateway.replica()


@pytest.fixture(scope="module")
def clients(gateway, other):
    """A caller who signed in at the first gateway, at both of them."""
    make = sessions(gateway)
    return lambda service, **config: [make(service, at=one, **config) for one in (gateway, other)]


def test_an_approval_request_is_voted_on_at_either_gateway(gateway, other, clients, name):
    gateway.root("s3").create_bucket(Bucket=name)
    here, there = clients("s3")
    held = Call(here.delete_bucket, Bucket=name)
    approval_request = other.wait_for_request(name)
    assert [other.approve("ann", approval_request)[0], gateway.approve("bob", approval_request)[0]] == [200, 200]
    assert held.done().error is None and gone(gateway, name)
    gateway.root("s3").create_bucket(Bucket=name)
    again = Call(there.delete_bucket, Bucket=name)
    next_request = gateway.wait_for_request(name)
    assert next_request["id"] != approval_request["id"]
    assert gateway.api("ann", f"/approval-requests/{next_request['id']}/votes", {"vote": "deny", "reason": "not twice"})[0] == 200
    assert "not twice" in str(again.done().error) and not gone(gateway, name)


def test_an_approval_is_used_once_by_both_together(gateway, other, clients, name):
    for number in range(6):
        topic = gateway.root("sns").create_topic(Name=f"{name}-{number}")["TopicArn"]
        here, there = clients("sns", retries={"total_max_attempts": 1})
        with pytest.raises(ClientError):
            here.delete_topic(TopicArn=topic)
        approval_request = other.wait_for_request(topic)
        assert other.approve("ann", approval_request)[0] == 200
        calls = [Call(sns.delete_topic, TopicArn=topic) for sns in (here, there) * 4]
        outcomes = [call.done().error for call in calls]
        assert outcomes.count(None) >= 1
        # Both may record an intent with the grant. The store gives it to one, and the other's outcome says that nothing was sent.
        ended = lambda: [side.outcomes_of_approved(topic) for side in (gateway, other)]
        until(lambda: None not in ended(), "every approved intent has an outcome")
        outcomes = sum(ended(), [])
        assert [outcome["status"] for outcome in outcomes if outcome["status"] < 400] == [200], outcomes


def test_a_session_revoked_at_one_is_over_at_the_other(gateway, other):
    there = sessions(gateway)("sts", caller="other", at=other, retries={"total_max_attempts": 1})
    assert there.get_caller_identity()["Account"] == gateway.account
    newest = gateway.api("ann", "/sessions")[1]["sessions"][0]["session"]
    status, response = gateway.api("ann", f"/sessions/{newest}/revoke", {"reason": "lost"})
    assert status == 200 and response["known"], response

    def refused():
        try:
            there.get_caller_identity()
        except ClientError as error:
            return "revoked" in str(error)

    until(refused, "the other gateway lets the revoked session in", 10)


def refused_without(gateway, bucket, name):
    """The message of the refusal of a call that requires an approval, and is not executed."""
    with pytest.raises(ClientError) as refused:
        bucket.delete_bucket(Bucket=name)
    assert not gone(gateway, name), "it was executed"
    return str(refused.value)


def test_a_database_that_hangs_delays_calls_briefly_and_a_call_in_progress_is_refused(gateway, name):
    bucket = sessions(gateway)("s3", retries={"total_max_attempts": 1}, read_timeout=60)
    gateway.root("s3").create_bucket(Bucket=name)
    gateway.database.freeze()
    try:
        assert "durward: " in refused_without(gateway, bucket, name)
    finally:
        gateway.database.thaw()

    def listed():
        try:
            return bucket.list_buckets()
        except ClientError:
            return None

    buckets = until(listed, "nothing is let through after the database responds again")["Buckets"]
    assert name in [one["Name"] for one in buckets]


def test_without_the_database_nothing_is_approved_and_with_it_again_all_is_as_it_was(gateway, other, name):
    bucket = sessions(gateway)("s3", retries={"total_max_attempts": 1})
    gateway.root("s3").create_bucket(Bucket=name)
    gateway.database.halt()
    try:
        assert "durward: " in refused_without(gateway, bucket, name)
    finally:
        gateway.database.start()

    def held_call():
        call = Call(bucket.delete_bucket, Bucket=name)
        call.join(3)
        return call if call.is_alive() else None

    held = until(held_call, "no call is held after the database is back")
    approval_request = other.wait_for_request(name)
    assert [other.approve(person, approval_request)[0] for person in ("ann", "bob")] == [200, 200]
    assert held.done().error is None and gone(gateway, name)


def serve(gateway, name, host, ca):
    """Another gateway on the database, which it names by `host`: its process and its log."""
    text = gateway.config.read_text().replace(f'data_dir = "{gateway.directory}/data"', f'data_dir = "{gateway.directory}/{name}"')
    text = re.sub(r'"127\.0\.0\.1:\d+"\n', '"127.0.0.1:0"\n', text).replace('host = "127.0.0.1"', f'host = "{host}"')
    config, log = gateway.directory / f"{name}.toml", gateway.directory / f"{name}.log"
    config.write_text(text.replace("[state.postgres]\n", f'[state.postgres]\nca_file = "{ca}"\n' if ca else "[state.postgres]\n"))
    with log.open("wb") as out:
        command = [os.environ["DURWARD_BIN"], "serve", "--config", config]
        env = clean_environment(AWS_REGION=REGION, **gateway.base)
        return subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env), log


def is_loopback(name):
    try:
        return socket.gethostbyname(name) == "127.0.0.1"
    except OSError:
        return False


def test_a_database_elsewhere_is_spoken_to_under_tls_alone_and_its_certificate_checked(gateway):
    made = {name: gateway.directory / name for name in ("ours", "theirs")}
    for directory in made.values():
        directory.mkdir()
        certificate(directory, certificate(directory))
    # By a name that is not loopback by its spelling, where that is an address on which the database listens.
    outward = HOST if is_loopback(HOST) else "127.0.0.1"
    cases = [("early", "127.0.0.1", made["ours"] / "authority.pem")] + [("plain", outward, None)] * (outward == HOST)
    for name, host, ca in cases:
        refused, log = serve(gateway, name, host, ca)
        assert refused.wait(30) == 1 and "does not support TLS" in log.read_text(), log.read_text()
    gateway.database.speak_tls(made["ours"] / "server.pem", made["ours"] / "server.key")
    cases = [("wrong", "127.0.0.1", made["theirs"] / "authority.pem")] + [("public", outward, None)] * (outward == HOST)
    for name, host, ca in cases:
        refused, log = serve(gateway, name, host, ca)
        assert refused.wait(30) == 1 and "certificate" in log.read_text(), log.read_text()
    good, log = serve(gateway, "right", "127.0.0.1", made["ours"] / "authority.pem")
    try:
        until(lambda: "the AWS front end is listening" in log.read_text(), log.read_text)
        secured = gateway.database.sql("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'durward'")
        assert int(secured[0]) >= 1
    finally:
        good.kill()
        good.wait()
