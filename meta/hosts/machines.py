"""Which machine reports under a host's name, and from which address. Pure; not safe for threads.

Two machines under one name are seen by their hashes: a host whose reports come from one, another, and each of them again is
*doubled*. A machine that is replaced, or boots again, is never seen again and doubles nothing. Addresses only inform: NAT and
hosts with two interfaces change them. So an address counts as another one when the host was not seen there within a day, and
all are told together, once an hour at most. Of a host that has one machine and one address nothing is kept but a mark, in an
object that it shares.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from meta.hosts.model import Host
    from updater.wire.heartbeat import Report

INTERVALS = 10 / 3  # in lateAfter, which is three heartbeats: within ten a machine must be seen again
EARLY = 1.0  # seconds by which a thread may have taken the time before another
MAX_CHANGED = 50_000  # hosts whose machines are kept; of more the newest are not judged
MAX_MOVED = 50_000  # hosts whose addresses are kept; of more those that moved last
MAX_ADDRESSES = 16  # of one host
KNOWN_FOR = 86400.0  # seconds after which an address at which a host was not seen is another one again
TOLD_EVERY = 3600.0  # seconds at least
MAX_MACHINES = 64  # under one name
MAX_MOVES = 10  # hosts with a new address that are told by name
MARK = 3  # hex digits: few enough that of a million hosts many share one, and of two machines 1 in 4096


class Updater:
    """What reports for a host, shared by all hosts for which that is the same. version: of the updater, "" where that is not
    ours; mark: of the machine and its boot, 0 where they are not told."""

    __slots__ = ("__weakref__", "mark", "version")

    def __init__(self, version: str = "", mark: int = 0):
        self.version = version
        self.mark = mark


NONE = Updater()


def mark_of(report: "Report") -> int:
    """Some bits of what the report says of its machine and its boot; 0: it says neither."""
    machine, boot = report.machine, report.boot
    if not isinstance(machine, str) and not isinstance(boot, str):
        return 0
    bits = int(machine[:MARK], 16) if isinstance(machine, str) else 0
    return (bits ^ (int(boot[:MARK], 16) if isinstance(boot, str) else 0)) or 1


class _Machines:
    """Of one host. left: when each machine was last seen before another one, by mark; addresses: whence they report; back: the
    last two times at which one was seen again within the window."""

    __slots__ = ("addresses", "back", "left")

    def __init__(self) -> None:
        self.left: dict[int, float] = {}
        self.addresses: dict[int, str] = {}
        self.back: tuple[float, ...] = ()


class Moves(NamedTuple):
    """hosts: how many report from another address; is_all: whether there were no more; ways: of some, from where to where."""

    hosts: int
    is_all: bool
    ways: Mapping[str, tuple[str, str]]


class Whereabouts:
    """late_after: seconds, as of the table."""

    def __init__(self, late_after: float):
        self._window = late_after * INTERVALS
        self._changed: dict[Host, _Machines] = {}
        self._seen: OrderedDict[Host, dict[str, float]] = (
            OrderedDict()
        )  # when at which address; the latest last, as the hosts
        self._moved: dict[Host, tuple[str, str]] = {}  # and not told yet
        self._told_at = -TOLD_EVERY
        self._updaters: WeakValueDictionary[tuple[str, int], Updater] = WeakValueDictionary()

    def updater(self, version: str, mark: int = 0) -> Updater:
        """The one object for these two."""
        found = self._updaters.get((version, mark))
        if found is None:
            found = self._updaters[version, mark] = Updater(version, mark)
        return found

    def report(self, host: "Host", mark: int, address: str, now: float) -> None:
        """This host's report, from this address, has such a mark, maybe another than the last one."""
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
            found.addresses.pop(one, None)  # the latest are last, and those that go are the first
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
        """A time that is later than now is none of ours."""
        return -EARLY <= now - at <= self._window

    def doubled(self, now: float) -> "list[Host]":
        """All of them."""
        return [host for host in self._changed if self.is_doubled(host, now)]

    def addresses(self, host: "Host", now: float) -> list[str]:
        """Whence the machines of a doubled host report; none of another."""
        return sorted(set(self._changed[host].addresses.values())) if self.is_doubled(host, now) else []

    def move(self, host: "Host", address: str, now: float) -> None:
        """This host reports from another address than it has."""
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
        """The clock was set by so many seconds, and it is `now`."""
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
        """What is too old to double anything, or to be known, is forgotten. Returns which hosts report from another address
        since that was last told, without doubled ones; none until it is to be told again."""
        for host in [h for h, found in self._changed.items() if not self._is_recent(max(found.left.values()), now)]:
            del self._changed[host]
        while self._seen and not _is_known(_last(next(iter(self._seen.values()))), now):
            self._seen.popitem(last=False)  # of a plain dict each of them would cost a search for the first
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
