"""The daemon: a random first wait (`backoff.until_first_beat`), a cycle each interval, and more looks at versions on trial.

Between two cycles meta may wake it, see `parking`: then a cycle begins at once, as by USR1.

While meta is away, the orders of its last answer stay in force, as `actions.Source` says.

Signals: TERM and INT end the daemon after the running actions. HUP reads cfg.json again; if it has an error, nothing
changes. USR1 begins a cycle at once.
"""

import contextlib
import logging
import os
import random
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from updater.errors import Misconfigured, TryLater, UpdaterError
from updater.host import config, host_name
from updater.host.context import Host
from updater.host.last_reply import tell_source
from updater.host.observe import agent_names
from updater.kernel import children, clocks
from updater.meta_client import parking
from updater.meta_client.notify import Asking
from updater.model.actions import Source
from updater.model.observed import Observed
from updater.net import backoff
from updater.reconcile import cycle
from updater.reconcile.plan import EXPIRED
from updater.reconcile.workers import Workers
from updater.self_update import handover
from updater.service import readiness
from updater.wire.heartbeat import Desired, Outcome

log = logging.getLogger("updater")

_STOP = (signal.SIGTERM, signal.SIGINT)
_IN_FORCE = {
    Source.EARLIER: "those of its last answer stay in force, and nothing is downloaded",
    Source.KEPT: "until its first answer in this run, what was running is kept running and nothing else is changed",
    Source.EXPIRED: "no orders are in force",
}


