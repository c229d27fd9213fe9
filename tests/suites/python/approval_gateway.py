"""A gateway whose policies require approval: the callers, the people with their tokens, the admin API, calls that may be held."""

import json
import threading
import time

import boto3
import botocore.config
import pytest

from conftest import REGION
import issuer
from admin_api import call_admin_api
from test_gateway import TestGateway, free_port

POLICIES = """
@id("agents-connect")
permit (principal, action == Action::"connect", resource);
@id("agents-work")
permit (principal, action, resource);
@id("bucket-deletion-needs-two")
@approval("oncall") @quorum("2") @timeout("1m") @on_timeout("reject")
forbid (principal, action == Aws::Action::"s3:DeleteBucket", resource);
@id("object-deletion-needs-one")
@approval("oncall")
forbid (principal, action == Aws::Action::"s3:DeleteObject", resource);
@id("queue-deletion-times-out")
@approval("oncall") @timeout("2s") @on_timeout("reject")
forbid (principal, action == Aws::Action::"sqs:DeleteQueue", resource);
@id("topic-deletion-is-queued")
@approval("oncall") @timeout("2s") @on_timeout("queue")
forbid (principal, action == Aws::Action::"sns:DeleteTopic", resource);
"""


def until(look, otherwise, seconds=30):
    """Looks until there is something, or says what there is not: a text, or what makes one."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, otherwise() if callable(otherwise) else f"in vain: {otherwise}"
        time.sleep(0.02)
    return found


def records(segment):
    """The records of a segment: crates/journal/FORMAT.md."""
    at = 60
    while at + 44 <= len(segment):
        length = int.from_bytes(segment[at:at + 4], "little")
        text = segment[at + 44:at + 44 + length]
        if length == 0 or len(text) < length:
            return
        yield json.loads(text)
        at += 44 + length


class ApprovalTestGateway(TestGateway):
    policy_text = POLICIES
    callers = {"agent": ["agents"], "other": ["agents"], "ann": ["oncall"], "bob": ["oncall"], "eve": ["agents"]}

    def configuration(self):
        self.policies = self.directory / "policies"
        self.policies.mkdir(exist_ok=True)
        (self.policies / "approvals.cedar").write_text(self.policy_text)
        self.console_port = getattr(self, "console_port", None) or free_port()
        text = super().configuration().replace("[listen]\n", f'[listen]\nconsole = "127.0.0.1:{self.console_port}"\n')
        # People vote with tokens that no front end accepts.
        text = text.replace('kind = "workload"', 'kind = "workload"\nconsole_audience = ["durward-people"]')
        return text + '\n[approval]\nhold = "20s"\n'

    def person_file(self, person):
        """The token with which a person uses the admin API."""
        file = self.directory / f"{person}.person.jwt"
        if not file.exists():
            file.write_text(issuer.mint(self.directory / "issuer", person, self.callers[person], aud="durward-people") + "\n")
        return file

    def api(self, caller, path, body=None):
        """The admin API as a person with their OIDC token."""
        token = self.person_file(caller).read_text().strip()
        return call_admin_api(f"http://127.0.0.1:{self.console_port}", token, path, body)

    def approval_requests(self):
        return self.api("ann", "/approval-requests")[1]["approval_requests"]

    def wait_for_request(self, text):
        """Waits for the pending approval request whose resources name `text`."""
        return until(
            lambda: next((approval_request for approval_request in self.approval_requests() if text in json.dumps(approval_request)), None),
            lambda: f"no approval request names {text}: {self.approval_requests()}",
        )

    def get_request(self, approval_request):
        return self.api("ann", f"/approval-requests/{approval_request['id']}")[1]

    def intent_count(self, about):
        """How often something about `about` went on to AWS."""
        return sum(record["type"] == "intent" and about in json.dumps(record["operation"]) and record.get("grant") is not None for record in self.records())

    def outcomes_of_approved(self, about):
        """The outcomes of the approved intents about `about`, or None while one is not written yet."""
        read = list(self.records())
        outcomes = {record["exchange"]: record for record in read if record["type"] == "outcome"}
        approved = [r["exchange"] for r in read if r["type"] == "intent" and about in json.dumps(r["operation"]) and r.get("grant")]
        return [outcomes[exchange] for exchange in approved] if all(exchange in outcomes for exchange in approved) else None

    def records(self):
        """The records that are in the journal's files now; what is being written may be cut off."""
        for part in sorted(self.journal.iterdir()):
            if part.suffix == ".journal":
                yield from records(part.read_bytes())

    def approve(self, caller, approval_request, **more):
        return self.api(caller, f"/approval-requests/{approval_request['id']}/votes", {"vote": "approve_once"} | more)


def sessions(gateway):
    """Makes clients of callers who signed in at the gateway, for it or for one that shares its keys."""
    made = {}

    def make(service, caller="agent", at=gateway, **config):
        if caller not in made:
            sts = boto3.client(
                "sts", endpoint_url=gateway.gateway_url, region_name=REGION,
                config=botocore.config.Config(signature_version=botocore.UNSIGNED),
            )
            got = sts.assume_role_with_web_identity(
                RoleArn=gateway.role_arn, RoleSessionName=caller, WebIdentityToken=gateway.token_file(caller).read_text()
            )["Credentials"]
            made[caller] = boto3.session.Session(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"], REGION)
        return made[caller].client(service, endpoint_url=at.gateway_url, config=botocore.config.Config(**config))

    return make


@pytest.fixture(scope="module")
def client(gateway):
    return sessions(gateway)


class Call(threading.Thread):
    """A call that may be held."""

    def __init__(self, function, **arguments):
        super().__init__(daemon=True)
        self.function, self.arguments, self.response, self.error = function, arguments, None, None
        self.start()

    def run(self):
        try:
            self.response = self.function(**self.arguments)
        except Exception as error:  # noqa: BLE001: whatever it is, the test looks at it
            self.error = error

    def done(self):
        self.join(60)
        assert not self.is_alive(), "still held"
        return self


def gone(gateway, bucket):
    return bucket not in [one["Name"] for one in gateway.root("s3").list_buckets()["Buckets"]]


@pytest.fixture
def policies(gateway):
    """Adds policies to those in force, until the test is over."""
    added, log = gateway.policies / "added.cedar", gateway.gateway_process.log

    def change(edit):
        before = log.read_text().count("a new policy set is in force")
        edit()
        until(lambda: log.read_text().count("a new policy set is in force") > before, "the policies did not change")

    yield lambda text: change(lambda: added.write_text(text)) if text else change(added.unlink)
    if added.exists():
        change(added.unlink)
