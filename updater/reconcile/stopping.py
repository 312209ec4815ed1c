"""A version goes: its own control is asked, and what the kernel knows of its processes says when it is gone.

Promises: after the control has said `stoped`, the version's main processes have a while to end: `LEFT_ALONE` seconds, or with
`leftovers: end` what is left of `timeouts.stop`, after which they get TERM and KILL. Only recognised processes are ever
signalled, and what is left is returned. A version whose processes have ended when it says so is not waited for.
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
from updater.kernel import processes, witness
from updater.kernel.agent_environment import Mark, new_token
from updater.kernel.pid_files import own_files, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model import observed
from updater.model.actions import Action
from updater.model.memory import Memory
from updater.model.observed import State
from updater.model.recognised import Recognised
from updater.wire.heartbeat import Desired
from updater.wire.names import END
from updater.wire.text import one_line

log = logging.getLogger("updater")

EVIDENCE = 2000  # characters of a control script's output in an outcome
LEFT_ALONE = 5.0  # seconds after a stop for which the main processes are waited for where they are not to be ended


def wait_for(
    install: Path, state: State, limit: float, deadline: float, in_vain: Callable[[], bool] = lambda: False
) -> observed.Status:
    """Ask for the status until it is the wanted one, or to ask is in vain, or the deadline (monotonic seconds) is over; at
    least once. limit: seconds that one answer may take."""
    pause = 0.01
    while True:
        answer = control_script.status(install, min(limit, max(deadline - time.monotonic(), 1.0)))
        left = deadline - time.monotonic()
        if answer.state is state or left <= 0 or in_vain():
            return answer
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.5)


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a version's own processes (identities) just before it was stopped. near: those that are the version
    rather than what it started for others; known: with the mark that its stop gets too, so that what that leaves is known;
    alone: no other version of the agent had any; services: what is merely there and is waited for too; named: what else its
    pid files named, with the file."""

    install: Path
    every: frozenset[str]
    near: frozenset[str]
    main: frozenset[str]
    known: Recognised
    alone: bool
    services: frozenset[str] = frozenset()
    named: Mapping[str, Path] = field(default_factory=dict)

    @property
    def mark(self) -> Mark:
        return Mark(self.known.token)

    def is_dead(self) -> bool:
        """Whether all of them have ended, and its pid file names one that is not buried."""
        return bool(self.every) and not processes.alive(self.every) and witness.names_the_dead(self.install)

    def departing(self) -> frozenset[str]:
        """What lives of that which its pid files named, where its stop has taken it out of its file, or the file is the agent's
        own: other files may be its books. It is waited for, and never signalled."""
        now, own = pid_files(self.install), own_files(self.install)
        named = {one for one, file in self.named.items() if file in own or str(now.get(file)) != one.partition(".")[0]}
        return processes.alive(named)


def bring_down(were: Before, order: Desired, timeouts: Timeouts, manner: Action) -> frozenset[str]:
    """Stop a version. manner: how; returns what is left of it. Raises ControlFailed when it does not stop."""
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
    """Have the version's own control stop it. deadline: monotonic seconds. Raises ControlFailed when it does not say that it
    has, in time, but for one that takes a dead process, which is not buried, for a running one."""
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
            f"{install.name} did not stop within {timeouts.stop:g} s: {problem}", one_line(said, EVIDENCE)
        )


def ask_unheard(were: Before, order: Desired, timeouts: Timeouts, deadline: float) -> None:
    """The same for a version whose status says neither word: it is gone when its main processes have ended, of which some must
    have been recognised now, or before by where they were, and nothing else may be it. Where leftovers are to be ended, these
    are, at the deadline. Raises ControlFailed."""
    version, known, said, problem = were.install.name, were.known, "", ""
    if not were.every and not (known.placed or known.pid_files):
        raise ControlFailed(f"{version} cannot be known to be gone: none of its processes has ever been recognised")
    try:
        if not witness.misleading(Table(), were.install, known, known.boot):
            said = control_script.run(were.install, "stop", timeouts.stop, mark=were.mark)
    except ControlFailed as e:
        problem = f"{e}; "
    left = processes.wait_until_gone(were.main, deadline)
    if left and order.leftovers == END:
        left = end(were, order) & left
    if left:
        problem += witness.in_words(version, left)
        raise ControlFailed(f"{version} did not stop within {timeouts.stop:g} s: {problem}", one_line(said, EVIDENCE))
    if witness.may_be_up(Table(), were.install):
        raise ControlFailed(
            f"{version} cannot be known to be gone: {problem}something may be it that is not known to be"
        )


def before(install: Path, memory: Memory, boot: str) -> Before:
    """Look at the processes of an install that is to be stopped. memory: of its agent."""
    table, known = Table(), memory.known(install.name) or Recognised(install.name, boot)
    if known.boot != boot:
        known = Recognised(install.name, boot, placed=known.placed, pid_files=known.pid_files)
    found = witness.recognise(table, install, known, boot)
    near = witness.near_processes(table, found, install, known)
    main = witness.main_processes(table, found, install, known)
    every, services = _identities(found), witness.services(table, install, known, boot)
    alone = not witness.by_version(table, install.parent, memory, boot, but=install.name)
    if not known.token:
        # Of no start of ours: nothing tells when what it has may have begun.
        known = replace(known, token=new_token(install.parent.name), since=0)
    named = {one.identity: file for one, file in witness.named(table, install) if one.identity not in every}
    return Before(install, every, near, main, replace(known, processes=every), alone, services, named)


def see_out(were: Before, order: Desired, deadline: float) -> frozenset[str]:
    """Wait until the version is gone, after its control has said so; returns what is left of it. deadline: monotonic seconds,
    when the stop is to be over. What was forked meanwhile is seen where anything is left; else `left` sees it later."""
    ends, soon = order.leftovers == END, time.monotonic() + LEFT_ALONE
    remaining = processes.wait_until_gone(were.main, deadline if ends else soon)
    processes.wait_until_gone(were.services | were.departing(), soon)
    if not remaining and not processes.alive(were.every):
        return frozenset()
    return end(were, order) if ends else left(were)


def late(were: Before, order: Desired) -> frozenset[str]:
    """What is left of a version that was stopped some time ago, also of what it began meanwhile, after that was ended where
    leftovers are."""
    return end(were, order) if order.leftovers == END else left(were)


def left(were: Before) -> frozenset[str]:
    """What lives of the version now, with what it has started while it was stopped."""
    return _identities(_recognised(Table(), were))


def end(were: Before, order: Desired) -> frozenset[str]:
    """End what is recognised of the version, but for what it started for others where leftovers are left alone; returns what is
    left."""
    for _ in range(2):  # what was just being started may have been missed
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
    """What lives of the version now, with what was known before."""
    return witness.recognise(table, were.install, were.known, were.known.boot)


def _identities(found: Iterable[Process]) -> frozenset[str]:
    return frozenset(one.identity for one in found)
