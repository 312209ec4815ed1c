"""What a host remembers of one agent between cycles: a version on trial, a rejected order, unreported outcomes.

Pure: each change returns a new value, and `updater.host.memories` writes it to the disk.
"""

from collections.abc import Container, Mapping

import msgspec
from msgspec.structs import replace

from updater.model.observed import Observed
from updater.model.recognised import Recognised
from updater.model.trials import Moment, Rejected, Trial, same_artifact
from updater.model.unfit import Unfit
from updater.wire.heartbeat import DONE, Desired, Outcome

KEPT_OUTCOMES = 8  # unreported outcomes of one agent; older ones are dropped
WATCH = "watch"  # the step of an outcome that no action has caused: how a watch ended
CAME_THROUGH = "it has come through its watch"
LIMIT = 4 << 20  # bytes of a memory file; a rejected order alone may be as large as a reply, 1 MiB
_STARTS = ("start", "hand over")  # steps that begin a watch


class Memory(msgspec.Struct, frozen=True):
    """The memory of one agent. Identities of processes are those of `updater.kernel.procfs`."""

    current: str = ""  # the last version that `.version` named
    good: str = ""  # the version that a failed one is rolled back to: the last that came through its watch; "" for none
    previous: str = ""  # the version before the last switch
    trial: Trial | None = None
    rejected: Rejected | None = None
    outcomes: tuple[Outcome, ...] = ()  # not yet received by meta
    last: Outcome | None = None  # the last outcome, reported or not
    # The order whose failure `last` is. Its name on the disk is that of earlier versions of the updater.
    failed_order: Desired | None = msgspec.field(default=None, name="told_of")
    running: Recognised | None = None  # the processes of the current version
    begun: Recognised | None = None  # the processes of a start that has not succeeded yet
    left: Mapping[str, frozenset[str]] = {}  # version -> its processes that were still there some time after its stop
    there: Mapping[str, frozenset[str]] = {}  # version -> other programs' processes that work in its directory
    remark: str = ""  # which processes the last switch left behind, for the outcome
    unfit: Unfit | None = None  # a tarball that is not downloaded again

    def with_order(self, order: Desired) -> "Memory":
        """The memory once meta has sent this order.

        An order for another artifact lifts the rejection. A higher attempt of the same order lifts it too, so the version is
        tried again. After a new order, a failure is reported even if it reads like the one before.
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
        """The memory as if the rejected or refused version had not failed, so that it is tried again."""
        if self.rejected is None:
            return replace(self, unfit=None, last=None) if self.unfit else self
        version = self.rejected.order.version
        trial = Trial(version) if self.trial and self.trial.version == version else self.trial
        return replace(self, rejected=None, trial=trial, last=None, unfit=None)

    def after_look(
        self, name: str, current: str, started: bool, installs: Container[str], moment: "Moment"
    ) -> "Memory":
        """The memory after the agent `name` was observed: a watch may have begun, or ended well.

        current, started, installs: as observed. `good` is forgotten if it is not installed. moment: of the observation.
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
        """Note the outcome `done`: the watch has ended well. All of it comes from the memory, so a crash loses nothing."""
        before = self.previous if self.previous != self.current else ""
        replaced = self.trial.replacements() if self.trial else ""
        why = "; ".join(filter(None, (CAME_THROUGH, replaced, self.remark)))
        return self.with_outcome(Outcome(name, before, self.current, WATCH, DONE, why, at=int(moment.now)))

    def after_probe(self, observed: Observed, moment: "Moment") -> "Memory":
        """The memory after a look within the watch at an agent that reports `started`: see `Trial.after_probe`."""
        trial, deciding = self.trial, observed.deciding
        if not self.is_watched or trial is None or trial.version != observed.current or not deciding:
            return self
        return replace(self, trial=trial.after_probe(deciding, observed.mains, observed.listeners, moment))

    def known(self, version: str) -> Recognised | None:
        """What is remembered of a version's processes; None if nothing is."""
        return next((one for one in (self.begun, self.running) if one and one.version == version), None)

    def is_cut_off(self, version: str, boot: str) -> bool:
        """Whether a start of `version` was begun in this boot, and no updater has seen how it ended."""
        begun = self.begun
        return begun is not None and begun.under_way and (begun.version, begun.boot) == (version, boot)

    def ended(self, version: str) -> "Memory":
        """The memory once it is known how a start of `version` ended."""
        if self.begun is None or self.begun.version != version or not self.begun.under_way:
            return self
        return replace(self, begun=replace(self.begun, under_way=False))

    def beginning(self, version: str, boot: str, token: str, since: int) -> "Memory":
        """The memory just before a start of `version`.

        Even if the start fails or the updater is killed, its processes are recognised by their mark. boot, token, since: see
        Recognised.
        """
        before = self.known(version) or Recognised(version, boot)
        return replace(self, begun=before.beginning(boot, token, since))

    def recognising(self, found: Recognised | None) -> "Memory":
        """The memory after the processes of the started version were recognised."""
        if found is None:
            return self
        begun = None if self.known(found.version) is self.begun else self.begun
        return replace(self, running=replace(found, under_way=False), begun=begun)

    def leaving(self, version: str, left: frozenset[str], remark: str | None = None) -> "Memory":
        """The memory after a stop of `version` that left these processes. remark: the new one; None keeps the old one."""
        others = {one: processes for one, processes in self.left.items() if one != version}
        left_now = others | ({version: left} if left else {})
        return replace(self.ended(version), left=left_now, remark=self.remark if remark is None else remark)

    def finding(self, version: str, there: frozenset[str]) -> "Memory":
        """The memory after other programs' processes were found in the directory of `version`."""
        others = {one: processes for one, processes in self.there.items() if one != version}
        return replace(self, there=others | ({version: there} if there else {}))

    def occupied(self, versions: Container[str], crowding: Container[str]) -> "Memory":
        """The memory without processes that have ended.

        versions: with processes in their directories; crowding: with processes that outlived their stop.
        """
        left = {version: processes for version, processes in self.left.items() if version in crowding}
        there = {version: processes for version, processes in self.there.items() if version in versions}
        return self if (left, there) == (self.left, self.there) else replace(self, left=left, there=there)

    def doubting(self, current: str, stopped: bool, processes: frozenset[str], absent: bool) -> "Memory":
        """The memory after a look within the watch at which the status and the processes may contradict each other.

        stopped: it reports `stoped`; processes: those that live; absent: it reports `started`, and no process exists.
        """
        if not self.is_watched or self.trial is None or self.trial.version != current:
            return self
        doubts = self.trial.doubts + 1 if stopped and processes and not absent else 0
        return replace(self, trial=replace(self.trial, doubts=doubts, lost=self.trial.lost + absent))

    def trying_again(self, version: str) -> "Memory":
        """The memory before another start of `version`, which died while another version's processes still ran."""
        if self.trial is None or self.trial.version != version:
            return self
        return replace(self, trial=replace(self.trial, again=True))

    def _on_trial(self) -> "Memory":
        """The memory with the current version on trial, unless it is `good`; a killed updater may have lost that trial."""
        if not self.good or self.good == self.current or (self.trial and self.trial.version == self.current):
            return self
        return replace(self, trial=Trial(self.current))

    def _in_this_watch(self, moment: "Moment") -> "Memory":
        """The memory without a begun watch, if its end is not valid now: after a reboot, or when the clock jumped."""
        trial = self.trial
        if trial is None or not trial.until or trial.failure or self.good == trial.version:
            return self
        if trial.boot == moment.boot and trial.until - moment.now <= moment.watch:
            return self
        return replace(self, trial=replace(trial, until=0.0, restarts=0, replaced=0).forgetting())

    def started(self, version: str, moment: "Moment") -> "Memory":
        """The memory once `version` was seen started: the watch of a version on trial begins, unless it already has.

        It also begins again after a failed start, if there is no version to roll back to.
        """
        trial = self.trial
        if trial is None or trial.version != version or (trial.failure and self.good):
            return self
        return self.started_again(version, moment) if trial.failure or not trial.until else self

    def started_again(self, version: str, moment: "Moment") -> "Memory":
        """The memory just after the updater has started `version`: its watch begins, or begins again."""
        trial = self.trial
        if trial is None or trial.version != version or (trial.failure and self.good):
            return self
        until = moment.now + moment.watch
        begun = replace(trial, until=until, failure="", evidence="", boot=moment.boot, began=moment.now)
        return replace(self, trial=begun.forgetting())

    def stopping(self, version: str) -> "Memory":
        """The memory just before the updater stops `version`: its end is then no failure."""
        if self.trial is None or self.trial.version != version or self.trial.failure:
            return self
        return replace(self, trial=replace(self.trial, until=0.0))

    def switching(self, current: str, version: str, was_started: bool = False) -> "Memory":
        """The memory just before `.version` changes from `current` ("" if that cannot run) to `version`.

        `version` is on trial from now on, unless it is `good`. was_started: whether `current` was started when it was stopped
        for this switch. If so it becomes `good`, even if its watch had not ended.
        """
        if version == (self.good or current):
            return replace(self, current=version)
        good = current if was_started and current else self.good or current
        return replace(self, good=good, previous=current or self.previous, current=version, trial=Trial(version))

    def put_back(self, current: str) -> "Memory":
        """The memory after a switch was undone: `.version` names `current` again, and no version is on trial."""
        return replace(self, current=current, trial=None)

    def failed(self, version: str, reason: str, evidence: str) -> "Memory":
        """The memory after a start of `version` failed, or after it failed on trial. evidence: the end of its output."""
        memory = self.ended(version)
        if self.trial is None or self.trial.version != version:
            return memory
        return replace(memory, trial=replace(self.trial, failure=reason, evidence=evidence))

    def rolled_back_by_operator(self, order: Desired, installs: Container[str]) -> "Memory":
        """The memory after an operator request to roll the order's version back; unchanged if no other is installed."""
        back = self.way_back(order.version, installs)
        return replace(self, good=back).rejecting(order, "by hand") if back else self

    def way_back(self, version: str, installs: Container[str]) -> str:
        """The version that an operator request rolls `version` back to; "" if no other is installed."""
        return next((one for one in (self.previous, self.good) if one in installs and one != version), "")

    def rejecting(self, order: Desired, reason: str) -> "Memory":
        """The memory in which the order's version is rejected; the agent goes back to `good`."""
        return replace(self.failed(order.version, reason, ""), rejected=Rejected(order, reason))

    def with_outcome(self, outcome: Outcome, order: Desired | None = None) -> "Memory":
        """The memory with an outcome for the next report. A repeated failure is not added again.

        order: the one that failed; None if none did.
        """
        again = self.last and replace(outcome, at=self.last.at, evidence=self.last.evidence) == self.last
        if again and outcome.result != DONE:
            return self
        kept = (*self.outcomes, outcome)[-KEPT_OUTCOMES:]
        failed = None if outcome.result == DONE else order
        return replace(self, outcomes=kept, last=outcome, failed_order=failed)

    def with_turn_outcome(self, outcome: Outcome, order: Desired) -> "Memory":
        """The same for the outcome of a turn. A `done` is left out while the version is on trial: `after_look` adds it."""
        is_early = outcome.result == DONE and self.is_on_trial and outcome.step in _STARTS
        return self if is_early else self.with_outcome(outcome, order)

    def reported(self, outcomes: tuple[Outcome, ...]) -> "Memory":
        """The memory after meta has received these outcomes."""
        return replace(self, outcomes=tuple(o for o in self.outcomes if o not in outcomes))

    @property
    def is_on_trial(self) -> bool:
        """Whether the current version is on trial and has not failed."""
        trial = self.trial
        return trial is not None and not trial.failure and trial.version == self.current != self.good

    def may_be_taken_back(self, started: bool) -> bool:
        """Whether the current version may still be rolled back: the value of `trial` in a report. started: as observed.

        It is true until a look after the end of the watch. For a failed version it is true only if there is one to go back to.
        """
        trial = self.trial
        if trial is None or not (trial.version == self.current != self.good):
            return False
        return started or trial.until > 0 or (bool(trial.failure) and self.good != "")

    @property
    def is_watched(self) -> bool:
        """Whether the current version is on trial and its watch has begun, but has not been judged."""
        return self.trial is not None and self.is_on_trial and self.trial.until > 0

    def watching(self, now: float) -> bool:
        """Whether the watch of the current version goes on. now: Unix seconds."""
        return self.trial is not None and self.is_watched and self.trial.until > now

    def watch_is_over(self, now: float) -> bool:
        """Whether the time of the watch is over, but no look has judged the version yet. now: Unix seconds."""
        return self.is_watched and not self.watching(now)
