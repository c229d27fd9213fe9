package durward;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeFalse;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import software.amazon.awssdk.auth.credentials.WebIdentityTokenFileCredentialsProvider;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchClient;
import software.amazon.awssdk.services.cloudwatchlogs.CloudWatchLogsClient;
import software.amazon.awssdk.services.cloudwatchlogs.model.ResourceAlreadyExistsException;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;
import software.amazon.awssdk.services.dynamodb.model.AttributeValue;
import software.amazon.awssdk.services.dynamodb.model.BillingMode;
import software.amazon.awssdk.services.dynamodb.model.ConditionalCheckFailedException;
import software.amazon.awssdk.services.dynamodb.model.KeyType;
import software.amazon.awssdk.services.dynamodb.model.ScalarAttributeType;
import software.amazon.awssdk.services.ec2.Ec2Client;
import software.amazon.awssdk.services.ec2.model.Ec2Exception;
import software.amazon.awssdk.services.iam.IamClient;
import software.amazon.awssdk.services.iam.model.NoSuchEntityException;
import software.amazon.awssdk.services.kms.KmsClient;
import software.amazon.awssdk.services.lambda.LambdaClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.S3Configuration;
import software.amazon.awssdk.services.s3.model.CompletedPart;
import software.amazon.awssdk.services.s3.model.NoSuchKeyException;
import software.amazon.awssdk.services.s3.presigner.S3Presigner;
import software.amazon.awssdk.services.secretsmanager.SecretsManagerClient;
import software.amazon.awssdk.services.sns.SnsClient;
import software.amazon.awssdk.services.sns.model.NotFoundException;
import software.amazon.awssdk.services.sqs.SqsClient;
import software.amazon.awssdk.services.sqs.model.QueueDoesNotExistException;
import software.amazon.awssdk.services.ssm.SsmClient;
import software.amazon.awssdk.services.ssm.model.ParameterNotFoundException;
import software.amazon.awssdk.services.ssm.model.ParameterType;
import software.amazon.awssdk.services.sts.StsClient;

/** The AWS SDK for Java v2, unmodified: one slice of each service, configured by the environment alone. */
class ServicesTest {
    private static final String GATEWAY = System.getenv("DW_GATEWAY_URL");
    private static final String ACCOUNT = System.getenv("DW_ROLE_ARN").split(":")[4];
    private static final String SECRET = "correct horse battery staple java";
    private static final int PART = 8 << 20;

    private static boolean onMoto() {
        return "moto".equals(System.getenv("DW_KIND"));
    }

    private static IamClient iam() {
        return IamClient.builder().region(Region.AWS_GLOBAL).build();
    }

    private static String name() {
        return "dw-java-" + UUID.randomUUID().toString().substring(0, 10);
    }

    private static byte[] bytes(int size) {
        byte[] made = new byte[size];
        new Random(size).nextBytes(made);
        return made;
    }

    /** A sensitive value arrived as it should for the ordinary caller. */
    private static void assertMasked(String value) {
        assertEquals(GATEWAY == null, value.equals(SECRET), value);
    }

    private static String bucket(S3Client s3) {
        String made = name();
        s3.createBucket(b -> b.bucket(made));
        s3.waiter().waitUntilBucketExists(b -> b.bucket(made));
        return made;
    }

    @ParameterizedTest
    @ValueSource(strings = {"plain.txt", "with space+plus", "ü/x/y %41", "quote'\"&<>", "emoji-😀", "a=b&c#d"})
    void s3RoundTripOf(String key) {
        try (S3Client s3 = S3Client.create()) {
            String made = bucket(s3);
            s3.putObject(b -> b.bucket(made).key(key).metadata(Map.of("origin", "java")), RequestBody.fromString("body of " + key));
            var got = s3.getObjectAsBytes(b -> b.bucket(made).key(key));
            assertEquals("body of " + key, got.asUtf8String());
            assertEquals("java", got.response().metadata().get("origin"));
            s3.deleteObject(b -> b.bucket(made).key(key));
        }
    }

