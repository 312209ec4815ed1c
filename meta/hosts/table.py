"""All hosts in memory: what each one last said, since when, and what it is to run.

A heartbeat that says nothing new costs a look-up and a comparison. Hosts that say the same of their agents share that profile,
and hosts of the same profile and class form a group, so that counts and drift are sums over some groups and never over a
million hosts. Text from a host is cut and cleaned before it is kept. Whether a host is late or lost is judged from `now`
by who asks; it is never stored.
"""

import threading
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from copy import copy
from itertools import islice
from typing import TypeVar

from meta.errors import TooMany
from meta.hosts.agent_sets import Group, Profile, clean_looks, same_looks
from meta.hosts.classes import Class, Classes
from meta.hosts.core import merging, moments
from meta.hosts.core.batches import batches
from meta.hosts.core.indexes import Indexes
from meta.hosts.machines import Moves, mark_of
from meta.hosts.model import Census, Host, Moment, Part, Roll, Saved, Silence, Snapshot, Unwritten
from meta.hosts.outcomes import clean_outcomes
from meta.hosts.regroup import Regrouping
from meta.hosts.sorted_names import Folded, Names
from meta.records.model import RecordSet
from updater.wire.heartbeat import Report

BACK = 0.001  # seconds by which the beat that takes a host back is later than what retired it, however clocks stand
AT_ONCE = 2000  # hosts that are read or changed before another thread gets the lock
Counted = Container[tuple[Class, Profile]]
_BLANK = Profile(())
T = TypeVar("T")


