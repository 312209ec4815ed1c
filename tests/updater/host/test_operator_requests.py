"""A hand on the host: why, hold, unhold and rollback, with a daemon running and without one."""

import json
import os
import re
import signal
import time

import pytest

from helpers.agents import QUIET, script
from lab.fleet import Host, until

pytestmark = pytest.mark.long


@pytest.fixture
def host(tmp_path, site):
    with Host(
        tmp_path / "h1", site.address, interval=0.3, watch=0, timeouts={"start": 2, "stop": 2, "status": 2}
    ) as made:
        yield made


@pytest.fixture
def upgraded(host, site):
    """The host went from 1 to 2."""
    for version in ("1", "2"):
        site.publish(version=version, control=QUIET)
        site.desire(("agent", version))
        assert host.run("once").returncode == 0
    return host


def running(host, version):
    return (host.current("agent"), host.control("agent", "status")) == (version, "started")


def test_a_held_agent_is_left_alone_and_reported_as_held(upgraded, site):
    site.publish(version="3", control=QUIET)
    site.desire(("agent", "3"))
    done = upgraded.run("hold", "agent", "--why", "I am looking into it")
    assert (done.returncode, done.stdout) == (0, "agent is held\n")
    done = upgraded.run("once")
    assert (done.returncode, done.stdout) == (1, "agent: held: I am looking into it\n")
    assert running(upgraded, "2")
    assert site.reports[-1]["realAgents"][0]["held"] == "I am looking into it"

    assert upgraded.run("unhold", "agent").stdout == "agent is no longer held\n"
    assert upgraded.run("unhold", "agent").stdout == "agent was not held\n"
    assert upgraded.run("once").returncode == 0
    assert running(upgraded, "3")
    assert "held" not in site.reports[-1]["realAgents"][0]


def test_a_second_hold_without_a_reason_keeps_the_first_one(upgraded):
    upgraded.run("hold", "agent", "--why", "I am looking into it")
    done = upgraded.run("hold", "agent")
    assert done.stdout == "agent is held already (I am looking into it); --why TEXT changes the reason\n"
    assert "held       I am looking into it" in upgraded.run("why", "agent").stdout
    assert upgraded.run("hold", "agent", "--why", "so do I").stdout == "agent is held\n"
    assert "held       so do I" in upgraded.run("why", "agent").stdout


def test_a_held_agent_that_is_stopped_by_hand_stays_stopped(upgraded):
    upgraded.run("hold", "agent")
    upgraded.control("agent", "stop")
    upgraded.run("once")
    assert upgraded.control("agent", "status") == "stoped"


def test_a_daemon_heeds_a_hold_from_its_next_look_on(upgraded, site):
    upgraded.start()
    until("it beats", lambda: site.reports)
    upgraded.run("hold", "agent")
    until("meta hears of it", lambda: site.reports[-1]["realAgents"][0].get("held"))
    site.publish(version="3", control=QUIET)
    site.desire(("agent", "3"))
    count = len(site.reports)
    until("it has had its chance", lambda: len(site.reports) > count + 2)
    assert running(upgraded, "2")


def test_a_rollback_by_hand_without_a_daemon(upgraded, site):
    done = upgraded.run("rollback", "agent")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert "agent is at 1" in done.stdout
    assert running(upgraded, "1")
    done = upgraded.run("once")
    assert "2 was rolled back (by hand); waits for another version or a retry" in done.stdout
    assert running(upgraded, "1")
    site.publish(version="3", control=QUIET)
    site.desire(("agent", "3"))
    assert upgraded.run("once").returncode == 0
    assert running(upgraded, "3")


def test_a_rollback_by_hand_is_seen_to_by_a_running_daemon_at_once(upgraded, site):
    settings = json.loads(upgraded.config.read_text())
    upgraded.config.write_text(json.dumps(settings | {"interval": 1000}))
    upgraded.start()
    until("it runs", lambda: "first cycle" in upgraded.log.read_text())
    done = upgraded.run("rollback", "agent")
    assert done.returncode == 0, done.stderr
    assert running(upgraded, "1")


def test_a_second_rollback_finds_nothing_to_take_back(upgraded):
    upgraded.run("rollback", "agent")
    done = upgraded.run("rollback", "agent")
    assert done.returncode == 1
    assert "there is nothing to roll back" in done.stderr


