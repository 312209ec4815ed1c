"""What a host remembers of one agent between cycles: a version on trial, a rejected order, unreported outcomes.

Pure: each change returns a new value, and `updater.host.memories` writes it to the disk.
"""

from collections.abc import Container

from msgspec.structs import replace

from updater.model.observed import Observed, State
from updater.model.outcomes import Outcomes
from updater.model.trials import WATCHES, Dropped, Moment, Rejected, Trial, same_artifact
from updater.model.unfit import Unfit
from updater.model.ways_back import Ways, WaysBack
from updater.wire.heartbeat import DONE, Desired, Outcome

WATCH = "watch"  # the step of an outcome that no action has caused: how a watch ended
CAME_THROUGH = "it has come through its watch"
LIMIT = 4 << 20  # bytes of a memory file; a rejected order alone may be as large as a reply, 1 MiB
_STARTS = ("start", "hand over")  # steps that begin a watch


class Memory(Outcomes, frozen=True):
    """The memory of one agent."""

    current: str = ""  # the last version that `.version` named
    good: str = ""  # the last version that came through its watch, or was there before the updater; "" for none
    previous: str = ""  # the version before the last switch
    trial: Trial | None = None
    rejected: Rejected | None = None
    unfit: Unfit | None = None  # a tarball that is not downloaded again
    ways_back: WaysBack = WaysBack()  # besides `good`
    dropped: Dropped | None = None  # the last operator request, if it was not followed
    older: str = ""  # the version before `previous`, in case the last switch was cut off
    left_dead: str = ""  # the last version that was left on trial when it had failed, had died or had never run

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
        return replace(self, rejected=None, trial=trial, last=None, unfit=None, taking_back=None)

    def after_look(
        self, name: str, current: str, started: bool, installs: Container[str], moment: "Moment"
    ) -> "Memory":
        """The memory after the agent `name` was observed: a watch may have begun, or ended well.

        current, started, installs: as observed. A way back that is not installed is forgotten. moment: of the observation.
        """
        memory = self._with(self._ways.installed(installs))
        if current in installs:
            cut_off = memory.older and memory.previous == current  # then the last switch has changed nothing
            memory = replace(memory, previous=memory.older, older="") if cut_off else memory
            rejected = memory.rejected.order.version if memory.rejected else ""
            is_back = rejected and rejected == memory.current != current  # which could not be remembered
            memory = memory._leaving(memory.current, current) if is_back else memory
            memory = replace(memory, current=current)._on_trial().found_at(current)
        memory = memory._in_this_watch(moment)
        memory = memory.started(current, moment) if started else memory
        if not started or current not in installs or memory.good == current:
            return memory
        trial = memory.trial if memory.trial and memory.trial.version == current else None
        if trial is None:
            return memory if memory.good else replace(memory, good=current)
        is_over = not trial.failure and 0 < trial.until <= moment.now
        return memory._come_through(name, moment, trial) if is_over else memory

    def _come_through(self, name: str, moment: "Moment", trial: Trial) -> "Memory":
        """The memory once the watch has ended well. The outcome comes from the memory alone, so a crash loses nothing."""
        memory = self._with(self._ways.proven(self.current, trial.capped))
        before, back = self.previous if self.previous != self.current else "", memory.back
        doubt = f"it still was when {WATCHES} watches were over" if trial.capped else ""
        doubt += f", so a version that fails after it goes back to {back}" if back != self.current else ""
        why = "; ".join(filter(None, (CAME_THROUGH, trial.replacements(), doubt, self.remark)))
        return memory.with_outcome(Outcome(name, before, self.current, WATCH, DONE, why, at=int(moment.now)))

    @property
    def _ways(self) -> Ways:
        return Ways(self.good, self.ways_back)

    def _with(self, ways: Ways) -> "Memory":
        return self if ways == self._ways else replace(self, good=ways.good, ways_back=ways.others)

    @property
    def back(self) -> str:
        """The version that a failed one is rolled back to; "" for none. It may be the current one."""
        return self._ways.best

    @property
    def _leads_back(self) -> bool:
        """Whether there is a version to roll the current one back to."""
        return self.back not in ("", self.current)

    def after_probe(self, observed: Observed, moment: "Moment") -> "Memory":
        """The memory after a look within the watch at an agent that reports `started`: see `Trial.after_probe`."""
        trial, deciding = self.trial, observed.deciding
        if not self.is_watched or trial is None or trial.version != observed.current or not deciding:
            return self
        return replace(self, trial=trial.after_probe(deciding, observed.mains, observed.listeners, moment))

    def doubting(self, observed: Observed) -> "Memory":
        """The memory after a look within the watch: the status and the processes may contradict each other.

        A stopped version may also keep it from running.
        """
        if not self.is_watched or self.trial is None or self.trial.version != observed.current:
            return self
        is_stopped = observed.state is State.STOPPED and not observed.absent
        doubts = self.trial.doubts + 1 if is_stopped and observed.processes else 0
        held_up, lost = observed.held_up or self.trial.held_up, self.trial.lost + observed.absent
        return replace(self, trial=replace(self.trial, doubts=doubts, lost=lost, held_up=held_up))

    def trying_again(self, version: str) -> "Memory":
        """The memory before another start of `version`, which died while another version's processes still ran."""
        if self.trial is None or self.trial.version != version:
            return self
        return replace(self, trial=replace(self.trial, again=True))

    def _on_trial(self) -> "Memory":
        """The memory with the current version on trial, unless it is `good`; a killed updater may have lost that trial."""
        was_ever = self.good != "" or self.trial is not None  # else it was there before the updater
        if not was_ever or self.current in (self.good, self.trial and self.trial.version):
            return self
        begun = self.taking_back if self.taking_back and self.taking_back.to == self.current else None  # it has failed
        failure, died = begun.reason if begun else "", self.current == self.left_dead
        return replace(self, trial=Trial(self.current, failure=failure, died=died, told=begun is not None))

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
        if trial is None or trial.version != version or (trial.failure and self._leads_back):
            return self
        return self.started_again(version, moment) if trial.failure or not trial.until else self

    def started_again(self, version: str, moment: "Moment", held_up: str = "") -> "Memory":
        """The memory just after the updater has started `version`: its watch begins (again). held_up: see `Observed`."""
        trial = self.trial
        if trial is None or trial.version != version or (trial.failure and self._leads_back):
            return self
        until = moment.now + moment.watch
        died = trial.died or trial.until > 0 or trial.failure != ""
        begun = replace(trial, until=until, failure="", evidence="", boot=moment.boot, began=moment.now, died=died)
        return replace(self, trial=replace(begun.forgetting(), held_up=held_up))

    def beginning(self, version: str, boot: str, token: str, since: int) -> "Memory":
        """The memory just before a start of `version`: no watch of an earlier start counts for it. See Processes."""
        memory, trial = super().beginning(version, boot, token, since), self.trial
        if trial is None or trial.version != version or not trial.until:
            return memory
        return replace(memory, trial=replace(trial, until=0.0, died=True))

    def stopping(self, version: str) -> "Memory":
        """The memory just before the updater stops `version`: its end is then no failure."""
        if self.trial is None or self.trial.version != version or self.trial.failure:
            return self
        return replace(self, trial=replace(self.trial, until=0.0))

    def having_died(self, version: str) -> "Memory":
        """The memory after a look at which `version` was down or had been restarted too often: it has died in its watch."""
        if self.trial is None or self.trial.version != version or not self.is_watched:
            return self
        return replace(self, trial=replace(self.trial, died=True))

    def switching(self, current: str, version: str) -> "Memory":
        """The memory just before `.version` changes from `current` ("" if that cannot run) to `version`.

        `version` is on trial from now on, unless it is `good`. While no version is proven, `current` is the way back, unless it
        has failed or died, or is taken back.
        """
        memory = self._leaving(current, version)
        if version == memory.good:
            return memory
        if self._is_left_alive(current) and current and not memory.good and version != memory.back:
            memory = replace(memory, ways_back=WaysBack(unproven=current))
        memory = memory._with(memory._ways.tried_again(version))
        return replace(memory, trial=Trial(version))

    def _leaving(self, current: str, version: str) -> "Memory":
        good = self.good if self.good or self.trial else current  # no trial: see `good`
        if not current:
            return replace(self, good=good, current=version)
        older = self.older if self.previous == current else self.previous
        older = older if older != self.left_dead else ""  # of two that were left dead, only the last one is remembered
        memory = replace(self, good=good, current=version, previous=current, older=older)
        if current != good and self.trial and self.trial.version == current and not self._is_left_alive(current):
            return replace(memory._with(memory._ways.left_dead(current)), left_dead=current)
        return memory if self.left_dead not in (current, version) else replace(memory, left_dead="")

    def _is_left_alive(self, version: str) -> bool:
        """Whether `version`, which is left on trial for another one, has run and neither failed nor died, as far as is known.

        If it was switched to and never seen started, what is known of its last trial counts.
        """
        trial = self.trial
        if trial is None or trial.version != version or trial.failure or trial.died or trial.until:
            return False
        return trial.began > 0 or self.ways_back.unproven == version

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
        """The memory after an operator request to roll the order's version back; unchanged without a way back."""
        back, memory = self.way_back(order.version, installs), self._with(self._ways.installed(installs))
        memory = memory.rejecting(order, "by hand") if back else self
        return memory if not back or memory.back == back else replace(memory, ways_back=WaysBack(unproven=back))

    def way_back(self, version: str, installs: Container[str]) -> str:
        """The version that an operator request rolls `version` back to; "" if no other is proven, or was left alive."""
        previous = self.previous if self.previous != self.left_dead else ""
        candidates = self._ways.without(version).installed(installs).best, previous
        return next((one for one in candidates if one and one in installs and one != version), "")

    def rejecting(self, order: Desired, reason: str) -> "Memory":
        """The memory in which the order's version is rejected; the agent goes back to `back`."""
        memory = self._with(self._ways.without(order.version))
        if memory.current == order.version and not (memory.trial and memory.trial.version == order.version):
            memory = replace(memory, trial=Trial(order.version))  # it is not watched while it is rolled back
        return replace(memory.failed(order.version, reason, ""), rejected=Rejected(order, reason))

    def given_up(self, version: str, reason: str) -> "Memory":
        """The memory after `version` failed on trial while another one is ordered: the agent goes back to `back`."""
        memory = self.failed(version, reason, "")
        return replace(memory, trial=replace(memory.trial, told=True)) if memory.trial else memory

    def with_turn_outcome(self, outcome: Outcome, order: Desired) -> "Memory":
        """The same for the outcome of a turn. A `done` is left out while the version is on trial: `after_look` adds it."""
        is_early = outcome.result == DONE and self.is_on_trial and outcome.step in _STARTS
        return self if is_early else self.with_outcome(outcome, order)

    @property
    def is_on_trial(self) -> bool:
        """Whether the current version is on trial and has not failed."""
        trial = self.trial
        return trial is not None and not trial.failure and trial.version == self.current != self.good

    @property
    def is_given_up(self) -> bool:
        """Whether the current version has failed on trial, and an outcome has told so while another one was ordered."""
        return self.trial is not None and self.trial.version == self.current and self.trial.told

    def may_be_taken_back(self, started: bool) -> bool:
        """Whether the current version may still be rolled back: the value of `trial` in a report. started: as observed.

        It is true until a look after the end of the watch. For a failed version it is true only if there is one to go back to.
        """
        trial = self.trial
        if trial is None or not (trial.version == self.current != self.good):
            return False
        return started or trial.until > 0 or (bool(trial.failure) and self._leads_back)

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
