"""Notifications of approval requests: a real SMTP server and real webhook receivers, verified by independent libraries."""

import email
import email.policy
import http.server
import json
import re
import signal
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from test_gateway import free_port
from approval_gateway import ApprovalTestGateway, Call, client, until  # noqa: F401: `client` is a fixture

pytestmark = [
    pytest.mark.gateway,
    pytest.mark.moto,
    # The server is on loopback, where durward sends a password without TLS.
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),
]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PASSWORD = "correct-horse-battery"
# In the addresses of the webhooks; no log, response or page may hold it.
TOKEN = "T0k3n-0f-the-webhook"


class Receiver:
    """A webhook's server. The first request about a text in `failing` gets a 500, all others with 200."""

    def __init__(self, port=None):
        self.port = port or free_port()
        self.got, self.failing, self.server = [], set(), None

    def start(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                failing = {text for text in receiver.failing if text.encode() in body}
                receiver.failing -= failing
                status = 500 if failing else 200
                receiver.got.append({"path": self.path, "headers": dict(self.headers), "body": body, "status": status})
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def about(self, text, status=200):
        return [one for one in list(self.got) if text.encode() in one["body"] and one["status"] == status]


class Mailbox:
    """What an SMTP server took, from whom and for whom; it wants a password."""

    def __init__(self):
        self.got, self.refused = [], set()

    def check(self, _server, _session, _envelope, _mechanism, data):
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"durward", PASSWORD.encode())
        return AuthResult(success=good)

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if address in self.refused:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.got.append((envelope.rcpt_tos, message))
        return "250 OK"

    def about(self, text):
        return [(to, mail) for to, mail in list(self.got) if text in mail["Subject"]]


class NotificationTestGateway(ApprovalTestGateway):
    def __init__(self, kind, directory):
        self.chat, self.robot, self.dead = Receiver().start(), Receiver().start(), Receiver()
        self.mailbox = Mailbox()
        self.smtp = Controller(
            self.mailbox, hostname="127.0.0.1", port=free_port(),
            authenticator=self.mailbox.check, auth_require_tls=False, auth_required=True,
        )
        self.smtp.start()
        self.directory, self.forged = directory, None
        super().__init__(kind, directory)

    def start_forged(self):
        """A mail server whose certificate is not trusted, and the bytes sent to it."""
        self.tls_configuration()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.directory / "tls.pem", self.directory / "tls.key")
        self.forged, self.stolen = socket.create_server(("127.0.0.1", 0)), []

        def serve():
            while True:
                try:
                    with self.forged.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as connection:
                        connection.sendall(b"220 forged ESMTP\r\n")
                        self.stolen.append(connection.recv(1024))
                except OSError:  # of TLS too
                    if self.forged.fileno() == -1:
                        return

        threading.Thread(target=serve, daemon=True).start()

    def configuration(self):
        if not self.forged:
            self.start_forged()
        (self.directory / "chat.url").write_text(f"http://127.0.0.1:{self.chat.port}/services/{TOKEN}\n")
        (self.directory / "dead.url").write_text(f"http://127.0.0.1:{self.dead.port}/services/{TOKEN}\n")
        (self.directory / "webhook.secret").write_text(SECRET + "\n")
        (self.directory / "mail.password").write_text(PASSWORD + "\n")
        return super().configuration() + f"""
[console]
public_url = "http://127.0.0.1:{self.console_port}"
[[notify.slack]]
name = "chat"
url_file = "chat.url"
[[notify.slack]]
name = "dead"
url_file = "dead.url"
[[notify.slack]]
name = "other-group"
url_file = "chat.url"
groups = ["database-oncall"]
[[notify.email]]
name = "mail"
server = "smtp://127.0.0.1:{self.smtp.port}"
from = "Durward <durward@example.com>"
to = ["oncall@example.com", "second@example.com"]
username = "durward"
password_file = "mail.password"
[[notify.email]]
name = "forged"
server = "smtps://127.0.0.1:{self.forged.getsockname()[1]}"
from = "durward@example.com"
to = ["oncall@example.com"]
username = "durward"
password_file = "mail.password"
[[notify.webhook]]
name = "robot"
url = "http://127.0.0.1:{self.robot.port}/hook"
secret_file = "webhook.secret"
"""

    def channel(self, name):
        status, response = self.api("ann", "/channels")
        assert status == 200, response
        return {channel["name"]: channel for channel in response["channels"]}[name]

    def close(self):
        super().close()
        for receiver in (self.chat, self.robot, self.dead):
            receiver.stop()
        self.smtp.stop()
        if self.forged:
            self.forged.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with NotificationTestGateway("moto", tmp_path_factory.mktemp("notifications") / "gateway") as made:
        yield made


