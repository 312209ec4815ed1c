"""Hosts in the database: rows, beats, and what other metas are told of them."""

import threading
import time
from array import array
from contextlib import closing

import pytest

from helpers.databases import connected, execute
from helpers.threads import in_threads
from meta.access.tokens import Token
from meta.errors import TryLater
from meta.records.history import Edit
from meta.store import HeartbeatBatch, HostOrder, HostRow, Since, Store
from meta.store.hosts import pack, unpack


def row(name: str, seen: float = 2.5, number: int = 0, **fields) -> HostRow:
    full = HostRow(number, name, 1.25, seen, "::1", "0.1.0", '[["a","1","“up”\\n",null]]', "[1.5,7]", '{"a":{}}', 0.0)
    return full._replace(**fields)


def last_seen(store: Store) -> dict[str, float]:
    return {row.hostname: row.last_seen for row in store.load_hosts()}


def told(since: Since) -> tuple:
    """The same with plain lists, rows by name."""
    rows = sorted((row.hostname, row.id) for row in since.rows)
    return since.serial, rows, [(beat.at, list(beat.seen)) for beat in since.batches], since.gone


def test_hosts_come_back_as_they_were_saved(store, url):
    rows = [row("h1"), row("h2", retired_at=9.75, agents="[]", since="[0,0]", outcomes="")]
    ids = store.save("m", 3.0, rows, [])
    assert sorted(ids) == ["h1", "h2"]
    with closing(Store(url)) as other:
        loaded = list(other.load_hosts())
    assert {r.hostname: r for r in loaded} == {r.hostname: r._replace(id=ids[r.hostname]) for r in rows}
    assert all(type(r) is HostRow for r in loaded)
    assert [r.id for r in loaded] == sorted(r.id for r in loaded)


def test_a_known_host_is_replaced_but_for_its_first_sight(store):
    [number] = store.save("m", 3.0, [row("h1")], []).values()
    changed = row("h1", 100.0, number, first_seen=99.0, address="10.0.0.1", agents="[]", since="[2,2]", outcomes="")
    assert store.save("m", 4.0, [changed], []) == {}
    assert list(store.load_hosts()) == [changed._replace(first_seen=1.25)]


def test_a_host_that_another_meta_met_first_gets_the_same_id(store):
    [number] = store.save("m", 3.0, [row("h1")], []).values()
    assert store.save("n", 4.0, [row("h1", 5.0), row("h2")], [])["h1"] == number
    assert last_seen(store) == {"h1": 5.0, "h2": 2.5}


def test_a_host_is_given_a_new_id_when_its_own_is_not_there_or_another_hosts(store):
    ids = store.save("m", 3.0, [row("h1"), row("h2")], [])
    again = store.save("m", 4.0, [row("h1", 9.0, ids["h1"]), row("h3", 9.0, 77), row("h4", 9.0, ids["h2"])], [])
    assert sorted(again) == ["h3", "h4"]
    assert {*ids.values(), *again.values()} == {row.id for row in store.load_hosts()}
    assert last_seen(store) == {"h1": 9.0, "h2": 2.5, "h3": 9.0, "h4": 9.0}


def test_saving_nothing_is_no_transaction(store):
    assert store.save("m", 3.0, [], []) == {}
    assert store.head().hosts == 0


def test_many_hosts_are_saved_and_changed_at_once(store):
    rows = [row(f"h{i:04}", float(i)) for i in range(2500)]
    ids = store.save("m", 3.0, [*rows, rows[7]], [])
    assert len(ids) == len(set(ids.values())) == 2500
    known = [r._replace(id=ids[r.hostname], last_seen=r.last_seen + 1) for r in rows]
    assert store.save("m", 4.0, [*known, row("new")], list(ids.values())) == {"new": max(ids.values()) + 1}
    assert last_seen(store) == {"new": 2.5} | {r.hostname: max(4.0, r.last_seen) for r in known}


def test_a_transaction_that_fails_in_the_middle_leaves_nothing(store):
    unfit = row("h2")._replace(agents=None)  # as only a defect of ours could make it
    with pytest.raises(TryLater):
        store.save("m", 3.0, [row("h1"), unfit], [1])
    assert list(store.load_hosts()) == []
    assert store.head().hosts == 0
    assert told(store.hosts_since(0, "n")) == (0, [], [], [])


