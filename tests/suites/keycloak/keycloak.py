"""Keycloak on a free loopback port with the realm `corp`, and a browser that is nothing but forms and cookies.

It keeps everything in memory, so each start is a fresh one. The realm is made by its admin API: groups in the claim `groups` of ID and access
tokens, a confidential client for the console, a public one for the command line with the device grant, and service accounts for agents.
"""

import html
import http.cookiejar
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request

from test_gateway import SUITES, Process, clean_environment, free_port

PASSWORD = "correct horse"
CONSOLE_SECRET = "console-secret"
AGENT_SECRET = "agent-secret"
# Shorter than what the command line wants a token to be good for: it renews its sign-in before each call.
SHORT = "20"


def mapper(name, kind, **config):
    always = {"id.token.claim": "true", "access.token.claim": "true"}
    return {"name": name, "protocol": "openid-connect", "protocolMapper": kind, "config": always | config}


GROUPS = mapper("groups", "oidc-group-membership-mapper", **{"claim.name": "groups", "full.path": "false"})
FOR_DOORS = mapper("durward", "oidc-audience-mapper", **{"included.custom.audience": "durward", "id.token.claim": "false"})


def person(name, *groups):
    return {
        "username": name, "enabled": True, "email": f"{name}@example.com", "emailVerified": True, "firstName": name.title(),
        "lastName": "Example", "groups": [f"/{group}" for group in groups], "realmRoles": ["default-roles-corp"],
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }


def agent(name, *groups):
    client = {
        "clientId": name, "secret": AGENT_SECRET, "serviceAccountsEnabled": True, "standardFlowEnabled": False,
        "protocolMappers": [GROUPS, FOR_DOORS],
    }
    user = {
        "username": f"service-account-{name}", "enabled": True, "serviceAccountClientId": name,
        "groups": [f"/{group}" for group in groups], "realmRoles": ["default-roles-corp"],
    }
    return client, user


def realm(console_url):
    (busy, busy_user), (idle, idle_user) = agent("agent-7", "agents"), agent("agent-8")
    return {
        "realm": "corp", "enabled": True,
        "groups": [{"name": "oncall"}, {"name": "agents"}],
        "users": [person("ann", "oncall"), person("bob", "oncall"), busy_user, idle_user],
        "clients": [
            {
                "clientId": "durward-console", "secret": CONSOLE_SECRET, "redirectUris": [f"{console_url}/signin/callback"],
                "attributes": {"pkce.code.challenge.method": "S256"}, "protocolMappers": [GROUPS],
            },
            {
                "clientId": "durward-cli", "publicClient": True, "redirectUris": ["http://127.0.0.1/callback"],
                "attributes": {
                    "pkce.code.challenge.method": "S256", "oauth2.device.authorization.grant.enabled": "true",
                    "oauth2.device.polling.interval": "1", "access.token.lifespan": SHORT,
                },
                "protocolMappers": [GROUPS],
            },
            busy,
            idle,
        ],
    }


def post(url, form=None, document=None, token=None, method="POST"):
    body = urllib.parse.urlencode(form).encode() if form is not None else json.dumps(document).encode()
    kind = "application/x-www-form-urlencoded" if form is not None else "application/json"
    headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, data=None if method in ("GET", "DELETE") else body, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


class Keycloak:
    def __init__(self, directory, console_url):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.issuer = f"{self.url}/realms/corp"
        command = [
            "bash", SUITES / "keycloak/dist/bin/kc.sh", "start-dev", "--db=dev-mem", "--cache=local",
            "--http-host=127.0.0.1", f"--http-port={self.port}",
        ]
        env = clean_environment(
            JAVA_OPTS_KC_HEAP="-Xms64m -Xmx512m", KC_BOOTSTRAP_ADMIN_USERNAME="admin", KC_BOOTSTRAP_ADMIN_PASSWORD=PASSWORD
        )
        self.process = Process("keycloak", command, directory, self.port, env, patience=180)
        try:
            self.wait()
            self.admin("realms", realm(console_url))
        except BaseException:
            self.stop()
            raise

    def wait(self):
        end = time.monotonic() + 60
        while True:
            try:
                return post(f"{self.url}/realms/master", method="GET")
            except OSError:
                assert time.monotonic() < end, self.process.log.read_text()[-2000:]
                time.sleep(0.1)

    def stop(self):
        self.process.stop()

    def admin(self, path, document=None, method="POST"):
        form = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": PASSWORD}
        token = post(f"{self.url}/realms/master/protocol/openid-connect/token", form)["access_token"]
        return post(f"{self.url}/admin/{path}", document=document, token=token, method=method)

    def agent_token(self, name):
        form = {"grant_type": "client_credentials", "client_id": name, "client_secret": AGENT_SECRET}
        return post(f"{self.issuer}/protocol/openid-connect/token", form)["access_token"]

    def leave(self, name, group):
        """Takes a person out of a group."""
        user = self.admin(f"realms/corp/users?username={name}&exact=true", method="GET")[0]["id"]
        groups = self.admin(f"realms/corp/users/{user}/groups", method="GET")
        found = next(one["id"] for one in groups if one["name"] == group)
        self.admin(f"realms/corp/users/{user}/groups/{found}", method="DELETE")


class Browser:
    """Pages, forms and cookies of one person, with redirects followed."""

    def __init__(self):
        # Keycloak's cookies are Secure, and browsers send those to loopback without TLS too.
        jar = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(secure_protocols=("https", "http")))
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        self.page, self.url = "", ""

    def open(self, url, form=None, **headers):
        data = None if form is None else urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(urllib.parse.urljoin(self.url, url), data=data, headers=headers)
        try:
            response = self.opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            self.page, self.url = response.read().decode(), response.url
        return response.status

    def submit(self, **fields):
        """Sends the page's first form that posts, with what is hidden in it."""
        for form, inside in re.findall(r"<form([^>]*)>(.*?)</form>", self.page, re.S):
            if 'method="post"' in form.lower():
                hidden = re.findall(r"<input[^>]*>", inside)
                kept = {}
                for tag in hidden:
                    attributes = {name: html.unescape(value) for name, value in re.findall(r'([\w-]+)="([^"]*)"', tag)}
                    if attributes.get("type") == "hidden":
                        kept[attributes["name"]] = attributes.get("value", "")
                action = html.unescape(re.search(r'action="([^"]*)"', form).group(1))
                origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(self.url))
                return self.open(action, kept | fields, Origin=origin)
        raise AssertionError(f"{self.url} has no form:\n{self.page[:2000]}")

    def sign_in(self, name):
        """On Keycloak's own page."""
        assert "/realms/corp/" in self.url and "kc-form-login" in self.page, (self.url, self.page[:2000])
        return self.submit(username=name, password=PASSWORD)
