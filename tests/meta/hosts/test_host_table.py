"""What meta remembers of the hosts: every index agrees with every other, whatever comes in whatever order."""

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.record_sets import RECORD_SETS, resolve
from helpers.threads import in_threads
from meta.errors import TooMany
from meta.hosts.agent_sets import MAX_WEIGHT
from meta.hosts.outcomes import verdicts_of
from meta.hosts.regroup import AT_ONCE
from meta.hosts.table import HostTable
from meta.queries import counting, host_pages
from meta.records.model import Override, Record, RecordSet, Release
from meta.records.selectors import Prefix
from meta.store import HeartbeatBatch, HostRow, Since
from meta.sync.other_metas import absorb
from meta.sync.rows import AT_MOST, known, load, row_of, saved_of, take
from updater.wire.heartbeat import Outcome, RealAgent, Report, WireError

OLD = RealAgent("a", "1.0.0", "started", 100)
NEW = RealAgent("a", "1.0.1", "started", 200)
OTHER = RealAgent("b", "2", "stoped", 200)
AGES = host_pages.Ages()
MANY = AT_ONCE + 1000


def beat(table, name="h", *agents, now=1.0, address="10.0.0.1", **more):
    return table.beat(Report(name, list(agents), **more), address, now)


def shown(table, name="h", now=1.0):
    return host_pages.find(table, name, now, AGES)


def agents_of(table, name="h"):
    return {agent.name: (agent.version, agent.status, agent.since, agent.looked) for agent in shown(table, name).agents}


def check(table):
    """Every index agrees."""
    index = table._index
    with table._lock:
        everybody = set(index.hosts.values())
        retired = {host for host in everybody if host.retired_at}
        assert {host.name for host in everybody} == set(index.hosts)
        assert set(index.retired) == retired
        active, apart = index.groups._active, index.groups._retired
        for groups, members in ((active, everybody - retired), (apart, retired)):
            found = [host for group in groups.values() for host in group.hosts]
            assert Counter(found) == Counter(members)
            assert all(group.hosts for group in groups.values())
            assert all((group.agent_set, group.klass) == key for key, group in groups.items())
            assert all(host.group is group for group in groups.values() for host in group.hosts)
        both, agent_sets = [*active.values(), *apart.values()], index.groups.agent_sets
        assert {group.klass for group in apart.values()} <= {index.groups.retired_class}
        assert Counter(group.agent_set for group in both) == {group.agent_set: group.agent_set.groups for group in both}
        assert len(agent_sets) == len({group.agent_set for group in both})
        assert bool(agent_sets.weight) == any(group.agent_set.agents or group.agent_set.verdicts for group in both)
        assert all(host.group.agent_set.verdicts == verdicts_of(host.outcomes) for host in everybody)
        silent, heard = set(index.seen.silent), {host for host in everybody if host.tick}
        assert silent | heard | retired == everybody
        assert len(silent) + len(heard) + len(retired) == len(everybody)
        ticks = index.seen.ticks()
        assert {host for tick in ticks for host in tick.hosts if host.tick is tick} == heard
        assert [tick.at for tick in ticks[:-1]] == sorted(tick.at for tick in ticks[:-1])
        assert index.by_id == {host.id: host for host in everybody if host.id}
        assert index.dirty <= everybody
        assert set(index.unretired) <= everybody - retired
        assert index.told == sum(len(host.told) for host in everybody)
        assert len(index.arrivals) == len(everybody)
    assert table.names() == sorted(index.hosts)
    assert {part.klass.book for part in table.parts()} <= {table.classes}
    for host in list(everybody - retired)[:500]:
        assert host.group.klass.desired == resolve(table.classes.records, host.name)
    states = counting.states(table, 50.0, AGES)
    assert (sum(states.values()), states["retired"]) == (len(everybody), len(retired))


def test_the_table_is_closed():
    assert [name for name in vars(HostTable()) if not name.startswith("_")] == []


# --- what a report does ---


def test_a_first_report_makes_a_host():
    table = HostTable()
    beat(table, "h", OLD, now=5.0, updater_version="0.1.0", outcomes=[Outcome("a", result="done")])
    host = shown(table)
    assert (host.name, host.first_seen, host.last_seen, host.address) == ("h", 5.0, 5.0, "10.0.0.1")
    assert host.updater_version == "0.1.0"
    assert agents_of(table) == {"a": ("1.0.0", "started", 5.0, 100)}
    assert host.agents[0].outcome == Outcome("a", result="done")
    check(table)


