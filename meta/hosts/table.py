"""All hosts in memory: what each last reported, since when, and what it is to run.

A heartbeat with nothing new costs a look-up and a comparison. Hosts that report the same agents share an agent set. Hosts with
the same agent set and class form a group, so counts and drift are sums over groups, not over a million hosts.

Text from a host is cut and cleaned before it is kept. Whether a host is late or lost is not stored: it follows from the time.
"""

import threading
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from copy import copy
from itertools import islice
from math import inf, nextafter
from typing import TypeVar

from meta.errors import TooMany
from meta.hosts.agent_sets import AgentSet, Group, clean_agents, same_as_reported
from meta.hosts.classes import Class, Classes
from meta.hosts.core import merging, snapshots
from meta.hosts.core.batches import batches
from meta.hosts.core.indexes import Indexes
from meta.hosts.machines import Moves, mark_of
from meta.hosts.model import Census, Host, Moment, Part, Roll, Saved, Silence, Snapshot, Unwritten
from meta.hosts.outcomes import clean_outcomes
from meta.hosts.regroup import Regrouping
from meta.hosts.sorted_names import Folded, Names
from meta.records.model import RecordSet
from updater.wire.heartbeat import Report

BACK = 0.001  # seconds from a host's retirement to the report that takes it back, if clocks would date that earlier
AT_ONCE = 2000  # hosts that are read or changed before another thread gets the lock
Counted = Container[tuple[Class, AgentSet]]
_BLANK = AgentSet(())
T = TypeVar("T")


