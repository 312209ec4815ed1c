"""One host as it is held in memory, and what the table tells of its hosts: values that never change once they are told."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from meta.hosts.agent_sets import (
    Group,
    Profile,
    Stamp,
)
from meta.hosts.classes import Class, Classes, Look
from meta.hosts.last_seen import Tick
from meta.hosts.machines import NONE, Updater
from meta.hosts.outcomes import read_outcomes
from updater.wire.heartbeat import Outcome


class Host(msgspec.Struct, eq=False, gc=False):
    """One host as last heard of. Times are Unix seconds by our clock, but `looked`: when the host looked, by its own; where
    these differ between its agents, `since` and `looked` are tuples in the profile's order. told: its outcomes as JSON."""

    name: str
    first_seen: float
    last_seen: float
    group: Group
    id: int = 0  # the database's; 0: not there yet
    address: str = ""
    updater: Updater = NONE
    since: float | tuple[float, ...] = 0.0
    looked: Stamp = 0
    told: str = ""
    retired_at: float = 0.0
    tick: Tick | None = None  # that it was last heard of in; None: silent, or retired

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What last became of its orders, by agent."""
        return read_outcomes(self.told)

    def looks(self) -> Iterator[tuple[Look, float, int]]:
        """Each agent, since when it is so, and when it was looked at."""
        agents = self.group.profile.looks
        since = self.since if isinstance(self.since, tuple) else (self.since,) * len(agents)
        looked = self.looked if isinstance(self.looked, tuple) else (self.looked,) * len(agents)
        return zip(agents, since, looked, strict=False)


class Saved(NamedTuple):
    """What the database keeps of a host."""

    id: int
    name: str
    first_seen: float
    last_seen: float
    address: str
    updater_version: str
    agents: str  # JSON, as Profile.text
    stamps: str  # JSON: since when the agents are so, and when they were looked at
    outcomes: str  # JSON, as write_outcomes
    retired_at: float  # 0.0: it is not
    unretired_at: float  # when a person took it back; 0.0: none did, or it has reported since


class Unwritten(NamedTuple):
    """What is to be written down."""

    hosts: list[Host]  # whose rows changed
    saved: list[Saved]  # the same, as they are to be written
    heard: list[tuple[float, list[int]]]  # by tick, the ids of the other hosts that were heard of


class Part(NamedTuple):
    """A group at one moment."""

    group: Group
    klass: Class
    profile: Profile
    number: int  # of its hosts
    hosts: list[Host] | None = None  # None: they were not asked for


class Roll(NamedTuple):
    """All hosts by their groups at one moment, so that each of them counts once."""

    book: Classes  # in force
    parts: list[Part]
    named: list[tuple[Host, Class]]  # those that were asked for by name, but for retired ones


class Moment(NamedTuple):
    """The same, and which hosts may not be counted by what they said last."""

    roll: Roll
    silent: list[Host]
    groups: list[Group]  # of each silent host
    doubled: list[tuple[Host, Group]]
    excused: float  # see `Seen.excuse`
    patience: float


class Census(NamedTuple):
    """How many hosts there are, how many of them came of late, and which are retired or silent, at one moment."""

    total: int
    new: int
    retired: list[Host]
    silent: list[Host]


class Silence(NamedTuple):
    """The silent hosts at one moment, without doubled ones, each with its class and profile."""

    book: Classes  # in force
    horizon: float  # seconds without a report after which a host is silent
    excused: float  # see `Seen.excuse`
    hosts: Sequence[tuple[Host, Class, Profile]]


class Snapshot(NamedTuple):
    """One host at one moment."""

    host: Host  # a copy
    addresses: list[str]  # of the machines that report under its name, where it is doubled
    silence: Silence  # of this host alone, empty where it is not silent