def test_a_report_replaces_the_agents_if_it_lists_any():
    table = HostTable()
    beat(table, "h", OLD, OTHER, now=1.0)
    beat(table, "h", NEW, OTHER, now=2.0)
    assert agents_of(table) == {"a": ("1.0.1", "started", 2.0, 200), "b": ("2", "stoped", 1.0, 200)}
    table.beat(Report("h", None), "10.0.0.1", 3.0)
    assert list(agents_of(table)) == ["a", "b"]
    beat(table, "h", now=4.0)
    assert agents_of(table) == {}
    assert len(table.parts()) == 1


def test_an_unchanged_beat_changes_nothing_but_when():
    table = HostTable()
    beat(table, "h", OLD, now=1.0)
    take(table, 1.0)
    beat(table, "h", RealAgent("a", "1.0.0", "started", 400), now=301.0)
    assert (table.waiting, shown(table).last_seen, agents_of(table)["a"]) == (
        0,
        301.0,
        ("1.0.0", "started", 1.0, 400),
    )


def test_an_outcome_stays_until_the_same_agent_has_another():
    table = HostTable()
    for outcomes in ([Outcome("a", to="1"), Outcome("b", to="1")], [Outcome("a", to="2"), Outcome("a", to="3")], []):
        beat(table, "h", OLD, OTHER, outcomes=outcomes)
    assert [agent.outcome.to for agent in shown(table).agents] == ["3", "1"]
    check(table)


@pytest.mark.parametrize("name", ["", "a b", "<img src=x onerror=alert(1)>", "a\nb", "x" * 254, "';drop table host;--"])
def test_a_name_that_is_none_makes_no_host(name):
    table = HostTable()
    with pytest.raises(WireError):
        beat(table, name, OLD)
    assert table.names() == []
    check(table)


def test_hosts_without_end_are_refused_and_those_that_are_known_go_on():
    table = HostTable(max_hosts=2)
    beat(table, "h1", OLD)
    beat(table, "h2", OLD)
    with pytest.raises(TooMany, match="2 hosts already"):
        beat(table, "h3", OLD)
    beat(table, "h1", NEW)
    check(table)


def test_a_host_that_beats_without_end_is_told_to_slow_down():
    table = HostTable()
    take(table, 100.0)
    with pytest.raises(TooMany, match="h reports too often"):
        for _ in range(100):
            beat(table, "h", OLD, now=100.1)
    check(table)


def test_long_reports_that_no_other_host_makes_are_refused_when_the_memory_is_full():
    table = HostTable()
    longer = [RealAgent(f"a{i}", "1", "x" * 300, i) for i in range(1000)]
    beat(table, "h1", *longer)
    table._index.groups.agent_sets.weight += MAX_WEIGHT
    beat(table, "h2", *longer)
    with pytest.raises(TooMany, match="no room"):
        beat(table, "new", *longer, OLD)
    table.retire("h2", 2.0)
    with pytest.raises(TooMany, match="no room"):
        beat(table, "h2", *longer, OLD)
    beat(table, "h3", OLD)
    table._index.groups.agent_sets.weight -= MAX_WEIGHT
    check(table)
    assert table.names() == ["h1", "h2", "h3", "new"]


def test_the_evidence_goes_when_the_memory_is_full():
    table = HostTable()
    table._index.told = MAX_WEIGHT + 1
    beat(table, "h", OLD, outcomes=[Outcome("a", result="failed", evidence="much")])
    assert shown(table).agents[0].outcome == Outcome("a", result="failed")


def test_hosts_that_come_from_another_address_are_counted_and_not_their_moves():
    table = HostTable()
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.1"):
        beat(table, "h", OLD, address=address)
    beat(table, "other", OLD, address="10.0.0.3")
    for address in ("10.0.0.4", "10.0.0.3", "10.0.0.4"):
        beat(table, "other", OLD, address=address)
    ways = {"h": ("10.0.0.1", "10.0.0.2"), "other": ("10.0.0.3", "10.0.0.4")}
    assert table.take_moves(0.0) == (2, True, ways)
    assert table.take_moves(0.0) == (0, True, {})


# --- retiring ---


