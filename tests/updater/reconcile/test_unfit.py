"""What is refused after it was fetched, or cannot be laid out for what the host lacks: one download, however many cycles."""

import json
import os
import resource
import shutil

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, script
from lab.fleet import Host as Machine
from updater.artifact import kept_tarball, runnable
from updater.artifact.tar_reader import Limits
from updater.host import control_script, operator_requests
from updater.host.memories import Memories
from updater.reconcile.cycle import run

CRLF = "#!/bin/sh\r\necho started\r\n"
NEEDS = HEALTHY.replace("#!/bin/sh", "#!/usr/bin/env agents-own-sh")


def tarballs(site):
    """How often a tarball was fetched."""
    return sum(path.endswith(".tar.gz") for path in site.gets)


def refused_often(host, times=3):
    """Cycles, each of which says why."""
    reasons = set()
    for _ in range(times):
        [turn] = run(host).turns
        reasons.add(turn.waits)
    [reason] = reasons
    return reason


@pytest.fixture
def refusing(host, site):
    """A host that has version 1 and has refused version 2 for what it holds."""
    site.publish(version="1")
    site.desire(("agent", "1"))
    run(host)
    site.publish(version="2", control=CRLF)
    site.desire(("agent", "2"))
    site.gets.clear()
    site.reports.clear()
    assert "control of 2 cannot run: its first line ends in CR LF" in refused_often(host)
    return host


def current(host):
    return host.layout.agent("agent").version_file.read_text().strip()


def test_a_content_that_is_refused_is_fetched_once_and_said_in_each_cycle(refusing, site):
    assert tarballs(site) == 1
    [outcome] = site.outcomes()
    assert (outcome["to"], outcome["step"], outcome["result"]) == ("2", "install", "refused")
    assert current(refusing) == "1"
    assert control_script.status(refusing.layout.agent("agent").install("1"), 5).text == "started"
    assert not refusing.layout.downloads_of("agent").exists()


def test_another_updater_that_begins_knows_it_too(refusing, site):
    refusing.memories = Memories(refusing.layout.memories)
    refused_often(refusing, 1)
    assert tarballs(site) == 1


def test_it_is_fetched_when_other_bytes_are_published(refusing, site):
    site.publish(version="2")
    assert run(refusing).matches
    assert (current(refusing), tarballs(site)) == ("2", 2)
    assert refusing.memories.of("agent").unfit is None, "and all is forgotten"


def test_bytes_that_are_not_the_wanted_ones_are_refused_as_ever_and_asked_for_again(host, site):
    site.publish(version="1")
    site.desire(site.entry("agent", "1", md5="0" * 32))
    assert f"expected {'0' * 32}" in refused_often(host)
    assert [one["result"] for one in site.outcomes()] == ["refused"]
    assert tarballs(site) >= 3, "for a mirror may get the right ones"


def test_it_is_fetched_again_for_a_new_attempt_and_that_is_told_again(refusing, site):
    site.desire(site.entry("agent", "2", attempt=7))
    refused_often(refusing)
    assert tarballs(site) == 2
    run(refusing)
    assert [one["attempt"] for one in site.outcomes()] == [0, 7], "of which order each was"


def test_it_is_fetched_again_when_a_person_asks_for_it(refusing, site):
    operator_requests.request_retry(refusing.layout, "agent", "2")
    refused_often(refusing)
    assert tarballs(site) == 2


def test_it_is_fetched_again_after_another_order(refusing, site):
    site.desire(("agent", "1"))
    run(refusing)
    site.desire(("agent", "2"))
    refused_often(refusing)
    assert tarballs(site) == 2


def test_it_is_fetched_again_when_the_host_has_other_limits(host, site):
    site.publish(version="1")
    site.desire(("agent", "1"))
    usual, host.config = host.config, replace(host.config, limits=Limits(members=0))
    assert "more than 0 members" in refused_often(host)
    assert tarballs(site) == 1
    host.config = usual
    assert run(host).matches
    assert tarballs(site) == 2


def test_why_names_no_step_that_a_refused_content_keeps_from_coming(tmp_path, site):
    with Machine(tmp_path / "h1", site.address, interval=60, watch=0) as machine:
        [entry] = site.desired = [site.entry(md5=site.publish(control=CRLF).md5)]
        machine.run("once")
        said = machine.run("why", "agent").stdout
        assert "waits      1 was refused (control of 1 cannot run: its first line ends in CR LF" in said
        assert "it is not fetched again until it has another digest, or the order" in said
        assert "next " not in said
        site.desire(entry | {"md5": ""})
        machine.run("once")
        assert "another digest, for which each cycle looks at its digest file, or" in machine.run("why", "agent").stdout
        assert tarballs(site) == 1
        machine.config.write_text(json.dumps(json.loads(machine.config.read_text()) | {"limits": {"members": 9}}))
        assert "next       install 1 (desired)" in machine.run("why", "agent").stdout