class HostTable:
    """All hosts by name. Safe for threads: each method takes the lock itself, for some milliseconds at a time at most."""

    def __init__(self, records: RecordSet | None = None, late_after: float = 900, max_hosts: int = 2_000_000):
        self._lock = threading.Lock()
        self._names = Names(self._lock)
        self._index = Indexes(Classes(records or RecordSet()), self._names, late_after, max_hosts)
        self._hosts, self._seen = self._index.hosts, self._index.seen  # for speed: one look-up fewer
        self._regrouping = Regrouping(self._index, self._lock)

    def activate(
        self, records: RecordSet, instead_of: RecordSet | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        """Answer every heartbeat by these records from now on; counts and drift follow within seconds. See `Regrouping`."""
        self._regrouping.activate(records, instead_of, clock)

    @property
    def classes(self) -> Classes:
        """The classes under the records in force."""
        return self._index.classes

    # --- reports, and orders of people ---

    def beat(self, report: Report, address: str, now: float) -> Class:
        """Take in one report; return the class of its host. Raises WireError (its name is invalid) and TooMany."""
        host = self._hosts.get(report.hostname)
        agent_set = _BLANK if host is None else host.group.agent_set
        agents = report.real_agents
        looked = None if agents is None else same_as_reported(agents, agent_set.agents)
        said = clean_agents(agents) if looked is None and agents is not None else None
        told = clean_outcomes(report.outcomes) if report.outcomes else None
        mark = mark_of(report)
        with self._lock:
            index, seen = self._index, self._seen
            if now >= seen.full:
                seen.close(now)
            if host is None or host.retired_at:
                heard, now = now, max(now, host.retired_at + BACK) if host else now
                host = index.welcome(report.hostname, heard)
            if host.group.klass.book is not index.classes:
                index.move(host, host.group.agent_set)
            if said is None and agents is not None and host.group.agent_set is not agent_set:
                said = clean_agents(agents)  # another thread has changed the agent set that it was compared with
            if said is not None:
                index.take_reported(host, *said, now)
            elif looked is not None:
                host.looked = looked
            version, updater = report.updater_version or "", host.updater
            if told or address != host.address or version != updater.version or mark != updater.mark:
                index.take_rest(host, told, version, mark, address, now)
            host.last_seen = now
            if host.tick is not seen.current:
                seen.note(host, now)
            elif not seen.again(host):
                raise TooMany(f"{host.name} reports too often: wait for its interval")
            return host.group.klass

    def retire(self, name: str, now: float) -> bool:
        """Retire a host, until it reports again or a person takes it back. Returns False if the name is unknown."""
        with self._lock:
            if host := self._hosts.get(name):
                self._index.dirty.add(host)
                if host.last_seen <= now:
                    self._index.retire(host, now)
            return host is not None

    def unretire(self, name: str, now: float) -> bool:
        """Take a host back; its silence counts from `now`. Returns False if the name is unknown."""
        with self._lock:
            if host := self._hosts.get(name):
                self._index.dirty.add(host)
                self._index.unretired[host] = now
                if host.retired_at:
                    self._index.unretire(host)
                    self._seen.quiet(host)
            return host is not None

    def retire_silent(self, before: float, now: float, since: float = 0.0) -> list[str]:
        """Retire every host that was last heard of, or taken back, before `before`. Returns their names. Each is dated by the
        moment at which it was due, but not before `since`: so a report that another meta has not written yet is later."""
        gone: list[str] = []
        for some in batches([host for host in self.silent() if host.last_seen < before], AT_ONCE):
            with self._lock:
                still = [host for host in some if host in self._seen.silent and self._index.last_alive(host) < before]
                for host in still:
                    self._index.retire(host, max(self._index.last_alive(host) + now - before, since))
                self._index.dirty.update(still)
            gone += [host.name for host in still]
        return gone

    def move_along(self, by: float, now: float) -> None:
        """Move all times by the seconds that the clock was set by, so that hosts stay silent for as long as they were. now: the
        new time. Hosts count as having received their orders when they are heard of later than that."""
        with self._lock:
            known, moved = list(self._hosts.values()), self._index.move_along(by, now)
        self._in_turns(known, lambda some: self._index.move_hosts_along(some, by, now, moved))
        with self._lock:
            self._index.classes.began = nextafter(now, inf)

    def doubt(self) -> None:
        """Take no host's orders for received, because its times and those of the orders cannot be compared now."""
        with self._lock:
            self._index.classes.began = inf

    # --- what goes to the database, and what other metas wrote there ---

    @property
    def waiting(self) -> int:
        """How many hosts have changed and are not written yet."""
        return len(self._index.dirty)

    def take_dirty(self, now: float, at_most: int) -> Unwritten:
        """Return what changed since the last call, for some hosts, to be written or given back by `mark_dirty`."""
        with self._lock:
            changed = list(islice(self._index.dirty, at_most))
            self._index.dirty.difference_update(changed)
            ticks = self._seen.turn(now)
        saved: list[Saved] = []
        self._in_turns(changed, lambda some: saved.extend(merging.saved_of(self._index, host) for host in some))
        return Unwritten(changed, saved, merging.heard(ticks, set(changed)))

    def mark_dirty(self, hosts: Iterable[Host]) -> None:
        """Have the rows of these hosts written, if the hosts are still in the table."""
        with self._lock:
            self._index.dirty.update(host for host in hosts if self._hosts.get(host.name) is host)

    def mark_written(self, ids: dict[str, int]) -> None:
        """Note the ids that the database gave to these hosts."""
        with self._lock:
            for name, number in ids.items():
                if host := self._hosts.get(name):
                    self._index.set_id(host, number)

    def written(self, number: int) -> float:
        """Return when the host with this id was last heard of; 0.0 if the database does not know that yet."""
        host = self._index.by_id.get(number)
        is_written = host and host not in self._index.dirty and self._seen.is_written(host.tick)
        return host.last_seen if host and is_written else 0.0

    def saved(self, name: str) -> Saved | None:
        """Return the host of this name as the database is to store it; None if the name is unknown."""
        with self._lock:
            host = self._hosts.get(name)
            return merging.saved_of(self._index, host) if host else None

    def load(self, saved: Iterable[Saved], now: float, ahead: float) -> None:
        """Fill a new table. Rows that cannot be decoded are logged and left out. now, ahead: see `merging.load`."""
        self._in_turns(saved, lambda some: merging.load(self._index, some, now, ahead))
        with self._lock:
            merging.loaded(self._index, now)

    def merge(self, saved: Iterable[Saved], now: float) -> None:
        """Merge what other metas wrote of hosts. The later report of each host counts; a host that differs is written."""
        self._in_turns(saved, lambda some: merging.merge(self._index, some, now))

    def hear(self, at: float, ids: Sequence[int], now: float) -> None:
        """Note that other metas heard of these hosts at `at`, and that nothing else of them changed."""
        self._in_turns(ids, lambda some: merging.hear(self._index, at, some, now))

    def forget(self, ids: Iterable[int], written: float = 0.0) -> None:
        """Forget hosts that were deleted from the database. One that was heard of after `written` gets a row again."""
        self._in_turns(ids, lambda some: merging.forget(self._index, some, written))

    def ids(self) -> set[int]:
        """Return the ids of all hosts that the database knows."""
        with self._lock:
            return set(self._index.by_id)

    def forget_ids(self) -> None:
        """Forget the ids of all hosts: the database may have given them to other hosts."""
        with self._lock:
            for host in self._hosts.values():
                self._index.set_id(host, 0)

    def keep_or_forget(self, since: float) -> None:
        """Of the hosts without an id, write those that were heard of since `since`, and forget the others."""
        with self._lock:
            unknown = [host for host in self._hosts.values() if not host.id]
        self._in_turns(unknown, lambda some: merging.keep_or_forget(self._index, some, since))

    def take_moves(self, now: float) -> Moves:
        """Return the hosts that report from a new address since the last result; see `Whereabouts.tidy`."""
        with self._lock:
            return self._index.whereabouts.tidy(now)

    def _in_turns(self, things: Iterable[T], work: Callable[[list[T]], object]) -> None:
        """Do the work for some things at a time, so that heartbeats get the lock in between."""
        for some in batches(things, AT_ONCE):
            with self._lock:
                work(some)

    # --- questions ---

    def get(self, name: str) -> Host | None:
        """Return the host itself. Its fields may change while the caller reads them; `copies` and `snapshot` do not."""
        return self._hosts.get(name)

    def copies(self, names: Iterable[str]) -> list[Host]:
        """Return copies of the hosts of these names; unknown names are left out."""
        with self._lock:
            return [copy(host) for name in names if (host := self._hosts.get(name))]

    def snapshot(self, name: str, now: float) -> Snapshot | None:
        """Return a copy of one host, and what else is known of it; None if the name is unknown."""
        with self._lock:
            host = self._hosts.get(name)
            return snapshots.snapshot(self._index, host, now) if host else None

    def names(self) -> list[str]:
        """Return all names in order. The list never changes afterwards."""
        return self._names.all()

    def folded_names(self) -> Folded:
        """Return all names, for a search for similar ones."""
        return self._names.folded()

    def parts(self, retired_too: bool = False) -> list[Part]:
        """Return all groups at one moment, and how many hosts are in each."""
        with self._lock:
            return snapshots.parts(self._index, retired_too)

    def members(self, groups: Collection[Group]) -> list[Host]:
        """Return the hosts that are in these groups now."""
        with self._lock:
            return [host for group in groups for host in group.hosts]

    def roll(self, counted: Counted = (), names: Iterable[str] = ()) -> Roll:
        """Return all groups at one moment, with their hosts unless they are `counted`, and the hosts of these names."""
        with self._lock:
            return snapshots.roll(self._index, counted, names)

    def moment(self, now: float, counted: Counted = (), names: Iterable[str] = ()) -> Moment:
        """Return the same, and which hosts are silent or doubled at that moment."""
        with self._lock:
            return snapshots.moment(self._index, now, snapshots.roll(self._index, counted, names))

    def census(self, since: float) -> Census:
        """Count the hosts. Those first heard of after `since` (Unix seconds) are new."""
        with self._lock:
            return snapshots.census(self._index, since)

    def silence(self, now: float) -> Silence:
        """Return the silent hosts, without doubled ones."""
        with self._lock:
            return snapshots.silence(self._index, now)

    def silent(self) -> list[Host]:
        """Return the hosts that did not report for `late_after` seconds, with doubled ones."""
        with self._lock:
            return list(self._seen.silent)

    def retired(self) -> list[Host]:
        """Return the retired hosts, in the order in which they were retired."""
        with self._lock:
            return list(self._index.retired)

    def doubled(self, now: float) -> list[Host]:
        """Return the hosts under whose name two machines report."""
        with self._lock:
            return self._index.whereabouts.doubled(now)

    def unheard(self, now: float) -> float:
        """Return the seconds since the last report of any host, 0.0 if there was none."""
        return self._seen.unheard(now)
