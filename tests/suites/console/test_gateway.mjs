// What the browser suites share: free ports, waiting for something, a certified OpenID provider, a gateway, people in a browser.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";

import { Provider } from "oidc-provider";
import { chromium } from "playwright-core";

export const HERE = dirname(fileURLToPath(import.meta.url));
export const CLONE = resolve(HERE, "../../..");
export const BINARY = process.env.DURWARD_BIN ?? join(CLONE, "target/debug/durward");

export const freePort = () =>
  new Promise((found) => {
    const socket = createSocket().listen(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => found(port));
    });
  });

export const until = async (what, check, seconds = 20) => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    const value = await check();
    if (value) return value;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`${what} did not come about within ${seconds} s`);
};

export const listen = (server, port) => new Promise((done) => server.listen(port, "127.0.0.1", done));

export const launch = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

// A provider where the clients of `groups` sign in with their own name as password, and people by their name alone.
export const startProvider = async (port, groups, clients) => {
  const issuer = `http://127.0.0.1:${port}`;
  const agents = clients.filter((client) => client.grant_types?.includes("client_credentials"));
  const provider = new Provider(issuer, {
    clients,
    pkce: { required: () => true },
    claims: { openid: ["sub"], profile: ["name"], groups: ["groups"] },
    scopes: ["openid", "profile", "groups"],
    conformIdTokenClaims: false,
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, name: id, groups: groups[id] ?? [] }) }),
    extraTokenClaims: (_context, token) => ({ groups: groups[token.clientId] ?? [] }),
    cookies: { keys: [randomBytes(16).toString("hex")] },
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_context, client) =>
          agents.some((agent) => agent.client_id === client.clientId) ? "urn:durward" : undefined,
        getResourceServerInfo: () => ({ scope: "", audience: "durward", accessTokenTTL: 3600, accessTokenFormat: "jwt" }),
      },
    },
  });
  const server = createServer(provider.callback());
  await listen(server, port);
  return { issuer, stop: () => server.close() };
};

export const agentClient = (name) => ({
  client_id: name,
  client_secret: name,
  grant_types: ["client_credentials"],
  response_types: [],
  redirect_uris: [],
});

// An agent's access token for the front ends.
export const agentToken = async (issuer, name) => {
  const form = new URLSearchParams({ grant_type: "client_credentials", client_id: name, client_secret: name });
  const minted = await (await fetch(`${issuer}/token`, { method: "POST", body: form })).json();
  assert.ok(minted.access_token, JSON.stringify(minted));
  return minted.access_token;
};

// A directory with what a gateway of the agent `agent-7` needs: a provider that runs, the agent's token, policies, the configuration.
// Its AWS is whatever listens on the port `aws`.
export const prepareGateway = async (name, { groups, policies, approval = "", redirects = [] }) => {
  const dir = mkdtempSync(join(tmpdir(), `durward-${name}-`));
  const [idp, aws, awsPort, consolePort] = await Promise.all([...Array(4)].map(freePort));
  const url = `http://127.0.0.1:${consolePort}`;
  const provider = await startProvider(idp, groups, [
    {
      client_id: "durward-console",
      token_endpoint_auth_method: "none",
      application_type: "native",
      redirect_uris: [`${url}/signin/callback`, ...redirects],
    },
    agentClient("agent-7"),
  ]);
  writeFileSync(join(dir, "agent.jwt"), await agentToken(provider.issuer, "agent-7"));
  mkdirSync(join(dir, "policies"));
  writeFileSync(join(dir, "policies/approvals.cedar"), policies, { mode: 0o600 });
  writeFileSync(
    join(dir, "durward.toml"),
    `data_dir = "data"
[listen]
aws = "127.0.0.1:${awsPort}"
console = "127.0.0.1:${consolePort}"
[policy]
dir = "policies"
[console]
allowed_groups = ${JSON.stringify([...new Set(Object.values(groups).flat())])}
[approval]
${approval}
[[identity.oidc]]
name = "corp"
issuer = "${provider.issuer}"
audience = ["durward"]
console_client_id = "durward-console"
console_scopes = ["profile", "groups"]
[aws]
emulator_url = "http://127.0.0.1:${aws}"
[[aws.connection]]
name = "prod"
role_arn = "arn:aws:iam::123456789012:role/agents"
`,
  );
  // The settings of any program with an AWS SDK, and no more.
  const agent = {
    AWS_ENDPOINT_URL: `http://127.0.0.1:${awsPort}`,
    AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/agents",
    AWS_WEB_IDENTITY_TOKEN_FILE: join(dir, "agent.jwt"),
    AWS_REGION: "us-east-1",
  };
  const clear = () => {
    provider.stop();
    rmSync(dir, { recursive: true, force: true });
  };
  return { dir, url, aws, issuer: provider.issuer, agent, clear };
};

// Answers STS, and S3's deletes with success; remembers the deletes.
export const fakeAws = (reached) =>
  createServer((request, response) => {
    request.resume().on("end", () => {
      if (request.method === "POST") {
        const expires = new Date(Date.now() + 900_000).toISOString();
        response.writeHead(200, { "content-type": "text/xml" });
        response.end(
          `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials><AccessKeyId>ASIAEXAMPLEEXAMPLE00</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>${expires}</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/agents/x</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>`,
        );
        return;
      }
      reached.push(`${request.method} ${request.url}`);
      response.writeHead(204).end();
    });
  });

// A gateway with the configuration in `dir`, once its console answers.
export const startGateway = async (dir, url, identity = { AWS_ACCESS_KEY_ID: "AKIAEXAMPLE", AWS_SECRET_ACCESS_KEY: "secret" }) => {
  const environment = Object.entries(process.env).filter(([name]) => !name.startsWith("AWS_"));
  const gateway = spawn(BINARY, ["serve", "--config", join(dir, "durward.toml")], {
    env: { ...Object.fromEntries(environment), ...identity, HOME: dir, AWS_EC2_METADATA_DISABLED: "true" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  gateway.log = "";
  gateway.stderr.on("data", (data) => (gateway.log += data));
  await until("the gateway's start", async () => {
    if (gateway.exitCode !== null) throw new Error(`the gateway ended: ${gateway.log}`);
    return fetch(`${url}/api/v1/sign-in`).then((answer) => answer.ok, () => false);
  });
  return gateway;
};

export const stopProcess = (child, signal = "SIGTERM") =>
  new Promise((done) => {
    if (child.exitCode !== null || child.signalCode !== null) return done();
    child.once("exit", done);
    child.kill(signal);
  });

export const signInAtProvider = async (page, issuer, name) => {
  await page.fill('input[name="login"]', name);
  await page.fill('input[name="password"]', "any");
  await page.click('button[type="submit"]');
  // The provider asks for consent once.
  if (page.url().startsWith(issuer)) await page.click('button[type="submit"]');
};

// A person who is signed in to the console, with a browser of their own.
export const signedIn = async (browser, url, issuer, name, options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(`${name}: ${error}`));
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) assert.fail(`${name}: ${message.text()}`);
  });
  await page.goto(url);
  await page.click("text=Sign in with corp");
  await signInAtProvider(page, issuer, name);
  await page.waitForURL(`${url}/`);
  return page;
};
