// `durward login` and `durward logout` with a certified OpenID provider and a real browser: the browser that comes back to the terminal, the
// device that is somewhere else, and what must not sign anybody in.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Provider } from "oidc-provider";

import { BINARY, signInAtProvider, freePort, launch, listen, startGateway, stopProcess, until } from "./test_gateway.mjs";

const LIMIT = { timeout: 60_000 };
const SHOTS = process.env.DURWARD_SCREENSHOTS;
const GROUPS = { alice: ["oncall"], bob: ["staff"] };

let dir, idpServer, browser, issuer, consoles;
const gateways = [];
// Seconds that a device code lives, and an ID token.
const lives = { code: 600, token: 3600 };

// A gateway of its own for each way to be configured.
const open = async (name, identity) => {
  const [awsPort, port] = await Promise.all([freePort(), freePort()]);
  const place = join(dir, name);
  mkdirSync(join(place, "policies"), { recursive: true });
  writeFileSync(join(place, "policies/all.cedar"), `@id("all")\npermit (principal, action, resource);\n`);
  const url = `http://127.0.0.1:${port}`;
  writeFileSync(
    join(place, "durward.toml"),
    `data_dir = "data"
[listen]
aws = "127.0.0.1:${awsPort}"
console = "127.0.0.1:${port}"
[policy]
dir = "policies"
${identity}
[[aws.connection]]
name = "prod"
role_arn = "arn:aws:iam::123456789012:role/agents"
`,
  );
  gateways.push(await startGateway(place, url));
  return url;
};

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "durward-login-"));
  const idp = await freePort();
  issuer = `http://127.0.0.1:${idp}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "durward-cli",
        token_endpoint_auth_method: "none",
        application_type: "native",
        redirect_uris: ["http://127.0.0.1/callback"],
        grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
      },
    ],
    pkce: { required: () => true },
    claims: { openid: ["sub"], profile: ["name"], groups: ["groups"] },
    scopes: ["openid", "profile", "groups", "offline_access"],
    conformIdTokenClaims: false,
    rotateRefreshToken: true,
    ttl: { DeviceCode: () => lives.code, IdToken: () => lives.token },
    findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id, name: id, groups: GROUPS[id] ?? [] }) }),
    cookies: { keys: [randomBytes(16).toString("hex")] },
    features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true }, revocation: { enabled: true } },
  });
  idpServer = createServer(provider.callback());
  await listen(idpServer, idp);
  const corp = `[[identity.oidc]]\nname = "corp"\nissuer = "${issuer}"\naudience = ["durward"]\n`;
  const cli = `${corp}cli_client_id = "durward-cli"\ncli_scopes = ["profile", "groups", "offline_access"]\n`;
  const partner = `[[identity.oidc]]\nname = "partner"\nissuer = "http://127.0.0.1:9"\naudience = ["x"]\ncli_client_id = "y"\n`;
  const everyone = `[console]\nallowed_groups = ["oncall", "staff"]\n`;
  consoles = {
    one: await open("one", cli + everyone),
    several: await open("several", cli + partner + everyone),
    oncall: await open("oncall", `${cli}[console]\nallowed_groups = ["oncall"]\n`),
    none: await open("none", `${corp}console_audience = ["people"]\n`),
  };
  browser = await launch();
});

after(async () => {
  await browser?.close();
  for (const gateway of gateways) await stopProcess(gateway);
  idpServer?.closeAllConnections();
  idpServer?.close();
  if (dir) rmSync(dir, { recursive: true, force: true });
});

// A shell with a state directory of its own, and no display.
const shell = (url) => {
  const state = mkdtempSync(join(dir, "state-"));
  const env = { ...process.env, XDG_STATE_HOME: state, DURWARD_CONSOLE_URL: url };
  for (const name of ["DISPLAY", "WAYLAND_DISPLAY", "DURWARD_TOKEN_FILE", "SSH_TTY", "SSH_CONNECTION"]) delete env[name];
  // Not spawnSync: the provider lives in this process and must go on answering.
  const run = (...words) =>
    new Promise((done) => {
      const child = spawn(BINARY, words, { env, stdio: ["ignore", "pipe", "pipe"] });
      const seen = { out: "", err: "" };
      child.stdout.on("data", (data) => (seen.out += data));
      child.stderr.on("data", (data) => (seen.err += data));
      child.once("close", (code) => done({ code, ...seen }));
    });
  const login = (...words) => {
    const child = spawn(BINARY, ["login", ...words], { env, stdio: ["ignore", "pipe", "pipe"] });
    const seen = { out: "", err: "" };
    child.stdout.on("data", (data) => (seen.out += data));
    child.stderr.on("data", (data) => (seen.err += data));
    const ended = new Promise((done) => child.once("close", (code) => done({ code, ...seen })));
    const address = (pattern) =>
      until("the address", () => {
        if (child.exitCode !== null) throw new Error(`login ended: ${seen.out}${seen.err}`);
        return seen.out.match(pattern)?.[0];
      });
    return { seen, ended, address };
  };
  const place = join(state, "durward/login");
  const file = () => join(place, readdirSync(place).find((name) => name.endsWith(".json")));
  const kept = () => JSON.parse(readFileSync(file(), "utf8"));
  return { run, login, place, file, kept };
};

const PAGE = /http:\S+\/auth\?\S+(?=\n)/;
const DEVICE = /http:\S+\/device\?user_code=\S+(?=\n)/;

const fresh = async (address) => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(address);
  return page;
};

test("a browser comes back to the terminal, and the commands then need no token file", LIMIT, async () => {
  const alice = shell(consoles.one);
  const before = await alice.run("approvals", "ls");
  assert.equal(before.code, 1);
  assert.match(before.err, /not signed in to http.*run `durward login/s);
  const login = alice.login("--browser");
  const address = await login.address(PAGE);
  const back = new URL(address).searchParams.get("redirect_uri");
  const page = await fresh(address);
  // Any page can send the browser there: without the state it changes nothing, and the waiting goes on.
  for (const forged of ["?code=x&state=guessed", "?code=x", "?error=access_denied", "?state=a&state=b&code=x"]) {
    assert.equal((await fetch(back + forged)).status, 400, forged);
  }
  assert.equal((await fetch(back.replace("/callback", "/"))).status, 404);
  await signInAtProvider(page, issuer, "alice");
  await page.waitForSelector("text=You may close this page");
  if (SHOTS) await page.screenshot({ path: join(SHOTS, "login-done.png") });
  const done = await login.ended;
  assert.equal(done.code, 0, done.err);
  assert.match(done.out, /signed in to http\S+ as corp\/alice \(groups: oncall\)/);
  assert.match(done.err, /a callback with a foreign state was rejected/);
  const kept = alice.kept();
  assert.ok(kept.refresh_token, "offline_access was requested and granted");
  assert.ok(!`${done.out}${done.err}`.includes(kept.id_token) && !done.out.includes(kept.refresh_token));
  assert.equal(statSync(alice.file()).mode & 0o777, 0o600);
  assert.equal(statSync(alice.place).mode & 0o777, 0o700);
  const listed = await alice.run("approvals", "ls", "--json");
  assert.equal(listed.code, 0, listed.err);
  assert.deepEqual(JSON.parse(listed.out), { approval_requests: [] });
  // Another console is another sign-in.
  assert.match((await alice.run("approvals", "ls", "--url", consoles.several)).err, /not signed in to/);
  await page.context().close();
});

