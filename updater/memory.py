"""What a host remembers of one agent between cycles: a version on trial, a rejected order, outcomes not yet reported.

Values and pure changes of them, and at the end their keeper. A memory that cannot be read is an empty one: the worst
that follows is one more try of a version that was rejected before.
"""

import threading
from collections.abc import Callable, Container
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from updater import files
from updater.wire import DONE, FAILED, Desired, Outcome

LIMIT = 4 << 20  # bytes of a memory file; a rejected order alone may have as many as a reply, 1 MiB
KEPT_OUTCOMES = 8  # that meta has not yet confirmed
WATCH = "watch"  # the step of an outcome that came after the last action
_STARTS = ("start", "hand over")  # steps after which the version is watched


class Moment(NamedTuple):
    """When something is judged. now: Unix seconds; watch: seconds; boot: which start of the machine this is."""

    now: float
    watch: float
    boot: str = ""


class Trial(msgspec.Struct, frozen=True):
    """The last version that was switched to, until it has proven itself.

    until: Unix seconds, the end of its watch, 0 before it was seen started; failure: why it was given up, "" when it was
    not; processes: those it was last seen with; restarts: how often all of them had been replaced by others; boot: of the
    machine, in which the watch began, for what is down after another boot has not failed; began: when it was started last,
    in Unix seconds, 0 when that is not known; done: what is reported when it has come through its watch.
    """

    version: str
    until: float = 0
    failure: str = ""
    evidence: str = ""
    processes: frozenset[str] = frozenset()
    restarts: int = 0
    boot: str = ""
    began: float = 0
    done: Outcome | None = None


class Rejected(msgspec.Struct, frozen=True):
    """An order whose version failed here; it is not tried again until the order changes, or has a higher attempt."""

    order: Desired
    reason: str


