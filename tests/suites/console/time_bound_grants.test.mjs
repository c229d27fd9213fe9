// Windows, phones and notices: what is open is listed and can be closed, the answer is under the thumb, and what a page says of itself
// goes away when it no longer holds.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { DeleteBucketCommand, DeleteObjectCommand, S3Client } from "@aws-sdk/client-s3";

import { accessible, photograph, screenful } from "./page_checks.mjs";
import { fakeAws, furnish, launch, listen, signedIn, startGateway, stopProcess, until } from "./test_gateway.mjs";

const LIMIT = { timeout: 120_000 };
const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
const OBJECT = ".asks >> text=s3:DeleteObject";
const BUCKET = ".asks >> text=s3:DeleteBucket";
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

let furnished, url, upstream, gateway, browser;
const reached = [];

before(async () => {
  const groups = { alice: ["oncall"], bob: ["oncall"], carol: ["finance"], "agent-7": ["agents"] };
  furnished = await furnish("windows", { groups, policies: POLICIES, approval: 'hold = "2m"' });
  url = furnished.url;
  upstream = fakeAws(reached);
  await listen(upstream, furnished.aws);
  gateway = await startGateway(furnished.dir, url);
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

const client = () => new S3Client({ forcePathStyle: true, maxAttempts: 1 });
const outcome = (call) => call.then((value) => ({ value }), (error) => ({ error }));
const person = (name, options) => signedIn(browser, url, furnished.issuer, name, options);

// Whether all of it is on the screen, without scrolling.
const onScreen = (page, selector) =>
  page.locator(selector).first().evaluate((element) => {
    const { top, bottom } = element.getBoundingClientRect();
    return top >= 0 && bottom <= innerHeight;
  });

test("on a phone the answer is one tap away, and a window is opened, listed, used and closed", LIMIT, async () => {
  const alice = await person("alice", PHONE);
  await alice.waitForSelector("text=None. A window is");
  const s3 = client();
  const remove = (key) => outcome(s3.send(new DeleteObjectCommand({ Bucket: "payroll", Key: key })));
  const held = remove("a");
  await alice.waitForSelector(OBJECT, { timeout: 10_000 });
  await alice.tap(OBJECT);
  await alice.waitForURL(/\/asks\//);
  const ask = alice.url();
  assert.ok(await onScreen(alice, "#jump a"), "the way to the answer is on the first screenful");
  assert.ok(!(await onScreen(alice, "text=Approve once")), "the answer itself is not");
  await screenful(alice, "phone-ask");
  await accessible(alice, "ask with its bar");
  await alice.setViewportSize(PHONE.viewport);
  await alice.evaluate(() => scrollTo(0, 700));
  assert.ok(await onScreen(alice, "#jump a"), "and stays there");
  await alice.tap("#jump a");
  await until("the answer on the screen", () => onScreen(alice, "text=Approve once"));
  const [bar, answer] = await alice.evaluate(() => ["jump", "answering"].map((id) => document.getElementById(id).getBoundingClientRect()));
  assert.ok(bar.bottom <= answer.top, "the bar covers nothing of it");
  await screenful(alice, "phone-answer");
  await alice.selectOption("#minutes", "60");
  await alice.tap("text=Approve for this time");
  await alice.waitForSelector("text=Your approval is recorded.");
  assert.equal((await held).error, undefined);
  await screenful(alice, "phone-window");
  // Nobody is asked for the same.
  assert.equal((await remove("a")).error, undefined);
  assert.equal(reached.splice(0).length, 2);
  const carol = await person("carol");
  const row = carol.locator("#windows tbody tr");
  await until("both uses in the list", async () => {
    await carol.reload();
    return /2 times/.test(await row.innerText());
  });
  const text = await row.innerText();
  for (const wanted of ["corp/agent-7", "through prod", "s3:DeleteObject", "arn:aws:s3:::payroll/a", "left)", "corp/alice"]) {
    assert.ok(text.includes(wanted), `${wanted}: ${text}`);
  }
  assert.equal(await row.locator("text=Close").count(), 0, "carol may not close it");
  const bob = await person("bob");
  await accessible(bob, "queue with a window");
  await photograph(bob, "queue-window");
  await bob.click("#windows tbody a.button");
  await bob.waitForURL(/#answering$/);
  await accessible(bob, "ask with a window");
  await photograph(bob, "ask-window");
  await bob.fill("#reason", "it went too far");
  await bob.click("text=Close the window");
  await bob.waitForSelector("text=The window is closed.");
  await accessible(bob, "closed window");
  await photograph(bob, "ask-window-closed");
  // Live, on the pages of the others.
  await carol.waitForSelector("text=None. A window is", { timeout: 10_000 });
  await alice.waitForSelector("text=The window was closed before its time", { timeout: 10_000 });
  assert.equal(await alice.locator("text=Your approval is recorded.").count(), 0, "her notice holds no more");
  assert.ok(!(await alice.locator("#jump").isVisible()), "there is nothing to answer");
  assert.equal((await remove("a")).error?.name, "AccessDenied");
  assert.deepEqual(reached, [], "a closed window lets nothing pass");
  assert.equal(alice.url().split("?")[0], ask);
  for (const page of [alice, bob, carol]) await page.context().close();
});

test("what a page says of its connection ends when the connection is back", LIMIT, async () => {
  const alice = await person("alice");
  const line = alice.locator("#live-state");
  await until("the live page", () => line.isHidden());
  await stopProcess(gateway);
  await line.waitFor({ state: "visible", timeout: 20_000 });
  await photograph(alice, "queue-not-live");
  gateway = await startGateway(furnished.dir, url);
  await line.waitFor({ state: "hidden", timeout: 40_000 });
  // One answer that goes wrong while the stream holds.
  await alice.route(`${url}/`, (route) => route.abort());
  const call = outcome(client().send(new DeleteBucketCommand({ Bucket: "away" })));
  await line.waitFor({ state: "visible", timeout: 20_000 });
  await alice.unroute(`${url}/`);
  await line.waitFor({ state: "hidden", timeout: 20_000 });
  await alice.click(BUCKET);
  await alice.waitForURL(/\/asks\//);
  const bob = await person("bob");
  await bob.goto(alice.url());
  // An answer that is not accepted leaves a page at another address; it is live all the same.
  await alice.evaluate(() => document.querySelector("#reason").removeAttribute("required"));
  await alice.click("button.deny >> text=Deny");
  await alice.waitForSelector("#wrong");
  await photograph(alice, "ask-wrong");
  await bob.fill("#reason", "no");
  await bob.click("button.deny >> text=Deny");
  await alice.waitForSelector(".state-denied", { timeout: 10_000 });
  assert.ok(await line.isHidden(), await line.innerText());
  await until("the end of what was wrong", async () => (await alice.locator("#wrong").count()) === 0);
  assert.equal((await call).error.name, "AccessDenied");
  for (const page of [alice, bob]) await page.context().close();
});

test("a gateway that is nobody to AWS says so on its health page", LIMIT, async () => {
  const alice = await person("alice");
  await alice.goto(`${url}/health`);
  await alice.waitForSelector("text=found: environment; a long-lived access key");
  await stopProcess(gateway);
  gateway = await startGateway(furnished.dir, url, {});
  await alice.goto(`${url}/health`);
  await alice.waitForSelector("text=so nothing can be sent to AWS: no credential found in environment");
  assert.equal(await alice.locator("tr:has-text('AWS identity') >> text=not good").count(), 1);
  await accessible(alice, "health without an identity");
  await photograph(alice, "health-nobody");
  await alice.context().close();
});
