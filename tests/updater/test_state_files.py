"""What the updater writes for itself it can read back, however long the texts of others in it are."""

import json

import pytest

from helpers.agents import install
from updater import durable_files
from updater.host import operator_requests
from updater.host.last_reply import Orders, Uptime
from updater.host.memories import Memories
from updater.model.memory import Memory
from updater.model.trials import Moment, Trial
from updater.reconcile import cycle
from updater.self_update import handover
from updater.wire.heartbeat import Desired, Outcome, decode_report, render_report
from updater.wire.limits import MAX_AGENTS, MAX_BODY

WIDE = "界"  # three bytes a letter
FAILURES = [Outcome("web", to=f"{n}", result="failed", reason=WIDE * 1000, evidence=WIDE * 2000) for n in range(8)]


def test_a_rejection_is_remembered_though_the_evidence_beside_it_is_long_and_chinese(tmp_path):
    order = Desired("web", "2", "http://meta/x", cmd="start")
    memories = Memories(tmp_path)
    for outcome in FAILURES:
        memories.change("web", lambda memory, outcome=outcome: memory.with_outcome(outcome))
    kept = memories.change("web", lambda memory: memory.rejecting(order, "it died"))
    assert Memories(tmp_path).of("web") == kept
    assert kept.rejected is not None
    assert len(kept.outcomes) == 8


def test_a_rejection_is_remembered_though_its_order_is_as_long_as_a_reply_may_be(tmp_path):
    mirrors = tuple(f"http://mirror{n}/{'x' * 60_000}" for n in range(16))
    order = Desired("web", "2", "http://meta/x", cmd="start", mirrors=mirrors)
    kept = Memories(tmp_path).change("web", lambda memory: memory.rejecting(order, "it died"))
    assert Memories(tmp_path).of("web") == kept


def test_what_decides_is_remembered_though_an_agent_has_300000_processes(tmp_path):
    order = Desired("web", "2", "http://meta/x", cmd="start")
    processes = frozenset(f"{pid}.123456789" for pid in range(300_000))
    trial = Trial("2", until=5, evidence="words", processes=processes, listeners={80: processes})
    memory = Memory("2", "1", "1", trial, outcomes=tuple(FAILURES)).rejecting(order, "it died")
    Memories(tmp_path).change("web", lambda _: memory)
    found = Memories(tmp_path).of("web")
    assert (found.current, found.good, found.previous, found.rejected) == ("2", "1", "1", memory.rejected)
    assert found.trial is not None
    assert (found.trial.version, found.trial.until, found.trial.failure) == ("2", 5, "it died")


def test_the_memory_of_a_former_updater_is_read_and_its_good_version_is_the_way_back(tmp_path):
    """It knew no other ways back. What it had on trial stays on trial; the watch begins again, as it went by the wall clock."""
    (tmp_path / "web.json").write_text(
        '{"current":"2","good":"1","previous":"1","trial":{"version":"2","until":5.0,"replaced":1},"rejected":null,'
        '"outcomes":[],"last":null,"told_of":null,"running":{"version":"2","boot":"b","token":"t"},"left":{},"remark":""}'
    )
    found = Memories(tmp_path).of("web")
    assert (found.current, found.good, found.back, found.is_on_trial) == ("2", "1", "1", True)
    assert found.running is not None
    assert found.trial is not None
    assert found.trial.until == 0
    Memories(tmp_path).change("web", lambda memory: memory.started("2", Moment(100, 60, "b")))
    assert Memories(tmp_path).of("web").watching(159)
    assert "until" not in (tmp_path / "web.json").read_text(), (
        "it would be over for a former updater that takes over again"
    )


def test_the_longest_reply_there_can_be_is_kept_and_read_back(tmp_path):
    base = "http://meta/"
    room = MAX_BODY // MAX_AGENTS - 100
    orders = tuple(Desired(f"agent{n}", "1", base + "x" * room, cmd="start") for n in range(MAX_AGENTS))
    Orders(tmp_path / "reply.json", 1.0, Uptime("b", 5)).keep(orders, 1.0, Uptime("b", 5))
    assert Orders(tmp_path / "reply.json", 1.0, Uptime("b", 5)).last.orders == orders


def test_a_hold_keeps_though_its_reason_is_long(host):
    install(host.layout.root, "web", "1")
    operator_requests.hold(host.layout, "web", WIDE * 5000)
    assert operator_requests.held(host.layout, "web").startswith(WIDE * 200)


@pytest.mark.parametrize("what", ["directory", "symlink", "garbage"])
def test_state_of_another_kind_counts_as_none_and_is_no_defect(host, tmp_path, what):
    for path in (host.layout.alive, host.layout.last_reply, host.layout.memories / "web.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if what == "directory":
            path.mkdir()
        elif what == "symlink":
            path.symlink_to(tmp_path / "elsewhere")
        else:
            path.write_bytes(b"\xff" * 5_000_000)
    host.own_version = "1.0"
    assert Orders(host.layout.last_reply, host.now(), host.uptime()).last.orders == ()
    assert Memories(host.layout.memories).of("web") == Memory()
    if what != "directory":  # which write_atomic refuses in words
        handover.note_alive(host)
        assert host.layout.alive.read_text().startswith("1.0 ")


def test_a_directory_is_told_from_a_disk_that_does_not_answer(tmp_path):
    with pytest.raises(ValueError, match="is not a regular file"):
        durable_files.read_small(tmp_path, 10)


def test_more_news_than_a_report_may_hold_goes_with_the_next_reports(host, site):
    """meta refuses a report with more, and would refuse it for ever, since what it never got is reported again."""
    for number in range(200):
        memory = Memory(outcomes=tuple(o for o in FAILURES))
        host.memories.change(f"agent{number:03}", lambda _, memory=memory: memory)
    reported = 0
    while any(host.memories.of(name).outcomes for name in host.memories.names()):
        cycle.run(host)
        report = site.reports[-1]
        assert report["outcomes"], "each report takes some"
        body = render_report(decode_report(json.dumps(report).encode()))
        assert len(body) <= MAX_BODY
        assert len(report["outcomes"]) <= MAX_AGENTS
        reported += len(report["outcomes"])
    assert reported == 200 * 8
