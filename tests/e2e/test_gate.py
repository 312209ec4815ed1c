"""`meta status --watch` as a gate of a release: what it lets through has come through its watch on every host that is there."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from helpers.agents import QUIET, members
from helpers.documents import release_script
from lab import agents
from lab.fleet import Host, Meta, until
from meta.queries.progress import MISSED
from updater.wire.heartbeat import BY_HAND

AGENT = "agent"
WATCH = 4  # seconds
SETTINGS = {"interval": 0.5, "watch": WATCH, "probe": 0.2, "timeouts": {"start": 5, "stop": 5, "status": 5}}
DIES = QUIET.replace("sleep 1000", "sleep 2.5")
LEAVES_SLOWLY = DIES.replace("stop)", "stop) sleep 2;")
NAMES = ("web-1", "web-2", "web-3")


@contextmanager
def started(directory, late_after, lost_after):
    with Meta(directory) as made:
        for version, control in (("1", QUIET), ("2", QUIET), ("3", DIES)):
            agents.publish(made.tarballs, AGENT, version, members(control))
        config = made.directory / "meta.yaml"
        config.write_text(f"lateAfter: {late_after}\nlostAfter: {lost_after}\n")
        made.start("--config", str(config))
        made.run("set", AGENT, "version=1", f"tarball={made.url}/tarball", "--yes")
        yield made


@pytest.fixture
def meta(tmp_path):
    with started(tmp_path / "meta", 3, 6) as made:
        yield made


@pytest.fixture
def patient_meta(tmp_path):
    """For hosts that report once in a test."""
    with started(tmp_path / "meta", 100, 200) as made:
        yield made


@pytest.fixture
def hosts(tmp_path, meta):
    made = [Host(tmp_path / name, meta.address, **SETTINGS) for name in NAMES]
    try:
        for host in made:
            host.start()
        until("1 has come through its watch", lambda: progress(meta)["good"] == len(NAMES), within=60)
        yield made
    finally:
        for host in made:
            host.close()


def watch(meta, code, *options):
    """What a watch prints, which must end with this exit code within a time that no failure of ours needs."""
    return meta.run("status", AGENT, "--watch", "--every", "0.2", "--within", "50s", *options, expect=code).stdout


def progress(meta):
    return meta.ask(f"progress?agent={AGENT}")


def is_gone(meta, *names):
    return {one["name"] for one in progress(meta)["leftOut"]} == set(names)


def test_a_version_that_dies_in_its_watch_is_never_let_through(meta, hosts):
    meta.run("set", AGENT, "version=3", "--yes")
    shown = watch(meta, 1)
    assert "every host" not in shown
    assert "failed on 3 hosts" in shown
    assert "rolled back" in shown
    assert "after its start" in shown
    assert [host.current(AGENT) for host in hosts] == ["1", "1", "1"]
    meta.run("set", AGENT, "version=2", "--yes")
    watch(meta, 0)


def test_a_first_version_that_dies_in_its_watch_is_not_let_through_though_it_is_started_again(tmp_path, meta):
    """There is none to go back to."""
    meta.run("set", AGENT, "version=3", "--yes")
    with Host(tmp_path / "new-1", meta.address, **SETTINGS) as host:
        host.start()
        until("it has come to it", lambda: progress(meta)["trial"] + progress(meta)["failed"] > 0, within=60)
        shown = watch(meta, 1, "--max-failed", "0")
    assert "failed on 1 host" in shown
    assert "after its start" in shown


def test_a_proven_version_that_dies_after_each_start_is_not_let_through_until_it_stays_up(tmp_path, meta, hosts):
    """It is no change that fails: the version is what was ordered long ago, and there is nothing to roll back."""
    host = hosts[0]
    broken = host.root / AGENT / "1" / "broken"
    control = host.root / AGENT / "1" / "control"
    control.write_text(
        control.read_text().replace("sleep 1000", "sh -c '[ -e broken ] && exec sleep 1; exec sleep 1000'")
    )
    broken.touch()
    os.kill(int((host.root / AGENT / "1" / "pid").read_text()), signal.SIGKILL)
    until("it has failed there", lambda: progress(meta)["failed"] == 1, within=60)
    shown = watch(meta, 1, "--max-failed", "0")
    assert "1 failed on 1 host: died within" in shown
    assert "died within" in meta.run("host", host.name).stdout
    assert [one.current(AGENT) for one in hosts] == ["1", "1", "1"]
    for _ in range(10):
        assert progress(meta)["failed"] == 1, "also between a start and the next death"
    broken.unlink()
    until("it stays up", lambda: progress(meta)["good"] == len(NAMES), within=60)
    assert "has stayed up since its last start" in meta.run("host", host.name).stdout


def test_a_watch_that_fails_while_the_way_back_is_under_way_ends_with_its_reason(meta, hosts):
    agents.publish(meta.tarballs, AGENT, "4", members(LEAVES_SLOWLY))
    meta.run("set", AGENT, "version=4", "--for", "hosts:web-1", "--yes")
    *_, before, last, _ = watch(meta, 1, "--for", "hosts:web-1").splitlines()
    assert "4 rolled back on 1 host: its way back is under way: the reason follows" in before
    assert "4 rolled back on 1 host: died" in last


def test_a_host_that_falls_silent_on_trial_is_not_left_out(meta, hosts):
    reconfigure(hosts[2], watch=3600)
    meta.run("set", AGENT, "version=2", "--yes")
    until("it is on trial alone", lambda: [progress(meta)[key] for key in ("trial", "good")] == [1, 2], within=60)
    hosts[2].stop()
    assert "2 failed on 1 host: fell silent on trial (last: web-3" in watch(meta, 1)
    reconfigure(hosts[2], watch=0)
    hosts[2].start()
    until("it is back", lambda: progress(meta)["failed"] == 0, within=60)
    assert "done: 3 hosts good" in watch(meta, 0)


def test_more_failures_than_may_be_end_a_watch_at_once_and_fewer_end_it_well(meta, hosts):
    meta.run("set", AGENT, "version=3", "--for", "hosts:web-1", "--yes")
    meta.run("set", AGENT, "version=2", "--yes")
    assert "failed on 1 host:" in watch(meta, 1, "--max-failed", "0")
    assert "1 failed, which --max-failed allows" in watch(meta, 0, "--max-failed", "1")
    assert "1 failed, which --max-failed allows" in watch(meta, 0, "--max-failed", "34%")
    assert "failed on 1 host:" in watch(meta, 1, "--max-failed", "33%")
    assert "2 good" in watch(meta, 0, "--for", "hosts:web-2,web-3")


def test_a_good_version_comes_through_with_a_host_away_which_is_named_and_waited_for_when_it_is_back(meta, hosts):
    hosts[2].stop()
    until("it is missed", is_gone, meta, "web-3")
    meta.run("set", AGENT, "version=2", "--yes")
    shown = watch(meta, 0)
    assert "done: 2 hosts good" in shown
    assert "left out: web-3 (l" in shown
    assert meta.run("status", AGENT, "--watch", "--within", "1s", "--include-lost", expect=1).stdout
    hosts[2].start()
    until("it is back", is_gone, meta)
    assert "done: 3 hosts good" in watch(meta, 0)
    assert hosts[2].current(AGENT) == "2"


def test_a_watch_waits_for_a_host_that_comes_back_in_between(meta, hosts):
    for host in hosts[:2]:
        reconfigure(host, watch=3600)
    hosts[2].stop()
    until("it is missed", is_gone, meta, "web-3")
    meta.run("set", AGENT, "version=2", "--yes")
    with watching(meta) as gate:
        until("the others are on trial", lambda: progress(meta)["trial"] == 2, within=60)
        hosts[2].start()
        until("it is back, and has 2", lambda: hosts[2].current(AGENT) == "2", within=60)
        for host in hosts[:2]:
            reconfigure(host, watch=0)
        shown = gate.stdout.read()
        assert gate.wait(60) == 0
    assert "done: 3 hosts good" in shown


def reconfigure(host, **settings):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | settings))
    if host.running:
        os.kill(host.pid, signal.SIGHUP)


def watching(meta, *options):
    """The watch as a process that goes on."""
    every = ("--every", "0.2", "--within", "100s")
    command = [sys.executable, "-m", "meta.cli", "status", AGENT, "--watch", *every, *options]
    environment = {"META_URL": meta.url, "META_TOKEN_FILE": str(meta.token), "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_host_of_the_go_updater_is_good_when_it_has_been_started_for_an_interval(meta):
    beat = {"name": AGENT, "version": "1", "status": "started", "timestamp": 7}
    send(meta, beat | {"version": "0"})
    assert progress(meta)["todo"] == 1
    send(meta, beat)
    begun = time.monotonic()
    send(meta, beat)
    assert [progress(meta)[key] for key in ("todo", "trial", "good")] == [0, 1, 0]

    def is_good():
        send(meta, beat)
        return progress(meta)["good"] == 1

    until("it has been started for long enough", is_good)
    assert time.monotonic() - begun >= 3 / MISSED - 0.1, "a third of lateAfter"
    with watching(meta) as gate:
        until("the watch has ended, with the host there", lambda: send(meta, beat) or gate.poll() is not None)
        assert gate.returncode == 0


def test_a_version_that_cannot_be_downloaded_fails_by_its_reason(meta, hosts):
    meta.run("set", AGENT, "version=9", "--yes")  # of which there is no tarball
    shown = watch(meta, 1, "--max-failed", "0")
    assert "failed on" in shown
    assert "9 refused on" in shown
    assert "answered 404" in shown
    assert [host.current(AGENT) for host in hosts] == ["1", "1", "1"]


def test_a_mirror_that_is_away_is_to_do_and_said_to_be_why(meta, hosts):
    for host in hosts:
        reconfigure(host, timeouts=SETTINGS["timeouts"] | {"download": 1})
    until("they have read that", lambda: all("read again" in host.log.read_text() for host in hosts))
    meta.run("set", AGENT, "version=2", "tarball=http://127.0.0.1:1", "md5=" + "0" * 32, "--yes")
    until("they say why", lambda: sum(one["hosts"] for one in progress(meta)["failures"]) == 3, within=60)
    shown = meta.run("status", AGENT, "--watch", "--within", "1s", "--max-failed", "0", expect=1).stdout
    assert "3 to do (" in shown
    assert "wait for download" in shown
    assert "the time is up" in shown
    assert "2 failed on " in shown, "the reason"


def test_a_version_that_dies_in_the_last_moment_of_its_watch_is_not_let_through(meta, hosts):
    """Between the last probe and the end nobody looks; the look at the end says how it was."""
    for host in hosts:
        reconfigure(host, watch=2.7, probe=2.6)  # it dies 2.5 s after its start
    meta.run("set", AGENT, "version=3", "--yes")
    assert "failed on 3 hosts" in watch(meta, 1)


def test_a_ban_of_the_watched_version_takes_it_back(meta, hosts):
    for host in hosts:
        reconfigure(host, watch=3600)
    meta.run("set", AGENT, "version=2", "--for", "hosts:web-1", "--yes")
    with watching(meta) as gate:
        assert any("on trial" in line for line in gate.stdout), "it has seen the trial"
        meta.run("ban", AGENT, "2", "--why", "leaks", "--yes")
        assert "taken back" in gate.stdout.read()
        assert gate.wait(60) == 4


def test_a_ban_from_before_the_watch_is_taken_back_too_once_the_others_are_done(meta, hosts):
    """The host of the override still runs the banned version."""
    meta.run("set", AGENT, "version=2", "--for", "hosts:web-1", "--yes")
    watch(meta, 0)
    meta.run("ban", AGENT, "2", "--why", "leaks", "--yes")
    shown = watch(meta, 4)
    assert "every host" not in shown
    assert "2 good; left out: 1 banned" in shown
    assert "taken back from 1 host: what the records name for them is banned" in shown
    assert "left out: web-1 (banned)" in shown
    watch(meta, 0, "--for", "hosts:web-2,web-3")
    meta.run("unset", AGENT, "--for", "hosts:web-1", "--yes")
    assert "done: 3 hosts good" in watch(meta, 0)


def test_a_canary_that_is_promoted_goes_on_and_what_changes_elsewhere_is_not_looked_at(meta, hosts):
    meta.run("set", AGENT, "version=2", "--for", "prefix:web-1", "--yes")
    with watching(meta) as gate, watching(meta, "--for", "hosts:web-2") as elsewhere:
        until("the canary is good", lambda: progress(meta)["good"] == 3, within=60)
        assert gate.wait(60) == elsewhere.wait(60) == 0
    for host in hosts:
        reconfigure(host, watch=6)
    meta.run("set", AGENT, "version=1", "--for", "prefix:web-1", "--yes")
    meta.run("set", AGENT, "version=2", "--for", "prefix:web-1", "--yes")
    meta.run("set", AGENT, "version=2", "--for", "prefix:web-3", "--yes")
    with watching(meta) as gate, watching(meta, "--for", "hosts:web-1") as canary:
        until("a canary is on trial", lambda: progress(meta)["trial"] > 0, within=60)
        meta.run("set", AGENT, "version=2", "--yes")
        meta.run("unset", AGENT, "--for", "prefix:web-1", "--yes")
        meta.run("unset", AGENT, "--for", "prefix:web-3", "--yes")
        assert gate.wait(100) == canary.wait(100) == 0
    assert [host.current(AGENT) for host in hosts] == ["2", "2", "2"]


def test_hosts_that_meta_could_not_hear_of_while_it_was_away_are_waited_for(meta, hosts):
    meta.stop()
    away = time.monotonic()
    until("all hosts are late", lambda: time.monotonic() > away + 4)
    for host in hosts:
        reconfigure(host, interval=1)
    meta.start("--config", str(meta.directory / "meta.yaml"))
    assert "done: 3 hosts good" in watch(meta, 0)


def send(meta, agent, host="go-1"):
    ordered(meta, agent, host)


def ordered(meta, agent, host):
    """Report the agent, and return the orders of the host."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{meta.url}/heartbeat", json={"hostname": host, "realAgents": [agent]}, timeout=10)
    assert answer.status_code == 200
    time.sleep(0.01)  # two beats of a host never come at one moment
    return answer.json()["desiredAgents"]


