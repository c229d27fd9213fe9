"""STS, IAM, EC2, Lambda, CloudWatch Logs and CloudWatch: one slice of every wire protocol."""

import datetime
import io
import json
import zipfile

import pytest

from conftest import ACCOUNT, GATEWAY_URL, KIND

# ministack does not escape what it writes into XML
TAG = "suite & co" if KIND == "moto" else "suite and co"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
]})


def test_caller_identity_is_the_assumed_role(client):
    identity = client("sts").get_caller_identity()
    assert identity["Account"] == ACCOUNT
    if GATEWAY_URL:
        assert ":assumed-role/suite/" in identity["Arn"]


def test_users_are_made_and_listed_by_pages(client, name):
    iam = client("iam")
    # ministack judges a user by its name without its path, so that the credential issued for the right ARN does not fit
    path = "/suite/" if KIND == "moto" else "/"
    wanted = [f"{name}-{number}" for number in range(3)]
    for user in wanted:
        iam.create_user(UserName=user, Path=path, Tags=[{"Key": "by", "Value": TAG}])
    pages = iam.get_paginator("list_users").paginate(PathPrefix=path, PaginationConfig={"PageSize": 2})
    listed = [found["UserName"] for page in pages for found in page["Users"]]
    assert set(wanted) <= set(listed)
    assert iam.get_user(UserName=wanted[0])["User"]["Path"] == path


def test_missing_user_is_typed(client, name):
    iam = client("iam")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_user(UserName=name)


@pytest.mark.gateway
def test_secret_of_a_new_access_key_is_masked(client, name, direct):
    client("iam").create_user(UserName=name)
    key = client("iam").create_access_key(UserName=name)["AccessKey"]
    assert key["UserName"] == name
    usable = direct("iam").list_access_keys(UserName=name)["AccessKeyMetadata"]
    assert len(usable) == 1
    assert "masked" in key["SecretAccessKey"]


def test_ec2_describes_by_filter(client):
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    found = ec2.describe_vpcs(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Vpcs"]
    assert [one["CidrBlock"] for one in found] == ["10.9.0.0/16"]
    ec2.get_waiter("vpc_available").wait(VpcIds=[vpc], WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    pages = ec2.get_paginator("describe_instances").paginate()
    assert all("Reservations" in page for page in pages)


def test_missing_instance_keeps_its_code(client, failure):
    refused = failure(client("ec2").describe_instances, InstanceIds=["i-0123456789abcdef0"])
    assert refused.code.startswith("InvalidInstanceID")


def function_code():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("index.py", "def handler(event, context):\n    return event\n")
    return packed.getvalue()


@pytest.mark.moto  # ministack judges CreateFunction on `*`, which no credential cut to one function can satisfy
def test_lambda_function_is_made_and_listed(client, name):
    functions = client("lambda")
    role = client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    functions.create_function(
        FunctionName=name, Runtime="python3.11", Role=role, Handler="index.handler",
        Code={"ZipFile": function_code()}, Environment={"Variables": {"PASSWORD": "kept inside"}},
    )
    pages = functions.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    assert name in [found["FunctionName"] for page in pages for found in page["Functions"]]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    assert ("kept inside" in variables.values()) == (not GATEWAY_URL)


def test_missing_function_is_typed(client, name):
    functions = client("lambda")
    with pytest.raises(functions.exceptions.ResourceNotFoundException):
        functions.get_function(FunctionName=name)


def test_log_events_there_and_back(client, name):
    logs, group = client("logs"), f"/suite/{name}"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="one")
    now = int(datetime.datetime.now(datetime.UTC).timestamp() * 1000)
    logs.put_log_events(
        logGroupName=group, logStreamName="one", logEvents=[{"timestamp": now + n, "message": f"line {n}"} for n in range(3)]
    )
    events = logs.get_log_events(logGroupName=group, logStreamName="one", startFromHead=True)["events"]
    assert [event["message"] for event in events] == ["line 0", "line 1", "line 2"]
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=group)
    assert [found["logGroupName"] for page in pages for found in page["logGroups"]] == [group]


def test_existing_log_group_is_typed(client, name):
    logs = client("logs")
    logs.create_log_group(logGroupName=name)
    with pytest.raises(logs.exceptions.ResourceAlreadyExistsException):
        logs.create_log_group(logGroupName=name)


def test_metrics_there_and_back(client, name):
    cloudwatch = client("cloudwatch")
    cloudwatch.put_metric_data(Namespace=name, MetricData=[{"MetricName": "m", "Value": 1.5, "Unit": "Count"}])
    pages = cloudwatch.get_paginator("list_metrics").paginate(Namespace=name)
    assert [found["MetricName"] for page in pages for found in page["Metrics"]] == ["m"]


@pytest.mark.ministack
def test_compressed_request_is_understood(client, name):
    """boto3 sends PutMetricData over 10 KB gzipped."""
    cloudwatch = client("cloudwatch", request_min_compression_size_bytes=1000)
    data = [{"MetricName": f"metric-{number}", "Value": float(number)} for number in range(300)]
    response = cloudwatch.put_metric_data(Namespace=name, MetricData=data)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.moto  # ministack judges DescribeAlarms on `*`
def test_missing_alarm_history_is_empty(client, name):
    assert client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"] == []


def test_role_policy_document_survives(client, name):
    iam = client("iam")
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    assert iam.get_role_policy(RoleName=name, PolicyName="p")["PolicyDocument"] == document


@pytest.mark.gateway
def test_request_within_a_request_is_refused_with_what_to_do(client, failure):
    """boto3 signs a second request into these with the gateway's credential, which AWS would refuse without saying why."""
    for call, arguments in [
        (client("ec2").copy_snapshot, {"SourceRegion": "eu-west-1", "SourceSnapshotId": "snap-0123456789abcdef0"}),
        (client("rds").copy_db_snapshot, {
            "SourceDBSnapshotIdentifier": f"arn:aws:rds:eu-west-1:{ACCOUNT}:snapshot:s", "TargetDBSnapshotIdentifier": "t",
            "SourceRegion": "eu-west-1",
        }),
    ]:
        refused = failure(call, **arguments)
        assert "signedurl" in refused.message.lower() and "without it" in refused.message, refused
        assert refused.attempts == 1 and refused.status == 400
