// The AWS SDK for JavaScript v3, unmodified: one slice of each service, configured by the environment alone.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";

import { CloudWatchClient, DeleteAlarmsCommand, ListMetricsCommand, PutMetricDataCommand } from "@aws-sdk/client-cloudwatch";
import {
  CloudWatchLogsClient, CreateLogGroupCommand, CreateLogStreamCommand, DeleteLogGroupCommand, GetLogEventsCommand,
  PutLogEventsCommand, ResourceAlreadyExistsException,
} from "@aws-sdk/client-cloudwatch-logs";
import {
  BatchWriteItemCommand, ConditionalCheckFailedException, CreateTableCommand, DeleteTableCommand, DescribeTableCommand,
  DynamoDBClient, GetItemCommand, paginateQuery, PutItemCommand, ResourceNotFoundException, waitUntilTableExists,
} from "@aws-sdk/client-dynamodb";
import { CreateVpcCommand, DescribeInstancesCommand, DescribeVpcsCommand, EC2Client, TerminateInstancesCommand } from "@aws-sdk/client-ec2";
import { CreateUserCommand, DeleteUserCommand, GetUserCommand, IAMClient, NoSuchEntityException, paginateListUsers } from "@aws-sdk/client-iam";
import { CreateKeyCommand, DecryptCommand, EncryptCommand, KMSClient, ScheduleKeyDeletionCommand } from "@aws-sdk/client-kms";
import {
  DeleteFunctionCommand, GetFunctionCommand, LambdaClient, ListFunctionsCommand, ResourceNotFoundException as NoSuchFunction,
} from "@aws-sdk/client-lambda";
import {
  CopyObjectCommand, CreateBucketCommand, DeleteBucketCommand, DeleteObjectCommand, DeleteObjectsCommand, GetObjectCommand,
  HeadObjectCommand, NoSuchKey, paginateListObjectsV2, PutObjectCommand, S3Client, waitUntilBucketExists,
} from "@aws-sdk/client-s3";
import {
  CreateSecretCommand, DeleteSecretCommand, GetSecretValueCommand, SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";
import { CreateTopicCommand, DeleteTopicCommand, PublishCommand, SNSClient } from "@aws-sdk/client-sns";
import {
  CreateQueueCommand, DeleteMessageCommand, GetQueueUrlCommand, PurgeQueueCommand, QueueDoesNotExist,
  ReceiveMessageCommand, SendMessageBatchCommand, SendMessageCommand, SQSClient,
} from "@aws-sdk/client-sqs";
import { DeleteParameterCommand, GetParameterCommand, ParameterNotFound, PutParameterCommand, SSMClient } from "@aws-sdk/client-ssm";
import { AssumeRoleWithWebIdentityCommand, GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const gateway = process.env.DW_GATEWAY_URL;
const kind = process.env.DW_KIND;
const account = process.env.DW_ROLE_ARN.split(":")[4];
const region = process.env.AWS_REGION;
const onlyGateway = { skip: gateway ? false : "talks to the emulator directly" };
const exchangeId = /\b[0-9a-f]{32}\b/;
const secretText = "correct horse battery staple js";
const name = () => `dw-js-${randomBytes(5).toString("hex")}`;

/** The `sre` caller's credentials, by the same provider the default chain uses. */
async function sre() {
  const sts = new STSClient({ credentials: { accessKeyId: "none", secretAccessKey: "none" } });
  const { Credentials } = await sts.send(new AssumeRoleWithWebIdentityCommand({
    RoleArn: process.env.DW_ROLE_ARN, RoleSessionName: "sre", WebIdentityToken: readFileSync(process.env.DW_TOKEN_SRE, "utf8"),
  }));
  return { accessKeyId: Credentials.AccessKeyId, secretAccessKey: Credentials.SecretAccessKey, sessionToken: Credentials.SessionToken };
}

/** The error of a call that must fail. */
async function failure(call) {
  try {
    await call;
  } catch (error) {
    return error;
  }
  assert.fail("was not refused");
}

function masked(value) {
  return gateway ? value !== secretText && !value.includes(secretText) : value === secretText;
}

describe("S3", () => {
  const s3 = new S3Client({});
  const Bucket = name();
  before(async () => {
    await s3.send(new CreateBucketCommand({ Bucket }));
    await waitUntilBucketExists({ client: s3, maxWaitTime: 10 }, { Bucket });
  });
  after(() => s3.destroy());

  for (const Key of ["plain.txt", "with space+plus", "ü/x/y %41", "quote'\"&<>", "emoji-😀", "a=b&c#d"]) {
    test(`round trip of ${Key}`, async () => {
      await s3.send(new PutObjectCommand({ Bucket, Key, Body: `body of ${Key}`, Metadata: { origin: "js" } }));
      const got = await s3.send(new GetObjectCommand({ Bucket, Key }));
      assert.equal(await got.Body.transformToString(), `body of ${Key}`);
      assert.equal((await s3.send(new HeadObjectCommand({ Bucket, Key }))).Metadata.origin, "js");
      await s3.send(new DeleteObjectCommand({ Bucket, Key }));
    });
  }

  test("a stream of known length goes up in signed or trailed chunks", async () => {
    const body = randomBytes(300_000);
    await s3.send(new PutObjectCommand({ Bucket, Key: "stream", Body: Readable.from([body]), ContentLength: body.length }));
    const got = await s3.send(new GetObjectCommand({ Bucket, Key: "stream" }));
    assert.ok(Buffer.from(await got.Body.transformToByteArray()).equals(body));
  });

  test("multipart upload and ranged download", async () => {
    const body = randomBytes(17 * 1024 * 1024);
    const upload = new Upload({ client: s3, params: { Bucket, Key: "large", Body: Readable.from([body]) }, partSize: 8 * 1024 * 1024 });
    await upload.done();
    const got = await s3.send(new GetObjectCommand({ Bucket, Key: "large" }));
    const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");
    assert.equal(digest(await got.Body.transformToByteArray()), digest(body));
    const range = await s3.send(new GetObjectCommand({ Bucket, Key: "large", Range: "bytes=8388600-8388620" }));
    assert.ok(Buffer.from(await range.Body.transformToByteArray()).equals(body.subarray(8388600, 8388621)));
  });

  test("paginator, copy and batch delete", async () => {
    for (let number = 0; number < 5; number += 1) {
      await s3.send(new PutObjectCommand({ Bucket, Key: `page/${number}`, Body: "x" }));
    }
    const keys = [];
    for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket, Prefix: "page/" })) {
      keys.push(...page.Contents.map((found) => found.Key));
    }
    assert.equal(keys.length, 5);
    await s3.send(new CopyObjectCommand({ Bucket, Key: "copied", CopySource: `${Bucket}/page/0` }));
    const deleted = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) } }));
    assert.equal(deleted.Deleted.length, 5);
  });

  test("presigned PUT and GET", { skip: kind === "moto" ? "moto knows no presigned URL" : false }, async () => {
    const place = { Bucket, Key: "presigned ü" };
    const put = await fetch(await getSignedUrl(s3, new PutObjectCommand(place)), { method: "PUT", body: "by link" });
    assert.equal(put.status, 200, await put.text());
    const got = await fetch(await getSignedUrl(s3, new GetObjectCommand(place)));
    assert.equal(await got.text(), "by link");
  });

  test("a missing key is typed", async () => {
    const error = await failure(s3.send(new GetObjectCommand({ Bucket, Key: "missing" })));
    assert.ok(error instanceof NoSuchKey, error);
  });
});