    @Test
    void s3MultipartUpAndRangesDown() {
        try (S3Client s3 = S3Client.create()) {
            String made = bucket(s3);
            byte[] body = bytes(17 << 20);
            String id = s3.createMultipartUpload(b -> b.bucket(made).key("large")).uploadId();
            List<CompletedPart> parts = new ArrayList<>();
            for (int start = 0, number = 1; start < body.length; start += PART, number++) {
                int part = number;
                byte[] piece = java.util.Arrays.copyOfRange(body, start, Math.min(start + PART, body.length));
                var done = s3.uploadPart(b -> b.bucket(made).key("large").uploadId(id).partNumber(part), RequestBody.fromBytes(piece));
                parts.add(CompletedPart.builder().partNumber(part).eTag(done.eTag()).checksumCRC32(done.checksumCRC32()).build());
            }
            s3.completeMultipartUpload(b -> b.bucket(made).key("large").uploadId(id).multipartUpload(m -> m.parts(parts)));
            assertArrayEquals(body, s3.getObjectAsBytes(b -> b.bucket(made).key("large")).asByteArray());
            byte[] range = s3.getObjectAsBytes(b -> b.bucket(made).key("large").range("bytes=8388600-8388620")).asByteArray();
            assertArrayEquals(java.util.Arrays.copyOfRange(body, 8388600, 8388621), range);
        }
    }

    @Test
    void s3UploadsAFile() throws Exception {
        Path file = java.nio.file.Files.createTempFile("durward", ".bin");
        try (S3Client s3 = S3Client.create()) {
            java.nio.file.Files.write(file, bytes(3_000_000));
            String made = bucket(s3);
            s3.putObject(b -> b.bucket(made).key("file"), RequestBody.fromFile(file));
            assertArrayEquals(bytes(3_000_000), s3.getObjectAsBytes(b -> b.bucket(made).key("file")).asByteArray());
        } finally {
            java.nio.file.Files.delete(file);
        }
    }

    @Test
    void s3PaginatorCopyAndTypedError() {
        try (S3Client s3 = S3Client.create()) {
            String made = bucket(s3);
            for (int number = 0; number < 5; number++) {
                String key = "page/" + number;
                s3.putObject(b -> b.bucket(made).key(key), RequestBody.fromString("x"));
            }
            assertEquals(5, s3.listObjectsV2Paginator(b -> b.bucket(made).maxKeys(2)).contents().stream().count());
            s3.copyObject(b -> b.sourceBucket(made).sourceKey("page/0").destinationBucket(made).destinationKey("copied"));
            assertThrows(NoSuchKeyException.class, () -> s3.getObjectAsBytes(b -> b.bucket(made).key("missing")));
        }
    }

    @Test
    void s3PresignedPutAndGet() throws Exception {
        assumeFalse(onMoto(), "moto knows no presigned URL");
        try (S3Client s3 = S3Client.create();
                S3Presigner signer = S3Presigner.builder()
                        .endpointOverride(URI.create(System.getenv("AWS_ENDPOINT_URL")))
                        .serviceConfiguration(S3Configuration.builder().pathStyleAccessEnabled(true).build()).build()) {
            String made = bucket(s3);
            // its default asks for an upgrade to h2c, which the gateway refuses
            HttpClient plain = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
            var put = signer.presignPutObject(p -> p.signatureDuration(Duration.ofMinutes(1)).putObjectRequest(b -> b.bucket(made).key("presigned ü")));
            var answer = plain.send(HttpRequest.newBuilder(put.url().toURI()).PUT(HttpRequest.BodyPublishers.ofString("by link")).build(),
                    HttpResponse.BodyHandlers.ofString());
            assertEquals(200, answer.statusCode(), answer.body());
            var get = signer.presignGetObject(p -> p.signatureDuration(Duration.ofMinutes(1)).getObjectRequest(b -> b.bucket(made).key("presigned ü")));
            assertEquals("by link", plain.send(HttpRequest.newBuilder(get.url().toURI()).build(), HttpResponse.BodyHandlers.ofString()).body());
        }
    }

