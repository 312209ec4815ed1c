"""The agents that are to be written to ZooKeeper, each at {base}/agent/{ip}: of each the latest beat, some at a time.

Promises that a failure of one agent costs this agent only, and that it is tried again: at once where the connection was
lost, else after a minute. An agent whose node breaks the connection (larger than the server's jute.maxbuffer, say) is found by
writing fewer at a time.
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

BATCH = 40  # writes in a tick: 400 a second at most, twice what 10,000 agents need
WRITE_WITHIN = 10.0  # seconds for a batch
SET_ASIDE = 60.0  # seconds
MAX_NODE = 1_000_000  # bytes: what ZooKeeper takes by default is 1 MiB with all around it
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
    """Safe for threads; `write` is for one. base: the path above `agent`; set_aside: seconds until an agent that failed for a
    reason of its own is tried again."""

    def __init__(self, base: str, numbers: Numbers, set_aside: float = SET_ASIDE):
        self._base = base
        self._numbers = numbers
        self._set_aside_for = set_aside
        self._lock = threading.Lock()
        self._pending: dict[str, Agent] = {}
        self._set_aside: dict[str, float] = {}  # ip -> monotonic seconds at which it is tried again
        self._noted = 0
        self._batch = BATCH
        self._limited_log = RateLimitedLog()

    def note(self, agent: Agent) -> None:
        """It is to be written; instead of what was to be written of it before."""
        with self._lock:
            self._pending[agent.ip] = agent
            self._noted += 1

    def noted(self) -> int:
        """How many since the last time it was asked."""
        with self._lock:
            noted, self._noted = self._noted, 0
        return noted

    def repeat(self, agents: Iterable[Agent]) -> None:
        """To be written where nothing later is."""
        with self._lock:
            for agent in agents:
                self._pending.setdefault(agent.ip, agent)

    def __len__(self) -> int:
        return len(self._pending)

    def write(self, client: Any, everything: bool = False) -> str:
        """Some of what is to be written, or all; why the connection was lost, "" when it was not."""
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
        self._limited_log.say(log, time.time(), text, agent.ip, self._set_aside_for, one_line(in_words(error), 300))
        with self._lock:
            self._set_aside[agent.ip] = time.monotonic() + self._set_aside_for

    def _write_batch(self, client: Any, batch: list[Agent]) -> list[tuple[Agent, Exception]]:
        """What failed, and why."""
        deadline = time.monotonic() + WRITE_WITHIN
        begun = [(agent, self._begin(client.set_async, agent)) for agent in batch]
        ended = [(agent, _end(result, deadline)) for agent, result in begun]
        missing = [agent for agent, error in ended if isinstance(error, NoNodeError)]
        begun = [(agent, self._begin(client.create_async, agent, makepath=True)) for agent in missing]
        ended = [(agent, error) for agent, error in ended if not isinstance(error, NoNodeError)]
        ended += [(agent, _end(result, deadline)) for agent, result in begun]
        return [(agent, error) for agent, error in ended if error]

    def _begin(self, write: Callable[..., Any], agent: Agent, **how: Any) -> Any:
        """The result that is awaited, or the exception that came at once."""
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
