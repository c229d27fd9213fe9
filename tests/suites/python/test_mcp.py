"""The MCP front end before real servers, with real clients: those of the official Python SDK, version 2 (2026-07-28 and before) and version 1
(2025-11-25 and before), unmodified; and a strict server of our own that speaks 2026-07-28 to the letter."""

import json
import re
import subprocess
import urllib.error
import urllib.request

import pytest
from mcp_test_gateway import HERE, SUITES, McpTestGateway

# a test gateway of its own, without an emulator: once is enough
pytestmark = [pytest.mark.gateway, pytest.mark.moto]

KEY = "AKIAIOSFODNN7EXAMPLE"
MASKED = "[masked: aws-key]"
EXCHANGE = re.compile(r"\[exchange [0-9a-f]{32}\]$")
# SDK of the client, server, version 2's mode: every era and framing that a released SDK speaks
PAIRS = [
    ("mcp", "files", "auto"), ("mcp", "events", "auto"), ("mcp", "events", "legacy"), ("mcp", "files", "2026-07-28"),
    ("mcp", "old-events", "auto"), ("mcp1", "old", None), ("mcp1", "old-events", None), ("mcp1", "events", None),
]


@pytest.fixture(scope="module")
def gateway():
    with McpTestGateway() as gateway:
        yield gateway


@pytest.fixture
def client(gateway):
    """`client("mcp", "files", ["tools"], ...)`: what the SDK gave an application for each step."""

    def run(sdk, server, *steps, caller="agent", mode=None, capable=False):
        job = {"url": gateway.url(server), "token": gateway.token(caller), "steps": steps, "mode": mode or "auto", "capable": capable}
        command = [SUITES / sdk / "bin/python", HERE / "mcp_client.py"]
        ran = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, timeout=90, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        response = json.loads(ran.stdout)
        run.questions = response["questions"]
        return response["done"]

    return run


def text(result):
    return result["content"][0]["text"]


@pytest.mark.parametrize(("sdk", "server", "mode"), PAIRS)
def test_an_unmodified_client_lists_calls_and_is_refused(client, gateway, sdk, server, mode):
    before = len(gateway.arrivals(server))
    tools, read, outside, forbidden, failed, resource = client(
        sdk, server,
        ["tools"],
        ["call", "read_file", {"path": "/srv/a"}],
        ["call", "read_file", {"path": "/etc/passwd"}],
        ["call", "delete_file", {"path": "/srv/a"}],
        ["call", "fail", {"why": "x"}],
        ["read", "note://one"],
        mode=mode,
    )
    assert tools == ["ask", "count", "fail", "read_file"]
    assert text(read) == f"/srv/a holds the key {MASKED}"
    assert failed["isError"] and KEY not in text(failed)
    for refused, policy in [(outside, "`only-srv`"), (forbidden, "`no-deletes`"), (resource, "no policy permits resources/read")]:
        assert refused["error"] in ("MCPError", "McpError") and refused["code"] == 403
        assert policy in refused["message"] and EXCHANGE.search(refused["message"]), refused
    arrived = [json.loads(arrival["body"] or "{}") for arrival in gateway.arrivals(server)[before:]]
    assert not [message for message in arrived if "delete_file" in str(message) or "passwd" in str(message) or "note:" in str(message)]


@pytest.mark.parametrize(("sdk", "server", "mode"), [pair for pair in PAIRS if "events" in pair[1]])
def test_progress_comes_while_the_tool_runs_and_is_masked(client, sdk, server, mode):
    [counted] = client(sdk, server, ["progress", "count", {"steps": 3}], mode=mode)
    assert text(counted["response"]) == "counted to 3"
    assert [message for _, _, message, _ in counted["progress"]] == [f"step {step} with {MASKED}" for step in (1, 2, 3)]
    first, last = counted["progress"][0][3], counted["after"]
    assert last - first > 0.4, "progress was held back until the result"


def test_who_may_do_more_sees_more(client):
    for sdk, server in [("mcp", "files"), ("mcp1", "old-events")]:
        tools, deleted, note, read = client(
            sdk, server, ["tools"], ["call", "delete_file", {"path": "x"}], ["read", "note://one"],
            ["call", "read_file", {"path": "/srv/a"}], caller="sre",
        )
        assert "delete_file" in tools and text(deleted) == "x is gone"
        assert note["contents"][0]["text"] == f"a note with {KEY}"
        assert text(read).endswith(KEY), "the sre group may reveal"


@pytest.mark.parametrize("sdk", ["mcp", "mcp1"])
def test_who_may_not_connect_learns_nothing_of_the_server(client, gateway, sdk):
    before = len(gateway.arrivals("files"))
    for server, caller in [("files", "nobody"), ("closed", "agent"), ("no-such-server", "agent")]:
        refused = client(sdk, server, ["tools"], caller=caller)[-1]
        assert refused["code"] == 403 and "may not use this MCP server, or it does not exist" in refused["message"], refused
    assert len(gateway.arrivals("files")) == before


