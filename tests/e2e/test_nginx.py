"""deploy/nginx.conf in front of a real meta: a Go updater is served as without it, and a web page gets no further."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import requests

from lab.fleet import Late, Meta, get, until
from lab.ports import free_port

ROOT = Path(__file__).parents[2]
NAME = "meta.internal"  # none that meta knows
GO = {
    "Content-Type": None,
    "User-Agent": "Go-http-client/1.1",
    "Accept": None,
    "Accept-Encoding": "gzip",
    "Connection": None,
}
RECORDS = "agents:\n- {name: falcon-agent, version: 1.0.1, tarball: 'http://releases.example/falcon'}\n"
REPORT = {
    "hostname": "h1",
    "realAgents": [{"name": "falcon-agent", "version": "1.0.0", "status": "started", "timestamp": 1}],
}

pytestmark = pytest.mark.skipif(not shutil.which("nginx") and "CI" not in os.environ, reason="no nginx here")


@pytest.fixture(scope="module")
def meta(tmp_path_factory):
    with Meta(tmp_path_factory.mktemp("meta")) as made:
        made.records.write_text(RECORDS)
        (made.directory / "meta.yaml").write_text("anonymousHosts: true\ntrustedProxies: [127.0.0.1]\n")
        yield made.start("--config", str(made.directory / "meta.yaml"))


@pytest.fixture(scope="module")
def proxy(meta, tmp_path_factory):
    """The URL of an nginx with our configuration, on a free port."""
    at = tmp_path_factory.mktemp("nginx")
    keys = ["-keyout", at / "key.pem", "-out", at / "cert.pem", "-nodes", "-days", "1", "-subj", f"/CN={NAME}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *keys], capture_output=True, timeout=60, check=True
    )
    port, text = free_port(), (ROOT / "deploy" / "nginx.conf").read_text()
    for old, new in (
        ("/etc/ssl/meta.example.pem", f"{at}/cert.pem"),
        ("/etc/ssl/private/meta.example.key", f"{at}/key.pem"),
        ("/var/log/nginx", str(at)),
        ("    listen [::]:443 ssl;\n", ""),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:2000;", f"server {meta.address};"),
        ("/var/lib/ops-meta/tarballs", str(meta.tarballs)),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (at / "meta.conf").write_text(text)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    rooms = " ".join(f"{kind}_temp_path {at}/{kind};" for kind in kinds)
    (at / "nginx.conf").write_text(
        f"daemon off; pid {at}/pid; error_log {at}/error; events {{}} http {{ {rooms} include {at}/meta.conf; }}"
    )
    with subprocess.Popen(["nginx", "-c", at / "nginx.conf"], stderr=subprocess.PIPE) as process:
        url = f"https://127.0.0.1:{port}"
        try:
            until("nginx answers", lambda: _answers(process, url))
            yield url
        finally:
            process.terminate()


def _answers(process, url):
    if process.poll() is not None:
        raise Late(f"nginx ended: {process.stderr.read().decode()}")
    try:
        return _ask("GET", f"{url}/health").text == "ok"
    except requests.ConnectionError:
        return False


def _ask(method, url, **headers):
    with requests.Session() as session:
        session.trust_env = False
        body = json.dumps(REPORT).encode() if method == "POST" else None
        return session.request(method, url, data=body, headers=GO | headers, verify=False, timeout=20)


@pytest.fixture(params=["directly", "through nginx"])
def url(request, meta):
    return meta.url if request.param == "directly" else request.getfixturevalue("proxy")


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_go_updater_that_uses_a_name_meta_does_not_know_is_served(url):
    answer = _ask("POST", f"{url}/heartbeat", Host=f"{NAME}:2000")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json; charset=UTF-8")
    assert [one["version"] for one in answer.json()["desiredAgents"]] == ["1.0.1"]
    assert _ask("GET", f"{url}/status/text/falcon-agent", Host=f"{NAME}:2000").text.startswith("h1 1.0.0 started")


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_page_of_another_site_is_refused_there_too(url):
    for more in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert _ask("POST", f"{url}/heartbeat", Host=NAME, **more).status_code == 403
        assert _ask("GET", f"{url}/status/text/falcon-agent", Host=NAME, **more).status_code == 403
    own = {"Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-origin"}
    assert _ask("GET", f"{url}/status/text/falcon-agent", Host=NAME, **own).status_code == 200


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_what_a_client_says_of_its_address_is_not_believed(meta, proxy):
    """nginx drops a header with underscores, which the server could not tell from X-Forwarded-For."""
    _ask("POST", f"{proxy}/heartbeat", Host=NAME, **{"X_Forwarded_For": "6.6.6.6", "X-Forwarded-For": "7.7.7.7"})
    assert json.loads(meta.run("host", "h1", "-o", "json").stdout)["address"] == "7.7.7.7"
    assert _ask("GET", f"{proxy}/config/reload", Host="localhost").status_code == 403
    assert get(f"{meta.url}/config/reload").json()["msg"] == "success"
