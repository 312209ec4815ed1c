"""Who was heard of when: ticks, the silent, names and arrivals."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from meta.hosts.core.groups import Groups
from meta.hosts.last_seen import MAX_REPEATS, Seen, Tick
from meta.hosts.model import Host
from meta.hosts.sorted_names import Arrivals, Names
from meta.hosts.table import HostTable
from meta.sync.rows import take
from updater.net.backoff import until_next_beat
from updater.wire.heartbeat import Report

GROUPS = Groups()


def host(name: str = "h", last_seen: float = 0.0) -> Host:
    return Host(name, 0.0, last_seen, GROUPS.of(GROUPS.agent_sets.of(()), GROUPS.retired_class))


def names(hosts):
    return sorted(host.name for host in hosts)


def turned(seen, now):
    """The names of those heard of, by the tick's beginning."""
    return {tick.began: names(tick.hosts) for tick in seen.turn(now)}


def test_a_tick_names_every_host_once_and_has_the_date_of_its_first_beat():
    seen, a, b = Seen(10), host("a"), host("b")
    seen.note(a, 0.7)
    assert seen.again(a)
    seen.note(b, 0.8)
    assert turned(seen, 1.0) == {0.7: ["a", "b"]}
    seen.note(a, 1.6)
    seen.note(b, 1.5)  # a thread that took the time earlier, and the lock later
    assert turned(seen, 2.0) == {1.5: ["a", "b"]}
    assert turned(seen, 3.0) == {}


def test_while_the_database_is_slow_ticks_end_by_themselves():
    table = HostTable()
    for number in range(50):
        table.beat(Report(f"h{number}"), "", 100.0 + number / 10)
    taken = take(table, 105.0)
    ids = {row.hostname: number for number, row in enumerate(taken.rows, 1)}
    table.mark_written(ids)
    for number in range(50):
        table.beat(Report(f"h{number}"), "", 200.0 + number / 10)
        assert table.written(ids[f"h{number}"]) == 0.0
    assert [(beat.at, len(beat.seen)) for beat in take(table, 260.0).batches] == [(200.0 + s, 10) for s in range(5)]
    assert table.written(ids["h0"]) == 200.0


def test_a_host_falls_silent_with_the_last_tick_that_it_was_heard_in():
    seen, a, b = Seen(10), host("a"), host("b")
    seen.note(a, 0.5)
    seen.note(b, 0.5)
    seen.turn(1.0)
    seen.note(a, 0.5)
    seen.turn(5.0)
    seen.turn(11.0)
    assert names(seen.silent) == []
    seen.turn(11.1)
    assert (names(seen.silent), b.tick) == (["b"], None)
    seen.turn(15.1)
    assert names(seen.silent) == ["a", "b"]
    seen.note(b, 0.5)
    assert names(seen.silent) == ["a"]


def test_a_host_that_beats_without_end_is_told_to_slow_down():
    seen, a = Seen(10), host("a")
    seen.turn(100.0)
    seen.note(a, 100.1)
    answers = [seen.again(a) for _ in range(MAX_REPEATS + 5)]
    assert answers == [True] * (MAX_REPEATS - 1) + [False] * 6
    seen.turn(101.0)
    seen.note(a, 101.1)
    assert seen.again(a)


def test_ticks_of_other_metas_find_their_place_in_time():
    seen, a, b, c = Seen(10), host("a"), host("b"), host("c")
    seen.note(a, 0.5)
    seen.turn(20.0)
    for one, at in ((b, 15.0), (c, 5.0)):
        tick = Tick(at)
        seen.hear(one, tick)
        seen.add(tick, 20.0)
    assert [tick.at for tick in seen.ticks()] == [15.0, 20.0, 0.0]
    assert names(seen.silent) == ["c"]
    seen.turn(25.1)
    assert names(seen.silent) == ["b", "c"]


def test_what_is_heard_of_here_and_now_is_not_heard_of_again_elsewhere():
    seen, a = Seen(10), host("a")
    seen.note(a, 0.5)
    seen.hear(a, Tick(1.0))
    assert a.tick is seen.current


def test_loaded_hosts_are_silent_by_their_last_seen():
    seen = Seen(900)
    hosts = [host(f"h{i}", 10_000.0 - i * 100) for i in range(20)]
    seen.load(hosts, 10_000.0)
    assert names(seen.silent) == names(h for h in hosts if h.last_seen < 10_000 - 930)
    assert all((h.tick is None) == (h in seen.silent) for h in hosts)


def test_a_clock_that_was_in_the_future_keeps_nobody_from_falling_silent():
    seen = Seen(900)
    ahead, behind = host("ahead", 99_999.0), host("behind", 10_000.0)
    seen.load([ahead, behind], 10_000.0)
    seen.turn(10_901.0)
    assert names(seen.silent) == ["ahead", "behind"]


# --- names, arrivals ---


@given(st.lists(st.tuples(st.sampled_from(["add", "discard", "ask"]), st.sampled_from("abcdef"))))
def test_the_names_are_those_that_came_and_did_not_go(steps):
    found, expected = Names(threading.Lock()), set()
    for step, name in steps:
        if step == "add" and name not in expected:
            found.add(name)
            expected.add(name)
        elif step == "discard" and name in expected:
            found.discard(name)
            expected.discard(name)
        elif step == "ask":
            assert found.all() == sorted(expected)
    assert found.all() == sorted(expected)


def test_a_list_of_names_never_changes_in_somebodys_hands():
    found = Names(threading.Lock())
    found.load(["b", "a"])
    mine = found.all()
    found.add("c")
    found.discard("a")
    assert (mine, found.all()) == (["a", "b"], ["b", "c"])


@given(st.lists(st.floats(0, 100)), st.floats(0, 100), st.booleans())
def test_arrivals_are_counted_by_time(times, at, loaded):
    arrivals = Arrivals()
    if loaded:
        arrivals.load(times)
    else:
        for time in times:
            arrivals.add(time)
    assert arrivals.after(at) == sum(time > at for time in times)
    for time in times[: len(times) // 2]:
        arrivals.remove(time)
    assert arrivals.after(at) == sum(time > at for time in times[len(times) // 2 :])


def excused_for(away: float, horizon: float) -> float:
    """Seconds after a start for which a host may be silent because meta was away for so long."""
    seen = Seen(horizon)
    seen.load([host(last_seen=1000.0)], 1000.0 + away)
    return seen.excuse(1000.0 + away)[1]


@given(st.floats(0, 40), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_hosts_that_tried_in_vain_while_meta_was_away_are_back_before_they_are_no_longer_excused(away, first, chances):
    """Their interval is 1, and they are late after 3."""
    asked_at, failures = first, 0
    while asked_at < away:
        failures += 1
        asked_at += until_next_beat(failures, 1.0, 0.0, chances[failures % len(chances)])
    assert asked_at - away <= excused_for(away, 3.0)


def test_hosts_are_excused_for_three_times_as_long_as_late_ones_at_most():
    assert [excused_for(away, 300.0) for away in (0.0, 100.0, 300.0, 1e6)] == [300.0, 300.0, 625.0, 900.0]
    assert Seen(300.0).excuse(1000.0) == (float("-inf"), 300.0), "none was heard of before"
