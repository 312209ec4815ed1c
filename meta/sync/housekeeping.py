"""What is done once in a while: the database's beats are folded, the silent retired, the retired forgotten, moves told.

Every meta on one database does it; what two of them do twice comes to the same.
"""

import logging
import time
from itertools import islice
from typing import NamedTuple

from meta.edits.unlabelling import Unlabelling
from meta.hosts.model import Host
from meta.hosts.table import HostTable
from meta.store import Store
from meta.sync.merge import let_go

STEP = 1000  # hosts that are looked at before somebody else gets the lock
AT_ONCE = 5000  # hosts that are forgotten in one transaction
LONG = 86400.0  # seconds by which a clock is set, and which a restart would take for silence of all hosts
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
        retired = retire_silent(table, now - lifetimes.retire_after, now, up_since + lifetimes.late_after)
        if retired:
            shown = ", ".join(retired[:5]) + (", ..." if len(retired) > 5 else "")
            log.info("retired %d hosts that were silent for too long: %s", len(retired), shown)
    if lifetimes.forget_after:
        forget(table, store, now - lifetimes.forget_after, now, unlabel)


def fold(table: HostTable, store: Store, before: float) -> None:
    """Beats older than this become last_seen of the rows of hosts that were not heard of since."""
    deadline = time.monotonic() + FOLDING

    def written(number: int) -> float:
        """When the host was last heard of, as far as that is in the database: else its old beat is all that this has."""
        host = table.by_id.get(number)
        is_written = host and host not in table.dirty and table.seen.is_written(host.tick)
        return host.last_seen if host and is_written else 0.0

    while store.fold(before, written, FOLDED) == FOLDED and time.monotonic() < deadline:
        pass


def retire_silent(table: HostTable, before: float, now: float, since: float = 0.0) -> list[str]:
    """Retire every host that was last heard of before this, and not taken back since; returns their names. Each is dated by
    when it was due, at `since` at the earliest: so a report that another meta has heard by now, and not written, is later."""
    gone: list[str] = []
    with table.locked():
        silent = list(table.seen.silent)
    late = [host for host in silent if host.last_seen < before]
    for start in range(0, len(late), STEP):
        with table.locked():
            for host in late[start : start + STEP]:
                last = max(host.last_seen, table.spared.get(host, 0.0))
                if host in table.seen.silent and last < before:  # still
                    table.set_aside(host, max(last + now - before, since))
                    table.dirty.add(host)
                    gone.append(host.name)
    return gone


def move_along(table: HostTable, by: float, now: float) -> None:
    """The clock was set by so many seconds, and it is `now`: what was heard before was heard as long ago as it was. What the
    database dates later than now, or days too early, is written again, or a restart would believe it."""
    with table.locked() as hosts:
        known = list(hosts.values())
        moved = table.seen.move_along(by, now)
        table.arrivals.move_along(by, now)
        table.whereabouts.move_along(by, now)
        table.classes.move_along(by, now)
        table.spared = {host: min(at + by, now) for host, at in table.spared.items()}
        table.dirty.update(table.spared)
    for start in range(0, len(known), STEP):
        with table.locked():
            for host in known[start : start + STEP]:
                if host.last_seen > now or host.retired_at or by > LONG:
                    table.dirty.add(host)
                along = by if host.tick is None or host.tick in moved else 0.0
                _move(host, by, now, along)


def _move(host: Host, by: float, now: float, along: float) -> None:
    """along: seconds by which it was heard of later. With the lock held."""
    host.last_seen = min(host.last_seen + along, now)
    first, since = host.first_seen, host.since
    host.first_seen = min(first + by, now)
    if isinstance(since, tuple):
        host.since = tuple(min(one + by, now) for one in since)
    else:
        host.since = host.first_seen if since == first else min(since + by, now)
    if host.retired_at:
        host.retired_at = min(host.retired_at + by, now)


def forget(table: HostTable, store: Store, before: float, now: float, unlabel: Unlabelling) -> None:
    """Delete the hosts that were retired before this, and whose labels are gone. One that comes back meanwhile is a new one."""
    with table.locked():
        retired = list(table.retired)
    due = [host for host in retired if host.retired_at < before and host.id]
    unlabel(due, before, now)
    labels = table.classes.records.labels
    gone = list(islice((host for host in due if host.name not in labels), AT_ONCE))
    if not gone:
        return
    forgotten = store.forget(now, [host.id for host in gone], before)
    with table.locked():
        for number in forgotten.ids:
            if host := table.by_id.get(number):
                let_go(table, host)
    log.info(
        "forgot %d hosts that were retired long ago, and took back the tokens of %d",
        len(forgotten.ids),
        forgotten.tokens,
    )


def _tell_moves(table: HostTable, now: float) -> None:
    with table.locked():
        moves = table.whereabouts.tidy(now)
    if moves.hosts:
        shown = ", ".join(f"{name} from {now}, before from {before}" for name, (before, now) in moves.ways.items())
        log.warning(
            "%s%d hosts report from another address than within the last day (moved, NAT, or two interfaces): %s",
            "" if moves.is_all else "more than ",
            moves.hosts,
            shown,
        )
