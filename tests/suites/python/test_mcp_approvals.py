"""Tool calls that policy requires an approval for, with the clients of the official Python SDK: held, announced in the way of each revision, approved
through the admin API, executed once."""

import http.client
import json
import re
import subprocess
import threading
import time
import urllib.parse
import uuid

import pytest
from mcp_test_gateway import HERE, SUITES, ApprovalMcpTestGateway
from test_mcp import EXCHANGE, MASKED, text

# a test gateway of its own, without an emulator: once is enough
pytestmark = [pytest.mark.gateway, pytest.mark.moto]

# SDK of the client, server, version 2's mode
MODERN = [("mcp", "files", "2026-07-28"), ("mcp", "events", "auto")]
LEGACY = [("mcp", "events", "legacy"), ("mcp1", "old", None), ("mcp1", "old-events", None)]
META = "io.modelcontextprotocol"


@pytest.fixture(scope="module")
def gateway():
    with ApprovalMcpTestGateway() as gateway:
        yield gateway


@pytest.fixture
def path():
    return f"/srv/{uuid.uuid4().hex}"


class Client(threading.Thread):
    """A client whose calls may be held."""

    def __init__(self, gateway, peer, *steps, caller="agent", capable=False):
        super().__init__(daemon=True)
        self.sdk, server, mode = peer
        self.job = {"url": gateway.url(server), "token": gateway.token(caller), "steps": steps, "mode": mode or "auto", "capable": capable}
        self.response = None
        self.errors = gateway.directory / f"client-{uuid.uuid4().hex}.log"
        self.errors.touch()
        self.start()

    def run(self):
        command = [SUITES / self.sdk / "bin/python", HERE / "mcp_client.py"]
        with self.errors.open("wb") as errors:
            self.ran = subprocess.run(
                command, input=json.dumps(self.job).encode(), stdout=subprocess.PIPE, stderr=errors, timeout=90, check=False
            )

    def hears(self, what):
        """Waits until it hears of this as progress."""
        until(lambda: what in self.errors.read_text(), lambda: self.errors.read_text() or self.done())

    def done(self):
        self.join(100)
        assert self.ran.returncode == 0, self.errors.read_text()[-3000:]
        self.response = json.loads(self.ran.stdout)
        return self.response["done"]


