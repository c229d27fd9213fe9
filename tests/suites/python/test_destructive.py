"""Destructive and escalating commands that a naive deny list misses, as the AWS CLI sends them, and what the gateway classed them as.

The caller may only read: each command is decoded, classed, recorded and denied. What it was classed as is read from the journal.
`s3 rb --force` is sent by a caller who may delete objects, because the command goes on only when its first steps succeed.
"""

import json
import os
import re
import subprocess
import uuid
import zipfile

import pytest

from conftest import ACCOUNT, EXCHANGE_ID, REGION, TEST_DIRECTORY
from test_gateway import SUITES

pytestmark = [pytest.mark.gateway, pytest.mark.moto]
AWS = SUITES / "cli/bin/aws"
DURWARD = os.environ.get("DURWARD_BIN", "durward")

READ, WRITE, TAGGING, PERMISSIONS = "Read", "Write", "Tagging", "Permissions management"
# Their braces are doubled, because a name is filled in around them.
ALLOW_ALL = '{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"*","Resource":"*"}}]}}'
TRUST = '{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}]}}'
SSH_KEY = f"ssh-ed25519 {'A' * 68} x"


def iam(resource):
    return f"arn:aws:iam::{ACCOUNT}:{resource}"


def own(service, resource):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


# What stands for {} in a command is made anew in each run, so that its record is found.
#   command, operation, required permissions as (action, level, ARN or *), traits
CLASSED = [
    (
        "iam create-login-profile --user-name {} --password Passw0rd!Passw0rd", "CreateLoginProfile",
        [("iam:CreateLoginProfile", WRITE, iam("user/{}"))], {"escalates"},
    ),
    (
        f"iam update-assume-role-policy --role-name {{}} --policy-document '{TRUST}'", "UpdateAssumeRolePolicy",
        [("iam:UpdateAssumeRolePolicy", PERMISSIONS, iam("role/{}"))], {"escalates"},
    ),
    (
        "iam create-access-key --user-name {}", "CreateAccessKey",
        [("iam:CreateAccessKey", WRITE, iam("user/{}"))], {"escalates", "returns_credentials"},
    ),
    (
        "iam attach-user-policy --user-name {} --policy-arn arn:aws:iam::aws:policy/AdministratorAccess", "AttachUserPolicy",
        [("iam:AttachUserPolicy", PERMISSIONS, iam("user/{}"))], {"escalates"},
    ),
    (
        f"iam create-policy-version --policy-arn {iam('policy/{}')} --policy-document '{ALLOW_ALL}' --set-as-default",
        "CreatePolicyVersion", [("iam:CreatePolicyVersion", PERMISSIONS, iam("policy/{}"))], {"escalates"},
    ),
    (
        "kms schedule-key-deletion --key-id {uuid}", "ScheduleKeyDeletion",
        [("kms:ScheduleKeyDeletion", WRITE, own("kms", "key/{uuid}"))], {"irreversible"},
    ),
    (
        f"kms create-grant --key-id {{uuid}} --grantee-principal {iam('root')} --operations Decrypt", "CreateGrant",
        [("kms:CreateGrant", PERMISSIONS, own("kms", "key/{uuid}"))], {"escalates"},
    ),
    (
        "cloudtrail stop-logging --name {}", "StopLogging",
        [("cloudtrail:StopLogging", WRITE, own("cloudtrail", "trail/{}"))], {"irreversible"},
    ),
    (
        "ec2 modify-instance-attribute --instance-id {instance} --user-data Value=IyEvYmluL3NoCg==", "ModifyInstanceAttribute",
        [("ec2:ModifyInstanceAttribute", WRITE, own("ec2", "instance/{instance}"))], {"escalates", "indirect"},
    ),
    (
        "ec2 run-instances --image-id {image} --iam-instance-profile Name={}", "RunInstances",
        [
            ("ec2:RunInstances", WRITE, f"arn:aws:ec2:{REGION}::image/{{image}}"),
            ("iam:PassRole", WRITE, iam("role/*")),
            ("ec2:RunInstances", WRITE, own("ec2", "instance/*")),
            # the role behind the profile is not in the request
            ("iam:PassRole", WRITE, "*"),
        ],
        {"escalates", "indirect"},
    ),
    (
        "lambda update-function-code --function-name {} --zip-file fileb://code.zip", "UpdateFunctionCode",
        [("lambda:UpdateFunctionCode", WRITE, own("lambda", "function:{}"))], {"escalates", "indirect"},
    ),
    (
        "lambda add-permission --function-name {} --statement-id s --action lambda:InvokeFunction --principal *", "AddPermission",
        [("lambda:AddPermission", PERMISSIONS, own("lambda", "function:{}"))], {"escalates"},
    ),
    (
        "ssm send-command --document-name AWS-RunShellScript --instance-ids {instance} --parameters commands=id", "SendCommand",
        [
            ("ssm:SendCommand", WRITE, f"arn:aws:ssm:{REGION}::document/AWS-RunShellScript"),
            ("ssm:SendCommand", WRITE, own("ec2", "instance/{instance}")),
        ],
        {"escalates", "indirect"},
    ),
    (
        f"cloudformation create-stack --stack-name {{}} --template-url https://x.s3.amazonaws.com/t --role-arn {iam('role/admin')}",
        "CreateStack",
        [("cloudformation:CreateStack", WRITE, own("cloudformation", "stack/{}/*")), ("iam:PassRole", WRITE, iam("role/admin"))],
        {"escalates", "indirect"},
    ),
    (
        f"events put-targets --rule {{}} --targets Id=1,Arn={own('ssm', 'automation-definition/x')},RoleArn={iam('role/admin')}",
        "PutTargets",
        [("events:PutTargets", WRITE, own("events", "rule/{}")), ("iam:PassRole", WRITE, iam("role/admin"))],
        {"escalates", "indirect"},
    ),
    (
        "s3api put-bucket-policy --bucket {} --policy '{{}}'", "PutBucketPolicy",
        [("s3:PutBucketPolicy", PERMISSIONS, "arn:aws:s3:::{}")], {"escalates"},
    ),
    (
        "s3api put-object --bucket {} --key k --acl public-read", "PutObject",
        [("s3:PutObject", WRITE, "arn:aws:s3:::{}/k"), ("s3:PutObjectAcl", PERMISSIONS, "arn:aws:s3:::{}/k")], {"escalates"},
    ),
    (
        "s3api put-bucket-lifecycle-configuration --bucket {} --lifecycle-configuration "
        "'{{\"Rules\":[{{\"ID\":\"all\",\"Status\":\"Enabled\",\"Prefix\":\"\",\"Expiration\":{{\"Days\":1}}}}]}}'",
        "PutBucketLifecycleConfiguration", [("s3:PutLifecycleConfiguration", WRITE, "arn:aws:s3:::{}")], {"irreversible"},
    ),
    (
        "s3api delete-object --bucket {} --key k --version-id v --bypass-governance-retention", "DeleteObject",
        [
            ("s3:DeleteObjectVersion", WRITE, "arn:aws:s3:::{}/k"),
            ("s3:BypassGovernanceRetention", PERMISSIONS, "arn:aws:s3:::{}/k"),
        ],
        {"irreversible", "escalates"},
    ),
    (
        "dynamodb execute-statement --statement 'DELETE FROM \"{}\" WHERE pk = 1'", "ExecuteStatement",
        [("dynamodb:PartiQLDelete", WRITE, own("dynamodb", "table/{}"))], {"irreversible"},
    ),
    (
        "organizations close-account --account-id {account}", "CloseAccount",
        [("organizations:CloseAccount", WRITE, f"arn:aws:organizations::{ACCOUNT}:account/o-*/{{account}}")], {"irreversible"},
    ),
    (
        f"secretsmanager put-resource-policy --secret-id {{}} --resource-policy '{TRUST}'", "PutResourcePolicy",
        [("secretsmanager:PutResourcePolicy", PERMISSIONS, own("secretsmanager", "secret:{}-??????"))], {"escalates"},
    ),
    (
        f"ec2-instance-connect send-ssh-public-key --instance-id {{instance}} --instance-os-user root --ssh-public-key '{SSH_KEY}'",
        "SendSSHPublicKey", [("ec2-instance-connect:SendSSHPublicKey", WRITE, own("ec2", "instance/{instance}"))],
        {"escalates"},
    ),
    (
        "logs put-retention-policy --log-group-name {} --retention-in-days 1", "PutRetentionPolicy",
        [("logs:PutRetentionPolicy", WRITE, own("logs", "log-group:{}:*"))], {"irreversible"},
    ),
    (
        "configservice stop-configuration-recorder --configuration-recorder-name {}", "StopConfigurationRecorder",
        [("config:StopConfigurationRecorder", WRITE, own("config", "configuration-recorder/{}/*"))], {"irreversible"},
    ),
    (
        f"sts assume-role --role-arn {iam('role/{}')} --role-session-name xx", "AssumeRole",
        [("sts:AssumeRole", WRITE, iam("role/{}"))], {"escalates", "returns_credentials"},
    ),
]


