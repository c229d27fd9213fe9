// Time-bound grants, phones and notices: active grants are listed and can be revoked, a phone has the vote within reach, and a notice
// disappears when it is no longer true.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { DeleteBucketCommand, DeleteObjectCommand, S3Client } from "@aws-sdk/client-s3";

import { checkAccessibility, takeScreenshots, takeScreenshot } from "./page_checks.mjs";
import { fakeAws, prepareGateway, launch, listen, signedIn, startGateway, stopProcess, until } from "./test_gateway.mjs";

const LIMIT = { timeout: 120_000 };
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const OBJECT_LINK = ".approval-requests >> text=s3:DeleteObject";
const BUCKET_LINK = ".approval-requests >> text=s3:DeleteBucket";
const POLICIES = `
@id("all-work")
permit (principal, action, resource);
@id("objects-need-one")
@approval("oncall") @timeout("2m") @on_timeout("reject")
forbid (principal, action == Aws::Action::"s3:DeleteObject", resource);
@id("buckets-need-two")
@approval("oncall") @quorum("2") @timeout("2m") @on_timeout("reject")
forbid (principal, action == Aws::Action::"s3:DeleteBucket", resource);
`;

let prepared, url, upstream, gateway, browser;
const reached = [];

before(async () => {
  const groups = { alice: ["oncall"], bob: ["oncall"], carol: ["finance"], "agent-7": ["agents"] };
  prepared = await prepareGateway("time-bound", { groups, policies: POLICIES, approval: 'hold = "2m"' });
  url = prepared.url;
  upstream = fakeAws(reached);
  await listen(upstream, prepared.aws);
  gateway = await startGateway(prepared.dir, url);
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

const client = () => new S3Client({ forcePathStyle: true, maxAttempts: 1 });
const outcome = (call) => call.then((value) => ({ value }), (error) => ({ error }));
const person = (name, options) => signedIn(browser, url, prepared.issuer, name, options);

// Whether all of it is on the screen, without scrolling.
const onScreen = (page, selector) =>
  page.locator(selector).first().evaluate((element) => {
    const { top, bottom } = element.getBoundingClientRect();
    return top >= 0 && bottom <= innerHeight;
  });

test("on a phone the vote is one tap away, and a time-bound grant is created, listed, used and revoked", LIMIT, async () => {
  const alice = await person("alice", PHONE);
  await alice.waitForSelector("text=None. A time-bound grant is");
  const s3 = client();
  const remove = (key) => outcome(s3.send(new DeleteObjectCommand({ Bucket: "payroll", Key: key })));
  const held = remove("a");
  await alice.waitForSelector(OBJECT_LINK, { timeout: 10_000 });
  await alice.tap(OBJECT_LINK);
  await alice.waitForURL(/\/approvals\//);
  const approvalRequest = alice.url();
  assert.ok(await onScreen(alice, "#jump a"), "the link to the vote is on the first screen");
  assert.ok(!(await onScreen(alice, "text=Approve once")), "the vote itself is not");
  await takeScreenshot(alice, "phone-approval-request");
  await checkAccessibility(alice, "approval request with its bar");
  await alice.setViewportSize(PHONE.viewport);
  await alice.evaluate(() => scrollTo(0, 700));
  assert.ok(await onScreen(alice, "#jump a"), "and stays there");
  await alice.tap("#jump a");
  await until("the vote on the screen", () => onScreen(alice, "text=Approve once"));
  const [bar, vote] = await alice.evaluate(() => ["jump", "voting"].map((id) => document.getElementById(id).getBoundingClientRect()));
  assert.ok(bar.bottom <= vote.top, "the bar covers nothing of it");
  await takeScreenshot(alice, "phone-vote");
  await alice.selectOption("#minutes", "60");
  await alice.tap("text=Approve for this duration");
  await alice.waitForSelector("text=Your approval is recorded.");
  assert.equal((await held).error, undefined);
  await takeScreenshot(alice, "phone-grant");
  // The same operation needs no new vote.
  assert.equal((await remove("a")).error, undefined);
  assert.equal(reached.splice(0).length, 2);
  const carol = await person("carol");
  const row = carol.locator("#time-bound-grants tbody tr");
  await until("both uses in the list", async () => {
    await carol.reload();
    return /2 times/.test(await row.innerText());
  });
  const text = await row.innerText();
  for (const wanted of ["corp/agent-7", "through prod", "s3:DeleteObject", "arn:aws:s3:::payroll/a", "left)", "corp/alice"]) {
    assert.ok(text.includes(wanted), `${wanted}: ${text}`);
  }
  assert.equal(await row.locator("text=Revoke").count(), 0, "carol may not revoke it");
  const bob = await person("bob");
  await checkAccessibility(bob, "queue with a grant");
  await takeScreenshots(bob, "queue-grant");
  await bob.click("#time-bound-grants tbody a.button");
  await bob.waitForURL(/#voting$/);
  await checkAccessibility(bob, "approval request with a grant");
  await takeScreenshots(bob, "approval-request-grant");
  await bob.fill("#reason", "it went too far");
  await bob.click("text=Revoke the grant");
  await bob.waitForSelector("text=The grant is revoked.");
  await checkAccessibility(bob, "revoked grant");
  await takeScreenshots(bob, "approval-request-grant-revoked");
  // Live, on the pages of the others.
  await carol.waitForSelector("text=None. A time-bound grant is", { timeout: 10_000 });
  await alice.waitForSelector("text=The time-bound grant was revoked by", { timeout: 10_000 });
  assert.equal(await alice.locator("text=Your approval is recorded.").count(), 0, "her notice is no longer true");
  assert.ok(!(await alice.locator("#jump").isVisible()), "there is nothing to vote on");
  assert.equal((await remove("a")).error?.name, "AccessDenied");
  assert.deepEqual(reached, [], "a revoked grant lets nothing pass");
  assert.equal(alice.url().split("?")[0], approvalRequest);
  for (const page of [alice, bob, carol]) await page.context().close();
});

test("the notice of a lost connection ends when the connection is back", LIMIT, async () => {
  const alice = await person("alice");
  const line = alice.locator("#live-state");
  await until("the live page", () => line.isHidden());
  await stopProcess(gateway);
  await line.waitFor({ state: "visible", timeout: 20_000 });
  await takeScreenshots(alice, "queue-not-live");
  gateway = await startGateway(prepared.dir, url);
  await line.waitFor({ state: "hidden", timeout: 40_000 });
  // One response fails while the event stream works.
  await alice.route(`${url}/`, (route) => route.abort());
  const call = outcome(client().send(new DeleteBucketCommand({ Bucket: "away" })));
  await line.waitFor({ state: "visible", timeout: 20_000 });
  await alice.unroute(`${url}/`);
  await line.waitFor({ state: "hidden", timeout: 20_000 });
  await alice.click(BUCKET_LINK);
  await alice.waitForURL(/\/approvals\//);
  const bob = await person("bob");
  await bob.goto(alice.url());
  // A vote that is not accepted leaves the page at another address. It is still live.
  await alice.evaluate(() => document.querySelector("#reason").removeAttribute("required"));
  await alice.click("button.deny >> text=Deny");
  await alice.waitForSelector("#vote-error");
  await takeScreenshots(alice, "approval-request-vote-error");
  await bob.fill("#reason", "no");
  await bob.click("button.deny >> text=Deny");
  await alice.waitForSelector(".state-denied", { timeout: 10_000 });
  assert.ok(await line.isHidden(), await line.innerText());
  await until("the end of the vote's error", async () => (await alice.locator("#vote-error").count()) === 0);
  assert.equal((await call).error.name, "AccessDenied");
  for (const page of [alice, bob]) await page.context().close();
});

test("a gateway without an AWS identity says so on its health page", LIMIT, async () => {
  const alice = await person("alice");
  await alice.goto(`${url}/health`);
  await alice.waitForSelector("text=from environment variables; long-lived access key");
  await stopProcess(gateway);
  gateway = await startGateway(prepared.dir, url, {});
  await alice.goto(`${url}/health`);
  await alice.waitForSelector("text=so nothing can be sent to AWS: no credential found in environment");
  assert.equal(await alice.locator("tr:has-text('AWS identity') >> text=Failing").count(), 1);
  await checkAccessibility(alice, "health without an identity");
  await takeScreenshots(alice, "health-no-identity");
  await alice.context().close();
});
