"""A client of the official Python SDK, version 1 (ClientSession) or 2 (Client): whichever is installed where this runs.

Reads one JSON object from standard input: `url`, `token`, `mode` (version 2: `auto`, `legacy` or a revision), `capable` (the person at the
client accepts elicitations; "decline": declines them), `steps`. Writes one JSON object:
`done`, for each step what the SDK gave the application or how it failed, `questions`, the elicitations, and `opened`, the pages
that the person was sent to.
"""

import asyncio
import json
import sys
import time

job = json.load(sys.stdin)
HEADERS = {"Authorization": f"Bearer {job['token']}", "Cookie": "cookie-canary=1", "X-Own": "own-canary"}

try:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    VERSION = 2
except ImportError:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    VERSION = 1


def shown(value):
    return value.model_dump(mode="json", by_alias=True, exclude_none=True) if hasattr(value, "model_dump") else value


def root(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def failure(error):
    error = root(error)
    cause = getattr(error, "error", None)
    return {
        "error": type(error).__name__,
        "code": getattr(cause, "code", None),
        "message": getattr(cause, "message", None) or str(error),
        "data": shown(getattr(cause, "data", None)),
    }


async def run(session, done):
    for step in job["steps"]:
        kind, arguments = step[0], step[1:]
        try:
            if kind == "tools":
                result = sorted(tool.name for tool in (await session.list_tools()).tools)
            elif kind == "progress":
                seen, began = [], time.monotonic()

                async def progressed(progress, total, message):
                    seen.append([progress, total, message, time.monotonic() - began])
                    # for who looks on
                    print(message, file=sys.stderr, flush=True)

                response = await session.call_tool(*arguments, progress_callback=progressed)
                result = {"progress": seen, "response": shown(response), "after": time.monotonic() - began}
            else:
                call = {"call": "call_tool", "read": "read_resource", "resources": "list_resources"}[kind]
                result = shown(await getattr(session, call)(*arguments))
        except Exception as error:
            result = failure(error)
        done.append(result)


async def elicited(context, params):
    from mcp.types import ElicitResult

    job.setdefault("questions", []).append(params.message)
    if job["capable"] == "decline":
        return ElicitResult(action="decline")
    if params.mode == "url":
        job.setdefault("opened", []).append(params.url)
        return ElicitResult(action="accept")
    return ElicitResult(action="accept", content={"yes": True})


async def main():
    done = []
    capable = {"elicitation_callback": elicited} if job.get("capable") else {}
    try:
        if VERSION == 2:
            async with httpx2.AsyncClient(headers=HEADERS, timeout=30) as http:
                transport = streamable_http_client(job["url"], http_client=http)
                async with Client(transport, mode=job.get("mode", "auto"), **capable) as client:
                    await run(client, done)
        else:
            async with streamablehttp_client(job["url"], headers=HEADERS) as (read, write, _):
                async with ClientSession(read, write, **capable) as session:
                    await session.initialize()
                    await run(session, done)
    except Exception as error:
        done.append(failure(error))
    json.dump({"done": done, "questions": job.get("questions", []), "opened": job.get("opened", [])}, sys.stdout)


asyncio.run(main())