def test_a_beat_makes_its_hosts_younger_and_never_older(store):
    ids = store.save("m", 3.0, [row("h1", 2.0), row("h2", 7.0), row("h3", 2.0)], [])
    store.save("m", 5.0, [], [ids["h1"], ids["h2"], 4_000_000_000])
    store.save("m", 4.0, [], [ids["h1"]])
    assert last_seen(store) == {"h1": 5.0, "h2": 7.0, "h3": 2.0}


def test_ids_are_packed_as_little_endian_words():
    assert pack([1, 0x01020304]) == b"\x01\0\0\0\x04\x03\x02\x01"
    assert unpack(b"\x01\0\0\0\x04\x03\x02\x01") == array("I", [1, 0x01020304])
    assert unpack(pack([])) == array("I")


def test_loading_may_be_ended_in_the_middle(store):
    store.save("m", 3.0, [row(f"h{i}") for i in range(20)], [])
    hosts = store.load_hosts()
    next(hosts)
    hosts.close()
    assert len(list(store.load_hosts())) == 20


def test_an_older_report_never_replaces_a_newer_one_whoever_comes_last(store):
    [number] = store.save("m", 3.0, [row("h1", 10.0, agents="[1]", address="new")], []).values()
    for known in (number, 0):
        store.save("n", 9.0, [row("h1", 9.0, known, agents="[2]", address="old")], [])
        (found,) = store.load_hosts()
        assert (found.last_seen, found.agents, found.address) == (10.0, "[1]", "new")
    store.save("n", 9.0, [row("h1", 10.0, number, agents="[3]")], [])
    assert [r.agents for r in store.load_hosts()] == ["[3]"]


@pytest.mark.parametrize("known", [True, False])
def test_a_report_that_is_dated_in_the_future_keeps_no_newer_one_out(store, known):
    now = time.time()
    [number] = store.save("m", now + 7200, [row("h1", now + 7200, agents="[1]", address="old")], []).values()
    store.save("m", now, [row("h1", now, number if known else 0, agents="[2]", address="new")], [])
    (found,) = store.load_hosts()
    assert (found.last_seen, found.agents, found.address) == (now, "[2]", "new")


def test_a_beat_that_is_dated_in_the_future_counts_only_where_nothing_was_written_after_it(store):
    now = time.time()
    ids = store.save("m", 3.0, [row("changed"), row("beats"), row("silent")], [])
    store.save("m", now + 7200, [], list(ids.values()))
    assert set(last_seen(store).values()) == {now + 7200}
    store.save("m", now, [row("changed", now - 1, ids["changed"])], [ids["beats"]])
    assert last_seen(store) == {"changed": now - 1, "beats": now, "silent": now + 7200}


def test_the_beats_of_a_meta_whose_clock_was_set_back_are_dated_anew(store):
    ids = store.save("m", 3.0, [row("h1"), row("h2")], [])
    store.save("m", 100.0, [], [ids["h1"]])
    store.save("n", 101.0, [], [ids["h2"]])
    store.save("m", 50.0, [], [ids["h2"]])
    store.redate("m", -60.0, after=90.0)
    assert last_seen(store) == {"h1": 40.0, "h2": 101.0}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("first", "second", "left"),  # last_seen, retired_at (< 0: taken back)
    [
        ((5.0, 0.0), (4.0, 7.0), (5.0, 7.0)),
        ((5.0, 0.0), (4.0, 4.5), (5.0, 0.0)),  # heard of since
        ((5.0, 6.0), (5.0, 0.0), (5.0, 6.0)),  # which was written by who had not heard of it
        ((5.0, 6.0), (7.0, 0.0), (7.0, 0.0)),
        ((5.0, 6.0), (5.0, -8.0), (5.0, -8.0)),
        ((5.0, -8.0), (5.0, 6.0), (5.0, -8.0)),
        ((5.0, -8.0), (5.0, 9.0), (5.0, 9.0)),
        ((5.0, -8.0), (9.0, 0.0), (9.0, 0.0)),
    ],
)
def test_of_what_was_ordered_and_what_was_heard_the_latest_decides(store, known, first, second, left):
    [number] = store.save("m", 3.0, [row("h1", first[0], retired_at=first[1])], []).values()
    store.save("n", 3.0, [row("h1", second[0], number if known else 0, retired_at=second[1])], [])
    assert [(r.last_seen, r.retired_at) for r in store.load_hosts()] == [left]


