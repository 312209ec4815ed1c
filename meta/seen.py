"""When each host was last heard of, kept so that neither a heartbeat nor a question about a million hosts costs much.

Every half second is a *tick*: the hosts heard of in it, which become one row of the database. A host is in its newest tick
only; what is left in a tick when it is older than the horizon is *silent*. So the late and the lost are found among the
silent, and a host that goes on beating is never looked at. Not safe for threads: the table's lock is held around it.
"""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meta.hosts import Host

LOADED_TICK = 30.0  # seconds that share a tick when hosts come from the database
MAX_REPEATS = 40  # beats of one host in one tick before it is told to slow down


class Tick:
    """The hosts heard of until `at` (Unix seconds) since the tick before."""

    __slots__ = ("at", "hosts", "repeats")

    def __init__(self, at: float = 0.0) -> None:
        self.at = at
        self.hosts: list[Host] = []
        self.repeats: dict[Host, int] = {}


class Seen:
    """horizon: seconds after which a host without a beat is silent."""

    def __init__(self, horizon: float):
        self.horizon = horizon
        self.silent: dict[Host, None] = {}  # the longest silent first
        self._current = Tick()
        self._past: deque[Tick] = deque()

    def note(self, host: "Host") -> bool:
        """This host beats. False: it has done so too often in this tick."""
        tick = self._current
        if host.tick is tick:
            count = tick.repeats[host] = tick.repeats.get(host, 0) + 1
            return count < MAX_REPEATS
        if host.tick is None:
            self.silent.pop(host, None)
        host.tick = tick
        tick.hosts.append(host)
        return True

    def turn(self, now: float) -> list["Host"]:
        """Close the tick and begin another; returns the hosts that were heard of in it."""
        tick, self._current = self._current, Tick()
        tick.at = now
        tick.repeats.clear()
        if tick.hosts:
            self._past.append(tick)
        while self._past and self._past[0].at < now - self.horizon:
            self._retire(self._past.popleft())
        return tick.hosts

    def _retire(self, tick: Tick) -> None:
        for host in tick.hosts:
            if host.tick is tick:
                host.tick = None
                self.silent[host] = None

    def hear(self, host: "Host", tick: Tick) -> None:
        """Another meta has heard of this host, in a tick of its own."""
        if host.tick is self._current:
            return
        if host.tick is None:
            self.silent.pop(host, None)
        host.tick = tick
        if not tick.hosts:
            self._past.append(tick)
        tick.hosts.append(host)

    def load(self, hosts: Iterable["Host"], now: float) -> None:
        """Hosts from the database, by their last_seen."""
        ticks: dict[int, Tick] = {}
        for host in hosts:
            tick = ticks.setdefault(int(host.last_seen // LOADED_TICK), Tick(host.last_seen))
            tick.hosts.append(host)
            tick.at = max(tick.at, host.last_seen)
            host.tick = tick
        for _, tick in sorted(ticks.items()):
            if tick.at < now - self.horizon:
                tick.hosts.sort(key=lambda host: host.last_seen)
                self._retire(tick)
            else:
                self._past.append(tick)

    def forget(self, host: "Host") -> None:
        """This host counts neither as heard of nor as silent, until it beats again."""
        host.tick = None
        self.silent.pop(host, None)
