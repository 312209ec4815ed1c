"""All hosts in memory: what each one last said, since when, and what it shall run.

A heartbeat that says nothing new costs a look-up and a comparison. Hosts that say the same of their agents share that profile,
and hosts of the same profile and class form a group, so that counts and drift are sums over some groups and never over a
million hosts. Text from a host is cut and cleaned before it is kept. Whether a host is late or lost is judged from `now`
whenever somebody asks; it is never stored.
"""

import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from meta.classes import Class, Classes, Look
from meta.errors import TooMany
from meta.profiles import Profile, Profiles, clean_looks, clean_outcomes, same_looks
from meta.records import RecordSet
from meta.seen import Seen, Tick
from updater.wire import Outcome, RealAgent, Report, WireError, hostname_problem, one_line

MAX_NAME = 64
STEP = 500  # hosts that are moved between classes before somebody else gets the lock
log = logging.getLogger(__name__)


class Group:
    """The hosts of one class that say the same of their agents."""

    __slots__ = ("hosts", "klass", "profile")

    def __init__(self, profile: Profile, klass: Class):
        self.profile = profile
        self.klass = klass
        self.hosts: set[Host] = set()


class Host(msgspec.Struct, eq=False, gc=False):
    """One host as last heard of. Times are Unix seconds by our clock, but `looked`: when the host looked, by its own; where
    these differ between its agents, `since` and `looked` are tuples in the profile's order."""

    name: str
    first_seen: float
    last_seen: float
    group: Group
    id: int = 0  # the database's; 0: not there yet
    address: str = ""
    updater_version: str = ""
    since: float | tuple[float, ...] = 0.0
    looked: int | tuple[int, ...] = 0
    outcomes: dict[str, Outcome] = {}
    retired_at: float = 0.0
    tick: Tick | None = None

    def looks(self) -> Iterator[tuple[Look, float, int]]:
        """Each agent, since when it is so, and when it was looked at."""
        agents = self.group.profile.looks
        since = self.since if isinstance(self.since, tuple) else (self.since,) * len(agents)
        looked = self.looked if isinstance(self.looked, tuple) else (self.looked,) * len(agents)
        return zip(agents, since, looked, strict=False)


