"""Whole cycles of one host: what meta desires becomes true, and nothing else happens."""

import os
import shutil
import signal
import stat
import subprocess

import pytest
from msgspec.structs import replace

from helpers.agents import HEALTHY, calls, install, script
from helpers.servers import Server, answer, drip, endless, raw
from lab.fleet import until
from updater.errors import Refused, TryLater
from updater.host import control_script, operator_requests
from updater.kernel import clocks
from updater.model.actions import Source
from updater.model.observed import Observed, State
from updater.reconcile import cycle
from updater.reconcile.agent_turn import converge
from updater.wire.heartbeat import Outcome

NEVER_STARTS = script('[ "$1" = status ] && echo stoped; [ "$1" = start ] && echo "cannot read agent.conf" >&2; exit 0')


def current(host, name="agent"):
    file = host.layout.agent(name).version_file
    return file.read_text().strip() if file.exists() else ""


def status(host, name="agent"):
    return control_script.status(host.layout.agent(name).install(current(host, name)), 5).text


def pid(host, name="agent"):
    return int((host.layout.agent(name).install(current(host, name)) / "pid").read_text())


def run(host, times=1):
    for _ in range(times):
        result = cycle.run(host)
    return result


@pytest.fixture
def running(host, site):
    """The host runs version 1, installed by us."""
    site.publish(version="1")
    site.desire(("agent", "1"))
    run(host)
    assert (current(host), status(host)) == ("1", "started")
    site.reports.clear()
    site.gets.clear()
    return pid(host)


def prove(host):
    """What runs comes through its watch."""
    watch = host.config.watch
    host.reconfigure(replace(host.config, watch=0))
    run(host)
    host.reconfigure(replace(host.config, watch=watch))
    assert not host.memories.of("agent").is_on_trial


def test_a_version_on_trial_comes_through_its_watch_also_where_its_order_has_vanished(host, site, running):
    prove(host)
    host.reconfigure(replace(host.config, watch=1.0))
    site.publish(version="2")
    site.desire(("agent", "2"))
    run(host)
    site.desire()
    assert site.reports[-1]["realAgents"][0]["trial"] is True
    before = pid(host)
    until("it has come through", lambda: run(host) and site.reports[-1]["realAgents"][0]["trial"] is False)
    assert (current(host), status(host), pid(host)) == ("2", "started", before), "and nothing else was done"
    assert [(one["to"], one["step"], one["result"]) for one in site.outcomes()][-1] == ("2", "watch", "done")


def untouched(host, running):
    return (current(host), status(host), pid(host)) == ("1", "started", running)


def test_a_first_install_is_started_and_reported_at_once(host, site):
    site.publish(version="1")
    site.desire(("agent", "1"))
    assert run(host).matches
    assert (current(host), status(host)) == ("1", "started")
    first, second = site.reports
    about = {key: first[key] for key in ("updaterVersion", "machine", "boot") if key in first}
    assert first == {"hostname": "h1", "realAgents": []} | about
    [agent] = second["realAgents"]
    assert (agent["name"], agent["version"], agent["status"]) == ("agent", "1", "started")
    assert agent["trial"] is True
    assert "outcomes" not in second, "it is done when it has come through its watch"


def test_a_version_is_done_when_its_watch_has_passed_and_that_is_reported_at_once(host, site):
    host.reconfigure(replace(host.config, watch=0.5))
    site.publish(version="1")
    site.desire(("agent", "1"))
    run(host)
    until("its watch is over", lambda: host.memories.of("agent").watch_is_over(clocks.ran()))
    before = len(site.reports)
    run(host)
    _, told = site.reports[before:]
    assert told["realAgents"][0]["trial"] is False
    [outcome] = told["outcomes"]
    assert (outcome["to"], outcome["step"], outcome["result"]) == ("1", "watch", "done")
    run(host)
    assert len(site.outcomes()) == 1


def test_a_version_that_dies_while_nobody_looks_and_is_down_at_the_end_of_its_watch_is_taken_back(host, site, running):
    host.reconfigure(replace(host.config, watch=0.5))
    site.publish(version="2")
    site.desire(("agent", "2"))
    run(host)
    os.kill(pid(host), signal.SIGKILL)
    until("its watch is over", lambda: host.memories.of("agent").watch_is_over(clocks.ran()))
    site.reports.clear()
    run(host)
    assert site.reports[0]["realAgents"][0]["trial"] is True, "until it is judged"
    assert (current(host), status(host)) == ("1", "started")
    [outcome] = site.outcomes()
    assert (outcome["result"], outcome["reason"]) == ("rolled back", "was down at the end of its watch")