def test_what_a_person_on_a_host_takes_back_is_said_to_be_so(meta, hosts):
    meta.run("set", AGENT, "version=2", "--yes")
    watch(meta, 0)
    assert hosts[0].run("rollback", AGENT).returncode == 0
    shown = watch(meta, 1)
    assert BY_HAND in shown
    assert f"{BY_HAND}: 2" in meta.run("host", "web-1").stdout


def test_hosts_that_hold_the_agent_wait_for_a_person(meta, hosts):
    for host in hosts:
        assert host.run("hold", AGENT, "--why", "looking at it").returncode == 0
    meta.run("set", AGENT, "version=2", "--yes")
    until("meta knows that it is held", lambda: progress(meta)["held"] == 3)
    assert "updater unhold" in watch(meta, 3)


@pytest.mark.parametrize("interval", [0.5, 6], ids=["heard of in between", "not heard of in between"])
def test_a_watch_of_a_rollback_waits_for_a_host_that_is_starting_what_was_withdrawn(tmp_path, meta, interval):
    slow = QUIET.replace("start) running ||", "start) while [ ! -e ../go ]; do sleep 0.05; done; running ||")
    agents.publish(meta.tarballs, AGENT, "4", members(slow))
    with Host(tmp_path / "web-1", meta.address, **SETTINGS | {"timeouts": {"start": 60, "stop": 5}}) as host:
        host.start()
        until("1 has come through its watch", lambda: progress(meta)["good"] == 1, within=60)
        reconfigure(host, interval=interval)
        meta.run("set", AGENT, "version=4", "--yes")
        os.kill(host.pid, signal.SIGUSR1)
        until("4 is being started", lambda: host.current(AGENT) == "4", within=60)
        meta.run("rollback", "--agent", AGENT, "--yes")
        with watching(meta, "--include-lost") as gate:
            assert "1 to do" in gate.stdout.readline()
            (host.root / AGENT / "go").touch()
            shown = gate.stdout.read()
            assert (gate.wait(60), host.current(AGENT), host.control(AGENT, "status")) == (0, "1", "started"), shown


