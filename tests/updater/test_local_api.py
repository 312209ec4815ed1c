"""The updater's local HTTP: what programs of this machine get, and what a web page in a browser on it does not."""

import json
import socket
from urllib.parse import urlsplit

import pytest
import requests

from lab.ports import free_port
from updater import local_api
from updater.host import config
from updater.host.context import Host
from updater.model.layout import Layout
from updater.net.http import Http
from updater.reconcile.daemon import Daemon


@pytest.fixture
def local_http(tmp_path):
    """The interface of a daemon that does nothing else."""
    file = tmp_path / "cfg.json"
    settings = {
        "server": "127.0.0.1:1",
        "interval": 60,
        "http": {"enabled": True, "listen": f"127.0.0.1:{free_port()}"},
    }
    file.write_text(json.dumps(settings | {"credentials": {"https://releases.example": "/secret"}}))
    daemon = Daemon(Host(Layout(tmp_path), config.load(file), Http()), file)
    listening = local_api.Listening(daemon)
    listening.follow(daemon.host.config)
    yield f"http://{daemon.host.config.http.listen}"
    listening.close()


FROM_A_PAGE = [
    {"Host": "evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "evil.example", "Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},  # DNS rebinding
]


@pytest.mark.parametrize("headers", FROM_A_PAGE, ids=str)
def test_a_web_page_in_a_browser_of_this_machine_is_told_nothing(local_http, headers):
    for path in ("/agents", "/workdir", "/config/reload"):
        refused = requests.get(local_http + path, headers=headers, timeout=10)
        assert (refused.status_code, refused.headers["Content-Type"]) == (403, "text/plain; charset=utf-8")
    assert requests.post(f"{local_http}/config/reload", headers=headers, timeout=10).status_code == 403
    for path in ("/health", "/version"):
        assert requests.get(local_http + path, headers=headers, timeout=10).status_code == 200


@pytest.mark.parametrize(
    "lines", ["Host: localhost\r\nHost: evil.example\r\n", "Host: localhost\r\n" + "Origin: http://localhost\r\n" * 2]
)
def test_a_header_that_is_there_twice_is_not_believed(local_http, lines):
    with socket.create_connection(("127.0.0.1", urlsplit(local_http).port), timeout=10) as client:
        client.sendall(f"GET /agents HTTP/1.1\r\n{lines}\r\n".encode())
        assert client.makefile("rb").readline().split()[1] == b"403"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "[::1]", socket.gethostname()])
def test_this_machines_own_names_are_answered(local_http, host):
    for path in ("/agents", "/workdir", "/config/reload"):
        assert requests.get(local_http + path, headers={"Host": host}, timeout=10).status_code == 200


def test_a_reload_may_be_a_post_and_names_no_credentials_file(local_http):
    for asked in (
        requests.get(f"{local_http}/config/reload", timeout=10),
        requests.post(f"{local_http}/config/reload", timeout=10),
        requests.post(f"{local_http}/config/reload", data=b"x" * 60_000, timeout=10),
    ):
        assert (asked.status_code, asked.json()["msg"]) == (200, "success")
        assert "credentials" not in asked.json()["data"]
        assert "/secret" not in asked.text
    refused = requests.post(f"{local_http}/agents", timeout=10)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET")
    assert requests.post(f"{local_http}/config/reload", data=b"x" * 70_000, timeout=10).status_code == 413
