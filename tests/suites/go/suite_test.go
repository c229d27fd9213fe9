// The AWS SDK for Go v2, unmodified: one slice of each service, configured by the environment alone.
package suite

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/s3/manager"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

const secretText = "correct horse battery staple go"

var (
	background = context.Background()
	gateway    = os.Getenv("DW_GATEWAY_URL")
	kind       = os.Getenv("DW_KIND")
	account    = strings.Split(os.Getenv("DW_ROLE_ARN"), ":")[4]
	exchangeID = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
)

func load(t *testing.T) aws.Config {
	t.Helper()
	loaded, err := config.LoadDefaultConfig(background)
	must(t, err)
	return loaded
}

// loadSre signs in as the caller who may reveal.
func loadSre(t *testing.T) aws.Config {
	t.Helper()
	loaded := load(t)
	token := stscreds.IdentityTokenFile(os.Getenv("DW_TOKEN_SRE"))
	provider := stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(loaded), os.Getenv("DW_ROLE_ARN"), token)
	loaded.Credentials = aws.NewCredentialsCache(provider)
	return loaded
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func random(size int) []byte {
	made := make([]byte, size)
	_, _ = rand.Read(made)
	return made
}

func name() string { return "dw-go-" + hex.EncodeToString(random(5)) }

func is[T error](t *testing.T, err error) {
	t.Helper()
	var wanted T
	if !errors.As(err, &wanted) {
		t.Fatalf("wanted %T, got %v", wanted, err)
	}
}

// masked tells whether a sensitive value arrived as it should for the ordinary caller.
func masked(value string) bool {
	if gateway == "" {
		return value == secretText
	}
	return !strings.Contains(value, secretText)
}

func bucket(t *testing.T, client *s3.Client) string {
	t.Helper()
	made := name()
	_, err := client.CreateBucket(background, &s3.CreateBucketInput{Bucket: &made})
	must(t, err)
	must(t, s3.NewBucketExistsWaiter(client).Wait(background, &s3.HeadBucketInput{Bucket: &made}, 10*time.Second))
	return made
}

func pathStyle(options *s3.Options) { options.UsePathStyle = true }

func TestS3RoundTripOfOddKeys(t *testing.T) {
	client := s3.NewFromConfig(load(t), pathStyle)
	made := bucket(t, client)
	for _, key := range []string{"plain.txt", "with space+plus", "ü/x/y %41", "quote'\"&<>", "emoji-😀", "a=b&c#d"} {
		t.Run(key, func(t *testing.T) {
			body := "body of " + key
			_, err := client.PutObject(background, &s3.PutObjectInput{
				Bucket: &made, Key: &key, Body: strings.NewReader(body), Metadata: map[string]string{"origin": "go"},
			})
			must(t, err)
			got, err := client.GetObject(background, &s3.GetObjectInput{Bucket: &made, Key: &key})
			must(t, err)
			defer got.Body.Close()
			back, err := io.ReadAll(got.Body)
			must(t, err)
			if string(back) != body || got.Metadata["origin"] != "go" {
				t.Fatalf("got %q, %v", back, got.Metadata)
			}
			_, err = client.DeleteObject(background, &s3.DeleteObjectInput{Bucket: &made, Key: &key})
			must(t, err)
		})
	}
}

func TestS3MultipartBothWays(t *testing.T) {
	client := s3.NewFromConfig(load(t), pathStyle)
	made, key, body := bucket(t, client), "large", random(17<<20)
	_, err := manager.NewUploader(client, func(uploader *manager.Uploader) { uploader.PartSize = 8 << 20 }).Upload(
		background, &s3.PutObjectInput{Bucket: &made, Key: &key, Body: bytes.NewReader(body)},
	)
	must(t, err)
	back := manager.NewWriteAtBuffer(nil)
	_, err = manager.NewDownloader(client, func(downloader *manager.Downloader) { downloader.PartSize = 5 << 20 }).Download(
		background, back, &s3.GetObjectInput{Bucket: &made, Key: &key},
	)
	must(t, err)
	if !bytes.Equal(back.Bytes(), body) {
		t.Fatal("what came back is not what went up")
	}
}

