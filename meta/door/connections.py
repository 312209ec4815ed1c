"""All connections of the door: how many there are, in all and of each client, what they hold, and which of them are late.

One sweep a second looks at all deadlines, since a timer for each request would cost more than the request. So a deadline is
kept to the second. Used by the loop's thread alone.
"""

import time
from collections import Counter
from collections.abc import Sequence
from email.utils import formatdate
from typing import Protocol

from meta.access.clients import Network, bucket_of, is_in
from meta.door.limits import MAX_HELD, MAX_UNREAD
from meta.heartbeat.responses import Answer, refusal
from meta.process.counts import Counts

MAX_REFUSED = 256
FULL = refusal(503, "too many connections")
OF_ONE = refusal(503, "too many connections from this address")


class Timed(Protocol):
    """What `Connections` knows of a connection. Times are those of the monotonic clock."""

    address: str
    deadline: float  # for what is read; inf for none
    unread: float  # for what is written

    def late(self, now: float) -> None:
        """A deadline has passed."""

    def stop(self) -> None:
        """Meta stops: take no further request."""

    def cut(self) -> None:
        """Refuse what has arrived only in part."""

    def abort(self) -> None:
        """Close at once."""

    def is_answering(self) -> bool:
        """Whether a whole request has no complete answer yet."""


class Connections:
    """See the module. most: connections in all; of_one: of one client that is no trusted proxy."""

    def __init__(self, counts: Counts, most: int, of_one: int, trusted: Sequence[Network]):
        self._counts = counts
        self._most = most
        self._of_one = of_one
        self._trusted = trusted
        self._all: set[Timed] = set()  # that are served
        self._refused: set[Timed] = set()
        self._by_client: Counter[str] = Counter()
        self.held = 0  # bytes of bodies that are counted
        self.unsent = 0  # bytes of the framework's answers
        self.stopping = False
        self.tick()

    def enter(self, one: Timed) -> Answer | None:
        """Count a new connection; returns a refusal if it is one too many. `leave` is called for it in any case."""
        client = bucket_of(one.address)
        refused = FULL if len(self._all) >= self._most else None
        if self._by_client[client] >= self._of_one and not is_in(one.address, self._trusted):
            refused = refused or OF_ONE
        if refused:
            self._refused.add(one)
            return refused
        self._all.add(one)
        self._by_client[client] += 1
        self._counts.connections = len(self._all)
        return None

    @property
    def is_overrun(self) -> bool:
        """Whether those that are refused are too many to wait until they have read why."""
        return len(self._refused) > MAX_REFUSED

    def leave(self, one: Timed) -> None:
        if one in self._refused:
            self._refused.discard(one)
            return
        self._all.discard(one)
        self._counts.connections = len(self._all)
        self._uncount(one)

    def _uncount(self, one: Timed) -> None:
        client = bucket_of(one.address)
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]

    def park(self, one: Timed, is_apart: bool) -> None:
        """This one waits for news now, and has a limit of its own. is_apart: not even its client's limit counts it."""
        self._all.discard(one)
        self._counts.connections = len(self._all)
        if is_apart:
            self._uncount(one)

    def unpark(self, one: Timed, is_apart: bool) -> None:
        """It is one of the others again, however many they are."""
        self._all.add(one)
        self._counts.connections = len(self._all)
        if is_apart:
            self._by_client[bucket_of(one.address)] += 1

    def hold(self, size: int) -> bool:
        """Count more bytes of bodies. Returns False if they are too many for all; `size` is counted in any case."""
        self.held += size
        return self.held <= MAX_HELD

    def may_send(self, size: int) -> bool:
        """Count a new answer of the framework, unless too much is unsent. A large one is always taken alone."""
        if self.unsent and self.unsent + size > MAX_UNREAD:
            return False
        self.unsent += size
        return True

    def tick(self) -> None:
        """Look at the clock."""
        self.now = time.monotonic()
        self.date = f"Date: {formatdate(usegmt=True)}\r\n".encode("ascii")

    def sweep(self) -> None:
        """To be called each second: end what is late."""
        self.tick()
        now = self.now
        for some in (self._all, self._refused):
            for one in [one for one in some if one.deadline < now or one.unread < now]:
                one.late(now)

    def stop(self) -> None:
        """Take no further requests; idle connections are closed."""
        self.stopping = True
        for one in list(self._all):
            one.stop()

    def cut(self) -> None:
        """Refuse all requests that have arrived only in part."""
        for one in list(self._all):
            one.cut()

    def answering(self) -> int:
        """How many connections have a whole request without a complete answer."""
        return sum(one.is_answering() for one in self._all)

    def abort(self) -> None:
        for one in [*self._all, *self._refused]:
            one.abort()

    def __len__(self) -> int:
        return len(self._all)
