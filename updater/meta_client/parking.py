"""Parks this host at meta between two beats, in one thread, so that an edit need not wait for the next interval.

The thread begins when a reply says that meta has parking. It only wakes the daemon, at most once for each answer, and never
delays it: a beat, a reload or a stop hangs up at once. `park_rules` decides when meta is asked.
"""

import logging
import random
import threading
import time
from collections.abc import Callable

from updater import durable_files
from updater.errors import TryLater
from updater.host import operator_requests
from updater.host.context import Host
from updater.meta_client import notify
from updater.meta_client.notify import Asking
from updater.meta_client.park_rules import SPANS, Answer, Kind, ParkRules, Spans
from updater.net.deadline import Deadline
from updater.service import told

log = logging.getLogger("updater")


class Parking:
    """Calls `wake` when meta has news. Safe for threads; no method waits for the network."""

    def __init__(self, host: Host, wake: Callable[[], None], spans: Spans = SPANS) -> None:
        self._host, self._wake, self._spans = host, wake, spans
        self._turn = threading.Condition()
        self._changes = 0  # made by other threads, so that this one sees each
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_open = False  # it is between two beats
        self._asking: Asking | None = None  # None: the last heartbeat was not answered
        self._until = 0.0  # when the next beat is due, monotonic seconds like all times here
        self._line: Deadline | None = None  # of the current request
        self._line_since = 0.0
        self._wake_at: float | None = None  # when to call `wake`
        self._woken_knowing = ""  # the reply that was known at the last wake, "" if its beat was noted
        self._server = ""  # to which the rules apply
        self._rules = ParkRules(0.0, spans)
        self._text = self._logged = ""  # what was told and logged last
        self._dated = 0.0, ""  # a time and its date, kept since clocks may be set

    def park(self, asking: Asking | None, until: float) -> None:
        """Begin a time between two beats; the next one is due at `until`. asking: None if meta did not answer the last one."""
        with self._turn:
            now = time.monotonic()
            if asking and asking.server != self._server:
                first = now + _chance() * self._host.config.interval  # a whole fleet may start at once
                self._server, self._rules, self._woken_knowing = asking.server, ParkRules(first, self._spans), ""
            elif asking and self._woken_knowing:
                self._rules.note_wake(asking.known != self._woken_knowing, now)
                self._woken_knowing = ""
            self._asking, self._until, self._is_open = asking, until, True
            self._changed()
            if self._thread is None and asking and asking.longest and self._host.config.notify:
                self._thread = threading.Thread(target=self._run, name="parking", daemon=True)
                self._thread.start()

    def pause(self) -> None:
        """End the time between two beats: hang up, and wake for no answer that came before."""
        with self._turn:
            self._is_open, self._wake_at = False, None
            self._hang_up()

    def reload(self) -> None:
        """Park as the new configuration says."""
        with self._turn:
            self._hang_up()

    def close(self) -> None:
        """Hang up for ever."""
        with self._turn:
            self._is_closed = True
            self._hang_up()

    def _hang_up(self) -> None:
        if self._line:
            self._line.expire()
            self._line = None
        self._changed()

    def _changed(self) -> None:
        self._changes += 1
        self._turn.notify_all()

    def _run(self) -> None:
        while True:
            with self._turn:
                seen = self._changes
                if self._is_closed:
                    return
                begun = self._begin()
                text, why = self._state(), self._rules.why
            self._tell(text, why)
            if begun:
                self._take(begun, self._answer(*begun))
                continue
            with self._turn:
                self._turn.wait_for(lambda: self._changes != seen, self._idle_for(time.monotonic()))  # noqa: B023

    def _begin(self) -> tuple[Asking, int, Deadline] | None:
        """Begin a request if it is time for one. A wake that is due is done here."""
        now = time.monotonic()
        if self._is_open and self._wake_at is not None and now >= self._wake_at:
            self._is_open, self._wake_at = False, None
            self._wake()
        if not self._asking or self._idle_for(now) != 0:
            return None
        wait = self._wait(now)
        self._line, self._line_since = Deadline(wait + self._spans.grace), now
        return self._asking, wait, self._line

    def _idle_for(self, now: float) -> float | None:
        """Seconds until there is something to do, None if only a change brings that."""
        if not self._is_open:
            return None
        if self._wake_at is not None:
            return max(self._wake_at - now, 0.0)
        pause = max(self._rules.not_before - now, 0.0)
        return pause if self._wait(now + pause) else None

    def _wait(self, at: float) -> int:
        """The wait of a request at that time, 0 for none."""
        asking, settings = self._asking, self._host.config
        if not asking or not settings.notify or asking.server != settings.base_url:
            return 0
        return self._rules.wait(asking.longest, self._until - at, at)

    def _answer(self, asking: Asking, wait: int, line: Deadline) -> Answer:
        try:
            return notify.ask(self._host, asking, wait, wait + self._spans.grace, line)
        except Exception as e:  # not foreseen where it was raised
            log.exception("a defect of the updater ended a request for wakes")
            return Answer(Kind.FAILED, f"it cannot be asked: {e}")

    def _take(self, begun: tuple[Asking, int, Deadline], answer: Answer) -> None:
        asking, wait, line = begun
        with self._turn:
            if self._line is not line:  # it was hung up
                return
            self._line, now = None, time.monotonic()
            self._rules.hear(answer, wait, line.connected_for(), now, _chance())
            if answer.kind is Kind.WAKE:
                self._wake_at, self._woken_knowing = now + _chance() * answer.seconds, asking.known

    def _state(self) -> str:
        """Whether meta can wake this host, in words; "" to tell nothing new, during a beat."""
        asking, rules = self._asking, self._rules
        if not self._is_open:
            return ""
        if not self._host.config.notify:
            return _OFF
        if not asking:
            return "no: meta did not answer the last heartbeat"
        if not asking.longest:
            return _NOT_OFFERED
        if not rules.why:
            limit = rules.limit(time.monotonic())
            return f"yes, by waits of {limit:.0f} s, as longer ones were cut" if limit < asking.longest else "yes"
        if self._line:
            return f"perhaps: meta is asked since {self._date(self._line_since)}; before that: {rules.why}"
        return f"no: {rules.why}; meta is asked from {self._date(rules.not_before)} on"

    def _date(self, monotonic: float) -> str:
        if self._dated[0] != monotonic:
            at = time.localtime(time.time() + monotonic - time.monotonic())
            self._dated = monotonic, time.strftime("%Y-%m-%d %H:%M:%S", at)
        return self._dated[1]

    def _tell(self, text: str, why: str) -> None:
        if text in ("", self._text):
            return
        self._text = text
        if why != self._logged or not why:
            self._logged = why
            log.info("reachable by meta at once: %s", text)
        try:
            told.tell(self._host.layout.reachable, text)
        except TryLater as e:
            log.warning("`updater status` cannot tell whether meta can wake this host: %s", e)


_OFF = "no: cfg.json has `notify` off"
_NOT_OFFERED = "no: meta does not offer it"


def state(host: Host) -> str:
    """Whether meta can wake the running updater, in words."""
    if not operator_requests.running_updater(host.layout):
        return "no: the updater does not run"
    return told.told(host.layout.reachable) or (_NOT_OFFERED if host.config.notify else _OFF)


def withdraw(host: Host) -> None:
    """Remove what an earlier version told, which may have been this process. A failure is logged."""
    try:
        durable_files.remove_tree(host.layout.reachable)
    except TryLater as e:
        log.warning("%s", e)


def _chance() -> float:
    return random.random()  # noqa: S311 (jitter, not a secret)
