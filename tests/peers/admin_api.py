"""The admin API of a gateway, as a person's program calls it."""

import json
import urllib.error
import urllib.request


def call_admin_api(console_url, token, path, body=None):
    """The status and the JSON of the response; a GET, or a POST if there is a body."""
    request = urllib.request.Request(
        f"{console_url}/api/v1{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
