"""Performs single actions on the host. If one is interrupted anywhere, the next plan can continue from there.

The order of writes makes this safe. An install gets its marker before its name (`artifact.installing`). A switch is remembered
as a trial before `.version` changes. A rejection is remembered before the version is rolled back, if it can be, and told
after that.
"""

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from updater import durable_files, places
from updater.artifact import download, installing, kept_tarball
from updater.errors import ControlFailed, Interrupted, PortTaken, Refused, TryLater, UpdaterError
from updater.host import control_script, operator_requests
from updater.host.context import Host
from updater.kernel import agent_environment, witness
from updater.kernel.processes import Table
from updater.meta_client import heartbeats
from updater.model.actions import Action, Source, Step
from updater.model.layout import MARKER
from updater.model.memory import WATCH, Memory
from updater.model.observed import Marker
from updater.model.unfit import Unfit
from updater.reconcile import left_behind, starting, stopping
from updater.reconcile.checked_status import last_look
from updater.self_update import handover
from updater.wire.heartbeat import ROLLED_BACK, Desired, Outcome
from updater.wire.limits import MAX_EVIDENCE
from updater.wire.names import START
from updater.wire.text import one_line

log = logging.getLogger("updater")

_BEGINS = (Step.REJECT, Step.STOP, Step.SWITCH, Step.START)