func TestS3PaginatorCopyAndTypedError(t *testing.T) {
	client := s3.NewFromConfig(load(t), pathStyle)
	made := bucket(t, client)
	for _, key := range []string{"page/1", "page/2", "page/3"} {
		_, err := client.PutObject(background, &s3.PutObjectInput{Bucket: &made, Key: &key, Body: strings.NewReader("x")})
		must(t, err)
	}
	pages, count := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: &made, MaxKeys: aws.Int32(2)}), 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(background)
		must(t, err)
		count += len(page.Contents)
	}
	if count != 3 {
		t.Fatalf("listed %d", count)
	}
	_, err := client.CopyObject(background, &s3.CopyObjectInput{Bucket: &made, Key: aws.String("copy"), CopySource: aws.String(made + "/page/1")})
	must(t, err)
	_, err = client.GetObject(background, &s3.GetObjectInput{Bucket: &made, Key: aws.String("missing")})
	is[*s3types.NoSuchKey](t, err)
}

func TestS3PresignedPutAndGet(t *testing.T) {
	if kind == "moto" {
		t.Skip("moto knows no presigned URL")
	}
	client := s3.NewFromConfig(load(t), pathStyle)
	made, key := bucket(t, client), "presigned ü"
	signer := s3.NewPresignClient(client)
	put, err := signer.PresignPutObject(background, &s3.PutObjectInput{Bucket: &made, Key: &key})
	must(t, err)
	request, err := http.NewRequest(http.MethodPut, put.URL, strings.NewReader("by link"))
	must(t, err)
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	answer.Body.Close()
	get, err := signer.PresignGetObject(background, &s3.GetObjectInput{Bucket: &made, Key: &key})
	must(t, err)
	answer, err = http.Get(get.URL)
	must(t, err)
	defer answer.Body.Close()
	if body, _ := io.ReadAll(answer.Body); string(body) != "by link" {
		t.Fatalf("%d %s", answer.StatusCode, body)
	}
}

func TestDynamoDB(t *testing.T) {
	client := dynamodb.NewFromConfig(load(t))
	table := name()
	_, err := client.CreateTable(background, &dynamodb.CreateTableInput{
		TableName: &table, BillingMode: ddbtypes.BillingModePayPerRequest,
		AttributeDefinitions: []ddbtypes.AttributeDefinition{{AttributeName: aws.String("pk"), AttributeType: "S"}},
		KeySchema:            []ddbtypes.KeySchemaElement{{AttributeName: aws.String("pk"), KeyType: "HASH"}},
	})
	must(t, err)
	must(t, dynamodb.NewTableExistsWaiter(client).Wait(background, &dynamodb.DescribeTableInput{TableName: &table}, 10*time.Second))
	item := map[string]ddbtypes.AttributeValue{
		"pk": &ddbtypes.AttributeValueMemberS{Value: "ü <&>"}, "blob": &ddbtypes.AttributeValueMemberB{Value: random(64)},
	}
	put := &dynamodb.PutItemInput{TableName: &table, Item: item, ConditionExpression: aws.String("attribute_not_exists(pk)")}
	_, err = client.PutItem(background, put)
	must(t, err)
	_, err = client.PutItem(background, put)
	is[*ddbtypes.ConditionalCheckFailedException](t, err)
	got, err := client.GetItem(background, &dynamodb.GetItemInput{TableName: &table, Key: map[string]ddbtypes.AttributeValue{"pk": item["pk"]}})
	must(t, err)
	if len(got.Item) != 2 {
		t.Fatalf("got %v", got.Item)
	}
	_, err = client.DescribeTable(background, &dynamodb.DescribeTableInput{TableName: aws.String("dw-none")})
	is[*ddbtypes.ResourceNotFoundException](t, err)
}

