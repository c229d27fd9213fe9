"""Requests that two HTTP parsers may read differently: each is refused, and nothing of it reaches the upstream.

Every request is signed correctly, so that only the gateway's strictness about framing stands between the hidden request and the upstream."""

import hashlib
import socket
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

import recording
from conftest import GATEWAY_URL, REGION, TEST_DIRECTORY

pytestmark = pytest.mark.gateway
CANARY = "smuggled-canary"
HIDDEN = f"GET /{CANARY}/x HTTP/1.1\r\nHost: upstream\r\n\r\n"


def chunked(body):
    return f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"


# name -> (extra header lines after the signed ones, body); {n} is the true length of the body
CORPUS = {
    "TE.TE": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunked(HIDDEN)),
    "TE vertical tab": ("Transfer-Encoding: \x0bchunked\r\n", chunked(HIDDEN)),
    "TE xchunked": ("Transfer-Encoding: xchunked\r\n", chunked(HIDDEN)),
    "TE chunked, identity": ("Transfer-Encoding: chunked, identity\r\n", chunked(HIDDEN)),
    "TE quoted": ('Transfer-Encoding: "chunked"\r\n', chunked(HIDDEN)),
    "TE with space before colon": ("Transfer-Encoding : chunked\r\n", chunked(HIDDEN)),
    "TE after obs-fold": ("X-Fold: a\r\n Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n", "0\r\n\r\n" + HIDDEN),
    "folded TE": ("Transfer-Encoding:\r\n chunked\r\n", chunked(HIDDEN)),
    "two lengths": ("Content-Length: 0\r\nContent-Length: {n}\r\n", HIDDEN),
    "length list": ("Content-Length: 0, {n}\r\n", HIDDEN),
    "length with plus": ("Content-Length: +{n}\r\n", HIDDEN),
    "length with minus": ("Content-Length: -{n}\r\n", HIDDEN),
    "hex length": ("Content-Length: 0x10\r\n", HIDDEN),
    "length with space inside": ("Content-Length: 1 0\r\n", HIDDEN),
    "huge length": ("Content-Length: 99999999999999999999999\r\n", HIDDEN),
    "empty length": ("Content-Length:\r\n", HIDDEN),
    "NUL in a value": ("X-Null: a\0b\r\nContent-Length: {n}\r\n", HIDDEN),
    "bare CR in a value": (f"X-Bare: a\rGET /{CANARY} HTTP/1.1\r\nContent-Length: 0\r\n", ""),
    "bare LF in a value": (f"X-Bare: a\nX-Amz-Acl: public-read\r\nX-{CANARY}: 1\r\nContent-Length: 0\r\n", ""),
    "no colon": (f"{CANARY}\r\nContent-Length: 0\r\n", ""),
    "space in a name": (f"X {CANARY}: 1\r\nContent-Length: 0\r\n", ""),
    "two hosts": (f"Host: {CANARY}\r\nContent-Length: 0\r\n", ""),
    "upgrade to h2c": (f"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nX-{CANARY}: 1\r\nContent-Length: 0\r\n", ""),
    "unsigned x-amz header": (f"X-Amz-Acl: public-read\r\nX-Amz-Meta-{CANARY}: 1\r\nContent-Length: 0\r\n", ""),
}