def test_a_retired_host_is_back_with_its_next_beat():
    table = HostTable()
    beat(table, "h", OLD, now=1.0)
    assert table.retire("h", 2.0)
    assert (shown(table).state, counting.counts(table, 3.0)) == ("retired", [])
    check(table)
    beat(table, "h", OLD, now=3.0)
    assert (shown(table, now=3.0).state, len(counting.counts(table, 3.0))) == ("new", 1)
    check(table)


def test_nobody_retires_a_host_that_is_not_there():
    table = HostTable()
    assert (table.retire("h", 1.0), table.unretire("h", 1.0)) == (False, False)


def test_the_silent_are_retired_and_who_is_taken_back_may_be_silent_as_long_again():
    table = HostTable(late_after=10)
    beat(table, "h1", OLD, now=1.0)
    beat(table, "h2", OLD, now=90.0)
    take(table, 91.0)
    take(table, 120.0)
    assert table.retire_silent(before=50.0, now=120.0) == ["h1"]
    assert table.unretire("h1", 121.0)
    assert table.retire_silent(before=51.0, now=122.0) == []
    check(table)
    assert (table.saved("h1").retired_at, table.saved("h1").unretired_at) == (0.0, 121.0)
    (row,) = take(table, 122.0).rows
    assert (row.hostname, row.last_seen, row.retired_at) == ("h1", 1.0, -121.0)
    again = HostTable(late_after=10)
    load(again, [row._replace(id=7)], 123.0)
    assert again.retire_silent(before=52.0, now=124.0) == []
    assert again.retire_silent(before=121.5, now=200.0) == ["h1"]
    check(again)


def test_a_retired_host_holds_no_old_records():
    table = HostTable(RecordSet(1, (Record("a", Release("1"), "http://r"),)))
    beat(table, "h", OLD)
    table.retire("h", 2.0)
    table.activate(RecordSet(2, (Record("a", Release("2"), "http://r"),)))
    assert table.get("h").group.klass is table._index.groups.retired_class
    assert shown(table).agents[0].desired == "2"
    assert table.unretire("h", 3.0)
    check(table)


# --- the records ---


def records(revision, version="1", *overrides):
    return RecordSet(revision, (Record("a", Release(version), "http://r", overrides=overrides),))


def full(before):
    table = HostTable(before)
    text = '[["a","1.0.0","started",null]]'
    load(table, [HostRow(i + 1, f"h{i}", 1.0, 2.0, "", "", text, "[1.5,7]", "", 0.0) for i in range(MANY)], 3.0)
    return table


def regrouped():
    """Wait for it."""
    for thread in threading.enumerate():
        if thread.name == "regroup":
            thread.join()


def test_the_next_beat_is_answered_by_the_new_records():
    table = HostTable(records(1))
    assert beat(table, "h", OLD).orders["a"].version == "1"
    table.activate(records(2, "2"))
    assert beat(table, "h", OLD).orders["a"].version == "2"
    table.activate(records(1))
    assert table.classes.records.revision == 2
    check(table)


@pytest.mark.parametrize(
    "after",
    [records(2, "2"), records(2, "2", Override(Prefix("h1"), Release("3"))), RecordSet(2)],
    ids=["same", "new", "none"],
)
@pytest.mark.parametrize(
    "before", [records(1), records(1, "1", Override(Prefix("h"), Release("9")))], ids=["plain", "prefix"]
)
def test_many_hosts_move_behind_the_answers(before, after):
    """More than are moved at once: by groups, or one after the other in a thread of its own."""
    table = full(before)
    table.activate(after)
    some = [f"h{i}" for i in range(0, MANY, 50)]
    assert [beat(table, name, OLD, now=30_000.0).desired for name in some] == [resolve(after, name) for name in some]
    regrouped()
    check(table)
    assert sum(part.number for part in table.parts()) == MANY


def test_records_that_change_while_hosts_move_are_those_that_count():
    table = full(records(1))
    for revision in range(2, 8):
        table.activate(records(revision, "2", Override(Prefix(f"h{revision}"), Release("3"))))
    regrouped()
    check(table)


# --- rows ---


def test_a_host_becomes_a_row_and_comes_back_from_it():
    table = HostTable()
    beat(table, "h", OLD, OTHER, now=1.0, outcomes=[Outcome("a", to="1")], updater_version="1")
    beat(table, "h", NEW, OTHER, now=2.0, updater_version="1")
    (row,) = take(table, 3.0).rows
    assert row[:6] == (0, "h", 1.0, 2.0, "10.0.0.1", "1")
    again = HostTable()
    load(again, [row._replace(id=7)], 3.0)
    assert again.get("h").id == 7
    assert shown(again) == shown(table)
    assert known(again, "h") == row._replace(id=7)
    check(again)


