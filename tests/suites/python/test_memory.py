"""Promise 6: a 2 GiB upload passes in constant memory, whole and unchanged, whether its body is unsigned or signed chunk by chunk."""

import datetime
import hashlib
import hmac
import http.client
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import botocore
import botocore.config
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from conftest import REGION
from test_gateway import TestGateway

pytestmark = [pytest.mark.gateway, pytest.mark.ministack]
GIB = 1 << 30
PIECE = bytes(range(256)) * 256  # 64 KiB
ALLOWED = 32 << 20

STS_RESPONSE = b"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY</SecretAccessKey>
<SessionToken>sink</SessionToken><Expiration>%s</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::000000000000:assumed-role/suite/x</Arn>
<AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser></AssumeRoleResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>"""


class Sink(BaseHTTPRequestHandler):
    """Issues a credential to every caller, discards uploads, and remembers their size and hash."""

    protocol_version = "HTTP/1.1"
    swallowed = None

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=int(form["DurationSeconds"][0]))
        self.respond(STS_RESPONSE % soon.strftime("%Y-%m-%dT%H:%M:%SZ").encode(), "text/xml")

    def do_PUT(self):
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        size, digest = 0, hashlib.sha256()
        for piece in self.body():
            size += len(piece)
            digest.update(piece)
        type(self).swallowed = size, digest.hexdigest()
        self.respond(b"", "application/xml")

    def body(self):
        """The payload without transfer coding and aws-chunked framing."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = unchunk(self.rfile)
        else:
            pieces = exactly(self.rfile, int(self.headers["Content-Length"]))
        framed = "aws-chunked" in (self.headers.get("Content-Encoding") or "")
        return unchunk(Pieces(pieces)) if framed else pieces

    def respond(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def exactly(source, left):
    while left:
        piece = source.read(min(left, 1 << 20))
        if not piece:
            return
        left -= len(piece)
        yield piece


def unchunk(source):
    """The content of `size[;extension] CRLF content CRLF` chunks, the last of size 0, trailers after it skipped."""
    while True:
        head = source.readline().split(b";")[0].strip()
        if not head:
            continue
        if int(head, 16) == 0:
            while source.readline().strip():
                pass
            return
        yield from exactly(source, int(head, 16))


class Pieces:
    """An iterator of pieces, read like a file."""

    def __init__(self, pieces):
        self.pieces, self.kept = pieces, b""

    def read(self, size):
        if not self.kept:
            self.kept = next(self.pieces, b"")
        piece, self.kept = self.kept[:size], self.kept[size:]
        return piece

    def readline(self):
        line = b""
        while not line.endswith(b"\n"):
            piece = self.read(1 << 20)
            if not piece:
                break
            cut = piece.find(b"\n") + 1 or len(piece)
            line, self.kept = line + piece[:cut], piece[cut:] + self.kept
        return line


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with TestGateway("ministack", tmp_path_factory.mktemp("sink") / "gateway", upstream_port=server.server_address[1]) as made:
        yield made
    server.shutdown()


@pytest.fixture(scope="module")
def credentials(gateway):
    sts = boto3.client(
        "sts", endpoint_url=gateway.gateway_url, region_name=REGION,
        config=botocore.config.Config(signature_version=botocore.UNSIGNED),
    )
    got = sts.assume_role_with_web_identity(
        RoleArn=gateway.role_arn, RoleSessionName="big", WebIdentityToken=gateway.token_file("agent").read_text()
    )["Credentials"]
    return botocore.credentials.Credentials(got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"])


def memory(process, field):
    """A field of the process's status in bytes: VmRSS now, VmHWM at its highest."""
    for line in open(f"/proc/{process.child.pid}/status", encoding="ascii"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise KeyError(field)


def forget_high_water(process):
    with open(f"/proc/{process.child.pid}/clear_refs", "w", encoding="ascii") as control:
        control.write("5")


def upload(gateway, credentials, key, size, headers, frame):
    """PUTs `size` bytes signed with `headers`; `frame` turns (signature, piece) into what goes on the wire."""
    request = AWSRequest("PUT", f"{gateway.gateway_url}/big/{key}", headers=headers)
    signer = S3SigV4Auth(credentials, "s3", REGION)
    signer.payload = lambda _request: headers["X-Amz-Content-SHA256"]
    signer.add_auth(request)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.gateway_port, timeout=300)
    connection.putrequest("PUT", f"/big/{key}", skip_accept_encoding=True)
    for name, value in request.headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    digest = hashlib.sha256()
    previous = request.headers["Authorization"].rsplit("Signature=", 1)[1]
    for _ in range(size // len(PIECE)):
        digest.update(PIECE)
        wire, previous = frame(previous, PIECE, request)
        connection.send(wire)
    wire, _ = frame(previous, b"", request)
    connection.send(wire)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    return digest.hexdigest()


def plain(previous, piece, _request):
    return piece, previous


def chunk_signer(credentials):
    """Signs chunks as STREAMING-AWS4-HMAC-SHA256-PAYLOAD asks for."""

    def sign(key, text):
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    empty = hashlib.sha256(b"").hexdigest()

    def frame(previous, piece, request):
        stamp = request.context["timestamp"]
        key = sign(sign(sign(sign(f"AWS4{credentials.secret_key}".encode(), stamp[:8]), REGION), "s3"), "aws4_request")
        scope = f"{stamp[:8]}/{REGION}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{previous}\n{empty}\n{hashlib.sha256(piece).hexdigest()}"
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return f"{len(piece):x};chunk-signature={signature}\r\n".encode() + piece + b"\r\n", signature

    return frame


def grown(gateway, credentials, key, size, headers, frame):
    """Uploads and returns by how much the gateway's memory rose at its highest."""
    upload(gateway, credentials, "warm-" + key, len(PIECE) * 16, headers(len(PIECE) * 16), frame)
    forget_high_water(gateway.gateway_process)
    before = memory(gateway.gateway_process, "VmRSS")
    digest = upload(gateway, credentials, key, size, headers(size), frame)
    assert Sink.swallowed == (size, digest)
    return memory(gateway.gateway_process, "VmHWM") - before


def test_unsigned_payload_of_two_gib(gateway, credentials):
    headers = lambda size: {"Content-Length": str(size), "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    rose = grown(gateway, credentials, "unsigned", 2 * GIB, headers, plain)
    assert rose < ALLOWED, f"the gateway's memory rose by {rose >> 20} MiB"


def test_signed_chunks_of_half_a_gib(gateway, credentials):
    framing = len(f"{len(PIECE):x};chunk-signature={'0' * 64}\r\n\r\n")

    def headers(size):
        wire = size + size // len(PIECE) * framing + len(f"0;chunk-signature={'0' * 64}\r\n\r\n")
        return {
            "Content-Length": str(wire), "Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": str(size),
            "X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        }

    rose = grown(gateway, credentials, "signed", GIB // 2, headers, chunk_signer(credentials))
    assert rose < ALLOWED, f"the gateway's memory rose by {rose >> 20} MiB"
