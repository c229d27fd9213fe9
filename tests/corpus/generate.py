"""Writes every operation of every service as botocore serialises and signs it, as JSON lines with what each request means.

    cargo xtask test --only corpus      # makes it, once for each version of this file and of the pins, and judges the decoder by it

The environment is the suites' client one (tests/suites/python/requirements.txt pins botocore). Nothing is sent: each request is caught
before it leaves. A line is one operation with one set of parameters (required only, or all members) and the requests it gives:

- `ip`, `localhost`: AWS_ENDPOINT_URL is an address or a name; `real`: AWS's own hosts, with virtual-host buckets and host prefixes;
- `query`, `smithy-rpc-v2-cbor`, ...: the protocols a service speaks beside the one botocore prefers.

Modes with the same bytes share one request. `meant` holds the parameters by their model names. Values whose wire form is free are
objects with one key: `$time` (seconds), `$blob` (base64), `$json` (base64 of JSON), `$url` (percent-encoded), `$streamed` (not read by the gateway).
"""

import argparse
import base64
import copy
import json
import multiprocessing
import os
import sys
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.awsrequest import AWSResponse
from botocore.serialize import SERIALIZERS
from botocore.utils import is_json_value_header

ACCOUNT = "111122223333"
REGION = "us-east-1"
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc)
ENDPOINTS = {"ip": "http://127.0.0.1:1", "localhost": "http://localhost:1", "real": None}
# Beyond this depth only required members are built: every member of every structure would be megabytes for some services.
DEEPEST = 4
# Read by the verifier, or new in every request; never by the decoder.
DROPPED = {"authorization", "x-amz-date", "x-amz-security-token", "user-agent", "amz-sdk-invocation-id", "amz-sdk-request"}
DISCOVERED = {"Endpoints": [{"Address": f"query-cell1.timestream.{REGION}.amazonaws.com", "CachePeriodInMinutes": 60}]}
# Values by member name where a made-up text would not be taken by botocore or means something to the service.
VALUES = {
    "Bucket": "example-bucket",
    "Key": "dir/a b+c&d?e=\u00fc.txt",
    "AccountId": ACCOUNT,
    "AwsAccountId": ACCOUNT,
    "accountId": ACCOUNT,
    "QueueUrl": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/jobs",
    "Statement": "SELECT * FROM \"Music\" WHERE a = 'b'",
    "KvsARN": f"arn:aws:cloudfront::{ACCOUNT}:key-value-store/8b6f1c1e-0000-4000-8000-000000000000",
    "OutpostId": "op-01ac5d28a6a232904",
    "PredictEndpoint": f"https://realtime.machinelearning.{REGION}.amazonaws.com",
}
COPIES = {"CopySource": "other-bucket/dir/a b.txt", "RenameSource": "dir/old.txt"}
# A member's value for one service.
OWN_VALUES = {
    ("cloudfront-keyvaluestore", "Key"): "key-1",
    ("bedrock-agentcore", "contentType"): "application/json",
    ("kinesis", "ChannelARN"): f"arn:aws:kinesis:{REGION}:{ACCOUNT}:channel/c1",
    ("kinesis", "QueueARN"): f"arn:aws:kinesis:{REGION}:{ACCOUNT}:queue/q1",
    ("iot", "principal"): f"arn:aws:iot:{REGION}:{ACCOUNT}:cert/c1",
    ("iot", "target"): f"arn:aws:iot:{REGION}:{ACCOUNT}:thinggroup/g1",
    ("lambda", "Resource"): f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f1",
    ("rds", "ResourceName"): f"arn:aws:rds:{REGION}:{ACCOUNT}:db:d1",
    ("docdb", "ResourceName"): f"arn:aws:rds:{REGION}:{ACCOUNT}:db:d1",
    ("neptune", "ResourceName"): f"arn:aws:rds:{REGION}:{ACCOUNT}:db:d1",
}
# Members botocore takes for itself: it signs with SigV4a (for which it needs the CRT), or makes a nested presigned URL.
LEFT_OUT = {
    ("events", "EndpointId"), ("rds", "SourceRegion"), ("docdb", "SourceRegion"), ("neptune", "SourceRegion"),
}


class Caught(Exception):
    """Holds the request that was about to leave."""


