// The whole product with real parts: boto3 deletes buckets that AWS (moto) has tagged critical, and people vote in real browsers.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { CreateBucketCommand, HeadBucketCommand, PutBucketTaggingCommand, S3Client } from "@aws-sdk/client-s3";

import { prepareGateway, launch, signedIn, startGateway, stopProcess, until } from "./test_gateway.mjs";

const LIMIT = { timeout: 90_000 };
const SUITES = process.env.DURWARD_SUITES ?? "/nonexistent";
const PYTHON = join(SUITES, "client/bin/python");
const POLICIES = `
@id("all-work")
permit (principal, action, resource);
@id("delete-critical-bucket")
@reason("critical buckets hold what cannot be made again")
@approval("platform-oncall") @quorum("2") @timeout("2m") @on_timeout("reject")
forbid (principal, action == Aws::Action::"s3:DeleteBucket", resource)
when { resource.hasTag("critical") && resource.getTag("critical") == "true" };
@id("delete-hasty-bucket")
@approval("platform-oncall") @timeout("2s") @on_timeout("reject")
forbid (principal, action == Aws::Action::"s3:DeleteBucket", resource)
when { resource.hasTag("critical") && resource.getTag("critical") == "hasty" };
@id("delete-patient-bucket")
@approval("platform-oncall") @timeout("2s") @on_timeout("queue")
forbid (principal, action == Aws::Action::"s3:DeleteBucket", resource)
when { resource.hasTag("critical") && resource.getTag("critical") == "patient" };
`;
// boto3 as any program uses it: it knows only the endpoint and the token file.
const DELETE = `
import json, sys
import boto3, botocore.exceptions
try:
    boto3.client("s3").delete_bucket(Bucket=sys.argv[1])
    print(json.dumps({"code": "deleted"}))
except botocore.exceptions.ClientError as error:
    print(json.dumps({"code": error.response["Error"]["Code"], "message": error.response["Error"]["Message"]}))
`;

let prepared, url, moto, gateway, browser, root;

before(async () => {
  const groups = { alice: ["platform-oncall"], bob: ["platform-oncall"], carol: [], "agent-7": ["agents"] };
  prepared = await prepareGateway("critical", { groups, policies: POLICIES });
  const { dir, aws } = prepared;
  url = prepared.url;
  moto = spawn(join(SUITES, "moto/bin/moto_server"), ["-H", "127.0.0.1", "-p", String(aws)], { stdio: "ignore" });
  const credentials = { accessKeyId: "root", secretAccessKey: "root" };
  root = new S3Client({ endpoint: `http://127.0.0.1:${aws}`, region: "us-east-1", credentials, forcePathStyle: true });
  await until("moto's start", () => fetch(`http://127.0.0.1:${aws}/moto-api/`).then((answer) => answer.ok, () => false));
  gateway = await startGateway(dir, url);
  browser = await launch();
});

after(async () => {
  await browser?.close();
  if (gateway) await stopProcess(gateway);
  if (moto) await stopProcess(moto);
  prepared?.clear();
});

const bucket = async (name, critical) => {
  await root.send(new CreateBucketCommand({ Bucket: name }));
  const TagSet = [{ Key: "critical", Value: critical }, { Key: "owner", Value: "payroll" }];
  await root.send(new PutBucketTaggingCommand({ Bucket: name, Tagging: { TagSet } }));
};

const exists = (name) => root.send(new HeadBucketCommand({ Bucket: name })).then(() => true, () => false);

// boto3 in a process of its own; its call may be held.
const boto3 = (name) => {
  const child = spawn(PYTHON, ["-c", DELETE, name], {
    env: {
      PATH: process.env.PATH,
      HOME: prepared.dir,
      ...prepared.agent,
      AWS_EC2_METADATA_DISABLED: "true",
    },
  });
  const call = { over: false };
  let out = "";
  let said = "";
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (said += data));
  call.answer = new Promise((done, failed) =>
    child.on("exit", () => {
      call.over = true;
      try {
        done(JSON.parse(out));
      } catch {
        failed(new Error(`boto3 said: ${said}`));
      }
    }),
  );
  return call;
};

const openRequestPage = async (page, name) => {
  await page.goto(url);
  await page.locator(".approval-requests li, .approval-requests tr, .approval-requests article, .approval-requests a").filter({ hasText: name }).first().waitFor({ timeout: 20_000 });
  const link = page.locator(".approval-requests").locator("a", { hasText: "s3:DeleteBucket" });
  for (let at = 0; at < (await link.count()); at += 1) {
    const href = await link.nth(at).getAttribute("href");
    await page.goto(url + href);
    if ((await page.innerText("main")).includes(name)) return page.url();
    await page.goto(url);
  }
  throw new Error(`no approval request names ${name}`);
};

const deny = async (page, reason) => {
  await page.fill("#reason", reason);
  await page.click("button.deny");
  await page.waitForSelector("text=Your denial is recorded.");
};

test("two people let boto3 delete a critical bucket, once; a third attempt needs a new approval", LIMIT, async () => {
  await bucket("payroll-a", "true");
  const held = boto3("payroll-a");
  const alice = await signedIn(browser, url, prepared.issuer, "alice");
  const approvalRequest = await openRequestPage(alice, "payroll-a");
  assert.match(await alice.innerText("main"), /critical=true/);
  await alice.click("text=Approve once");
  await alice.waitForSelector("text=Your approval is recorded.");
  assert.ok(!held.over && (await exists("payroll-a")), "one of two is not enough");
  const bob = await signedIn(browser, url, prepared.issuer, "bob");
  await bob.goto(approvalRequest);
  await bob.click("text=Approve once");
  assert.deepEqual(await held.answer, { code: "deleted" });
  assert.ok(!(await exists("payroll-a")));
  await bucket("payroll-a", "true");
  const again = boto3("payroll-a");
  const another = await openRequestPage(alice, "payroll-a");
  assert.notEqual(another, approvalRequest, "the approval was used twice");
  await deny(alice, "once was enough");
  const { code, message } = await again.answer;
  assert.equal(code, "AccessDenied");
  assert.match(message, /once was enough/);
  assert.ok(await exists("payroll-a"));
  await alice.context().close();
  await bob.context().close();
});

test("nobody votes: the call is refused and the approval request has ended", LIMIT, async () => {
  await bucket("hasty", "hasty");
  const { code, message } = await boto3("hasty").answer;
  assert.equal(code, "AccessDenied");
  assert.match(message, /it was not approved in time/);
  assert.ok(await exists("hasty"));
});

test("nobody votes in time, and the approval request is queued: the same call passes after the approval", LIMIT, async () => {
  await bucket("patient", "patient");
  const first = await boto3("patient").answer;
  assert.equal(first.code, "AccessDenied");
  assert.match(first.message, /the approval is pending: approval request/);
  const bob = await signedIn(browser, url, prepared.issuer, "bob");
  await openRequestPage(bob, "patient");
  await bob.click("text=Approve once");
  await bob.waitForSelector("text=Your approval is recorded.");
  assert.deepEqual(await boto3("patient").answer, { code: "deleted" });
  assert.ok(!(await exists("patient")));
  await bob.context().close();
});

test("a bucket that is not critical needs no approval", LIMIT, async () => {
  await bucket("plain", "false");
  assert.deepEqual(await boto3("plain").answer, { code: "deleted" });
});