    @Test
    void dynamoDbItemsAndTypedErrors() {
        try (DynamoDbClient dynamo = DynamoDbClient.create()) {
            String table = name();
            dynamo.createTable(b -> b.tableName(table).billingMode(BillingMode.PAY_PER_REQUEST)
                    .attributeDefinitions(a -> a.attributeName("pk").attributeType(ScalarAttributeType.S))
                    .keySchema(k -> k.attributeName("pk").keyType(KeyType.HASH)));
            dynamo.waiter().waitUntilTableExists(b -> b.tableName(table));
            Map<String, AttributeValue> item = Map.of("pk", AttributeValue.fromS("ü <&>"), "blob", AttributeValue.fromB(SdkBytes.fromByteArray(bytes(64))));
            dynamo.putItem(b -> b.tableName(table).item(item).conditionExpression("attribute_not_exists(pk)"));
            assertThrows(ConditionalCheckFailedException.class,
                    () -> dynamo.putItem(b -> b.tableName(table).item(item).conditionExpression("attribute_not_exists(pk)")));
            assertEquals(item, dynamo.getItem(b -> b.tableName(table).key(Map.of("pk", item.get("pk")))).item());
            assertThrows(software.amazon.awssdk.services.dynamodb.model.ResourceNotFoundException.class,
                    () -> dynamo.describeTable(b -> b.tableName("dw-none")));
        }
    }

    @Test
    void sqsAndSns() {
        try (SqsClient sqs = SqsClient.create(); SnsClient sns = SnsClient.create()) {
            String queue = sqs.createQueue(b -> b.queueName(name())).queueUrl();
            assertTrue(GATEWAY == null || queue.startsWith(GATEWAY + "/"), queue);
            sqs.sendMessage(b -> b.queueUrl(queue).messageBody("hello ü"));
            assertEquals("hello ü", sqs.receiveMessage(b -> b.queueUrl(queue).waitTimeSeconds(2)).messages().get(0).body());
            assertThrows(QueueDoesNotExistException.class, () -> sqs.getQueueUrl(b -> b.queueName("dw-none")));
            String topic = sns.createTopic(b -> b.name(name())).topicArn();
            sns.publish(b -> b.topicArn(topic).message("fan & out"));
            assertThrows(NotFoundException.class, () -> sns.publish(b -> b.topicArn(topic + "-gone").message("x")));
        }
    }

    @Test
    void secretIsMaskedAndRevealed() {
        try (SecretsManagerClient own = SecretsManagerClient.create()) {
            String secret = name();
            own.createSecret(b -> b.name(secret).secretString(SECRET));
            assertMasked(own.getSecretValue(b -> b.secretId(secret)).secretString());
            assumeTrue(GATEWAY != null, "nothing is masked without the gateway");
            var sre = WebIdentityTokenFileCredentialsProvider.builder().webIdentityTokenFile(Path.of(System.getenv("DW_TOKEN_SRE")))
                    .roleArn(System.getenv("DW_ROLE_ARN")).roleSessionName("sre").build();
            try (SecretsManagerClient revealing = SecretsManagerClient.builder().credentialsProvider(sre).build()) {
                assertEquals(SECRET, revealing.getSecretValue(b -> b.secretId(secret)).secretString());
            }
        }
    }

    @Test
    void ssmAndKms() {
        try (SsmClient ssm = SsmClient.create(); KmsClient kms = KmsClient.create()) {
            String path = "/" + name() + "/password";
            ssm.putParameter(b -> b.name(path).value(SECRET).type(ParameterType.SECURE_STRING));
            assertMasked(ssm.getParameter(b -> b.name(path).withDecryption(true)).parameter().value());
            assertThrows(ParameterNotFoundException.class, () -> ssm.getParameter(b -> b.name("/dw/none")));
            String key = kms.createKey().keyMetadata().keyId();
            SdkBytes sealed = kms.encrypt(b -> b.keyId(key).plaintext(SdkBytes.fromUtf8String(SECRET))).ciphertextBlob();
            assertMasked(kms.decrypt(b -> b.keyId(key).ciphertextBlob(sealed)).plaintext().asString(StandardCharsets.ISO_8859_1));
        }
    }

    @Test
    void stsAndIamAndEc2() {
        try (StsClient sts = StsClient.create(); IamClient iam = iam(); Ec2Client ec2 = Ec2Client.create()) {
            assertEquals(ACCOUNT, sts.getCallerIdentity().account());
            String user = name();
            iam.createUser(b -> b.userName(user));
            assertTrue(iam.listUsersPaginator(b -> b.maxItems(1)).users().stream().anyMatch(one -> one.userName().equals(user)));
            assertThrows(NoSuchEntityException.class, () -> iam.getUser(b -> b.userName("dw-none")));
            String vpc = ec2.createVpc(b -> b.cidrBlock("10.6.0.0/16")).vpc().vpcId();
            assertEquals("10.6.0.0/16", ec2.describeVpcs(b -> b.vpcIds(vpc)).vpcs().get(0).cidrBlock());
            var missing = assertThrows(Ec2Exception.class, () -> ec2.describeInstances(b -> b.instanceIds("i-0123456789abcdef0")));
            assertTrue(missing.awsErrorDetails().errorCode().startsWith("InvalidInstanceID"));
        }
    }

