"""meta's last good reply, kept for the days on which it does not answer: what runs is then kept running by it.

A later run of the updater does less by it (`actions.Source`), since a person may have taken it back meanwhile.

Written when the orders change, and else rarely, so that a host at rest does not write.
"""

from math import inf
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from updater import durable_files
from updater.errors import TryLater
from updater.wire.heartbeat import Desired, desired_problem

LIMIT = 4 << 20  # bytes; more than a reply can have, with the keys that it may leave out
REWRITE = 6 * 3600.0  # seconds after which unchanged orders are written again, for their age


class Uptime(NamedTuple):
    """A moment of a machine. boot: which start of it; seconds: since then."""

    boot: str
    seconds: float


class LastReply(msgspec.Struct, frozen=True):
    """The orders of a reply, and when it came, in Unix seconds. hostname: the name that it was for, "" where that is not known;
    renamed, renamed_boot, renamed_up: the other name that the machine has had since then, and since when."""

    at: float = 0
    orders: tuple[Desired, ...] = ()
    hostname: str = ""
    renamed: str = ""
    renamed_boot: str = ""
    renamed_up: float = 0

    def still_good(self, now: float, limit: float) -> tuple[Desired, ...]:
        """The orders, if they are at most `limit` seconds old; a clock that went back makes none of them older."""
        return self.orders if now - self.at <= limit else ()

    def seconds_of_name(self, name: str, now: Uptime) -> float:
        """For how long the machine has had this name in this boot: infinite for the one of the reply, or where none is known;
        0 when it has just been seen."""
        if self.hostname in ("", name):
            return inf
        is_known = (name, now.boot) == (self.renamed, self.renamed_boot)
        return max(now.seconds - self.renamed_up, 0.0) if is_known else 0.0


class Orders:
    """Keeps the last reply, in memory and in its file. of_this_run: whether it came to this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.of_this_run = False
        self._written = self.last = _load(path)

    def keep(self, orders: tuple[Desired, ...], now: float, hostname: str = "") -> None:
        """These came now, for this name. Raises TryLater when they cannot be written; they are kept in memory all the same."""
        self.last, self.of_this_run = LastReply(now, orders, hostname), True
        written = self._written
        same = (orders, hostname, "") == (written.orders, written.hostname, written.renamed)
        if not same or not 0 <= now - written.at < REWRITE:
            self._write()

    def note_name(self, name: str, now: Uptime) -> None:
        """The machine has this name now. Written only when that is news. Raises TryLater as `keep` does."""
        last = self.last
        if last.hostname in ("", name):
            renamed = replace(last, renamed="", renamed_boot="", renamed_up=0)
        elif (last.renamed, last.renamed_boot) != (name, now.boot) or now.seconds < last.renamed_up:
            renamed = replace(last, renamed=name, renamed_boot=now.boot, renamed_up=now.seconds)
        else:
            return
        self.last = renamed
        if _name_of(renamed) != _name_of(self._written):
            self._write()

    def _write(self) -> None:
        durable_files.write_atomic(self._path, msgspec.json.encode(self.last), mode=0o600)  # a URL may hold a password
        self._written = self.last


def _name_of(reply: LastReply) -> tuple[str, str, float]:
    return reply.renamed, reply.renamed_boot, reply.renamed_up


def _load(path: Path) -> LastReply:
    try:
        data = durable_files.read_state(path, LIMIT)
        last = msgspec.json.decode(data, type=LastReply) if data else LastReply()
    except (ValueError, TryLater, RecursionError):
        return LastReply()
    return replace(last, orders=tuple(order for order in last.orders if not desired_problem(order)))
