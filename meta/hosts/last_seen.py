"""When each host was last heard of, kept so that neither a heartbeat nor a question about a million hosts costs much.

Every half second is a *tick*: the hosts heard of in it, which become one row of the database, dated by the first beat in it; so
a host never seems to be heard of later than it was. While the database is slow a tick is as long as LONGEST. A host is in its
newest tick only; what is left in a tick when it is older than the horizon is *silent*. So the late and the lost are found among
the silent, and a host that goes on beating is never looked at. Not safe for threads.
"""

from bisect import insort
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meta.hosts.model import Host

LOADED_TICK = 30.0  # seconds that share a tick when hosts come from the database
LONGEST = 1.0  # seconds of a tick
MAX_REPEATS = 40  # beats of one host in one tick, however short, before it is told to slow down


class Tick:
    """The hosts heard of from `began` until `at` (Unix seconds; 0: it is not over)."""

    __slots__ = ("at", "began", "hosts", "repeats")

    def __init__(self, at: float = 0.0) -> None:
        self.at = at
        self.began = inf
        self.hosts: list[Host] = []
        self.repeats: dict[Host, int] = {}


class Seen:
    """horizon: seconds without a beat after which a host is silent; current: the tick under way; full: when it must end."""

    def __init__(self, horizon: float):
        self.horizon = horizon
        self.silent: dict[Host, None] = {}
        self.current = Tick()
        self.full = inf
        self._closed: list[Tick] = []  # since the last turn
        self._past: list[Tick] = []  # by time
        self._last = -inf  # when any host was heard of
        self._since = -inf  # since when hosts are, without a break of the horizon's length
        self._before = -inf  # when any was before that break

    def note(self, host: "Host", now: float) -> None:
        """This host beats, for the first time in this tick."""
        if host.tick is None:
            self.silent.pop(host, None)
        tick = host.tick = self.current
        tick.hosts.append(host)
        if now < tick.began:
            tick.began = now
            self.full = now + LONGEST
            self._hear_of_some(now)

    def again(self, host: "Host") -> bool:
        """It does so once more. False: too often."""
        repeats = self.current.repeats
        count = repeats[host] = repeats.get(host, 0) + 1
        return count < MAX_REPEATS

    def close(self, now: float) -> None:
        """The tick is over; another begins."""
        tick, self.current, self.full = self.current, Tick(), inf
        tick.at = now
        tick.repeats.clear()
        if tick.hosts:
            self._closed.append(tick)

    def is_written(self, tick: Tick | None) -> bool:
        """Whether `turn` has handed it out."""
        return tick is not self.current and tick not in self._closed

    def turn(self, now: float) -> list[Tick]:
        """Close the tick; returns all that were closed since the last call."""
        self.close(now)
        closed, self._closed = self._closed, []
        for tick in closed:
            insort(self._past, tick, key=_at)
        over = 0
        while over < len(self._past) and self._past[over].at < now - self.horizon:
            self._fall_silent(self._past[over])
            over += 1
        del self._past[:over]
        return closed

    def _fall_silent(self, tick: Tick) -> None:
        for host in tick.hosts:
            if host.tick is tick:
                host.tick = None
                self.silent[host] = None

    def move_along(self, by: float, now: float) -> set[Tick]:
        """The clock was set by so many seconds, and it is `now`. Returns the ticks that were moved: those that are not written
        yet may be of after it, which can be seen only of a clock that was set forward."""
        self.close(now)
        moved = {*self._past, *(self._closed if by > 0 else ())}
        for tick in (*self._past, *self._closed):
            along = by if tick in moved else 0.0
            tick.at = min(tick.at + along, now)
            tick.began = min(tick.began + along, tick.at)
        self._last, self._since = min(self._last + by, now), min(self._since + by, now)
        self._before = min(self._before + by, now)
        return moved

    def unheard(self, now: float) -> float:
        """Seconds since any host was heard of, 0.0 when none ever was."""
        return max(0.0, now - self._last) if self._last > -inf else 0.0

    def hear(self, host: "Host", tick: Tick) -> None:
        """Another meta has heard of this host, in a tick of its own, which `add` takes when it is complete."""
        if host.tick is self.current:
            return
        if host.tick is None:
            self.silent.pop(host, None)
        host.tick = tick
        tick.hosts.append(host)

    def add(self, tick: Tick, now: float) -> None:
        """A tick of another meta."""
        if tick.hosts:
            self._hear_of_some(tick.at)
        if tick.at < now - self.horizon:
            self._fall_silent(tick)
        elif tick.hosts:
            insort(self._past, tick, key=_at)

    def load(self, hosts: Iterable["Host"], now: float) -> None:
        """Hosts from the database, by their last_seen."""
        ticks: dict[float, Tick] = {}
        for host in hosts:
            number = host.last_seen // LOADED_TICK
            tick = ticks.get(number)
            if tick is None:
                tick = ticks[number] = Tick(min((number + 1) * LOADED_TICK, now))
            tick.hosts.append(host)
            host.tick = tick
        for _, tick in sorted(ticks.items()):
            self.add(tick, now)
        self._before, self._since = self._last, now  # nobody could reach us

    def _hear_of_some(self, at: float) -> None:
        if at > self._last + self.horizon:
            self._before, self._since = self._last, at
        self._last = max(self._last, at)

    def excuse(self, now: float) -> tuple[float, float]:
        """A host that was last heard of at the first of these or later may be silent because we were away, or heard no host at
        all; it is to be waited for for the second, seconds."""
        if now > self._last + self.horizon:
            return self._last - self.horizon, self.horizon
        left = self._since + self.horizon - now
        return (self._before - self.horizon, min(left, self.horizon)) if left > 0 else (inf, 0.0)

    def ticks(self) -> list[Tick]:
        """All that are not over yet, or whose hosts are not silent."""
        return [*sorted([*self._past, *self._closed], key=_at), self.current]

    def quiet(self, host: "Host") -> None:
        """It counts as silent at once."""
        host.tick = None
        self.silent[host] = None

    def forget(self, host: "Host") -> None:
        """This host counts neither as heard of nor as silent, until it beats again."""
        host.tick = None
        self.silent.pop(host, None)


def _at(tick: Tick) -> float:
    return tick.at