def test_a_watch_of_a_rollback_waits_for_a_host_whose_updater_was_killed_while_it_stopped_what_is_to_run(
    tmp_path, meta
):
    slow = QUIET.replace("stop) running", "stop) while [ ! -e ../go ]; do sleep 0.05; done; running")
    agents.publish(meta.tarballs, AGENT, "7", members(slow))
    meta.run("set", AGENT, "version=7", "--yes")
    with Host(tmp_path / "web-1", meta.address, **SETTINGS | {"timeouts": {"start": 5, "stop": 60}}) as host:
        host.start()
        until("7 has come through its watch", lambda: progress(meta)["good"] == 1, within=60)
        meta.run("set", AGENT, "version=2", "--yes")
        until("7 is being stopped", lambda: progress(meta)["waits"].get("change"), within=60)
        os.kill(host.pid, signal.SIGKILL)
        host.stop()
        meta.run("rollback", "--agent", AGENT, "--yes")
        host.start()
        with watching(meta) as gate:
            before = meta.ask("hosts/web-1")["lastSeen"]
            until("it was heard of again", lambda: meta.ask("hosts/web-1")["lastSeen"] > before, within=60)
            assert (progress(meta)["todo"], progress(meta)["waits"]) == (1, {"change": 1})
            (host.root / AGENT / "go").touch()
            shown = gate.stdout.read()
            assert (gate.wait(60), host.current(AGENT), host.control(AGENT, "status")) == (0, "7", "started"), shown


