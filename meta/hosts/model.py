"""One host as it is held in memory, and how it is read."""

from collections.abc import Iterator

import msgspec

from meta.hosts.agent_sets import (
    Group,
    Stamp,
)
from meta.hosts.classes import Look
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
