"""A development OIDC issuer: discovery, JWKS with rotation, and a minting command.

The suites sign in with its tokens, so that what the gateway accepts is judged by a token library that is not ours. Its keys live in a
directory: serving, minting and rotating are separate processes that share nothing else.

    issuer.py serve DIR PORT
    issuer.py rotate DIR
    issuer.py mint DIR SUBJECT [GROUP...]
"""

import json
import sys
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "durward"


def rotate(directory):
    """Makes a new signing key the current one; the ones before it stay published, as a real issuer's do for a while."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = f"key-{uuid.uuid4().hex[:8]}"
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / f"{kid}.pem").write_bytes(pem)
    current = directory / "current.tmp"
    current.write_text(kid)
    current.replace(directory / "current")
    return kid


def signing_key(directory):
    """The current key as (kid, PEM)."""
    directory = Path(directory)
    kid = (directory / "current").read_text()
    return kid, (directory / f"{kid}.pem").read_bytes()


def public_pem(directory):
    """The current public key as PEM: what a key-confusion attack uses as an HMAC secret."""
    _, pem = signing_key(directory)
    public = serialization.load_pem_private_key(pem, None).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwks(directory):
    keys = []
    for pem in sorted(Path(directory).glob("*.pem")):
        public = serialization.load_pem_private_key(pem.read_bytes(), None).public_key()
        key = json.loads(RSAAlgorithm.to_jwk(public))
        keys.append({"kty": key["kty"], "n": key["n"], "e": key["e"], "kid": pem.stem, "use": "sig", "alg": "RS256"})
    return {"keys": keys}


def claims(directory, subject, groups=(), **changes):
    """The claims of an ordinary token; `changes` replaces some, and None removes one."""
    now = int(time.time())
    ordinary = {
        "iss": (Path(directory) / "issuer").read_text(),
        "sub": subject,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now - 5,
        "exp": now + 3600,
        "groups": list(groups),
    }
    return {name: value for name, value in (ordinary | changes).items() if value is not None}


def mint(directory, subject, groups=(), **changes):
    kid, pem = signing_key(directory)
    return jwt.encode(claims(directory, subject, groups, **changes), pem, algorithm="RS256", headers={"kid": kid})


def serve(directory, port):
    issuer = f"http://127.0.0.1:{port}"
    directory = Path(directory)
    if not (directory / "current").exists():
        rotate(directory)
    (directory / "issuer").write_text(issuer)

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/.well-known/openid-configuration":
                self.respond(200, {
                    "issuer": issuer,
                    "jwks_uri": f"{issuer}/jwks",
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                })
            elif self.path == "/jwks":
                self.respond(200, jwks(directory))
            else:
                self.respond(404, {"error": "not found"})

        def respond(self, status, document):
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Door).serve_forever()


def main(arguments):
    match arguments:
        case ["serve", directory, port]:
            serve(directory, int(port))
        case ["rotate", directory]:
            print(rotate(directory))
        case ["mint", directory, subject, *groups]:
            print(mint(directory, subject, groups))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