def test_a_record_that_is_changed_back_meanwhile_ends_a_watch(meta):
    send(meta, {"name": AGENT, "version": "0", "status": "started", "timestamp": 7})
    with watching(meta) as gate:
        assert "1 to do" in gate.stdout.readline()
        meta.run("set", AGENT, "version=0", "--yes")
        assert "taken back" in gate.stdout.read()
        assert gate.wait(60) == 4


def test_a_record_that_is_removed_while_no_host_has_the_agent_yet_ends_a_watch(meta):
    send(meta, {"name": "other", "version": "1", "status": "started", "timestamp": 7})
    with watching(meta) as gate:
        assert "1 to do" in gate.stdout.readline()
        meta.run("unset", AGENT, "--yes")
        assert "taken back" in gate.stdout.read()
        assert gate.wait(60) == 4


def test_a_version_that_is_set_back_to_what_an_override_spared_some_for_is_taken_back(meta):
    for host, version in (("go-1", "0"), ("old-1", "1")):
        send(meta, {"name": AGENT, "version": version, "status": "started", "timestamp": 7}, host)
    meta.run("set", AGENT, "version=1", "--for", "hosts:old-1", "--yes")
    meta.run("set", AGENT, "version=2", "--yes")
    with watching(meta, "--include-lost") as gate:
        assert "1 to do" in gate.stdout.readline()
        meta.run("rollback", "--agent", AGENT, "--yes")
        assert "taken back" in gate.stdout.read()
        assert gate.wait(60) == 4


