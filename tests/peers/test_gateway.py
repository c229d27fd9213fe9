"""The test gateway of the real-client suites: issuer, emulator, recorder and gateway, each a process on a free loopback port.

`TestGateway` is used by the Python suite where a test needs a gateway of its own; the command runs any suite inside one:

    test_gateway.py --kind ministack|moto [--direct] -- COMMAND...

The command's environment is the way an SDK is configured on EKS (token file, role, endpoint), plus DW_* for what a test may want to read:

    DW_KIND          ministack or moto
    DW_GATEWAY_URL   the gateway's AWS front end; absent with --direct
    DW_DIRECT_URL    the emulator itself
    DW_ROLE_ARN      the role the callers sign in to
    DW_TOKEN_FILE    token of the caller `agent`
    DW_TOKEN_SRE     token of the caller `sre`, who may reveal and destroy
    DW_TEST_DIRECTORY  the test gateway's directory: tokens, issuer keys, gateway configuration, data and logs, recording

Environments come from DURWARD_SUITES (default: .suites in the clone), the gateway from DURWARD_BIN. Nothing outlives the command.
"""

import argparse
import datetime
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
import botocore.config
import issuer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = Path(__file__).resolve().parent
CLONE = HERE.parent.parent
SUITES = Path(os.environ.get("DURWARD_SUITES", CLONE / ".suites"))
REGION = "us-east-1"
# The gateway's DNS name, which no resolver knows: a test that uses it brings its own resolver.
GATEWAY_NAME = "aws.gw.test"
ACCOUNT = {"ministack": "000000000000", "moto": "123456789012"}
CALLERS = {"agent": ["agents"], "sre": ["agents", "sre"], "reader": ["readers"], "nobody": []}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


class Process:
    """A child with its log; ready when it listens on `port`, stopped with the test gateway."""

    def __init__(self, name, command, directory, port, env=None, patience=60):
        self.log = Path(directory) / f"{name}.log"
        self.port = port
        with self.log.open("ab") as out:
            self.child = subprocess.Popen(
                [str(part) for part in command], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                env=env, cwd=directory, start_new_session=True,
            )
        deadline = time.monotonic() + patience
        while not listens(port):
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} did not start on port {port} (exit {self.child.poll()}):\n{tail}")
            time.sleep(0.05)

    def stop(self, how=signal.SIGTERM):
        if self.child.poll() is None:
            os.killpg(self.child.pid, how)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.child.pid, signal.SIGKILL)
                self.child.wait(10)


