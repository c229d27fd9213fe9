"""The test gateway of the MCP suites: issuer, MCP servers and a gateway before them, each a process on a free loopback port.

Servers are those of the official Python SDK, version 2 (`files` responds with JSON, `events` with event streams) and version 1 (`old` and
`old-events`), and `strict`, one of our own that speaks only 2026-07-28 and refuses what the specification refuses.

    mcp_test_gateway.py [--approvals]     prints where everything is as one line of JSON, and ends when its standard input does

With `--approvals`, policies require an approval for some calls, and there is a console to vote in.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import issuer
from admin_api import call_admin_api
from test_gateway import CALLERS, HERE, SUITES, Process, clean_environment, free_port, os

POLICIES = HERE / "mcp-policies"
# name: environment of the SDK, and how it responds
SERVERS = {"files": ("mcp", "json"), "events": ("mcp", "events"), "old": ("mcp1", "json"), "old-events": ("mcp1", "events")}


class McpTestGateway:
    """One issuer, the servers, one gateway before them."""

    # Test modules import this class: pytest must not collect it.
    __test__ = False
    callers = CALLERS
    policies = POLICIES
    # more lines for the sections of the configuration
    listening = ""
    provider = ""
    approving = ""

    def __init__(self, servers=tuple(SERVERS), strict=True):
        self.directory = Path(tempfile.mkdtemp(prefix="durward-mcp-"))
        self.processes = []
        self.upstreams = {}
        try:
            self.start_issuer()
            for name in servers:
                self.start_server(name)
            if strict:
                self.start_strict()
            self.start_gateway()
        except BaseException:
            self.close()
            raise

    def start(self, name, command, port, **env):
        process = Process(name, command, self.directory, port, clean_environment(**env))
        self.processes.append(process)
        return process

    def start_issuer(self):
        port = free_port()
        self.issuer_url = f"http://127.0.0.1:{port}"
        self.start("issuer", [sys.executable, HERE / "issuer.py", "serve", self.directory / "issuer", port], port)
        for caller, groups in self.callers.items():
            (self.directory / f"{caller}.jwt").write_text(issuer.mint(self.directory / "issuer", caller, groups))

    def start_server(self, name):
        environment, mode = SERVERS[name]
        port = free_port()
        command = [SUITES / environment / "bin/python", HERE / "mcp_server.py", port, mode, self.recording(name)]
        self.start(name, command, port)
        self.upstreams[name] = f"http://127.0.0.1:{port}/mcp"

    def start_strict(self):
        port = free_port()
        self.start("strict", [sys.executable, HERE / "mcp_strict.py", port, self.recording("strict")], port)
        self.upstreams["strict"] = f"http://127.0.0.1:{port}/mcp"

    def start_gateway(self):
        binary = os.environ.get("DURWARD_BIN")
        if not binary:
            raise RuntimeError("DURWARD_BIN names no gateway; build one and set it")
        port = self.port = getattr(self, "port", None) or free_port()
        self.gateway_url = f"http://127.0.0.1:{port}"
        servers = "".join(f'[[mcp.server]]\nname = "{name}"\nurl = "{url}"\n\n' for name, url in self.upstreams.items())
        # a second name of a server, which no caller may use
        closed = next(iter(self.upstreams.values()))
        config = self.directory / "durward.toml"
        config.write_text(f"""\
data_dir = "{self.directory}/data"

[listen]
mcp = "127.0.0.1:{port}"
mcp_allowed_origins = ["https://app.example.com"]
{self.listening}
[policy]
dir = "{self.policies}"

[[identity.oidc]]
name = "dev"
issuer = "{self.issuer_url}"
audience = ["{issuer.AUDIENCE}"]
{self.provider}
{servers}[[mcp.server]]
name = "closed"
url = "{closed}"
{self.approving}
""")
        self.gateway_process = self.start("gateway", [binary, "serve", "--config", config], port, DURWARD_LOG="debug")
        self.binary = binary

    def restart_gateway(self):
        self.gateway_process.stop()
        self.processes.remove(self.gateway_process)
        self.start_gateway()

    def recording(self, name):
        return self.directory / f"{name}.recording"

    def arrivals(self, name):
        """What reached a server: dictionaries of method, path, headers and body."""
        path = self.recording(name)
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def url(self, server):
        return f"{self.gateway_url}/mcp/{server}"

    def token(self, caller):
        return (self.directory / f"{caller}.jwt").read_text().strip()

    @property
    def journal(self):
        return self.directory / "data" / "journal"

    def close(self):
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        shutil.rmtree(self.directory, ignore_errors=True)


APPROVAL_POLICIES = """
@id("agents-connect")
permit (principal in Group::"agents", action == Action::"connect", resource);
@id("agents-work")
permit (principal in Group::"agents", action, resource) unless { action == Action::"reveal" };
@id("deletes-need-approval")
@approval("oncall") @timeout("1m") @on_timeout("reject")
forbid (principal, action == Mcp::Action::"tools/call", resource) when { context.tool == "delete_file" };
@id("counting-needs-two")
@approval("oncall") @quorum("2") @timeout("1m")
forbid (principal, action == Mcp::Action::"tools/call", resource) when { context.tool == "count" };
@id("notes-need-approval")
@approval("oncall") @timeout("1m")
forbid (principal, action == Mcp::Action::"resources/read", resource);
@id("failing-is-queued")
@approval("oncall") @timeout("2s") @on_timeout("queue")
forbid (principal, action == Mcp::Action::"tools/call", resource) when { context.tool == "fail" };
"""


class ApprovalMcpTestGateway(McpTestGateway):
    """A test gateway whose policies require approvals, with a console to vote in."""

    callers = CALLERS | {"other": ["agents"], "ann": ["oncall"], "bob": ["oncall"]}
    provider = 'console_audience = ["durward-people"]'
    approving = '[approval]\nhold = "20s"'

    def start_gateway(self):
        self.policies = self.directory / "policies"
        self.policies.mkdir(exist_ok=True)
        (self.policies / "approvals.cedar").write_text(APPROVAL_POLICIES)
        self.console_port = getattr(self, "console_port", None) or free_port()
        self.console_url = f"http://127.0.0.1:{self.console_port}"
        self.listening = f'console = "127.0.0.1:{self.console_port}"\n'
        super().start_gateway()

    def person(self, name):
        """The token with which a person uses the admin API."""
        return issuer.mint(self.directory / "issuer", name, self.callers[name], aud="durward-people")

    def api(self, person, path, body=None):
        return call_admin_api(self.console_url, self.person(person), path, body)

    def vote(self, person, approval_request, vote="approve_once", **more):
        status, response = self.api(person, f"/approval-requests/{approval_request}/votes", {"vote": vote} | more)
        assert status == 200, response
        return response


def main():
    with_approvals = "--approvals" in sys.argv[1:]
    with (ApprovalMcpTestGateway if with_approvals else McpTestGateway)(servers=("files", "events")) as gateway:
        where = {
            "url": {name: gateway.url(name) for name in [*gateway.upstreams, "closed"]},
            "token": {caller: gateway.token(caller) for caller in gateway.callers},
        }
        if with_approvals:
            where |= {"console": gateway.console_url, "person": {name: gateway.person(name) for name in ("ann", "bob")}}
        print(json.dumps(where), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
