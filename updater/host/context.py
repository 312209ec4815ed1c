"""The context of one updater: its configuration, paths, HTTP client and memories, and whether it is asked to stop."""

import logging
import time
from collections.abc import Container
from dataclasses import dataclass, field

from updater.errors import Interrupted, TryLater
from updater.host.config import Config
from updater.host.last_reply import Orders, Uptime
from updater.host.memories import Memories
from updater.host.waits_log import WaitsLog
from updater.kernel import clocks
from updater.kernel.boots import boot_here, boot_id
from updater.kernel.processes import Table
from updater.model.actions import Source
from updater.model.layout import Layout
from updater.model.memory import Memory
from updater.model.observed import Observed
from updater.model.outcomes import of_former_order
from updater.model.trials import Moment, same_artifact
from updater.net.http import Http
from updater.wire.heartbeat import VERSION, Desired, Outcome, is_renewed

log = logging.getLogger("updater")


@dataclass(slots=True)
class Host:
    """The state of one updater, passed to everything that acts. A reload replaces `config` and `http`.

    The keys of its dictionaries are agents' names.
    """

    layout: Layout
    config: Config
    http: Http
    stopping: bool = False
    own_version: str = ""  # the install below the root that this process runs from, "" if none
    options: tuple[str, ...] = ()  # with which another `updater` works on this root with this configuration
    successor: str = ""  # the version of the updater that this process is to become
    waits_log: WaitsLog = field(default_factory=WaitsLog)
    waits: dict[str, str] = field(default_factory=dict)  # what some agents' changes wait for: one of heartbeat.WAITS
    changing: set[str] = field(default_factory=set)  # agents that a turn is changing now
    # What the agents' turns follow that go on, or wait for their slot:
    turns: dict[str, tuple[Desired, Source]] = field(default_factory=dict)
    unstopped: set[str] = field(default_factory=set)  # agents that no earlier run of the updater is stopping any more
    # Versions that do not run in their install, so that the output of their `control` is believed:
    believed: dict[str, str] = field(default_factory=dict)
    # (version, monotonic seconds from which its processes are old enough to be recognised by their directory):
    settles: dict[str, tuple[str, float]] = field(default_factory=dict)
    # (pid of the zombie that the agent has become, monotonic seconds at which it was first seen):
    unreaped: dict[str, tuple[int, float]] = field(default_factory=dict)
    memories: Memories = field(init=False)
    orders: Orders = field(init=False)
    boot: str = field(init=False)  # the current boot of the machine or container; process ids are valid within it only
    machine_boot: str = field(init=False)  # the current boot of the machine
    _table: Table | None = None

    def __post_init__(self) -> None:
        self.memories = Memories(self.layout.memories)
        self.boot, self.machine_boot = boot_here(), boot_id()
        self.orders = Orders(self.layout.last_reply, self.now(), self.uptime())

    def reconfigure(self, config: Config) -> None:
        """Replace the configuration, and the HTTP client that depends on it."""
        self.config, self.http = config, connections(config, self.layout)

    @property
    def terms(self) -> str:
        """What decides, besides its content, whether a tarball is refused: see Unfit."""
        return f"{VERSION} {self.config.limits}"

    def forget_waits(self, ordered: Container[str]) -> None:
        """Drop the waits of agents that have no order any more. ordered: names of the agents that have one."""
        for name in list(self.waits):
            if name not in ordered:
                self.waits.pop(name, None)

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def uptime(self) -> Uptime:
        """The time since the machine's boot, which setting the clock does not change."""
        return Uptime(self.machine_boot, time.clock_gettime(time.CLOCK_BOOTTIME))

    def moment(self, seen: Observed | None = None) -> Moment:
        """The time by which memories are judged. seen: an observation, for its time; None for now."""
        now, at = (seen.ran, seen.at) if seen else (clocks.ran(), self.now())
        return Moment(now, self.config.watch, self.boot, at)

    def table(self, since: float) -> Table:
        """All processes, read at `since` (monotonic seconds) or later; agents that look at the same time share one table."""
        table = self._table
        if table is None or table.at < since:
            self._table = table = Table()
        return table

    def stop(self) -> None:
        """Ask everything to stop: nothing new is started, and only what must not be interrupted is finished."""
        self.stopping = True

    def take(self, orders: tuple[Desired, ...], name: str) -> None:
        """Take the orders of meta's reply to this host name; turns that follow another one notice that.

        Failures that meta has not received yet, of agents that are to have something else now, are those of the former orders.
        """
        former, newest = ({one.name: one for one in some} for some in (self.orders.last.orders, orders))
        try:
            self.orders.keep(orders, self.now(), self.uptime(), name)
        except TryLater as e:
            log.error("the orders could not be saved for a time without meta: %s", e)
        for agent in former.keys() | newest.keys():
            if is_renewed(former.get(agent), newest.get(agent)):
                self.memories.note(agent, Memory.superseded)

    def newest(self, name: str) -> Desired | None:
        """The newest order for an agent: of meta's last reply or, until meta has answered, of the one that was kept."""
        return next((one for one in self.orders.last.orders if one.name == name), None)

    def is_in_force(self, order: Desired) -> bool:
        """Whether the newest order for this agent is the same command and artifact."""
        newest = self.newest(order.name)
        return newest is not None and newest.cmd == order.cmd and same_artifact(newest, order)

    def told(self, outcome: Outcome, order: Desired) -> Outcome:
        """The outcome of this order as it is told: a failure is one of a former order if another one is in force by now."""
        return of_former_order(outcome) if is_renewed(order, self.newest(order.name)) else outcome

    def note_outcome(self, outcome: Outcome, order: Desired) -> None:
        """Remember the outcome of a turn by this order; if it cannot be written, log that and go on."""
        self.memories.note(order.name, lambda memory: memory.with_turn_outcome(self.told(outcome, order), order))

    def check_order(self, order: Desired) -> None:
        """Raises Interrupted if the updater is to stop, or if meta's newest reply orders another command or artifact.

        Until meta has answered in this run, that is the reply that an earlier run kept.
        """
        if self.stopping or self.successor:
            raise Interrupted("the updater is stopping")
        if not self.is_in_force(order):
            newest = self.newest(order.name)
            now = f"{newest.cmd} {newest.version}" if newest else "nothing"
            raise Interrupted(f"{order.cmd} {order.version} is not ordered any more, but {now}")


def connections(config: Config, layout: Layout) -> Http:
    """The HTTP client of this host. It also sends the token that meta issued to this host, if there is one, to meta."""
    return Http(config.ca_file, config.credentials, (config.base_url, layout.credentials))
