"""One host in memory, and the values that the table returns about its hosts. Those values never change. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from meta.hosts.agent_sets import (
    AgentSet,
    Group,
    Stamp,
)
from meta.hosts.classes import Class, Classes, Reported
from meta.hosts.last_seen import Tick
from meta.hosts.machines import NONE, Updater
from meta.hosts.outcomes import read_outcomes
from updater.wire.heartbeat import Outcome


class Host(msgspec.Struct, eq=False, gc=False):
    """One host as last heard of. Times are Unix seconds by this meta's clock, except `looked`."""

    name: str
    first_seen: float
    last_seen: float
    group: Group
    id: int = 0  # in the database; 0: it is not there yet
    address: str = ""
    updater: Updater = NONE
    since: float | tuple[float, ...] = 0.0  # when each agent got its version and status; one time if all are the same
    looked: Stamp = 0  # when the host observed its agents, by its own clock
    told: str = ""  # its outcomes as JSON
    retired_at: float = 0.0  # 0.0: it is not retired
    tick: Tick | None = None  # in which it was last heard of; None: it is silent or retired

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """The last outcome of each agent, by agent."""
        return read_outcomes(self.told)

    def agents(self) -> Iterator[tuple[Reported, float, int]]:
        """Yield each reported agent, since when it is so, and when the host observed it."""
        agents = self.group.agent_set.agents
        since = self.since if isinstance(self.since, tuple) else (self.since,) * len(agents)
        looked = self.looked if isinstance(self.looked, tuple) else (self.looked,) * len(agents)
        return zip(agents, since, looked, strict=False)


class Saved(NamedTuple):
    """What the database stores of a host. Times are Unix seconds."""

    id: int
    name: str
    first_seen: float
    last_seen: float
    address: str
    updater_version: str
    agents: str  # JSON, as AgentSet.text
    stamps: str  # JSON: [Host.since, Host.looked]
    outcomes: str  # JSON, as write_outcomes
    retired_at: float  # 0.0: it is not retired
    unretired_at: float  # when a person took it back; 0.0: no person did, or it has reported since


class Unwritten(NamedTuple):
    """What the database has not got yet."""

    hosts: list[Host]  # whose rows changed
    saved: list[Saved]  # the rows of these hosts
    heard: list[tuple[float, list[int]]]  # for each tick: when it began, and the ids of other hosts heard of in it


class Part(NamedTuple):
    """A group at one moment."""

    group: Group
    klass: Class
    agent_set: AgentSet
    number: int  # how many hosts it has
    hosts: list[Host] | None = None  # None: they were not wanted


class Roll(NamedTuple):
    """All hosts by group at one moment, so that each counts once."""

    book: Classes  # in force
    parts: list[Part]
    named: list[tuple[Host, Class]]  # the hosts that were wanted by name, except retired ones


class Moment(NamedTuple):
    """All hosts by group, and those whose last report may be wrong by now: silent and doubled ones."""

    roll: Roll
    silent: list[Host]
    groups: list[Group]  # of each silent host
    doubled: list[tuple[Host, Group]]
    excused: float  # Unix seconds, the first value of `Seen.excuse`
    patience: float  # seconds, the second value of `Seen.excuse`


class Census(NamedTuple):
    """How many hosts there are, how many of them are new, and which are retired or silent, at one moment."""

    total: int
    new: int
    retired: list[Host]
    silent: list[Host]


class Silence(NamedTuple):
    """The silent hosts at one moment, without doubled ones, each with its class and agent set."""

    book: Classes  # in force
    horizon: float  # seconds without a report after which a host is silent
    excused: float  # Unix seconds, the first value of `Seen.excuse`
    hosts: Sequence[tuple[Host, Class, AgentSet]]


class Snapshot(NamedTuple):
    """One host at one moment."""

    host: Host  # a copy
    addresses: list[str]  # of the machines that report under its name, if it is doubled
    silence: Silence  # of this host alone; without a host if it is not silent
