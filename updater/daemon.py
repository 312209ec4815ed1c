"""The daemon: a random first sleep, then a cycle each interval, and closer looks at a version that is on trial.

Signals: TERM and INT end it after the action in hand, HUP reads cfg.json again. A configuration with an error changes nothing.
"""

import contextlib
import logging
import os
import random
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from updater import config, cycle, memory
from updater.errors import Misconfigured, UpdaterError
from updater.host import Host
from updater.observe import Observed
from updater.wire import Desired, Outcome

log = logging.getLogger("updater")

_STOP = (signal.SIGTERM, signal.SIGINT)


class Daemon:
    """Runs cycles until told to stop. `seen` is the last look at every agent, for the local HTTP interface."""

    def __init__(self, host: Host, config_file: Path) -> None:
        self.host = host
        self.seen: dict[str, Observed] = {}
        self._config_file = config_file
        self._reload_wanted = False
        self._orders: tuple[Desired, ...] = ()
        self._refused: tuple[Outcome, ...] = ()
        # A handler may run between any two bytecodes, also while a lock is held: so it only sets a flag and writes here.
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Sleep a random part of the interval, for a fleet started at once must not beat at once; then go on until stopped."""
        first = random.uniform(0, self.host.config.interval)  # noqa: S311 (jitter, not a secret)
        log.info("first cycle in %.1f s, then every %g s", first, self.host.config.interval)
        self._wait(first)
        while not self.host.stopping:
            self._cycle()
            self._wait_and_watch(self.host.config.interval)
        log.info("stopped; the agents run on")

    def reload(self) -> config.Config:
        """Take cfg.json as it is now. Raises Misconfigured, and keeps the old configuration, when it has an error."""
        self.host.config = config.load(self._config_file)
        log.info("configuration read again from %s", self._config_file)
        return self.host.config

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """While the block runs, TERM, INT and HUP mean what they mean to a daemon."""
        before = {number: signal.signal(number, self._on_signal) for number in (*_STOP, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._reload_wanted = self._reload_wanted or number == signal.SIGHUP
        self.host.stopping = self.host.stopping or number in _STOP
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"!")

    def _cycle(self) -> None:
        try:
            result = cycle.run(self.host, self._refused)
        except UpdaterError as e:
            log.warning("no orders in this cycle, nothing is changed: %s", e)
            return
        except Exception:
            log.exception("a defect of the updater ended this cycle")
            return
        self.seen, self._orders = result.seen, result.orders
        self._refused = cycle.refusals(result, self.host.now())

    def _wait_and_watch(self, seconds: float) -> None:
        """Wait until the next cycle is due; look at versions on trial meanwhile, and take them back when they fail."""
        while watched := self._watched():
            step = min(seconds, self.host.config.probe)
            self._wait(step)
            seconds -= step
            if seconds <= 0 or self.host.stopping:
                return
            self.seen |= cycle.look(self.host, [order.name for order in watched])
            if any(turn.changed for turn in cycle.turns(self.host, watched, self.seen)):
                return  # a cycle now: meta should hear of it
        self._wait(seconds)

    def _watched(self) -> list[Desired]:
        now = self.host.now()
        return [o for o in self._orders if memory.load(self.host.layout.memory(o.name)).watching(now)]

    def _wait(self, seconds: float) -> None:
        """Wait so long, or until told to stop; a wish for a reload is fulfilled meanwhile."""
        deadline = time.monotonic() + seconds
        while not self.host.stopping:
            if self._reload_wanted:
                self._reload_wanted = False
                try:
                    self.reload()
                except Misconfigured as e:
                    log.error("the old configuration stays in force: %s", e)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if select.select([self._woken], [], [], left)[0]:
                os.read(self._woken, 64)