class HostTable:
    """All hosts by name. Safe for threads: each method takes the lock itself, some microseconds long, or for many hosts some
    milliseconds at a time. late_after: seconds without a beat after which a host is silent."""

    def __init__(self, records: RecordSet | None = None, late_after: float = 900, max_hosts: int = 2_000_000):
        self._lock = threading.Lock()
        self._names = Names(self._lock)
        self._index = Indexes(Classes(records or RecordSet()), self._names, late_after, max_hosts)
        self._hosts, self._seen = self._index.hosts, self._index.seen  # a step less for each beat
        self._regrouping = Regrouping(self._index, self._lock)

    def activate(
        self, records: RecordSet, instead_of: RecordSet | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        """Every beat from now on is answered by these records; counts and drift follow within seconds. Older ones than those in
        force change nothing, unless those in force are `instead_of`, which the database has lost. clock: the one that dates
        beats, None where hosts may have heard of these records before."""
        self._regrouping.activate(records, instead_of, clock)

    @property
    def classes(self) -> Classes:
        """Those of the records in force."""
        return self._index.classes

    # --- what hosts and people say ---

    def beat(self, report: Report, address: str, now: float) -> Class:
        """Take one report in, and return the desired state of its host. Raises WireError for a name that is none, TooMany."""
        host = self._hosts.get(report.hostname)
        profile = _BLANK if host is None else host.group.profile
        agents = report.real_agents
        looked = None if agents is None else same_looks(agents, profile.looks)
        said = clean_looks(agents) if looked is None and agents is not None else None
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
                index.move(host, host.group.profile)
            if said is None and agents is not None and host.group.profile is not profile:
                said = clean_looks(agents)  # which it was compared with, and is not any more
            if said is not None:
                index.take_looks(host, *said, now)
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
        """This host is gone for good, until it beats again or a person undoes it. False: there is none of that name."""
        with self._lock:
            if host := self._hosts.get(name):
                self._index.dirty.add(host)
                if host.last_seen <= now:
                    self._index.retire(host, now)
            return host is not None

    def unretire(self, name: str, now: float) -> bool:
        """Undo it, also where only another meta knows of it yet: from now (Unix seconds) on it may be silent for as long as any
        other."""
        with self._lock:
            if host := self._hosts.get(name):
                self._index.dirty.add(host)
                self._index.unretired[host] = now
                if host.retired_at:
                    self._index.unretire(host)
                    self._seen.quiet(host)
            return host is not None

    def retire_silent(self, before: float, now: float, since: float = 0.0) -> list[str]:
        """Retire every host that was last heard of before this, and not taken back since; returns their names. Each is dated by
        when it was due, at `since` at the earliest: so a report that another meta has heard by now, and not written, is
        later."""
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
        """The clock was set by so many seconds, and it is `now`: what was heard before was heard as long ago as it was. What
        the database dates later than now, or days too early, is written again, or a restart would believe it."""
        with self._lock:
            known, moved = list(self._hosts.values()), self._index.move_along(by, now)
        self._in_turns(known, lambda some: self._index.move_hosts_along(some, by, now, moved))

    # --- what is written down, and what other metas wrote ---

    @property
    def waiting(self) -> int:
        """How many hosts have rows that are to be written."""
        return len(self._index.dirty)

    def take_dirty(self, now: float, at_most: int) -> Unwritten:
        """What came since the last call, but for no more hosts than that: who takes it writes it down, or gives it back by
        `mark_dirty`."""
        with self._lock:
            changed = list(islice(self._index.dirty, at_most))
            self._index.dirty.difference_update(changed)
            ticks = self._seen.turn(now)
        saved: list[Saved] = []
        self._in_turns(changed, lambda some: saved.extend(merging.saved_of(self._index, host) for host in some))
        return Unwritten(changed, saved, merging.heard(ticks, set(changed)))

    def mark_dirty(self, hosts: Iterable[Host]) -> None:
        """The rows of these hosts, as far as there are still such hosts, are to be written."""
        with self._lock:
            self._index.dirty.update(host for host in hosts if self._hosts.get(host.name) is host)

    def mark_written(self, ids: dict[str, int]) -> None:
        """The database has given these hosts their ids."""
        with self._lock:
            for name, number in ids.items():
                if host := self._hosts.get(name):
                    self._index.set_id(host, number)

    def written(self, number: int) -> float:
        """When the host of this id was last heard of, as far as that is in the database; 0.0: something of it is not."""
        host = self._index.by_id.get(number)
        is_written = host and host not in self._index.dirty and self._seen.is_written(host.tick)
        return host.last_seen if host and is_written else 0.0

    def saved(self, name: str) -> Saved | None:
        """As the database is to keep the host of this name, None where there is none."""
        with self._lock:
            host = self._hosts.get(name)
            return merging.saved_of(self._index, host) if host else None

    def load(self, saved: Iterable[Saved], now: float, ahead: float) -> None:
        """Fill a new table. What cannot be read is logged and left out; what is dated later than now counts as of now, and is
        written again where that is by more than `ahead` seconds."""
        self._in_turns(saved, lambda some: merging.load(self._index, some, now, ahead))
        with self._lock:
            merging.loaded(self._index, now)

    def merge(self, saved: Iterable[Saved], now: float) -> None:
        """What other metas wrote of hosts: of each the later report counts, and the better of both is written."""
        self._in_turns(saved, lambda some: merging.merge(self._index, some, now))

    def hear(self, at: float, ids: Sequence[int], now: float) -> None:
        """Other metas heard of these hosts, and of nothing new."""
        self._in_turns(ids, lambda some: merging.hear(self._index, at, some, now))

    def forget(self, ids: Iterable[int], written: float = 0.0) -> None:
        """The database has forgotten these hosts; one that was heard of after `written` gets a row again."""
        self._in_turns(ids, lambda some: merging.forget(self._index, some, written))

    def ids(self) -> set[int]:
        """Of all hosts that the database knows."""
        with self._lock:
            return set(self._index.by_id)

    def forget_ids(self) -> None:
        """Nothing is known of ids any more: they may be others' by now."""
        with self._lock:
            for host in self._hosts.values():
                self._index.set_id(host, 0)

    def keep_or_forget(self, since: float) -> None:
        """The database has not got the hosts without an id: those that were heard of since then are written again."""
        with self._lock:
            unknown = [host for host in self._hosts.values() if not host.id]
        self._in_turns(unknown, lambda some: merging.keep_or_forget(self._index, some, since))

    def take_moves(self, now: float) -> Moves:
        """Which hosts report from another address since that was last told; what is too old to be known is forgotten."""
        with self._lock:
            return self._index.whereabouts.tidy(now)

    def _in_turns(self, things: Iterable[T], work: Callable[[list[T]], object]) -> None:
        """Some at a time, so that beats come in between."""
        for some in batches(things, AT_ONCE):
            with self._lock:
                work(some)

    # --- questions ---

    def get(self, name: str) -> Host | None:
        """Each of its fields is as it was at some moment."""
        return self._hosts.get(name)

    def copies(self, names: Iterable[str]) -> list[Host]:
        """The hosts of these names, as they are; those that are gone are left out."""
        with self._lock:
            return [copy(host) for name in names if (host := self._hosts.get(name))]

    def snapshot(self, name: str, now: float) -> Snapshot | None:
        """One host, and what else is known of it."""
        with self._lock:
            host = self._hosts.get(name)
            return moments.snapshot(self._index, host, now) if host else None

    def names(self) -> list[str]:
        """All names in order. The list never changes once it was handed out."""
        return self._names.all()

    def folded_names(self) -> Folded:
        """To be looked for by what nearly fits."""
        return self._names.folded()

    def parts(self, retired_too: bool = False) -> list[Part]:
        """All groups at one moment, and how many hosts are in each."""
        with self._lock:
            return moments.parts(self._index, retired_too)

    def members(self, groups: Collection[Group]) -> list[Host]:
        """The hosts that are in these groups now."""
        with self._lock:
            return [host for group in groups for host in group.hosts]

    def roll(self, counted: Counted = (), names: Iterable[str] = ()) -> Roll:
        """All groups at one moment with their hosts; of those that are `counted`, by class and profile, the number alone.
        names: of hosts that are wanted apart as well."""
        with self._lock:
            return moments.roll(self._index, counted, names)

    def moment(self, now: float, counted: Counted = (), names: Iterable[str] = ()) -> Moment:
        """The same, and which hosts are silent or doubled then."""
        with self._lock:
            return moments.moment(self._index, now, moments.roll(self._index, counted, names))

    def census(self, since: float) -> Census:
        """How many hosts there are; new are those that came after that."""
        with self._lock:
            return moments.census(self._index, since)

    def silence(self, now: float) -> Silence:
        """The hosts that are silent, but for doubled ones."""
        with self._lock:
            return moments.silence(self._index, now)

    def silent(self) -> list[Host]:
        """Those that were not heard of for long, doubled ones too."""
        with self._lock:
            return list(self._seen.silent)

    def retired(self) -> list[Host]:
        """In the order in which they were retired."""
        with self._lock:
            return list(self._index.retired)

    def doubled(self, now: float) -> list[Host]:
        """Those under whose name two machines report."""
        with self._lock:
            return self._index.whereabouts.doubled(now)

    def unheard(self, now: float) -> float:
        """Seconds since any host was heard of, 0.0 when none ever was."""
        return self._seen.unheard(now)
