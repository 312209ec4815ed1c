"""Where a status may be wrong: pid files that name no process of an install, and what may be the agent though unrecognised."""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from updater.kernel import processes, witness
from updater.kernel.agent_environment import MARK
from updater.kernel.ownership.owner import Owner
from updater.kernel.pid_files import is_older, own_files, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.memory import Memory
from updater.model.recognised import Guess, Recognised

# What helps where a process that inherits orphans reaps none:
REAPED_BY = "run the container with --init, or below a supervisor that reaps what it inherits"
_REAPED_WITHIN = 1.0  # seconds
_PAUSE = 0.05  # seconds between two looks


def named(table: Table, install: Path) -> list[tuple[Process, Path]]:
    """The processes that the pid files of an install name, no matter who owns them, each with its file.

    A pid file that is older than the process is skipped, since the pid was reused.
    """
    found = [(table.by_pid.get(pid), file) for file, pid in pid_files(install).items() if pid != os.getpid()]
    return [(one, file) for one, file in found if one and not is_older(file, one)]


def strangers(table: Table, install: Path, found: Iterable[Process]) -> dict[Path, int]:
    """The pid files of an install that name a process which certainly is not its own, or a zombie; with the pid."""
    own = {one.pid for one in found}
    named = {path: pid for path, pid in pid_files(install).items() if pid not in own}
    return {path: pid for path, pid in named.items() if _is_strange(table, install, pid)}


def misleading(table: Table, install: Path, known: Recognised | None, boot: str) -> dict[Path, int]:
    """The `strangers` among the pid files that the version's control probably relies on.

    These are `pid`, NAME.pid, and files that have named a process of the version before. Other pid files may name processes
    that the agent runs for others.
    """
    own = set(own_files(install))
    if known and known.version == install.name:
        own |= {install / name for name in known.pid_files}
    found = strangers(table, install, witness.recognise(table, install, known, boot))
    return {path: pid for path, pid in found.items() if path in own}


def names_another_s(table: Table, install: Path) -> bool:
    """Whether the agent's own pid file names a younger process that is another agent's, so that its pid was reused."""
    numbers, owner = pid_files(install), Owner(table, install)
    named = [(file, table.by_pid.get(numbers.get(file, 0))) for file in own_files(install)]
    return any(one is not None and is_older(file, one) and owner.is_another_s(one) for file, one in named)


def _is_strange(table: Table, install: Path, pid: int) -> bool:
    if process := table.by_pid.get(pid):
        return not table.is_closed(process) and not Owner(table, install).may_be_named(process)
    return processes.is_dead(pid) or processes.is_thread(pid)


def may_be_up(table: Table, install: Path) -> bool:
    """Whether an unrecognised process may be the agent: started by a person, from another directory, or hidden from us.

    If pid files name processes, only these are considered.
    """
    pids = set(pid_files(install).values())
    named = [table.by_pid[pid] for pid in pids if pid in table.by_pid]
    if any(table.is_closed(one) for one in named) or any(map(processes.is_hidden, pids)):
        return True
    if not named and any(map(processes.is_dead, pids)):
        return False
    owner, ourselves = Owner(table, install), os.getpid()
    if named:
        return any(map(owner.may_be_named, named))
    others = [one for one in table.by_pid.values() if one.pid != ourselves]
    return any(owner.may_be_it(one, strictly=bool(pids)) and not owner.is_transient(one) for one in others)


def is_coming_up(table: Table, install: Path, known: Recognised | None, boot: str, since: int) -> bool:
    """Whether anything that was started at `since` (clock ticks) or later is, or may be, the version."""
    owner, ourselves = Owner(table, install, witness.of_now(known, install, boot)), os.getpid()
    everything = [one for one in table.by_pid.values() if int(one.start) >= since]
    young = [one for one in everything if one.pid != ourselves and not owner.is_transient(one)]
    own = {one.pid for one in owner.own()}
    return any(one.pid in own or owner.may_be_named(one) or owner.may_be_it(one) for one in young)


def names_the_dead(install: Path) -> bool:
    """Whether a pid file names a zombie, which `kill -0` takes for a running process."""
    return any(map(processes.is_dead, pid_files(install).values()))


