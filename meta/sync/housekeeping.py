"""What is done once in a while: the database's beats are folded, the silent retired, the retired forgotten, moves told.

Every meta on one database does it; what two of them do twice comes to the same.
"""

import logging
import time
from itertools import islice
from typing import NamedTuple

from meta.edits.unlabelling import Unlabelling
from meta.hosts.table import HostTable
from meta.store import Store

AT_ONCE = 5000  # hosts that are forgotten in one transaction
FOLDED = 50  # beats
FOLDING = 1.0  # seconds of one round, after which the rest waits for the next
log = logging.getLogger(__name__)


class Lifetimes(NamedTuple):
    """Seconds. retire_after: without a beat, 0 = never; forget_after: since it was retired, 0 = never."""

    late_after: float = 900
    retire_after: float = 30 * 86400
    forget_after: float = 90 * 86400

    def without(self, away: float) -> "Lifetimes":
        """The same where so many seconds of silence were ours."""
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
    """One round. up_since: since when hosts could reach us, and our clock was not set; is_sure: that it is right, or nobody is
    retired or forgotten. Raises TryLater."""
    _tell_moves(table, now)
    table.names()  # so that nobody who asks has to wait until many are sorted
    fold(table, store, now - lifetimes.late_after)
    if not is_sure or up_since >= now - lifetimes.late_after:  # until then the silence may be ours, or our clock's
        return
    if lifetimes.retire_after:
        retired = table.retire_silent(now - lifetimes.retire_after, now, up_since + lifetimes.late_after)
        if retired:
            shown = ", ".join(retired[:5]) + (", ..." if len(retired) > 5 else "")
            log.info("retired %d hosts that were silent for too long: %s", len(retired), shown)
    if lifetimes.forget_after:
        forget(table, store, now - lifetimes.forget_after, now, unlabel)


def fold(table: HostTable, store: Store, before: float) -> None:
    """Beats older than this become last_seen of the rows of hosts that were not heard of since."""
    deadline = time.monotonic() + FOLDING
    while store.fold(before, table.written, FOLDED) == FOLDED and time.monotonic() < deadline:
        pass


def forget(table: HostTable, store: Store, before: float, now: float, unlabel: Unlabelling) -> None:
    """Delete the hosts that were retired before this, and whose labels are gone. One that comes back meanwhile is a new one."""
    due = [host for host in table.retired() if host.retired_at < before and host.id]
    unlabel(due, before, now)
    labels = table.classes.records.labels
    gone = list(islice((host for host in due if host.name not in labels), AT_ONCE))
    if not gone:
        return
    forgotten = store.forget(now, [host.id for host in gone], before)
    table.forget(forgotten.ids)
    log.info(
        "forgot %d hosts that were retired long ago, and took back the tokens of %d",
        len(forgotten.ids),
        forgotten.tokens,
    )


def _tell_moves(table: HostTable, now: float) -> None:
    moves = table.take_moves(now)
    if moves.hosts:
        shown = ", ".join(f"{name} from {now}, before from {before}" for name, (before, now) in moves.ways.items())
        log.warning(
            "%s%d hosts report from another address than within the last day (moved, NAT, or two interfaces): %s",
            "" if moves.is_all else "more than ",
            moves.hosts,
            shown,
        )