@pytest.mark.long
def test_a_retry_by_command_says_that_it_was_refused_again(tmp_path, site):
    with Machine(tmp_path / "h1", site.address, interval=60, watch=0) as machine:
        site.publish(version="1", control=script('echo "$1" >../last; [ "$1" = status ] && echo started'))
        site.desire(("agent", "1"))
        assert machine.run("once").returncode == 0
        site.publish(version="2", control=CRLF)
        site.desire(("agent", "2"))
        for _ in range(2):
            assert machine.run("once").returncode == 1
        assert tarballs(site) == 2, "one of each"
        done = machine.run("retry", "agent")
        assert (done.returncode, tarballs(site)) == (1, 3), done.stderr
        assert "agent 2 was refused again: control of 2 cannot run: its first line ends in CR LF" in done.stderr


@pytest.fixture
def programs(host, tmp_path, monkeypatch):
    """A directory on the PATH of the agents, which is empty at first."""
    directory = tmp_path / "programs"
    directory.mkdir()
    (host.layout.root / "environment").write_text(f"PATH={directory}:{os.environ['PATH']}\n")
    return directory


def test_a_version_whose_interpreter_is_missing_waits_here_until_the_host_has_it(host, site, programs):
    site.publish(control=NEEDS)
    site.desire(("agent", "1"))
    assert "its interpreter agents-own-sh is not on the PATH" in refused_often(host)
    assert tarballs(site) == 1
    assert [one["result"] for one in site.outcomes()] == ["refused"]
    shutil.copy("/bin/sh", programs / "agents-own-sh")
    assert run(host).matches
    assert tarballs(site) == 1
    assert not host.layout.downloads_of("agent").exists(), "and is not kept any longer"


def test_what_waits_here_is_given_up_for_other_bytes(host, site, programs):
    site.publish(control=NEEDS)
    site.desire(("agent", "1"))
    refused_often(host)
    site.publish(control=HEALTHY)
    assert run(host).matches
    assert tarballs(site) == 2
    assert not host.layout.downloads_of("agent").exists()


def test_what_waits_here_and_was_damaged_meanwhile_is_fetched_again(host, site, programs):
    site.publish(control=NEEDS)
    site.desire(("agent", "1"))
    refused_often(host)
    shutil.copy("/bin/sh", programs / "agents-own-sh")
    with host.layout.download("agent", "agent-1.tar.gz").open("r+b") as file:
        file.truncate(100)
    assert run(host).matches
    assert tarballs(site) == 2


def test_what_waits_here_goes_when_another_version_is_ordered(host, site, programs):
    site.publish(control=NEEDS)
    site.desire(("agent", "1"))
    refused_often(host)
    site.publish(version="2")
    site.desire(("agent", "2"))
    assert run(host).matches
    run(host)
    assert not host.layout.downloads_of("agent").exists()


def test_a_tarball_that_found_no_room_waits_here_until_there_is_some(host, site):
    site.publish(version="1")
    site.desire(("agent", "1"))
    usual, host.config = host.config, replace(host.config, limits=Limits(reserve=1 << 60))
    for _ in range(3):
        [turn] = run(host).turns
        assert "of them reserved" in turn.waits
    assert tarballs(site) == 1
    host.config = usual
    assert run(host).matches
    assert tarballs(site) == 1
    assert not host.layout.downloads_of("agent").exists()


def test_an_interpreter_beside_the_install_is_looked_for_from_where_the_install_will_be(host, site):
    site.publish(control=HEALTHY.replace("#!/bin/sh", "#!../../runtime/sh"))
    site.desire(("agent", "1"))
    assert "its interpreter ../../runtime/sh is not on this machine" in refused_often(host)
    assert tarballs(site) == 1
    runtime = host.layout.root / "runtime"
    runtime.mkdir()
    shutil.copy("/bin/sh", runtime / "sh")
    assert run(host).matches
    assert tarballs(site) == 1


def test_a_control_that_cannot_be_read_for_a_moment_is_not_refused(tmp_path):
    program = tmp_path / "control"
    program.write_text(HEALTHY)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
    try:
        problem = runnable.problem(program, os.environ["PATH"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert problem == ""
    program.write_text("")
    assert runnable.problem(program, os.environ["PATH"]) == "it is empty"


def test_two_tarballs_that_wait_do_not_both_take_the_room_that_they_wait_for(host):
    kept = {name: host.layout.download(name, f"{name}-1.tar.gz") for name in ("one", "two")}
    for file in kept.values():
        file.parent.mkdir(parents=True)
        file.write_bytes(b"a tarball")
    kept_tarball.give_way(kept["one"])
    assert [name for name, file in kept.items() if file.exists()] == ["two"]
    kept_tarball.give_way(kept["two"])
    assert kept["two"].exists(), "nobody else waits"
