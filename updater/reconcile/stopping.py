"""Stops a version by its own control, then waits until its processes have ended.

After the control reports `stoped`, the main processes have LEFT_ALONE seconds to end. With `leftovers: end` in the order they
have the rest of `timeouts.stop`, and then get TERM and KILL. Only recognised processes are signalled. Identities of
processes that still run are returned.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from updater import durable_files
from updater.errors import ControlFailed
from updater.host import control_script
from updater.host.config import Timeouts
from updater.kernel import doubts, processes, witness
from updater.kernel.agent_environment import Mark, new_token
from updater.kernel.hold_ups import ports_of
from updater.kernel.pid_files import own_files, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model import observed
from updater.model.actions import Action
from updater.model.memory import Memory
from updater.model.observed import State
from updater.model.recognised import Recognised
from updater.wire.heartbeat import Desired
from updater.wire.limits import MAX_EVIDENCE
from updater.wire.names import END
from updater.wire.text import one_line

log = logging.getLogger("updater")

LEFT_ALONE = 5.0  # seconds to wait for the main processes after a stop, if leftovers are not ended


def wait_for(
    install: Path, state: State, limit: float, deadline: float, in_vain: Callable[[], bool] = lambda: False
) -> observed.Status:
    """Ask for the status until it is `state`, or `in_vain` is true, or the deadline is over; at least once.

    limit: seconds for one answer, also for one that is asked shortly before the deadline: cut short, it would tell nothing.
    deadline: monotonic seconds. Returns the last status.
    """
    pause = 0.01
    while True:
        answer = control_script.status(install, limit)
        left = deadline - time.monotonic()
        if answer.state is state or left <= 0 or in_vain():
            return answer
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.5)


@dataclass(frozen=True, slots=True)
class Before:
    """A version's processes just before its stop. Sets hold identities; see `updater.kernel.ownership` for the kinds."""

    install: Path
    every: frozenset[str]  # its own
    near: frozenset[str]  # those of `every` that are the version itself, not started for others
    main: frozenset[str]  # its main processes
    known: Recognised  # with the token that its stop gets too, so that processes of the stop are recognised
    alone: bool  # whether no other version of the agent had processes
    services: frozenset[str] = frozenset()  # processes merely there, which are waited for too
    named: Mapping[str, Path] = field(default_factory=dict)  # other processes that its pid files name -> the file
    ports: frozenset[int] = frozenset()  # on which `near`, and nothing but the version, listens

    @property
    def mark(self) -> Mark:
        return Mark(self.known.token)

    def is_dead(self) -> bool:
        """Whether all its processes have ended, but a pid file names a zombie, so that its status may not be `stoped`."""
        return bool(self.every) and not processes.alive(self.every) and doubts.names_the_dead(self.install)

    def departing(self) -> frozenset[str]:
        """The living processes of `named` that the stop probably ends. They are waited for, but never signalled.

        Either the stop has removed their pid from the file, or the file is the agent's own. Other files may list processes
        that run on.
        """
        now, own = pid_files(self.install), own_files(self.install)
        named = {one for one, file in self.named.items() if file in own or str(now.get(file)) != one.partition(".")[0]}
        return processes.alive(named)


def bring_down(were: Before, order: Desired, timeouts: Timeouts, manner: Action) -> frozenset[str]:
    """Stop a version; returns its processes that still run. Raises ControlFailed if it does not stop.

    manner: the action; its `forced`, `unheard` and `doubtful` say how.
    """
    deadline, install = time.monotonic() + timeouts.stop, were.install
    try:
        if manner.unheard and not manner.forced:
            ask_unheard(were, order, timeouts, deadline)
        elif not manner.forced or durable_files.is_executable_file(install / "control"):
            ask(were, timeouts, deadline)
    except ControlFailed as e:
        if not (manner.forced or manner.doubtful):
            raise
        log.warning("%s: %s", install.parent.name, e)
    if not manner.forced:
        return see_out(were, order, deadline)
    soon, left = time.monotonic() + LEFT_ALONE, end(were, order)
    processes.wait_until_gone(were.departing(), soon)
    return left


def ask(were: Before, timeouts: Timeouts, deadline: float) -> None:
    """Run `./control stop` and wait until the status is `stoped`. deadline: monotonic seconds.

    Raises ControlFailed if it is not, unless only a zombie keeps the status from it (`Before.is_dead`).
    """
    install = were.install
    said, problem = "", ""
    try:
        said = control_script.run(install, "stop", timeouts.stop, mark=were.mark)
    except ControlFailed as e:
        problem = str(e)
    status = wait_for(install, State.STOPPED, timeouts.status, deadline, were.is_dead)
    if status.state is not State.STOPPED and not were.is_dead():
        problem = problem or f"its status is still {status.text!r}"
        raise ControlFailed(
            f"{install.name} did not stop within {timeouts.stop:g} s: {problem}", one_line(said, MAX_EVIDENCE)
        )


