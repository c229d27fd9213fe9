// Writes what the AWS SDK for JavaScript v3 serialises for 40 services, in the form of generate.py (see there).
//
//     node generate.mjs corpus.jsonl corpus-js.jsonl
//
// Operations and values come from the botocore corpus, so both SDKs mean the same. package.json pins the clients; nothing is sent.

import { createHash } from "node:crypto";
import { createReadStream, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const PACKAGES = {
  accessanalyzer: "accessanalyzer", apigateway: "api-gateway", apigatewayv2: "apigatewayv2", athena: "athena",
  autoscaling: "auto-scaling", backup: "backup", batch: "batch", "bedrock-runtime": "bedrock-runtime",
  cloudformation: "cloudformation", cloudfront: "cloudfront", cloudtrail: "cloudtrail", cloudwatch: "cloudwatch",
  logs: "cloudwatch-logs", codebuild: "codebuild", "cognito-idp": "cognito-identity-provider", dynamodb: "dynamodb", ec2: "ec2",
  ecr: "ecr", ecs: "ecs", eks: "eks", elbv2: "elastic-load-balancing-v2", events: "eventbridge", glue: "glue",
  guardduty: "guardduty", iam: "iam", kinesis: "kinesis", kms: "kms", lambda: "lambda", organizations: "organizations", rds: "rds",
  route53: "route-53", s3: "s3", s3control: "s3-control", secretsmanager: "secrets-manager", sesv2: "sesv2", stepfunctions: "sfn",
  sns: "sns", sqs: "sqs", ssm: "ssm", sts: "sts",
};
const REGION = "us-east-1";
const NAME = "gw.example";
const ENDPOINTS = { "js-ip": "http://127.0.0.1:1", "js-name": `https://${NAME}` };
const DROPPED = new Set([
  "authorization", "x-amz-date", "x-amz-security-token", "user-agent", "x-amz-user-agent", "host", "amz-sdk-invocation-id",
  "amz-sdk-request",
]);

// Members that botocore's models have and the pinned clients do not yet: the SDK drops them unseen.
const NEWER = {
  apigateway: ["jwtConfiguration"],
  athena: ["SystemTableStatuses", "AttributesToGet"],
  batch: ["accessEntry", "securityContext", "eksConfiguration"],
  ec2: [
    "TransitGatewayAttachmentIds", "AllowMultipathResilience", "MultipathResilienceMode",
    "RequesterPeeringConnectionOptions",
    "Phase1AdditionalKeyExchanges", "Phase2AdditionalKeyExchanges", "InstanceTypePreferences", "PermissionType",
  ],
  ecr: ["deleteReplication"],
  ecs: ["nitroEnclavesEnabled", "deregistrationDelay", "trustedExecutionConfiguration"],
  kms: ["ResourceOwners"],
  lambda: ["AcceleratorConfig", "RuntimeConfig"],
  secretsmanager: ["PolicyName", "CrossAccountPrimaryARN"],
  s3control: [
    "InstanceScope", "AnnotationDirective", "CostAndUsageReportsPublish", "ObjectLockEventHold",
    "ObjectLockEventHoldDuration", "EventHold", "IntAccessTiers",
  ],
};

class Caught extends Error {
  constructor(request) {
    super("caught");
    this.request = request;
  }
}

/** What is meant, as far as the pinned client knows it; customer keys of S3 are base64 on the wire. */
function known(service, value) {
  if (Array.isArray(value)) return value.map((one) => known(service, one));
  if (value === null || typeof value !== "object") return value;
  const kept = Object.entries(value).filter(([name]) => !NEWER[service]?.includes(name));
  return Object.fromEntries(kept.map(([name, inner]) => [name, known(service, inner)]));
}

function onTheWire(service, meant) {
  if (service !== "s3") return meant;
  const keys = ["SSECustomerKey", "CopySourceSSECustomerKey"].filter((name) => name in meant);
  const digests = keys.map((name) => [`${name}MD5`, createHash("md5").update(meant[name]).digest("base64")]);
  const encoded = keys.map((name) => [name, Buffer.from(meant[name]).toString("base64")]);
  return { ...meant, ...Object.fromEntries([...encoded, ...digests]) };
}

/** The value as the SDK takes it. */
function given(value) {
  if (Array.isArray(value)) return value.map(given);
  if (value === null || typeof value !== "object") return value;
  const [key, ...more] = Object.keys(value);
  if (key?.startsWith("$") && more.length === 0) {
    switch (key) {
      case "$time": return new Date(value.$time * 1000);
      case "$blob": return Buffer.from(value.$blob, "base64");
      case "$json": return JSON.stringify(value.$json);
      case "$url": return encodeURI(value.$url);
      case "$streamed": return Buffer.from("stream");
    }
  }
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, given(inner)]));
}

