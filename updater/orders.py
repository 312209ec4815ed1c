"""meta's last good reply, kept for the days on which it does not answer: what runs is then kept running by it.

A later run of the updater does less by it (`plan.Source`), since a person may have taken it back meanwhile.

Written when the orders change, and else rarely, so that a host at rest does not write.
"""

from pathlib import Path

import msgspec

from updater import files
from updater.errors import TryLater
from updater.wire import Desired, desired_problem

LIMIT = 4 << 20  # bytes; more than a reply can have, with the keys that it may leave out
REWRITE = 6 * 3600.0  # seconds after which unchanged orders are written again, for their age


class LastReply(msgspec.Struct, frozen=True):
    """The orders of a reply, and when it came, in Unix seconds."""

    at: float = 0
    orders: tuple[Desired, ...] = ()

    def still_good(self, now: float, limit: float) -> tuple[Desired, ...]:
        """The orders, if they are at most `limit` seconds old; a clock that went back makes none of them older."""
        return self.orders if now - self.at <= limit else ()


class Orders:
    """Keeps the last reply, in memory and in its file. of_this_run: whether it came to this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.of_this_run = False
        self._written = self.last = _load(path)

    def keep(self, orders: tuple[Desired, ...], now: float) -> None:
        """These came now. Raises TryLater when they cannot be written; they are kept in memory all the same."""
        self.last, self.of_this_run = LastReply(now, orders), True
        if orders != self._written.orders or not 0 <= now - self._written.at < REWRITE:
            files.write_atomic(self._path, msgspec.json.encode(self.last), mode=0o600)  # a URL may hold a password
            self._written = self.last


def _load(path: Path) -> LastReply:
    try:
        data = files.read_state(path, LIMIT)
        last = msgspec.json.decode(data, type=LastReply) if data else LastReply()
    except (ValueError, TryLater, RecursionError):
        return LastReply()
    return LastReply(last.at, tuple(order for order in last.orders if not desired_problem(order)))