def test_an_agent_waits_for_its_download_only_as_long_as_it_is_to_have_it(host, site, running):
    missing = site.entry(version="2", tarball="http://127.0.0.1:1")
    site.desire(missing)
    run(host)
    assert host.waits == {"agent": "download"}
    site.desire(("agent", "1"))
    run(host)
    assert host.waits == {}
    site.desire(missing)
    run(host)
    site.desire()
    run(host)
    assert host.waits == {}


def test_a_download_that_is_to_be_tried_again_is_reported_as_what_the_change_waits_for(host, site, running):
    site.desire(site.entry(version="2", tarball="http://127.0.0.1:1"))
    assert not run(host).matches
    site.reports.clear()
    run(host)
    assert site.reports[0]["realAgents"][0]["waits"] == "download"
    site.publish(version="2")
    site.desire(("agent", "2"))
    run(host)
    assert "waits" not in site.reports[-1]["realAgents"][0]


def test_an_upgrade_stops_the_old_version_only_when_the_new_one_is_there(host, site, running):
    site.publish(version="2")
    site.desire(("agent", "2"))
    assert run(host).matches
    assert (current(host), status(host)) == ("2", "started")
    with pytest.raises(ProcessLookupError):
        until("the old version is buried", lambda: os.kill(running, 0))
    assert (host.layout.agent("agent").path / "1" / "control").exists(), "the old version stays for the way back"


def test_the_same_order_again_does_nothing(host, site, running):
    before = calls(host.layout.root, "agent")
    for _ in range(5):
        result = run(host)
        assert result.matches
        assert not result.turns[0].changed
    assert calls(host.layout.root, "agent")[len(before) :] == ["status"] * 5
    assert site.gets == []
    assert untouched(host, running)


def test_an_upgrade_asks_and_does_no_more_than_it_must(host, site, running):
    """No fixed pauses: one status is for the report, one for the plan once the new version is there, one says that the old
    version has stopped, one that the new one is started, and one is for the next report."""
    prove(host)
    site.publish(version="2")
    site.desire(("agent", "2"))
    before = len(calls(host.layout.root, "agent"))
    run(host)
    assert calls(host.layout.root, "agent")[before:] == ["status"] * 2 + ["stop", "status", "start", "status", "status"]


def test_a_failure_is_told_once_for_each_order_also_where_it_reads_as_the_one_before(host, site, running):
    def told():
        found = [(outcome["to"], outcome["result"]) for outcome in site.outcomes()]
        site.reports.clear()
        return found

    missing, once = site.entry(version="9"), [("9", "refused")]
    for entry in (missing, missing | {"attempt": 3}, missing | {"attempt": 3, "mirrors": [f"{site.url}/mirror"]}):
        site.desire(entry)
        run(host, times=3)
        assert told() == once
    site.desire(("agent", "1"))
    run(host)
    site.desire(entry)
    run(host, times=3)
    assert told() == once, "though another version was ordered in between"


def test_the_new_version_is_complete_before_the_old_one_is_stopped(host, site):
    """The old version's own stop sees the new version, with its control and its marker."""
    looks = HEALTHY.replace("stop)", "stop) ls -A ../2 >../seen-at-stop;")
    site.publish(version="1", control=looks)
    site.publish(version="2")
    site.desire(("agent", "1"))
    run(host)
    site.desire(("agent", "2"))
    assert run(host).matches
    seen = (host.layout.agent("agent").path / "seen-at-stop").read_text().split()
    assert seen == [".installed", "control"]


def test_old_versions_are_removed_and_the_previous_one_is_kept(host, site):
    for version in ("1", "2", "3", "4"):
        site.publish(version=version)
        site.desire(("agent", version))
        assert run(host).matches
    run(host)
    kept = [p.name for p in sorted(host.layout.agent("agent").path.iterdir()) if p.is_dir()]
    assert kept == ["3", "4"]


