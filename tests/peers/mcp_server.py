"""An MCP server of the official Python SDK, version 1 (FastMCP) or 2 (MCPServer): whichever is installed where this runs.

    mcp_server.py PORT json|events RECORDING

Every request that arrives is appended to RECORDING as one line of JSON: method, headers, body.
"""

import asyncio
import json
import sys
from pathlib import Path

import uvicorn
from pydantic import BaseModel

try:
    from mcp.server.mcpserver import Context, MCPServer

    server = MCPServer("suite")
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP

    server = FastMCP("suite")

# no one's key: the example of the AWS documentation
KEY = "AKIAIOSFODNN7EXAMPLE"


class Answer(BaseModel):
    yes: bool


@server.tool()
def read_file(path: str) -> str:
    """Reads a file."""
    return f"{path} holds the key {KEY}"


@server.tool()
def delete_file(path: str) -> str:
    """Deletes a file."""
    return f"{path} is gone"


@server.tool()
def fail(why: str) -> str:
    """Fails."""
    raise ValueError(f"{why} {KEY}")


@server.tool()
async def count(steps: int, ctx: Context) -> str:
    """Counts, and tells how far it is."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps, f"step {step + 1} with {KEY}")
        await asyncio.sleep(0.2)
    return f"counted to {steps}"


@server.tool()
async def ask(ctx: Context) -> str:
    """Asks the person at the client."""
    response = await ctx.elicit("really?", Answer)
    return str(response)


@server.resource("note://one")
def note() -> str:
    return f"a note with {KEY}"


def recorded(app, recording):
    """Keeps what arrives, as it arrives."""

    async def wrapper(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        line = {
            "method": scope["method"],
            "path": scope["path"],
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "body": body.decode("utf-8", "replace"),
        }
        with recording.open("a") as out:
            out.write(json.dumps(line) + "\n")
        whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def again():
            return whole.pop() if whole else await receive()

        await app(scope, again, send)

    return wrapper


def main():
    port, mode, recording = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    if hasattr(server, "settings") and hasattr(server.settings, "json_response"):
        server.settings.json_response = mode == "json"
        app = server.streamable_http_app()
    else:
        app = server.streamable_http_app(json_response=mode == "json")
    uvicorn.run(recorded(app, recording), host="127.0.0.1", port=port, log_level="info")


if __name__ == "__main__":
    main()
