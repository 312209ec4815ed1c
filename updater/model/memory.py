"""What a host remembers of one agent between cycles: a version on trial, a rejected order, unreported outcomes.

Pure: each change returns a new value, and `updater.host.memories` writes it to the disk.
"""

from collections.abc import Container

from msgspec.structs import replace

from updater.model.observed import Observed
from updater.model.trials import WATCHES, Dropped, Moment, Rejected, Trial, same_artifact
from updater.model.unfit import Unfit
from updater.model.watched import Watched
from updater.model.ways_back import WaysBack
from updater.wire.heartbeat import DONE, ROLLED_BACK, Desired, Outcome
from updater.wire.limits import MAX_REASON
from updater.wire.text import one_line

WATCH = "watch"  # the step of an outcome that no action has caused: how a watch ended
CAME_THROUGH = "it has come through its watch"
STAYS_UP = "has stayed up since its last start"
LIMIT = 4 << 20  # bytes of a memory file; a rejected order alone may be as large as a reply, 1 MiB
_STARTS = ("start", "hand over")  # steps that begin a watch


class Memory(Watched, frozen=True):
    """The memory of one agent."""

    rejected: Rejected | None = None
    unfit: Unfit | None = None  # a tarball that is not downloaded again
    dropped: Dropped | None = None  # the last operator request, if it was not followed
    older: str = ""  # the version before `previous`, in case the last switch was cut off
    left_dead: str = ""  # the last version that was left on trial when it had failed, had died or had never run

    def with_order(self, order: Desired) -> "Memory":
        """The memory once meta has sent this order.

        An order for another artifact lifts the rejection. A higher attempt of the same order lifts it too, so the version is
        tried again. After a new order, a failure is reported even if it reads like the one before.
        """
        memory = self
        if self.failed_order not in (None, order):
            again = self.restart and replace(self.restart, told=False)
            memory = replace(self, last=None, failed_order=None, restart=again)
        if memory.unfit and not memory.unfit.holds_for(order):
            memory = replace(memory, unfit=None, last=None)
        if memory.rejected is None:
            return memory
        if not same_artifact(memory.rejected.order, order):
            return replace(memory, rejected=None, last=None)
        return memory.retrying() if order.attempt > memory.rejected.order.attempt else memory

    def rejected_under(self, newest: Desired | None) -> Rejected | None:
        """The rejection, unless the newest order is for another artifact of its version, which will be tried."""
        if self.rejected is None or newest is None or newest.version != self.rejected.order.version:
            return self.rejected
        return self.rejected if same_artifact(newest, self.rejected.order) else None

    def retrying(self) -> "Memory":
        """The memory as if the rejected or refused version had not failed, so that it is tried again."""
        if self.rejected is None:
            return replace(self, unfit=None, last=None) if self.unfit else self
        version = self.rejected.order.version
        trial = Trial(version) if self.trial and self.trial.version == version else self.trial
        return replace(self, rejected=None, trial=trial, last=None, unfit=None, taking_back=None)

    def after_look(self, name: str, current: str, started: bool, installs: Container[str], moment: Moment) -> "Memory":
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
        memory = memory.started(current, moment)._staying(name, current, moment) if started else memory
        if not started or current not in installs or memory.good == current:
            return memory
        trial = memory.trial if memory.trial and memory.trial.version == current else None
        if trial is None:
            return memory if memory.good else replace(memory, good=current)
        is_over = not trial.failure and 0 < trial.until <= moment.now
        return memory._come_through(name, moment, trial) if is_over else memory

    def seen_started(self, observed: Observed, moment: Moment) -> "Memory":
        """The memory after a look at an agent that reports `started`, no matter what is ordered."""
        seen = self.occupied(observed.occupied, observed.crowding).after_probe(observed, moment)
        return seen.after_look(observed.name, observed.current, True, observed.installs, moment)

    def _come_through(self, name: str, moment: Moment, trial: Trial) -> "Memory":
        """The memory once the watch has ended well. The outcome comes from the memory alone, so a crash loses nothing."""
        memory = replace(self._with(self._ways.proven(self.current, trial.capped)), ports=frozenset(), restart=None)
        before, back = self.previous if self.previous != self.current else "", memory.back
        doubt = f"it still was when {WATCHES} watches were over" if trial.capped else ""
        doubt += f", so a version that fails after it goes back to {back}" if back != self.current else ""
        why = "; ".join(filter(None, (CAME_THROUGH, trial.replacements(), doubt, self.remark)))
        return memory.with_outcome(Outcome(name, before, self.current, WATCH, DONE, why, at=int(moment.at)))

    def _staying(self, name: str, current: str, moment: Moment) -> "Memory":
        """The memory after `current` was seen started. If it was told that it dies, it is told, too, once it stays up."""
        memory, died = self._in_this_restart(current, moment), self.restart
        if memory.restart or died is None or not died.told:
            return memory
        return memory.with_outcome(memory.told_of(name, current, DONE, STAYS_UP, int(moment.at)))

    def _on_trial(self) -> "Memory":
        """The memory with the current version on trial, unless it is `good`; a killed updater may have lost that trial."""
        was_ever = self.good != "" or self.trial is not None  # else it was there before the updater
        if not was_ever or self.current in (self.good, self.trial and self.trial.version):
            return self
        begun = self.taking_back if self.taking_back and self.taking_back.to == self.current else None  # it has failed
        failure, died = begun.reason if begun else "", self.current == self.left_dead
        return replace(self, trial=Trial(self.current, failure=failure, died=died, told=begun is not None))

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

    def told_of(self, name: str, version: str, result: str, words: str, at: int) -> Outcome:
        """The outcome that tells how the agent's version fares. at: Unix seconds.

        Where it runs because the ordered one was rolled back, that is told with it, as meta keeps the last outcome alone.
        """
        rejected = self.rejected
        if rejected is None or rejected.order.version == version:
            return Outcome(name, version, version, WATCH, result, words, at=at)
        words = one_line(f"{rejected.reason}; {version}, to which it went back, {words}", MAX_REASON)
        order = rejected.order
        return Outcome(name, version, order.version, WATCH, ROLLED_BACK, words, at=at, attempt=order.attempt)

    def with_turn_outcome(self, outcome: Outcome, order: Desired) -> "Memory":
        """The same for the outcome of a turn.

        A `done` is left out while the version is on trial, or has died after a start: `after_look` adds it.
        """
        dying = self.dying
        if outcome.result == DONE and outcome.step in _STARTS and (self.is_on_trial or dying):
            return self
        memory, is_told = self.with_outcome(outcome, order), outcome.step == WATCH and outcome.result != DONE
        return replace(memory, restart=replace(dying, told=True)) if dying and is_told else memory

    @property
    def is_given_up(self) -> bool:
        """Whether the current version has failed on trial, and an outcome has told so while another one was ordered."""
        return self.trial is not None and self.trial.version == self.current and self.trial.told
