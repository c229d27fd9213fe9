// The console in a real browser (headless Chromium, driven by Playwright), behind a certified OpenID provider, in front of a real gateway:
// an SDK's call is held, people vote by clicking, and it passes or is refused. axe-core checks each page, and screenshots are taken, light and
// dark, wide and narrow, into DURWARD_SCREENSHOTS if that is set.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { DeleteBucketCommand, DeleteObjectCommand, S3Client } from "@aws-sdk/client-s3";

import { checkAccessibility, takeScreenshots } from "./page_checks.mjs";
import { BINARY, signInAtProvider, fakeAws, freePort, prepareGateway, launch, listen, signedIn, startGateway, stopProcess, until } from "./test_gateway.mjs";

const LIMIT = { timeout: 90_000 };

const GROUPS = { alice: ["oncall"], bob: ["oncall", "fire"], carol: ["finance"], "agent-7": ["agents"] };
const EVIL = "x</code><script>document.title='owned'</script>\u202e";
// In the lists of what waits.
const BUCKET_LINK = ".approval-requests >> text=s3:DeleteBucket";
const OBJECT_LINK = ".approval-requests >> text=s3:DeleteObject";
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

let prepared, dir, upstream, gateway, browser, url, issuer, catcher;
const reached = [];

before(async () => {
  catcher = `http://127.0.0.1:${await freePort()}/cb`;
  const approval = 'hold = "2m"\nbreak_glass_group = "fire"';
  prepared = await prepareGateway("console", { groups: GROUPS, policies: POLICIES, approval, redirects: [catcher] });
  ({ dir, url, issuer } = prepared);
  upstream = fakeAws(reached);
  await listen(upstream, prepared.aws);
  gateway = await startGateway(dir, url);
  Object.assign(process.env, prepared.agent);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  if (gateway) await stopProcess(gateway);
  upstream?.closeAllConnections();
  upstream?.close();
  prepared?.clear();
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
  await signInAtProvider(page, issuer, name);
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
  await checkAccessibility(alice, "empty queue");
  await takeScreenshots(alice, "queue-empty");
  const held = s3().send(new DeleteBucketCommand({ Bucket: "payroll" })).then((value) => ({ value }), (error) => ({ error }));
  // Live: the page was open before the approval request was made.
  await alice.waitForSelector(BUCKET_LINK, { timeout: 10_000 });
  await takeScreenshots(alice, "queue");
  await checkAccessibility(alice, "queue");
  await alice.click(BUCKET_LINK);
  await alice.waitForURL(/\/approvals\//);
  const approvalRequest = alice.url();
  await checkAccessibility(alice, "approval request");
  await takeScreenshots(alice, "approval request");
  await alice.click("text=Approve once");
  await alice.waitForSelector("text=Your approval is recorded.");
  assert.equal(await alice.locator("text=Approve once").count(), 0, "she cannot approve twice");
  assert.deepEqual(reached, [], "one of two is not enough");
  const bob = await person("bob");
  await bob.goto(approvalRequest);
  await bob.click("text=Approve once");
  const { value, error } = await held;
  assert.equal(error, undefined, String(error));
  assert.equal(value.$metadata.httpStatusCode, 204);
  assert.deepEqual(reached.splice(0), ["DELETE /payroll/"]);
  // Her page knows without a reload.
  await alice.waitForSelector(".state-consumed", { timeout: 10_000 });
  await alice.context().close();
  await bob.context().close();
});

test("a denial's reason reaches the caller", LIMIT, async () => {
  const alice = await person("alice");
  const held = s3().send(new DeleteBucketCommand({ Bucket: "ledger" })).then(() => undefined, (error) => error);
  await alice.click(BUCKET_LINK);
  await alice.waitForURL(/\/approvals\//);
  await alice.fill("#reason", "not on a Friday");
  await alice.click("button.deny");
  await alice.waitForSelector("text=Your denial is recorded.");
  const error = await held;
  assert.equal(error.name, "AccessDenied");
  assert.match(error.message, /not on a Friday/);
  assert.deepEqual(reached, []);
  await takeScreenshots(alice, "approval-request-denied");
  await checkAccessibility(alice, "denied approval request");
  await alice.context().close();
});

test("nothing that the caller wrote is executed in the page", LIMIT, async () => {
  const alice = await person("alice");
  const held = s3().send(new DeleteObjectCommand({ Bucket: "payroll", Key: EVIL })).catch((error) => error);
  await alice.waitForSelector(OBJECT_LINK, { timeout: 10_000 });
  assert.notEqual(await alice.title(), "owned");
  await alice.click(OBJECT_LINK);
  await alice.waitForURL(/\/approvals\//);
  const text = await alice.innerText("main");
  assert.ok(text.includes("<script>document.title='owned'</script>"), text);
  assert.ok(text.includes("\\u{202e}") && !text.includes("\u202e"));
  assert.equal(await alice.locator("script:not([src])").count(), 0);
  assert.notEqual(await alice.title(), "owned");
  await takeScreenshots(alice, "approval-request-hostile");
  await alice.fill("#reason", "no");
  await alice.click("button.deny");
  await held;
  await alice.context().close();
});

test("a person who may not vote sees why, and the keyboard alone is enough to vote", LIMIT, async () => {
  const carol = await person("carol");
  const held = s3().send(new DeleteObjectCommand({ Bucket: "payroll", Key: "a" }));
  await carol.waitForSelector(OBJECT_LINK, { timeout: 10_000 });
  await carol.click(OBJECT_LINK);
  await carol.waitForSelector("text=Only members of oncall may vote on this request.");
  assert.equal(await carol.locator("text=Approve once").count(), 0);
  await takeScreenshots(carol, "approval-request-barred");
  const bob = await person("bob");
  await bob.waitForSelector(OBJECT_LINK);
  const tabTo = async (wanted) => {
    for (let presses = 0; presses < 60; presses += 1) {
      await bob.keyboard.press("Tab");
      const focused = await bob.evaluate(() => document.activeElement.textContent.trim());
      if (focused.startsWith(wanted)) return;
    }
    assert.fail(`the keyboard does not reach ${wanted}`);
  };
  await tabTo("s3:DeleteObject");
  await bob.keyboard.press("Enter");
  await bob.waitForURL(/\/approvals\//);
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

test("the other pages are accessible", LIMIT, async () => {
  const bob = await person("bob");
  for (const name of ["sessions", "policies", "connections", "health"]) {
    await bob.goto(`${url}/${name}`);
    await checkAccessibility(bob, name);
    await takeScreenshots(bob, name);
  }
  await bob.goto(`${url}/policies?action=s3%3ADeleteBucket&resource=arn%3Aaws%3As3%3A%3A%3Apayroll`);
  await bob.waitForSelector("text=require_approval: s3:DeleteBucket");
  await takeScreenshots(bob, "policies-explained");
  await bob.goto(`${url}/sessions`);
  await bob.click("tbody a >> nth=0");
  await bob.waitForSelector("text=Exchanges");
  await checkAccessibility(bob, "session");
  await takeScreenshots(bob, "session");
  await bob.click("text=Sign out");
  await bob.waitForSelector("text=Sign in with corp");
  await checkAccessibility(bob, "sign in");
  await takeScreenshots(bob, "signin");
  await bob.goto(`${url}/signin/callback?state=forged&code=forged`);
  await bob.waitForSelector("text=You are not signed in");
  await checkAccessibility(bob, "problem");
  await takeScreenshots(bob, "problem");
  await bob.context().close();
});

test("a session is revoked, its held call ends, and a restart signs no person out", LIMIT, async () => {
  const alice = await person("alice");
  const client = s3();
  const held = client.send(new DeleteObjectCommand({ Bucket: "payroll", Key: "revoked" })).catch((error) => error);
  await alice.waitForSelector(OBJECT_LINK, { timeout: 10_000 });
  await alice.goto(`${url}/sessions`);
  await alice.click("tbody a >> nth=0");
  await alice.fill("#reason", `lost ${EVIL}`);
  await takeScreenshots(alice, "session-revoking");
  await alice.click("text=Revoke this session");
  await alice.waitForSelector("text=The session is revoked.");
  const error = await held;
  assert.equal(error.name, "InvalidAccessKeyId");
  assert.match(error.message, /this session was revoked/);
  assert.doesNotMatch(error.message, /lost/);
  await alice.waitForSelector("text=by corp/alice");
  assert.equal(await alice.title(), "Session of corp/agent-7 · Durward");
  await checkAccessibility(alice, "a revoked session");
  await takeScreenshots(alice, "session-revoked");
  await stopProcess(gateway, "SIGKILL");
  gateway = await startGateway(dir, url);
  await alice.goto(`${url}/sessions`);
  await alice.waitForSelector("tbody >> text=revoked");
  await checkAccessibility(alice, "sessions, one revoked");
  await takeScreenshots(alice, "sessions-revoked");
  const again = await client.send(new DeleteObjectCommand({ Bucket: "payroll", Key: "revoked" })).catch((failed) => failed);
  assert.equal(again.name, "InvalidAccessKeyId", "after a restart too");
  // A form of a page from before the restart still counts.
  await alice.goto(url);
  await alice.click(OBJECT_LINK);
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
  await signInAtProvider(page, issuer, "alice");
  await page.waitForURL(`${url}/`);
  assert.equal(await page.locator('meta[http-equiv="refresh"]').count(), 1);
  await until("the approval request", async () => {
    await page.reload();
    return page.locator(OBJECT_LINK).first().isVisible();
  });
  await page.click(OBJECT_LINK);
  await page.click("text=Approve once");
  await page.waitForSelector("text=Your approval is recorded.");
  assert.equal((await held).$metadata.httpStatusCode, 204);
  await context.close();
});

test("requests are watched, listed, shown and voted on from the terminal", LIMIT, async () => {
  const [alice, bob, carol] = [await idToken("alice"), await idToken("bob"), await idToken("carol")];
  const watcher = spawn(BINARY, ["approvals", "watch", "--json", "--url", url, "--token-file", alice]);
  let seen = "";
  watcher.stdout.on("data", (data) => (seen += data));
  const held = s3().send(new DeleteBucketCommand({ Bucket: "archive" }));
  const approvalRequest = await until("the approval request in `watch`", () => {
    const lines = seen.split("\n").filter((line) => line.includes("archive"));
    return lines.length > 0 && JSON.parse(lines[0]);
  });
  const listed = cli(alice, "ls");
  assert.equal(listed.code, 0, listed.err);
  assert.match(listed.out, new RegExp(`^${approvalRequest.id}  pending .*\\n  s3:DeleteBucket arn:aws:s3:::archive\\n  corp/agent-7\\n  missing 2 of oncall$`, "m"));
  const shown = cli(alice, "show", approvalRequest.id);
  assert.match(shown.out, /^  requires +2 of oncall \(policy buckets-need-two\)$/m);
  const refused = cli(carol, "approve", approvalRequest.id);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /members of oncall/);
  const first = cli(alice, "approve", approvalRequest.id, "--json");
  assert.equal(first.code, 0, first.err);
  assert.deepEqual(JSON.parse(first.out).missing_votes, [{ group: "oncall", count: 1 }]);
  const twice = cli(alice, "approve", approvalRequest.id);
  assert.equal(twice.code, 1);
  assert.match(twice.err, /you have already approved this/);
  assert.equal(cli(bob, "approve", approvalRequest.id).code, 0);
  assert.equal((await held).$metadata.httpStatusCode, 204);
  await until("the end in `watch`", () => seen.includes('"state":"consumed"'));
  assert.equal(cli(alice, "show", "00000000000000000000000000000000").code, 1);
  assert.equal(cli(alice, "deny", approvalRequest.id).code, 2, "a reason is needed");
  assert.equal(cli(join(dir, "agent.jwt"), "ls").code, 1, "an agent's token is not a person's");
  watcher.kill();
});

test("time-bound grants are listed and revoked from the terminal", LIMIT, async () => {
  const [alice, carol] = [await idToken("alice"), await idToken("carol")];
  const remove = () => s3().send(new DeleteObjectCommand({ Bucket: "archive", Key: "w" })).then(() => undefined, (error) => error);
  const held = remove();
  const approvalRequest = await until("the approval request", () => JSON.parse(cli(alice, "ls", "--json").out).approval_requests.find((one) => one.title === "s3:DeleteObject"));
  assert.equal(cli(alice, "ls", "--time-bound").out, "no time-bound grants\n");
  const opened = cli(alice, "approve", approvalRequest.id, "--for", "30m");
  assert.equal(opened.code, 0, opened.err);
  assert.equal(await held, undefined);
  assert.equal(await remove(), undefined);
  const listed = cli(carol, "ls", "--time-bound");
  assert.match(listed.out, new RegExp(`^${approvalRequest.id}  .+ 2\\n  s3:DeleteObject arn:aws:s3:::archive/w\\n  corp/agent-7\\n  approved by corp/alice$`, "m"));
  assert.equal(cli(carol, "revoke", approvalRequest.id, "--reason", "no").code, 1, "she may not");
  reached.length = 0;
  const closed = cli(alice, "revoke", approvalRequest.id, "--reason", "done with it");
  assert.equal(closed.code, 0, closed.err);
  assert.match(closed.out, /the time-bound grant is revoked/);
  assert.match((await remove()).message, /done with it/);
  assert.deepEqual(reached, []);
  assert.equal(cli(alice, "ls", "--time-bound").out, "no time-bound grants\n");
  assert.match(cli(alice, "show", approvalRequest.id).out, /time-bound grant, revoked, used 2 times/);
});