def test_many_beats_may_share_a_transaction(store):
    ids = store.save("m", 1.0, [row("h1", 1.0), row("h2", 1.0)], [])
    store.save("m", 9.0, [], [ids["h1"]], [HeartbeatBatch(7.0, [ids["h2"]]), HeartbeatBatch(8.0, [ids["h2"]])])
    assert last_seen(store) == {"h1": 9.0, "h2": 8.0}
    assert told(store.hosts_since(1, "n")) == (4, [], [(7.0, [2]), (8.0, [2]), (9.0, [1])], [])
    assert store.head().position == 2


# --- what other metas are told ---


def test_other_metas_are_told_what_this_one_wrote(store):
    ids = store.save("m", 3.0, [row("h1"), row("h2")], [])
    store.save("m", 4.0, [row("h1", 4.0, ids["h1"])], [ids["h2"]])
    both = sorted(ids.items())
    assert told(store.hosts_since(0, "n")) == (2, both, [(4.0, [ids["h2"]])], [])
    assert store.hosts_since(1, "n") == Since(
        2, [row("h1", 4.0, ids["h1"])], [HeartbeatBatch(4.0, array("I", [ids["h2"]]))], [], None, {"m": 4.0}
    )
    assert told(store.hosts_since(2, "n")) == (2, [], [], [])
    assert told(store.hosts_since(0, "m")) == (2, [], [], [])


def test_a_row_that_was_written_again_is_told_as_it_is_now(store):
    [number] = store.save("m", 3.0, [row("h1")], []).values()
    store.save("n", 4.0, [row("h1", 4.0, number)], [])
    assert [r.last_seen for r in store.hosts_since(0, "x").rows] == [4.0]
    for meta in ("n", "m"):  # also who wrote over it: what it wrote may not be what stayed
        assert told(store.hosts_since(0, meta)) == (2, [("h1", number)], [], [])


def test_who_is_ahead_of_a_database_that_was_restored_is_told_everything(store):
    ids = store.save("m", 3.0, [row("h1")], [])
    assert told(store.hosts_since(99, "n")) == (1, sorted(ids.items()), [], [])


def test_forgotten_hosts_are_gone_and_others_are_told(store):
    ids = store.save("m", 3.0, [row("h1", retired_at=2.6), row("h2")], [])
    assert store.forget(4.0, [], 3.0).ids == []
    assert store.forget(4.0, [ids["h1"]], 3.0).ids == [ids["h1"]]
    assert last_seen(store) == {"h2": 2.5}
    assert told(store.hosts_since(1, "n")) == (2, [], [], [ids["h1"]])
    again = store.save("n", 5.0, [row("h1", 5.0, ids["h1"])], [])
    assert again["h1"] not in ids.values()  # beats may still name the old one
    assert told(store.hosts_since(1, "x")) == (3, [("h1", again["h1"])], [], [ids["h1"]])


def test_tokens_of_forgotten_hosts_are_taken_back_and_their_followers_are_told(store):
    names = ["gone", "other", "back", "fresh", "without"]
    rows = [row(name, retired_at=0.0 if name in ("other", "back") else 2.6) for name in names]
    ids = store.save("m", 3.0, rows, [])
    enrolment = store.add_token(Token(0, "enrolment", "rack", hash=b"e")).token.id
    for number, name in enumerate(names[:4]):
        store.use_enrolment(enrolment, name, bytes([number]), 5.0 if name == "fresh" else 1.0)
    before = store.head().tokens
    assert store.forget(6.0, [ids[name] for name in names], 4.0) == (
        sorted(ids[n] for n in ("gone", "fresh", "without")),
        1,
    )
    assert store.head().tokens == before + 1
    assert list(store.host_tokens(before)) == [("gone", b"", before + 1)]
    assert [name for name, hashed, _ in store.host_tokens() if hashed] == ["other", "back", "fresh"]
    store.use_enrolment(enrolment, "gone", b"new", 7.0)  # as it had none
    assert ("gone", b"new", before + 2) in list(store.host_tokens(before))


