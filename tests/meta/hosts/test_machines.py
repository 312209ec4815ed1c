"""Two machines under one name: seen by their hashes, told, and left out of the gate; addresses alone only inform."""

import pytest

from meta.hosts.machines import KNOWN_FOR, MAX_ADDRESSES, MAX_CHANGED, MAX_MACHINES, MAX_MOVED, Updater, Whereabouts
from meta.hosts.model import Host
from meta.hosts.table import HostTable
from meta.queries import host_pages
from meta.queries.host_pages import Ages, HostFilter
from meta.queries.progress import Asked, progress
from meta.records.model import Record, RecordSet, Release
from updater.wire.heartbeat import RealAgent, Report

NOW, AGES = 1_000_000.0, Ages()
ONE, OTHER, THIRD = "1" * 16, "2" * 16, "3" * 16
BOOT, REBOOT = "a" * 16, "b" * 16
AGENT = RealAgent("a", "1", "started", 1)
MINUTE = 60.0


@pytest.fixture
def table():
    return HostTable(RecordSet(records=(Record("a", Release("1"), "http://r"),)))


def beats(table, *machines, start=NOW, every=5 * MINUTE, name="h"):
    """(machine, boot, address) of each report; returns when the last one was."""
    for number, (machine, boot, address) in enumerate(machines):
        now = start + number * every
        table.beat(Report(name, [AGENT], machine=machine, boot=boot), address, now)
    return now


def doubled(table, now, name="h"):
    return host_pages.find(table, name, now, AGES).doubled


A, B = (ONE, BOOT, "10.0.0.1"), (OTHER, BOOT, "10.0.0.2")
CLONE = (ONE, REBOOT, "10.0.0.3")  # of a virtual machine, with its machine-id


@pytest.mark.parametrize("pair", [(A, B), (A, CLONE)], ids=["two machines", "a clone with the same machine-id"])
def test_two_machines_that_alternate_twice_are_one_doubled_host(table, pair):
    now = beats(table, *pair, pair[0])
    assert doubled(table, now) == []
    now = beats(table, *pair, *pair)
    assert doubled(table, now) == sorted({pair[0][2], pair[1][2]})


@pytest.mark.parametrize(
    "reports",
    [
        [A] * 6,
        [A, (ONE, BOOT, "10.0.0.9")] * 3,  # two interfaces
        [A, (ONE, REBOOT, "10.0.0.1"), (ONE, "c" * 16, "10.0.0.1")] + [(ONE, "d" * 16, "10.0.0.1")] * 3,  # reboots
        [A] * 3 + [B] * 3,  # replaced
        [A, (None, None, "10.0.0.2")] * 4,  # the second is a Go updater, which says nothing
    ],
    ids=["one", "two interfaces", "reboots", "replaced", "untold"],
)
def test_what_is_no_doubled_host(table, reports):
    from msgspec import UNSET

    now = beats(table, *[(UNSET if m is None else m, UNSET if b is None else b, address) for m, b, address in reports])
    assert doubled(table, now) == []


def test_machines_that_alternate_in_weeks_double_nothing_and_a_mended_name_is_one_again(table):
    now = beats(table, *[A, B] * 4, every=7 * 86400)
    assert doubled(table, now) == []
    now = beats(table, *[A, B] * 3, start=now + 1)
    assert doubled(table, now)
    now = beats(table, *[A] * 12, start=now + 1)
    assert doubled(table, now) == []
    table.take_moves(now)
    assert table._index.whereabouts._changed == {}


def test_a_host_that_was_doubled_later_than_now_is_none_and_is_forgotten(table):
    now = beats(table, A, B, A, B)
    assert len(doubled(table, now - 0.5)) == 2  # asked by a thread that took the time earlier
    assert doubled(table, now - 60) == []
    table.take_moves(now - 60)
    assert doubled(table, now) == []


def test_many_machines_of_one_image_are_a_doubled_host(table):
    image = [(f"{number + 1:03x}" * 5 + "0", BOOT, f"10.0.1.{number}") for number in range(20)]
    now = beats(table, *image * 2, every=15)
    assert len(doubled(table, now)) == 20