const escape = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);

/** As the SDK's HTTP handler writes it. */
function queryOf(query) {
  return Object.keys(query ?? {}).sort().flatMap((key) => {
    const value = query[key];
    if (Array.isArray(value)) return value.map((one) => `${escape(key)}=${escape(one)}`);
    return value || typeof value === "string" ? `${escape(key)}=${escape(value)}` : escape(key);
  }).join("&");
}

async function bytesOf(body) {
  if (body === undefined || body === null) return Buffer.alloc(0);
  if (typeof body === "string" || body instanceof Uint8Array) return Buffer.from(body);
  const parts = [];
  for await (const part of body) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

async function wire(service, request) {
  const headers = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (!DROPPED.has(name.toLowerCase())) headers[name.toLowerCase()] = String(value);
  }
  const scope = /Credential=[^/]+\/[^/]+\/[^/]+\/([^/]+)\//.exec(request.headers.authorization ?? "");
  const caught = {
    signing: scope ? scope[1] : service,
    method: request.method,
    path: request.path,
    query: queryOf(request.query),
    headers,
    body: (await bytesOf(request.body)).toString("base64"),
  };
  if (service === "s3" && request.hostname.endsWith(`.${NAME}`)) caught.bucket = request.hostname.slice(0, -NAME.length - 1);
  return caught;
}

const require = createRequire(import.meta.url);
const clients = new Map();

function client(service, mode) {
  const id = `${service} ${mode}`;
  if (!clients.has(id)) {
    const module = require(`@aws-sdk/client-${PACKAGES[service]}`);
    const name = Object.keys(module).find((key) => key.endsWith("Client") && key !== "__Client");
    clients.set(id, new module[name]({
      region: REGION,
      endpoint: ENDPOINTS[mode],
      credentials: { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "secret" },
      maxAttempts: 1,
      disableHostPrefix: mode === "js-ip",
      requestHandler: {
        metadata: { handlerProtocol: "http/1.1" },
        handle: async (request) => { throw new Caught(request); },
        updateHttpClientConfig() {},
        httpHandlerConfigs: () => ({}),
      },
    }));
  }
  return clients.get(id);
}

async function main() {
  const [from, into] = process.argv.slice(2);
  const out = [];
  const failures = new Map();
  for await (const line of createInterface({ input: createReadStream(from) })) {
    const { service, operation, full, meant: all } = JSON.parse(line);
    if (!(service in PACKAGES)) continue;
    const meant = known(service, all);
    const module = require(`@aws-sdk/client-${PACKAGES[service]}`);
    const Command = module[`${operation}Command`];
    if (!Command) {
      failures.set(`${service}:${operation}: not in the client`, 1);
      continue;
    }
    const requests = [];
    for (const mode of Object.keys(ENDPOINTS)) {
      try {
        await client(service, mode).send(new Command(given(meant)));
      } catch (error) {
        if (!(error instanceof Caught)) {
          failures.set(`${service}:${operation} full=${full} ${mode}: ${error.message}`.slice(0, 160), 1);
          continue;
        }
        const request = await wire(service, error.request);
        const same = requests.find((one) => JSON.stringify({ ...one, modes: 0 }) === JSON.stringify({ ...request, modes: 0 }));
        if (same) same.modes.push(mode);
        else requests.push({ ...request, modes: [mode] });
      }
    }
    out.push(JSON.stringify({ service, operation, full, meant: onTheWire(service, meant), requests }));
  }
  writeFileSync(into, `${out.join("\n")}\n`);
  for (const failure of failures.keys()) console.error(failure);
  console.error(`${Object.keys(PACKAGES).length} services; ${failures.size} requests that the SDK would not make`);
}

await main();
