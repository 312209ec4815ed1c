"""What a web page in a browser on meta's machine, or on a host, gets of meta: nothing that is answered without a token."""

import socket

import pytest

from helpers.meta_api import World
from updater.wire.heartbeat import RealAgent, Report, render_report

BEAT = render_report(Report("h3", [RealAgent("a", "1", "started", 7)]))
EVIL = {"Host": "evil.example"}
FROM_ANOTHER_SITE = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    EVIL | {"Origin": "http://other.example"},
]
REBOUND = [
    EVIL,
    EVIL | {"Origin": "http://evil.example"},
    EVIL | {"Sec-Fetch-Site": "same-origin"},
    {"Host": "0.0.0.0:2000"},
]
ROUTES = [
    *(("GET", "/config/reload"), ("POST", "/config/reload"), ("GET", "/workdir"), ("GET", "/metrics")),
    *(("GET", "/status/json/a"), ("GET", "/status/text/a"), ("GET", "/api/v1/whoami"), ("GET", "/tarball/a-1.tar.gz")),
    *(("POST", "/heartbeat"), ("POST", "/api/heartbeat")),
]


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    (world.tarballs / "a-1.tar.gz").write_bytes(b"x")
    world.beat("h2", RealAgent("a", "1", "started", 7))
    yield world
    world.close()


def ask(world, method, path, headers, who="local"):
    return world.call(method, path, who, headers=headers, data=BEAT if path.endswith("heartbeat") else None)


@pytest.mark.parametrize("headers", FROM_ANOTHER_SITE, ids=str)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_page_of_another_site_is_refused(world, method, path, headers):
    answer = ask(world, method, path, headers)
    assert (answer.status_code, "a web page of another site" in answer.text) == (403, True)
    assert world.service.table.names() == ["h2"]


@pytest.mark.parametrize("headers", REBOUND, ids=str)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_page_under_a_name_that_only_leads_here_is_refused(world, method, path, headers):
    answer = ask(world, method, path, headers)
    assert (answer.status_code, "is no name of this machine" in answer.text) == (403, True)
    assert world.service.table.names() == ["h2"]


@pytest.mark.parametrize(
    "headers", [{}, {"Host": "127.0.0.1:2000"}, {"Host": "[::1]:2000"}, {"Host": "LOCALHOST."}], ids=str
)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_what_programs_of_this_machine_ask_is_answered(world, method, path, headers):
    assert ask(world, method, path, headers).status_code == 200
    own = {"Host": "localhost:2000", "Origin": "http://localhost:2000", "Sec-Fetch-Site": "same-origin"}
    assert ask(world, method, path, own).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/version"])
def test_what_everybody_may_know_is_for_pages_too(world, path):
    for headers in (*FROM_ANOTHER_SITE, *REBOUND):
        assert ask(world, "GET", path, headers).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/status/json/a", "/api/v1/whoami"])
def test_who_shows_a_token_may_use_any_name_but_from_another_sites_page(world, path):
    assert ask(world, "GET", path, EVIL, "viewer").status_code == 200
    for headers in FROM_ANOTHER_SITE:
        assert ask(world, "GET", path, headers, "viewer").status_code == 403


def test_an_updater_of_this_machine_that_uses_a_name_only_dns_knows_is_told_what_to_do(world):
    """Nothing but loopback lets it report, and a page in a browser here could do the same. A token lets it use any name."""
    refused = ask(world, "POST", "/heartbeat", {"Host": "meta.internal:2000"}, "local")
    assert refused.status_code == 403
    assert "in /etc/hosts" in refused.text
    for known in ("127.0.0.1:2000", "localhost", "[::1]:2000", socket.gethostname()):
        assert ask(world, "POST", "/heartbeat", {"Host": known}, "local").status_code == 200
    shown = {"Host": "meta.internal:2000", "Authorization": f"Bearer {world.tokens['host']}"}
    beat = render_report(Report("h1", []))
    assert world.call("POST", "/heartbeat", "local", shown, data=beat).status_code == 200


def test_a_host_may_use_a_name_that_meta_does_not_know(tmp_path):
    world = World(tmp_path, anonymous_hosts=True)
    try:
        for who in ("local", "nobody"):  # on this machine, or from another
            for path in ("/heartbeat", "/api/heartbeat", "/status/json/a", "/metrics"):
                method = "POST" if path.endswith("heartbeat") else "GET"
                assert ask(world, method, path, {"Host": "meta.internal:2000"}, who).status_code == 200
            assert ask(world, "POST", "/heartbeat", {"Origin": "http://evil.example"}, who).status_code == 403
        assert ask(world, "GET", "/config/reload", {"Host": "meta.internal:2000"}).status_code == 403
    finally:
        world.close()
