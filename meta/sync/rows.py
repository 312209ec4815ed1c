"""Hosts as rows of the database: what is to be written, and what comes back at the start.

A host that only beats again costs no row: its id joins those of its tick. In a row retired_at says both when a host was
retired and, below zero, when it was taken back: its silence before that does not count.
"""

import gc
from collections.abc import Iterable
from typing import NamedTuple

from meta.hosts.model import Host, Saved
from meta.hosts.table import HostTable
from meta.store import AHEAD, Beat, HostRow

AT_MOST = 20_000  # rows of one write


class Taken(NamedTuple):
    """What is to be written: the rows of these hosts, and by tick the ids of the others that were heard of."""

    hosts: list[Host]
    rows: list[HostRow]
    beats: list[Beat]


def take(table: HostTable, now: float) -> Taken:
    """What came since the last call, as much as fits into one write; who takes it writes it down, or gives its hosts back by
    `HostTable.mark_dirty`."""
    found = table.take_dirty(now, AT_MOST)
    return Taken(found.hosts, list(map(row_of, found.saved)), [Beat(began, ids) for began, ids in found.heard])


def known(table: HostTable, name: str) -> HostRow | None:
    """The row of the host of this name, None where there is none."""
    saved = table.saved(name)
    return row_of(saved) if saved else None


def load(table: HostTable, rows: Iterable[HostRow], now: float) -> None:
    """Fill a new table, which nothing uses yet. A row that cannot be read is logged and left out; one that is dated later than
    now, by a clock that was set back since, counts as of now and is written again."""
    gc.disable()  # a million new objects are no garbage
    try:
        table.load(map(saved_of, rows), now, AHEAD)
    finally:
        gc.freeze()  # first, or they would all be looked at once
        gc.enable()


def row_of(saved: Saved) -> HostRow:
    """As the database writes it."""
    retired_at, unretired_at = saved[9:]
    return HostRow._make((*saved[:9], retired_at or (-unretired_at if unretired_at else 0.0)))


def saved_of(row: HostRow) -> Saved:
    """The inverse."""
    word = row.retired_at
    return Saved._make((*row[:9], word if word > 0 else 0.0, -word if word < 0 else 0.0))