class Memory(msgspec.Struct, frozen=True):
    """All of it, for one agent.

    current: the version that `.version` named last; good: the version to go back to, the last one that has proven itself,
    "" when there is none; previous: what ran before the version that was switched to last.
    """

    current: str = ""
    good: str = ""
    previous: str = ""
    trial: Trial | None = None
    rejected: Rejected | None = None
    outcomes: tuple[Outcome, ...] = ()
    last: Outcome | None = None

    def heed(self, order: Desired) -> "Memory":
        """A new order lifts the rejection of another one; the same one with a higher attempt has its version tried again."""
        if self.rejected is None:
            return self
        if not same_artifact(self.rejected.order, order):
            return replace(self, rejected=None, last=None)  # that it failed before is no reason not to report it again
        return self.retrying() if order.attempt > self.rejected.order.attempt else self

    def retrying(self) -> "Memory":
        """The rejected version may be tried again, as if it had not failed."""
        if self.rejected is None:
            return self
        version = self.rejected.order.version
        trial = Trial(version) if self.trial and self.trial.version == version else self.trial
        return replace(self, rejected=None, trial=trial, last=None)

    def seeing(
        self, current: str, started: bool, installs: Container[str], leaving: bool, moment: "Moment"
    ) -> "Memory":
        """What a look teaches: the version on trial is started, or has come through its watch; `good` may be gone.

        leaving: whether the order is for another version; one that is left in good health need not wait for its watch's end.
        """
        memory = self if self.good in installs else replace(self, good="")
        if current in installs:
            memory = replace(memory, current=current)._on_trial()
        memory = memory._in_this_watch(moment)
        memory = memory.started(current, moment) if started else memory
        trial = memory.trial if memory.trial and memory.trial.version == current else None
        if trial is None:
            proven = started and not memory.good
        else:
            proven = not trial.failure and (0 < trial.until <= moment.now or (started and leaving))
        if not proven or current not in installs:
            return memory
        over = trial is not None and 0 < trial.until <= moment.now
        memory = memory._come_through(current, moment) if over and started else memory
        return replace(memory, good=current)

    def _come_through(self, current: str, moment: "Moment") -> "Memory":
        """The watch has passed: the change is done, and so is what failed in its watch and has come through all the same."""
        if self.trial and self.trial.done and self.good != current:
            done = replace(self.trial.done, at=int(moment.now))
            return replace(self, trial=replace(self.trial, done=None)).noting(done)
        last = self.last
        if last is None or (last.to, last.step, last.result) != (current, WATCH, FAILED):
            return self
        why = "it has come through its watch"
        return self.noting(replace(last, result=DONE, reason=why, evidence="", at=int(moment.now)))

    def meeting(self, current: str, processes: frozenset[str], now: float) -> "Memory":
        """A close look within the watch: an agent whose supervisor starts it again and again says `started` all the time."""
        if not self.watching(now) or self.trial is None or self.trial.version != current or not processes:
            return self
        restarts = self.trial.restarts + (bool(self.trial.processes) and not processes & self.trial.processes)
        return replace(self, trial=replace(self.trial, processes=processes, restarts=restarts))

    def _on_trial(self) -> "Memory":
        """What is current and has not proven itself is on trial, also when a switch away from it was cut off."""
        if not self.good or self.good == self.current or (self.trial and self.trial.version == self.current):
            return self
        return replace(self, trial=Trial(self.current))

    def _in_this_watch(self, moment: "Moment") -> "Memory":
        """A watch of another boot, or one that a clock's jump has made longer than it may be, begins anew."""
        trial = self.trial
        if trial is None or not trial.until or trial.failure:
            return self
        if trial.until <= moment.now or (trial.boot == moment.boot and trial.until - moment.now <= moment.watch):
            return self
        return replace(self, trial=replace(trial, until=0.0, processes=frozenset(), restarts=0))

    def started(self, version: str, moment: "Moment") -> "Memory":
        """`version` is started: if it is on trial and not yet watched, its watch ends then."""
        if self.trial is None or self.trial.version != version or self.trial.until or self.trial.failure:
            return self
        trial = replace(self.trial, until=moment.now + moment.watch, boot=moment.boot, began=moment.now)
        return replace(self, trial=trial)

    def started_again(self, version: str, moment: "Moment") -> "Memory":
        """We have started `version` just now; within a watch that goes on for as long as before."""
        memory = self.started(version, moment)
        if memory.trial is None or memory.trial.version != version:
            return memory
        return replace(memory, trial=replace(memory.trial, began=moment.now))

    def stopping(self, version: str) -> "Memory":
        """Just before we stop `version` ourselves: that is no failure of its watch."""
        if self.trial is None or self.trial.version != version or self.trial.failure:
            return self
        return replace(self, trial=replace(self.trial, until=0.0))

    def switching(self, current: str, version: str) -> "Memory":
        """Just before `.version` goes from `current` ("" when that cannot run) to `version`: a trial, unless it is `good`."""
        if version == self.good:
            return replace(self, current=version)
        return replace(
            self, good=self.good or current, previous=current or self.previous, current=version, trial=Trial(version)
        )

    def put_back(self, current: str) -> "Memory":
        """`.version` is `current` again, as before the last switch, and what was switched to has not been tried."""
        return replace(self, current=current, trial=None)

    def failed(self, version: str, reason: str, evidence: str) -> "Memory":
        """The start of `version` did not reach `started` in time."""
        if self.trial is None or self.trial.version != version:
            return self
        return replace(self, trial=replace(self.trial, failure=reason, evidence=evidence))

    def by_hand(self, order: Desired, installs: Container[str]) -> "Memory":
        """A person takes the order's version back: to what ran before it, if that is still there."""
        back = self.previous if self.previous in installs and self.previous != order.version else self.good
        if back not in installs or back == order.version:
            return self
        return replace(self, good=back).rejecting(order, "by hand")

    def rejecting(self, order: Desired, reason: str) -> "Memory":
        """The order's version is given up in favour of `good`."""
        return replace(self.failed(order.version, reason, ""), rejected=Rejected(order, reason))

    def noting(self, outcome: Outcome) -> "Memory":
        """Keep an outcome for the next report, unless it is the same failure again."""
        again = self.last and replace(outcome, at=self.last.at, evidence=self.last.evidence) == self.last
        if again and outcome.result != DONE:
            return self
        return replace(self, outcomes=(*self.outcomes, outcome)[-KEPT_OUTCOMES:], last=outcome)

    def noting_done(self, outcome: Outcome) -> "Memory":
        """The same for a change that went well: what it started is reported when that has come through its watch."""
        if self.trial is None or not self.is_on_trial or outcome.step not in _STARTS:
            return self.noting(outcome)
        return replace(self, trial=replace(self.trial, done=self.trial.done or replace(outcome, step=WATCH)))

    def reported(self, outcomes: tuple[Outcome, ...]) -> "Memory":
        """meta has these outcomes."""
        return replace(self, outcomes=tuple(o for o in self.outcomes if o not in outcomes))

    @property
    def is_on_trial(self) -> bool:
        """Whether the current version has yet to prove itself, and has not failed."""
        trial = self.trial
        return trial is not None and not trial.failure and trial.version == self.current != self.good

    def in_watch(self, started: bool, now: float) -> bool:
        """Whether the current version, seen started or not, may yet be taken back: what meta is told as `trial`."""
        until = self.trial.until if self.trial and self.is_on_trial else -1.0
        return until > now or (until == 0 and started)

    def watch_is_over(self, now: float) -> bool:
        """Whether the watch has passed, and a look is to say how."""
        return self.trial is not None and self.is_on_trial and 0 < self.trial.until <= now

    def watching(self, now: float) -> bool:
        """Whether a version is started and still watched."""
        return self.trial is not None and not self.trial.failure and 0 < self.trial.until > now