def test_a_rollback_without_another_version_says_so(host, site):
    site.publish(version="1", control=QUIET)
    site.desire(("agent", "1"))
    host.run("once")
    done = host.run("rollback", "agent")
    assert done.returncode == 1
    assert "agent is not rolled back: no other version is installed" in done.stderr


def test_a_rollback_does_not_lead_to_a_version_that_never_ran(host, site):
    site.publish(version="1", control=script('[ "$1" = status ] && echo stoped; exit 0'))
    site.publish(version="2", control=QUIET)
    for version in ("1", "2"):
        site.desire(("agent", version))
        host.run("once")
    done = host.run("rollback", "agent")
    assert done.returncode == 1
    assert "no other version has come through its watch here, or ran when it was left (1 installed)" in done.stderr
    assert running(host, "2") and "rollback" not in host.run("why", "agent").stdout


@pytest.mark.parametrize("command", ["hold", "unhold", "rollback", "retry", "why"])
def test_an_agent_that_is_not_here_is_named_as_such(upgraded, command):
    done = upgraded.run(command, "agnet")
    assert done.returncode == 1
    assert f"no agent agnet below {upgraded.root}" in done.stderr
    assert upgraded.run(command, "../../etc").returncode == 2


def test_why_tells_what_is_desired_seen_tried_and_next(upgraded, site):
    site.publish(
        version="3",
        control=script('[ "$1" = status ] && echo stoped; [ "$1" = start ] && echo "no agent.conf"; exit 0'),
    )
    site.desire(("agent", "3"))
    assert upgraded.run("once").returncode == 1
    lines = upgraded.run("why", "agent").stdout.splitlines()
    told = {line.split()[0]: line.partition(" ")[2].strip() for line in lines}
    assert told["desired"].startswith("start 3, as of")
    assert told["desired"].endswith("s ago or later")
    assert told["observed"] == "2 started"
    assert told["installed"] == "2, 3"
    assert "3 was rolled back (not started within 2 s" in told["waits"]
    assert (told.get("rollback"), told["evidence"]) == (None, "no agent.conf"), "it is at 2 again"
    assert "rolled back at start: 2 -> 3" in told["last"]


def rollback_target(host):
    """As `why` shows it, and where a rollback then takes the agent."""
    shown = [line.split()[-1] for line in host.run("why", "agent").stdout.splitlines() if line.startswith("rollback")]
    done = host.run("rollback", "agent")
    return shown, [host.current("agent")] if done.returncode == 0 else []


def test_why_shows_the_version_that_a_rollback_goes_to(upgraded, site):
    assert rollback_target(upgraded) == (["1"], ["1"])
    assert rollback_target(upgraded) == ([], []), "it is taken back already"
    site.desire(("agent", "1"))
    assert upgraded.run("once").returncode == 0
    assert "installed  1, 2\n" in upgraded.run("why", "agent").stdout, "the version before is kept"
    assert rollback_target(upgraded) == ([], []), "2 was taken back from"


def test_a_retry_of_a_download_with_other_bytes_says_that_it_is_fetched_again_anyway(upgraded, site):
    site.publish(version="3", control=QUIET)
    site.desire(site.entry("agent", "3", md5="0" * 32))
    assert upgraded.run("once").returncode == 1
    done = upgraded.run("retry", "agent")
    assert done.returncode == 1
    assert "agent 3: refused at install (" in done.stderr
    assert "Each cycle tries it again by itself, so no retry is needed" in done.stderr


def test_a_retry_of_a_version_that_was_published_again_with_other_bytes_says_why_it_is_none(upgraded, site):
    site.desire(site.entry("agent", "2", md5="0" * 32))
    assert upgraded.run("once").returncode == 1
    done = upgraded.run("retry", "agent")
    assert done.returncode == 1
    assert "0" * 32 in done.stderr
    assert "A retry would not change that" in done.stderr


def test_why_says_since_when_meta_cannot_have_answered(upgraded):
    reply = upgraded.root / ".updater" / "reply.json"
    kept = json.loads(reply.read_text())
    reply.write_text(json.dumps(kept | {"at": time.time() - 7 * 3600, "boot": "a former one"}))
    desired = upgraded.run("why", "agent").stdout.splitlines()[0]
    found = re.search(r"as of (\d+) s ago or later; meta has not answered in the last (\d+) s$", desired)
    assert found, desired
    assert int(found[1]) - int(found[2]) == 6 * 3600


