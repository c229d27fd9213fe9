// The MCP SDKs for TypeScript, unmodified, against servers of the Python SDK through the gateway: version 1 (2025-11-25) and version 2 in its
// default (legacy) mode and in the one that prefers 2026-07-28. The test gateway is `tests/peers/mcp_test_gateway.py`, once for all.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Client as Client2, StreamableHTTPClientTransport as Transport2 } from "@modelcontextprotocol/client";
import { Client as Client1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as Transport1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const HERE = dirname(fileURLToPath(import.meta.url));
const CLONE = resolve(HERE, "../../..");
const SUITES = process.env.DURWARD_SUITES ?? join(CLONE, ".suites");
const KEY = "AKIAIOSFODNN7EXAMPLE";
const MASKED = "[masked: aws-key]";
const INFO = { name: "suite", version: "1" };

// The test gateway has no emulator: once is enough, and without a gateway there is nothing to test.
const skip = process.env.DW_GATEWAY_URL && process.env.DW_KIND === "moto" ? false : "runs once, with the gateway before moto";

let testGateway;
let where;

before(async () => {
  if (skip) return;
  testGateway = spawn(join(SUITES, "client/bin/python"), [join(CLONE, "tests/peers/mcp_test_gateway.py")], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await Promise.race([
    createInterface({ input: testGateway.stdout })[Symbol.asyncIterator]().next().then(({ value }) => [value]),
    new Promise((_, failed) => testGateway.once("exit", (code) => failed(new Error(`the test gateway ended with ${code}`)))),
  ]);
  where = JSON.parse(line);
});

after(async () => {
  if (!testGateway) return;
  const ended = new Promise((done) => testGateway.once("exit", done));
  testGateway.stdin.end();
  await ended;
});

const CLIENTS = {
  "version 1": [Client1, Transport1, {}],
  "version 2": [Client2, Transport2, {}],
  "version 2, auto": [Client2, Transport2, { versionNegotiation: { mode: "auto" } }],
};

async function connected(kind, server, caller, use) {
  const [Client, Transport, options] = CLIENTS[kind];
  const headers = { Authorization: `Bearer ${where.token[caller]}` };
  const client = new Client(INFO, { capabilities: {}, ...options });
  await client.connect(new Transport(new URL(where.url[server]), { requestInit: { headers } }));
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}

const refused = (policy) => (error) => {
  assert.equal(error.code, 403, error.stack);
  assert.match(error.message, policy);
  assert.match(error.message, /\[exchange [0-9a-f]{32}\]$/);
  return true;
};

for (const kind of Object.keys(CLIENTS)) {
  for (const server of ["files", "events"]) {
    describe(`${kind} at ${server}`, { skip }, () => {
      test("lists what may be called, calls it, and gets masked answers", async () => {
        await connected(kind, server, "agent", async (client) => {
          const { tools } = await client.listTools();
          assert.deepEqual(tools.map((tool) => tool.name).sort(), ["ask", "count", "fail", "read_file"]);
          const read = await client.callTool({ name: "read_file", arguments: { path: "/srv/a" } });
          assert.equal(read.content[0].text, `/srv/a holds the key ${MASKED}`);
          const failed = await client.callTool({ name: "fail", arguments: { why: "x" } });
          assert.equal(failed.isError, true);
        });
      });

      test("a refusal is the SDK's own error with the policy in it", async () => {
        await connected(kind, server, "agent", async (client) => {
          await assert.rejects(client.callTool({ name: "delete_file", arguments: { path: "x" } }), refused(/`no-deletes`/));
          await assert.rejects(client.callTool({ name: "read_file", arguments: { path: "/etc/passwd" } }), refused(/`only-srv`/));
        });
      });

      test("who may do more sees more", async () => {
        await connected(kind, server, "sre", async (client) => {
          const { tools } = await client.listTools();
          assert.ok(tools.some((tool) => tool.name === "delete_file"));
          const read = await client.readResource({ uri: "note://one" });
          assert.equal(read.contents[0].text, `a note with ${KEY}`);
        });
      });
    });
  }

  test(`${kind}: progress comes while the tool runs, masked`, { skip }, async () => {
    await connected(kind, "events", "agent", async (client) => {
      const seen = [];
      const onprogress = ({ message }) => seen.push([message, Date.now()]);
      const call = { name: "count", arguments: { steps: 3 } };
      const answer = kind === "version 1"
        ? await client.callTool(call, undefined, { onprogress })
        : await client.callTool(call, { onprogress });
      assert.equal(answer.content[0].text, "counted to 3");
      assert.deepEqual(seen.map(([message]) => message), [1, 2, 3].map((step) => `step ${step} with ${MASKED}`));
      assert.ok(Date.now() - seen[0][1] > 350, "progress was held back until the result");
    });
  });

  test(`${kind}: who may not connect gets no session`, { skip }, async () => {
    for (const [server, caller] of [["files", "nobody"], ["closed", "agent"]]) {
      await assert.rejects(connected(kind, server, caller, () => assert.fail("connected")), refused(/may not use this MCP server/));
    }
  });
}

test("a client without a token is told where to get one", { skip }, async () => {
  const answer = await fetch(where.url.files, { method: "POST", body: "{}", headers: { "content-type": "application/json" } });
  assert.equal(answer.status, 401);
  const [, metadata] = answer.headers.get("www-authenticate").match(/resource_metadata="([^"]+)"/);
  assert.equal((await (await fetch(metadata)).json()).resource, where.url.files);
});