def same_artifact(one: Desired, other: Desired) -> bool:
    """Whether two orders mean the same bytes, as far as the orders themselves tell."""
    return (one.version, one.tarball, one.md5, one.sha256) == (other.version, other.tarball, other.md5, other.sha256)


class Memories:
    """The memories of all agents of a host, kept on disk; safe for several threads.

    A change is a function from the memory as it is to the new one, so that two who change the same memory lose nothing.
    What cannot be read now is not taken for nothing: that raises TryLater. What is damaged is an empty memory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._known: dict[str, Memory] = {}
        self._unwritten: set[str] = set()

    def of(self, name: str) -> Memory:
        """The memory of one agent; an empty one when there is none or it is damaged."""
        with self._lock:
            return self._of(name)

    def change(self, name: str, how: Callable[[Memory], Memory], at_least_here: bool = False) -> Memory:
        """Change a memory, durably before this returns, and return it.

        Raises TryLater when it cannot be written; then nothing has changed, or, `at_least_here`, this process knows it all
        the same, and the next one does not.
        """
        with self._lock:
            before = self._of(name)
            after = how(before)
            if at_least_here:
                self._known[name] = after
            if after != before or name in self._unwritten:
                self._unwritten.add(name)
                files.make_directory(self._directory)
                files.write_atomic(self._directory / f"{name}.json", _rendered(after), mode=0o600)
                self._unwritten.discard(name)
            self._known[name] = after
            return after

    def names(self) -> list[str]:
        """The agents of which anything is remembered."""
        names = files.names_in(self._directory)
        return [name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")]

    def _of(self, name: str) -> Memory:
        if name not in self._known:
            self._known[name] = _load(self._directory / f"{name}.json")
        return self._known[name]


def _rendered(memory: Memory) -> bytes:
    """At most LIMIT bytes, or it could not be read back: what decides stays, news and evidence go first."""
    data = msgspec.json.encode(memory)
    if len(data) <= LIMIT:
        return data
    trial = memory.trial and replace(memory.trial, evidence="", processes=frozenset())
    return msgspec.json.encode(replace(memory, trial=trial, outcomes=(), last=None))


def _load(path: Path) -> Memory:
    try:
        data = files.read_small(path, LIMIT)
        return msgspec.json.decode(data, type=Memory) if data else Memory()
    except (ValueError, RecursionError):
        return Memory()
