"""The AWS CLI, unmodified: its own commands for S3, JSON output, waiters, exit codes and messages."""

import json
import os
import subprocess

import pytest

from conftest import ACCOUNT, EXCHANGE_ID, GATEWAY_URL
from test_gateway import SUITES

AWS = SUITES / "cli/bin/aws"


@pytest.fixture
def aws(tmp_path):
    def run(*words, check=True, **environment):
        done = subprocess.run(
            [AWS, *words], cwd=tmp_path, env=os.environ | {"AWS_PAGER": "", "AWS_MAX_ATTEMPTS": "2"} | environment,
            capture_output=True, text=True, timeout=120, check=False,
        )
        if check:
            assert done.returncode == 0, f"aws {' '.join(words)}: {done.stderr}"
            return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else done.stdout.strip()
        return done

    return run


def test_says_who_it_is(aws):
    assert aws("sts", "get-caller-identity")["Account"] == ACCOUNT


def test_copies_lists_and_syncs(aws, tmp_path, name):
    (tmp_path / "files/deep").mkdir(parents=True)
    (tmp_path / "files/one.txt").write_text("one")
    (tmp_path / "files/deep/zwei ü.txt").write_text("two")
    (tmp_path / "files/large.bin").write_bytes(os.urandom(17 << 20))
    aws("s3", "mb", f"s3://{name}")
    aws("s3", "sync", "files", f"s3://{name}/there")
    listed = aws("s3", "ls", "--recursive", f"s3://{name}/")
    assert "there/one.txt" in listed and "there/deep/zwei ü.txt" in listed and str(17 << 20) in listed
    aws("s3", "cp", f"s3://{name}/there/large.bin", "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == (tmp_path / "files/large.bin").read_bytes()
    aws("s3", "mv", f"s3://{name}/there/one.txt", f"s3://{name}/moved.txt")
    aws("s3", "rm", "--recursive", f"s3://{name}/there")
    assert aws("s3", "ls", "--recursive", f"s3://{name}/").endswith("moved.txt")


def test_streams_through_pipes(aws, name):
    aws("s3", "mb", f"s3://{name}")
    script = f"head -c 9000000 /dev/zero | {AWS} s3 cp - s3://{name}/piped && {AWS} s3 cp s3://{name}/piped - | wc -c"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip().endswith("9000000"), done.stderr


def test_dynamodb_table_and_waiter(aws, name):
    aws(
        "dynamodb", "create-table", "--table-name", name, "--billing-mode", "PAY_PER_REQUEST",
        "--attribute-definitions", "AttributeName=pk,AttributeType=S", "--key-schema", "AttributeName=pk,KeyType=HASH",
    )
    aws("dynamodb", "wait", "table-exists", "--table-name", name)
    aws("dynamodb", "put-item", "--table-name", name, "--item", '{"pk": {"S": "a"}, "n": {"N": "1"}}')
    assert aws("dynamodb", "scan", "--table-name", name, "--page-size", "1")["Count"] == 1


def test_queue_by_its_url(aws, name):
    """For sqs (and emr, health, rds) version 1 of the CLI overrides AWS_ENDPOINT_URL with AWS's own address: only the option counts."""
    sqs = ("--endpoint-url", os.environ["AWS_ENDPOINT_URL"], "sqs")
    url = aws(*sqs, "create-queue", "--queue-name", name)["QueueUrl"]
    aws(*sqs, "send-message", "--queue-url", url, "--message-body", "hello")
    assert aws(*sqs, "receive-message", "--queue-url", url)["Messages"][0]["Body"] == "hello"


def test_secret_is_masked(aws, name):
    aws("secretsmanager", "create-secret", "--name", name, "--secret-string", "plain words")
    value = aws("secretsmanager", "get-secret-value", "--secret-id", name)["SecretString"]
    assert (value == "plain words") == (not GATEWAY_URL)


def test_every_other_service_responds(aws, name):
    assert "Users" in aws("iam", "list-users")
    assert "Vpcs" in aws("ec2", "describe-vpcs")
    assert "Functions" in aws("lambda", "list-functions")
    assert "Keys" in aws("kms", "list-keys")
    assert "logGroups" in aws("logs", "describe-log-groups")
    assert "Metrics" in aws("cloudwatch", "list-metrics")
    assert "Topics" in aws("sns", "list-topics")
    aws("ssm", "put-parameter", "--name", name, "--type", "String", "--value", "v")
    assert aws("ssm", "get-parameter", "--name", name)["Parameter"]["Name"] == name


def test_missing_things_keep_their_codes(aws, name):
    for words, code in [
        (("s3api", "get-object", "--bucket", f"{name}-none", "--key", "k", "out"), "NoSuchBucket"),
        (("dynamodb", "describe-table", "--table-name", name), "ResourceNotFoundException"),
        (("iam", "get-user", "--user-name", name), "NoSuchEntity"),
        (("lambda", "get-function", "--function-name", name), "ResourceNotFoundException"),
    ]:
        done = aws(*words, check=False)
        assert done.returncode in (254, 255) and code in done.stderr, done.stderr


@pytest.mark.gateway
@pytest.mark.parametrize("words", [
    ("s3", "rb", "s3://dw-denied"),
    ("dynamodb", "delete-table", "--table-name", "dw-denied"),
    ("iam", "delete-user", "--user-name", "dw-denied"),
    ("ec2", "terminate-instances", "--instance-ids", "i-0123456789abcdef0"),
    ("lambda", "delete-function", "--function-name", "dw-denied"),
    ("cloudwatch", "delete-alarms", "--alarm-names", "dw-denied"),
], ids=lambda words: words[0])
def test_denied_command_says_why(aws, words):
    done = aws(*words, check=False)
    assert done.returncode != 0
    assert "no-destruction" in done.stderr and EXCHANGE_ID.search(done.stderr), done.stderr
