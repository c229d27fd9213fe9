"""A small MCP server that speaks only 2026-07-28, with JSON in, JSON or events out, and nothing from an SDK.

    mcp_strict.py PORT RECORDING

It holds a request to the letter of the specification: headers that mirror the body, `_meta`, `Accept`, no session, no stray header of the
caller. A request that breaks a rule gets the error of the specification. Every request is appended to RECORDING as one line of JSON.
"""

import base64
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = "2026-07-28"
META = "io.modelcontextprotocol"
KEY = "AKIAIOSFODNN7EXAMPLE"
# what a gateway sends beside MCP's own
HEADERS = {"host", "content-type", "content-length", "accept", "accept-encoding", "mcp-protocol-version", "mcp-method", "mcp-name"}
NAMED = {"tools/call": "name", "resources/read": "uri", "prompts/get": "name"}
TOOLS = [
    {"name": "read_file", "inputSchema": {"type": "object"}, "x-own": {"z": 1, "a": [1.0]}},
    {"name": "delete_file", "inputSchema": {"type": "object"}},
    {"name": "größe", "inputSchema": {"type": "object"}},
    {"name": "confirm", "inputSchema": {"type": "object"}},
]


def decoded(value):
    if value.startswith("=?base64?") and value.endswith("?="):
        return base64.b64decode(value[9:-2], validate=True).decode()
    return value


class Refused(Exception):
    def __init__(self, status, code, message, data=None):
        self.status, self.error = status, {"code": code, "message": message} | ({"data": data} if data else {})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.recording.open("a") as out:
            line = {"method": "POST", "path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()], "body": body.decode()}
            out.write(json.dumps(line) + "\n")
        message = json.loads(body)
        try:
            self.check(message)
            getattr(self, message["method"].replace("/", "_"), self.unknown)(message)
        except Refused as refused:
            response = {"jsonrpc": "2.0", "id": message.get("id"), "error": refused.error}
            self.send(refused.status, "application/json", json.dumps(response).encode())

    def do_GET(self):
        self.send(405, "text/plain", b"")

    do_DELETE = do_GET

    def check(self, message):
        names = [name.lower() for name in self.headers.keys()]
        strays = [name for name in names if name not in HEADERS and not name.startswith("mcp-param-")]
        if strays or len(names) != len(set(names)):
            raise Refused(400, -32600, f"these headers are not for me: {strays or names}")
        if not {"application/json", "text/event-stream"} <= {kind.strip() for kind in self.headers["accept"].split(",")}:
            raise Refused(400, -32600, "Accept lacks a type")
        params = message.get("params", {})
        meta = params.get("_meta", {})
        version = meta.get(f"{META}/protocolVersion")
        if not isinstance(meta.get(f"{META}/clientCapabilities"), dict) or not version:
            raise Refused(400, -32602, "_meta is incomplete")
        if version != VERSION:
            raise Refused(400, -32022, "unsupported version", {"supported": [VERSION], "requested": version})
        named = params.get(NAMED.get(message["method"]))
        for header, wanted in [("mcp-protocol-version", version), ("mcp-method", message["method"]), ("mcp-name", named)]:
            given = self.headers.get(header)
            if (decoded(given) if given is not None else None) != wanted:
                raise Refused(400, -32020, f"{header} is {given!r}, the body has {wanted!r}")

    def send(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def result(self, message, result, **more):
        response = {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete"} | result | more}
        self.send(200, "application/json", json.dumps(response).encode())

    def server_discover(self, message):
        self.result(message, {"supportedVersions": [VERSION], "capabilities": {"tools": {}}}, ttlMs=60_000, cacheScope="public")

    def tools_list(self, message):
        self.result(message, {"tools": TOOLS, "nextCursor": "more"}, ttlMs=60_000, cacheScope="public")

    def tools_call(self, message):
        params = message["params"]
        if params["name"] == "confirm" and "inputResponses" not in params:
            form = {"type": "object", "properties": {"yes": {"type": "boolean"}}}
            asked = {"really": {"method": "elicitation/create", "params": {"message": f"really? {KEY}", "requestedSchema": form}}}
            return self.result(message, {}, resultType="input_required", inputRequests=asked, requestState="state-1")
        if not params.get("arguments", {}).get("slowly"):
            text = json.dumps({"arguments": params.get("arguments"), "state": params.get("requestState"), "key": KEY})
            return self.result(message, {"content": [{"type": "text", "text": text}]})
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        token = params["_meta"].get("progressToken")
        for step in range(3):
            progress = {"progressToken": token, "progress": step + 1, "message": KEY}
            self.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
            time.sleep(0.3)
        result = {"resultType": "complete", "content": [{"type": "text", "text": f"done {KEY}"}]}
        self.event({"jsonrpc": "2.0", "id": message["id"], "result": result})
        self.close_connection = True

    def event(self, message):
        lines = json.dumps(message, indent=1).splitlines()
        self.wfile.write((": alive\r\n" + "".join(f"data: {line}\r\n" for line in lines) + "\r\n").encode())
        self.wfile.flush()

    def unknown(self, message):
        raise Refused(404, -32601, "no such method")

    def log_message(self, *_):
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.recording = Path(sys.argv[2])
    server.serve_forever()


if __name__ == "__main__":
    main()
