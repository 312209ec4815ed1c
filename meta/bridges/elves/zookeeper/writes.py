"""The agents that wait to be written to ZooKeeper, each at {base}/agent/{ip}. Only the latest state of each is written.

A failure of one agent does not affect others. It is tried again: at once if the connection was lost, otherwise after a minute.
One agent's node may break the connection, for example if it is larger than the server's jute.maxbuffer. It is found by writing
fewer agents at a time.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    OperationTimeoutError,
    SessionExpiredError,
    SessionMovedError,
)
from kazoo.handlers.threading import KazooTimeoutError

from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.rate_limited_log import RateLimitedLog
from meta.bridges.elves.translator import Agent
from meta.bridges.elves.zookeeper.nodes import render_node
from updater.wire.text import one_line

BATCH = 40  # writes in a tick; 400 in a second are twice what 10,000 agents need
WRITE_WITHIN = 10.0  # seconds for a batch
SET_ASIDE = 60.0  # seconds
MAX_NODE = 1_000_000  # bytes; by default ZooKeeper accepts packets of 1 MiB
_Lost = (
    ConnectionLoss,
    ConnectionClosedError,
    SessionExpiredError,
    SessionMovedError,
    OperationTimeoutError,
    KazooTimeoutError,
)
log = logging.getLogger(__name__)


class Writes:
    """The pending writes. Safe for threads, but only one thread may call `write`.

    base: the path above `agent`; set_aside: seconds until an agent is tried again that failed while the connection was fine.
    """

    def __init__(self, base: str, numbers: Numbers, set_aside: float = SET_ASIDE):
        self._base = base
        self._numbers = numbers
        self._set_aside_for = set_aside
        self._lock = threading.Lock()
        self._pending: dict[str, Agent] = {}
        self._set_aside: dict[str, float] = {}  # ip -> when it is tried again, in monotonic seconds
        self._noted = 0  # since the last call of `noted`
        self._batch = BATCH  # fewer after a lost connection
        self._limited_log = RateLimitedLog()

    def note(self, agent: Agent) -> None:
        """Have this agent written, instead of its earlier state."""
        with self._lock:
            self._pending[agent.ip] = agent
            self._noted += 1

    def noted(self) -> int:
        """Return how many agents were noted since the last call."""
        with self._lock:
            noted, self._noted = self._noted, 0
        return noted

    def repeat(self, agents: Iterable[Agent]) -> None:
        """Have these agents written, unless a later state of them is pending."""
        with self._lock:
            for agent in agents:
                self._pending.setdefault(agent.ip, agent)

    def __len__(self) -> int:
        return len(self._pending)

    def write(self, client: Any, everything: bool = False) -> str:
        """Write one batch, or everything. Returns why the connection was lost, "" if it was not."""
        batch = self._take(everything, time.monotonic())
        failed = self._write_batch(client, batch)
        self._numbers.add("agents_shared", len(batch) - len(failed))
        lost = [error for _, error in failed if isinstance(error, _Lost)]
        for agent, error in failed:
            if not isinstance(error, (*_Lost, NodeExistsError)) or (lost and len(batch) == 1):
                self._put_aside(agent, error)
        self.repeat(agent for agent, _ in failed)
        self._batch = 1 if lost else min(BATCH, self._batch * 2)
        return in_words(lost[0]) if lost else ""

    def _take(self, everything: bool, now: float) -> list[Agent]:
        with self._lock:
            self._set_aside = {ip: again for ip, again in self._set_aside.items() if again > now}
            ips = (ip for ip in self._pending if ip not in self._set_aside)
            return [self._pending.pop(ip) for ip in list(islice(ips, None if everything else self._batch))]

    def _put_aside(self, agent: Agent, error: Exception) -> None:
        self._numbers.add("agents_not_shared")
        text = "agent %s is not shared through ZooKeeper, tried again in %g s: %s"
        self._limited_log.say(log, text, agent.ip, self._set_aside_for, one_line(in_words(error), 300))
        with self._lock:
            self._set_aside[agent.ip] = time.monotonic() + self._set_aside_for

    def _write_batch(self, client: Any, batch: list[Agent]) -> list[tuple[Agent, Exception]]:
        """Write a batch. Returns the agents that failed, and why."""
        deadline = time.monotonic() + WRITE_WITHIN
        begun = [(agent, self._begin(client.set_async, agent)) for agent in batch]
        ended = [(agent, _end(result, deadline)) for agent, result in begun]
        missing = [agent for agent, error in ended if isinstance(error, NoNodeError)]
        begun = [(agent, self._begin(client.create_async, agent, makepath=True)) for agent in missing]
        ended = [(agent, error) for agent, error in ended if not isinstance(error, NoNodeError)]
        ended += [(agent, _end(result, deadline)) for agent, result in begun]
        return [(agent, error) for agent, error in ended if error]

    def _begin(self, write: Callable[..., Any], agent: Agent, **how: Any) -> Any:
        """Start a write. Returns kazoo's pending result, or the exception that it raised."""
        data = render_node(agent)
        if len(data) > MAX_NODE:
            return ValueError(f"its node has {len(data)} bytes")
        try:
            return write(f"{self._base}/agent/{agent.ip}", data, **how)
        except Exception as e:  # noqa: BLE001 (it is this agent's failure)
            return e


def _end(result: Any, deadline: float) -> Exception | None:
    if isinstance(result, Exception):
        return result
    try:
        result.get(timeout=max(0.01, deadline - time.monotonic()))
    except Exception as e:  # noqa: BLE001 (it is this agent's failure)
        return e
    return None


def in_words(error: Exception) -> str:
    return str(error) or type(error).__name__