def is_unreaped(install: Path) -> bool:
    """Whether the agent itself, as its own pid files name it, is a zombie; others of its processes may live."""
    named = _own_numbers(install)
    return bool(named) and all(map(processes.is_dead, named))


def _own_numbers(install: Path) -> set[int]:
    """The pids in the agent's own pid files."""
    numbers = pid_files(install)
    return {numbers[file] for file in own_files(install) if file in numbers}


def names_the_gone(install: Path, known: Recognised | None) -> bool:
    """Whether the pid files that tell of the version's last start name processes of it only that do not exist any more.

    known: what was recognised at that start, of which nothing lives. Those are the files that have named its processes, or the
    agent's own files if they were written since. So it has neither settled in its install nor moved away: it has ended.
    """
    if known is None:
        return False
    numbers, ended = pid_files(install), {int(one.partition(".")[0]) for one in known.processes}
    told = {install / name for name in known.pid_files}
    told |= {file for file in own_files(install) if file in numbers and _is_written_since(file, known.since)}
    named = {numbers[file] for file in told if file in numbers}
    return bool(named) and all(pid in ended or not processes.is_in_use(pid) for pid in named)


def gone(install: Path, known: Recognised | None) -> dict[Path, int]:
    """The pid files of `names_the_gone`, and the agent's own, as far as they name no process; with the pid."""
    files = {*own_files(install), *(install / name for name in (known.pid_files if known else ()))}
    return {file: pid for file, pid in pid_files(install).items() if file in files and not processes.is_in_use(pid)}


def _is_written_since(file: Path, since: int) -> bool:
    """Whether a file was written at `since` (clock ticks since the boot) or later, which is not 0."""
    try:
        return since > 0 and file.stat().st_mtime >= time.time() - witness.seconds_since(since)
    except OSError:
        return False


def still_unburied(dead: frozenset[str]) -> frozenset[str]:
    """Those of these zombies that are not reaped within a moment: on a busy host, the first process takes its time."""
    deadline = time.monotonic() + _REAPED_WITHIN
    while (dead := frozenset(filter(processes.zombie, dead))) and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return dead


def unburied(install: Path, memory: Memory, boot: str) -> frozenset[str]:
    """Zombies of the last starts of an install's agent, if nothing else is left of these; `kill -0` takes one for running.

    If the agent's own pid files name processes, zombies that these do not name make no status.
    Empty if the agent may go on without the mark of its start, as a process below the same parent (`_may_go_on`). That is
    younger than a zombie that had left the session of the start, or, as others may have been helpers, than the start. It may
    be older if that start was made although its status was `started` (`Guess.SPENT`).
    """
    starts = [one for one in (memory.running, memory.begun) if one and one.boot == boot]
    known = frozenset[str]().union(*(one.processes for one in starts))
    dead, sessions = [one for one in map(processes.zombie, known) if one], {one.session for one in starts}
    if own := _own_numbers(install):
        dead = [one for one in dead if one.pid in own]
    if not dead or any(map(processes.is_alive, known)):
        return frozenset()
    begun = min(one.since for one in starts)
    was_up = any(one.guess is Guess.SPENT for one in starts)
    since = min((int(one.start) for one in dead if one.session not in sessions), default=0 if was_up else begun)
    table, parents = Table(), {one.parent for one in dead} - {os.getpid()}
    below = [one for one in table.by_pid.values() if one.parent in parents and int(one.start) >= since]
    if any(_may_go_on(table, install, one, begun) for one in below):
        return frozenset()
    return frozenset(one.identity for one in dead)


def _may_go_on(table: Table, install: Path, process: Process, begun: int) -> bool:
    """Whether the agent may go on as this process below the zombies' parent. begun: its start, clock ticks since the boot.

    It has no mark and no terminal, and is no other agent's. Its parent has inherited it, or is of the start too: a parent that
    was there before the start has begun itself what is in its own session.
    """
    if process.pid == os.getpid() or process.has_terminal or MARK in table.environment(process):
        return False
    parent = table.by_pid.get(process.parent)
    if parent and parent.session == process.session and int(parent.start) < begun:
        return False
    return not Owner(table, install).is_another_s(process)
