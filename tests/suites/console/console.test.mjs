// The console in a real browser (headless Chromium, driven by Playwright), behind a certified OpenID provider, in front of a real gateway:
// an SDK's call is held, answered by people who click, and goes on or does not. Each page is looked at by axe-core, and photographed light and
// dark, wide and narrow, into DURWARD_SCREENSHOTS if that is set.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { DeleteBucketCommand, DeleteObjectCommand, S3Client } from "@aws-sdk/client-s3";

import { accessible, photograph } from "./page_checks.mjs";
import { BINARY, atProvider, fakeAws, freePort, furnish, launch, listen, signedIn, startGateway, stopProcess, until } from "./test_gateway.mjs";

const LIMIT = { timeout: 90_000 };

const GROUPS = { alice: ["oncall"], bob: ["oncall", "fire"], carol: ["finance"], "agent-7": ["agents"] };
const EVIL = "x</code><script>document.title='owned'</script>\u202e";
// In the lists of what waits.
const BUCKET = ".asks >> text=s3:DeleteBucket";
const OBJECT = ".asks >> text=s3:DeleteObject";
const POLICIES = `
@id("all-work")
permit (principal, action, resource);
@id("buckets-need-two")
@reason("a bucket is gone for good")
@approval("oncall") @quorum("2") @timeout("2m") @on_timeout("reject")
forbid (principal, action == Aws::Action::"s3:DeleteBucket", resource);
@id("objects-need-one")
@approval("oncall") @timeout("2m") @on_timeout("reject")
forbid (principal, action == Aws::Action::"s3:DeleteObject", resource);
`;

let furnished, dir, upstream, gateway, browser, url, issuer, catcher;
const reached = [];

before(async () => {
  catcher = `http://127.0.0.1:${await freePort()}/cb`;
  const approval = 'hold = "2m"\nbreak_glass_group = "fire"';
  furnished = await furnish("console", { groups: GROUPS, policies: POLICIES, approval, redirects: [catcher] });
  ({ dir, url, issuer } = furnished);
  upstream = fakeAws(reached);
  await listen(upstream, furnished.aws);
  gateway = await startGateway(dir, url);
  Object.assign(process.env, furnished.agent);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  if (gateway) await stopProcess(gateway);
  upstream?.closeAllConnections();
  upstream?.close();
  furnished?.clear();
});

const s3 = () => new S3Client({ forcePathStyle: true, maxAttempts: 1 });

const person = (name, options) => signedIn(browser, url, issuer, name, options);

// The same flow by hand: what a program that has signed a person in holds.
const idToken = async (name) => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const verifier = randomBytes(32).toString("base64url");
  const challenge = createHash("sha256").update(verifier).digest("base64url");
  await page.route(`${catcher}*`, (route) => route.fulfill({ body: "back" }));
  const query = new URLSearchParams({
    response_type: "code", client_id: "durward-console", redirect_uri: catcher, scope: "openid profile groups",
    state: "s", nonce: "n", code_challenge: challenge, code_challenge_method: "S256",
  });
  await page.goto(`${issuer}/auth?${query}`);
  await atProvider(page, issuer, name);
  await page.waitForURL(`${catcher}*`);
  const code = new URL(page.url()).searchParams.get("code");
  await context.close();
  const form = new URLSearchParams({
    grant_type: "authorization_code", client_id: "durward-console", redirect_uri: catcher, code, code_verifier: verifier,
  });
  const tokens = await (await fetch(`${issuer}/token`, { method: "POST", body: form })).json();
  const file = join(dir, `${name}.jwt`);
  writeFileSync(file, tokens.id_token, { mode: 0o600 });
  return file;
};

const cli = (file, ...words) => {
  const done = spawnSync(BINARY, ["approvals", ...words, "--url", url, "--token-file", file], { encoding: "utf8" });
  return { code: done.status, out: done.stdout, err: done.stderr };
};