# The length must not count: RFC 9112 section 6.3, and the two are never passed on together.
BOTH = {
    "CL.TE": ("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n" + HIDDEN),
    "TE.CL": ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", chunked(HIDDEN)),
    "TE with tab": ("Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n", chunked(HIDDEN)),
}
# The head is in order, so that the upload has begun by the time its body turns out not to be.
BROKEN_BODIES = {
    "chunk size with plus": ("Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk size with underscore": ("Transfer-Encoding: chunked\r\n", "0_5\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk size overflow": ("Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk with bare LF": ("Transfer-Encoding: chunked\r\n", "5\nhello\n0\n\n" + HIDDEN),
    "chunk extension with LF": ("Transfer-Encoding: chunked\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n" + HIDDEN),
    "chunk longer than said": ("Transfer-Encoding: chunked\r\n", "5\r\nhelloXX\r\n0\r\n\r\n" + HIDDEN),
    "trailer Content-Length": ("Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n", "0\r\nContent-Length: 50\r\n\r\n" + HIDDEN),
}


def signed_head(credentials, path, payload, ahead=timedelta()):
    """Request line and signed headers of a PUT, without what frames the body and without the closing empty line. `ahead`: of the clock."""
    request = AWSRequest("PUT", GATEWAY_URL + path)
    signer = S3SigV4Auth(credentials, "s3", REGION)
    signer.payload = lambda _request: payload
    # `add_auth` of botocore, with a date of our own.
    request.context["timestamp"] = (datetime.now(UTC) + ahead).strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    lines = [f"PUT {path} HTTP/1.1", f"Host: {GATEWAY_URL.split('/')[2]}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()] + ["Connection: close"]
    return "\r\n".join(lines) + "\r\n"


def exchange(wire):
    """Sends the bytes and reads until the gateway closes the connection, or has been silent for two seconds."""
    host, port = GATEWAY_URL.split("/")[2].split(":")
    response = b""
    with socket.create_connection((host, int(port)), timeout=2) as connection:
        try:
            connection.sendall(wire)
            while piece := connection.recv(1 << 16):
                response += piece
        except (ConnectionError, TimeoutError):
            pass
    return response


@pytest.fixture(scope="module")
def credentials(sessions, client):
    client("s3").create_bucket(Bucket="dw-smuggling")
    return sessions("agent").get_credentials().get_frozen_credentials()


def test_control_is_accepted(credentials):
    """The same request with ordinary framing goes through: what follows is refused for its framing alone."""
    head = signed_head(credentials, "/dw-smuggling/control", hashlib.sha256(b"hello").hexdigest())
    assert exchange((head + "Content-Length: 5\r\n\r\nhello").encode()).startswith(b"HTTP/1.1 200")
    head = signed_head(credentials, "/dw-smuggling/control-chunked", "UNSIGNED-PAYLOAD")
    assert exchange((head + "Transfer-Encoding: chunked\r\n\r\n" + chunked("hello")).encode()).startswith(b"HTTP/1.1 200")


def send(credentials, corpus, kind):
    """Sends a case; gives the response and the place it was for."""
    lines, body = corpus[kind]
    place = "/dw-smuggling/" + kind.translate(str.maketrans(" ,", "--"))
    head = signed_head(credentials, place, "UNSIGNED-PAYLOAD")
    response = exchange((head + lines.replace("{n}", str(len(body))) + "\r\n" + body).encode("latin-1"))
    assert response.count(b"HTTP/1.") <= 1, "the gateway responded twice: it saw two requests"
    return response, place


@pytest.mark.parametrize("kind", CORPUS)
def test_ambiguous_request_is_refused(credentials, kind):
    response, place = send(credentials, CORPUS, kind)
    assert response == b"" or response.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 501")), response[:300]
    assert not recording.saw(TEST_DIRECTORY / "recording", place), "it reached the upstream"


@pytest.mark.parametrize("kind", BOTH)
def test_length_beside_chunked_is_refused_or_dropped(credentials, kind):
    response, place = send(credentials, BOTH, kind)
    assert response[9:12] in (b"200", b"400"), response[:300]
    for sent in (TEST_DIRECTORY / "recording").glob("*.sent"):
        for head, _body in recording.requests(sent.read_bytes()):
            if place.encode() in head:
                assert not (b"content-length:" in head.lower() and b"transfer-encoding:" in head.lower()), head


@pytest.mark.parametrize("kind", BROKEN_BODIES)
def test_broken_body_never_completes_upstream(credentials, direct, failure, kind):
    response, place = send(credentials, BROKEN_BODIES, kind)
    assert response == b"" or response.startswith(b"HTTP/1.1 4"), response[:300]
    assert failure(direct("s3").get_object, Bucket="dw-smuggling", Key=place.split("/")[2]).code == "NoSuchKey"


def test_header_named_by_connection_stays_behind(credentials):
    head = signed_head(credentials, "/dw-smuggling/hop", "UNSIGNED-PAYLOAD").replace("Connection: close", f"Connection: close, X-{CANARY}")
    exchange((head + f"X-{CANARY}: 1\r\nContent-Length: 0\r\n\r\n").encode())
    assert not recording.saw(TEST_DIRECTORY / "recording", f"x-{CANARY}")


@pytest.mark.parametrize("line", [
    "GET http://169.254.169.254/latest/meta-data HTTP/1.1", f"GET http://{CANARY}/ HTTP/1.1", f"CONNECT {CANARY}:443 HTTP/1.1",
    "GET /\x01 HTTP/1.1", "GET / HTTP/1.1 HTTP/1.1", "GET\t/\tHTTP/1.1", "GET / HTTP/2.5", "PRI * HTTP/2.0", "TRACE / HTTP/1.1", "GET *", "",
])
def test_odd_request_line_is_refused(line):
    response = exchange(f"{line}\r\nHost: {GATEWAY_URL.split('/')[2]}\r\n\r\n".encode("latin-1"))
    assert response == b"" or response[9:10] in b"45" or not response.startswith(b"HTTP/1."), response[:300]


def test_replayed_signature_is_refused(credentials):
    """The same bytes twice, not around their date: the second time is a replay."""
    head = signed_head(credentials, "/dw-smuggling/replayed", hashlib.sha256(b"hello").hexdigest(), timedelta(minutes=1))
    wire = (head + "Content-Length: 5\r\n\r\nhello").encode()
    assert exchange(wire).startswith(b"HTTP/1.1 200")
    again = exchange(wire)
    assert again.startswith(b"HTTP/1.1 403"), again[:300]


def test_equal_requests_of_one_second_are_no_replay(credentials):
    """Clients that send no `amz-sdk-invocation-id` sign equal calls of one second alike."""
    head = signed_head(credentials, "/dw-smuggling/equal", hashlib.sha256(b"hello").hexdigest())
    for _ in range(3):
        response = exchange((head + "Content-Length: 5\r\n\r\nhello").encode())
        assert response.startswith(b"HTTP/1.1 200"), response[:300]


def test_no_hidden_request_became_a_request_of_its_own():
    """After the whole corpus: wherever the canary is upstream, it is inside a body, never in a request line or header."""
    for sent in (TEST_DIRECTORY / "recording").glob("*.sent"):
        for head, _body in recording.requests(sent.read_bytes()):
            assert CANARY.encode() not in head, head


def test_body_other_than_the_signed_one_never_completes_upstream(credentials, direct, failure):
    head = signed_head(credentials, "/dw-smuggling/other-body", hashlib.sha256(b"hello").hexdigest())
    response = exchange((head + "Content-Length: 5\r\n\r\nHELLO").encode())
    assert response[9:10] in b"45", response[:300]
    assert failure(direct("s3").get_object, Bucket="dw-smuggling", Key="other-body").code == "NoSuchKey"
