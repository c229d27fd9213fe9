"""Reads what `recorder.py` wrote: the requests an upstream really saw, and the credentials that were issued."""

import re
import urllib.parse
from dataclasses import dataclass


@dataclass
class IssuedCredential:
    """A credential as STS issued it to the gateway, with the session policy that the gateway requested."""

    policy: str
    key: str
    secret: str
    token: str


def requests(stream):
    """The (head, body) pairs of a recorded connection; chunked bodies stay as they were sent."""
    while stream:
        head, ended, rest = stream.partition(b"\r\n\r\n")
        if not ended:
            return
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        if length:
            size = int(length[1])
        elif re.search(rb"(?im)^transfer-encoding: *chunked", head):
            size = rest.find(b"\r\n0\r\n") + 7
        else:
            size = 0
        yield head, rest[:size]
        stream = rest[size:]


def issued_credentials(directory):
    """Every credential of every AssumeRole that went through, by connection."""
    found = []
    for sent in sorted(directory.glob("*.sent")):
        forms = [urllib.parse.parse_qs(body.decode("latin-1"), encoding="utf-8") for head, body in requests(sent.read_bytes())
                 if b"Action=AssumeRole&" in body or body.endswith(b"Action=AssumeRole")]
        received = sent.with_suffix(".received").read_bytes().decode("utf-8", "replace")
        given = re.findall(r"<Credentials>(.*?)</Credentials>", received, re.DOTALL)
        for form, credentials in zip(forms, given, strict=False):
            inner = {name: re.search(f"<{name}>(.*?)</{name}>", credentials, re.DOTALL)[1].strip()
                     for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}
            found.append(IssuedCredential(form.get("Policy", [""])[0], *inner.values()))
    return found


def saw(directory, text):
    """Whether the upstream saw the text in any request."""
    return any(text.encode() in sent.read_bytes() for sent in directory.glob("*.sent"))