    @Test
    void lambdaAndLogs() {
        try (LambdaClient lambda = LambdaClient.create(); CloudWatchLogsClient logs = CloudWatchLogsClient.create()) {
            lambda.listFunctions();
            assertThrows(software.amazon.awssdk.services.lambda.model.ResourceNotFoundException.class,
                    () -> lambda.getFunction(b -> b.functionName("dw-none")));
            String group = name();
            logs.createLogGroup(b -> b.logGroupName(group));
            logs.createLogStream(b -> b.logGroupName(group).logStreamName("s"));
            logs.putLogEvents(b -> b.logGroupName(group).logStreamName("s").logEvents(e -> e.timestamp(Instant.now().toEpochMilli()).message("line")));
            assertEquals("line", logs.getLogEvents(b -> b.logGroupName(group).logStreamName("s").startFromHead(true)).events().get(0).message());
            assertThrows(ResourceAlreadyExistsException.class, () -> logs.createLogGroup(b -> b.logGroupName(group)));
        }
    }

    @Test
    void cloudWatchInCbor() {
        assumeFalse(onMoto(), "moto does not speak CBOR");
        try (CloudWatchClient cloudWatch = CloudWatchClient.create()) {
            String namespace = name();
            cloudWatch.putMetricData(b -> b.namespace(namespace).metricData(d -> d.metricName("m").value(1.5)));
            assertEquals(1, cloudWatch.listMetrics(b -> b.namespace(namespace)).metrics().size());
        }
    }

    record Denied(String service, Supplier<Object> call) {
        @Override
        public String toString() {
            return service;
        }
    }

    static Stream<Denied> denied() {
        String thing = "dw-denied";
        return Stream.of(
                new Denied("s3", () -> S3Client.create().deleteBucket(b -> b.bucket(thing))),
                new Denied("dynamodb", () -> DynamoDbClient.create().deleteTable(b -> b.tableName(thing))),
                new Denied("sqs", () -> SqsClient.create().purgeQueue(b -> b.queueUrl(GATEWAY + "/" + ACCOUNT + "/" + thing))),
                new Denied("sns", () -> SnsClient.create().deleteTopic(b -> b.topicArn("arn:aws:sns:us-east-1:" + ACCOUNT + ":" + thing))),
                new Denied("secretsmanager", () -> SecretsManagerClient.create().deleteSecret(b -> b.secretId(thing))),
                new Denied("ssm", () -> SsmClient.create().deleteParameter(b -> b.name(thing))),
                new Denied("iam", () -> iam().deleteUser(b -> b.userName(thing))),
                new Denied("ec2", () -> Ec2Client.create().terminateInstances(b -> b.instanceIds("i-0123456789abcdef0"))),
                new Denied("lambda", () -> LambdaClient.create().deleteFunction(b -> b.functionName(thing))),
                new Denied("kms", () -> KmsClient.create().scheduleKeyDeletion(b -> b.keyId("11111111-2222-3333-4444-555555555555"))),
                new Denied("logs", () -> CloudWatchLogsClient.create().deleteLogGroup(b -> b.logGroupName(thing))),
                new Denied("cloudwatch", () -> CloudWatchClient.create().deleteAlarms(b -> b.alarmNames(thing))));
    }

    @ParameterizedTest
    @MethodSource("denied")
    void deniedCallIsTypedExplainedAndTriedOnce(Denied denied) {
        assumeTrue(GATEWAY != null, "talks to the emulator directly");
        var refused = assertThrows(AwsServiceException.class, denied.call()::get);
        String code = refused.awsErrorDetails().errorCode();
        assertTrue(code.matches("AccessDenied(Exception)?|UnauthorizedOperation|AuthorizationError"), code);
        String message = refused.awsErrorDetails().errorMessage();
        assertTrue(message.contains("no-destruction"), message);
        assertTrue(message.matches("(?s).*\\b[0-9a-f]{32}\\b.*"), message);
        assertEquals(1, refused.numAttempts());
        assertFalse(refused.retryable());
    }
}
