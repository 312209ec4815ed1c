"""Secrets from private files, to their own origin and no further."""

import base64

import pytest

from helpers.servers import answer, serving
from updater.errors import Misconfigured
from updater.host.context import Host
from updater.meta_client import heartbeats
from updater.net.credentials import Credentials
from updater.net.http import Http


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text("Bearer hunter2\n")
    file.chmod(0o600)
    return file


def sent(request):
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return next((line.partition(": ")[2] for line in lines if line.startswith("Authorization: ")), "")


def read(http, url):
    with http.exchange("GET", url, 5) as response:
        return response.read(100)


def test_a_token_goes_to_its_origin(secret):
    with serving(answer(b"hello")) as server:
        assert read(Http(credentials={f"{server.url}/any/path": str(secret)}), f"{server.url}/x") == b"hello"
    assert sent(server.requests[0]) == "Bearer hunter2"


def test_it_goes_to_no_other_origin_not_even_after_a_redirect(secret):
    with serving(answer(b"here")) as other, serving(answer(b"", "302 Found", f"Location: {other.url}/x")) as server:
        http = Http(credentials={server.url: str(secret)})
        assert read(http, server.url) == b"here"
        read(http, other.url)
    assert sent(server.requests[0]) == "Bearer hunter2"
    assert [sent(request) for request in other.requests] == ["", ""]


def test_a_user_and_a_password_are_basic_auth(secret):
    secret.write_text("user:pass:word")
    header = Credentials({"https://releases.example": str(secret)}).header("https://releases.example:443/x")
    assert header == {"Authorization": "Basic " + base64.b64encode(b"user:pass:word").decode()}


def test_a_new_secret_needs_no_restart(secret):
    credentials = Credentials({"https://releases.example": str(secret)})
    credentials.header("https://releases.example/")
    secret.write_text("Bearer other")
    assert credentials.header("https://releases.example/") == {"Authorization": "Bearer other"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(secret, mode):
    secret.chmod(mode)
    with pytest.raises(Misconfigured, match="chmod 600"):
        Credentials({"https://releases.example": str(secret)}).header("https://releases.example/")


@pytest.mark.parametrize("text", ["", "hunter2", "Bearer a\nX-Evil: b", "user:pass\x1b"])
def test_what_is_no_secret_is_refused_without_being_shown(secret, text):
    secret.write_text(text)
    with pytest.raises(Misconfigured) as caught:
        Credentials({"https://releases.example": str(secret)}).header("https://releases.example/")
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_an_error_of_configuration(tmp_path):
    with pytest.raises(Misconfigured, match="cannot read the credentials"):
        Credentials({"http://meta": str(tmp_path / "nothing")}).header("http://meta/")


def test_meta_is_not_reached_while_its_credentials_cannot_be_read(host, site, tmp_path):
    """A trial of the updater asks this to judge itself, and must not end by it."""
    without = Host(host.layout, host.config, Http(credentials={host.config.base_url: str(tmp_path / "gone")}))
    assert heartbeats.is_reachable(host)
    assert not heartbeats.is_reachable(without)
