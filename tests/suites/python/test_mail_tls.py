"""Mail goes out under TLS to a server whose certificate the machine trusts: at once (smtps) and after STARTTLS."""

import socket
import ssl

import pytest
from aiosmtpd.controller import Controller

from asking import AskingStage, Call, client, until  # noqa: F401: `client` is a fixture
from authority import HOST, certificate
from stage import clean_environment, free_port
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


class SealedStage(AskingStage):
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
def stage(tmp_path_factory):
    with SealedStage("moto", tmp_path_factory.mktemp("sealed") / "stage") as made:
        yield made


def test_mail_arrives_under_tls(stage, client, name):  # noqa: F811
    s3 = client("s3")
    stage.root("s3").create_bucket(Bucket=name)
    call = Call(s3.delete_bucket, Bucket=name)
    ask = stage.ask_about(name)
    boxes = [stage.at_once] + ([stage.after] if resolves() else [])
    for box in boxes:
        [(readers, mail)] = until(lambda box=box: box.about(name), "the mail")
        assert readers == ["oncall@example.com"] and ask["id"] in mail.get_content()
    stage.api("ann", f"/asks/{ask['id']}/answer", {"answer": "deny", "reason": "no"})
    assert call.done().error is not None
