// Tool calls that require an approval, with the MCP SDKs for TypeScript, unmodified: held with progress, announced in the way of each
// revision, passed once when a person approved. The test gateway is `tests/peers/mcp_test_gateway.py --approvals`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Client as Client2, StreamableHTTPClientTransport as Transport2 } from "@modelcontextprotocol/client";
import { Client as Client1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as Transport1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

const CLONE = resolve(dirname(fileURLToPath(import.meta.url)), "../../..");
const SUITES = process.env.DURWARD_SUITES ?? join(CLONE, ".suites");
const INFO = { name: "suite", version: "1" };

// The test gateway has no emulator: once is enough, and without a gateway there is nothing to test.
const skip = process.env.DW_GATEWAY_URL && process.env.DW_KIND === "moto" ? false : "runs once, with the gateway before moto";

let testGateway;
let where;

before(async () => {
  if (skip) return;
  const command = [join(CLONE, "tests/peers/mcp_test_gateway.py"), "--approvals"];
  testGateway = spawn(join(SUITES, "client/bin/python"), command, { stdio: ["pipe", "pipe", "inherit"] });
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

async function api(path, body) {
  const headers = { Authorization: `Bearer ${where.person.ann}`, "Content-Type": "application/json" };
  const answer = await fetch(`${where.console}/api/v1${path}`, { headers, ...(body && { method: "POST", body: JSON.stringify(body) }) });
  assert.equal(answer.status, 200, path);
  return answer.json();
}

/** Looks until there is something. */
async function until(look) {
  for (const end = Date.now() + 30_000; ; ) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `nothing came: ${look}`);
    await new Promise((again) => setTimeout(again, 20));
  }
}

const waitForRequest = (what) => until(async () => (await api("/approval-requests")).approval_requests.find((approvalRequest) => JSON.stringify(approvalRequest).includes(what)));
const approve = (approvalRequest) => api(`/approval-requests/${approvalRequest.id}/votes`, { vote: "approve_once" });
const page = (approvalRequest) => `${where.console}/approvals/${approvalRequest.id}`;

const CLIENTS = {
  "version 1": [Client1, Transport1, {}],
  "version 2": [Client2, Transport2, {}],
  "version 2, auto": [Client2, Transport2, { versionNegotiation: { mode: "auto" } }],
};

async function connected(kind, opened, use) {
  const [Client, Transport, options] = CLIENTS[kind];
  const headers = { Authorization: `Bearer ${where.token.agent}` };
  const client = new Client(INFO, { capabilities: opened ? { elicitation: { url: {} } } : {}, ...options });
  if (opened) {
    const open = async ({ params }) => {
      opened.push(params.url);
      return { action: "accept" };
    };
    client.setRequestHandler(kind === "version 1" ? ElicitRequestSchema : "elicitation/create", open);
  }
  await client.connect(new Transport(new URL(where.url.events), { requestInit: { headers } }));
  const call = (path, options) => {
    const params = { name: "delete_file", arguments: { path } };
    return kind === "version 1" ? client.callTool(params, undefined, options) : client.callTool(params, options);
  };
  try {
    return await use(call);
  } finally {
    await client.close();
  }
}

for (const kind of Object.keys(CLIENTS)) {
  test(`${kind}: a call is held with progress, passes when it is approved, and once`, { skip }, async () => {
    await connected(kind, undefined, async (call) => {
      const path = `/srv/${randomUUID()}`;
      const heard = [];
      const held = call(path, { onprogress: ({ message }) => heard.push(message), resetTimeoutOnProgress: true });
      const approvalRequest = await waitForRequest(path);
      await until(() => heard.length > 0);
      assert.deepEqual(heard, [`waiting for approval: approval request ${approvalRequest.id}, ${page(approvalRequest)}`]);
      await approve(approvalRequest);
      assert.equal((await held).content[0].text, `${path} is gone`);

      const denied = (error) => error.code === 403 && /denied by dev\/ann: once is enough/.test(error.message);
      const again = assert.rejects(call(path), denied);
      const another = await waitForRequest(path);
      assert.notEqual(another.id, approvalRequest.id);
      await api(`/approval-requests/${another.id}/votes`, { vote: "deny", reason: "once is enough" });
      await again;
    });
  });
}

test("version 2, auto: its person is sent to the page, and the call goes on by itself", { skip }, async () => {
  const opened = [];
  await connected("version 2, auto", opened, async (call) => {
    const path = `/srv/${randomUUID()}`;
    const held = call(path);
    const approvalRequest = await waitForRequest(path);
    await until(() => opened.length > 0);
    await approve(approvalRequest);
    assert.equal((await held).content[0].text, `${path} is gone`);
    assert.deepEqual(opened, [page(approvalRequest)]);
  });
});

for (const kind of ["version 1", "version 2"]) {
  test(`${kind}: a client of 2025-11-25 that opens URLs gets the page in the error for that, and waits with the next call`, { skip }, async () => {
    await connected(kind, [], async (call) => {
      const path = `/srv/${randomUUID()}`;
      const error = await call(path).then(() => assert.fail("it passed"), (failure) => failure);
      const approvalRequest = await waitForRequest(path);
      assert.equal(error.code, -32042, error.stack);
      const elicitations = error.elicitations ?? error.data.elicitations;
      assert.equal(elicitations[0].url, page(approvalRequest));
      assert.equal(elicitations[0].elicitationId, approvalRequest.id);
      const held = call(path);
      await until(async () => (await api(`/approval-requests/${approvalRequest.id}`)).attempts > 1);
      await approve(approvalRequest);
      assert.equal((await held).content[0].text, `${path} is gone`);
    });
  });
}
