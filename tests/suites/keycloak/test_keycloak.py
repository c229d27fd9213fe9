"""Keycloak as the identity provider of every caller and person: an agent's service account, a person in the console, a person at a terminal."""

import contextlib
import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore.config
import pytest
from botocore.exceptions import ClientError

from keycloak import CONSOLE_SECRET, Browser, Keycloak
from test_gateway import REGION, TestGateway, clean_environment, free_port

POLICIES = """
@id("agents-connect")
permit (principal in Group::"agents", action == Action::"connect", resource);
@id("agents-work")
permit (principal in Group::"agents", action, resource);
@id("bucket-deletion-needs-one")
@approval("oncall") @timeout("2m") @on_timeout("reject")
forbid (principal, action == Aws::Action::"s3:DeleteBucket", resource);
"""


def until(look, failure, seconds=30):
    """Looks until there is something, or fails with what `failure` says."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, failure()
        time.sleep(0.05)
    return found


class KeycloakTestGateway(TestGateway):
    def start_issuer(self):
        self.console_port = free_port()
        self.console_url = f"http://127.0.0.1:{self.console_port}"
        self.keycloak = Keycloak(self.directory, self.console_url)
        self.processes.append(self.keycloak.process)
        self.issuer_url = self.keycloak.issuer

    def configuration(self):
        self.policies = self.directory / "policies"
        self.policies.mkdir(exist_ok=True)
        (self.policies / "all.cedar").write_text(POLICIES)
        (self.directory / "console.secret").write_text(CONSOLE_SECRET)
        people = (
            'name = "corp"\nconsole_client_id = "durward-console"\nconsole_client_secret_file = "console.secret"\n'
            'cli_client_id = "durward-cli"\n'
        )
        text = super().configuration().replace('name = "dev"\n', people)
        return text.replace("[listen]\n", f'[listen]\nconsole = "127.0.0.1:{self.console_port}"\n')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with KeycloakTestGateway("moto", tmp_path_factory.mktemp("keycloak") / "gateway") as made:
        yield made


def session(gateway, name):
    """An agent that signed in with its service account's token, as an SDK does."""
    sts = boto3.client(
        "sts", endpoint_url=gateway.gateway_url, region_name=REGION,
        config=botocore.config.Config(signature_version=botocore.UNSIGNED),
    )
    got = sts.assume_role_with_web_identity(
        RoleArn=gateway.role_arn, RoleSessionName=name, WebIdentityToken=gateway.keycloak.agent_token(name)
    )["Credentials"]
    return boto3.session.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"], REGION)


def s3_of(gateway, name="agent-7"):
    return session(gateway, name).client("s3", endpoint_url=gateway.gateway_url)


class Held(threading.Thread):
    """A deletion that waits for a person."""

    def __init__(self, s3, bucket):
        super().__init__(daemon=True)
        self.s3, self.bucket, self.error = s3, bucket, None
        self.start()

    def run(self):
        try:
            self.s3.delete_bucket(Bucket=self.bucket)
        except ClientError as error:
            self.error = error

    def done(self):
        self.join(60)
        assert not self.is_alive(), "still held"
        return self.error


class Terminal:
    """A person's shell: the commands with a state directory of their own."""

    def __init__(self, gateway, directory):
        self.binary = os.environ["DURWARD_BIN"]
        self.env = clean_environment(XDG_STATE_HOME=directory, DURWARD_CONSOLE_URL=gateway.console_url)
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "DURWARD_TOKEN_FILE"):
            self.env.pop(name, None)
        self.state = directory

    def run(self, *words):
        return subprocess.run([self.binary, *words], env=self.env, capture_output=True, text=True, timeout=60)

    @contextlib.contextmanager
    def login(self, last, *words):
        """`durward login`, once it has shown the line that holds `last`: the process, and what it showed."""
        command = [self.binary, "login", *words]
        with subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            try:
                shown = ""
                for line in child.stdout:
                    shown += line
                    if last in line:
                        break
                yield child, shown
            finally:
                child.kill()

    def login_on_a_device(self, name):
        """Signs in by the code that the terminal shows, on a device that is somewhere else."""
        with self.login("waiting") as (child, shown):
            address = re.search(r"http://\S+user_code=\S+", shown)
            assert address, (shown, child.communicate(timeout=10))
            browser = Browser()
            browser.open(address.group())
            browser.sign_in(name)
            browser.submit(accept="Yes")
            out, err = child.communicate(timeout=60)
            return child.returncode, shown + out, err


def test_a_service_account_is_decided_by_its_group(gateway):
    s3 = s3_of(gateway)
    s3.create_bucket(Bucket="kc-reports")
    assert "kc-reports" in [one["Name"] for one in s3.list_buckets()["Buckets"]]
    with pytest.raises(ClientError) as refused:
        s3_of(gateway, "agent-8").list_buckets()
    assert refused.value.response["Error"]["Code"] == "AccessDenied"


