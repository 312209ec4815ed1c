"""Runs agents' turns in parallel, so that a slow download or a hanging script delays one agent only.

Turns and installations (a download, then unpacking) have slots of their own. A turn that needs a version on the disk only says
so and ends. While that version waits for a slot, or comes slowly, the agent has turns like any other: it is started when it
dies, and stopped when that is ordered. When the version is there, a turn goes on with the upgrade.

So there are at most AT_ONCE threads of each kind, however many agents there are. An installation has three more threads while
it unpacks. Except for what runs in the slots, all of this is for one thread.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from updater.host.context import Host
from updater.model.actions import Source
from updater.model.observed import Observed
from updater.model.trials import same_artifact
from updater.reconcile.agent_turn import Turn, Wanted, converge, install
from updater.wire.heartbeat import Desired

AT_ONCE = 8  # agents that are looked at, changed or installed at the same time
STALE = 1.0  # seconds that a turn may wait for its slot; after that, its agent is looked at again


@dataclass(frozen=True, slots=True)
class _Installation:
    """An installation that waits for its slot or goes on."""

    wanted: Wanted
    turn: Future[Turn]


class Workers:
    """Runs at most one turn at a time for each agent. ended: called after each turn, from another thread."""

    def __init__(self, host: Host, ended: Callable[[], None] = lambda: None) -> None:
        self._host = host
        self._ended = ended
        self._turns = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="turn")
        self._installs = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="install")
        self._running: dict[str, Future[Turn]] = {}
        self._installing: dict[str, _Installation] = {}

    def start(self, orders: Iterable[Desired], observed: Mapping[str, Observed], source: Source) -> None:
        """Start a turn for each order whose agent was observed and is not busy. source: of all these orders."""
        for order in orders:
            if order.name in observed and not self.is_busy(order.name):
                self._start(order, observed[order.name], source)

    def _start(self, order: Desired, observed: Observed | None, source: Source) -> None:
        is_installing, since = order.name in self._installing, time.monotonic()
        self._host.turns[order.name] = order, source
        turn = self._turns.submit(self._turn, order, observed, source, is_installing, since)
        self._running[order.name] = turn
        turn.add_done_callback(lambda _: self._ended())

    def _turn(
        self, order: Desired, observed: Observed | None, source: Source, is_installing: bool, since: float
    ) -> Turn:
        """since: when the turn began to wait for its slot, monotonic seconds."""
        is_stale = time.monotonic() - since > STALE
        try:
            return converge(self._host, order, None if is_stale else observed, source, is_installing)
        finally:
            del self._host.turns[order.name]

    def _install(self, wanted: Wanted) -> None:
        """Have a version installed. Where the agent's former one still waits for its slot, it is for this one."""
        name = wanted.order.name
        if before := self._installing.get(name):
            if same_artifact(before.wanted.order, wanted.order):
                self._installing[name] = replace(before, wanted=wanted)
                return
            if not before.turn.cancel():
                return  # it notices that its version is not ordered any more; the next turn wants this one again
        turn = self._installs.submit(install, self._host, wanted)
        self._installing[name] = _Installation(wanted, turn)
        turn.add_done_callback(lambda _: self._ended())

    def is_busy(self, name: str) -> bool:
        """Whether the agent has a turn now."""
        return name in self._running

    def collect(self) -> list[Turn]:
        """The turns and installations that have ended since the last call. Starts what comes after them."""
        ended = [self._running.pop(name).result() for name, turn in list(self._running.items()) if turn.done()]
        for turn in ended:
            if turn.wanted:
                self._install(turn.wanted)
        for name, one in list(self._installing.items()):
            if one.turn.done() and not self.is_busy(name):
                del self._installing[name]
                ended.append(one.turn.result())
                if ended[-1].changed:
                    self._start(one.wanted.order, None, one.wanted.source)
        return ended

    def finish(self) -> list[Turn]:
        """Wait until nothing is left to do; returns one result for each agent. No turn can be started after this."""
        last: dict[str, Turn] = {}
        while self._running or self._installing:
            installing = [one.turn for name, one in self._installing.items() if not self.is_busy(name)]
            wait([*self._running.values(), *installing], return_when=FIRST_COMPLETED)
            for turn in self.collect():
                so_far = last.get(turn.agent, turn)
                changed, is_news = so_far.changed or turn.changed, so_far.is_news or turn.is_news
                last[turn.agent] = replace(turn, changed=changed, is_news=is_news)
        self._turns.shutdown()
        self._installs.shutdown()
        return list(last.values())