def ask_unheard(were: Before, order: Desired, timeouts: Timeouts, deadline: float) -> None:
    """The same for a version with an unknown status: it has stopped when its main processes have ended.

    For that, its processes must be recognised now or have been before, and no other process may belong to it. With
    `leftovers: end` they are ended at the deadline. Raises ControlFailed.
    """
    version, known, said, problem = were.install.name, were.known, "", ""
    if not were.every and not (known.may_be_doubted or known.pid_files):
        raise ControlFailed(f"cannot tell whether {version} has stopped: none of its processes was ever recognised")
    try:
        if not doubts.misleading(Table(), were.install, known, known.boot):
            said = control_script.run(were.install, "stop", timeouts.stop, mark=were.mark)
    except ControlFailed as e:
        problem = f"{e}; "
    left = processes.wait_until_gone(were.main, deadline)
    if left and order.leftovers == END:
        left = end(were, order) & left
    if left:
        problem += witness.in_words(version, left)
        raise ControlFailed(
            f"{version} did not stop within {timeouts.stop:g} s: {problem}", one_line(said, MAX_EVIDENCE)
        )
    if doubts.may_be_up(Table(), were.install):
        raise ControlFailed(
            f"cannot tell whether {version} has stopped: {problem}a process that was not recognised may belong to it"
        )


def before(install: Path, memory: Memory, boot: str) -> Before:
    """Look at the processes of an install that is to be stopped. memory: of its agent; boot: the current one."""
    table, known = Table(), memory.known(install.name) or Recognised(install.name, boot)
    known = known.in_boot(boot)
    found = witness.recognise(table, install, known, boot)
    near = witness.near_processes(table, found, install, known)
    main = witness.main_processes(table, found, install, known)
    every, services = _identities(found), witness.services(table, install, known, boot)
    alone = not witness.by_version(table, install.parent, memory, boot, but=install.name)
    if not known.token:
        # The updater did not start it, so it is unknown when its processes began.
        known = replace(known, token=new_token(install.parent.name), since=0)
    named = {one.identity: file for one, file in doubts.named(table, install) if one.identity not in every}
    ports = ports_of(table, every, near)
    return Before(install, every, near, main, replace(known, processes=every), alone, services, named, ports)


def see_out(were: Before, order: Desired, deadline: float) -> frozenset[str]:
    """Wait for the end of its processes after the status is `stoped`; returns those that still run.

    deadline: of the whole stop, monotonic seconds. If all known ones have ended, new ones are not searched for here; `late`
    does that.
    """
    ends, soon = order.leftovers == END, time.monotonic() + LEFT_ALONE
    remaining = processes.wait_until_gone(were.main, deadline if ends else soon)
    processes.wait_until_gone(were.services | were.departing(), soon)
    if not remaining and not processes.alive(were.every):
        return frozenset()
    return end(were, order) if ends else left(were)


def late(were: Before, order: Desired) -> frozenset[str]:
    """The running processes of a version that was stopped before, with those started since. `leftovers: end` ends them."""
    return end(were, order) if order.leftovers == END else left(were)


def left(were: Before) -> frozenset[str]:
    """The running processes of the version, with those started during its stop."""
    return _identities(_recognised(Table(), were))


def end(were: Before, order: Desired) -> frozenset[str]:
    """End the version's processes; returns those that still run.

    Without `leftovers: end`, those that it started for others are not ended.
    """
    for _ in range(2):  # the first look may miss processes that are just being started
        table = Table()
        found = _recognised(table, were)
        near = witness.near_processes(table, found, were.install, were.known) | were.near
        doomed = _identities(one for one in found if order.leftovers == END or one.identity in near)
        if not doomed:
            break
        log.warning("%s: ending %s", were.install.parent.name, witness.in_words(were.install.name, doomed))
        processes.end(doomed)
    return left(were)


def _recognised(table: Table, were: Before) -> list[Process]:
    """The version's processes now; those known before help to recognise them."""
    return witness.recognise(table, were.install, were.known, were.known.boot)


def _identities(found: Iterable[Process]) -> frozenset[str]:
    return frozenset(one.identity for one in found)