class HostTable:
    """All hosts by name, safe for threads; the lock is held for some microseconds. late_after: seconds without a beat."""

    def __init__(self, records: RecordSet | None = None, late_after: float = 900, max_hosts: int = 2_000_000):
        self._max_hosts = max_hosts
        self.classes = Classes(records or RecordSet())
        self.seen = Seen(late_after)
        self.retired: dict[Host, None] = {}
        self.groups: dict[tuple[Profile, Class], Group] = {}
        self.profiles = Profiles()
        self._hosts: dict[str, Host] = {}
        self._names: list[str] = []  # sorted; replaced, never changed
        self._newcomers: list[str] = []  # not among them yet
        self._arrivals: deque[Host] = deque()  # by first_seen
        self.by_id: dict[int, Host] = {}
        self.dirty: set[Host] = set()
        self._lock = threading.Lock()
        self._changing_records = threading.Lock()

    # --- the hot path ---

    def beat(self, report: Report, address: str, now: float) -> Class:
        """Take one report in, and return the desired state of its host. Raises WireError for a name that is none, TooMany."""
        with self._lock:
            host = self._hosts.get(report.hostname)
            if host is None:
                host = self._welcome(report.hostname, now)
            elif host.retired_at:
                self.bring_back(host)
            agents = report.real_agents
            if agents is not None:
                looked = same_looks(agents, host.group.profile.looks)
                if looked is None:
                    self._take_looks(host, agents, now)
                else:
                    host.looked = looked
            if report.outcomes or report.updater_version != host.updater_version or address != host.address:
                self._take_rest(host, report, address)
            if host.group.klass.book is not self.classes:
                self.move(host, host.group.profile, self.classes.of(host.name))
            host.last_seen = now
            if not self.seen.note(host):
                raise TooMany(f"{host.name} reports too often: wait for its interval")
            return host.group.klass

    def _welcome(self, name: str, now: float) -> Host:
        if problem := hostname_problem(name):
            raise WireError(problem)
        if len(self._hosts) >= self._max_hosts:
            raise TooMany(f"there are {self._max_hosts} hosts already: forget some, or raise maxHosts")
        host = Host(name, now, now, self.group(self.profiles.of(()), self.classes.of(name)))
        self.enter(host)
        self.dirty.add(host)
        return host

    def enter(self, host: Host) -> None:
        self._hosts[host.name] = host
        self._newcomers.append(host.name)
        self._arrivals.append(host)
        host.group.hosts.add(host)

    def _take_looks(self, host: Host, agents: Sequence[RealAgent], now: float) -> None:
        looks, stamps = clean_looks(agents)
        host.looked = stamps
        before = {look: since for look, since, _ in host.looks()}
        if looks == host.group.profile.looks:
            return
        times = tuple(before.get(look, now) for look in looks)
        self.move(host, self.profiles.of(looks), host.group.klass)
        host.since = times[0] if len(set(times)) == 1 else times
        self.dirty.add(host)

    def _take_rest(self, host: Host, report: Report, address: str) -> None:
        version = one_line(report.updater_version or "", MAX_NAME)
        address = one_line(address, MAX_NAME)
        if report.outcomes:
            host.outcomes = clean_outcomes(host.outcomes, report.outcomes)
        elif (version, address) == (host.updater_version, host.address):
            return
        if host.address and address != host.address:
            text = "%s reports from %s, before from %s: moved, or a name used twice"
            log.warning(text, host.name, address or "nowhere", host.address)
        host.updater_version, host.address = sys.intern(version), address
        self.dirty.add(host)

    def move(self, host: Host, profile: Profile, klass: Class) -> None:
        group = host.group
        if group.profile is profile and group.klass is klass:
            return
        host.group = self.group(profile, klass)
        host.group.hosts.add(host)
        self._leave(group, host)

    def group(self, profile: Profile, klass: Class) -> Group:
        group = self.groups.get((profile, klass))
        if group is None:
            group = self.groups[profile, klass] = Group(profile, klass)
            profile.groups += 1
        return group

    def _leave(self, group: Group, host: Host) -> None:
        group.hosts.discard(host)
        if not group.hosts:
            self.groups.pop((group.profile, group.klass), None)
            self.profiles.release(group.profile)

    # --- the records ---

    def put_in_force(self, records: RecordSet) -> None:
        """Every beat from now on is answered by these records; counts and drift follow within seconds. Older ones than those in
        force change nothing."""
        with self._changing_records:
            with self._lock:
                if records.revision < self.classes.records.revision:
                    return None
                before, self.classes = self.classes, Classes(records)
                if self.classes.matches_as(before):
                    return self._rebook()
                hosts = list(self._hosts.values())
            for start in range(0, len(hosts), STEP):
                with self._lock:
                    for host in hosts[start : start + STEP]:
                        if not host.retired_at and host.group.klass.book is not self.classes:
                            self.move(host, host.group.profile, self.classes.of(host.name))
            return None

    def _rebook(self) -> None:
        """The same matches under other records: the groups stay, and get their new class."""
        groups = list(self.groups.values())
        self.groups.clear()
        for group in groups:
            group.klass = self.classes.matching(group.klass.matched)
            self.groups[group.profile, group.klass] = group

    # --- retiring ---

    def retire(self, name: str, now: float) -> bool:
        """This host is gone for good, until it beats again or somebody undoes it. False: there is none of that name."""
        with self._lock:
            host = self._hosts.get(name)
            if host is None or host.retired_at:
                return host is not None
            self.set_aside(host, now)
            self.dirty.add(host)
            return True

    def unretire(self, name: str) -> bool:
        """Undo it."""
        with self._lock:
            host = self._hosts.get(name)
            if host and host.retired_at:
                self.bring_back(host)
                self.seen.silent[host] = None
            return host is not None

    def retire_silent(self, before: float, now: float) -> list[str]:
        """Retire every host that was last heard of before this; returns their names."""
        with self._lock:
            gone = [host for host in self.seen.silent if host.last_seen < before]
            for host in gone:
                self.set_aside(host, now)
                self.dirty.add(host)
        return [host.name for host in gone]

    def set_aside(self, host: Host, at: float) -> None:
        host.retired_at = at
        self.retired[host] = None
        self.seen.forget(host)
        self._leave(host.group, host)

    def bring_back(self, host: Host) -> None:
        host.retired_at = 0.0
        self.retired.pop(host, None)
        host.group = self.group(self.profiles.of(host.group.profile.looks), self.classes.of(host.name))
        host.group.hosts.add(host)
        self.dirty.add(host)

    def forget(self, host: Host) -> None:
        """Leave nothing of it. With the lock held."""
        if not host.retired_at:
            self.set_aside(host, 0.0)
        self.retired.pop(host, None)
        self.dirty.discard(host)
        self._hosts.pop(host.name, None)
        self.by_id.pop(host.id, None)
        self._names = []  # made anew when somebody asks
        self._newcomers = list(self._hosts)

    # --- for those who write down, follow and ask ---

    @contextmanager
    def locked(self) -> Iterator[dict[str, Host]]:
        """The hosts by name, while nobody changes them. Be quick."""
        with self._lock:
            yield self._hosts

    def newcomers(self, since: float) -> list[Host]:
        """The hosts that were first seen after this, which must not go back in time. With the lock held."""
        while self._arrivals and self._arrivals[0].first_seen < since:
            self._arrivals.popleft()
        return list(self._arrivals)

    def names(self) -> list[str]:
        """All names in order. The list never changes once it was handed out."""
        with self._lock:
            if self._newcomers:
                self._names = sorted(self._names + sorted(self._newcomers))  # two runs, which it only merges
                self._newcomers = []
            return self._names