@pytest.mark.parametrize("word", [0.0, 5.0, -5.0], ids=["as ever", "retired", "taken back"])
def test_a_row_says_when_a_host_was_retired_or_taken_back(word):
    row = HostRow(7, "h", 1.0, 2.0, "", "", "[]", "[1.5,7]", "", word)
    saved = saved_of(row)
    assert (saved.retired_at, saved.unretired_at) == (max(word, 0.0), max(-word, 0.0))
    assert row_of(saved) == row


def test_who_was_heard_of_and_did_not_change_costs_only_an_id():
    table = HostTable()
    beat(table, "h1", OLD)
    beat(table, "h2", OLD)
    assert len(take(table, 2.0).rows) == 2
    table.mark_written({"h1": 11, "h2": 12, "unknown": 13})
    beat(table, "h1", OLD, now=3.0)
    beat(table, "h2", NEW, now=3.0)
    taken = take(table, 4.0)
    assert ([row.id for row in taken.rows], taken.batches) == ([12], [HeartbeatBatch(3.0, [11])])
    check(table)


def test_what_could_not_be_written_is_taken_again():
    table = HostTable()
    beat(table, "h", OLD)
    taken = take(table, 2.0)
    assert take(table, 3.0) == ([], [], [])
    table.mark_dirty(taken.hosts)
    assert take(table, 4.0).rows == taken.rows


def test_one_write_holds_only_so_many_hosts():
    table = HostTable()
    for i in range(AT_MOST + 1):
        beat(table, f"h{i}", OLD)
    assert [len(take(table, 2.0).rows) for _ in range(3)] == [AT_MOST, 1, 0]


BAD = [
    {"agents": "{"},
    {"agents": '[["a"]]'},
    {"since": ""},
    {"since": '["x",1]'},
    {"outcomes": "[]"},
]


@pytest.mark.parametrize("broken", BAD, ids=str)
def test_a_row_that_cannot_be_read_is_told_and_left_out(broken, caplog):
    good = HostRow(1, "good", 1.0, 2.0, "", "", '[["a","1","started",null]]', "[1.5,7]", "", 0.0)
    table = HostTable()
    load(table, [good._replace(id=2, hostname="bad", **broken), good], 3.0)
    assert (table.names(), "host bad in the database cannot be read" in caplog.text) == (["good"], True)
    check(table)


# --- everything at once ---

NAMES = st.sampled_from(["h1", "h2", "lg-1.x", "lg-2", "x"])
REPORTS = st.lists(
    st.builds(
        RealAgent,
        st.sampled_from(["a", "b", "c\n"]),
        st.sampled_from(["1", "2"]),
        st.sampled_from(["started", "stoped"]),
        st.integers(0, 3),
    ),
    max_size=3,
)
OUTCOMES = st.lists(
    st.builds(Outcome, st.sampled_from("ab"), to=st.sampled_from("12"), at=st.integers(0, 2)), max_size=2
)
STEPS = st.one_of(
    st.tuples(st.just("beat"), NAMES, REPORTS, OUTCOMES),
    st.tuples(st.just("beat"), NAMES, REPORTS, OUTCOMES),
    st.tuples(st.sampled_from(["retire", "unretire"]), NAMES),
    st.tuples(st.just("records"), RECORD_SETS),
    st.tuples(st.sampled_from(["pass time", "retire silent", "write", "fail to write", "restart", "forget"])),
)


class Database:
    """Rows by hostname, as the store keeps them for a table and another meta."""

    def __init__(self):
        self.rows = {}
        self.ids = 0

    def save(self, rows):
        new = {}
        for row in rows:
            known = self.rows.get(row.hostname)
            if not row.id or known is None or known.id != row.id:
                self.ids += 1
                new[row.hostname] = self.ids
                row = row._replace(id=self.ids)
            self.rows[row.hostname] = row
        return new