class Fresh(dict):
    """Names of one run: `{}` is a name, the others have the form that a service asks for."""

    def __init__(self):
        number = uuid.uuid4()
        digits = number.hex[:17]
        super().__init__(
            uuid=str(number), instance=f"i-{digits}", image=f"ami-{digits}", account=str(number.int)[:12], name=f"dw-{number.hex[:12]}"
        )

    def fill(self, text):
        return text.format(self["name"], **self)

    def all(self):
        return set(self.values())


def words(command):
    """The command as a shell would split it; only single quotes group."""
    return [a or b for a, b in re.findall(r"'([^']*)'|(\S+)", command)]


@pytest.fixture
def aws(tmp_path):
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as code:
        code.writestr("index.py", "pass")

    def run(command, caller):
        environment = os.environ | {
            "AWS_PAGER": "", "AWS_MAX_ATTEMPTS": "1", "HOME": str(tmp_path),
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(TEST_DIRECTORY / f"{caller}.jwt"), "AWS_ROLE_SESSION_NAME": f"destructive-{caller}",
        }
        return subprocess.run(
            [AWS, *words(command)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def recorded(fresh):
    """The operations in the journal that name anything made for this run, in the order in which they came."""
    journal = TEST_DIRECTORY / "data/journal"
    run = lambda *words: json.loads(subprocess.run(
        [DURWARD, "sessions", *words, "--dir", journal, "--json"], capture_output=True, text=True, timeout=60, check=True
    ).stdout)
    exchanges = [one for session in run("ls")["sessions"] for one in run("show", session["session"])["exchanges"]]
    return [
        one["operation"] for one in exchanges
        if one.get("operation") and any(value in json.dumps(one["operation"]) for value in fresh.all())
    ]


def required_permissions(operation):
    """As (action, level, ARN or `*`)."""
    found = []
    for permission in operation["required_permissions"]:
        resource = permission["resource"]
        found.append((permission["action"], permission["access_level"], resource["arn"] if isinstance(resource, dict) else "*"))
    return found


def traits(operation):
    return {name for name, held in operation["traits"].items() if held}


@pytest.mark.parametrize(("command", "name", "expected", "risk"), CLASSED, ids=[" ".join(one[0].split()[:2]) for one in CLASSED])
def test_is_classed_as_what_it_does(aws, command, name, expected, risk):
    fresh = Fresh()
    done = aws(fresh.fill(command), "reader")
    assert done.returncode != 0 and EXCHANGE_ID.search(done.stderr), done.stderr
    (operation,) = [one for one in recorded(fresh) if one["name"] == name]
    assert required_permissions(operation) == [(action, level, fresh.fill(arn)) for action, level, arn in expected]
    assert traits(operation) == risk


def test_removing_a_bucket_by_force_is_each_object_and_then_the_bucket(aws, direct):
    fresh = Fresh()
    bucket = fresh["name"]
    s3 = direct("s3")
    s3.create_bucket(Bucket=bucket)
    for key in ("one", "two"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    done = aws(f"s3 rb s3://{bucket} --force", "agent")
    assert done.returncode != 0 and "no-destruction" in done.stderr, done.stderr
    operations = [(one["name"], *required_permissions(one), traits(one)) for one in recorded(fresh)]
    reads = [one for one in operations if one[0].startswith("List")]
    assert reads and all(one[-1] == set() for one in reads)
    deletes = sorted(one for one in operations if one[0] == "DeleteObject")
    assert deletes == [
        ("DeleteObject", ("s3:DeleteObject", WRITE, f"arn:aws:s3:::{bucket}/{key}"), {"irreversible"}) for key in ("one", "two")
    ]
    assert operations[-1] == ("DeleteBucket", ("s3:DeleteBucket", WRITE, f"arn:aws:s3:::{bucket}"), {"irreversible"})