def test_an_agents_token_cannot_vote(gateway, tmp_path):
    file = tmp_path / "agent.jwt"
    file.write_text(gateway.keycloak.agent_token("agent-7"))
    refused = Terminal(gateway, tmp_path / "state").run("approvals", "ls", "--token-file", str(file))
    assert refused.returncode == 1 and "does not accept this token" in refused.stderr, refused


def test_a_person_signs_in_on_keycloaks_page_and_approves(gateway):
    s3 = s3_of(gateway)
    s3.create_bucket(Bucket="kc-payroll")
    held = Held(s3, "kc-payroll")
    ann = Browser()
    ann.open(f"{gateway.console_url}/signin/start?provider=corp&to=/")
    assert ann.sign_in("ann") == 200 and ann.url == f"{gateway.console_url}/", ann.page[:2000]

    def link_to_request():
        ann.open("/")
        return re.search(r'href="(/approvals/[0-9a-f-]+)"', ann.page)

    link = until(link_to_request, lambda: ann.page)
    ann.open(link.group(1))
    assert "kc-payroll" in ann.page
    form = re.search(r'<form[^>]*action="(/approvals/[^"#]+/votes)["#].*?name="csrf" value="([^"]+)"', ann.page, re.S)
    ann.open(form.group(1), {"csrf": form.group(2), "vote": "approve_once"}, Origin=gateway.console_url)
    assert "Your approval is recorded" in ann.page, ann.page[:3000]
    assert held.done() is None
    assert "kc-payroll" not in [one["Name"] for one in gateway.root("s3").list_buckets()["Buckets"]]


def test_signs_in_on_another_device_renews_and_loses_the_vote_with_the_group(gateway, tmp_path):
    bob = Terminal(gateway, tmp_path / "state")
    before = bob.run("approvals", "ls")
    assert before.returncode == 1 and "durward login" in before.stderr, before
    code, out, err = bob.login_on_a_device("bob")
    assert code == 0 and "groups: oncall" in out, (out, err)
    files = list((tmp_path / "state/durward/login").glob("*.json"))
    assert len(files) == 1 and files[0].stat().st_mode & 0o777 == 0o600
    kept = json.loads(files[0].read_text())
    assert kept["refresh_token"], "Keycloak gives one"
    assert kept["id_token"] not in out + err and kept["refresh_token"] not in out + err
    listed = bob.run("approvals", "ls", "--json")
    assert listed.returncode == 0, listed
    assert json.loads(listed.stdout)["approval_requests"] == []
    # Its token is short-lived: each call renewed it.
    assert json.loads(files[0].read_text())["id_token"] != kept["id_token"]

    s3 = s3_of(gateway)
    s3.create_bucket(Bucket="kc-archive")
    held = Held(s3, "kc-archive")
    pending = lambda: json.loads(bob.run("approvals", "ls", "--json").stdout)["approval_requests"]
    approval_requests = until(pending, lambda: "no approval request is pending")
    assert approval_requests[0]["voter"]["may_approve"], approval_requests
    gateway.keycloak.leave("bob", "oncall")
    refused = bob.run("approvals", "approve", approval_requests[0]["id"])
    assert refused.returncode == 1 and "in no group that may use the console" in refused.stderr, refused
    ann = Terminal(gateway, tmp_path / "anns")
    assert ann.login_on_a_device("ann")[0] == 0
    approved = ann.run("approvals", "approve", approval_requests[0]["id"])
    assert approved.returncode == 0, approved
    assert held.done() is None

    gone = bob.run("logout")
    assert gone.returncode == 0 and not files[0].exists(), gone
    assert "end the sign-in" not in gone.stderr, gone
    # Keycloak ended what it could be renewed with.
    form = {"grant_type": "refresh_token", "client_id": "durward-cli", "refresh_token": kept["refresh_token"]}
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(
            f"{gateway.issuer_url}/protocol/openid-connect/token", urllib.parse.urlencode(form).encode(), timeout=10
        )


def test_a_browser_comes_back_to_the_terminal(gateway, tmp_path):
    ann = Terminal(gateway, tmp_path / "state")
    with ann.login("http", "--browser") as (child, shown):
        browser = Browser()
        browser.open(shown.splitlines()[-1].strip())
        browser.sign_in("ann")
        # Keycloak asks for consent unless she gave it before, at another sign-in by this client.
        if browser.url.startswith(gateway.keycloak.url):
            browser.submit(accept="Yes")
        assert browser.url.startswith("http://127.0.0.1:") and "You may close this page" in browser.page, browser.page
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0 and "signed in to" in out and "corp/" in out, (out, err)
    assert ann.run("approvals", "ls", "--json").returncode == 0
