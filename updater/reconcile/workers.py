"""Runs agents' turns in parallel, so that a slow download or a hanging script delays one agent only."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from updater.host.context import Host
from updater.model.actions import Source
from updater.model.observed import Observed
from updater.reconcile.agent_turn import Turn, converge
from updater.wire.heartbeat import Desired

AT_ONCE = 8  # agents that are looked at or changed at the same time
STALE = 1.0  # seconds that a turn may wait for its slot; after that, its agent is looked at again


class Workers:
    """Runs at most one turn at a time for each agent. ended: called after each turn, from another thread."""

    def __init__(self, host: Host, ended: Callable[[], None] = lambda: None) -> None:
        self._host = host
        self._ended = ended
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="turn")
        self._running: dict[str, Future[Turn]] = {}

    def start(self, orders: Iterable[Desired], observed: Mapping[str, Observed], source: Source) -> None:
        """Start a turn for each order whose agent was observed and is not busy. source: of all these orders."""
        for order in orders:
            if order.name in observed and order.name not in self._running:
                turn = self._pool.submit(self._turn, order, observed[order.name], source, time.monotonic())
                self._running[order.name] = turn
                turn.add_done_callback(lambda _: self._ended())

    def _turn(self, order: Desired, observed: Observed, source: Source, since: float) -> Turn:
        """since: when the turn began to wait for its slot, monotonic seconds."""
        is_stale = time.monotonic() - since > STALE
        return converge(self._host, order, None if is_stale else observed, source)

    def is_busy(self, name: str) -> bool:
        return name in self._running

    def collect(self) -> list[Turn]:
        """The turns that have ended since the last call."""
        done = [name for name, turn in self._running.items() if turn.done()]
        return [self._running.pop(name).result() for name in done]

    def finish(self) -> list[Turn]:
        """Wait for all running turns and return them in the order of their start. No turn can be started after this."""
        self._pool.shutdown()
        return self.collect()
