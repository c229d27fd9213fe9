"""Writes requests that botocore serialises for the 13 services as JSON lines, with the operation and parameters they mean.

Run with the environment in .suites: `.suites/bin/python tests/corpus/generate.py > .suites/corpus.jsonl`, then
`cargo test -p durward-aws --test corpus -- --ignored`. Nothing is sent: each request is caught before it leaves.
"""

import base64
import json
import sys
from datetime import datetime, timezone

import botocore.session
from botocore.config import Config

SERVICES = "s3 dynamodb sqs sns secretsmanager ssm sts iam ec2 lambda kms logs cloudwatch".split()
ACCOUNT = "111122223333"
ANY = {"$any": True}
VALUES = {
    "Bucket": "example-bucket",
    "Key": "dir/a b+c&d?e=\u00fc.txt",
    "CopySource": "other-bucket/dir/a b.txt",
    "RenameSource": "dir/old.txt",
    "QueueUrl": f"https://sqs.us-east-1.amazonaws.com/{ACCOUNT}/jobs",
    "Statement": "SELECT * FROM \"Music\" WHERE a = 'b'",
    "AccountId": ACCOUNT,
}


class Caught(Exception):
    pass


def build(shape, full, name="", depth=0, seen=()):
    """A value for boto and the value the gateway must read."""
    kind = shape.type_name
    if kind == "structure":
        sent, meant = {}, {}
        members = shape.members
        required = set(shape.required_members)
        if getattr(shape, "is_tagged_union", False) or shape.name == "TransactWriteItem":
            members = dict(list(members.items())[:1])
            required = set(members)
        for member, inner in members.items():
            wanted = member in required or (full and depth < 3 and inner.name not in seen)
            if not wanted:
                continue
            built = build(inner, full, member, depth + 1, (*seen, shape.name))
            if built is not None:
                sent[member], meant[member] = built
        return sent, meant
    if kind == "list":
        if shape.member.name in seen:
            return [], []
        built = build(shape.member, full, name, depth + 1, seen)
        return ([built[0]], [built[1]]) if built else ([], [])
    if kind == "map":
        if shape.value.name in seen:
            return {}, {}
        key = shape.key.enum[0] if shape.key.enum else "some-key"
        built = build(shape.value, full, name, depth + 1, seen)
        return ({key: built[0]}, {key: built[1]}) if built else ({}, {})
    if kind == "string":
        text = VALUES.get(name) if depth <= 1 or name in ("Statement", "Key") else None
        if text is None:
            text = shape.enum[0] if shape.enum else ("arn:aws:iam::111122223333:role/x" if name.endswith("Arn") else f"v{depth}-{name[:20]}")
        if name in ("CopySource", "RenameSource", "UserData") and depth == 1:
            return text, ANY  # botocore encodes it
        if shape.serialization.get("jsonvalue"):
            return {"a": 1}, ANY
        return text, text
    if kind == "blob":
        if getattr(shape, "is_streaming", False) or shape.serialization.get("streaming"):
            return b"stream", ANY
        return b"bytes", base64.b64encode(b"bytes").decode()
    if kind == "boolean":
        return True, True
    if kind in ("integer", "long"):
        return 3, 3
    if kind in ("float", "double"):
        return 1.5, 1.5
    if kind == "timestamp":
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), ANY
    return None


def catch(request, **_):
    raise Caught(request)


def scope(request, otherwise):
    """The service in the credential scope; unsigned requests have none."""
    header = request.headers.get("Authorization", b"")
    header = header.decode() if isinstance(header, bytes) else header
    return header.split("Credential=")[1].split("/")[3] if "Credential=" in header else otherwise


def main():
    session = botocore.session.get_session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    failures = 0
    for service in SERVICES:
        client = session.create_client(
            service,
            region_name="us-east-1",
            endpoint_url="http://127.0.0.1:1",
            config=Config(parameter_validation=False, retries={"max_attempts": 0}, inject_host_prefix=False),
        )
        client.meta.events.register("before-send", catch)
        for operation in client.meta.service_model.operation_names:
            model = client.meta.service_model.operation_model(operation)
            for full in (False, True):
                sent, meant = build(model.input_shape, full) if model.input_shape else ({}, {})
                try:
                    client._make_api_call(operation, sent)
                except Caught as caught:
                    request = caught.args[0]
                except Exception as error:  # a value this generator chose does not fit a rule of botocore
                    failures += 1
                    print(f"{service}.{operation}: {error!r}"[:200], file=sys.stderr)
                    continue
                else:
                    continue
                path, _, query = request.url.split("127.0.0.1:1", 1)[1].partition("?")
                body = request.body
                if hasattr(body, "read"):
                    body = body.read()
                if isinstance(body, str):
                    body = body.encode()
                headers = {k: v.decode() if isinstance(v, bytes) else str(v) for k, v in request.headers.items()}
                print(
                    json.dumps(
                        {
                            "service": service,
                            "signing": scope(request, client.meta.service_model.signing_name),
                            "operation": operation,
                            "full": full,
                            "method": request.method,
                            "path": path or "/",
                            "query": query,
                            "headers": headers,
                            "body": base64.b64encode(bytes(body or b"")).decode(),
                            "meant": meant,
                        }
                    )
                )
    print(f"{failures} requests could not be made", file=sys.stderr)


if __name__ == "__main__":
    main()