class Daemon:
    """Runs cycles until it is stopped."""

    def __init__(self, host: Host, config_file: Path) -> None:
        self.host = host
        self.observed: dict[str, Observed] = {}  # the last observation of each agent, for the local HTTP interface
        # Called with a new configuration, so that the HTTP interface listens as that says; may raise Misconfigured.
        self.listens: Callable[[config.Config], object] = lambda _settings: None
        self._config_file = config_file
        self._reload_wanted = False
        self._cycle_wanted = False
        self._refused: tuple[Outcome, ...] = ()
        self._failures = 0
        self._told: tuple[Source | None, float] = None, 0.0  # what was told last: see `tell_source`
        self._next_beat = 0.0  # monotonic seconds
        self._parks: Asking | None = None  # of the last heartbeat, None if it was not answered
        self._looked_at: dict[str, float] = {}  # agent -> the end of its watch that was looked at, see Trial
        # A signal handler may run while a lock is held, so it only sets a flag and writes to this pipe.
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._workers = Workers(host, self._wake_up)
        self._parking = parking.Parking(host, self._want_cycle)
        self._announcer = readiness.Announcer.of_this_process(host.layout.state)

    def run(self) -> None:
        """Wait for the first cycle, then run cycles until stopped. Returns when all turns have ended."""
        first = self._first_sleep()
        parking.withdraw(self.host)
        self._tell_source()
        log.info("first cycle in %.1f s, then every %g s", first, self.host.config.interval)
        self._announcer.ready(0)
        self._until(time.monotonic() + first)
        while not self._is_ending():
            due = time.monotonic() + self.host.config.interval
            self._parking.pause()
            self._cycle_wanted = False
            self._cycle()
            self._parking.park(self._parks, due)
            self._until(due)
        self._parking.close()
        self._workers.finish()
        log.info("handing over to %s" if self.host.successor else "stopped%s; the agents run on", self.host.successor)

    def _first_sleep(self) -> float:
        if handover.is_successor(self.host):
            return 0.0  # a guard of the old version waits for the first heartbeat
        settings, chance = self.host.config, random.random()  # noqa: S311 (jitter, not a secret)
        was_answered = self.host.orders.last.at > 0
        return backoff.until_first_beat(settings.interval, chance, settings.reported_hostname, was_answered)

    def reload(self) -> config.Config:
        """Read cfg.json again. Raises Misconfigured if it has an error; then the old configuration stays in force."""
        settings = config.load(self._config_file)
        self.listens(settings)
        self.host.reconfigure(settings)
        self._parking.reload()
        log.info("configuration read again from %s", self._config_file)
        self._wake_up()  # the next cycle may be due sooner
        return self.host.config

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Handle the daemon's signals while the block runs."""
        self._announcer.withdraw()  # a killed process may have left its state
        before = {number: signal.signal(number, self._on_signal) for number in (*_STOP, signal.SIGHUP, signal.SIGUSR1)}
        try:
            with children.burying():
                yield
        finally:
            self._announcer.withdraw()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._reload_wanted = self._reload_wanted or number == signal.SIGHUP
        self._cycle_wanted = self._cycle_wanted or number == signal.SIGUSR1
        self.host.stopping = self.host.stopping or number in _STOP
        self._wake_up()

    def _want_cycle(self) -> None:
        self._cycle_wanted = True
        self._wake_up()

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"!")

    def _cycle(self) -> None:
        longest = backoff.LONGEST * self.host.config.interval
        self._next_beat = min(self._next_beat, time.monotonic() + longest)  # a reload may have made it shorter
        try:
            if time.monotonic() >= self._next_beat:
                self._beat()
            else:
                self._keep()
        except UpdaterError as e:
            log.error("%s", e)
        except Exception:
            log.exception("a defect of the updater ended this cycle")

    def _beat(self) -> None:
        try:
            heard = cycle.begin(self.host, self._workers, self._refused)
        except UpdaterError as e:
            self._failures, self._parks = self._failures + 1, None
            wait = self._wait_after(e)
            self._next_beat = time.monotonic() + wait
            self._tell_source()
            log.warning(
                "no orders in this cycle: %s; %s; the next heartbeat is in %.0f s",
                e,
                _IN_FORCE[self._source()],
                max(wait, self.host.config.interval),
            )
            self._keep()
            return
        self._failures, self._next_beat, self._parks = 0, 0.0, heard.parks
        self._tell_source()
        self.observed, self._refused = heard.observed, heard.refusals(self.host.now())
        handover.note_alive(self.host)

    def _wait_after(self, error: UpdaterError) -> float:
        """Seconds to the next heartbeat, at least; 0 (the next cycle) if the error came before meta was asked."""
        if isinstance(error, Misconfigured | host_name.NameInDoubt):
            return 0.0
        asked = error.after if isinstance(error, TryLater) else 0.0
        chance = random.random()  # noqa: S311
        return backoff.until_next_beat(self._failures, self.host.config.interval, asked, chance)

    def _keep(self) -> None:
        """A cycle without meta: its last orders, as far as they may be followed now."""
        self._tell_source()
        orders = self._orders_in_force()
        observed = cycle.look(self.host, agent_names(self.host.layout))
        self.observed = observed | cycle.look_at_new(self.host, orders, observed)
        self._workers.start(orders, self.observed, self._source())

    def _source(self) -> Source:
        """How recent the last orders are. While meta answers, their age does not count."""
        orders = self.host.orders
        if orders.of_this_run and not self._failures:
            return Source.ANSWER
        if orders.last.at and self.host.uptime().seconds > orders.last.good_until(self.host.config.keep_orders):
            return Source.EXPIRED
        return Source.EARLIER if orders.of_this_run else Source.KEPT

    def _tell_source(self) -> None:
        source, last = self._source(), self.host.orders.last
        told = source, 0.0 if source is Source.ANSWER else last.good_until(self.host.config.keep_orders)
        if told == self._told:
            return
        if source is Source.EXPIRED and source is not self._told[0]:
            log.warning("%s: until it answers, agents are left as they are", EXPIRED)
        self._told = told
        tell_source(self.host.layout.source, *told)

    def _orders_in_force(self) -> tuple[Desired, ...]:
        return () if self._source() is Source.EXPIRED else self.host.orders.last.orders

    def _until(self, due: float) -> None:
        """Wait until `due` (monotonic seconds), a stop or a wanted cycle. Report turns that end; look at versions on trial.

        Never longer than one interval, as a reload may make it shorter.
        """
        while not self._is_ending():
            due = min(due, time.monotonic() + self.host.config.interval)
            # First, so that it is done even if cycles take longer than the interval.
            orders = self.host.orders.last.orders
            if (news := cycle.tell_news(self.host, self._workers.collect(), self._refused)) is not None:
                self.observed |= news
                if self.host.orders.last.orders != orders:  # meta takes them as known here
                    self._cycle_wanted, self._refused = True, ()
                continue
            left = due - time.monotonic()
            if self._cycle_wanted or left <= 0:
                return
            watched = self._watched()
            woken = self._sleep(min(left, self._until_next_look(watched)) if watched else left)
            if watched and not woken and not self._is_ending():
                self._probe(watched)

    def _probe(self, watched: list[Desired]) -> None:
        """Observe the agents with versions on trial and start a turn for each, between two cycles."""
        self._note_ends(watched)
        self.observed |= cycle.look(self.host, [order.name for order in watched])
        self._workers.start(watched, self.observed, self._source())

    def _is_ending(self) -> bool:
        return self.host.stopping or bool(self.host.successor)

    def _watched(self) -> list[Desired]:
        """The orders of idle agents that are to be looked at between two cycles: within a watch, or once at its end."""
        return [
            order for order in self._orders_in_force() if not self._workers.is_busy(order.name) and self._is_due(order)
        ]

    def _is_due(self, order: Desired) -> bool:
        """Whether to look at this agent now. At the end of a watch this is so once; after that, each cycle looks.

        A version that dies again and again is started again in each cycle, and no more often.
        """
        try:
            memory, now = self.host.memories.of(order.name), clocks.ran()
        except TryLater:  # the next cycle says so
            return False
        until = memory.trial.until if memory.trial else 0.0
        is_probed = memory.watching(now) and not memory.dying
        return is_probed or (memory.watch_is_over(now) and self._looked_at.get(order.name) != until)

    def _note_ends(self, watched: list[Desired]) -> None:
        """Remember which ends of watches the following look covers."""
        for order in watched:
            memory = self.host.memories.of(order.name)
            if memory.trial and memory.watch_is_over(clocks.ran()):
                self._looked_at[order.name] = memory.trial.until

    def _until_next_look(self, watched: list[Desired]) -> float:
        """Seconds to the next look at versions on trial: `probe` of cfg.json, or less if a watch ends before."""
        now, probe = clocks.ran(), self.host.config.probe
        trials = (self.host.memories.of(order.name).trial for order in watched)
        return min([probe, *(trial.until - now for trial in trials if trial and trial.until > now)])

    def _sleep(self, seconds: float) -> bool:
        """Sleep for at most `seconds`; returns whether something woke the daemon. A wanted reload is done here."""
        if not select.select([self._woken], [], [], seconds)[0]:
            return False
        os.read(self._woken, 64)
        if self._reload_wanted:
            self._reload_wanted = False
            self._announcer.reload(self._reload, Misconfigured)
        return True

    def _reload(self) -> str:
        try:
            self.reload()
        except Misconfigured as e:
            log.error("the old configuration stays in force: %s", e)
            raise
        return "configuration read again"