def build(service, shape, full, name="", depth=0, seen=()):
    """A value for boto and the value the gateway must read; None when there is none to give."""
    kind = shape.type_name
    if kind == "structure":
        return structure(service, shape, full, depth, seen)
    if kind == "list":
        if shape.member.name in seen:
            return [], []
        built = build(service, shape.member, full, name, depth + 1, seen)
        return ([built[0]], [built[1]]) if built else ([], [])
    if kind == "map":
        if shape.value.name in seen:
            return {}, {}
        key = shape.key.enum[0] if shape.key.enum else "some-key"
        built = build(service, shape.value, full, name, depth + 1, seen)
        return ({key: built[0]}, {key: built[1]}) if built else ({}, {})
    if kind in ("string", "character"):
        return text(service, shape, name, depth)
    if kind == "blob":
        if shape.serialization.get("streaming"):
            return b"stream", {"$streamed": True}
        return b"bytes", {"$blob": base64.b64encode(b"bytes").decode()}
    if kind == "boolean":
        return True, True
    if kind in ("integer", "long"):
        return 3, 3
    if kind in ("float", "double"):
        return 1.5, 1.5
    if kind == "timestamp":
        return NOON, {"$time": int(NOON.timestamp())}
    raise ValueError(f"shape {shape.name} has the unknown type {kind}")


def structure(service, shape, full, depth, seen):
    if getattr(shape, "is_document_type", False):
        document = {"a": [1, "two", {"three": True}]}
        return document, document
    if shape.serialization.get("eventstream"):
        return None
    members = shape.members
    required = set(shape.required_members)
    # One member of a union; a transaction item is one in all but name.
    if getattr(shape, "is_tagged_union", False) or shape.name == "TransactWriteItem":
        members = dict(list(members.items())[:1])
        required = set(members)
    sent, meant = {}, {}
    for member, inner in members.items():
        wanted = member in required or inner.metadata.get("idempotencyToken") or (
            full and depth < DEEPEST and inner.name not in seen and (service, member) not in LEFT_OUT
        )
        if not wanted:
            continue
        built = build(service, inner, full, member, depth + 1, (*seen, shape.name))
        if built is not None:
            sent[member], meant[member] = built
    return sent, meant


def text(service, shape, name, depth):
    if is_json_value_header(shape):
        return {"a": 1}, {"$json": {"a": 1}}
    if name in COPIES and depth == 1:
        return COPIES[name], {"$url": COPIES[name]}
    value = OWN_VALUES.get((service, name))
    if value is None and (depth <= 1 or name in ("Statement", "Key")):
        value = VALUES.get(name)
    if value is None:
        if shape.enum:
            value = shape.enum[0]
        elif name.lower().endswith(("arn", "arns")) or shape.metadata.get("pattern", "").lstrip("^").startswith("arn:"):
            value = f"arn:aws:{service}:{REGION}:{ACCOUNT}:stream/v{depth}"
        else:
            value = f"v{depth}-{name[:20]}"
    if name == "UserData" and depth == 1:  # botocore encodes it
        return value, base64.b64encode(value.encode()).decode()
    return value, value


class Body:
    def __init__(self, data):
        self.data = data

    def stream(self):
        yield self.data


def scope(request, otherwise):
    """The service in the credential scope; requests that are not signed have none."""
    header = request.headers.get("Authorization", b"")
    header = header.decode() if isinstance(header, bytes) else header
    return header.split("Credential=")[1].split("/")[3] if "Credential=" in header else otherwise


def wire(request, signing_name):
    """A caught request as the decoder is given it."""
    url = urlsplit(request.url)
    body = request.body
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, str):
        body = body.encode()
    headers = {}
    for key, value in request.headers.items():
        if key.lower() not in DROPPED:
            headers[key.lower()] = value.decode() if isinstance(value, bytes) else str(value)
    caught = {
        "signing": scope(request, signing_name),
        "method": request.method,
        "path": url.path or "/",
        "query": url.query,
        "headers": headers,
        "body": base64.b64encode(bytes(body or b"")).decode(),
    }
    if url.hostname.endswith(".amazonaws.com"):
        headers["host"] = url.hostname
    bucket, _, rest = url.hostname.partition(".")
    if rest.startswith("s3.") and rest.endswith("amazonaws.com"):
        caught["bucket"] = bucket
    return caught