test("a sign-in is renewed when its token ends, by one command at a time", LIMIT, async () => {
  lives.token = 20;
  const alice = shell(consoles.one);
  const login = alice.login("--browser");
  const page = await fresh(await login.address(PAGE));
  await signInAtProvider(page, issuer, "alice");
  assert.equal((await login.ended).code, 0);
  const first = alice.kept();
  lives.token = 3600;
  // The provider takes a refresh token once: of four commands at once one renews, and all are served.
  const served = await Promise.all([1, 2, 3, 4].map(() => alice.run("approvals", "ls")));
  assert.deepEqual(served.map((one) => one.code), [0, 0, 0, 0], JSON.stringify(served));
  const second = alice.kept();
  assert.notEqual(second.id_token, first.id_token);
  assert.notEqual(second.refresh_token, first.refresh_token);
  const gone = await alice.run("logout");
  assert.equal(gone.code, 0, gone.err);
  assert.match(gone.out, /signed out of http/);
  assert.match((await alice.run("approvals", "ls")).err, /not signed in/);
  assert.match((await alice.run("logout")).out, /you were not signed in/);
  const form = new URLSearchParams({ grant_type: "refresh_token", client_id: "durward-cli", refresh_token: second.refresh_token });
  assert.equal((await fetch(`${issuer}/token`, { method: "POST", body: form })).status, 400, "the provider ended it too");
  await page.context().close();
});

