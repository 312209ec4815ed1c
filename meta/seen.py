"""When each host was last heard of, kept so that neither a heartbeat nor a question about a million hosts costs much.

Every half second is a *tick*: the hosts heard of in it, which become one row of the database. A host is in its newest tick
only; what is left in a tick when it is older than the horizon is *silent*. So the late and the lost are found among the
silent, and a host that goes on beating is never looked at. Not safe for threads: the table's lock is held around it.
"""

from bisect import insort
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meta.hosts import Host

LOADED_TICK = 30.0  # seconds that share a tick when hosts come from the database
MAX_REPEATS = 40  # beats of one host in one tick, and in each second that it lasts, before it is told to slow down


class Tick:
    """The hosts heard of until `at` (Unix seconds) since the tick before, which was at `began`."""

    __slots__ = ("at", "began", "hosts", "repeats")

    def __init__(self, at: float = 0.0, began: float = 0.0) -> None:
        self.at = at
        self.began = began
        self.hosts: list[Host] = []
        self.repeats: dict[Host, int] = {}


class Seen:
    """horizon: seconds after which a host without a beat is silent; current: the tick that is not over."""

    def __init__(self, horizon: float):
        self.horizon = horizon
        self.silent: dict[Host, None] = {}
        self.current = Tick()
        self._past: list[Tick] = []  # by time

    def note(self, host: "Host") -> None:
        """This host beats, for the first time in this tick."""
        if host.tick is None:
            self.silent.pop(host, None)
        host.tick = self.current
        self.current.hosts.append(host)

    def again(self, host: "Host", now: float) -> bool:
        """It does so once more. False: too often, however long the tick lasts while the database is slow."""
        tick = self.current
        count = tick.repeats[host] = tick.repeats.get(host, 0) + 1
        return count < MAX_REPEATS or count < MAX_REPEATS * (now - tick.began)

    def turn(self, now: float) -> list["Host"]:
        """Close the tick and begin another; returns the hosts that were heard of in it."""
        tick, self.current = self.current, Tick(began=now)
        tick.at = now
        tick.repeats.clear()
        if tick.hosts:
            insort(self._past, tick, key=_at)
        over = 0
        while over < len(self._past) and self._past[over].at < now - self.horizon:
            self._fall_silent(self._past[over])
            over += 1
        del self._past[:over]
        return tick.hosts

    def _fall_silent(self, tick: Tick) -> None:
        for host in tick.hosts:
            if host.tick is tick:
                host.tick = None
                self.silent[host] = None

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

    def ticks(self) -> list[Tick]:
        """All that are not over yet, or whose hosts are not silent."""
        return [*self._past, self.current]

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