class Executor:
    """Performs the actions of one agent's turn and updates its memory. source: of the order."""

    def __init__(self, host: Host, order: Desired, source: Source) -> None:
        self.host = host
        self.order = order
        self.source = source
        self.agent = host.layout.agent(order.name)
        self.put_off: Callable[[UpdaterError], None] = lambda _why: None  # see download.Terms
        self.remarks: list[str] = []  # added to the reason of the outcome
        self.taken = ""  # the same: who holds ports of what was started
        self.has_begun = False  # whether the agent may be down, so that the turn goes on until some version runs
        self._checked = ""  # the version whose directory was checked
        self._stopped: list[stopping.Before] = []  # the versions that were stopped in this turn
        # Version -> processes that its stop in this turn may still be ending:
        self._departing: dict[str, frozenset[str]] = {}
        self._marks: dict[str, str] = {}  # version -> token of its starts in this turn
        self._is_alone = False  # whether no version of the agent has processes now, as after a complete stop
        self._does: dict[Step, Callable[[Action], None]] = {
            Step.REJECT: self._reject,
            Step.INSTALL: self._install,
            Step.ADOPT: self._adopt,
            Step.STOP: self._stop,
            Step.SWITCH: self._switch,
            Step.START: self._start,
            Step.PRUNE: self._prune,
            Step.HAND_OVER: self._hand_over,
            Step.NAME: self._name,
        }

    def perform(self, action: Action) -> None:
        """Perform the action. Raises UpdaterError."""
        if not self.has_begun:
            self._check_order_and_hold()
        if action.step in (Step.STOP, Step.SWITCH) and self.order.cmd == START:
            self._check_place(action)
        self.has_begun |= action.step in _BEGINS and action.essential  # not where only what ran before is kept running
        self._does[action.step](action)

    def _check_order_and_hold(self) -> None:
        """Raise Interrupted if the order is not in force any more, or a person holds the agent by now."""
        self.host.check_order(self.order)
        if held := operator_requests.held(self.host.layout, self.order.name):
            raise Interrupted(f"held: {held}")

    def _check_place(self, action: Action) -> None:
        """Raise an UpdaterError if the target's directory cannot be used, before the first stop or switch of the turn."""
        version = action.version if action.step is Step.SWITCH else self._target
        if version != self._checked:
            places.check(self.agent.install(version))
            self._checked = version

    @property
    def _target(self) -> str:
        """The version that is to run after a stop."""
        goes_back = self.memory.rejected or self.memory.is_given_up
        return self.memory.back if goes_back else self.order.version

    @property
    def memory(self) -> Memory:
        return self.host.memories.of(self.order.name)

    def remember(self, how: Callable[[Memory], Memory]) -> Memory:
        """Change the agent's memory durably; returns the new one. Raises TryLater."""
        return self.host.memories.change(self.order.name, how)

    def note(self, how: Callable[[Memory], Memory]) -> Memory:
        """The same, but if it cannot be written, log that and go on. A crash may then cost another try of a bad version."""
        self.host.memories.note(self.order.name, how)
        return self.memory

    def _remember_toward(self, version: str, how: Callable[[Memory], Memory]) -> bool:
        """Change the memory before a step toward this version; returns whether it was written.

        Only a way back goes on if it was not: else raises TryLater.
        """
        if version == self.memory.back:
            return self.host.memories.note(self.order.name, how)
        self.remember(how)
        return True

    def _install(self, action: Action) -> None:
        timeouts = self.host.config.timeouts
        places.check(self.agent.path)
        expected = download.expected_digest(self.host.http, self.order, timeouts.heartbeat)
        digest = expected.kind, expected.digest, expected.source
        log.info("%s: %s must have %s %s (%s)", action.agent, self.order.file_name, *digest)
        if (unfit := self.memory.unfit) and (unfit.digest, unfit.terms) == (expected.named, self.host.terms):
            raise Refused(unfit.reason)
        path = self.host.layout.download(action.agent, self.order.file_name)
        install = self.agent.install(action.version)
        if lacking := kept_tarball.still_lacking(path, expected, self._programs(install), install):
            raise installing.Lacking(installing.cannot_run(action.version, lacking))
        check = partial(self.host.check_order, self.order)
        terms = download.Terms(timeouts.download, self.host.config.min_speed, check, put_off=self.put_off)
        with contextlib.ExitStack() as stack:
            fetched = stack.enter_context(kept_tarball.kept(path, expected))
            if fetched is None:
                fetched = stack.enter_context(download.fetch(self.host.http, self.order, expected, path, terms))
            self._use(fetched, action.version, expected)

    def _use(self, fetched: download.Fetched, version: str, expected: download.Expected) -> None:
        """Install a verified tarball.

        If the host is the reason of a failure, the tarball is kept for the next try. If its content is refused, that is
        remembered, so that it is not downloaded again.
        """
        path = self.host.layout.download(self.order.name, self.order.file_name)
        staging = self.agent.staging(version)
        if version == self.memory.current:  # its files were lost: if what runs ends by that, the version has not failed
            self.note(lambda memory: memory.stopping(version))
        try:
            programs = self._programs(self.agent.install(version))
            installing.lay_out(fetched, self.agent, version, self.host.config.limits, programs, self.host.now())
        except installing.Lacking:
            kept_tarball.keep_head(staging / "control", path, expected)
            raise
        except TryLater:
            kept_tarball.give_way(path)
            raise
        except Refused as e:
            unfit = Unfit(version, expected.named, str(e), self.host.terms, self.order.attempt)
            self.note(lambda memory: msgspec.structs.replace(memory, unfit=unfit))
            durable_files.remove_tree(path.parent)
            raise
        finally:
            durable_files.remove_tree(staging)
        durable_files.remove_tree(path.parent)
        if self.memory.unfit:  # it was about other bytes of this version, or the terms have changed
            self.note(lambda memory: msgspec.structs.replace(memory, unfit=None))

    def _programs(self, install: Path) -> str:
        """The PATH of an install's scripts."""
        return control_script.environment(install).names["PATH"]

    def _adopt(self, action: Action) -> None:
        marker = Marker(at=int(self.host.now()))
        durable_files.write_atomic(self.agent.install(action.version) / MARKER, msgspec.json.encode(marker))

    def _stop(self, action: Action) -> None:
        install = self.agent.install(action.version)
        after_look = last_look(self.host, self.order, self.memory, action)
        if not self._remember_toward(self._target, lambda memory: after_look(memory).stopping(action.version)):
            self._name(action)  # as it is: if the switch will fail too, nothing is stopped for it
        if self.memory.is_cut_off(action.version, self.host.boot):
            left_behind.see_through(self.host, install, self.memory)
        were = stopping.before(install, self.memory, self.host.boot)
        if were.every:
            is_proven = action.version == self.memory.good or not self.memory.good
            self.note(lambda memory: memory.giving_up_ports(action.version, were.ports, is_proven))
        if not action.forced:
            # An updater may have been killed after it wrote the marker and before it synced.
            durable_files.keep_names(install)
        left = stopping.bring_down(were, self.order, self.host.config.timeouts, action)
        self._stopped.append(were)
        self._departing[action.version] = were.departing()
        self._is_alone = were.alone and not left
        self._note_left(action.version, left, "", were.main)

    def note_late_processes(self) -> None:
        """Look once more at the versions that were stopped in this turn: they may have started processes since."""
        while self._stopped:
            were = self._stopped.pop()
            version, known = were.install.name, self.memory.left.get(were.install.name, frozenset())
            if (left := stopping.late(were, self.order)) != known:
                self._note_left(version, left, "" if known else self.memory.remark, were.main)

    def _note_left(self, version: str, left: frozenset[str], before: str, main: frozenset[str] = frozenset()) -> None:
        """Remember and log which processes a version left. before: the remark so far; main: its main ones at the stop."""
        words = witness.in_words(version, left)
        remark = "; ".join(filter(None, (before, words)))
        memory = self.memory
        if words or version in memory.left or remark != memory.remark or memory.is_cut_off(version, self.host.boot):
            self.note(lambda memory: memory.leaving(version, left, remark, main, witness.ticks()))
        if words:
            log.warning("%s: %s", self.order.name, words)
            self.remarks.append(words)

    def _name(self, action: Action) -> None:
        durable_files.write_atomic(self.agent.version_file, f"{action.version}\n".encode())

    def _switch(self, action: Action) -> None:
        begun = self._beginning(action.version)
        self._remember_toward(action.version, lambda memory: begun(memory.switching(action.replaces, action.version)))
        self._name(action)
        if self.memory.taking_back:
            self.note(lambda memory: memory.switched_to(action.version))

    def _beginning(self, version: str) -> Callable[[Memory], Memory]:
        """The change of the memory before a start of this version. All tries of a turn use the same mark."""
        token, since = self._marks.setdefault(version, agent_environment.new_token(self.order.name)), witness.ticks()
        return lambda memory: memory.beginning(version, self.host.boot, token, since)

    def _begin(self, version: str) -> str:
        """Remember a start of this version, which is run next, unless the switch has; returns the token of its mark."""
        if version not in self._marks or not self.memory.is_cut_off(version, self.host.boot):
            self.note(self._beginning(version))
        return self._marks[version]

    def _start(self, action: Action) -> None:
        memory = self.memory.ended(action.version) if action.version in self._marks else self.memory
        start = starting.Start(self.host, self.agent, self.order, action.version, memory, self._begin)
        if not self._is_alone:
            for version, left in start.clear_the_way().items():
                self._note_left(version, left, self.memory.remark)
        if action.forced:
            self.note(lambda memory: memory.trying_again(action.version))
        try:
            found = start.run(action.forced, self._departing)
        except ControlFailed as e:
            self.note_late_processes()
            reason, evidence = str(e), e.evidence
            self.note(lambda memory: memory.failed(action.version, reason.partition(" ")[2], evidence))
            raise
        except PortTaken:
            self.note(lambda memory: memory.ended(action.version))
            raise
        holds, moment = start.hold_ups(self.memory), self.host.moment()
        held_up, self.taken = (holds.why(Table()), "") if self.memory.is_on_trial else ("", holds.in_words())
        begun = partial(Memory.started_again, version=action.version, moment=moment, held_up=held_up)
        self.note(lambda memory: begun(memory).restarted(action.version, moment).recognising(found))
        self.note_late_processes()

    def _prune(self, action: Action) -> None:
        doomed = self.agent.path / action.version
        left, there = witness.visitors(doomed, self.memory.known(action.version), self.host.boot)
        if left or there:
            self.remember(lambda memory: memory.leaving(action.version, left).finding(action.version, there))
            words = witness.in_words(action.version, left) or witness.in_words(action.version, there, by="in")
            raise TryLater(f"{doomed} is not removed now: {words}")
        if action.version.startswith("."):
            durable_files.remove_tree(doomed)
        else:
            durable_files.remove_directory(doomed, MARKER)

    def _hand_over(self, action: Action) -> None:
        try:
            handover.try_out(self.host, self.agent.install(action.version), self.host.config.timeouts.start)
        except ControlFailed as e:
            if not heartbeats.is_reachable(self.host):
                raise TryLater(f"meta does not answer, so {action.version} could not be tried out") from e
            reason, said = f"its try-out failed: {e}", one_line(e.evidence, MAX_EVIDENCE)
            self.remember(lambda memory: memory.rejecting(self.order, reason))
            raise ControlFailed(f"{action.version} does not take over, {reason}", said) from e
        self._switch(action)
        self.host.successor = action.version

    def _reject(self, action: Action) -> None:
        trial, output = self.memory.trial, self.host.layout.output(action.agent)
        evidence = (trial and trial.evidence) or control_script.tail(output, MAX_EVIDENCE)
        step = "start" if trial and trial.failure else WATCH
        what = action.agent, action.replaces, action.version, step, ROLLED_BACK, action.reason, evidence
        outcome = Outcome(*what, at=int(self.host.now()))
        if action.version != self.order.version:  # it was ordered before
            self.note(lambda memory: memory.given_up(action.version, action.reason).with_way_back(outcome))
            return
        outcome = msgspec.structs.replace(outcome, attempt=self.order.attempt)
        told, order = self.host.told, self.order
        self.note(lambda memory: memory.rejecting(order, action.reason).with_way_back(told(outcome, order)))
