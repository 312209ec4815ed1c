"""What one updater works with: its configuration, paths, connections and memories, and the wish of its owner to stop."""

import time
from collections.abc import Container
from dataclasses import dataclass, field

from updater.errors import TryLater
from updater.host.config import Config
from updater.host.last_reply import Orders, Uptime
from updater.host.memories import Memories
from updater.kernel.processes import Table, boot_here, boot_id
from updater.model.layout import Layout
from updater.model.trials import Moment
from updater.net.http import Http


@dataclass(slots=True)
class Host:
    """Passed to everything that acts; the configuration, and the connections by it, may be replaced (by a reload).

    own_version: the install below the root that this process runs from, "" when it does not; successor: the one that it shall
    become; told: for each agent, what it waits for as it was logged last; waits: for some, the same in a word of `wire.WAITS`;
    left_in_peace: for some, the version that does not stay where it is installed, so that its word is believed; boot: which
    start of this machine or, in a container, of this container, outside of which processes mean nothing; machine_boot: of the
    machine alone; settles: for some, the version and when (monotonic seconds) its processes are old enough to be known by
    where they are.
    """

    layout: Layout
    config: Config
    http: Http
    stopping: bool = False
    own_version: str = ""
    successor: str = ""
    told: dict[str, str] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    left_in_peace: dict[str, str] = field(default_factory=dict)
    settles: dict[str, tuple[str, float]] = field(default_factory=dict)
    memories: Memories = field(init=False)
    orders: Orders = field(init=False)
    boot: str = field(init=False)
    machine_boot: str = field(init=False)
    _table: Table | None = None

    def __post_init__(self) -> None:
        self.memories = Memories(self.layout.memories)
        self.orders = Orders(self.layout.last_reply)
        self.boot, self.machine_boot = boot_here(), boot_id()

    def reconfigure(self, config: Config) -> None:
        """Go on with another configuration."""
        self.config, self.http = config, connections(config, self.layout)

    def forget_waits(self, ordered: Container[str]) -> None:
        """Only these agents are ordered now: no other waits for anything."""
        for name in list(self.waits):
            if name not in ordered:
                self.waits.pop(name, None)

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def uptime(self) -> Uptime:
        """For how long the machine is up; no clock that is set changes that."""
        return Uptime(self.machine_boot, time.clock_gettime(time.CLOCK_BOOTTIME))

    def moment(self, at: float = 0) -> Moment:
        """As memories are judged by it: now, or when an agent was looked at (Unix seconds)."""
        return Moment(at or self.now(), self.config.watch, self.boot)

    def table(self, since: float) -> Table:
        """All processes, as they were then (monotonic seconds) or later: what several look for at a time is read once."""
        table = self._table
        if table is None or table.at < since:
            self._table = table = Table()
        return table

    def stop(self) -> None:
        """Begin nothing more; what cannot be left half done is finished."""
        self.stopping = True

    def check_stopping(self) -> None:
        """Raises TryLater once the updater is asked to stop: what has not begun stays undone."""
        if self.stopping:
            raise TryLater("the updater is stopping")


def connections(config: Config, layout: Layout) -> Http:
    """What this host speaks to servers with: meta also sees the token that it gave us, if it did."""
    return Http(config.ca_file, config.credentials, (config.base_url, layout.credentials))
