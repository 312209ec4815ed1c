"""Agents' turns, side by side: an agent whose turn takes long (a slow download, a hanging script) holds up no other."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from updater.host.context import Host
from updater.model.actions import Source
from updater.model.observed import Observed
from updater.reconcile.agent_turn import Turn, converge
from updater.wire.heartbeat import Desired

AT_ONCE = 8  # agents that are looked at or changed at the same time


class Workers:
    """Each agent has at most one turn at a time; who has one is passed over. `ended` is called from another thread."""

    def __init__(self, host: Host, ended: Callable[[], None] = lambda: None) -> None:
        self._host = host
        self._ended = ended
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="turn")
        self._running: dict[str, Future[Turn]] = {}

    def start(self, orders: Iterable[Desired], observed: Mapping[str, Observed], source: Source) -> None:
        """Let these agents take their turns, as `agent_turn` does it; source: of all these orders."""
        for order in orders:
            if order.name in observed and order.name not in self._running:
                turn = self._pool.submit(converge, self._host, order, observed[order.name], source)
                self._running[order.name] = turn
                turn.add_done_callback(lambda _: self._ended())

    def is_busy(self, name: str) -> bool:
        return name in self._running

    def collect(self) -> list[Turn]:
        """The turns that have ended since the last call."""
        done = [name for name, turn in self._running.items() if turn.done()]
        return [self._running.pop(name).result() for name in done]

    def finish(self) -> list[Turn]:
        """Wait for all that run; returns them as they began. Nothing can be started after this."""
        self._pool.shutdown()
        return self.collect()