describe("DynamoDB", () => {
  const dynamodb = new DynamoDBClient({});
  const TableName = name();
  const item = (pk, sk) => ({ pk: { S: pk }, sk: { N: String(sk) } });
  before(async () => {
    await dynamodb.send(new CreateTableCommand({
      TableName, BillingMode: "PAY_PER_REQUEST",
      AttributeDefinitions: [{ AttributeName: "pk", AttributeType: "S" }, { AttributeName: "sk", AttributeType: "N" }],
      KeySchema: [{ AttributeName: "pk", KeyType: "HASH" }, { AttributeName: "sk", KeyType: "RANGE" }],
    }));
    await waitUntilTableExists({ client: dynamodb, maxWaitTime: 10, minDelay: 1 }, { TableName });
  });
  after(() => dynamodb.destroy());

  test("items, batches and pages", async () => {
    await dynamodb.send(new PutItemCommand({ TableName, Item: { ...item("one", 1), text: { S: "ü 😀 <&>" }, blob: { B: randomBytes(64) } } }));
    const { Item } = await dynamodb.send(new GetItemCommand({ TableName, Key: item("one", 1) }));
    assert.equal(Item.text.S, "ü 😀 <&>");
    assert.equal(Item.blob.B.length, 64);
    const puts = Array.from({ length: 7 }, (_, number) => ({ PutRequest: { Item: item("page", number) } }));
    await dynamodb.send(new BatchWriteItemCommand({ RequestItems: { [TableName]: puts } }));
    let count = 0;
    const query = { TableName, KeyConditionExpression: "pk = :p", ExpressionAttributeValues: { ":p": { S: "page" } } };
    for await (const page of paginateQuery({ client: dynamodb, pageSize: 3 }, query)) count += page.Items.length;
    assert.equal(count, 7);
  });

  test("failures are typed", async () => {
    const put = { TableName, Item: item("condition", 1), ConditionExpression: "attribute_not_exists(pk)" };
    await dynamodb.send(new PutItemCommand(put));
    assert.ok(await failure(dynamodb.send(new PutItemCommand(put))) instanceof ConditionalCheckFailedException);
    const missing = await failure(dynamodb.send(new DescribeTableCommand({ TableName: "dw-none" })));
    assert.ok(missing instanceof ResourceNotFoundException);
  });
});

