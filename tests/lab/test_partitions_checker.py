"""The checker of partitions can fail: for each promise a forged history that breaks it, and none that an honest one breaks."""

from dataclasses import replace

import pytest

from lab.partitions.checker import violations
from lab.partitions.history import (
    Asked,
    Beat,
    Edit,
    End,
    Fault,
    History,
    Loss,
    Probe,
    Read,
    Retirement,
    Revision,
    SuddenLoss,
    TokenOrder,
)
from lab.partitions.judging import AFTER, CALM, STALE

HOSTS = {"h": ("2", False), "r": ("1", True)}


def asked(begin, meta=0, status=200, took=0.1):
    return Asked(meta, begin, begin + took, status)


def edit(number, begin, expected=0, status=200, meta=0, **more):
    revision = number if status == 200 else 0
    return Edit(
        asked(begin, meta, status), f"m{number}", "a", f"v{number}", expected, revision, status == 200
    )._replace(**more)


def honest():
    """Three edits at three metas, one of them on a condition; a conflict, and one that changes nothing; hosts and tokens."""
    conflict = edit(9, 35.0, expected=1, status=412)
    same = Edit(asked(36.0), "same", "a", "v3", 0, 3, False)
    end = End(
        records=[(3, "c3")] * 3,
        hosts=[HOSTS] * 3,
        revisions=[
            Revision(1, "m1", "a", "", "v1"),
            Revision(2, "m2", "a", "v1", "v2"),
            Revision(3, "m3", "a", "v2", "v3"),
        ],
        kept_hosts=HOSTS,
        kept_tokens={"good": True, "gone": False},
        tokens=[{"good": True, "gone": False}] * 3,
        admins=1,
        settled=2.0,
    )
    return History(
        edits=[edit(1, 30.0), edit(2, 31.0, expected=1, meta=1), edit(3, 32.0, meta=2), conflict, same],
        reads=[Read(asked(33.0, meta), 3, "c3") for meta in range(3)] + [Read(asked(31.5), 1, "c1")],
        beats=[Beat(asked(30.0), "h", "1"), Beat(asked(31.0, 1), "h", "2"), Beat(asked(29.0), "r", "1")],
        retirements=[Retirement(asked(30.0), "r", True)],
        orders=[
            TokenOrder(asked(30.0), "good", "made"),
            TokenOrder(asked(30.0), "gone", "made"),
            TokenOrder(asked(31.0), "gone", "revoked", "good"),
        ],
        probes=[Probe(asked(30.5), "gone"), Probe(asked(33.0, status=401), "gone"), Probe(asked(33.0), "good")],
        end=end,
    )


def test_an_honest_history_violates_nothing():
    assert violations(honest()) == []


def revisions(history, *changed):
    """The same history, but of these revisions in the end."""
    return replace(history, end=replace(history.end, revisions=list(changed)))


ONE, TWO, THREE = honest().end.revisions
FORGED = {
    "kept: edit m2 was acknowledged": lambda h: revisions(h, ONE, TWO._replace(mark="another"), THREE),
    "kept: edit m2 was acknowledged as revision 2, and is there as [4]": lambda h: revisions(
        h, ONE, THREE, TWO._replace(number=4)
    ),
    "kept: edit m9 was refused (412), and is there": lambda h: revisions(
        h, ONE, TWO, THREE, Revision(4, "m9", "a", "v3", "v9")
    ),
    "kept: edit m1 is there 2 times": lambda h: revisions(h, ONE, TWO, THREE, ONE._replace(number=4, before="v3")),
    "in_order: edit m3 is revision 3, though 5": lambda h: replace(h, edits=[edit(5, 30.0), edit(3, 32.0)]),
    "conditions: revision 3 of a was made on v1, but 2 left v2": lambda h: revisions(
        h, ONE, TWO, THREE._replace(before="v1")
    ),
    "conditions: edit m3 expected revision 1 and won, but came after 2": lambda h: replace(
        h, edits=[*h.edits, edit(3, 32.0, expected=1)]
    ),
    "conditions: edit m9 was told a conflict, but revision 3 was the last": lambda h: replace(
        h, edits=[*h.edits, edit(9, 35.0, expected=3, status=412)]
    ),
    "unchanged: edit same was told that v2 is so already, but at 3 it is ['v3']": lambda h: replace(
        h, edits=[*h.edits, Edit(asked(36.0), "same", "a", "v2", 0, 3, False)]
    ),
    "unchanged: edit same was told that nothing changes at 2, after 3": lambda h: replace(
        h, edits=[*h.edits, Edit(asked(36.0), "same", "a", "v2", 0, 2, False)]
    ),
    "in_force: meta 2 shows revision 2 after it answered 3": lambda h: replace(
        h, reads=[Read(asked(32.5, 2), 2, "c2")]
    ),
    "monotonic: meta 0 shows revision 2 after 3": lambda h: replace(
        h, reads=[*h.reads, Read(asked(33.5), 2, "c2")]
    ),
    "same_content: revision 3 has 2 contents": lambda h: replace(h, reads=[*h.reads, Read(asked(33.5), 3, "other")]),
    f"stale: meta 1 shows revision 2 {STALE:g} s after 3": lambda h: replace(
        h, reads=[Read(asked(32.2 + STALE, 1), 2, "c2")]
    ),
    "tokens: token gone opens meta 0 after it was revoked at 0": lambda h: replace(h, probes=[Probe(asked(31.2), "gone")]),
    "tokens: token good is refused at meta 0 after it was made at 0": lambda h: replace(
        h, probes=[Probe(asked(30.5, status=401), "good")]
    ),
    "tokens: token good is refused at meta 2 after it was made at 0": lambda h: replace(
        h, probes=[Probe(asked(30.2 + STALE, 2, status=401), "good")]
    ),
    "tokens: token gone opens meta 1 after it was revoked at 0": lambda h: replace(
        h, probes=[Probe(asked(31.2 + STALE, 1), "gone")]
    ),
    "tokens: token gone was revoked, and is good in the end": lambda h: ending(h, kept_tokens={"good": True, "gone": True}),
    "tokens: token good was never revoked, and is not good": lambda h: ending(
        h, kept_tokens={"good": False, "gone": False}
    ),
    "tokens: token gone is good at meta 1 in the end, unlike in the database": lambda h: ending(
        h, tokens=[{"good": True, "gone": False}, {"good": True, "gone": True}]
    ),
    "tokens: admins gone and good revoked each other": lambda h: replace(
        h, orders=[*h.orders, TokenOrder(asked(31.0, 1), "good", "revoked", "gone")]
    ),
    "tokens: no admin is left": lambda h: ending(h, admins=0),
    "retirements: host r was retired at meta 0, and is taken back": lambda h: ending(h, kept_hosts=HOSTS | {"r": ("1", False)}),
    "beats: 1 heartbeats were answered 500": lambda h: replace(h, beats=[*h.beats, Beat(asked(40.0, status=500), "h", "2")]),
    "reports: host h reported 2 to meta 1, and 1 is kept": lambda h: ending(h, kept_hosts=HOSTS | {"h": ("1", False)}),
    "noticed: meta 1 did not notice that it had acknowledged an edit": lambda h: replace(
        h, sudden=[SuddenLoss(0, "a token", True), SuddenLoss(1, "an edit", False)]
    ),
    "equal_at_the_end: the metas have different records": lambda h: ending(h, records=[(3, "c3"), (3, "c4"), (3, "c3")]),
    "equal_at_the_end: the metas are at revision 2": lambda h: ending(h, records=[(2, "c2")] * 3),
    "equal_at_the_end: meta 2 knows 1 hosts otherwise": lambda h: ending(h, hosts=[HOSTS, HOSTS, {"h": ("2", False)}]),
    "equal_at_the_end: 90 s until all were equal": lambda h: ending(h, settled=90.0),
}  # fmt: skip