def delete(gateway, client, name, key="k"):  # noqa: F811
    """A deletion that one person of oncall must approve."""
    s3 = client("s3")
    s3.create_bucket(Bucket=name)
    call = Call(s3.delete_object, Bucket=name, Key=key)
    return call, gateway.wait_for_request(name)


def deny(gateway, approval_request):
    status, response = gateway.api("ann", f"/approval-requests/{approval_request['id']}/votes", {"vote": "deny", "reason": "not at night"})
    assert status == 200, response


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def test_each_channel_gets_the_request_and_its_outcome_and_a_link_decides_nothing(gateway, client, name):  # noqa: F811
    call, approval_request = delete(gateway, client, name)
    page, resource = f"/approvals/{approval_request['id']}", f"/approval-requests/{approval_request['id']}"
    chat = json.loads(until(lambda: gateway.chat.about(name), "the chat")[0]["body"])
    first = chat["text"].splitlines()[0]
    for wanted in ("`s3:DeleteObject`", f"`{name}/k`", "`dev/agent`", "risk ", "decide by "):
        assert wanted in first, first
    assert chat["blocks"][0]["text"]["text"] == first
    [(readers, mail)] = until(lambda: gateway.mailbox.about(name), "the mail")
    assert readers == ["oncall@example.com", "second@example.com"]
    assert mail["From"] == "Durward <durward@example.com>" and mail["Auto-Submitted"] == "auto-generated"
    assert mail["Subject"].startswith(f"Durward: s3:DeleteObject on {name}/k, requested by dev/agent: risk "), mail["Subject"]
    hook = until(lambda: gateway.robot.about(name), "the webhook")[0]
    told = Webhook(SECRET).verify(hook["body"], hook["headers"])
    assert told["type"] == "approval_request.opened" and told["data"]["approval_request"]["id"] == approval_request["id"]
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(hook["body"].replace(b"pending", b"denied!"), hook["headers"])
    links = [
        re.search(r"<(http[^|>]*)\|", chat["text"])[1],
        re.search(r"http\S+", mail.get_content())[0],
        told["data"]["url"],
    ]
    assert links == [f"http://127.0.0.1:{gateway.console_port}{page}"] * 3
    for link in links:
        for method, status in (("GET", 303), ("HEAD", 401)):
            with pytest.raises(urllib.error.HTTPError) as response:
                urllib.request.build_opener(NoRedirect).open(urllib.request.Request(link, method=method), timeout=5)
            assert response.value.code == status, "the page was shown without a sign-in"
            # After signing in, a person is on the approval request's page.
            assert status != 303 or page in urllib.parse.unquote(response.value.headers["Location"])
    now = gateway.api("ann", resource)[1]
    assert now["state"] == "pending" and now["votes"] == [], "following a link decided something"
    deny(gateway, approval_request)
    assert "not at night" in str(call.done().error)
    chat = json.loads(until(lambda: gateway.chat.about(name)[1:], "the end, in the chat")[0]["body"])
    assert chat["text"].startswith("Denied by `"), chat["text"]
    _, (_, end) = until(lambda: len(found := gateway.mailbox.about(name)) == 2 and found, "the end, by mail")
    assert end["In-Reply-To"] == mail["Message-ID"] and "not at night" in end.get_content()
    hook = until(lambda: gateway.robot.about(name)[1:], "the end, by webhook")[0]
    told = Webhook(SECRET).verify(hook["body"], hook["headers"])
    assert (told["type"], told["data"]["approval_request"]["state"]) == ("approval_request.closed", "denied")
    assert told["data"]["approval_request"]["votes"][0]["reason"] == "not at night"
    assert len(gateway.chat.about(name)) == 2, "a channel of another group was notified"