test("without a display the sign-in is by device", LIMIT, async () => {
  const alice = shell(consoles.one);
  const login = alice.login();
  const page = await fresh(await login.address(DEVICE));
  assert.match(login.seen.out, /enter the code\n\n {4}[A-Z]{4}-[A-Z]{4}\n/);
  await page.click('button[type="submit"]');
  await signInAtProvider(page, issuer, "alice");
  const done = await login.ended;
  assert.equal(done.code, 0, done.err);
  assert.match(done.out, /as corp\/alice/);
  assert.ok(alice.kept().refresh_token);
  assert.equal((await alice.run("approvals", "ls")).code, 0);
  await page.context().close();
});

test("a person who refuses at the provider is not signed in", LIMIT, async () => {
  const alice = shell(consoles.one);
  const login = alice.login("--browser");
  const page = await fresh(await login.address(PAGE));
  await page.click("text=Cancel");
  await page.waitForSelector("text=You are not signed in");
  const refused = await login.ended;
  assert.equal(refused.code, 1);
  assert.match(refused.err, /the identity provider refused: End-User aborted/);
  const device = alice.login("--device");
  const other = await fresh(await device.address(DEVICE));
  await other.click('button[name="abort"]');
  const aborted = await device.ended;
  assert.equal(aborted.code, 1);
  assert.match(aborted.err, /refused/);
  assert.match((await alice.run("approvals", "ls")).err, /not signed in/);
  await page.context().close();
  await other.context().close();
});

test("a code that was not used in time signs no person in", LIMIT, async () => {
  lives.code = 1;
  const late = await shell(consoles.one).login("--device").ended;
  lives.code = 600;
  assert.equal(late.code, 1);
  assert.match(late.err, /the code was not used in time/);
});

test("says which provider is meant, and what the operator must do where there is none", LIMIT, async () => {
  const alice = shell(consoles.several);
  assert.match((await alice.run("login")).err, /choose one of corp, partner with --provider/);
  assert.match((await alice.run("login", "--provider", "other")).err, /`other` is not an identity provider/);
  assert.match((await alice.run("login", "--provider", "partner")).err, /partner cannot be used now/);
  const login = alice.login("--provider", "corp", "--browser");
  const page = await fresh(await login.address(PAGE));
  await signInAtProvider(page, issuer, "alice");
  assert.equal((await login.ended).code, 0);
  await page.context().close();
  assert.match((await shell(consoles.none).run("login")).err, /no client for the command line\n.*cli_client_id/);
});

test("whom the console does not let in is not kept as signed in", LIMIT, async () => {
  const bob = shell(consoles.oncall);
  const login = bob.login("--browser");
  const page = await fresh(await login.address(PAGE));
  await signInAtProvider(page, issuer, "bob");
  const refused = await login.ended;
  assert.equal(refused.code, 1);
  assert.match(refused.err, /in no group that may use the console/);
  assert.match((await bob.run("approvals", "ls")).err, /not signed in/);
  await page.context().close();
});

test("a sign-in that others may read is refused", LIMIT, async () => {
  const alice = shell(consoles.one);
  const login = alice.login("--browser");
  const page = await fresh(await login.address(PAGE));
  await signInAtProvider(page, issuer, "alice");
  assert.equal((await login.ended).code, 0);
  chmodSync(alice.file(), 0o644);
  const refused = await alice.run("approvals", "ls");
  assert.equal(refused.code, 1);
  assert.match(refused.err, /other users can read or change it \(mode 644\)/);
  const gone = await alice.run("logout");
  assert.equal(gone.code, 0);
  assert.match(gone.err, /mode 644.*end your sessions at the identity provider/s);
  assert.match((await alice.run("approvals", "ls")).err, /not signed in/);
  await page.context().close();
});
