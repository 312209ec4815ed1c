"""Periodic housekeeping: compact heartbeat batches, retire silent hosts, delete retired ones, log new addresses.

Every meta on a database does this. It does no harm if two of them do the same.
"""

import logging
import time
from itertools import islice
from typing import NamedTuple

from meta.edits.unlabelling import Unlabelling
from meta.hosts.table import HostTable
from meta.store import Store
from updater.wire.text import counted

AT_ONCE = 5000  # hosts that one transaction deletes
FOLDED = 50  # heartbeat batches that one transaction compacts
FOLDING = 1.0  # seconds of compacting in one round; the rest waits for the next
log = logging.getLogger(__name__)


class Lifetimes(NamedTuple):
    """How long hosts are kept, in seconds."""

    late_after: float = 900  # without a report
    retire_after: float = 30 * 86400  # without a report; 0: never
    forget_after: float = 90 * 86400  # since it was retired; 0: never

    def without(self, away: float) -> "Lifetimes":
        """Return longer lifetimes, because no meta could hear a host for `away` seconds."""
        longer = {"retire_after": self.retire_after + away, "forget_after": self.forget_after + away}
        return self._replace(**{name: seconds for name, seconds in longer.items() if getattr(self, name)})


def tidy(
    table: HostTable,
    store: Store,
    lifetimes: Lifetimes,
    up_since: float,
    now: float,
    unlabel: Unlabelling,
    is_sure: bool = True,
) -> None:
    """Do one round. Raises TryLater.

    up_since: since when hosts can reach this meta and its clock was not set (Unix seconds); is_sure: whether the clock is
    right. If not, no host is retired or deleted.
    """
    _tell_moves(table, now)
    table.names()  # so that no request has to wait until many names are sorted
    fold(table, store, now - lifetimes.late_after)
    if not is_sure or up_since >= now - lifetimes.late_after:  # this meta or its clock may cause the silence
        return
    if lifetimes.retire_after:
        retired = table.retire_silent(now - lifetimes.retire_after, now, up_since + lifetimes.late_after)
        if retired:
            shown = ", ".join(retired[:5]) + (", ..." if len(retired) > 5 else "")
            log.info("retired %s, silent for too long: %s", counted(len(retired), "host"), shown)
    if lifetimes.forget_after:
        forget(table, store, now - lifetimes.forget_after, now, unlabel)


def fold(table: HostTable, store: Store, before: float) -> None:
    """Compact heartbeat batches older than `before`: their time becomes last_seen of hosts that were not heard of since."""
    deadline = time.monotonic() + FOLDING
    while store.fold(before, table.written, FOLDED) == FOLDED and time.monotonic() < deadline:
        pass


def forget(table: HostTable, store: Store, before: float, now: float, unlabel: Unlabelling) -> None:
    """Delete hosts that were retired before `before`, after taking their labels away.

    A host that reports again while this runs counts as a new one.
    """
    due = [host for host in table.retired() if host.retired_at < before and host.id]
    unlabel(due, before, now)
    labels = table.classes.records.labels
    gone = list(islice((host for host in due if host.name not in labels), AT_ONCE))
    if not gone:
        return
    forgotten = store.forget(now, [host.id for host in gone], before)
    table.forget(forgotten.ids)
    log.info(
        "forgot %s, retired long ago, and revoked the tokens of %d",
        counted(len(forgotten.ids), "host"),
        forgotten.tokens,
    )


def _tell_moves(table: HostTable, now: float) -> None:
    moves = table.take_moves(now)
    if moves.hosts:
        shown = ", ".join(f"{name} from {now}, before from {before}" for name, (before, now) in moves.ways.items())
        log.warning(
            "%s%s with another address than within the last day (moved, NAT, or two interfaces): %s",
            "" if moves.is_all else "more than ",
            counted(moves.hosts, "host"),
            shown,
        )
