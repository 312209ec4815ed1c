"""Merges what other metas wrote into memory. A host that was deleted elsewhere returns only when it reports again."""

from collections.abc import Iterable, Iterator

from meta.hosts.model import Host
from meta.hosts.table import HostTable
from meta.store import AHEAD, HostRow, Since
from meta.sync.rows import saved_of

LATER = 2.0  # seconds by which a heartbeat batch may be dated too early


def absorb(table: HostTable, since: Since, now: float, written: float = 0.0) -> None:
    """Merge rows and heartbeat batches of other metas, and forget hosts that were deleted.

    written: Unix seconds; all that this meta heard before is in the database.
    """
    table.merge(map(saved_of, since.rows), now)
    for batch in since.batches:
        table.hear(batch.at, batch.seen, now)
    missing = set() if since.ids is None else table.ids() - set(since.ids)
    table.forget([*since.gone, *missing], written)


def renew(table: HostTable, rows: Iterable[HostRow], now: float, forgotten: float = 0.0) -> int:
    """Merge all rows of a database that may have lost what this meta knows. Returns how many hosts are to be written again.

    Ids are taken from the database, which may have given our former ones to other hosts. The later report of a host counts, as
    ever. A host without a row is written again if it was heard of since `forgotten` (Unix seconds); the others were deleted
    while this meta was away, and are forgotten.
    """
    table.forget_ids()
    behind: list[Host] = []

    def compared() -> Iterator[HostRow]:
        for row in rows:
            host = table.get(row.hostname)
            if host and (host.last_seen > row.last_seen + LATER or row.last_seen > now + AHEAD):
                behind.append(host)
            yield row

    table.merge(map(saved_of, compared()), now)
    table.keep_or_forget(forgotten)
    table.mark_dirty(behind)
    return table.waiting