def test_a_version_that_an_override_takes_back_from_all_hosts_but_one_is_taken_back(meta):
    for host in ("go-1", "go-2", "go-3"):
        send(meta, {"name": AGENT, "version": "1", "status": "started", "timestamp": 7}, host)
    meta.run("set", AGENT, "version=2", "--yes")
    with watching(meta, "--include-lost") as gate:
        assert "3 to do" in gate.stdout.readline()
        meta.run("set", AGENT, "version=1", "--for", "hosts:go-2,go-3", "--yes")
        assert gate.wait(60) == 4
        assert "taken back from 2 hosts" in gate.stdout.read()


def test_a_host_that_is_put_aside_takes_no_version_back(meta):
    for host, version in (("go-1", "0"), ("lab-1", "3")):
        send(meta, {"name": AGENT, "version": version, "status": "started", "timestamp": 7}, host)
    meta.run("set", AGENT, "version=3", "--for", "hosts:lab-1", "--yes")
    with watching(meta, "--include-lost") as gate:
        assert "1 to do, 1 on trial" in gate.stdout.readline()
        meta.run("retire", "lab-1")
        until("it is in no count", lambda: gate.stdout.readline().endswith("; 1 to do\n"))

        def has_ended():
            send(meta, {"name": AGENT, "version": "1", "status": "started", "timestamp": 7})
            return gate.poll() is not None

        until("the other host is good", has_ended)
        assert gate.returncode == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("agnet",), "there is no agent agnet; did you mean agent?"),
        ((AGENT, "--for", "hosts:go-1,go-12"), "no host go-12"),
        ((AGENT, "--for", "prefix:GO-"), "prefix GO- fits no host; did you mean prefix go-?"),
        ((AGENT, "--for", "glob:Go-?"), "glob Go-? fits no host; did you mean host go-1?"),
        ((AGENT, "--for", "label:env=stagign"), 'no host has a label "env"'),
    ],
)
def test_a_name_that_nothing_knows_is_wrong_use_and_no_failure(meta, asked, said):
    send(meta, {"name": AGENT, "version": "1", "status": "started", "timestamp": 7})
    assert said in meta.run("status", "--watch", *asked, expect=2).stderr


