"""The hosts that wait at this meta for news: whom a change wakes, how fast, and the end of each wait.

A host is woken when the reply that it would get is another one than it knows. Used by the loop's thread alone. What is done for
all hosts is done in slices of SLICE seconds, so that no heartbeat waits for it.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import ceil
from typing import NamedTuple, Protocol

from meta.door.connections import Connections, Timed
from meta.heartbeat.notify import NOTHING, Park, wake
from meta.heartbeat.pace import Pace
from meta.heartbeat.responses import Answer, refusal
from meta.process.counts import Counts

SLICE = 0.002  # seconds
AWAY = 10  # seconds that a stopped meta is away at most, as a rule: a host that comes too early is cut off, and waits longer
LATER = 300  # seconds after which a host that was one too many may ask again
SPREAD = 0.1  # of a wait, by which it ends earlier, at random: hosts that came together do not go on together
log = logging.getLogger(__name__)
FULL = refusal(503, "too many hosts are parked here", [("Retry-After", str(LATER))])


class Parked(Timed, Protocol):
    """What `Parking` knows of a connection."""

    park: Park | None  # None: it is not parked

    def unpark(self, answer: Answer, goes_on: bool) -> None:
        """Answer the park. goes_on: the connection takes another request."""


class Rules(NamedTuple):
    """How hosts are parked. rate: heartbeats a second that wakes may cause."""

    most: int  # hosts
    rate: float
    settle: float  # seconds before a host that comes with another reply is woken: it may be ahead of this meta
    now: Callable[[], float]  # Unix seconds
    has_news: Callable[[Park], bool]  # whether this host would get another reply than it knows


class Parking:
    """See the module. `counts.parked` tells other threads who is parked, and since when."""

    def __init__(self, connections: Connections, counts: Counts, rules: Rules):
        self._connections, self._counts, self._rules = connections, counts, rules
        self._all: dict[str, Parked] = {}  # by hostname
        self._ends: dict[int, set[Parked]] = {}  # by the monotonic second in which the wait ends
        self._ended: list[Parked] = []
        self._due: dict[Parked, None] = {}  # to be woken, in their order
        self._pace = Pace(rules.rate)
        self._changed_at = (
            0.0  # when orders changed, and no host was looked at since (monotonic seconds); 0.0: they did not
        )
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_draining = False

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def enter(self, one: Parked, park: Park) -> Answer | None:
        """Park this connection, or return the answer that it gets at once."""
        if self._is_draining:
            return self._come_back(1)
        former = self._all.get(park.hostname)
        if not park.wait:
            return self.at_once(park)
        if former is None and len(self._all) >= self._rules.most:
            return FULL
        if former is not None:  # its host has gone, and comes again
            self.end(former, NOTHING)
        self._connections.park(one, park.has_token)
        one.park = park
        self._all[park.hostname] = one
        self._counts.parked[park.hostname] = self._rules.now()
        ends = ceil(time.monotonic() + park.wait * (1 - SPREAD * random.random()))  # noqa: S311 (no secret)
        self._ends.setdefault(ends, set()).add(one)
        one.deadline = ends
        if self._rules.has_news(park):
            asyncio.get_running_loop().call_later(self._rules.settle, self._settled, one, park)
        return None

    def _settled(self, one: Parked, park: Park) -> None:
        """A host that came with another reply has waited for long enough: this meta may have followed it by now."""
        if one.park is park:
            self._due[one] = None
            self._wanted.set()

    def at_once(self, park: Park) -> Answer:
        """The answer for a host that does not wait."""
        return wake(self._pace.left(time.monotonic())) if self._rules.has_news(park) else NOTHING

    def leave(self, one: Parked) -> None:
        """Take a parked connection out."""
        park, one.park = one.park, None
        if park is None:
            return
        del self._all[park.hostname], self._counts.parked[park.hostname]
        ends = int(one.deadline)
        if (others := self._ends.get(ends)) is not None:
            others.discard(one)
            if not others:
                del self._ends[ends]
        self._due.pop(one, None)
        self._connections.unpark(one, park.has_token)

    def end(self, one: Parked, answer: Answer, goes_on: bool = False) -> None:
        """End a park by this answer."""
        self.leave(one)
        one.unpark(answer, goes_on)

    def changed(self) -> None:
        """Other orders are in force."""
        self._changed_at = self._changed_at or time.monotonic()
        self._wanted.set()

    def sweep(self, now: float) -> None:
        """To be called each second: end the waits that are over."""
        for second in [second for second in self._ends if second <= now]:
            self._ended += self._ends.pop(second)
            self._wanted.set()

    async def drain(self) -> None:
        """Meta stops: have all hosts come back later, spread over the time that the rate gives."""
        self._is_draining = True
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        count = len(self._all)
        await _each(list(self._all.values()), lambda one: self._finish(one, self._come_back(count)))

    def _come_back(self, count: int) -> Answer:
        """The answer for one of `count` hosts."""
        later = AWAY + ceil(random.random() * count / self._rules.rate)  # noqa: S311 (no secret)
        return refusal(503, "meta is being stopped", [("Retry-After", str(later))])

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            ended, self._ended = self._ended, []
            await _each(ended, lambda one: self._finish(one, NOTHING))
            changed_at, self._changed_at = self._changed_at, 0.0
            if changed_at:
                await _each(list(self._all.values()), self._look)
            if self._due and not self._changed_at:
                await self._wake(changed_at)

    def _look(self, one: Parked) -> None:
        if one.park is not None and self._rules.has_news(one.park):
            self._due[one] = None

    async def _wake(self, changed_at: float) -> None:
        now = time.monotonic()
        within = self._pace.within(len(self._due), now)
        if within is None:
            asyncio.get_running_loop().call_later(self._pace.left(now), self._wanted.set)
            return
        answer, due = wake(within), self._due
        self._due = {}
        await _each(due, lambda one: self._wake_one(one, answer))
        if changed_at:
            self._counts.wake_seconds = time.monotonic() - changed_at

    def _wake_one(self, one: Parked, answer: Answer) -> None:
        if one.park is not None and self._rules.has_news(one.park):  # not if it has what it needs by now
            self._counts.wakes += 1
            self.end(one, answer)

    def _finish(self, one: Parked, answer: Answer) -> None:
        if one.park is not None:
            self.end(one, answer)


async def _each(some: Iterable[Parked], do: Callable[[Parked], None]) -> None:
    """Do it for each of these; other things have their turn after every SLICE seconds."""
    began = time.monotonic()
    for one in some:
        try:
            do(one)
        except Exception:
            log.exception("a parked host could not be answered")
        if time.monotonic() - began > SLICE:
            await asyncio.sleep(0)
            began = time.monotonic()