func TestSQSAndSNS(t *testing.T) {
	queues := sqs.NewFromConfig(load(t))
	made, err := queues.CreateQueue(background, &sqs.CreateQueueInput{QueueName: aws.String(name())})
	must(t, err)
	if gateway != "" && !strings.HasPrefix(*made.QueueUrl, gateway+"/") {
		t.Fatalf("the queue's address %s leads around the gateway", *made.QueueUrl)
	}
	_, err = queues.SendMessage(background, &sqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: aws.String("hello ü")})
	must(t, err)
	got, err := queues.ReceiveMessage(background, &sqs.ReceiveMessageInput{QueueUrl: made.QueueUrl, WaitTimeSeconds: 2})
	must(t, err)
	if len(got.Messages) != 1 || *got.Messages[0].Body != "hello ü" {
		t.Fatalf("got %v", got.Messages)
	}
	_, err = queues.GetQueueUrl(background, &sqs.GetQueueUrlInput{QueueName: aws.String("dw-none")})
	is[*sqstypes.QueueDoesNotExist](t, err)

	topics := sns.NewFromConfig(load(t))
	topic, err := topics.CreateTopic(background, &sns.CreateTopicInput{Name: aws.String(name())})
	must(t, err)
	_, err = topics.Publish(background, &sns.PublishInput{TopicArn: topic.TopicArn, Message: aws.String("fan & out")})
	must(t, err)
	_, err = topics.Publish(background, &sns.PublishInput{TopicArn: aws.String(*topic.TopicArn + "-gone"), Message: aws.String("x")})
	is[*snstypes.NotFoundException](t, err)
}

func TestSecretIsMaskedAndRevealed(t *testing.T) {
	client, secret := secretsmanager.NewFromConfig(load(t)), name()
	_, err := client.CreateSecret(background, &secretsmanager.CreateSecretInput{Name: &secret, SecretString: aws.String(secretText)})
	must(t, err)
	got, err := client.GetSecretValue(background, &secretsmanager.GetSecretValueInput{SecretId: &secret})
	must(t, err)
	if !masked(*got.SecretString) {
		t.Fatalf("got %s", *got.SecretString)
	}
	if gateway == "" {
		return
	}
	revealed, err := secretsmanager.NewFromConfig(loadSre(t)).GetSecretValue(background, &secretsmanager.GetSecretValueInput{SecretId: &secret})
	must(t, err)
	if *revealed.SecretString != secretText {
		t.Fatalf("got %s", *revealed.SecretString)
	}
}

func TestSSMAndKMS(t *testing.T) {
	parameters, path := ssm.NewFromConfig(load(t)), "/"+name()+"/password"
	_, err := parameters.PutParameter(background, &ssm.PutParameterInput{Name: &path, Value: aws.String(secretText), Type: ssmtypes.ParameterTypeSecureString})
	must(t, err)
	got, err := parameters.GetParameter(background, &ssm.GetParameterInput{Name: &path, WithDecryption: aws.Bool(true)})
	must(t, err)
	if !masked(*got.Parameter.Value) {
		t.Fatalf("got %s", *got.Parameter.Value)
	}
	_, err = parameters.GetParameter(background, &ssm.GetParameterInput{Name: aws.String("/dw/none")})
	is[*ssmtypes.ParameterNotFound](t, err)

	keys := kms.NewFromConfig(load(t))
	key, err := keys.CreateKey(background, &kms.CreateKeyInput{})
	must(t, err)
	sealed, err := keys.Encrypt(background, &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte(secretText)})
	must(t, err)
	opened, err := keys.Decrypt(background, &kms.DecryptInput{KeyId: key.KeyMetadata.KeyId, CiphertextBlob: sealed.CiphertextBlob})
	must(t, err)
	if !masked(string(opened.Plaintext)) {
		t.Fatalf("got %s", opened.Plaintext)
	}
}

