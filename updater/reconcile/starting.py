"""Starts a version, never while another version of the agent runs.

- A `./control start` of an earlier updater that still runs is waited for.
- Other versions that run are stopped by their own control.
- A pid file that names another program's process is removed.
- If the start fails while another version's processes live, it is tried again when they have ended.
- A start that fails while a stopped version takes long to end, or others hold a port, is tried again, see `hold_ups`.
- A start has failed if its status is `started`, but it leaves no process or only a zombie."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from updater import durable_files
from updater.errors import ControlFailed, PortTaken, TryLater
from updater.host import control_script, start_output
from updater.host.context import Host
from updater.kernel import doubts, processes, witness
from updater.kernel.agent_environment import Mark
from updater.kernel.hold_ups import HoldUps, Sightings, since_its_start
from updater.kernel.pid_files import pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.layout import AgentDir
from updater.model.memory import Memory
from updater.model.observed import State
from updater.model.recognised import Recognised
from updater.reconcile import left_behind, stopping
from updater.reconcile.stopping import LEFT_ALONE, wait_for
from updater.wire.heartbeat import Desired
from updater.wire.limits import MAX_EVIDENCE
from updater.wire.names import END

log = logging.getLogger("updater")


class Start:
    """One start of a version.

    memory: of the agent, before the start; begin: called with the version just before its control is run, returns the token.
    """

    def __init__(
        self, host: Host, agent: AgentDir, order: Desired, version: str, memory: Memory, begin: Callable[[str], str]
    ) -> None:
        self._host = host
        self._agent = agent
        self._order = order
        self._version = version
        self._memory = memory
        self._install = agent.install(version)
        self._may_be_up = False
        self._begin = begin
        # The last start of the version, by this turn or cut off; None if there is none:
        self._last: tuple[Mark, int] | None = None
        if memory.begun and memory.is_cut_off(version, host.boot):
            self._last = Mark(memory.begun.token), memory.begun.since
        self._hold_ups = HoldUps(self._install, memory, host.boot, host.config.timeouts.stop, self._own)
        self._held_up_by = self._unburied = frozenset[str]()  # see `HoldUps`, and `doubts.unburied` for zombies
        self._seen = Sightings(self._hold_ups)  # of the last try

    def clear_the_way(self) -> dict[str, frozenset[str]]:
        """Stop the other versions that run; returns version -> processes that still run.

        A start that was left behind is waited for. If it was of this version, the status then tells whether it has succeeded;
        another version that was being started is stopped, even if none of its processes can be recognised.
        """
        found = self._by_version()
        starts = {one for one, several in found.items() if left_behind.under_way(several, self._memory)}
        if self._memory.is_cut_off(self._version, self._host.boot):
            starts.add(self._version)
        for version in starts:
            left_behind.see_through(self._host, self._agent.install(version), self._memory)
        found = self._by_version() if starts else found
        if self._version not in found:
            self._remove_stale_pid_files()
        self._may_be_up = self._version in {*found, *starts} and left_behind.is_started(self._host, self._install)
        doomed = {one for one, several in found.items() if self._is_in_the_way(one, several)}
        left = {one: self._stop(one) for one in sorted(doomed | starts - {self._version})}
        return self._without_leftovers(left) if self._order.leftovers == END else left

    def _without_leftovers(self, left: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        """End what earlier stops have left, as that is ordered by now; returns `left` with what still runs of it."""
        for version, several in self._memory.left.items():
            if version not in left and processes.alive(several):
                log.warning("%s: ending %s", self._order.name, witness.in_words(version, several))
                processes.end(several)
                left[version] = processes.alive(several)
        return left

    def _is_in_the_way(self, version: str, found: Iterable[Process]) -> bool:
        """Whether a version must be stopped: it has more processes than its last stop left, and was not just started."""
        is_up = version == self._version and self._may_be_up
        return not is_up and not {one.identity for one in found} <= self._memory.left.get(version, frozenset())

    def _stop(self, version: str) -> frozenset[str]:
        """Stop a version that must not run; returns its processes that still run.

        Its control is run, unless its status is `stoped` and none of its processes is the agent itself. Processes that are
        the agent itself are ended if they stay, even without `leftovers: end`.
        """
        install, timeouts = self._agent.install(version), self._host.config.timeouts
        deadline, boot = time.monotonic() + timeouts.stop, self._host.boot
        were, itself = stopping.before(install, self._memory, boot), self._itself(version)
        log.warning(
            "%s: stopping a version that must not run: %s", self._order.name, witness.in_words(version, were.every)
        )
        try:
            can_stop = durable_files.is_executable_file(install / "control")
            misleading = doubts.misleading(Table(), install, self._memory.known(version), boot)
            can_stop = can_stop and all(map(processes.is_dead, misleading.values()))
            if can_stop and (itself or control_script.status(install, timeouts.status).state is not State.STOPPED):
                control_script.run(install, "stop", timeouts.stop, mark=were.mark)
                wait_for(install, State.STOPPED, timeouts.status, min(deadline, time.monotonic() + LEFT_ALONE))
        except ControlFailed as e:
            log.warning("%s: %s", self._order.name, e)
        left = stopping.see_out(were, self._order, deadline)
        if stays := left & (itself | self._itself(version)):
            log.warning("%s: ending %s", self._order.name, witness.in_words(version, stays))
            processes.end(stays)
            left = stopping.left(were)
        return left

    def _itself(self, version: str) -> frozenset[str]:
        """The processes of a version that are the agent itself, so that it would run twice after a start."""
        table, install = Table(), self._agent.install(version)
        itself = witness.itself(table, install, self._memory.known(version), self._host.boot)
        return itself - self._memory.left.get(version, frozenset())

    def _by_version(self) -> dict[str, list[Process]]:
        return witness.by_version(Table(), self._agent.path, self._memory, self._host.boot)

    def _remove_stale_pid_files(self) -> None:
        """Remove pid files that make the status `started` although the version does not run.

        They name a zombie. They may also name another program's process or none, if the version's processes can be recognised
        and none exists, or if the pid was reused by another agent.
        """
        table, install, known = Table(), self._install, self._memory.known(self._version)
        found = doubts.misleading(table, install, known, self._host.boot)
        are_others = self._was_placed() or doubts.names_another_s(table, install)
        lies = {path: pid for path, pid in found.items() if are_others or processes.is_dead(pid)}
        if self._was_placed() or doubts.names_the_gone(install, known):
            lies |= doubts.gone(install, known)
        status = control_script.status(install, self._host.config.timeouts.status) if lies else None
        if status is None or status.state is not State.STARTED:
            return
        for path, pid in lies.items():
            log.warning("%s names %s, which is not its process: removed", path, processes.in_words(str(pid)))
            durable_files.remove_tree(path)

    def _was_placed(self) -> bool:
        """Whether the version's processes can be recognised by its directory, see Recognised."""
        known = self._memory.known(self._version)
        return known is not None and known.placed

    def run(self, patient: bool = False, departing: Mapping[str, frozenset[str]] = MappingProxyType({})) -> Recognised:
        """Start the version; returns its processes. Raises ControlFailed if it is not started in time.

        Raises TryLater instead while that may be due to a stopped version that takes long to end (`HoldUps`). Raises PortTaken
        if others hold a port that the version before had, or did so at a look during the last try.
        patient: first wait for other versions' processes; departing: version -> those that its stop may still be ending.
        """
        self._hold_ups = dataclasses.replace(self._hold_ups, departing=departing)
        if patient:
            processes.wait_until_gone(frozenset().union(*self._others().values()), self._patience())
            self._held_up_by = self._hold_ups.await_end(self._ports())
        found, problem = (None, "is not started") if self._held_up_by else self._tried()
        if found:
            return found
        evidence = control_script.tail(self._output, MAX_EVIDENCE)
        taken = self._hold_ups.in_words(self._ports()) or self._seen.words
        problem = f"{self._version} {'; '.join(filter(None, (problem, taken)))}"
        if lingering := self._unburied or self._held_up_by or self._hold_ups.lingering(self._ports()):
            ends = ", ".join(sorted(one.partition(".")[0] for one in lingering))
            gone = f"was reaped by its parent: {doubts.REAPED_BY}" if self._unburied else "has ended"
            raise TryLater(f"{problem}; tried again when process {ends} {gone}", evidence=evidence)
        if self._hold_ups.taken() or self._seen.are_strange:
            raise PortTaken(f"{problem}; tried again in each cycle", evidence)
        raise ControlFailed(problem, evidence)

    def _tried(self) -> tuple[Recognised | None, str]:
        """One try, and a second one if others may have kept the first from it; result as of `_once`."""
        crowd, services, lingered = _in_words(self._left()), self._services(), processes.alive(self._memory.lingering)
        found, problem = self._once()
        if problem and (crowd or services or self._others() or lingered or self._seen.are_over()):
            found, problem = self._once_more(problem, crowd, services)
        return found, problem

    def _once_more(
        self, problem: str, crowd: str, services: Mapping[str, frozenset[str]]
    ) -> tuple[Recognised | None, str]:
        """A second try, once the other versions' processes have ended; result as of `_once`.

        problem: of the first try; crowd: the other versions' processes before it, in words; services: the result of
        `_services`. Those may hold a port that the agent needs, and are waited for too, but may stay.
        """
        others, deadline, lingering = self._others(), self._patience(), self._hold_ups.lingering(self._ports())
        here = _in_words(others) or crowd or _in_words(services, "in") or self._seen.words or "it ends"
        log.warning("%s: %s %s, while %s", self._order.name, self._version, problem, here)
        self._held_up_by = self._hold_ups.await_end(self._ports())
        stay = self._held_up_by or processes.wait_until_gone(frozenset().union(*others.values()), deadline)
        if self._held_up_by or (stay and not lingering and not self._seen.words):
            return None, "; ".join(filter(None, (problem, _in_words(self._others()))))
        processes.wait_until_gone(frozenset().union(*services.values()), deadline)
        self._may_be_up = True
        return self._once()

    def hold_ups(self, memory: Memory) -> HoldUps:
        """What may keep the version from running after its start. memory: of the agent by now."""
        return dataclasses.replace(self._hold_ups, memory=memory, sighted=self._seen.words)

    def _services(self) -> dict[str, frozenset[str]]:
        """Version -> living processes that may belong to the agent, but are not recognised as its own."""
        found = witness.services_by_version(Table(), self._agent.path, self._memory, self._host.boot)
        for version, several in self._hold_ups.departing.items():
            if lives := processes.alive(several):
                found[version] = found.get(version, frozenset()) | lives
        return found

    def _patience(self) -> float:
        """Until when to wait for other versions' processes, monotonic seconds. It is short if leftovers may stay."""
        stop = self._host.config.timeouts.stop
        return time.monotonic() + (stop if self._order.leftovers == END else min(LEFT_ALONE, stop))

    @property
    def _output(self) -> Path:
        return self._host.layout.output(self._order.name)

    def _ports(self) -> frozenset[int]:
        """The ports that its output says are in use."""
        return start_output.ports_in_use(control_script.tail(self._output, MAX_EVIDENCE))

    def _once(self) -> tuple[Recognised | None, str]:
        """One try; returns (its processes, "") or (None, why it is not started)."""
        limits, problem = self._host.config.timeouts, ""
        deadline = time.monotonic() + limits.start
        if not (self._may_be_up and left_behind.is_started(self._host, self._install)):
            self._seen = Sightings(self._hold_ups)
            self._seen.look()
            since, mark = witness.ticks(), Mark(self._begin(self._version))
            self._last = mark, since
            try:
                control_script.run(self._install, "start", limits.start, self._output, mark)
            except ControlFailed as e:
                problem = str(e)
        deadline = time.monotonic() if problem else deadline
        status = wait_for(self._install, State.STARTED, limits.status, deadline, self._seen.look)
        if status.state is not State.STARTED:
            return None, f"not started within {limits.start:g} s: {problem or f'its status is {status.text!r}'}"
        table = Table()
        found = self._found(table)
        # Without pid files and without processes in its directory, the version runs elsewhere and cannot be recognised.
        stays = pid_files(self._install) or witness.at_home(table, self._install, found, self._host.boot)
        found = found.started_after(self._memory.known(self._version), bool(stays))
        dead = frozenset() if found.processes else doubts.unburied(self._install, self._memory, self._host.boot)
        if dead and not (dead := doubts.still_unburied(dead)):  # the start may have taken them for the agent
            status = control_script.status(self._install, limits.status)
        but_none = ", but none of its processes exists" if status.state is State.STARTED else ""
        is_lost = not found.processes and (found.placed or doubts.names_the_dead(self._install))
        is_doubtful = bool(dead) or (is_lost and not self._is_given_time())
        if not but_none or (is_doubtful and not doubts.may_be_up(table, self._install)):
            self._unburied = dead
            return None, f"not started: its status is {status.text!r}{but_none}"
        return found, ""

    def _found(self, table: Table) -> Recognised:
        """The processes of the last start. A version that was found started keeps what is remembered of it."""
        if self._last is None:
            return witness.seen(table, self._install, self._memory.known(self._version), self._host.boot)
        mark, since = self._last
        return witness.started(table, self._install, mark, since, self._host.boot)

    def _own(self, table: Table) -> frozenset[str]:
        return since_its_start(self._found(table))

    def _is_given_time(self) -> bool:
        """Whether this is a start within the watch because no process was found; `trial` judges after several looks."""
        trial = self._memory.trial
        return trial is not None and trial.version == self._version and trial.lost > 0 and not trial.failure

    def _others(self) -> dict[str, frozenset[str]]:
        """Version -> living processes, of the other versions."""
        here = self._left()
        for version, several in self._by_version().items():
            if version != self._version:
                here[version] = here.get(version, frozenset()) | {one.identity for one in several}
        return here

    def _left(self) -> dict[str, frozenset[str]]:
        """The same, but only the processes that the memory knows."""
        here = {version: processes.alive(left) for version, left in self._memory.left.items()}
        return {version: left for version, left in here.items() if left and version != self._version}


def _in_words(left: Mapping[str, frozenset[str]], by: str = "of") -> str:
    return "; ".join(witness.in_words(version, several, by) for version, several in sorted(left.items()))