test("SQS leads back to the gateway", async () => {
  const sqs = new SQSClient({});
  const QueueName = name();
  const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName }));
  if (gateway) assert.ok(QueueUrl.startsWith(`${gateway}/`), QueueUrl);
  assert.equal((await sqs.send(new GetQueueUrlCommand({ QueueName }))).QueueUrl, QueueUrl);
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "hello ü" }));
  const { Messages } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 2 }));
  assert.equal(Messages[0].Body, "hello ü");
  await sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle: Messages[0].ReceiptHandle }));
  if (kind === "moto") { // ministack asks for an action sqs:SendMessageBatch, which AWS does not have
    const Entries = ["a", "b"].map((Id) => ({ Id, MessageBody: Id }));
    assert.equal((await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries }))).Successful.length, 2);
  }
  assert.ok(await failure(sqs.send(new GetQueueUrlCommand({ QueueName: "dw-none" }))) instanceof QueueDoesNotExist);
});

test("SNS", async () => {
  const sns = new SNSClient({});
  const { TopicArn } = await sns.send(new CreateTopicCommand({ Name: name() }));
  assert.ok((await sns.send(new PublishCommand({ TopicArn, Message: "fan & out" }))).MessageId);
  assert.equal((await failure(sns.send(new PublishCommand({ TopicArn: `${TopicArn}-gone`, Message: "x" })))).name, "NotFoundException");
});

test("Secrets Manager masks, and reveals to who may see", async () => {
  const Name = name();
  const own = new SecretsManagerClient({});
  await own.send(new CreateSecretCommand({ Name, SecretString: secretText }));
  assert.ok(masked((await own.send(new GetSecretValueCommand({ SecretId: Name }))).SecretString));
  if (gateway) {
    const revealing = new SecretsManagerClient({ credentials: await sre() });
    assert.equal((await revealing.send(new GetSecretValueCommand({ SecretId: Name }))).SecretString, secretText);
  }
});

test("SSM", async () => {
  const ssm = new SSMClient({});
  const Name = `/${name()}/password`;
  await ssm.send(new PutParameterCommand({ Name, Value: secretText, Type: "SecureString" }));
  const { Parameter } = await ssm.send(new GetParameterCommand({ Name, WithDecryption: true }));
  assert.ok(masked(Parameter.Value));
  assert.ok(await failure(ssm.send(new GetParameterCommand({ Name: "/dw/none" }))) instanceof ParameterNotFound);
});

test("KMS", async () => {
  const kms = new KMSClient({});
  const { KeyMetadata } = await kms.send(new CreateKeyCommand({}));
  const { CiphertextBlob } = await kms.send(new EncryptCommand({ KeyId: KeyMetadata.KeyId, Plaintext: Buffer.from(secretText) }));
  const { Plaintext } = await kms.send(new DecryptCommand({ KeyId: KeyMetadata.KeyId, CiphertextBlob }));
  assert.ok(masked(Buffer.from(Plaintext).toString("latin1")));
});