def test_a_host_that_was_heard_of_after_it_was_retired_is_not_retired(store):
    """Its meta died between its beat and its row."""
    rows = [row("back", retired_at=3.0), row("gone", retired_at=5.0), row("spared", retired_at=-5.0)]
    ids = store.save("m", 3.0, rows, [])
    store.save("m", 4.0, [], list(ids.values()))
    assert {row.hostname: row.retired_at for row in store.load_hosts()} == {"back": 0.0, "gone": 5.0, "spared": -5.0}


@pytest.mark.parametrize("retired_at", [0.0, -2.6, 3.1], ids=["back", "taken back", "retired again"])
def test_a_host_that_came_back_at_another_meta_is_not_forgotten(store, retired_at):
    """Who forgets it has not heard of it yet."""
    ids = store.save("m", 3.0, [row("h1", retired_at=2.6)], [])
    store.save("n", 3.5, [row("h1", 2.7, ids["h1"], retired_at=retired_at)], [])
    assert store.forget(4.0, [ids["h1"]], 3.0).ids == []
    assert list(last_seen(store)) == ["h1"]
    assert told(store.hosts_since(2, "n")) == (3, [], [], [])


def test_followers_miss_nothing_however_many_write_at_once(store, url):
    """Two metas write, a third follows meanwhile: in the end it knows every row and every beat, each id for one host."""
    done = threading.Event()

    def write(meta):
        ids = {}
        with closing(Store(url)) as mine:
            for i in range(40):
                ids |= mine.save(meta, float(i), [row(f"{meta}{i}"), row(f"both{i}", float(i))], list(ids.values()))
        return ids

    def write_all():
        try:
            return in_threads(lambda: write("m"), lambda: write("n"))
        finally:
            done.set()

    def follow():
        rows, beats, serial, serials = {}, [], 0, []
        with closing(Store(url)) as mine:
            ending = False
            while True:
                since = mine.hosts_since(serial, "x")
                serials.append(since.serial)
                serial = since.serial
                rows |= {r.hostname: r for r in since.rows}
                beats += [(beat.at, sorted(beat.seen)) for beat in since.batches]
                if ending:
                    return rows, beats, serials
                ending = done.is_set()

    (first, second), (rows, beats, serials) = in_threads(write_all, follow)
    assert {name: r.id for name, r in rows.items()} == {r.hostname: r.id for r in store.load_hosts()}
    assert {name: r.id for name, r in rows.items()} == first | second
    assert len({r.id for r in rows.values()}) == 120
    assert len(beats) == 78
    assert serials == sorted(serials)
    assert serials[-1] == 80


# --- clocks that are apart ---


def test_what_a_meta_writes_whose_clock_is_ahead_is_by_the_databases_clock_and_comes_back_by_its_own(store, url):
    now, ahead = time.time(), 7200.0
    since, times = "[[%r,%r],7]", (now - 5.25, now)
    with closing(Store(url)) as other:
        other.date_by(ahead)
        mine = row("h1", now + ahead, retired_at=-now - ahead, since=since % (now - 5.25 + ahead, now + ahead))
        mine = mine._replace(first_seen=now - 100 + ahead)
        ids = other.save("m", now + ahead, [mine, row("h2", now - 50 + ahead)], [])
        other.save("m", now + ahead + 3, [], [ids["h2"]], [HeartbeatBatch(now + ahead + 2, [ids["h2"]])])
        found = {one.hostname: one for one in store.load_hosts()}
        assert found["h1"] == mine._replace(
            id=ids["h1"], first_seen=now - 100, last_seen=now, retired_at=-now, since=since % times
        )
        assert found["h2"].last_seen == now + 3
        assert next(one for one in other.load_hosts() if one.hostname == "h1") == mine._replace(id=ids["h1"])
        told_here, told_there = store.hosts_since(0, "x"), other.hosts_since(0, "x")
        assert [beat.at + ahead for beat in told_here.batches] == [beat.at for beat in told_there.batches]
        assert [one.last_seen + ahead for one in told_here.rows] == [one.last_seen for one in told_there.rows]
        assert (told_here.dates, told_here.ahead) == (told_there.dates, told_there.ahead) == ({}, {"m": ahead})
        known = {ids["h2"]: now + ahead + 3}
        assert other.fold(now + ahead + 10, lambda number: known.get(number, 0.0)) == 3
        assert last_seen(store) == {"h1": now, "h2": now + 3}
        gone = row("h3", now - 200 + ahead, retired_at=now - 150 + ahead)
        [number] = other.save("m", now + ahead, [gone], []).values()
        assert other.forget(now + ahead, [number], now - 151 + ahead).ids == []
        assert other.forget(now + ahead, [number], now - 149 + ahead).ids == [number]


