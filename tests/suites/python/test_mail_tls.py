"""Mail goes out under TLS to a server whose certificate the machine trusts: at once (smtps) and after STARTTLS."""

import socket
import ssl

import pytest
from aiosmtpd.controller import Controller

from approval_gateway import ApprovalTestGateway, Call, client, until  # noqa: F401: `client` is a fixture
from authority import HOST, certificate
from test_gateway import clean_environment, free_port
from test_notifications import PASSWORD, Mailbox

pytestmark = [
    pytest.mark.gateway,
    pytest.mark.moto,
    # What is TLS from the first byte on does not count as TLS for aiosmtpd.
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),
]

def resolves():
    try:
        return bool(socket.getaddrinfo(HOST, 25, socket.AF_INET))
    except OSError:
        return False


class SealedTestGateway(ApprovalTestGateway):
    def __init__(self, kind, directory):
        directory.mkdir(parents=True, exist_ok=True)
        certificate(directory, certificate(directory))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(directory / "server.pem", directory / "server.key")
        self.at_once, self.after = Mailbox(), Mailbox()
        self.servers = [
            Controller(
                self.at_once, hostname="127.0.0.1", port=free_port(), ssl_context=context,
                authenticator=self.at_once.check, auth_require_tls=False, auth_required=True,
            ),
            Controller(
                self.after, hostname="0.0.0.0", port=free_port(), tls_context=context, require_starttls=True,
                authenticator=self.after.check, auth_required=True,
            ),
        ]
        for server in self.servers:
            server.start()
        super().__init__(kind, directory)

    def start(self, name, command, port, env=None):
        env = env or clean_environment()
        # What the machine trusts, for OpenSSL and for rustls-native-certs.
        return super().start(name, command, port, {**env, "SSL_CERT_FILE": str(self.directory / "authority.pem")})

    def configuration(self):
        (self.directory / "mail.password").write_text(PASSWORD + "\n")
        servers = [f"smtps://127.0.0.1:{self.servers[0].port}"]
        if resolves():
            servers.append(f"smtp://{HOST}:{self.servers[1].port}")
        channel = """
[[notify.email]]
name = "{}"
server = "{}"
from = "durward@example.com"
to = ["oncall@example.com"]
username = "durward"
password_file = "mail.password"
"""
        channels = "".join(channel.format(server[:5].strip(":"), server) for server in servers)
        return super().configuration() + f'[console]\npublic_url = "http://127.0.0.1:{self.console_port}"\n' + channels

    def close(self):
        super().close()
        for server in self.servers:
            server.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with SealedTestGateway("moto", tmp_path_factory.mktemp("sealed") / "gateway") as made:
        yield made


def test_mail_arrives_under_tls(gateway, client, name):  # noqa: F811
    s3 = client("s3")
    gateway.root("s3").create_bucket(Bucket=name)
    call = Call(s3.delete_bucket, Bucket=name)
    approval_request = gateway.wait_for_request(name)
    boxes = [gateway.at_once] + ([gateway.after] if resolves() else [])
    for box in boxes:
        [(readers, mail)] = until(lambda box=box: box.about(name), "the mail")
        assert readers == ["oncall@example.com"] and approval_request["id"] in mail.get_content()
    gateway.api("ann", f"/approval-requests/{approval_request['id']}/votes", {"vote": "deny", "reason": "no"})
    assert call.done().error is not None
