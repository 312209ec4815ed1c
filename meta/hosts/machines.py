"""Which machine reports under a host's name, and from which address. Pure; not safe for threads.

Reports carry hashes of the machine and its boot. A host is *doubled* if two machines report under its name in turn: one, the
other, and each of them again. A machine that was replaced or rebooted does not return, so it doubles nothing.

Addresses only inform, because NAT and hosts with two interfaces change them. An address counts as a new one if the host was
not seen there within a day. New addresses are logged together, once an hour at most. A host with one machine and one address
costs no memory but a reference to a shared object.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from meta.hosts.model import Host
    from updater.wire.heartbeat import Report

INTERVALS = 10 / 3  # of lateAfter (three heartbeats): a machine must return within ten heartbeats to double a host
EARLY = 1.0  # seconds that one thread's time may be ahead of another's
MAX_CHANGED = 50_000  # hosts whose machines are kept; further hosts cannot be found doubled
MAX_MOVED = 50_000  # hosts whose addresses are kept; the ones that moved last
MAX_ADDRESSES = 16  # of one host
KNOWN_FOR = 86400.0  # seconds after which an address counts as new again
TOLD_EVERY = 3600.0  # seconds at least between two lines in the log
MAX_MACHINES = 64  # under one name
MAX_MOVES = 10  # hosts with a new address that the log names
MARK = 3  # hex digits of a hash: many hosts share each object, and two machines share a mark with chance 1 in 4096


class Updater:
    """The program that reports for a host. Hosts with equal values share one object."""

    __slots__ = ("__weakref__", "mark", "version")

    def __init__(self, version: str = "", mark: int = 0):
        self.version = version  # of the updater; "" if the program is not this project's updater
        self.mark = mark  # of the machine and its boot; 0 if they are not reported


NONE = Updater()


def mark_of(report: "Report") -> int:
    """Return some bits of the report's machine and boot hashes; 0 if it has neither."""
    machine, boot = report.machine, report.boot
    if not isinstance(machine, str) and not isinstance(boot, str):
        return 0
    bits = int(machine[:MARK], 16) if isinstance(machine, str) else 0
    return (bits ^ (int(boot[:MARK], 16) if isinstance(boot, str) else 0)) or 1


class _Machines:
    """The machines that report under one name. Each is known by its mark."""

    __slots__ = ("addresses", "back", "left")

    def __init__(self) -> None:
        self.left: dict[int, float] = {}  # when another machine took over from this one (Unix seconds)
        self.addresses: dict[int, str] = {}  # from which it reported last; the latest is last
        self.back: tuple[float, ...] = ()  # the last two times that a machine returned within the window


class Moves(NamedTuple):
    """Hosts that report from a new address."""

    hosts: int  # how many
    is_all: bool  # False: there were more, which were not kept
    ways: Mapping[str, tuple[str, str]]  # some of them by name: the former address and the new one