def test_a_machine_that_was_just_seen_stays_known_however_many_there_are(table):
    table.beat(Report("h", [AGENT]), "10.0.0.1", NOW)
    whereabouts, host = table._index.whereabouts, table.get("h")
    for number, mark in enumerate([*range(1, MAX_MACHINES + 1), 1, 1000, 1]):
        whereabouts.report(host, mark, f"10.0.1.{mark % 250}", NOW + number)
    assert whereabouts.is_doubled(host, NOW + number)  # the first came back twice


@pytest.mark.parametrize(
    ("hours", "expected"), [([0, 1, 2, 3], 1), ([0, 1, 20, 40, 60], 1), ([0, 1, 30, 60, 90], 4), ([0, 2, 4, 30], 2)]
)
def test_an_address_at_which_a_host_was_seen_within_a_day_is_no_other_one(table, hours, expected):
    told = 0
    for number, hour in enumerate(hours):
        beats(table, (ONE, BOOT, f"10.0.0.{number % 2}"), start=NOW + hour * 3600)
        told += table.take_moves(NOW + hour * 3600).hosts
    assert told == expected


def test_hosts_that_move_fill_no_memory(table):
    whereabouts = table._index.whereabouts
    table.beat(Report("h", [AGENT]), "10.0.0.0", NOW)
    for number in range(MAX_ADDRESSES + 9):
        table.beat(Report("h", [AGENT]), f"10.0.0.{number}", NOW + number)
    assert len(whereabouts._seen[table.get("h")]) == MAX_ADDRESSES
    others = [Host(f"h{number}", NOW, NOW, table.get("h").group, address="10.0.0.1") for number in range(MAX_MOVED + 9)]
    for host in others:
        whereabouts.move(host, "10.0.0.2", NOW + 100)
    assert (len(whereabouts._seen), len(whereabouts._moved)) == (MAX_MOVED, MAX_MOVED)
    assert table.take_moves(NOW + 200)[:2] == (MAX_MOVED, False)
    assert table.take_moves(NOW + KNOWN_FOR + 200).hosts == 0
    assert (whereabouts._seen, whereabouts._moved) == ({}, {})


def test_a_doubled_host_is_ordered_as_ever_and_left_out_of_the_gate_and_counted(table):
    beats(table, (THIRD, BOOT, "10.0.0.4"), name="single")
    now = beats(table, *[A, B] * 2)
    assert table.beat(Report("h", [AGENT], machine=ONE, boot=BOOT), "10.0.0.1", now).orders
    found = progress(table, Asked("a"), now, AGES)
    assert (found.doubled, found.good + found.trial + found.todo, found.left) == (1, 1, 1)
    assert [(one.name, one.state) for one in found.left_out] == [("h", "doubled")]


def test_doubled_hosts_are_found_and_no_others(table):
    beats(table, (THIRD, BOOT, "10.0.0.4"), name="single")
    now = beats(table, *[A, B] * 2)
    found = host_pages.page(table, HostFilter(doubled=True), now, AGES)
    assert [host.name for host in found.hosts] == ["h"]
    table.retire("h", now)
    assert host_pages.page(table, HostFilter(doubled=True), now, AGES).hosts == []


def test_hosts_that_never_changed_share_all_that_is_kept_of_their_machines(table):
    for number in range(100):
        beats(table, A, name=f"h{number}")
    updaters = {id(table.get(f"h{number}").updater) for number in range(100)}
    assert len(updaters) == 1
    assert table._index.whereabouts._changed == {}


def test_whoever_makes_all_names_doubled_fills_no_memory():
    class Named:
        def __init__(self):
            self.updater, self.address, self.retired_at = Updater("", 1), "", 0.0

    whereabouts = Whereabouts(900)
    for _ in range(MAX_CHANGED + 10):
        whereabouts.report(Named(), 2, "10.0.0.1", NOW)
    assert len(whereabouts._changed) == MAX_CHANGED
