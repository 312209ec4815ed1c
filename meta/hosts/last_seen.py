"""When each host was last heard of, kept so that heartbeats and questions about a million hosts cost little. Pure.

A *tick* is about half a second, and the hosts heard of in it. It becomes one heartbeat batch in the database, dated by its
first heartbeat, so that no host is dated later than it reported. While the database is slow, a tick lasts up to LONGEST.

A host belongs to its newest tick only. Hosts whose tick is older than the horizon are *silent*, and late and lost hosts are
found among these. So hosts that keep reporting are never walked. Not safe for threads.
"""

from bisect import insort
from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meta.hosts.model import Host

LOADED_TICK = 30.0  # seconds of one tick for hosts that are loaded from the database
LONGEST = 1.0  # seconds that a tick lasts at most
RETURN = 3.0  # horizons within which all hosts are back after a long absence: they retry every eight intervals at most
MAX_REPEATS = 40  # reports of one host in one tick, however short, before it is told to slow down


class Tick:
    """The hosts heard of in one span of time."""

    __slots__ = ("at", "began", "hosts", "repeats")

    def __init__(self, at: float = 0.0) -> None:
        self.at = at  # when it ended (Unix seconds); 0.0: it has not
        self.began = inf  # when its first host was heard of (Unix seconds)
        self.hosts: list[Host] = []
        self.repeats: dict[Host, int] = {}  # further reports of a host in this tick


class Seen:
    """All ticks, and the silent hosts."""

    def __init__(self, horizon: float):
        self.horizon = horizon  # seconds without a report after which a host is silent
        self.silent: dict[Host, None] = {}
        self.current = Tick()
        self.full = inf  # when the current tick must end (Unix seconds)
        self._closed: list[Tick] = []  # since the last call of `turn`
        self._past: list[Tick] = []  # by time
        self._last = -inf  # when the latest host was heard of
        self._since = -inf  # since when some host was heard of at least once in every horizon
        self._before = -inf  # when the last host was heard of before `_since`

    def note(self, host: "Host", now: float) -> None:
        """Note the first report of a host in the current tick."""
        if host.tick is None:
            self.silent.pop(host, None)
        tick = host.tick = self.current
        tick.hosts.append(host)
        if now < tick.began:
            tick.began = now
            self.full = now + LONGEST
            self._hear_of_some(now)

    def again(self, host: "Host") -> bool:
        """Note a further report of a host in the current tick. Returns False if it reports too often."""
        repeats = self.current.repeats
        count = repeats[host] = repeats.get(host, 0) + 1
        return count < MAX_REPEATS

    def close(self, now: float) -> None:
        """End the current tick and begin another."""
        tick, self.current, self.full = self.current, Tick(), inf
        tick.at = now
        tick.repeats.clear()
        if tick.hosts:
            self._closed.append(tick)

    def is_written(self, tick: Tick | None) -> bool:
        """Whether `turn` has returned this tick, for writing."""
        return tick is not self.current and tick not in self._closed

    def turn(self, now: float) -> list[Tick]:
        """End the current tick, and find hosts that are silent now. Returns the ticks that ended since the last call."""
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
        """Move the ticks by the seconds that the clock was set by. now: the new time. Returns the ticks that were moved.

        Ticks that are not written yet are moved only if the clock was set forward. Otherwise they may be from after the step.
        """
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
        """Return the seconds since the last report of any host, 0.0 if there was none."""
        return max(0.0, now - self._last) if self._last > -inf else 0.0

    def hear(self, host: "Host", tick: Tick) -> None:
        """Put a host that another meta heard of into `tick`. The caller must `add` the tick when it is complete."""
        if host.tick is self.current:
            return
        if host.tick is None:
            self.silent.pop(host, None)
        host.tick = tick
        tick.hosts.append(host)

    def add(self, tick: Tick, now: float) -> None:
        """Add a complete tick of hosts that another meta heard of."""
        if tick.hosts:
            self._hear_of_some(tick.at)
        if tick.at < now - self.horizon:
            self._fall_silent(tick)
        elif tick.hosts:
            insort(self._past, tick, key=_at)

    def load(self, hosts: Iterable["Host"], now: float) -> None:
        """Put hosts from the database into ticks by their `last_seen`."""
        ticks: dict[float, Tick] = {}
        latest = self._last
        for host in hosts:
            latest = max(latest, host.last_seen)
            number = host.last_seen // LOADED_TICK
            tick = ticks.get(number)
            if tick is None:
                tick = ticks[number] = Tick(min((number + 1) * LOADED_TICK, now))
            tick.hosts.append(host)
            host.tick = tick
        for _, tick in sorted(ticks.items()):
            self.add(tick, now)
        self._last = latest  # a tick may have ended later
        self._before, self._since = latest, now  # until now no host could reach this meta

    def _hear_of_some(self, at: float) -> None:
        if at > self._last + self.horizon:
            self._before, self._since = self._last, at
        self._last = max(self._last, at)

    def excuse(self, now: float) -> tuple[float, float]:
        """Return which silence may be meta's own fault: (Unix seconds, seconds to wait).

        A host last heard of at the first of these or later may be silent because this meta was away or heard no host at all.
        It should be waited for as long as the second says. (inf, 0.0) if there is no such reason.
        """
        if now > self._last + self.horizon:
            return self._last - self.horizon, self._grace(self._last, now)
        grace = self._grace(self._before, self._since)
        left = self._since + grace - now
        return (self._before - self.horizon, min(left, grace)) if left > 0 else (inf, 0.0)

    def _grace(self, last: float, since: float) -> float:
        """Return the seconds within which hosts report that could not between `last` and `since`.

        Hosts double their wait while they cannot reach meta, up to eight intervals, give or take a quarter: see
        updater/net/backoff.py. So the last wait is at most 5/3 of all before it, and 5/4 of the interval more. The horizon is
        three intervals or more.
        """
        absence = since - last if last > -inf else 0.0
        return min(max(absence * 5 / 3 + self.horizon * 5 / 12, self.horizon), RETURN * self.horizon)

    def ticks(self) -> list[Tick]:
        """Return all ticks but those whose hosts are silent, by time."""
        return [*sorted([*self._past, *self._closed], key=_at), self.current]

    def quiet(self, host: "Host") -> None:
        """Count the host as silent from now on."""
        host.tick = None
        self.silent[host] = None

    def forget(self, host: "Host") -> None:
        """Count the host neither as heard of nor as silent, until it reports again."""
        host.tick = None
        self.silent.pop(host, None)


def _at(tick: Tick) -> float:
    return tick.at