def clean_environment(**additions):
    """This process's environment without anything an AWS SDK or the gateway would read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DW_"))}
    kept |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return kept | {name: str(value) for name, value in additions.items()}


class TestGateway:
    """One issuer, one emulator, one recorder before it, one gateway before that."""

    # Test modules import this class: pytest must not collect it.
    __test__ = False
    callers = CALLERS
    policies = HERE / "policies"

    def __init__(self, kind, directory=None, with_gateway=True, upstream_port=None, tls=False):
        self.kind = kind
        self.tls = tls
        self.directory = Path(directory or tempfile.mkdtemp(prefix="durward-gateway-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self.processes = []
        self.gateway_process = None
        self.gateway_port = None
        # The gateway's own key: a canary that no log, journal or response may hold.
        self.base = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        try:
            self.start_emulator() if upstream_port is None else self.use_upstream(upstream_port)
            if with_gateway:
                self.start_issuer()
                self.recorder_port = free_port()
                self.start(
                    "recorder",
                    [sys.executable, HERE / "recorder.py", self.recording, self.recorder_port, self.emulator_port],
                    self.recorder_port,
                )
                self.start_gateway()
        except BaseException:
            self.close()
            raise

    def start(self, name, command, port, env=None):
        process = Process(name, command, self.directory, port, env or clean_environment())
        self.processes.append(process)
        return process

    @property
    def recording(self):
        return self.directory / "recording"

    @property
    def account(self):
        return ACCOUNT[self.kind]

    @property
    def role_arn(self):
        return f"arn:aws:iam::{self.account}:role/suite"

    @property
    def direct_url(self):
        return f"http://127.0.0.1:{self.emulator_port}"

    @property
    def gateway_url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.gateway_port}"

    @property
    def journal(self):
        return self.directory / "data" / "journal"

    def use_upstream(self, port):
        self.emulator_port = port

    def start_emulator(self):
        self.emulator_port = free_port()
        if self.kind == "ministack":
            env = clean_environment(
                BIND_HOST="127.0.0.1", AUTH="true", GATEWAY_PORT=self.emulator_port, LOG_LEVEL="WARNING"
            )
            self.start("ministack", [SUITES / "ministack/bin/ministack"], self.emulator_port, env)
            self.make_base_identity()
        else:
            command = [SUITES / "moto/bin/moto_server", "-H", "127.0.0.1", "-p", self.emulator_port]
            self.start("moto", command, self.emulator_port, clean_environment())

    def make_base_identity(self):
        """A user that may only assume the role, and the role that may do everything: what the role grants, session policies must narrow."""
        iam = self.root("iam")
        trust = {
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{self.account}:root"},
                "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
            }],
        }
        allow = lambda actions, resource: json.dumps({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}],
        })
        iam.create_role(RoleName="suite", AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName="suite", PolicyName="all", PolicyDocument=allow("*", "*"))
        iam.create_user(UserName="durward")
        iam.put_user_policy(
            UserName="durward", PolicyName="issue",
            PolicyDocument=allow(["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"], self.role_arn),
        )
        key = iam.create_access_key(UserName="durward")["AccessKey"]
        self.base = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def root(self, service):
        """A client of the emulator itself, as its root."""
        return boto3.session.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION
        ).client(service, endpoint_url=self.direct_url, config=botocore.config.Config(
            s3={"addressing_style": "path"}, ignore_configured_endpoint_urls=True
        ))

    def start_issuer(self):
        port = free_port()
        self.issuer_url = f"http://127.0.0.1:{port}"
        self.start("issuer", [sys.executable, HERE / "issuer.py", "serve", self.directory / "issuer", port], port)
        for caller in self.callers:
            self.renew_token(caller)

    def tls_configuration(self):
        """A certificate of the gateway's own for its address, its name and the buckets below it; clients trust it as it is."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "durward suite")])
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName(GATEWAY_NAME), x509.DNSName(f"*.{GATEWAY_NAME}"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        (self.directory / "tls.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.directory / "tls.key").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))
        return '[listen.tls]\ncertificate_file = "tls.pem"\nkey_file = "tls.key"\n'

    def configuration(self):
        return f"""\
data_dir = "{self.directory}/data"

[listen]
aws = "127.0.0.1:{self.gateway_port}"
aws_hostnames = ["{GATEWAY_NAME}"]
{self.tls_configuration() if self.tls else ""}
[policy]
dir = "{self.policies}"

[[identity.oidc]]
name = "dev"
issuer = "{self.issuer_url}"
audience = ["{issuer.AUDIENCE}"]
groups_claim = "groups"
kind = "workload"

[aws]
emulator_url = "http://127.0.0.1:{self.recorder_port}"

[[aws.connection]]
name = "suite"
role_arn = "{self.role_arn}"
scope = "operation"
"""

    def start_gateway(self):
        binary = os.environ.get("DURWARD_BIN")
        if not binary:
            raise RuntimeError("DURWARD_BIN names no gateway; build one and set it, or pass --direct")
        self.gateway_port = self.gateway_port or free_port()
        self.config = self.directory / "durward.toml"
        self.config.write_text(self.configuration())
        (self.directory / "base-secret").write_text(self.base["AWS_SECRET_ACCESS_KEY"])
        env = clean_environment(AWS_REGION=REGION, DURWARD_LOG="debug", **self.base)
        self.gateway_process = self.start("gateway", [binary, "serve", "--config", self.config], self.gateway_port, env)

    def restart_gateway(self, how=signal.SIGTERM):
        self.gateway_process.stop(how)
        self.processes.remove(self.gateway_process)
        self.start_gateway()

    def renew_token(self, caller):
        """Writes a token that is issued now into the caller's file."""
        token = issuer.mint(self.directory / "issuer", caller, self.callers[caller])
        # the newline is what an editor or `echo` leaves: SDKs send it along
        (self.directory / f"{caller}.jwt").write_text(token + "\n")

    def token_file(self, caller):
        return self.directory / f"{caller}.jwt"

    def environment(self):
        """What a suite's command gets."""
        common = {
            "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION, "DW_KIND": self.kind, "DW_DIRECT_URL": self.direct_url,
            "DW_ROLE_ARN": self.role_arn, "DW_TEST_DIRECTORY": self.directory,
        }
        if not self.gateway_process:
            return clean_environment(
                AWS_ENDPOINT_URL=self.direct_url, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", **common
            )
        return clean_environment(
            AWS_ENDPOINT_URL=self.gateway_url,
            # the Go SDK's sign-in does not look at AWS_ENDPOINT_URL, only at the service's own
            AWS_ENDPOINT_URL_STS=self.gateway_url,
            AWS_WEB_IDENTITY_TOKEN_FILE=self.token_file("agent"),
            AWS_ROLE_ARN=self.role_arn,
            AWS_ROLE_SESSION_NAME="suite",
            DW_GATEWAY_URL=self.gateway_url,
            DW_TOKEN_FILE=self.token_file("agent"),
            DW_TOKEN_SRE=self.token_file("sre"),
            **common,
        )

    def close(self):
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def main():
    parser = argparse.ArgumentParser(description="runs a command with a test gateway of emulator, issuer and gateway")
    parser.add_argument("--kind", choices=sorted(ACCOUNT), required=True)
    parser.add_argument("--direct", action="store_true", help="no gateway: the command talks to the emulator")
    parser.add_argument("--keep", help="directory to keep the gateway's files in")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    gateway = TestGateway(arguments.kind, arguments.keep, with_gateway=not arguments.direct)
    with gateway:
        code = subprocess.run(arguments.command, env=gateway.environment(), check=False).returncode
        if code != 0 and gateway.gateway_process:
            print(f"--- the gateway's last words ({gateway.gateway_process.log})", file=sys.stderr)
            print(gateway.gateway_process.log.read_text(errors="replace")[-3000:], file=sys.stderr)
    if code == 0 and not arguments.keep:
        shutil.rmtree(gateway.directory, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