@pytest.mark.parametrize("ahead", [20.0, -7.0])
def test_what_a_meta_writes_says_how_far_its_clock_is_ahead_until_it_is_not_and_is_its_own_all_the_same(
    store, url, ahead
):
    now = time.time()
    with closing(Store(url)) as other:
        other.date_by(ahead)
        other.save("m", now + ahead, [row("h1", now + ahead)], [])
        other.say_clock("m", now + ahead + 1)
        assert other.hosts_since(0, "m")[1:5] == ([], [], [], None)
        found = store.hosts_since(0, "x")
        assert (found.dates, found.ahead) == ({}, {"m": ahead})
        other.date_by(0.0)
        other.say_clock("m", now + 2)
        found = store.hosts_since(0, "x")
        assert (found.dates, found.ahead) == ({"m": now + 2}, {})
        assert store.hosts_since(0, "m").rows == []


def test_a_host_is_retired_by_who_is_ahead_as_of_the_databases_now(store, url):
    now, ahead = time.time(), 7200.0
    ids = store.save("m", now, [row("h1", now)], [])
    edit = Edit(now + ahead, "ann", "", "retire")
    with closing(Store(url)) as other:
        other.date_by(ahead)
        what = HostOrder("n", now + ahead + 9, [row("h1", now + ahead, ids["h1"])], retired=True)
        done = other.order(other.load_records(), edit, what)
        assert [one.retired_at for one in done.rows] == [now + ahead + 9]
    assert [one.retired_at for one in store.load_hosts()] == [now + 9]


# --- folding ---


def test_a_row_that_is_dated_in_the_future_does_not_hide_a_beat_that_is_folded(store):
    now = time.time()
    [number] = store.save("m", now + 7200, [row("h1", now + 7200)], []).values()
    store.save("m", now - 100, [], [number])
    assert store.fold(now - 50, lambda _: 0.0) == 1
    assert last_seen(store) == {"h1": now - 100}


def test_folding_keeps_when_a_silent_host_was_last_seen(store, url):
    ids = store.save("m", 1.0, [row(name, 1.0) for name in ("silent", "alive", "changed", "never")], [])
    silent, alive, changed = ids["silent"], ids["alive"], ids["changed"]
    store.save("m", 10.0, [], [silent, alive, changed])
    store.save("m", 11.0, [], [silent])
    store.save("n", 20.0, [row("changed", 20.0, changed)], [alive])
    before = last_seen(store)
    now = {silent: 10.9, alive: 20.0, changed: 20.0}
    assert store.fold(15.0, lambda number: now.get(number, 0.0)) == 3
    assert store.fold(15.0, lambda number: now.get(number, 0.0)) == 0
    assert last_seen(store) == before == {"silent": 11.0, "alive": 20.0, "changed": 20.0, "never": 1.0}
    assert execute(url, "SELECT at FROM beat") == [(20.0,)]
    assert sorted(execute(url, "SELECT hostname, last_seen FROM host")) == [
        ("alive", 1.0),
        ("changed", 20.0),
        ("never", 1.0),
        ("silent", 11.0),
    ]


def test_one_call_folds_a_bounded_number_of_beats_the_oldest_first(store, url):
    [number] = store.save("m", 1.0, [row("h1", 1.0)], []).values()
    for at in range(2, 8):
        store.save("m", float(at), [], [number])
    assert [store.fold(100.0, lambda _: 0.0, 3) for _ in range(4)] == [3, 3, 1, 0]
    assert last_seen(store) == {"h1": 7.0}