def test_a_client_without_a_good_token_is_told_where_to_get_one(gateway):
    request = urllib.request.Request(gateway.url("files"), data=b"{}", headers={"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 401
    [metadata] = re.findall(r'resource_metadata="([^"]+)"', refused.value.headers["WWW-Authenticate"])
    with urllib.request.urlopen(metadata, timeout=10) as response:
        told = json.load(response)
    assert told["resource"] == gateway.url("files") and told["authorization_servers"] == [gateway.issuer_url]


def test_a_server_request_to_the_client_ends_the_call_in_legacy_revisions(client):
    for sdk, server, mode in [("mcp", "events", "legacy"), ("mcp1", "old-events", None)]:
        asked, after = client(sdk, server, ["call", "ask", {}], ["call", "read_file", {"path": "/srv/a"}], mode=mode, capable=True)
        assert client.questions == []
        assert "elicitation/create" in asked["message"] and EXCHANGE.search(asked["message"])
        assert text(after).endswith(MASKED), "the session goes on"


def test_a_strict_server_of_2026_07_28_accepts_what_the_gateway_sends(client, gateway):
    tools, read, forbidden, coded, asked, counted = client(
        "mcp", "strict",
        ["tools"],
        ["call", "read_file", {"path": "/srv/a"}],
        ["call", "delete_file", {}],
        ["call", "größe", {"x": "ü"}],
        ["call", "confirm", {}],
        ["progress", "count", {"slowly": True}],
        capable=True,
    )
    assert tools == ["confirm", "größe", "read_file"]
    assert json.loads(text(read)) == {"arguments": {"path": "/srv/a"}, "state": None, "key": MASKED}
    assert forbidden["code"] == 403
    assert json.loads(text(coded))["arguments"] == {"x": "ü"}
    assert client.questions == [f"really? {MASKED}"], "a question in a server's result passes, masked"
    assert json.loads(text(asked))["state"] == "state-1"
    assert len(counted["progress"]) == 3 and counted["after"] - counted["progress"][0][3] > 0.5
    assert text(counted["response"]) == f"done {MASKED}"


def test_nothing_of_the_caller_reaches_a_server(gateway, client):
    for server in gateway.upstreams:
        client("mcp1" if server.startswith("old") else "mcp", server, ["tools"], ["call", "read_file", {"path": "/srv/a"}])
        arrivals = gateway.arrivals(server)
        assert arrivals
        for arrival in arrivals:
            heads = json.dumps(arrival["headers"])
            names = {name for name, _ in arrival["headers"]}
            assert not names & {"authorization", "cookie", "x-own", "user-agent", "origin", "forwarded"}, names
            assert "canary" not in heads and not any(gateway.token(caller) in heads for caller in ("agent", "sre", "nobody"))


def post(gateway, server, message, session=None):
    headers = {
        "Authorization": f"Bearer {gateway.token('agent')}", "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    if session:
        headers["Mcp-Session-Id"] = session
    request = urllib.request.Request(gateway.url(server), data=json.dumps(message).encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_a_session_outlives_the_gateway_process(gateway):
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    status, headers, _ = post(gateway, "old", {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    session = headers["Mcp-Session-Id"]
    assert status == 200 and session
    status, _, _ = post(gateway, "old", {"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
    assert status == 202
    gateway.restart_gateway()
    status, _, body = post(gateway, "old", {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, session)
    assert status == 200 and "delete_file" not in body, "any gateway with the same keys knows the session"
    [upstream] = {
        value for arrival in gateway.arrivals("old") for name, value in arrival["headers"] if name == "mcp-session-id"
        and '"tools/list"' in arrival["body"] and json.loads(arrival["body"])["id"] == 2
    }
    assert upstream not in session and upstream not in str(headers)
    status, _, body = post(gateway, "old", {"jsonrpc": "2.0", "id": 3, "method": "tools/list"}, upstream)
    assert status == 404 and json.loads(body)["error"]["code"] == 404


def test_the_documented_client_works(gateway):
    page = (HERE.parent.parent / "docs" / "mcp.md").read_text()
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    where = {"URL": gateway.url("files"), "TOKEN": gateway.token("agent")}
    ran = subprocess.run(
        [SUITES / "mcp/bin/python", "-c", program], env=where, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"['read_file', 'fail', 'count', 'ask']\n/srv/shared/a holds the key {MASKED}\n"


def test_everything_is_recorded_and_no_secret_is(gateway, client):
    client("mcp1", "old", ["call", "read_file", {"path": f"/srv/{KEY}"}], ["call", "delete_file", {"path": "x"}])
    durward = lambda *words: subprocess.run(
        [gateway.binary, *words, "--dir", gateway.journal], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert durward("journal", "verify")
    sessions = json.loads(durward("sessions", "ls", "--json"))["sessions"]
    assert sessions[-1]["connection"] == "old" and sessions[-1]["caller"]["subject"] == "agent"
    story = durward("sessions", "show", sessions[-1]["session"])
    for line in ["old:initialize", "old:notifications/initialized", "old:tools/call read_file old/read_file  200", "masked 4",
                 f"{'denied':<17}  old:tools/call delete_file", "policy no-deletes", "old:end of session"]:
        assert line in story, story
    kept = b"".join(path.read_bytes() for path in gateway.journal.iterdir()) + gateway.gateway_process.log.read_bytes()
    for secret in [KEY, "cookie-canary", *(gateway.token(caller) for caller in ("agent", "sre", "nobody"))]:
        assert secret.encode() not in kept