def until(look, otherwise, seconds=30):
    """Looks until there is something, or says why there should be."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, otherwise()
        time.sleep(0.02)
    return found


def pending(gateway):
    return gateway.api("ann", "/approval-requests")[1]["approval_requests"]


def wait_for_request(gateway, what, but=()):
    """Waits for the pending approval request that names `what`."""
    look = lambda: [approval_request for approval_request in pending(gateway) if what in json.dumps(approval_request) and approval_request["id"] not in but]
    return until(look, lambda: f"no approval request names {what}: {pending(gateway)}")[0]["id"]


def wait_for_second_attempt(gateway, approval_request, client):
    """Waits until the call came a second time."""
    until(lambda: gateway.api("ann", f"/approval-requests/{approval_request}")[1]["attempts"] > 1, lambda: client.done())


def arrived(gateway, server, what):
    """The calls about `what` that reached the server."""
    found = [json.loads(arrival["body"] or "{}") for arrival in gateway.arrivals(server) if what in arrival["body"]]
    return [message["params"] for message in found if message.get("method") in ("tools/call", "resources/read")]


@pytest.mark.parametrize("peer", MODERN + LEGACY)
def test_a_call_is_held_until_it_is_approved_and_passes_once(gateway, peer, path):
    call = ["call", "delete_file", {"path": path}]
    client = Client(gateway, peer, call, call)
    approval_request = wait_for_request(gateway, path)
    assert not arrived(gateway, peer[1], path) and client.is_alive()
    gateway.vote("ann", approval_request)
    another = wait_for_request(gateway, path, but=[approval_request])
    gateway.vote("ann", another, "deny", reason="once is enough")
    deleted, denied = client.done()
    assert text(deleted) == f"{path} is gone"
    assert denied["code"] == 403 and "denied by dev/ann: once is enough" in denied["message"] and EXCHANGE.search(denied["message"])
    assert len(arrived(gateway, peer[1], path)) == 1


@pytest.mark.parametrize("peer", [MODERN[0], LEGACY[1]])
def test_an_approval_that_comes_late_is_for_this_call_and_once(gateway, peer, path):
    call = lambda why: Client(gateway, peer, ["call", "fail", {"why": why}]).done()[0]
    refused = call(path)
    approval_request = wait_for_request(gateway, path)
    page = f"{gateway.console_url}/approvals/{approval_request}"
    assert refused["code"] == 403 and f"the approval is pending: approval request {approval_request} ({page})" in refused["message"], refused
    gateway.vote("ann", approval_request)
    other = call(f"{path}/more")
    assert approval_request not in other["message"] and "the approval is pending" in other["message"], "approved one, ran another"
    assert not arrived(gateway, peer[1], path)
    assert call(path)["isError"], "the tool itself fails, so it was called"
    again = call(path)
    assert "the approval is pending" in again["message"] and approval_request not in again["message"], "it passed twice"
    assert len(arrived(gateway, peer[1], path)) == 1


@pytest.mark.parametrize("peer", MODERN)
def test_a_client_of_2026_07_28_sends_its_person_to_the_page_and_waits(gateway, peer, path):
    client = Client(gateway, peer, ["progress", "delete_file", {"path": path}], capable=True)
    approval_request = wait_for_request(gateway, path)
    page = f"{gateway.console_url}/approvals/{approval_request}"
    client.hears(page)
    assert not arrived(gateway, peer[1], path)
    gateway.vote("ann", approval_request)
    [deleted] = client.done()
    assert text(deleted["response"]) == f"{path} is gone"
    assert client.response["opened"] == [page], "sent there once, not in rounds"
    [question] = client.response["questions"]
    assert f"{peer[1]}:tools/call delete_file waits for the approval of one person of `oncall`" in question and path not in question
    assert [message for _, _, message, _ in deleted["progress"]] == [f"waiting for approval: approval request {approval_request}, {page}"]
    [call] = arrived(gateway, peer[1], path)
    assert "requestState" not in call and "inputResponses" not in call


def test_the_clients_response_decides_nothing(gateway, path):
    for response in (True, "decline"):
        client = Client(gateway, MODERN[0], ["call", "delete_file", {"path": path}], capable=response)
        approval_request = wait_for_request(gateway, path)
        wait_for_second_attempt(gateway, approval_request, client)
        assert not arrived(gateway, "files", path), "it was not approved"
        gateway.vote("ann", approval_request, "deny", reason=f"not {response}")
        [denied] = client.done()
        assert denied["code"] == 403 and f"not {response}" in denied["message"]
        path += "x"


def test_a_resource_requires_approval_like_a_call(gateway):
    client = Client(gateway, MODERN[0], ["read", "note://one"], capable=True)
    approval_request = wait_for_request(gateway, "note://one")
    gateway.vote("ann", approval_request)
    [note] = client.done()
    assert note["contents"][0]["text"].startswith("a note with")
    assert client.response["opened"] == [f"{gateway.console_url}/approvals/{approval_request}"]


@pytest.mark.parametrize("peer", [LEGACY[1], LEGACY[2]])
def test_a_client_of_2025_11_25_that_opens_urls_gets_the_page_as_an_error_once(gateway, peer, path):
    call = ["call", "delete_file", {"path": path}]
    client = Client(gateway, peer, call, call, capable=True)
    approval_request = wait_for_request(gateway, path)
    wait_for_second_attempt(gateway, approval_request, client)
    assert not arrived(gateway, peer[1], path)
    gateway.vote("ann", approval_request)
    told, deleted = client.done()
    page = f"{gateway.console_url}/approvals/{approval_request}"
    assert told["code"] == -32042 and page in told["message"]
    [elicitation] = told["data"]["elicitations"]
    assert (elicitation["mode"], elicitation["url"], elicitation["elicitationId"]) == ("url", page, approval_request)
    assert "waits for the approval of one person of `oncall`" in elicitation["message"] and path not in elicitation["message"]
    assert text(deleted) == f"{path} is gone"
    assert len(arrived(gateway, peer[1], path)) == 1


@pytest.mark.parametrize("peer", [MODERN[1], LEGACY[0], LEGACY[2]])
def test_progress_tells_who_waits_and_then_goes_on_with_the_servers_own(gateway, peer):
    client = Client(gateway, peer, ["progress", "count", {"steps": 2}])
    approval_request = wait_for_request(gateway, "tools/call count")
    client.hears(approval_request)
    gateway.vote("ann", approval_request)
    gateway.vote("bob", approval_request)
    [counted] = client.done()
    assert text(counted["response"]) == "counted to 2"
    page = f"{gateway.console_url}/approvals/{approval_request}"
    assert [message for _, _, message, _ in counted["progress"]] == [
        f"waiting for approval: approval request {approval_request}, {page}", f"step 1 with {MASKED}", f"step 2 with {MASKED}"
    ]
    assert [at for at, *_ in counted["progress"]] == sorted(at for at, *_ in counted["progress"])


def test_who_leaves_while_it_hears_of_progress_leaves_the_request_and_nothing_is_called(gateway, path):
    message = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {
            "name": "delete_file", "arguments": {"path": path},
            "_meta": {f"{META}/protocolVersion": "2026-07-28", f"{META}/clientCapabilities": {}, "progressToken": 7},
        },
    }
    where = urllib.parse.urlsplit(gateway.url("files"))
    connection = http.client.HTTPConnection(where.netloc, timeout=30)
    connection.request("POST", where.path, json.dumps(message), {
        "Authorization": f"Bearer {gateway.token('agent')}", "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call",
        "Mcp-Name": "delete_file",
    })
    response = connection.getresponse()
    assert response.headers["content-type"] == "text/event-stream"
    lines = b""
    while b"\n\n" not in lines:
        lines += response.read1()
    assert json.loads(re.search(rb"data: (.*)\n", lines).group(1))["params"]["progressToken"] == 7
    connection.close()
    approval_request = wait_for_request(gateway, path)
    gateway.vote("ann", approval_request)
    assert gateway.api("ann", f"/approval-requests/{approval_request}")[1]["state"] == "approved"
    assert not arrived(gateway, "files", path), "called for a client that left"
    [deleted] = Client(gateway, MODERN[0], ["call", "delete_file", {"path": path}]).done()
    assert text(deleted) == f"{path} is gone", "the approval waits for the same call"