def test_why_of_an_agent_that_is_as_desired(upgraded):
    assert "for nothing, it is as desired" in upgraded.run("why", "agent").stdout


def test_why_works_beside_a_running_daemon(upgraded, site):
    upgraded.start()
    until("it beats", lambda: site.reports)
    assert upgraded.run("why", "agent").returncode == 0
    os.kill(upgraded.pid, signal.SIGUSR1)
    assert upgraded.running


BROKEN_UNTIL_MENDED = QUIET.replace("start)", "start) [ -e ../mended ] || exit 1;")


@pytest.fixture
def rejected(upgraded, site):
    """The host has rolled 3 back, which starts once something outside of it is mended."""
    site.publish(version="3", control=BROKEN_UNTIL_MENDED)
    site.desire(("agent", "3"))
    assert upgraded.run("once").returncode == 1
    assert running(upgraded, "2")
    site.reports.clear()
    return upgraded


def mend(host):
    (host.root / "agent" / "mended").touch()


def test_a_rolled_back_version_is_tried_again_by_hand_without_a_daemon(rejected, site):
    mend(rejected)
    assert rejected.run("once").returncode == 1, "it is not tried by itself"
    done = rejected.run("retry", "agent")
    assert (done.returncode, done.stdout) == (0, "agent is at 3; `updater why agent` tells more\n"), done.stderr
    assert running(rejected, "3")
    done = rejected.run("retry", "agent")
    assert done.returncode == 1
    assert "there is nothing to retry" in done.stderr


def test_a_version_that_fails_again_is_said_so_and_the_one_before_runs_on(rejected):
    done = rejected.run("retry", "agent")
    assert done.returncode == 1
    assert "agent 3 was rolled back again: not started within" in done.stderr
    assert running(rejected, "2")
    assert rejected.run("once").returncode == 1
    assert running(rejected, "2")


def test_a_running_updater_tries_again_at_once(rejected, site):
    settings = json.loads(rejected.config.read_text())
    rejected.config.write_text(json.dumps(settings | {"interval": 1000}))
    rejected.start()
    until("it runs", lambda: "first cycle" in rejected.log.read_text())
    mend(rejected)
    done = rejected.run("retry", "agent")
    assert (done.returncode, done.stderr) == (0, "")
    assert running(rejected, "3")


def test_a_hold_and_its_end_are_reported_at_once(host, site):
    site.publish()
    site.desire(("agent", "1"))
    assert host.run("once").returncode == 0
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"interval": 1000}))
    host.start()
    until("it runs", lambda: "first cycle" in host.log.read_text())
    for command, held in (("hold", "no reason given"), ("unhold", None)):
        before = len(site.reports)
        assert host.run(command, "agent").returncode == 0
        until("meta hears of it", lambda before=before: len(site.reports) > before)
        assert [agent.get("held") for agent in site.reports[-1]["realAgents"]] == [held]


def test_a_held_agent_is_not_tried_again(rejected):
    mend(rejected)
    rejected.run("hold", "agent", "--why", "mine")
    done = rejected.run("retry", "agent")
    assert done.returncode == 1
    assert "agent is held (mine): updater unhold agent first" in done.stderr


def test_a_higher_attempt_of_meta_has_a_rolled_back_version_tried_once_more(rejected, site):
    site.desire(site.entry("agent", "3", attempt=5))
    assert rejected.run("once").returncode == 1
    assert [(o["to"], o["result"], o["attempt"]) for o in site.outcomes()][-1] == ("3", "rolled back", 5)
    mend(rejected)
    assert rejected.run("once").returncode == 1, "not again at the same attempt"
    site.desire(site.entry("agent", "3", attempt=4))
    assert rejected.run("once").returncode == 1, "nor at a lower one"
    site.desire(site.entry("agent", "3", attempt=6))
    assert rejected.run("once").returncode == 0
    assert running(rejected, "3")


def test_a_memory_of_an_earlier_updater_that_rejected_a_version_is_understood(rejected, site):
    memory = rejected.root / ".updater" / "agents" / "agent.json"
    kept = json.loads(memory.read_text())
    del kept["rejected"]["order"]["attempt"]
    del kept["last"]["attempt"]
    memory.write_text(json.dumps(kept))
    assert rejected.run("once").returncode == 1
    mend(rejected)
    site.desire(site.entry("agent", "3", attempt=1))
    assert rejected.run("once").returncode == 0