@pytest.mark.parametrize("selector", ["prefix:GO-", "glob:gO-*"])
def test_a_pattern_that_nearly_fits_is_said_without_a_watch_too(meta, selector):
    send(meta, {"name": AGENT, "version": "1", "status": "started", "timestamp": 7})
    assert "fits no host; did you mean" in meta.run("status", AGENT, "--for", selector, expect=1).stderr
    assert "fits no host; did you mean" in meta.run("status", AGENT, "--for", selector, "-o", "json", expect=1).stderr


@pytest.mark.parametrize("selector", ["prefix:new-", "glob:*-new"])
def test_a_pattern_of_hosts_that_are_still_to_come_is_not_wrong(meta, selector):
    send(meta, {"name": AGENT, "version": "1", "status": "started", "timestamp": 7})
    shown = meta.run("status", AGENT, "--watch", "--for", selector, "--within", "2s", expect=1)
    assert "no host counts" in shown.stdout
    assert "no host counts" in meta.run("status", AGENT, "--for", selector, expect=0).stdout


def test_no_record_and_no_host_are_not_yet(meta):
    assert "no host counts" in watch(meta, 1)
    send(meta, {"name": "other", "version": "1", "status": "started", "timestamp": 7})
    shown = meta.run("status", "other", "--watch", expect=1).stdout
    assert "no record orders this agent" in shown


@pytest.mark.parametrize(("is_retired", "code"), [(False, 1), (True, 0)])
def test_a_host_that_failed_is_not_forgotten_when_another_gets_its_label_unless_it_is_retired(
    patient_meta, is_retired, code
):
    meta = patient_meta
    agent = {"name": AGENT, "version": "1", "status": "started", "timestamp": 7, "trial": False}
    send(meta, agent | {"version": "0", "rejected": "1"})
    send(meta, agent | {"trial": True}, "go-2")
    send(meta, agent | {"trial": True}, "go-3")
    meta.run("label", "go-1", "go-2", "env=st", "--yes")
    with watching(meta, "--for", "label:env=st", "--every", "1") as gate:
        assert "1 failed" in gate.stdout.readline()
        if is_retired:
            meta.run("retire", "go-1")
        else:
            meta.run("label", "go-1", "env-", "--yes")
        meta.run("label", "go-3", "env=st", "--yes")

        def has_ended():
            for host in ("go-2", "go-3"):
                send(meta, agent, host)
            return gate.poll() is not None

        until("the others are good", has_ended)
        assert gate.returncode == code, gate.stdout.read()