def ending(history, **changed):
    return replace(history, end=replace(history.end, **changed))


@pytest.mark.parametrize("violation", FORGED)
def test_a_broken_promise_is_found(violation):
    found = violations(FORGED[violation](honest()))
    assert any(line.startswith(violation) for line in found), found


def test_what_a_failover_may_have_lost_is_no_violation_and_nothing_else():
    lost = edit(4, 40.0)
    history = honest()
    history.edits.append(lost)
    assert any("edit m4 was acknowledged" in line for line in violations(history))
    history.losses.append(Loss(39.0, 41.0))
    assert violations(history) == []
    history.edits.append(edit(5, 41.5))
    assert any("edit m5 was acknowledged" in line for line in violations(history))


@pytest.mark.parametrize("violation", [name for name in FORGED if "opens meta" in name or "is refused at" in name])
def test_after_a_failover_tokens_are_judged_as_before(violation):
    """What was ordered before it is not lost by it, and all of what is ordered after it counts."""
    history = FORGED[violation](honest())
    history.losses.append(Loss(1.0, 2.0) if "meta 0" in violation else Loss(-AFTER - 2, -AFTER - 1))
    assert any(line.startswith(violation) for line in violations(history))
    history.losses.append(Loss(29.9, 32.0))
    assert not any("opens" in line or "is refused" in line for line in violations(history))


def test_a_report_is_judged_though_its_meta_was_killed_long_after():
    for at, is_judged in ((31.0 + CALM / 2, False), (31.2 + CALM, True)):
        history = ending(honest(), kept_hosts=HOSTS | {"h": ("1", False)})
        history.kills.append((1, at))
        history.faults.append(Fault("a killed meta", (1,), at, at + 2))
        found = [line for line in violations(history) if line.startswith("reports: host h")]
        assert bool(found) == is_judged
        history.faults.append(Fault("a frozen line", (1,), 33.0, 34.0))
        assert not [line for line in violations(history) if line.startswith("reports: host h")]


def test_what_memory_shows_is_judged_again_some_time_after_a_failover():
    history = honest()
    history.losses.append(Loss(39.0, 41.0))
    number = Revision(4, "m4", "a", "v3", "v4")
    history = ending(history, revisions=[ONE, TWO, THREE, number], records=[(4, "c4")] * 3)
    history.edits.append(edit(4, 42.0))
    history.reads.append(Read(asked(41.0 + AFTER - 1), 3, "c3"))
    assert violations(history) == []
    history.reads.append(Read(asked(41.5 + AFTER), 3, "c3"))
    assert any("shows revision 3 after it answered 4" in line for line in violations(history))


def test_how_far_metas_are_behind_is_judged_where_nothing_is_broken():
    history = honest()
    history.reads.append(Read(asked(32.2 + STALE, 1), 2, "c2"))
    history.reads.remove(Read(asked(33.0, 1), 3, "c3"))
    assert any(line.startswith("stale") for line in violations(history))
    history.faults.append(Fault("a frozen line", (1,), 10.0, 33.0 - CALM + STALE))
    assert violations(history) == []


def test_what_nobody_could_say_of_may_have_been_done_or_not():
    for status in (504, 0):
        unknown = edit(4, 40.0, status=status)
        history = honest()
        history.edits.append(unknown)
        assert violations(history) == []
        done = ending(history, revisions=[ONE, TWO, THREE, Revision(4, "m4", "a", "v3", "v4")], records=[(4, "c4")] * 3)
        assert violations(done) == []