test("STS, IAM and EC2", async () => {
  const identity = await new STSClient({}).send(new GetCallerIdentityCommand({}));
  assert.equal(identity.Account, account);
  const iam = new IAMClient({});
  const UserName = name();
  await iam.send(new CreateUserCommand({ UserName }));
  const users = [];
  for await (const page of paginateListUsers({ client: iam, pageSize: 1 }, {})) users.push(...page.Users);
  assert.ok(users.some((found) => found.UserName === UserName));
  assert.ok(await failure(iam.send(new GetUserCommand({ UserName: "dw-none" }))) instanceof NoSuchEntityException);
  const ec2 = new EC2Client({});
  const { Vpc } = await ec2.send(new CreateVpcCommand({ CidrBlock: "10.8.0.0/16" }));
  const { Vpcs } = await ec2.send(new DescribeVpcsCommand({ VpcIds: [Vpc.VpcId] }));
  assert.equal(Vpcs[0].CidrBlock, "10.8.0.0/16");
  const missing = await failure(ec2.send(new DescribeInstancesCommand({ InstanceIds: ["i-0123456789abcdef0"] })));
  assert.match(missing.name, /^InvalidInstanceID/);
});

test("Lambda, Logs and CloudWatch", async () => {
  const lambda = new LambdaClient({});
  assert.ok(Array.isArray((await lambda.send(new ListFunctionsCommand({}))).Functions));
  assert.ok(await failure(lambda.send(new GetFunctionCommand({ FunctionName: "dw-none" }))) instanceof NoSuchFunction);
  const logs = new CloudWatchLogsClient({});
  const logGroupName = name();
  await logs.send(new CreateLogGroupCommand({ logGroupName }));
  await logs.send(new CreateLogStreamCommand({ logGroupName, logStreamName: "s" }));
  const logEvents = [{ timestamp: Date.now(), message: "line" }];
  await logs.send(new PutLogEventsCommand({ logGroupName, logStreamName: "s", logEvents }));
  const { events } = await logs.send(new GetLogEventsCommand({ logGroupName, logStreamName: "s", startFromHead: true }));
  assert.equal(events[0].message, "line");
  assert.ok(await failure(logs.send(new CreateLogGroupCommand({ logGroupName }))) instanceof ResourceAlreadyExistsException);
  const cloudwatch = new CloudWatchClient({});
  const Namespace = name();
  await cloudwatch.send(new PutMetricDataCommand({ Namespace, MetricData: [{ MetricName: "m", Value: 1 }] }));
  assert.equal((await cloudwatch.send(new ListMetricsCommand({ Namespace }))).Metrics.length, 1);
});

describe("a denied call is typed, explained and tried once", onlyGateway, () => {
  const denied = {
    s3: [new S3Client({}), new DeleteBucketCommand({ Bucket: "dw-denied" })],
    dynamodb: [new DynamoDBClient({}), new DeleteTableCommand({ TableName: "dw-denied" })],
    sqs: [new SQSClient({}), new PurgeQueueCommand({ QueueUrl: `${gateway}/${account}/dw-denied` })],
    sns: [new SNSClient({}), new DeleteTopicCommand({ TopicArn: `arn:aws:sns:${region}:${account}:dw-denied` })],
    secretsmanager: [new SecretsManagerClient({}), new DeleteSecretCommand({ SecretId: "dw-denied" })],
    ssm: [new SSMClient({}), new DeleteParameterCommand({ Name: "/dw/denied" })],
    iam: [new IAMClient({}), new DeleteUserCommand({ UserName: "dw-denied" })],
    ec2: [new EC2Client({}), new TerminateInstancesCommand({ InstanceIds: ["i-0123456789abcdef0"] })],
    lambda: [new LambdaClient({}), new DeleteFunctionCommand({ FunctionName: "dw-denied" })],
    kms: [new KMSClient({}), new ScheduleKeyDeletionCommand({ KeyId: "11111111-2222-3333-4444-555555555555" })],
    logs: [new CloudWatchLogsClient({}), new DeleteLogGroupCommand({ logGroupName: "dw-denied" })],
    cloudwatch: [new CloudWatchClient({}), new DeleteAlarmsCommand({ AlarmNames: ["dw-denied"] })],
  };
  for (const [service, [client, command]] of Object.entries(denied)) {
    test(service, async () => {
      const error = await failure(client.send(command));
      assert.match(error.name, /AccessDenied|UnauthorizedOperation|AuthorizationError/);
      assert.match(error.message, /no-destruction/);
      assert.match(error.message, exchangeId);
      assert.equal(error.$metadata.attempts ?? 1, 1);
    });
  }
});
