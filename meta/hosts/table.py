"""All hosts in memory: what each one last said, since when, and what it shall run.

A heartbeat that says nothing new costs a look-up and a comparison. Hosts that say the same of their agents share that profile,
and hosts of the same profile and class form a group, so that counts and drift are sums over some groups and never over a
million hosts. Text from a host is cut and cleaned before it is kept. Whether a host is late or lost is judged from `now`
whenever somebody asks; it is never stored.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from meta.errors import TooMany
from meta.hosts import regroup
from meta.hosts.agent_sets import (
    MAX_NAME,
    MAX_WEIGHT,
    Group,
    Profile,
    Profiles,
    Stamp,
    clean_looks,
    same_looks,
    since_when,
)
from meta.hosts.classes import Class, Classes, Look
from meta.hosts.last_seen import Seen
from meta.hosts.machines import Whereabouts, mark_of
from meta.hosts.model import Host
from meta.hosts.outcomes import clean_outcomes, read_outcomes, verdicts_of, write_outcomes
from meta.hosts.sorted_names import Arrivals, Folded, Names
from meta.records.model import RecordSet
from updater.wire.heartbeat import Outcome, Report, WireError
from updater.wire.names import hostname_problem
from updater.wire.text import one_line

BACK = 0.001  # seconds by which the beat that takes a host back is later than what put it aside, whatever clocks say
_BLANK = Profile(())


class HostTable:
    """All hosts by name, safe for threads; the lock is held for some microseconds. late_after: seconds without a beat; dirty:
    the hosts whose rows are to be written; spared: those that somebody took back, and when."""

    def __init__(self, records: RecordSet | None = None, late_after: float = 900, max_hosts: int = 2_000_000):
        self.classes = Classes(records or RecordSet())
        self.nowhere = Classes(RecordSet()).matching(frozenset())
        self.groups: dict[tuple[Profile, Class], Group] = {}
        self.aside: dict[tuple[Profile, Class], Group] = {}  # of retired hosts
        self.profiles = Profiles()
        self.seen = Seen(late_after)
        self.retired: dict[Host, None] = {}
        self.spared: dict[Host, float] = {}
        self.by_id: dict[int, Host] = {}
        self.dirty: set[Host] = set()
        self.arrivals = Arrivals()
        self.whereabouts = Whereabouts(late_after)
        self._max_hosts = max_hosts
        self.told = 0  # characters of all outcomes together
        self._hosts: dict[str, Host] = {}
        self._lock = threading.Lock()
        self._names = Names(self._lock)
        self._changing_records = threading.Lock()

    def put_in_force(
        self, records: RecordSet, instead_of: RecordSet | None = None, clock: Callable[[], float] | None = None
    ) -> None:
        """Every beat from now on is answered by these records; counts and drift follow within seconds. Older ones than those in
        force change nothing, unless those in force are `instead_of`, which the database has lost. clock: the one that dates
        beats, None where hosts may have heard of these records before."""
        with self._changing_records:
            regroup.put_in_force(self, records, instead_of, clock)

    # --- the hot path ---

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
            if now >= self.seen.full:
                self.seen.close(now)
            if host is None or host.retired_at:
                heard, now = now, max(now, host.retired_at + BACK) if host else now
                host = self._welcome(report.hostname, heard)
            if host.group.klass.book is not self.classes:
                self.move(host, host.group.profile)
            if said is None and agents is not None and host.group.profile is not profile:
                said = clean_looks(agents)  # which it was compared with, and is not any more
            if said is not None:
                self._take_looks(host, *said, now)
            elif looked is not None:
                host.looked = looked
            version, updater = report.updater_version or "", host.updater
            if told or address != host.address or version != updater.version or mark != updater.mark:
                self.whereabouts.report(host, mark, address, now)
                self._take_rest(host, told, version, address, now)
            host.last_seen = now
            if host.tick is not self.seen.current:
                self.seen.note(host, now)
            elif not self.seen.again(host):
                raise TooMany(f"{host.name} reports too often: wait for its interval")
            return host.group.klass

    def _welcome(self, name: str, now: float) -> Host:
        """A host that is new, or back."""
        if host := self._hosts.get(name):
            if host.retired_at:
                self.bring_back(host)
                self.seen.note(host, now)  # at once: its report may still be refused
                self.dirty.add(host)
            return host
        if problem := hostname_problem(name):
            raise WireError(problem)
        if len(self._hosts) >= self._max_hosts:
            raise TooMany(f"there are {self._max_hosts} hosts already: forget some, or raise maxHosts")
        host = Host(name, now, now, self.group(self.profiles.of(()), self.classes.of(name).newcomers()), since=now)
        self.enter(host)
        self.arrive(host)
        self.seen.note(host, now)
        self.dirty.add(host)
        return host

    def enter(self, host: Host) -> None:
        self._hosts[host.name] = host
        host.group.hosts.add(host)

    def arrive(self, host: Host) -> None:
        self.arrivals.add(host.first_seen)
        self._names.add(host.name)

    def _take_looks(self, host: Host, looks: tuple[Look, ...], looked: Stamp, now: float) -> None:
        looks = regroup.looks_as_heard(host, looks)
        if looks != host.group.profile.looks:
            before = {look[:3]: since for look, since, _ in host.looks()}
            self.move(host, self.profiles.admit(looks, host.group.profile.verdicts))
            host.since = since_when(looks, before, now)
            self.dirty.add(host)
        host.looked = looked

    def _take_rest(self, host: Host, told: dict[str, Outcome] | None, version: str, address: str, now: float) -> None:
        version, address = one_line(version, MAX_NAME), one_line(address, MAX_NAME)
        if told:  # an outcome stays until the same agent has another
            kept = {agent: outcome for agent, outcome in host.outcomes.items() if agent not in told}
            text = write_outcomes(kept | regroup.told_as_heard(host, told), self.told > MAX_WEIGHT)
            verdicts = verdicts_of(read_outcomes(text))
            profile = self.profiles.admit(host.group.profile.looks, verdicts)
            self.tell(host, text)
            self.move(host, profile)
        elif (version, address) == (host.updater.version, host.address):
            return
        if host.address and address != host.address:
            self.whereabouts.move(host, address, now)
        host.updater, host.address = self.whereabouts.updater(version, host.updater.mark), address
        self.dirty.add(host)

    def judge(self, host: Host) -> None:
        """Into the group of what its outcomes say, whoever has changed them."""
        profile, verdicts = host.group.profile, verdicts_of(host.outcomes) if host.told else ()
        if verdicts != profile.verdicts:
            self.move(host, self.profiles.of(profile.looks, verdicts))

    def tell(self, host: Host, told: str) -> None:
        self.told += len(told) - len(host.told)
        host.told = told

    # --- groups, with the lock held ---

    def group(self, profile: Profile, klass: Class) -> Group:
        groups = self.aside if klass is self.nowhere else self.groups
        group = groups.get((profile, klass))
        if group is None:
            group = groups[profile, klass] = Group(profile, klass)
            profile.groups += 1
        return group

    def move(self, host: Host, profile: Profile, klass: Class | None = None) -> None:
        """Into the group of this profile and class; by default that of the host by the records in force."""
        former = host.group
        if klass is None:
            klass = former.klass if former.klass.book is self.classes else self.classes.of(host.name)
        klass = self.nowhere if host.retired_at else klass
        if klass is not former.klass and former.klass is not self.nowhere is not klass:
            klass = klass.comers(former.klass, host.last_seen)
            profile = regroup.without_outdated(self, host, profile, klass) if profile.has_failures else profile
        group = self.group(profile, klass)
        if group is not former:
            group.hosts.add(host)
            host.group = group
            self._leave(former, host)

    def _leave(self, group: Group, host: Host) -> None:
        group.hosts.discard(host)
        if not group.hosts:
            del (self.aside if group.klass is self.nowhere else self.groups)[group.profile, group.klass]
            self.profiles.release(group.profile)

    # --- retiring ---

    def retire(self, name: str, now: float) -> bool:
        """This host is gone for good, until it beats again or somebody undoes it. False: there is none of that name."""
        with self._lock:
            if host := self._hosts.get(name):
                self.dirty.add(host)
                if host.last_seen <= now:
                    self.set_aside(host, now)
            return host is not None

    def unretire(self, name: str, now: float) -> bool:
        """Undo it, also where only another meta knows of it yet: from now (Unix seconds) on it may be silent for as long as any
        other."""
        with self._lock:
            if host := self._hosts.get(name):
                self.dirty.add(host)
                self.spared[host] = now
                if host.retired_at:
                    self.bring_back(host)
                    self.seen.quiet(host)
            return host is not None

    def set_aside(self, host: Host, at: float) -> None:
        host.retired_at = at
        self.retired[host] = None
        self.spared.pop(host, None)
        self.seen.forget(host)
        self.move(host, host.group.profile)

    def bring_back(self, host: Host) -> None:
        """Whoever does it also tells the ticks of it: it is neither heard of nor silent."""
        host.retired_at = 0.0
        self.retired.pop(host, None)
        self.move(host, host.group.profile)

    def forget(self, host: Host) -> None:
        """Leave nothing of a retired host."""
        self._leave(host.group, host)
        self.retired.pop(host, None)
        self.dirty.discard(host)
        self.tell(host, "")
        self.arrivals.remove(host.first_seen)
        self.whereabouts.forget(host)
        self._names.discard(host.name)
        self._hosts.pop(host.name, None)
        self.by_id.pop(host.id, None)

    # --- for those who write down, follow and ask ---

    @contextmanager
    def locked(self) -> Iterator[dict[str, Host]]:
        """The hosts by name, while nobody changes them. Be quick."""
        with self._lock:
            yield self._hosts

    def get(self, name: str) -> Host | None:
        """Needs no lock: each of its fields is as it was at some moment."""
        return self._hosts.get(name)

    def names(self) -> list[str]:
        """All names in order. The list never changes once it was handed out."""
        return self._names.all()

    def folded_names(self) -> Folded:
        return self._names.folded()

    def load_order(self) -> None:
        """Of all hosts that entered and did not arrive: a table that is new."""
        self.arrivals.load(host.first_seen for host in self._hosts.values())
        self._names.load(self._hosts)
