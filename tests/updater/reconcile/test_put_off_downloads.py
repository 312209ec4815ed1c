"""A download that is tried again says why from its first failed try on: in the log, in `updater why`, and to meta."""

import json

import pytest

from helpers.agents import QUIET
from helpers.servers import answer, raw, serving
from lab.fleet import Host, until
from lab.ports import free_port

BUSY = "503 Service Unavailable"
HTML = b"<html><head><title>503 Service Temporarily Unavailable</title></head></html>"


@pytest.fixture
def host(tmp_path, site):
    """A host that has version 1."""
    with Host(tmp_path / "h1", site.address, interval=0.1, watch=0, timeouts={"download": 60}) as made:
        site.publish(control=QUIET)
        site.desire(("agent", "1"))
        assert made.run("once").returncode == 0
        yield made


def failures(site):
    return [outcome for outcome in site.outcomes() if outcome["result"] != "done"]


def test_a_download_that_a_busy_server_puts_off_is_no_secret(host, site):
    tarball = site.publish(version="2", control=QUIET)
    with serving(answer(HTML, BUSY)) as mirror:
        site.desire(site.entry(version="2", tarball=mirror.url, md5=tarball.md5))
        host.start()
        until("it is tried again and again", lambda: len(mirror.requests) >= 3)
        reason = f"{mirror.url}/agent-2.tar.gz answered 503"
        until("meta is told", failures, site)
        told = [line for line in host.log.read_text().splitlines() if reason in line]
        assert len(told) == 1
        assert told[0].endswith(f"WARNING agent: install 2 (desired) goes on for 60 s at most: {reason}")
        assert "<" not in told[0]
        assert f"failed at install: 1 -> 2: {reason}" in host.run("why", "agent").stdout
        [outcome] = failures(site)
        assert (outcome["step"], outcome["result"], outcome["reason"]) == ("install", "failed", reason)
        [agent] = site.reports[-1]["realAgents"]
        assert (agent["version"], agent["waits"]) == ("1", "download")
        mirror.says.append(answer(tarball.path.read_bytes()))
        mirror.says.pop(0)
        until("the new version runs", lambda: host.current("agent") == "2")


def test_once_says_why_it_waits_while_it_does(host, site):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"timeouts": {"download": 3}}))
    port = free_port()
    site.desire(site.entry(version="2", tarball=f"http://127.0.0.1:{port}", md5="0" * 32))
    said = host.run("once")
    words = f"no answer from 127.0.0.1 port {port}: Connection refused"
    assert said.returncode == 1
    lines = [line for line in said.stderr.splitlines() if words in line and "goes on for 3 s at most" in line]
    assert len(lines) == 1


def test_what_a_meta_says_in_html_is_not_logged(tmp_path):
    with (
        serving(answer(HTML, BUSY, "Content-Type: text/html")) as meta,
        Host(tmp_path / "h2", meta.url.removeprefix("http://"), interval=0.1) as host,
    ):
        said = host.run("once")
    assert said.returncode == 3
    assert "/heartbeat answered 503" in said.stderr
    assert "<" not in said.stderr


def test_an_answer_of_meta_that_is_not_http_changes_nothing(tmp_path):
    with (
        serving(raw(b"SSH-2.0-OpenSSH_9.2\r\n")) as meta,
        Host(tmp_path / "h2", meta.url.removeprefix("http://"), interval=0.1) as host,
    ):
        said = host.run("once")
    assert said.returncode == 3
    assert 'the answer is not HTTP (it begins with "SSH-2.0-OpenSSH_9.2")' in said.stderr