func TestSTSAndIAMAndEC2(t *testing.T) {
	identity, err := sts.NewFromConfig(load(t)).GetCallerIdentity(background, &sts.GetCallerIdentityInput{})
	must(t, err)
	if *identity.Account != account {
		t.Fatalf("got %s", *identity.Account)
	}
	people, user := iam.NewFromConfig(load(t)), name()
	_, err = people.CreateUser(background, &iam.CreateUserInput{UserName: &user})
	must(t, err)
	pages, found := iam.NewListUsersPaginator(people, &iam.ListUsersInput{MaxItems: aws.Int32(1)}), false
	for pages.HasMorePages() {
		page, err := pages.NextPage(background)
		must(t, err)
		for _, one := range page.Users {
			found = found || *one.UserName == user
		}
	}
	if !found {
		t.Fatal("the user is not listed")
	}
	_, err = people.GetUser(background, &iam.GetUserInput{UserName: aws.String("dw-none")})
	is[*iamtypes.NoSuchEntityException](t, err)

	network := ec2.NewFromConfig(load(t))
	made, err := network.CreateVpc(background, &ec2.CreateVpcInput{CidrBlock: aws.String("10.7.0.0/16")})
	must(t, err)
	got, err := network.DescribeVpcs(background, &ec2.DescribeVpcsInput{VpcIds: []string{*made.Vpc.VpcId}})
	must(t, err)
	if len(got.Vpcs) != 1 || *got.Vpcs[0].CidrBlock != "10.7.0.0/16" {
		t.Fatalf("got %v", got.Vpcs)
	}
	_, err = network.DescribeInstances(background, &ec2.DescribeInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
	var api smithy.APIError
	if !errors.As(err, &api) || !strings.HasPrefix(api.ErrorCode(), "InvalidInstanceID") {
		t.Fatalf("got %v", err)
	}
}

func TestLambdaAndLogs(t *testing.T) {
	functions := lambda.NewFromConfig(load(t))
	_, err := functions.ListFunctions(background, &lambda.ListFunctionsInput{})
	must(t, err)
	_, err = functions.GetFunction(background, &lambda.GetFunctionInput{FunctionName: aws.String("dw-none")})
	is[*lambdatypes.ResourceNotFoundException](t, err)

	logs, group := cloudwatchlogs.NewFromConfig(load(t)), name()
	create := &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &group}
	_, err = logs.CreateLogGroup(background, create)
	must(t, err)
	_, err = logs.CreateLogGroup(background, create)
	is[*logtypes.ResourceAlreadyExistsException](t, err)
	_, err = logs.CreateLogStream(background, &cloudwatchlogs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: aws.String("s")})
	must(t, err)
	_, err = logs.PutLogEvents(background, &cloudwatchlogs.PutLogEventsInput{
		LogGroupName: &group, LogStreamName: aws.String("s"),
		LogEvents: []logtypes.InputLogEvent{{Message: aws.String("line"), Timestamp: aws.Int64(time.Now().UnixMilli())}},
	})
	must(t, err)
	got, err := logs.GetLogEvents(background, &cloudwatchlogs.GetLogEventsInput{LogGroupName: &group, LogStreamName: aws.String("s"), StartFromHead: aws.Bool(true)})
	must(t, err)
	if len(got.Events) != 1 || *got.Events[0].Message != "line" {
		t.Fatalf("got %v", got.Events)
	}
}

// CloudWatch arrives as rpc-v2-cbor.
func TestCloudWatchInCBOR(t *testing.T) {
	if kind == "moto" {
		t.Skip("moto does not speak CBOR")
	}
	metrics, namespace := cloudwatch.NewFromConfig(load(t)), name()
	_, err := metrics.PutMetricData(background, &cloudwatch.PutMetricDataInput{
		Namespace: &namespace, MetricData: []cwtypes.MetricDatum{{MetricName: aws.String("m"), Value: aws.Float64(1)}},
	})
	must(t, err)
	listed, err := metrics.ListMetrics(background, &cloudwatch.ListMetricsInput{Namespace: &namespace})
	must(t, err)
	if len(listed.Metrics) != 1 {
		t.Fatalf("got %v", listed.Metrics)
	}
}

