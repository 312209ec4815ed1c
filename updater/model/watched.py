"""What a host remembers of an agent's current version and its watch. Pure; a part of `memory.Memory`."""

from typing import Self

from msgspec.structs import replace

from updater.model.observed import Observed, State
from updater.model.outcomes import Outcomes
from updater.model.trials import Moment, Restart, Trial
from updater.model.ways_back import Ways, WaysBack


class Watched(Outcomes, frozen=True):
    """The current version of an agent, its watch if it is on trial, and the ways back."""

    current: str = ""  # the last version that `.version` named
    good: str = ""  # the last version that came through its watch, or was there before the updater; "" for none
    previous: str = ""  # the version before the last switch
    trial: Trial | None = None
    restart: Restart | None = None
    ways_back: WaysBack = WaysBack()  # besides `good`

    @property
    def _ways(self) -> Ways:
        return Ways(self.good, self.ways_back)

    def _with(self, ways: Ways) -> Self:
        return self if ways == self._ways else replace(self, good=ways.good, ways_back=ways.others)

    @property
    def back(self) -> str:
        """The version that a failed one is rolled back to; "" for none. It may be the current one."""
        return self._ways.best

    @property
    def _leads_back(self) -> bool:
        """Whether there is a version to roll the current one back to."""
        return self.back not in ("", self.current)

    def after_probe(self, observed: Observed, moment: Moment) -> Self:
        """The memory after a look within the watch at an agent that reports `started`: see `Trial.after_probe`."""
        trial, deciding, seen = self.trial, observed.deciding, observed
        if not self.is_watched or trial is None or trial.version != observed.current or not deciding:
            return self
        return replace(self, trial=trial.after_probe(deciding, seen.mains, seen.by_file, seen.listeners, moment))

    def doubting(self, observed: Observed) -> Self:
        """The memory after a look within the watch: the status and the processes may contradict each other.

        Others may also keep it from running.
        """
        if not self.is_watched or self.trial is None or self.trial.version != observed.current:
            return self
        is_stopped = observed.state is State.STOPPED and not observed.absent
        doubts = self.trial.doubts + 1 if is_stopped and observed.processes else 0
        before, served = "" if observed.serves else self.trial.held_up, self.trial.served or observed.serves
        held_up, lost = observed.held_up or before, self.trial.lost + observed.absent
        return replace(self, trial=replace(self.trial, doubts=doubts, lost=lost, held_up=held_up, served=served))

    def trying_again(self, version: str) -> Self:
        """The memory before another start of `version`, which died while another version's processes still ran."""
        if self.trial is None or self.trial.version != version:
            return self
        return replace(self, trial=replace(self.trial, again=True))

    def _in_this_watch(self, moment: Moment) -> Self:
        """The memory without a begun watch, if its end is not valid now: after a reboot, or with a shorter watch."""
        trial = self.trial
        if trial is None or not trial.until or trial.failure or self.good == trial.version:
            return self
        # The sum is that by which the end was set: a difference may be rounded to more than the watch.
        if trial.boot == moment.boot and trial.until <= moment.now + moment.watch:
            return self
        return replace(self, trial=replace(trial, until=0.0, restarts=0, replaced=0).forgetting())

    def started(self, version: str, moment: Moment) -> Self:
        """The memory once `version` was seen started: the watch of a version on trial begins, unless it already has.

        It also begins again after a failed start, if there is no version to roll back to.
        """
        trial = self.trial
        if trial is None or trial.version != version or (trial.failure and self._leads_back):
            return self
        return self.started_again(version, moment) if trial.failure or not trial.until else self

    def started_again(self, version: str, moment: Moment, held_up: str = "") -> Self:
        """The memory just after the updater has started `version`: its watch begins (again). held_up: see `Observed`."""
        trial = self.trial
        if trial is None or trial.version != version or (trial.failure and self._leads_back):
            return self
        until = moment.now + moment.watch
        died = trial.died or trial.until > 0 or trial.failure != ""
        begun = replace(trial, until=until, failure="", evidence="", boot=moment.boot, began=moment.now, died=died)
        return replace(self, trial=replace(begun.forgetting(), held_up=held_up))

    def beginning(self, version: str, boot: str, token: str, since: int) -> Self:
        """The memory just before a start of `version`: no watch of an earlier start counts for it. See Processes."""
        memory, trial = super().beginning(version, boot, token, since), self.trial
        if trial is None or trial.version != version or not trial.until:
            return memory
        return replace(memory, trial=replace(trial, until=0.0, died=True))

    def stopping(self, version: str) -> Self:
        """The memory just before the updater stops `version`: its end is then no failure."""
        is_its = self.restart is not None and self.restart.version == version
        memory, trial = replace(self, restart=None) if is_its else self, self.trial
        if trial is None or trial.version != version or trial.failure:
            return memory
        return replace(memory, trial=replace(trial, until=0.0))

    def restarted(self, version: str, moment: Moment) -> Self:
        """The memory just after the updater has started `version`: whether it stays up is known later."""
        if self.is_rolled_back_if_dead:
            return replace(self, restart=None)
        before = self.restart if self.restart and self.restart.version == version else Restart(version)
        return replace(self, restart=replace(before, boot=moment.boot, began=moment.now, over=False))

    def found_down(self, version: str, reason: str, at: float) -> Self:
        """The memory after a look at which `version` was down since its last start. at: Unix seconds.

        reason: how it has died; "" if that is no failure, as while a person holds the agent.
        """
        last = self.restart if self.restart and self.restart.version == version else Restart(version)
        return replace(self, restart=last.died(reason, at) if reason else replace(last, over=True))

    @property
    def is_rolled_back_if_dead(self) -> bool:
        """Whether the current version, which may have failed already, is not proven, and there is one to go back to."""
        return self.trial is not None and self.trial.version == self.current != self.good and self._leads_back

    @property
    def dying(self) -> Restart | None:
        """The last start of the current version if it has died after that or the one before, and has not stayed up since."""
        last = self.restart
        return last if last and last.version == self.current and last.deaths else None

    def _in_this_restart(self, version: str, moment: Moment) -> Self:
        """The memory after `version` was seen started; the time for which it has to stay up may begin again.

        A version on trial is judged by its watch alone.
        """
        last = self.restart
        if last is None or last.version != version or self.is_on_trial:
            return self
        if last.over or last.boot != moment.boot:  # it was not started by us
            return replace(self, restart=replace(last, boot=moment.boot, began=moment.now, over=False))
        return self if moment.now < last.began + moment.watch else replace(self, restart=None)

    def having_died(self, version: str) -> Self:
        """The memory after a look at which `version` was down or had been restarted too often: it has died in its watch."""
        if self.trial is None or self.trial.version != version or not self.is_watched:
            return self
        return replace(self, trial=replace(self.trial, died=True))

    @property
    def is_on_trial(self) -> bool:
        """Whether the current version is on trial and has not failed."""
        trial = self.trial
        return trial is not None and not trial.failure and trial.version == self.current != self.good

    def may_be_taken_back(self, started: bool) -> bool:
        """Whether it is not known yet if the current version stays: the value of `trial` in a report. started: as observed.

        It is true until a look after the end of the watch. For a failed version it is true only if there is one to go back to.
        A proven version that has died after a start has to stay up for as long as a watch, too.
        """
        trial = self.trial
        if self.dying:
            return True
        if trial is None or not (trial.version == self.current != self.good):
            return False
        return started or trial.until > 0 or (bool(trial.failure) and self._leads_back)

    @property
    def is_watched(self) -> bool:
        """Whether the current version is on trial and its watch has begun, but has not been judged."""
        return self.trial is not None and self.is_on_trial and self.trial.until > 0

    def watching(self, now: float) -> bool:
        """Whether the watch of the current version goes on. now: seconds of `clocks.ran`."""
        return self.trial is not None and self.is_watched and self.trial.until > now

    def watch_is_over(self, now: float) -> bool:
        """Whether the time of the watch is over, but no look has judged the version yet. now: seconds of `clocks.ran`."""
        return self.is_watched and not self.watching(now)