def test_who_follows_too_late_for_the_beats_still_finds_the_rows(store):
    ids = store.save("m", 1.0, [row("h1"), row("h2")], [])
    store.save("m", 2.0, [row("h2", 2.0, ids["h2"])], [])
    assert store.fold(100.0, lambda _: 1000.0) == 2
    assert told(store.hosts_since(1, "n")) == (3, [("h2", ids["h2"])], [], [])
    assert told(store.hosts_since(0, "n")) == (3, sorted(ids.items()), [], [])
    assert sorted(store.hosts_since(0, "n").ids) == sorted(ids.values())  # which are gone cannot be told any more


def test_folding_tells_who_has_not_followed_the_beat(store):
    [number] = store.save("m", 1.0, [row("h1", 1.0)], []).values()
    reached = store.head().hosts
    store.save("m", 5.0, [], [number])
    assert store.fold(100.0, lambda _: 0.0) == 2
    assert [(r.hostname, r.last_seen) for r in store.hosts_since(reached, "n").rows] == [("h1", 5.0)]


def test_a_beat_after_a_host_was_retired_is_folded_into_its_being_back(store, url):
    rows = [row("back", retired_at=3.0), row("gone", retired_at=5.0), row("spared", retired_at=-5.0)]
    ids = store.save("m", 3.0, rows, [])
    store.save("m", 4.0, [], list(ids.values()))
    before = list(store.load_hosts())
    store.fold(100.0, lambda _: 0.0)
    assert list(store.load_hosts()) == before
    assert execute(url, "SELECT retired_at FROM host ORDER BY id") == [(0.0,), (5.0,), (-5.0,)]
    assert store.forget(9.0, list(ids.values()), 8.0).ids == [ids["gone"]]


def test_a_host_that_an_earlier_meta_folded_as_retired_though_it_was_back_is_back_and_not_forgotten(store, url):
    ids = store.save("m", 3.0, [row("h1", retired_at=3.0)], [])
    execute(url, "UPDATE host SET last_seen = 4")
    assert [r.retired_at for r in store.load_hosts()] == [0.0]
    assert store.forget(9.0, list(ids.values()), 8.0).ids == []


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has no locks of one table
def test_folding_does_not_wait_for_a_table_that_is_locked(store, url):
    store.save("m", 1.0, [row("h1", 1.0)], [])
    with connected(url) as locking:
        locking.exec_driver_sql("LOCK TABLE beat IN ACCESS EXCLUSIVE MODE")
        begin = time.monotonic()
        with pytest.raises(TryLater, match="lock timeout"):
            store.fold(100.0, lambda _: 0.0)
        assert time.monotonic() - begin < 2


def test_two_metas_that_fold_at_once_lose_nothing(store, url):
    names = [f"h{i}" for i in range(50)]
    ids = store.save("m", 1.0, [row(name, 1.0) for name in names], [])
    for at in range(10, 60):
        store.save("m", float(at), [], list(ids.values())[: at - 9])
    before = last_seen(store)

    def fold():
        with closing(Store(url)) as mine:
            return sum(iter(lambda: mine.fold(100.0, lambda _: 0.0, 7), 0))

    assert min(in_threads(fold, fold)) >= 0
    assert last_seen(store) == before
    assert execute(url, "SELECT count(*) FROM beat") == [(0,)]


def test_a_host_that_reports_again_is_not_retired_by_a_clock_that_was_ahead(store):
    """Neither by its row nor by a beat that is folded."""
    now = time.time()
    ids = store.save("m", now, [row(name, now, retired_at=now + 7200) for name in ("h1", "h2")], [])
    store.save("n", now + 1, [row("h1", now + 1, ids["h1"])], [ids["h2"]])
    store.fold(now + 5, lambda _: 0.0)
    assert {one.hostname: one.retired_at for one in store.load_hosts()} == {"h1": 0.0, "h2": 0.0}


def test_a_beat_is_folded_although_its_metas_clock_was_slewed_since(store):
    """In memory the report is still dated by the clock of then."""
    now = time.time()
    store.date_by(5.0)
    [number] = store.save("m", now - 900, [row("h1", now - 900)], []).values()
    store.save("m", now - 100, [], [number])
    store.date_by(0.0)
    store.fold(now - 50, lambda _: now - 100)
    assert last_seen(store) == {"h1": now - 105}