test("a held call goes on when two people approve in their browsers", LIMIT, async () => {
  const alice = await person("alice");
  await accessible(alice, "empty queue");
  await photograph(alice, "queue-empty");
  const held = s3().send(new DeleteBucketCommand({ Bucket: "payroll" })).then((value) => ({ value }), (error) => ({ error }));
  // Live: the page was open before the ask was made.
  await alice.waitForSelector(BUCKET, { timeout: 10_000 });
  await photograph(alice, "queue");
  await accessible(alice, "queue");
  await alice.click(BUCKET);
  await alice.waitForURL(/\/asks\//);
  const ask = alice.url();
  await accessible(alice, "ask");
  await photograph(alice, "ask");
  await alice.click("text=Approve once");
  await alice.waitForSelector("text=Your approval is recorded.");
  assert.equal(await alice.locator("text=Approve once").count(), 0, "she cannot approve twice");
  assert.deepEqual(reached, [], "one of two is not enough");
  const bob = await person("bob");
  await bob.goto(ask);
  await bob.click("text=Approve once");
  const { value, error } = await held;
  assert.equal(error, undefined, String(error));
  assert.equal(value.$metadata.httpStatusCode, 204);
  assert.deepEqual(reached.splice(0), ["DELETE /payroll/"]);
  // Her page knows without a reload.
  await alice.waitForSelector(".state-used", { timeout: 10_000 });
  await alice.context().close();
  await bob.context().close();
});

test("a denial's reason reaches the caller", LIMIT, async () => {
  const alice = await person("alice");
  const held = s3().send(new DeleteBucketCommand({ Bucket: "ledger" })).then(() => undefined, (error) => error);
  await alice.click(BUCKET);
  await alice.waitForURL(/\/asks\//);
  await alice.fill("#reason", "not on a Friday");
  await alice.click("button.deny");
  await alice.waitForSelector("text=Your denial is recorded.");
  const error = await held;
  assert.equal(error.name, "AccessDenied");
  assert.match(error.message, /not on a Friday/);
  assert.deepEqual(reached, []);
  await photograph(alice, "ask-denied");
  await accessible(alice, "denied ask");
  await alice.context().close();
});

test("what the caller wrote runs nowhere", LIMIT, async () => {
  const alice = await person("alice");
  const held = s3().send(new DeleteObjectCommand({ Bucket: "payroll", Key: EVIL })).catch((error) => error);
  await alice.waitForSelector(OBJECT, { timeout: 10_000 });
  assert.notEqual(await alice.title(), "owned");
  await alice.click(OBJECT);
  await alice.waitForURL(/\/asks\//);
  const text = await alice.innerText("main");
  assert.ok(text.includes("<script>document.title='owned'</script>"), text);
  assert.ok(text.includes("\\u{202e}") && !text.includes("\u202e"));
  assert.equal(await alice.locator("script:not([src])").count(), 0);
  assert.notEqual(await alice.title(), "owned");
  await photograph(alice, "ask-hostile");
  await alice.fill("#reason", "no");
  await alice.click("button.deny");
  await held;
  await alice.context().close();
});

test("who may not answer sees why, and the keyboard alone is enough for who may", LIMIT, async () => {
  const carol = await person("carol");
  const held = s3().send(new DeleteObjectCommand({ Bucket: "payroll", Key: "a" }));
  await carol.waitForSelector(OBJECT, { timeout: 10_000 });
  await carol.click(OBJECT);
  await carol.waitForSelector("text=you are in none of these groups");
  assert.equal(await carol.locator("text=Approve once").count(), 0);
  await photograph(carol, "ask-barred");
  const bob = await person("bob");
  await bob.waitForSelector(OBJECT);
  const tabTo = async (wanted) => {
    for (let presses = 0; presses < 60; presses += 1) {
      await bob.keyboard.press("Tab");
      const focused = await bob.evaluate(() => document.activeElement.textContent.trim());
      if (focused === wanted) return;
    }
    assert.fail(`the keyboard does not reach ${wanted}`);
  };
  await tabTo("s3:DeleteObject");
  await bob.keyboard.press("Enter");
  await bob.waitForURL(/\/asks\//);
  await tabTo("Approve once");
  const outline = await bob.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.notEqual(outline, "none", "the focus is visible");
  await bob.keyboard.press("Enter");
  // Closed in the middle of a navigation, the browser's context now and then never ends.
  await bob.waitForSelector("text=Your approval is recorded.");
  assert.equal((await held).$metadata.httpStatusCode, 204);
  reached.length = 0;
  await carol.context().close();
  await bob.context().close();
});

test("the other pages are right to look at", LIMIT, async () => {
  const bob = await person("bob");
  for (const name of ["sessions", "policies", "connections", "health"]) {
    await bob.goto(`${url}/${name}`);
    await accessible(bob, name);
    await photograph(bob, name);
  }
  await bob.goto(`${url}/policies?action=s3%3ADeleteBucket&resource=arn%3Aaws%3As3%3A%3A%3Apayroll`);
  await bob.waitForSelector("text=ask: s3:DeleteBucket");
  await photograph(bob, "policies-explained");
  await bob.goto(`${url}/sessions`);
  await bob.click("tbody a >> nth=0");
  await bob.waitForSelector("text=Exchanges");
  await accessible(bob, "session");
  await photograph(bob, "session");
  await bob.click("text=Sign out");
  await bob.waitForSelector("text=Sign in with corp");
  await accessible(bob, "sign in");
  await photograph(bob, "signin");
  await bob.goto(`${url}/signin/callback?state=forged&code=forged`);
  await bob.waitForSelector("text=You are not signed in");
  await accessible(bob, "problem");
  await photograph(bob, "problem");
  await bob.context().close();
});

test("a session is revoked, a held call of it ends, and a restart signs nobody out", LIMIT, async () => {
  const alice = await person("alice");
  const client = s3();
  const held = client.send(new DeleteObjectCommand({ Bucket: "payroll", Key: "revoked" })).catch((error) => error);
  await alice.waitForSelector(OBJECT, { timeout: 10_000 });
  await alice.goto(`${url}/sessions`);
  await alice.click("tbody a >> nth=0");
  await alice.fill("#reason", `lost ${EVIL}`);
  await photograph(alice, "session-revoking");
  await alice.click("text=Revoke this session");
  await alice.waitForSelector("text=The session is revoked.");
  const error = await held;
  assert.equal(error.name, "InvalidAccessKeyId");
  assert.match(error.message, /this session was revoked/);
  assert.doesNotMatch(error.message, /lost/);
  await alice.waitForSelector("text=by corp/alice");
  assert.equal(await alice.title(), "Session of corp/agent-7 · Durward");
  await accessible(alice, "a revoked session");
  await photograph(alice, "session-revoked");
  await stopProcess(gateway, "SIGKILL");
  gateway = await startGateway(dir, url);
  await alice.goto(`${url}/sessions`);
  await alice.waitForSelector("text=revoked");
  await accessible(alice, "sessions, one revoked");
  await photograph(alice, "sessions-revoked");
  const again = await client.send(new DeleteObjectCommand({ Bucket: "payroll", Key: "revoked" })).catch((failed) => failed);
  assert.equal(again.name, "InvalidAccessKeyId", "after a restart too");
  // A form of a page from before the restart still counts.
  await alice.goto(url);
  await alice.click(OBJECT);
  await alice.fill("#reason", "tidy up");
  await alice.click("button.deny >> text=Deny");
  await alice.waitForSelector("text=Your denial is recorded.");
  await alice.context().close();
});

test("without scripts the queue reloads itself and the buttons work", LIMIT, async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  const held = s3().send(new DeleteObjectCommand({ Bucket: "payroll", Key: "b" }));
  await page.goto(url);
  await page.click("text=Sign in with corp");
  await atProvider(page, issuer, "alice");
  await page.waitForURL(`${url}/`);
  assert.equal(await page.locator('meta[http-equiv="refresh"]').count(), 1);
  await until("the ask", async () => {
    await page.reload();
    return page.locator(OBJECT).first().isVisible();
  });
  await page.click(OBJECT);
  await page.click("text=Approve once");
  await page.waitForSelector("text=Your approval is recorded.");
  assert.equal((await held).$metadata.httpStatusCode, 204);
  await context.close();
});

test("the same from the terminal alone", LIMIT, async () => {
  const [alice, bob, carol] = [await idToken("alice"), await idToken("bob"), await idToken("carol")];
  const watcher = spawn(BINARY, ["approvals", "watch", "--json", "--url", url, "--token-file", alice]);
  let seen = "";
  watcher.stdout.on("data", (data) => (seen += data));
  const held = s3().send(new DeleteBucketCommand({ Bucket: "archive" }));
  const ask = await until("the ask in `watch`", () => {
    const lines = seen.split("\n").filter((line) => line.includes("archive"));
    return lines.length > 0 && JSON.parse(lines[0]);
  });
  const listed = cli(alice, "ls");
  assert.equal(listed.code, 0, listed.err);
  assert.match(listed.out, new RegExp(`${ask.id} .*s3:DeleteBucket .*arn:aws:s3:::archive .*2 of oncall`));
  const shown = cli(alice, "show", ask.id);
  assert.match(shown.out, /lifted by\s+2 of oncall/);
  const refused = cli(carol, "approve", ask.id);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /members of oncall/);
  const first = cli(alice, "approve", ask.id, "--json");
  assert.equal(first.code, 0, first.err);
  assert.deepEqual(JSON.parse(first.out).missing, [{ group: "oncall", people: 1 }]);
  const twice = cli(alice, "approve", ask.id);
  assert.equal(twice.code, 1);
  assert.match(twice.err, /you approved this already/);
  assert.equal(cli(bob, "approve", ask.id).code, 0);
  assert.equal((await held).$metadata.httpStatusCode, 204);
  await until("the end in `watch`", () => seen.includes('"state":"used"'));
  assert.equal(cli(alice, "show", "00000000000000000000000000000000").code, 1);
  assert.equal(cli(alice, "deny", ask.id).code, 2, "a reason is needed");
  assert.equal(cli(join(dir, "agent.jwt"), "ls").code, 1, "an agent's token is not a person's");
  watcher.kill();
});

test("windows are listed and closed from the terminal", LIMIT, async () => {
  const [alice, carol] = [await idToken("alice"), await idToken("carol")];
  const remove = () => s3().send(new DeleteObjectCommand({ Bucket: "archive", Key: "w" })).then(() => undefined, (error) => error);
  const held = remove();
  const ask = await until("the ask", () => JSON.parse(cli(alice, "ls", "--json").out).approval_requests.find((one) => one.title === "s3:DeleteObject"));
  assert.equal(cli(alice, "ls", "--windows").out, "no open windows\n");
  const opened = cli(alice, "approve", ask.id, "--for", "30m");
  assert.equal(opened.code, 0, opened.err);
  assert.equal(await held, undefined);
  assert.equal(await remove(), undefined);
  const listed = cli(carol, "ls", "--windows");
  assert.match(listed.out, new RegExp(`${ask.id} .* 2 +corp/agent-7 +s3:DeleteObject +arn:aws:s3:::archive/w +corp/alice`));
  assert.equal(cli(carol, "close", ask.id, "--reason", "no").code, 1, "she may not");
  reached.length = 0;
  const closed = cli(alice, "close", ask.id, "--reason", "done with it");
  assert.equal(closed.code, 0, closed.err);
  assert.match(closed.out, /the window is closed/);
  assert.match((await remove()).message, /done with it/);
  assert.deepEqual(reached, []);
  assert.equal(cli(alice, "ls", "--windows").out, "no open windows\n");
  assert.match(cli(alice, "show", ask.id).out, /a window until it was closed, used 2 times/);
});
