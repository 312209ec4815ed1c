"""Converts hosts to rows of the database, and back.

A host that only reports again needs no row: its id goes into the heartbeat batch of its tick. In a row, `retired_at` above
zero says when the host was retired. Below zero it says when a person took the host back, with the sign changed.
"""

import gc
from collections.abc import Iterable
from typing import NamedTuple

from meta.hosts.model import Host, Saved
from meta.hosts.table import HostTable
from meta.store import AHEAD, HeartbeatBatch, HostRow

AT_MOST = 20_000  # rows that one transaction writes


class Taken(NamedTuple):
    """What one transaction is to write."""

    hosts: list[Host]  # whose rows changed
    rows: list[HostRow]  # of these hosts
    batches: list[HeartbeatBatch]  # for each tick, the ids of the other hosts that were heard of


def take(table: HostTable, now: float) -> Taken:
    """Return what changed since the last call, as much as fits into one transaction.

    The caller must write it, or give the hosts back by `HostTable.mark_dirty`.
    """
    found = table.take_dirty(now, AT_MOST)
    return Taken(
        found.hosts, list(map(row_of, found.saved)), [HeartbeatBatch(began, ids) for began, ids in found.heard]
    )


def known(table: HostTable, name: str) -> HostRow | None:
    """Return the row of the host of this name; None if the name is unknown."""
    saved = table.saved(name)
    return row_of(saved) if saved else None


def load(table: HostTable, rows: Iterable[HostRow], now: float) -> None:
    """Fill a new table, which nothing uses yet. Rows that cannot be decoded are logged and left out.

    A row may be dated later than now if a clock was set back since. The host then counts as heard of now, and is written again.
    """
    gc.disable()  # it would search a million new objects for garbage
    try:
        table.load(map(saved_of, rows), now, AHEAD)
    finally:
        gc.freeze()  # before `enable`, or the collector would examine them all
        gc.enable()


def row_of(saved: Saved) -> HostRow:
    """Return the row of a host."""
    return HostRow(
        id=saved.id,
        hostname=saved.name,
        first_seen=saved.first_seen,
        last_seen=saved.last_seen,
        address=saved.address,
        updater_version=saved.updater_version,
        agents=saved.agents,
        since=saved.stamps,
        outcomes=saved.outcomes,
        retired_at=saved.retired_at or (-saved.unretired_at if saved.unretired_at else 0.0),
    )


def saved_of(row: HostRow) -> Saved:
    """The inverse of `row_of`."""
    # For a million hosts, arguments by name would take a third longer.
    number, name, first_seen, last_seen, address, updater_version, agents, stamps, outcomes, word = row
    retired_at, unretired_at = word if word > 0 else 0.0, -word if word < 0 else 0.0
    return Saved(
        number,
        name,
        first_seen,
        last_seen,
        address,
        updater_version,
        agents,
        stamps,
        outcomes,
        retired_at,
        unretired_at,
    )