class Whereabouts:
    """The machines and addresses of all hosts."""

    def __init__(self, late_after: float):
        self._window = late_after * INTERVALS  # seconds
        self._changed: dict[Host, _Machines] = {}
        # When each host was at which address (Unix seconds). The latest address and the latest host are last.
        self._seen: OrderedDict[Host, dict[str, float]] = OrderedDict()
        self._moved: dict[Host, tuple[str, str]] = {}  # former and new address, not logged yet
        self._told_at = -TOLD_EVERY
        self._updaters: WeakValueDictionary[tuple[str, int], Updater] = WeakValueDictionary()

    def updater(self, version: str, mark: int = 0) -> Updater:
        """Return the shared object with these values."""
        found = self._updaters.get((version, mark))
        if found is None:
            found = self._updaters[version, mark] = Updater(version, mark)
        return found

    def report(self, host: "Host", mark: int, address: str, now: float) -> None:
        """Note the mark of a report, and so whether another machine reports for this host now."""
        former = host.updater.mark
        if not mark or mark == former:
            return
        host.updater = self.updater(host.updater.version, mark)
        if not former:
            return
        found = self._changed.get(host)
        if found is None:
            if len(self._changed) >= MAX_CHANGED:
                return
            found = self._changed[host] = _Machines()
        if 0 <= now - found.left.get(mark, -1e18) <= self._window:
            found.back = (*found.back[-1:], now)
        found.left[former] = now
        for one, where in ((former, host.address), (mark, address)):
            found.addresses.pop(one, None)  # so that it becomes the last
            found.addresses[one] = where
        while len(found.addresses) > MAX_MACHINES:
            gone = next(iter(found.addresses))
            del found.addresses[gone]
            found.left.pop(gone, None)

    def is_doubled(self, host: "Host", now: float) -> bool:
        found = self._changed.get(host)
        if found is None or len(found.back) < 2 or host.retired_at:
            return False
        return found.back[1] - found.back[0] <= self._window and self._is_recent(found.back[1], now)

    def _is_recent(self, at: float, now: float) -> bool:
        """Whether this was within the window. A time later than now is from a clock that was set back, and is not."""
        return -EARLY <= now - at <= self._window

    def doubled(self, now: float) -> "list[Host]":
        """Return all doubled hosts."""
        return [host for host in self._changed if self.is_doubled(host, now)]

    def addresses(self, host: "Host", now: float) -> list[str]:
        """Return the addresses from which the machines of a doubled host report; [] for any other host."""
        return sorted(set(self._changed[host].addresses.values())) if self.is_doubled(host, now) else []

    def move(self, host: "Host", address: str, now: float) -> None:
        """Note that this host reports from another address than its last one."""
        seen = self._seen.pop(host, {})
        is_known = _is_known(seen.get(address), now)
        for one in (host.address, address):
            seen.pop(one, None)
            seen[one] = now
        while len(seen) > MAX_ADDRESSES:
            del seen[next(iter(seen))]
        while len(self._seen) >= MAX_MOVED:
            self._seen.popitem(last=False)
        self._seen[host] = seen
        if not is_known and (host in self._moved or len(self._moved) < MAX_MOVED):
            self._moved[host] = (self._moved.get(host, (host.address,))[0], address)

    def move_along(self, by: float, now: float) -> None:
        """Move all times by the seconds that the clock was set by. now: the new time."""
        for found in self._changed.values():
            found.left = {mark: min(at + by, now) for mark, at in found.left.items()}
            found.back = tuple(min(at + by, now) for at in found.back)
        for host, seen in self._seen.items():
            self._seen[host] = {address: min(at + by, now) for address, at in seen.items()}
        self._told_at = min(self._told_at + by, now)

    def forget(self, host: "Host") -> None:
        self._changed.pop(host, None)
        self._seen.pop(host, None)
        self._moved.pop(host, None)

    def tidy(self, now: float) -> Moves:
        """Forget old machines and addresses. Return the hosts that have a new address since the last result.

        Doubled hosts are left out. Nothing is returned until TOLD_EVERY seconds after the last result.
        """
        for host in [h for h, found in self._changed.items() if not self._is_recent(max(found.left.values()), now)]:
            del self._changed[host]
        while self._seen and not _is_known(_last(next(iter(self._seen.values()))), now):
            self._seen.popitem(last=False)  # a plain dict would search for its first item each time
        if 0 <= now - self._told_at < TOLD_EVERY:
            return Moves(0, True, {})
        moved = {h.name: way for h, way in self._moved.items() if way[0] != way[1] and not self.is_doubled(h, now)}
        is_all = len(self._moved) < MAX_MOVED
        self._moved = {}
        if moved:
            self._told_at = now
        return Moves(len(moved), is_all, dict(list(moved.items())[:MAX_MOVES]))


def _last(seen: dict[str, float]) -> float:
    return next(reversed(seen.values()))


def _is_known(at: float | None, now: float) -> bool:
    return at is not None and -EARLY <= now - at <= KNOWN_FOR
