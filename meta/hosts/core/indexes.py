"""All hosts in memory and every index of them. Each method that changes a host changes the indexes to match."""

from collections.abc import Container, Iterable
from math import inf

from meta.errors import TooMany
from meta.hosts.agent_sets import MAX_WEIGHT, AgentSet, Stamp, since_when
from meta.hosts.classes import Class, Classes, Reported
from meta.hosts.core.groups import Groups
from meta.hosts.core.outdated import outdated, reported_as_heard, told_as_heard, without_rejections
from meta.hosts.last_seen import Seen, Tick
from meta.hosts.machines import Whereabouts
from meta.hosts.model import Host
from meta.hosts.outcomes import marked_former, read_outcomes, verdicts_of, write_outcomes
from meta.hosts.sorted_names import Arrivals, Names
from meta.hosts.standing import LAG, settling
from updater.wire.heartbeat import Outcome, WireError
from updater.wire.limits import MAX_NAME
from updater.wire.names import hostname_problem
from updater.wire.text import counted, one_line

LONG = 86400.0  # seconds; after a longer step of the clock, a restart would take all hosts for silent


class Indexes:
    """Not safe for threads: HostTable holds its lock around every use."""

    def __init__(self, classes: Classes, names: Names, late_after: float, max_hosts: int):
        self.classes = classes  # in force
        self.hosts: dict[str, Host] = {}  # by name
        self.by_id: dict[int, Host] = {}
        self.groups = Groups()
        self.seen = Seen(late_after)
        self._settling = settling(late_after, LAG)
        self.retired: dict[Host, None] = {}  # in the order in which they were retired
        self.unretired: dict[Host, float] = {}  # when a person took the host back (Unix seconds)
        self.dirty: set[Host] = set()  # hosts whose rows are to be written
        self.arrivals = Arrivals()
        self.whereabouts = Whereabouts(late_after)
        self.told = 0  # characters of the outcomes of all hosts
        self._names = names
        self._max_hosts = max_hosts

    # --- what a report says ---

    def welcome(self, name: str, now: float) -> Host:
        """Return the host of this name: one that is new, or one that was retired and is back now.

        Raises WireError if the name is invalid, and TooMany if there are max_hosts already.
        """
        if host := self.hosts.get(name):
            if host.retired_at:
                self.unretire(host)
                self.seen.note(host, now)  # now, because its report may still be refused
                self.dirty.add(host)
            return host
        if problem := hostname_problem(name):
            raise WireError(problem)
        if len(self.hosts) >= self._max_hosts:
            raise TooMany(f"{counted(self._max_hosts, 'host')} already: forget some, or raise maxHosts")
        group = self.groups.of(self.groups.agent_sets.of(()), self.classes.of(name).newcomers())
        host = Host(name, now, now, group, since=now)
        self.enter(host)
        self.arrive(host)
        self.seen.note(host, now)
        self.dirty.add(host)
        return host

    def take_reported(self, host: Host, all_reported: tuple[Reported, ...], looked: Stamp, now: float) -> None:
        """Take in the agents of a report. Raises TooMany."""
        all_reported = reported_as_heard(host, all_reported)
        if all_reported != host.group.agent_set.agents:
            before = {reported.seen: since for reported, since, _ in host.agents()}
            self.move(host, self.groups.agent_sets.admit(all_reported, host.group.agent_set.verdicts))
            host.since = since_when(all_reported, before, now)
            self.dirty.add(host)
        host.looked = looked

    def take_rest(
        self, host: Host, told: dict[str, Outcome] | None, version: str, mark: int, address: str, now: float
    ) -> None:
        """Take in the rest of a report: outcomes, the updater's version, the machine's mark, the address. Raises TooMany."""
        self.whereabouts.report(host, mark, address, now)
        version, address = one_line(version, MAX_NAME), one_line(address, MAX_NAME)
        if told:  # the outcome of an agent stays until that agent has another
            kept = {agent: outcome for agent, outcome in host.outcomes.items() if agent not in told}
            text = write_outcomes(kept | told_as_heard(host, told), self.told > MAX_WEIGHT)
            verdicts = verdicts_of(read_outcomes(text))
            agent_set = self.groups.agent_sets.admit(host.group.agent_set.agents, verdicts)
            self.tell(host, text)
            self.move(host, agent_set)
        elif (version, address) == (host.updater.version, host.address):
            return
        if host.address and address != host.address:
            self.whereabouts.move(host, address, now)
        host.updater, host.address = self.whereabouts.updater(version, host.updater.mark), address
        self.dirty.add(host)

    def tell(self, host: Host, told: str) -> None:
        """Set the host's outcomes, as JSON. The caller must then call `judge` or `move`."""
        self.told += len(told) - len(host.told)
        host.told = told

    def judge(self, host: Host) -> None:
        """Move the host to the group that its outcomes put it in."""
        agent_set, verdicts = host.group.agent_set, verdicts_of(host.outcomes) if host.told else ()
        if verdicts != agent_set.verdicts:
            self.move(host, self.groups.agent_sets.of(agent_set.agents, verdicts))

    def move(self, host: Host, agent_set: AgentSet, klass: Class | None = None) -> None:
        """Move the host to the group of this agent set and class. klass: by default its class by the records in force."""
        former, retired_class = host.group.klass, self.groups.retired_class
        if klass is None:
            klass = former if former.book is self.classes else self.classes.of(host.name)
        klass = retired_class if host.retired_at else klass
        if former is retired_class is not klass:
            klass = klass.newcomers()  # which orders it has received in the meantime is not known
        elif klass is not former and klass is not retired_class:
            klass = klass.comers(former, host.last_seen - self._settling)
            agent_set = self._without_outdated(host, agent_set, klass) if agent_set.has_failures else agent_set
        self.groups.move(host, self.groups.of(agent_set, klass))

    def _without_outdated(self, host: Host, agent_set: AgentSet, klass: Class) -> AgentSet:
        """Return the agent set of a host that moves to this class, without failures of its former orders.

        The outcomes of former orders are kept, and marked as such for other metas and for the next start.
        """
        agents, rejected = outdated(agent_set.agents, agent_set.verdicts, host.group.klass.orders, klass.orders)
        if not agents and not rejected:
            return agent_set
        if agents:
            self.tell(host, write_outcomes(marked_former(host.outcomes, agents), self.told > MAX_WEIGHT))
        self.dirty.add(host)
        all_reported = without_rejections(agent_set.agents, rejected) if rejected else agent_set.agents
        found = self.groups.agent_sets.of(all_reported, verdicts_of(host.outcomes))
        if not agent_set.groups:  # it is new, and no group will use it
            agent_set.groups = 1
            self.groups.agent_sets.release(agent_set)
        return found

    # --- coming and going ---

    def enter(self, host: Host) -> None:
        """Add a new host to the table and to its group."""
        self.hosts[host.name] = host
        host.group.hosts.add(host)

    def arrive(self, host: Host) -> None:
        """Add the host to the times of arrival and to the sorted names."""
        self.arrivals.add(host.first_seen)
        self._names.add(host.name)

    def arrive_all(self) -> None:
        """Do the same for all hosts of a table that was just filled."""
        self.arrivals.load(host.first_seen for host in self.hosts.values())
        self._names.load(self.hosts)

    def set_id(self, host: Host, number: int) -> None:
        """Set the host's id in the database; 0 if the database does not know it."""
        if host.id != number:
            self.by_id.pop(host.id, None)
            host.id = number
            if number:
                self.by_id[number] = host

    def retire(self, host: Host, at: float) -> None:
        """Count the host as gone, until it reports again or a person takes it back."""
        host.retired_at = at
        self.retired[host] = None
        self.unretired.pop(host, None)
        self.seen.forget(host)
        self.move(host, host.group.agent_set)

    def unretire(self, host: Host) -> None:
        """Take the host back. The caller must then tell `seen` whether it was heard of or is silent."""
        host.retired_at = 0.0
        self.retired.pop(host, None)
        self.move(host, host.group.agent_set)

    def forget(self, host: Host) -> None:
        """Remove a retired host from all indexes."""
        self.groups.leave(host.group, host)
        self.retired.pop(host, None)
        self.dirty.discard(host)
        self.tell(host, "")
        self.arrivals.remove(host.first_seen)
        self.whereabouts.forget(host)
        self._names.discard(host.name)
        self.hosts.pop(host.name, None)
        self.by_id.pop(host.id, None)

    def last_alive(self, host: Host) -> float:
        """Return when the host was last heard of or taken back, whichever is later (Unix seconds)."""
        return max(host.last_seen, self.unretired.get(host, 0.0))

    # --- a clock that was set ---

    def move_along(self, by: float, now: float) -> set[Tick]:
        """Move the times of all indexes by the seconds that the clock was set by. now: the new time.

        Returns the ticks that were moved. The caller must then call `move_hosts_along` for all hosts.
        """
        # While some times are moved and others are not, no host has surely received its orders.
        self.classes.began = inf
        for one in (self.arrivals, self.whereabouts, self.classes):
            one.move_along(by, now)
        self.unretired = {host: min(at + by, now) for host, at in self.unretired.items()}
        self.dirty.update(self.unretired)
        return self.seen.move_along(by, now)

    def move_hosts_along(self, hosts: Iterable[Host], by: float, now: float, moved: Container[Tick]) -> None:
        """Move the times of these hosts by `by` seconds; `last_seen` only if the host's tick was moved.

        Hosts that the database would date later than now, or a day too early, are written again.
        """
        for host in hosts:
            if host.last_seen > now or host.retired_at or by > LONG:
                self.dirty.add(host)
            if host.tick is None or host.tick in moved:
                host.last_seen += by
            host.last_seen = min(host.last_seen, now)
            first, since = host.first_seen, host.since
            host.first_seen = min(first + by, now)
            if isinstance(since, tuple):
                host.since = tuple(min(one + by, now) for one in since)
            else:
                host.since = host.first_seen if since == first else min(since + by, now)
            if host.retired_at:
                host.retired_at = min(host.retired_at + by, now)