func TestDeniedCallIsTypedExplainedAndTriedOnce(t *testing.T) {
	if gateway == "" {
		t.Skip("talks to the emulator directly")
	}
	loaded := load(t)
	denied := aws.String("dw-denied")
	calls := map[string]func() error{
		"s3": func() error {
			_, err := s3.NewFromConfig(loaded, pathStyle).DeleteBucket(background, &s3.DeleteBucketInput{Bucket: denied})
			return err
		},
		"dynamodb": func() error {
			_, err := dynamodb.NewFromConfig(loaded).DeleteTable(background, &dynamodb.DeleteTableInput{TableName: denied})
			return err
		},
		"sqs": func() error {
			_, err := sqs.NewFromConfig(loaded).PurgeQueue(background, &sqs.PurgeQueueInput{QueueUrl: aws.String(gateway + "/" + account + "/dw-denied")})
			return err
		},
		"sns": func() error {
			_, err := sns.NewFromConfig(loaded).DeleteTopic(background, &sns.DeleteTopicInput{TopicArn: aws.String("arn:aws:sns:us-east-1:" + account + ":dw-denied")})
			return err
		},
		"secretsmanager": func() error {
			_, err := secretsmanager.NewFromConfig(loaded).DeleteSecret(background, &secretsmanager.DeleteSecretInput{SecretId: denied})
			return err
		},
		"ssm": func() error {
			_, err := ssm.NewFromConfig(loaded).DeleteParameter(background, &ssm.DeleteParameterInput{Name: denied})
			return err
		},
		"iam": func() error {
			_, err := iam.NewFromConfig(loaded).DeleteUser(background, &iam.DeleteUserInput{UserName: denied})
			return err
		},
		"ec2": func() error {
			_, err := ec2.NewFromConfig(loaded).TerminateInstances(background, &ec2.TerminateInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
			return err
		},
		"lambda": func() error {
			_, err := lambda.NewFromConfig(loaded).DeleteFunction(background, &lambda.DeleteFunctionInput{FunctionName: denied})
			return err
		},
		"kms": func() error {
			_, err := kms.NewFromConfig(loaded).ScheduleKeyDeletion(background, &kms.ScheduleKeyDeletionInput{KeyId: aws.String("11111111-2222-3333-4444-555555555555")})
			return err
		},
		"logs": func() error {
			_, err := cloudwatchlogs.NewFromConfig(loaded).DeleteLogGroup(background, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: denied})
			return err
		},
		"cloudwatch": func() error {
			_, err := cloudwatch.NewFromConfig(loaded).DeleteAlarms(background, &cloudwatch.DeleteAlarmsInput{AlarmNames: []string{"dw-denied"}})
			return err
		},
	}
	for service, call := range calls {
		t.Run(service, func(t *testing.T) {
			err := call()
			var api smithy.APIError
			if !errors.As(err, &api) {
				t.Fatalf("got %v", err)
			}
			if !regexp.MustCompile("AccessDenied|UnauthorizedOperation|AuthorizationError").MatchString(api.ErrorCode()) {
				t.Errorf("the code is %s", api.ErrorCode())
			}
			if !strings.Contains(api.ErrorMessage(), "no-destruction") || !exchangeID.MatchString(api.ErrorMessage()) {
				t.Errorf("the message is %q", api.ErrorMessage())
			}
			var attempts *retry.MaxAttemptsError
			if errors.As(err, &attempts) {
				t.Errorf("was tried %d times", attempts.Attempt)
			}
		})
	}
}