class Clients:
    """Clients of one service, one for each mode, made when first needed."""

    def __init__(self, session, service):
        self.session, self.service, self.made = session, service, {}
        self.wanted = None

    def catch(self, request, event_name, **_):
        """Catches the request; the endpoint discovery that goes before some is answered."""
        if not event_name.endswith(f".{self.wanted}"):
            return AWSResponse(request.url, 200, {}, Body(json.dumps(DISCOVERED).encode()))
        raise Caught(request)

    def get(self, mode, signed=True):
        if (mode, signed) not in self.made:
            loader = self.session.get_component("data_loader")
            loader.forced = mode if mode not in ENDPOINTS else None
            config = Config(
                parameter_validation=False,
                retries={"max_attempts": 0},
                inject_host_prefix=mode in ("localhost", "real"),
                signature_version=None if signed else UNSIGNED,
            )
            client = self.session.create_client(
                self.service, region_name=REGION, endpoint_url=ENDPOINTS.get(mode, ENDPOINTS["ip"]), config=config
            )
            client.meta.events.register("before-send", self.catch)
            self.made[mode, signed] = client
        return self.made[mode, signed]

    def request(self, mode, operation, sent):
        """The request, or the error of botocore. What needs another scheme than SigV4 is serialised unsigned."""
        error, self.wanted = None, operation
        for signed in (True, False):
            client = self.get(mode, signed)
            try:
                client._make_api_call(operation, copy.deepcopy(sent))
            except Caught as caught:
                return wire(caught.args[0], client.meta.service_model.signing_name), None
            except Exception as failed:  # a rule of botocore that a made-up value does not meet
                error = error or f"{type(failed).__name__}: {failed}"
        return None, error


def session():
    made = botocore.session.Session()
    made.set_credentials("AKIDEXAMPLE", "secret")
    loader = made.get_component("data_loader")
    load, loader.forced = loader.load_service_model, None

    def forced(service, kind, api_version=None):
        model = load(service, kind, api_version)
        if kind == "service-2" and loader.forced:
            model = {**model, "metadata": {**model["metadata"], "protocol": loader.forced, "protocols": [loader.forced]}}
        return model

    loader.load_service_model = forced
    return made


def cases(service):
    """The lines of one service, and what could not be made."""
    made = session()
    clients = Clients(made, service)
    model = clients.get("ip").meta.service_model
    others = [
        other for other in model.metadata.get("protocols", []) if other != model.resolved_protocol and other in SERIALIZERS
    ]
    lines, failures = [], []
    for operation in model.operation_names:
        shape = model.operation_model(operation).input_shape
        for full in (False, True):
            sent, meant = build(service, shape, full) if shape else ({}, {})
            requests = []
            for mode in (*ENDPOINTS, *others):
                request, error = clients.request(mode, operation, sent)
                if request is None:
                    failures.append(f"{service}:{operation} full={full} {mode}: {error}"[:200])
                    continue
                same = next((one for one in requests if {**one, "modes": 0} == {**request, "modes": 0}), None)
                if same:
                    same["modes"].append(mode)
                else:
                    requests.append({**request, "modes": [mode]})
            line = {"service": service, "operation": operation, "full": full, "meant": meant, "requests": requests}
            lines.append(json.dumps(line, separators=(",", ":")))
    return lines, failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="service names, separated by commas")
    parser.add_argument("--into", type=Path, help="the file to write, whole or not at all; default: standard output")
    arguments = parser.parse_args()
    wanted = arguments.only
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    services = wanted.split(",") if wanted else botocore.session.Session().get_available_services()
    failed = 0
    part = arguments.into.with_suffix(".part") if arguments.into else None
    with part.open("w") if part else nullcontext(sys.stdout) as out, multiprocessing.Pool(os.cpu_count()) as pool:
        for lines, failures in pool.imap(cases, services):
            out.writelines(f"{line}\n" for line in lines)
            for failure in failures:
                print(failure, file=sys.stderr)
            failed += len(failures)
    if part:
        part.replace(arguments.into)
    print(f"{len(services)} services; {failed} requests that botocore would not make", file=sys.stderr)


if __name__ == "__main__":
    main()
