"""The updater starts again: what an earlier run kept of meta's orders does little until meta has answered this run."""

import json
import os
import signal

import pytest

from helpers.agents import HEALTHY, QUIET, calls, members
from helpers.site import Site
from lab import agents
from lab.fleet import Host, Meta, until

AGENT = "agent"
SETTINGS = {"probe": 0.1, "timeouts": {"start": 3, "stop": 3, "status": 3}}


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path / "site") as running:
        for version in ("1.0.0", "1.0.1"):
            running.publish(AGENT, version, control=QUIET)
        yield running


@pytest.fixture
def host(tmp_path, site):
    with Host(tmp_path / "web-01", site.address, interval=0.2, watch=0, **SETTINGS) as made:
        yield made


def configure(host, **settings):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | settings))


def without_meta(host):
    """Start the updater where meta does not answer, and let it try twice."""
    configure(host, server="127.0.0.1:9")
    host.start()
    until("it has looked twice", lambda: host.log.read_text().count("no orders in this cycle") >= 2)


def state(host):
    return host.current(AGENT), host.control(AGENT, "status")


def test_a_version_that_a_person_took_back_just_before_a_restart_is_not_started_again(tmp_path):
    with Meta(tmp_path / "meta") as meta, Host(tmp_path / "web-01", meta.address, watch=3600, **SETTINGS) as host:
        meta.start()
        for version in ("1.0.0", "1.0.1"):
            agents.publish(meta.tarballs, AGENT, version, members(HEALTHY))
            meta.run("set", AGENT, f"version={version}", f"tarball={meta.url}/tarball", "--yes")
            assert host.run("once").returncode == 0
        meta.run("set", AGENT, "version=1.0.0", "--yes")
        host.control(AGENT, "stop")
        (host.root / AGENT / ".version").write_text("1.0.0\n")
        host.control(AGENT, "start")

        configure(host, interval=1000)
        before = calls(host.root, AGENT)
        host.start()
        until("it has looked", lambda: "waits for meta to confirm it" in host.log.read_text())
        os.kill(host.pid, signal.SIGUSR1)
        until("meta hears of it", lambda: (meta.status(AGENT).get(host.name) or {}).get("version") == "1.0.0")
        assert host.stop() == 0
        assert set(calls(host.root, AGENT)[len(before) :]) == {"status"}, "neither started nor stopped"
        assert state(host) == ("1.0.0", "started")


def test_without_an_answer_in_this_run_nothing_is_switched_and_what_version_names_comes_up(host, site):
    for version in ("1.0.0", "1.0.1"):
        site.desire((AGENT, version))
        assert host.run("once").returncode == 0
    host.control(AGENT, "stop")
    (host.root / AGENT / ".version").write_text("1.0.0\n")
    without_meta(host)
    until("it comes up as it was", lambda: state(host) == ("1.0.0", "started"))
    until("it says so", lambda: "start 1.0.1 was desired before this updater started" in host.log.read_text())
    assert "switch" not in host.log.read_text()


def test_without_an_answer_in_this_run_nothing_is_stopped(host, site):
    site.desire((AGENT, "1.0.0"))
    assert host.run("once").returncode == 0
    site.desire(site.entry(AGENT, "1.0.0", cmd="stop"))
    assert host.run("once").returncode == 0
    host.control(AGENT, "start")
    without_meta(host)
    assert state(host) == ("1.0.0", "started")


def test_an_answer_of_this_run_stays_in_force_when_meta_goes_away(host, site):
    site.desire((AGENT, "1.0.0"))
    assert host.run("once").returncode == 0
    site.desire(site.entry(AGENT, "1.0.0", cmd="stop"))
    host.start()
    until("it is stopped", lambda: state(host) == ("1.0.0", "stoped"))
    configure(host, server="127.0.0.1:9")
    os.kill(host.pid, signal.SIGHUP)
    until("meta is away", lambda: "those of its last answer stay in force" in host.log.read_text())
    host.control(AGENT, "start")
    until("it is stopped again", lambda: state(host) == ("1.0.0", "stoped"))


def test_our_own_trial_is_taken_back_without_an_answer_in_this_run(host, site):
    site.publish(AGENT, "1.0.2", control=HEALTHY.replace("sleep 1000", "sleep 0.7"))
    configure(host, watch=60)
    for version in ("1.0.0", "1.0.2"):
        site.desire((AGENT, version))
        assert host.run("once").returncode == 0
    without_meta(host)
    until("it is back", lambda: state(host) == ("1.0.0", "started"))


def test_a_version_that_was_rolled_back_is_tried_again_when_meta_says_so(tmp_path):
    broken = QUIET.replace("start)", "start) [ -e ../mended ] || exit 1;")
    settings = SETTINGS | {"interval": 0.2, "watch": 2}
    with Meta(tmp_path / "meta") as meta, Host(tmp_path / "web-01", meta.address, **settings) as host:
        meta.start()
        agents.publish(meta.tarballs, AGENT, "1.0.0", members(QUIET))
        agents.publish(meta.tarballs, AGENT, "1.0.1", members(broken))
        meta.run("set", AGENT, "version=1.0.0", f"tarball={meta.url}/tarball", "--yes")
        host.start()
        until("1.0.0 runs", lambda: host.current(AGENT) == "1.0.0" and state(host) == ("1.0.0", "started"))
        meta.run("set", AGENT, "version=1.0.1", "--yes")
        until("meta hears that it was rolled back", lambda: "rolled back" in meta.run("host", host.name).stdout)

        (host.root / AGENT / "mended").touch()
        done = meta.run("retry", AGENT, "--for", f"hosts:{host.name}", "--why", "mended", "--yes")
        assert "1 host rolled this version back and will try it again" in done.stdout + done.stderr
        until("1.0.1 runs", lambda: state(host) == ("1.0.1", "started"))
        assert "mended" in meta.run("history", AGENT).stdout
        assert "attempt" in meta.run("explain", host.name).stdout
