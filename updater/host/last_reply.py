"""Stores meta's last good reply, so that its agents are kept running while meta does not answer.

A later run of the updater follows it only in part (`actions.Source`), since its orders may have been withdrawn by then. It is
written when the orders change, and otherwise every REWRITE seconds, so that an idle host hardly writes.

Its age is by the time since the machine's boot, which setting the wall clock does not change. Only a reply of an earlier boot
is as old as the wall clock says when the updater starts.

How far the running daemon follows it is told in a file too, for `updater why`: `SOURCE UNTIL` (updater.service.told).
"""

import logging
from math import inf
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from updater import durable_files
from updater.errors import TryLater
from updater.model.actions import Source
from updater.service import told
from updater.wire.heartbeat import Desired, desired_problem

log = logging.getLogger("updater")

LIMIT = 4 << 20  # bytes; more than a reply can have, with the keys that it may omit
REWRITE = 6 * 3600.0  # seconds after which unchanged orders are written again, to renew their time


class Uptime(NamedTuple):
    """A point in time, relative to a boot of the machine."""

    boot: str  # the boot's id
    seconds: float  # since the boot


class LastReply(msgspec.Struct, frozen=True):
    """The orders of the last reply."""

    at: float = 0  # when it came, in Unix seconds
    orders: tuple[Desired, ...] = ()
    hostname: str = ""  # the host name in the report, "" if unknown
    renamed: str = ""  # another name that the machine has had since then, "" if none
    renamed_boot: str = ""  # the boot in which it was first seen
    renamed_up: float = 0  # seconds from that boot until it was first seen
    boot: str = ""  # the boot in which it came; "" for a reply that an earlier version of the updater has kept
    up: float = 0  # seconds from that boot until it came

    def good_until(self, limit: float) -> float:
        """Until when the orders are at most `limit` seconds old, in seconds since the boot."""
        return self.up + limit

    def in_boot(self, now: float, uptime: Uptime) -> "LastReply":
        """The reply with its time in the current boot. now: Unix seconds; if they were set back since, it counts as new."""
        if self.boot == uptime.boot and self.up <= uptime.seconds:
            return self
        return replace(self, boot=uptime.boot, up=uptime.seconds - max(now - self.at, 0))

    def seconds_of_name(self, name: str, now: Uptime) -> float:
        """For how many seconds the machine has had this name in this boot: 0 for a new name.

        Infinite for the name of the reply, or if that is unknown.
        """
        if self.hostname in ("", name):
            return inf
        is_known = (name, now.boot) == (self.renamed, self.renamed_boot)
        return max(now.seconds - self.renamed_up, 0.0) if is_known else 0.0


class Orders:
    """Keeps the last reply in memory and in its file."""

    def __init__(self, path: Path, now: float, uptime: Uptime) -> None:
        self._path = path
        self.of_this_run = False  # whether the last reply came to this process
        self._written = load(path)
        self.last = self._written.in_boot(now, uptime)

    def keep(self, orders: tuple[Desired, ...], now: float, uptime: Uptime, hostname: str = "") -> None:
        """Keep the orders of a reply for this host name. Raises TryLater if they cannot be written; memory has them anyway.

        now: Unix seconds.
        """
        self.last, self.of_this_run = LastReply(now, orders, hostname, boot=uptime.boot, up=uptime.seconds), True
        written = self._written
        same = (orders, hostname, "", uptime.boot) == (written.orders, written.hostname, written.renamed, written.boot)
        if not same or not 0 <= now - written.at < REWRITE:
            self._write()

    def note_name(self, name: str, now: Uptime) -> None:
        """Note the machine's current name; written only if it is new. Raises TryLater as `keep` does."""
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


def load(path: Path) -> LastReply:
    """The last reply in this file, which does not know this boot; an empty one if it has none."""
    try:
        data = durable_files.read_state(path, LIMIT)
        last = msgspec.json.decode(data, type=LastReply) if data else LastReply()
    except (ValueError, TryLater, RecursionError):
        return LastReply()
    return replace(last, orders=tuple(order for order in last.orders if not desired_problem(order)))


def tell_source(path: Path, source: Source, until: float) -> None:
    """Write how recent the orders of this process, the daemon, are. A failure is logged.

    until: when they expire while meta does not answer, seconds since the boot; for an answer it does not matter.
    """
    try:
        told.tell(path, f"{source.value} {until}")
    except TryLater as e:
        log.warning("`updater why` cannot tell how recent the orders are: %s", e)


def told_source(path: Path, now: Uptime) -> Source:
    """How recent the orders of the running daemon are. Without a daemon, as after an answer: each cycle asks first.

    A daemon that waits for its next cycle has told nothing of orders that have expired since.
    """
    try:
        word, until = told.told(path).split()
        source, is_over = Source(word), now.seconds > float(until)
    except ValueError:
        return Source.ANSWER
    return Source.EXPIRED if is_over and source is not Source.ANSWER else source