def do(table, database, step, now):
    match step:
        case "beat", name, agents, outcomes:
            table.beat(Report(name, agents, outcomes=outcomes), "10.0.0.1", now)
        case "retire", name:
            table.retire(name, now)
        case "unretire", name:
            table.unretire(name, now)
        case "records", found:
            table.activate(found)
        case ("retire silent",):
            table.retire_silent(now - 30, now)
        case ("write",):
            table.mark_written(database.save(take(table, now).rows))
        case ("fail to write",):
            table.mark_dirty(take(table, now).hosts)
        case ("forget",):
            gone = [host.id for host in table.retired() if host.id]
            database.rows = {name: row for name, row in database.rows.items() if row.id not in gone}
            absorb(table, Since(0, [], [], gone), now)
        case ("restart",):
            table.mark_written(database.save(take(table, now).rows))
            after = HostTable(table.classes.records, late_after=20)
            load(after, list(database.rows.values()), now)
            return after
    return table


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_all_indexes_agree(steps):
    table, database, now = HostTable(late_after=20), Database(), 100.0
    for step in steps:
        now += 15.0 if step == ("pass time",) else 0.5
        table = do(table, database, step, now)
        check(table)


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), STEPS), max_size=30))
def test_whatever_another_meta_writes_all_indexes_agree(steps):
    one, other = HostTable(late_after=20), HostTable(late_after=20)
    database, now = Database(), 100.0
    for is_one, step in steps:
        now += 15.0 if step == ("pass time",) else 0.5
        if is_one:
            one = do(one, database, step, now)
        else:
            other = do(other, database, step, now)
            taken = take(other, now)
            other.mark_written(database.save(taken.rows))
            rows = [database.rows[row.hostname] for row in taken.rows]
            absorb(one, Since(0, rows, taken.batches, []), now)
        check(one)
        check(other)


class Interrupted(list):
    """Agents of a report; while they are looked at, something else happens once."""

    def __init__(self, agents, meanwhile):
        super().__init__(agents)
        self.meanwhile = [meanwhile]

    def __len__(self):
        if self.meanwhile:
            self.meanwhile.pop()()
        return super().__len__()


@pytest.mark.parametrize("agents", [[OLD], [NEW], [OTHER]])
def test_two_reports_of_a_host_at_once_end_with_one_of_them(agents):
    table = HostTable()
    beat(table, "h", OLD)
    table.beat(Report("h", Interrupted(agents, lambda: beat(table, "h", NEW))), "10.0.0.1", 2.0)
    assert list(agents_of(table)) == [agents[0].name]
    assert agents_of(table)[agents[0].name][0] == agents[0].version
    check(table)


class Interrupting:
    """A selector of no host; while it looks at one, something else happens once."""

    def __init__(self):
        self.meanwhile = []

    def matches(self, _hostname, _labels):
        if self.meanwhile:
            self.meanwhile.pop()()
        return False

    def test(self):
        return self.matches


def test_a_host_that_changes_while_it_moves_keeps_its_change():
    table, selector = HostTable(records(1)), Interrupting()
    beat(table, "h", OLD)
    selector.meanwhile = [lambda: beat(table, "h", NEW)]
    table.activate(records(2, "2", Override(selector, Release("3"))))
    assert agents_of(table)["a"][0] == "1.0.1"
    check(table)


def test_many_threads_lose_no_change():
    table, threads, each = HostTable(records(1)), 12, 200
    rows: dict[str, HostRow] = {}
    heard: set[int] = set()
    done = threading.Event()

    def write():
        ids = 0
        while True:
            last = done.is_set()
            taken = take(table, 1.0)
            new = [row.hostname for row in taken.rows if not row.id]
            rows.update((row.hostname, row) for row in taken.rows)
            heard.update(number for one in taken.batches for number in one.seen)
            table.mark_written({name: ids + n for n, name in enumerate(new, 1)})
            ids += len(new)
            if last:
                return

    def report(number):
        for i in range(each):
            name = f"h{(number * 7 + i) % 200}"
            table.beat(Report(name, [RealAgent("a", str(i % 5), "started", i)]), "10.0.0.1", float(i))
            if i % 50 == 0:
                table.activate(records(number * each + i, "1", Override(Prefix(f"h{number}"), Release("2"))))
            if i % 33 == 0:
                table.retire(name, 1000.0)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert in_threads(*(lambda n=n: report(n) for n in range(threads))) == [None] * threads
    finally:
        done.set()
        writer.join()
    assert len(rows) == 200
    ours = {name: known(table, name) for name in table.names()}
    assert {name: (row.agents, row.retired_at) for name, row in rows.items()} == {
        name: (row.agents, row.retired_at) for name, row in ours.items()
    }
    assert heard <= table.ids()
    check(table)