def test_nothing_in_a_name_breaks_out(gateway, client, name):  # noqa: F811
    call, approval_request = delete(gateway, client, name, key="<!channel>`*x*\nBcc: eve@evil.test\n<https://evil.test|ok>\u202e")
    text = json.loads(until(lambda: gateway.chat.about(name), "the chat")[0]["body"])["text"]
    assert "<!channel>" not in text and text.count("<") == 1 and "\\u{202e}" in text, text
    assert "evil" not in "".join(text.split("`")[::2]), text
    [(readers, mail)] = until(lambda: gateway.mailbox.about(name), "the mail")
    assert mail["Bcc"] is None and "eve@evil.test" not in readers
    assert [line for line in mail.get_content().splitlines() if "://" in line] == [
        f"Review and vote: http://127.0.0.1:{gateway.console_port}/approvals/{approval_request['id']}"
    ]
    deny(gateway, approval_request)
    call.done()


def test_a_receiver_that_fails_gets_one_more_try(gateway, client, name):  # noqa: F811
    gateway.robot.failing.add(name)
    call, approval_request = delete(gateway, client, name)
    failed = until(lambda: gateway.robot.about(name, 500), "the first try")[0]
    again = until(lambda: gateway.robot.about(name), "the second try")[0]
    assert failed["headers"]["webhook-id"] == again["headers"]["webhook-id"]
    Webhook(SECRET).verify(again["body"], again["headers"])
    until(lambda: gateway.channel("robot")["failing_since"] is None, "the channel works again")
    deny(gateway, approval_request)
    call.done()
    assert len(gateway.robot.about(name, 500)) == 1


def test_a_reader_that_is_gone_does_not_keep_mail_from_another(gateway, client, name):  # noqa: F811
    gateway.mailbox.refused.add("second@example.com")
    try:
        call, approval_request = delete(gateway, client, name)
        [(readers, _mail)] = until(lambda: gateway.mailbox.about(name), "the mail")
        assert readers == ["oncall@example.com"]
    finally:
        gateway.mailbox.refused.clear()
    deny(gateway, approval_request)
    call.done()


def test_a_dead_channel_is_visible_and_delays_no_call(gateway, client, name):  # noqa: F811
    call, approval_request = delete(gateway, client, name)
    until(lambda: gateway.chat.about(name), "the chat")
    dead = until(lambda: (one := gateway.channel("dead"))["failing_since"] and one["pending_messages"] and one, "the dead channel")
    assert dead["last_success"] is None and "cannot connect" in dead["last_error"], dead
    forged = until(lambda: (one := gateway.channel("forged"))["failing_since"] and one, "the forged mail server")
    assert "certificate" in forged["last_error"].lower() and gateway.stolen == [], forged
    good = gateway.channel("chat")
    assert good["failing_since"] is None and good["last_success"] and good["kind"] == "slack"
    status, health = gateway.api("ann", "/health")
    assert status == 503 and "channels failing: dead, forged" in json.dumps(health), health
    deny(gateway, approval_request)
    call.done()


def test_a_request_from_before_kill_9_is_notified_after(gateway, client, name):  # noqa: F811
    """The receivers are down when the approval request is created, and the gateway is killed before they are back. (The chat had its ten messages of
    this minute from the tests before.)"""
    sns = client("sns")
    arn = sns.create_topic(Name=name)["TopicArn"]
    gateway.chat.stop()
    gateway.robot.stop()
    call = Call(sns.delete_topic, TopicArn=arn)
    approval_request = gateway.wait_for_request(name)
    gateway.gateway_process.stop(signal.SIGKILL)
    assert not gateway.chat.about(name) and not gateway.robot.about(name)
    gateway.chat.start()
    gateway.robot.start()
    gateway.restart_gateway()
    # At most the lease of what was on its way, and the time to the next try.
    until(lambda: gateway.robot.about(name), "the webhook", seconds=60)
    deny(gateway, approval_request)
    told = until(lambda: gateway.robot.about(name)[1:], "the end")
    assert json.loads(told[0]["body"])["type"] == "approval_request.closed"
    call.done()


def test_no_secret_is_in_the_log_or_the_state_people_see(gateway):
    log = "".join(path.read_text(errors="replace") for path in gateway.directory.glob("gateway*.log"))
    assert "the channel fails" in log and "notification sent" in log
    shown = log + json.dumps(gateway.api("ann", "/channels")) + json.dumps(gateway.api("ann", "/health"))
    for secret in (TOKEN, SECRET, SECRET.removeprefix("whsec_"), PASSWORD):
        assert secret not in shown