def test_a_version_that_is_published_after_hosts_were_refused_it_comes_through(meta, hosts):
    meta.run("set", AGENT, "version=8", "--yes")
    until("all hosts were refused it", lambda: progress(meta)["refused"] == 3, within=60)
    agents.publish(meta.tarballs, AGENT, "8", members("echo no shebang\n"))
    until("they do not ask again", lambda: "neither a program" in progress(meta)["failures"][0]["reason"], within=60)
    agents.publish(meta.tarballs, AGENT, "8", members(QUIET))
    said = meta.run("retry", AGENT, "--yes").stdout
    assert "hosts refused this version and will try it again" in said
    assert "done: 3 hosts good" in watch(meta, 0)


@pytest.mark.parametrize(("failing", "code"), [([], 0), (["web-1"], 1), (["db-1"], 1), (["web-1", "db-1"], 1)], ids=str)
def test_the_script_of_the_readme_releases_to_all_hosts_or_takes_all_of_it_back(meta, failing, code):
    meta.run("set", "my-agent", "version=1.0.0", f"tarball={meta.url}/tarball", "--yes")
    runs = dict.fromkeys(("web-1", "db-1"), "1.0.0")

    def beat(host):
        """As a host that rejects 1.0.1, or comes to what it is told to run at once."""
        rejected = {"rejected": "1.0.1"} if orders.get(host) == "1.0.1" and host in failing else {}
        agent = {"name": "my-agent", "version": runs[host], "status": "started", "timestamp": 7, "trial": False}
        [order] = [one for one in ordered(meta, agent | rejected, host) if one["name"] == "my-agent"]
        orders[host] = order["version"]
        if host not in failing:
            runs[host] = order["version"]

    def record():
        found = json.loads(meta.run("status", "my-agent", "-o", "json").stdout)["record"]
        return found["version"], found.get("overrides", [])

    orders = {}
    for host in runs:
        beat(host)
    command = Path(sys.executable).parent
    environment = {"META_URL": meta.url, "META_TOKEN_FILE": str(meta.token), "PATH": f"{command}:/usr/bin:/bin"}
    with subprocess.Popen(["sh", "-c", release_script()], env=environment) as script:
        until("it has ended", lambda: [beat(host) for host in runs] and script.poll() is not None, within=100)
    assert (script.returncode, record()) == (code, ("1.0.1" if code == 0 else "1.0.0", []))


def test_a_host_is_shown_to_be_on_trial_and_what_became_of_it(meta, hosts):
    for host in hosts:
        reconfigure(host, watch=3600)
    meta.run("set", AGENT, "version=2", "--yes")
    until("it is on trial", lambda: progress(meta)["trial"] == 3, within=60)
    assert "on trial, in its watch" in meta.run("host", "web-1").stdout
    assert "(on trial)" in meta.run("hosts", "--agent", AGENT).stdout
    for host in hosts:
        reconfigure(host, watch=0)
    watch(meta, 0)
    assert "it has come through its watch" in meta.run("host", "web-1").stdout


def test_a_version_that_is_ordered_with_other_bytes_is_not_let_through(meta, hosts):
    md5 = "0" * 32
    meta.run("set", AGENT, f"md5={md5}", "--yes")
    said = watch(meta, 1)
    assert "1 refused on 3 hosts: 1 is installed with md5 " in said
    assert f", desired says {md5}: publish changed bytes as a new version" in said
    assert "publish changed bytes" in meta.run("host", "web-1").stdout
    meta.run("rollback", "--agent", AGENT, "--yes")
    assert "3 good" in watch(meta, 0)
