"""deploy/nginx.conf in front of a real meta: a Go updater is served as without it, and a web page gets no further."""

import json
import os
import shutil

import pytest
import requests

from helpers import proxies
from helpers.proxies import NAME
from lab.fleet import Meta, get

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
    with proxies.nginx(meta, tmp_path_factory.mktemp("nginx")) as url:
        yield url


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


CONTENT = bytes(range(256)) * 40
RANGES = {
    "none": ("", 200),
    "the beginning": ("bytes=0-9", 206),
    "the rest": ("bytes=10000-", 206),
    "the end": ("bytes=-5", 206),
    "more than there is": ("bytes=10200-99999", 206),
    "behind the end": ("bytes=999999-", 200),
    "backwards": ("bytes=5-2", 200),
    "no numbers": ("bytes=abc", 200),
    "nothing": ("bytes=-0", 200),
    "two": ("bytes=0-4,10-14", 200),
    "another unit": ("lines=1-2", 200),
}


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize(("asked", "status"), RANGES.values(), ids=RANGES.keys())
def test_one_range_that_can_be_satisfied_is_sent_and_any_other_is_ignored(meta, url, asked, status):
    (meta.tarballs / "falcon-agent-1.0.1.tar.gz").write_bytes(CONTENT)
    answer = _ask("GET", f"{url}/tarball/falcon-agent-1.0.1.tar.gz", **({"Range": asked} if asked else {}))
    assert answer.status_code == status
    if status == 200:
        assert answer.content == CONTENT
        assert answer.headers["ETag"].count('"') == 2
    assert answer.headers["Content-Type"] == "application/gzip"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_the_way_to_the_whole_file_is_no_way_in(meta, proxy):
    (meta.tarballs / "falcon-agent-1.0.1.tar.gz").write_bytes(CONTENT)
    assert _ask("GET", f"{proxy}/_whole/tarball/falcon-agent-1.0.1.tar.gz").status_code == 404
    (meta.tarballs / ".under-way").write_bytes(CONTENT)
    assert _ask("GET", f"{proxy}/tarball/.under-way", Range="bytes=999999-").status_code == 404
