"""What a host remembers of one agent between cycles: a version on trial, a rejected order, outcomes not yet reported.

Values and pure changes of them; `memories` keeps them on the disk.
"""

from collections.abc import Container, Mapping

import msgspec
from msgspec.structs import replace

from updater.model.recognised import Recognised
from updater.model.trials import Moment, Rejected, Trial, same_artifact
from updater.model.unfit import Unfit
from updater.wire.heartbeat import DONE, Desired, Outcome

KEPT_OUTCOMES = 8  # that meta has not yet confirmed
WATCH = "watch"  # the step of an outcome that came after the last action
CAME_THROUGH = "it has come through its watch"
LIMIT = 4 << 20  # bytes of a memory file; a rejected order alone may have as many as a reply, 1 MiB
_STARTS = ("start", "hand over")  # steps after which the version is watched


class Memory(msgspec.Struct, frozen=True):
    """All of it, for one agent."""

    current: str = ""  # the version that `.version` named last
    good: str = ""  # the version to go back to, the last one that has proven itself; "" when there is none
    previous: str = ""  # what ran before the version that was switched to last
    trial: Trial | None = None
    rejected: Rejected | None = None
    outcomes: tuple[Outcome, ...] = ()  # that meta has not yet confirmed
    last: Outcome | None = None  # what was noted last
    # The order of which `last` is a failure; the name on the disk is that of earlier versions.
    failed_order: Desired | None = msgspec.field(default=None, name="told_of")
    running: Recognised | None = None  # the processes of the current version
    begun: Recognised | None = None  # those of a start that has not come to its end
    left: Mapping[str, frozenset[str]] = {}  # by version, its processes that outlived its stop for some time
    there: Mapping[str, frozenset[str]] = {}  # by version, what is not the agent's own and works in its directory
    remark: str = ""  # what the last switch left, for meta
    unfit: Unfit | None = None  # a tarball that is not fetched again

    def with_order(self, order: Desired) -> "Memory":
        """A new order lifts the rejection of another one. The same one with a higher attempt has its version tried again.

        What fails of a new order, or after a stop, is reported, also where it reads like a failure of the one before.
        """
        memory = self if self.failed_order in (None, order) else replace(self, last=None, failed_order=None)
        if memory.unfit and not memory.unfit.holds_for(order):
            memory = replace(memory, unfit=None, last=None)
        if memory.rejected is None:
            return memory
        if not same_artifact(memory.rejected.order, order):
            return replace(memory, rejected=None, last=None)
        return memory.retrying() if order.attempt > memory.rejected.order.attempt else memory

    def retrying(self) -> "Memory":
        """The rejected or refused version may be tried again, as if it had not failed."""
        if self.rejected is None:
            return replace(self, unfit=None, last=None) if self.unfit else self
        version = self.rejected.order.version
        trial = Trial(version) if self.trial and self.trial.version == version else self.trial
        return replace(self, rejected=None, trial=trial, last=None, unfit=None)

    def after_look(
        self, name: str, current: str, started: bool, installs: Container[str], moment: "Moment"
    ) -> "Memory":
        """What a look at the agent `name` teaches: the version on trial is started, or has come through its watch.

        `good` may be gone. moment: when it was looked at.
        """
        memory = self if self.good in installs else replace(self, good="")
        if current in installs:
            memory = replace(memory, current=current)._on_trial()
        memory = memory._in_this_watch(moment)
        memory = memory.started(current, moment) if started else memory
        if not started or current not in installs or memory.good == current:
            return memory
        trial = memory.trial if memory.trial and memory.trial.version == current else None
        if trial is None:
            return memory if memory.good else replace(memory, good=current)
        if trial.failure:
            return memory
        if 0 < trial.until <= moment.now:
            return replace(memory, good=current)._come_through(name, moment)
        return memory

    def _come_through(self, name: str, moment: "Moment") -> "Memory":
        """The watch has passed, and only now the change is done. What is told comes from what is remembered of the switch, so
        that a kill after the start loses nothing."""
        before = self.previous if self.previous != self.current else ""
        why = "; ".join(filter(None, (CAME_THROUGH, self.remark)))
        return self.with_outcome(Outcome(name, before, self.current, WATCH, DONE, why, at=int(moment.now)))

    def after_probe(self, current: str, processes: frozenset[str], mains: frozenset[str], moment: "Moment") -> "Memory":
        """A probe within the watch: each start by the agent's own supervisor begins the watch again.

        Such an agent says `started` all the time, so its processes tell. mains: those that only such a start replaces.
        """
        trial = self.trial
        if not self.is_watched or trial is None or trial.version != current or not processes:
            return self
        met = replace(trial, processes=processes, mains=mains or trial.mains)
        if not (trial.mains and mains) or mains & trial.mains or processes & trial.processes:
            return replace(self, trial=met)
        until = moment.now + moment.watch
        return replace(self, trial=replace(met, restarts=trial.restarts + 1, until=until, began=moment.now))

    def known(self, version: str) -> Recognised | None:
        """What is known of a version's processes, None where nothing is."""
        return next((one for one in (self.begun, self.running) if one and one.version == version), None)

    def beginning(self, version: str, boot: str, token: str, since: int) -> "Memory":
        """Just before a start of `version`: what it leaves is known by its mark, also when it fails or is cut off."""
        before = self.known(version) or Recognised(version, boot)
        return replace(self, begun=before.beginning(boot, token, since))

    def recognising(self, found: Recognised | None) -> "Memory":
        """A look at the processes of the version that is started."""
        if found is None:
            return self
        return replace(self, running=found, begun=None if self.known(found.version) is self.begun else self.begun)

    def leaving(self, version: str, left: frozenset[str], remark: str | None = None) -> "Memory":
        """`version` has stopped, but for these. remark: of the switch, None to leave it as it is."""
        others = {one: processes for one, processes in self.left.items() if one != version}
        left_now = others | ({version: left} if left else {})
        return replace(self, left=left_now, remark=self.remark if remark is None else remark)

    def finding(self, version: str, there: frozenset[str]) -> "Memory":
        """These work in the directory of `version`, and are not the agent's own."""
        others = {one: processes for one, processes in self.there.items() if one != version}
        return replace(self, there=others | ({version: there} if there else {}))

    def occupied(self, versions: Container[str], crowding: Container[str]) -> "Memory":
        """Only these versions have processes in their directories or, crowding, that they left; those of others have ended."""
        left = {version: processes for version, processes in self.left.items() if version in crowding}
        there = {version: processes for version, processes in self.there.items() if version in versions}
        return self if (left, there) == (self.left, self.there) else replace(self, left=left, there=there)

    def doubting(self, current: str, stopped: bool, processes: frozenset[str], absent: bool) -> "Memory":
        """A look within the watch: what it says and what lives may not agree. absent: it says started, and is not."""
        if not self.is_watched or self.trial is None or self.trial.version != current:
            return self
        doubts = self.trial.doubts + 1 if stopped and processes and not absent else 0
        return replace(self, trial=replace(self.trial, doubts=doubts, lost=self.trial.lost + absent))

    def trying_again(self, version: str) -> "Memory":
        """`version` has died beside another one that had not gone, and is started once more."""
        if self.trial is None or self.trial.version != version:
            return self
        return replace(self, trial=replace(self.trial, again=True))

    def _on_trial(self) -> "Memory":
        """What is current and has not proven itself is on trial, also when a switch away from it was cut off."""
        if not self.good or self.good == self.current or (self.trial and self.trial.version == self.current):
            return self
        return replace(self, trial=Trial(self.current))

    def _in_this_watch(self, moment: "Moment") -> "Memory":
        """A watch of another boot, or one that a clock's jump has made longer than it may be, begins anew."""
        trial = self.trial
        if trial is None or not trial.until or trial.failure or self.good == trial.version:
            return self
        if trial.boot == moment.boot and trial.until - moment.now <= moment.watch:
            return self
        return replace(self, trial=replace(trial, until=0.0, processes=frozenset(), mains=frozenset(), restarts=0))

    def started(self, version: str, moment: "Moment") -> "Memory":
        """`version` is started: if it is on trial and not yet watched, its watch begins. So does that of one whose start has
        failed, where there is none to go back to."""
        trial = self.trial
        if trial is None or trial.version != version or (trial.failure and self.good):
            return self
        return self.started_again(version, moment) if trial.failure or not trial.until else self

    def started_again(self, version: str, moment: "Moment") -> "Memory":
        """We have started `version` just now: its watch begins, also where it had begun before, for it was down."""
        trial = self.trial
        if trial is None or trial.version != version or (trial.failure and self.good):
            return self
        until = moment.now + moment.watch
        begun = replace(trial, until=until, failure="", evidence="", boot=moment.boot, began=moment.now)
        return replace(self, trial=replace(begun, processes=frozenset(), mains=frozenset()))

    def stopping(self, version: str) -> "Memory":
        """Just before we stop `version` ourselves: that is no failure of its watch."""
        if self.trial is None or self.trial.version != version or self.trial.failure:
            return self
        return replace(self, trial=replace(self.trial, until=0.0))

    def switching(self, current: str, version: str, was_well: bool = False) -> "Memory":
        """Just before `.version` goes from `current` ("" when that cannot run) to `version`: a trial, unless it is `good`, and
        it stays that: what is taken back has not proven itself. was_well: whether `current` was started when it was stopped for
        this. Then it need not have come to its watch's end; not before, for an order that is taken back while the other version
        is still fetched leaves it on trial."""
        if version == (self.good or current):
            return replace(self, current=version)
        good = current if was_well and current else self.good or current
        return replace(self, good=good, previous=current or self.previous, current=version, trial=Trial(version))

    def put_back(self, current: str) -> "Memory":
        """`.version` is `current` again, as before the last switch, and what was switched to has not been tried."""
        return replace(self, current=current, trial=None)

    def failed(self, version: str, reason: str, evidence: str) -> "Memory":
        """The start of `version` did not reach `started` in time."""
        if self.trial is None or self.trial.version != version:
            return self
        return replace(self, trial=replace(self.trial, failure=reason, evidence=evidence))

    def rolled_back_by_operator(self, order: Desired, installs: Container[str]) -> "Memory":
        """A person on the host takes the order's version back: to what ran before it, if that is still there."""
        back = self.way_back(order.version, installs)
        return replace(self, good=back).rejecting(order, "by hand") if back else self

    def way_back(self, version: str, installs: Container[str]) -> str:
        """Where a person's rollback takes `version`, "" where no other is there."""
        return next((one for one in (self.previous, self.good) if one in installs and one != version), "")

    def rejecting(self, order: Desired, reason: str) -> "Memory":
        """The order's version is given up in favour of `good`."""
        return replace(self.failed(order.version, reason, ""), rejected=Rejected(order, reason))

    def with_outcome(self, outcome: Outcome, order: Desired | None = None) -> "Memory":
        """Keep an outcome for the next report, unless it is the same failure again. order: of which it is a failure."""
        again = self.last and replace(outcome, at=self.last.at, evidence=self.last.evidence) == self.last
        if again and outcome.result != DONE:
            return self
        kept = (*self.outcomes, outcome)[-KEPT_OUTCOMES:]
        failed = None if outcome.result == DONE else order
        return replace(self, outcomes=kept, last=outcome, failed_order=failed)

    def with_turn_outcome(self, outcome: Outcome, order: Desired) -> "Memory":
        """The same for what came of a turn: what it started is done, and reported, when that has come through its watch."""
        is_early = outcome.result == DONE and self.is_on_trial and outcome.step in _STARTS
        return self if is_early else self.with_outcome(outcome, order)

    def reported(self, outcomes: tuple[Outcome, ...]) -> "Memory":
        """meta has these outcomes."""
        return replace(self, outcomes=tuple(o for o in self.outcomes if o not in outcomes))

    @property
    def is_on_trial(self) -> bool:
        """Whether the current version has yet to prove itself, and has not failed."""
        trial = self.trial
        return trial is not None and not trial.failure and trial.version == self.current != self.good

    def may_be_taken_back(self, started: bool) -> bool:
        """Whether the current version, seen started or not, has yet to prove itself: what meta is told as `trial`. Also after
        the end of its watch, until a look has said how that ended; one that has failed only as long as it is to be taken back,
        so not where there is nothing before it."""
        trial = self.trial
        if trial is None or not (trial.version == self.current != self.good):
            return False
        return started or trial.until > 0 or (bool(trial.failure) and self.good != "")

    @property
    def is_watched(self) -> bool:
        """Whether the current version has been started, and is not judged yet."""
        return self.trial is not None and self.is_on_trial and self.trial.until > 0

    def watching(self, now: float) -> bool:
        """Whether its watch still goes on."""
        return self.trial is not None and self.is_watched and self.trial.until > now

    def watch_is_over(self, now: float) -> bool:
        """Whether the watch has passed, and a look is to say how."""
        return self.is_watched and not self.watching(now)