def test_a_password_in_a_url_is_in_no_log_and_no_report(host, site, running, caplog):
    secret = site.url.replace("http://", "http://user:hunter2@")
    site.desire(
        site.entry(version="2", tarball=secret), site.entry(name="other", version="1", tarball=secret, md5="x" * 31)
    )
    run(host)
    run(host)
    assert "answered 404" in caplog.text
    assert "hunter2" not in caplog.text
    assert "hunter2" not in str(site.reports)
    assert untouched(host, running)


def test_what_holds_a_password_of_a_url_is_its_owners_alone(host, site, running):
    site.desire(site.entry(version="2", tarball=site.url.replace("http://", "http://user:hunter2@")))
    site.publish(version="2", control=NEVER_STARTS)
    run(host)
    kept = [path for path in host.layout.root.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert {path.name for path in kept} == {"reply.json", "agent.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


def test_an_agent_that_died_is_started_again(host, site, running):
    os.kill(running, signal.SIGKILL)
    until("it is down", lambda: status(host) == "stoped")
    assert run(host).matches
    assert status(host) == "started"
    assert site.gets == [], "nothing is downloaded for that"
    [outcome] = site.outcomes()
    assert (outcome["from"], outcome["to"], outcome["step"], outcome["result"]) == ("1", "1", "watch", "failed")
    assert "after its start" in outcome["reason"] or "within a second" in outcome["reason"]
    assert outcome["reason"].endswith("; there is no version to go back to")


def test_a_first_version_that_dies_again_and_again_is_warned_of_once_for_each_reason(host, site, caplog):
    site.publish(version="1")
    site.desire(("agent", "1"))
    run(host)
    for _ in range(3):
        os.kill(pid(host), signal.SIGKILL)
        until("it is down", lambda: status(host) == "stoped")
        run(host)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len([line for line in warned if "there is no version to go back to" in line]) == 1
    assert warned[0].startswith("agent: 1 died ")


def test_stop_stops_whatever_version_runs(host, site, running):
    site.desire(site.entry(version="9", cmd="stop"))
    assert run(host).matches
    assert (current(host), status(host)) == ("1", "stoped")
    assert run(host).matches
    assert site.gets == []


def test_a_stop_of_an_agent_that_is_not_here_is_fulfilled(host, site):
    site.desire({"name": "agent", "cmd": "stop"})
    assert run(host).matches
    assert list(host.layout.root.glob("agent")) == []


def test_a_version_that_never_starts_is_rolled_back_once_and_said(host, site, running):
    site.publish(version="2", control=NEVER_STARTS)
    site.desire(("agent", "2"))
    assert not run(host).matches
    assert (current(host), status(host)) == ("1", "started")
    [outcome] = site.outcomes()
    assert (outcome["from"], outcome["to"], outcome["step"], outcome["result"]) == ("1", "2", "start", "rolled back")
    assert "not started within 1 s" in outcome["reason"]
    assert outcome["evidence"] == "cannot read agent.conf"

    back = pid(host)
    site.reports.clear()
    site.gets.clear()
    result = run(host, times=3)
    assert "waits for another version" in result.turns[0].waits
    assert (pid(host), site.gets, site.outcomes()) == (back, [], [])

    site.publish(version="3")
    site.desire(("agent", "3"))
    assert run(host).matches
    assert current(host) == "3"


def test_what_is_rejected_is_in_every_report_until_another_order_lifts_that_and_then_at_once_in_none(
    host, site, running
):
    def said():
        found = [report["realAgents"][0] for report in site.reports]
        site.reports.clear()
        return [(agent.get("rejected"), agent.get("attempt")) for agent in found]

    site.publish(version="2", control=NEVER_STARTS)
    site.desire(site.entry(version="2", attempt=7))
    run(host)
    assert said() == [(None, None), ("2", 7)]
    run(host, times=2)
    assert said() == [("2", 7), ("2", 7)]
    site.desire(("agent", "1"))
    run(host, times=2)
    assert said() == [("2", 7), (None, None), (None, None)], "told at once, though nothing was changed"
    site.desire(site.entry(version="2"))
    run(host)
    assert said() == [(None, None), ("2", None)]


def test_a_first_version_that_never_starts_is_tried_again_as_there_is_nothing_else(host, site):
    site.publish(version="1", control=NEVER_STARTS)
    site.desire(("agent", "1"))
    assert not run(host).matches
    assert not run(host).matches
    assert [o["result"] for o in site.outcomes()] == ["failed"], "the same failure is reported once"
    assert site.gets.count("/agent-1.tar.gz") == 1


def test_a_host_of_another_updater_is_adopted_without_a_download(host, site):
    install(host.layout.root, "agent", "1")
    control_script.run(host.layout.agent("agent").install("1"), "start", 5)
    before = pid(host)
    site.desire(("agent", "1"))
    assert run(host).matches
    assert (site.gets, pid(host)) == ([], before)


def test_an_adopted_version_is_the_way_back(host, site):
    install(host.layout.root, "agent", "1")
    control_script.run(host.layout.agent("agent").install("1"), "start", 5)
    site.publish(version="2", control=NEVER_STARTS)
    site.desire(("agent", "2"))
    assert not run(host).matches
    assert (current(host), status(host)) == ("1", "started")


def test_an_agent_that_died_comes_up_in_the_old_version_when_the_new_one_cannot_be_had(host, site, running):
    os.kill(running, signal.SIGKILL)
    until("it is down", lambda: status(host) == "stoped")
    site.desire(("agent", "2"))
    assert not run(host).matches
    assert (current(host), status(host)) == ("1", "started")


def test_only_the_desired_agent_of_the_configuration_is_touched(host, site):
    host.config = replace(host.config, desired_agent="other")
    site.publish(name="agent")
    site.publish(name="other")
    site.desire(("agent", "1"), ("other", "1"))
    assert run(host).matches
    assert (current(host, "agent"), current(host, "other")) == ("", "1")


def test_a_version_directory_without_our_marker_is_no_install(host, site, running):
    half = install(host.layout.root, "agent", "2", control=script("echo half"), current=False)
    site.publish(version="2")
    site.desire(("agent", "2"))
    assert run(host).matches
    assert (half / "control").read_text() == HEALTHY


def test_a_current_version_whose_directory_was_deleted_is_installed_again(host, site, running):
    os.kill(running, signal.SIGKILL)
    shutil.rmtree(host.layout.agent("agent").install("1"))
    assert run(host).matches
    assert (current(host), status(host)) == ("1", "started")


def test_no_file_of_ours_is_left_beside_the_versions(host, site, running):
    assert sorted(p.name for p in host.layout.agent("agent").path.iterdir()) == [".calls", ".version", "1"]
    assert list((host.layout.own / "downloads").iterdir()) == []


def test_a_directory_of_other_things_is_not_taken_for_an_agent(host, site):
    (host.layout.root / "var").mkdir()
    (host.layout.root / "var" / "app.log").write_text("ours")
    site.publish(name="var")
    site.desire(("var", "1"))
    result = run(host)
    assert "which is no version of an agent: move it away" in result.turns[0].waits
    assert [p.name for p in (host.layout.root / "var").iterdir()] == ["app.log"]


HANGS = script("sleep 1000")


def test_one_agent_that_hangs_costs_the_others_nothing_and_is_named_in_the_report(host, site):
    install(host.layout.root, "hung", "1", control=HANGS)
    for name in ("good", "better"):
        install(host.layout.root, name, "1")
        site.publish(name=name, version="2")
    site.publish(name="hung", version="2")
    site.desire(("hung", "2"), ("good", "2"), ("better", "2"))
    result = run(host)
    assert [(current(host, n), status(host, n)) for n in ("good", "better")] == [("2", "started")] * 2
    assert current(host, "hung") == "1"
    told = {a["name"]: a["status"] for a in site.reports[0]["realAgents"]}
    assert told["hung"] == "exec `./control status` fail: timed out after 1 s"
    assert [t.agent for t in result.turns if t.waits] == ["hung"]


@pytest.mark.long
def test_a_new_version_whose_status_hangs_is_rolled_back(host, site, running):
    site.publish(
        version="2", control=script('[ "$1" = start ] && { sleep 1000 >/dev/null 2>&1 & exit 0; }; sleep 1000')
    )
    site.desire(("agent", "2"))
    assert not run(host).matches
    assert (current(host), status(host)) == ("1", "started")
    assert site.outcomes()[-1]["result"] == "rolled back"


def test_an_old_version_that_does_not_stop_is_not_replaced(host, site):
    stubborn = HEALTHY.replace("stop) running && kill", "stop) exit 0; running && kill")
    install(host.layout.root, "agent", "1", control=stubborn)
    control_script.run(host.layout.agent("agent").install("1"), "start", 5)
    before = pid(host)
    site.publish(version="2")
    site.desire(("agent", "2"))
    assert "did not stop within 1 s" in run(host).turns[0].waits
    assert (current(host), status(host), pid(host)) == ("1", "started", before)


def truncated(site):
    tarball = site.publish(version="2")
    tarball.path.write_bytes(tarball.path.read_bytes()[:-20])


def wrong_digest(site):
    site.publish(version="2")
    (site.files / "agent-2.tar.gz.md5").write_text("0" * 32 + "  agent-2.tar.gz\n")


def no_digest_file(site):
    site.publish(version="2")
    (site.files / "agent-2.tar.gz.md5").unlink()


def no_tarball(site):
    site.publish(version="2").path.unlink()


def a_page(site):
    path = site.files / "agent-2.tar.gz"
    path.write_bytes(b"<html>log in</html>")
    (site.files / "agent-2.tar.gz.md5").write_text("6bc2f1b7e6b6bd6d0ab8b0c9eba1bb1e  agent-2.tar.gz\n")


def no_control(site):
    from lab import agents

    agents.publish(site.files, "agent", "2", {"readme": (b"no control here", 0o644)})


def no_run_bit(site):
    site.publish(version="2", mode=0o644)


BAD_TARBALLS = {
    "truncated": (truncated, "has md5"),
    "of the wrong digest": (wrong_digest, "expected 00000000000000000000000000000000"),
    "without a digest file": (no_digest_file, "no digest file"),
    "that is not there": (no_tarball, "no tarball"),
    "that is a page": (a_page, "has md5"),
    "without a control": (no_control, "control"),
    "whose control has no run bit": (no_run_bit, "run bit"),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_TARBALLS.values(), ids=BAD_TARBALLS.keys())
def test_a_tarball_is_refused(host, site, running, caplog, spoil, words):
    spoil(site)
    site.desire(("agent", "2"))
    result = run(host)
    assert words in result.turns[0].waits
    assert words in caplog.text
    run(host)
    [outcome] = site.outcomes()
    assert (outcome["from"], outcome["to"]) == ("1", "2")
    assert (outcome["step"], outcome["result"]) == ("install", "refused")
    assert words in outcome["reason"]
    assert untouched(host, running)
    assert sorted(p.name for p in host.layout.agent("agent").path.iterdir()) == [".calls", ".version", "1"]


BAD_ORDERS = {
    "a name that climbs": {"name": "../../etc"},
    "a version for the shell": {"version": "$(id)"},
    "a version with a slash": {"version": "a/b"},
    "an unknown command": {"cmd": "format"},
    "a tarball that is a file": {"tarball": "file:///etc/shadow"},
}


@pytest.mark.parametrize("change", BAD_ORDERS.values(), ids=BAD_ORDERS.keys())
def test_an_order_that_is_not_safe_is_refused_and_reported(host, site, running, caplog, change):
    site.publish(name="other")
    site.desire(site.entry() | change, ("other", "1"))
    result = run(host)
    assert not result.matches
    assert "refused" in caplog.text
    assert untouched(host, running)
    assert current(host, "other") == "1", "the other orders of the reply are followed"
    [outcome] = [o for o in site.outcomes() if o["step"] == "order"]
    assert (outcome["from"], outcome["result"]) == ("1" if outcome["agent"] == "agent" else "", "refused")
    assert outcome["to"] == change.get("version", "1"), "what it was that is refused"
    assert sorted(p.name for p in host.layout.root.iterdir()) == [".updater", "agent", "other"]


def test_an_agent_that_is_ordered_twice_is_left_as_it_is(host, site, running):
    site.publish(version="2")
    site.desire(("agent", "1"), ("agent", "2"))
    assert run(host).refused == (("agent", "listed more than once", ""),)
    assert untouched(host, running)


def fifty_megabytes(stop):
    return endless(b"HTTP/1.1 200 OK\r\nContent-Length: 52428800\r\n\r\n", b" " * 65536, stop)


BAD_REPLIES = {
    "a page": (answer(b"<html>log in</html>"), Refused),
    "nothing": (answer(b""), Refused),
    "truncated": (answer(b'{"errorMessage":"","desiredAgents":[', length=100), TryLater),
    "cut by the server": (answer(b'{"errorMessage":"","desiredAgents":['), Refused),
    "no HTTP at all": (raw(b"what?\r\n"), Refused),
    "500": (answer(b'{"errorMessage":"","desiredAgents":[]}', "500 Internal Server Error"), TryLater),
    "a redirect": (answer(b"", "302 Found", "Location: http://127.0.0.1:9/"), TryLater),
    "an error message": (answer(b'{"errorMessage":"no","desiredAgents":[]}'), Refused),
    "slow": (None, TryLater),
    "50 MB": (None, Refused),
}


@pytest.mark.parametrize("name", BAD_REPLIES.keys())
def test_a_reply_that_is_unusable_changes_nothing(host, running, name):
    say, error = BAD_REPLIES[name]
    server = Server([])
    ok = b"HTTP/1.1 200 OK\r\n\r\n"
    server.says = [say or (drip(ok + b" " * 100, server.stop) if name == "slow" else fifty_megabytes(server.stop))]
    with server.running():
        host.config = replace(host.config, server=server.url.removeprefix("http://"))
        with pytest.raises(error):
            run(host)
    assert untouched(host, running)


@pytest.mark.parametrize("desired", [None, []])
def test_an_empty_list_never_means_remove_everything(host, site, running, desired):
    site.desired = desired
    assert run(host).matches
    assert untouched(host, running)


def test_an_agent_that_leaves_the_list_runs_on(host, site, running):
    site.publish(name="other")
    site.desire(("other", "1"))
    assert run(host).matches
    assert untouched(host, running)


def test_outcomes_that_are_too_large_for_a_proxy_are_halved_and_none_is_lost(host, site):
    said = {
        f"a{number}": Outcome(f"a{number}", "1", "2", "watch", "failed", evidence="x" * 2000) for number in range(8)
    }
    for name, outcome in said.items():
        host.memories.note(name, lambda memory, one=outcome: replace(memory, outcomes=(one,)))
    site.most = 6000
    for _ in said:
        run(host)
    assert [one["agent"] for one in site.outcomes()] == sorted(said), "each is told once"


def test_a_report_that_is_too_large_without_outcomes_is_a_failure(host, site):
    site.most = 10
    with pytest.raises(TryLater, match="413"):
        run(host)
    assert site.reports == []


def test_outcomes_wait_for_a_meta_that_is_away(host, site, running):
    site.publish(version="2", control=NEVER_STARTS)
    site.desire(("agent", "2"))
    server = host.config.server
    reply = answer(site.reply())
    broken = Server([reply, answer(b"", "500 Broken")])
    with broken.running():
        host.config = replace(host.config, server=broken.url.removeprefix("http://"))
        run(host)
    host.config = replace(host.config, server=server)
    run(host)
    assert [o["result"] for o in site.outcomes()] == ["rolled back"]
    run(host)
    assert len(site.outcomes()) == 1, "what meta has got is not told again"


def test_the_preview_says_what_a_cycle_would_do_and_changes_nothing(host, site, running):
    site.publish(version="2")
    site.desire(("agent", "2"), {"name": "../x"})
    before = snapshot(host.layout.root)
    beat, [planned] = cycle.preview(host)
    assert [a.step.value for a in planned.actions] == ["install", "stop", "switch", "start"]
    assert (len(beat.orders), len(beat.refused)) == (1, 1)
    assert snapshot(host.layout.root) == before
    assert untouched(host, running)


def snapshot(root):
    return {
        str(p): (p.lstat().st_mtime_ns, p.lstat().st_mode, p.read_bytes() if p.is_file() else b"")
        for p in sorted(root.rglob("*"))
        if p.name != ".calls"
    }


def test_every_agent_is_looked_at_even_when_one_cannot_be(host, site, running):
    (host.layout.root / "broken").mkdir()
    (host.layout.root / "broken" / ".version").mkdir()
    assert run(host).matches
    assert [a["name"] for a in site.reports[-1]["realAgents"]] == ["agent"]


DAMAGE = [b"", b"\xff\xfe", b"x" * 5000, b"../..", b"1\n2\n", b"9.9.9\n"]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_version_file_of_a_running_agent_is_written_again_and_nothing_else_is_done(
    host, site, running, content
):
    host.layout.agent("agent").version_file.write_bytes(content)
    assert run(host).matches
    assert untouched(host, running)
    assert site.gets == []


def test_an_upgrade_of_an_agent_with_a_damaged_version_file_stops_what_runs(host, site, running):
    host.layout.agent("agent").version_file.write_bytes(b"")
    site.publish(version="2")
    site.desire(("agent", "2"))
    assert run(host).matches
    assert (current(host), status(host)) == ("2", "started")
    with pytest.raises(ProcessLookupError):
        until("the old version is buried", lambda: os.kill(running, 0))


@pytest.mark.parametrize("version", ["1", "2"])
def test_what_runs_in_a_directory_that_was_deleted_is_ended_before_a_version_is_started(host, site, running, version):
    shutil.rmtree(host.layout.agent("agent").install("1"))
    site.publish(version=version)
    site.desire(("agent", version))
    assert run(host).matches
    assert (current(host), status(host)) == (version, "started")
    with pytest.raises(ProcessLookupError):
        until("the old process is buried", lambda: os.kill(running, 0))


def test_a_new_version_that_runs_and_says_it_does_not_is_ended_on_the_way_back(host, site, running):
    site.publish(version="2", control=HEALTHY.replace("echo started; else", "echo stoped; else"))
    site.desire(("agent", "2"))
    assert not run(host).matches
    assert (current(host), status(host)) == ("1", "started")
    gone = int((host.layout.agent("agent").install("2") / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        until("it is buried", lambda: os.kill(gone, 0))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 5000, b"../..", b"1\n2\n"])
def test_a_damaged_version_file_is_no_version(host, site, running, content):
    os.kill(running, signal.SIGKILL)
    until("it is gone", lambda: status(host) == "stoped")
    host.layout.agent("agent").version_file.write_bytes(content)
    assert run(host).matches
    assert (current(host), status(host)) == ("1", "started")


def test_a_version_file_that_is_a_link_is_not_followed(host, site, running, tmp_path):
    os.kill(running, signal.SIGKILL)
    secret = tmp_path / "secret"
    secret.write_text("1")
    file = host.layout.agent("agent").version_file
    file.unlink()
    file.symlink_to(secret)
    assert run(host).matches
    assert secret.read_text() == "1"
    assert not file.is_symlink()
    assert State.STARTED.value == status(host)


def test_an_order_for_what_cannot_be_had_does_not_end_the_watch_of_what_runs(host, site, running):
    """2 is in its watch, 3 is ordered by mistake and has no tarball, then 2 again: it can still be taken back."""
    prove(host)
    site.publish(version="2")
    site.desire(("agent", "2"))
    run(host)
    site.desire(site.entry(version="3", tarball="http://127.0.0.1:1"))
    run(host, times=2)
    site.desire(("agent", "2"))
    site.reports.clear()
    run(host)
    assert site.reports[-1]["realAgents"][0]["trial"] is True
    os.kill(pid(host), signal.SIGKILL)
    run(host)
    assert (current(host), status(host)) == ("1", "started")
    assert [(told["to"], told["result"]) for told in site.outcomes()] == [("2", "rolled back")]


def test_a_rollback_by_a_person_waits_for_an_agent_that_cannot_be_looked_at_now(host, site, running):
    site.publish(version="2")
    site.desire(("agent", "2"))
    run(host)
    operator_requests.request_rollback(host.layout, "agent", "2")
    [order] = host.orders.last.orders
    lost = Observed("agent", trouble="Stale file handle", at=host.now())
    assert converge(host, order, lost, Source.KEPT).waits == "Stale file handle"
    assert current(host) == "2"
    run(host)
    assert (current(host), status(host)) == ("1", "started")


def test_a_turn_that_comes_late_follows_no_order_that_was_withdrawn(host, site, running):
    site.publish(version="2")
    site.desire(("agent", "2"))
    run(host)
    [order] = host.orders.last.orders
    site.desire(("agent", "1"))
    run(host)
    [newest] = host.orders.last.orders
    subprocess.run(["./control", "stop"], cwd=host.layout.agent("agent").install("1"), check=True)
    down = cycle.look(host, ["agent"])["agent"]
    assert "is not ordered any more, but start 1" in converge(host, order, down).waits
    assert (current(host), status(host)) == ("1", "stoped")
    assert converge(host, newest, down).waits == ""
    assert (current(host), status(host)) == ("1", "started")
