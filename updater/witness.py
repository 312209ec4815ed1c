"""What the kernel knows of an install's processes: the second witness, beside the words of its `control`.

Promises: only what surely belongs to an install is recognised as its: what lies or works below it, what its last start has left
in its session or marked in its environment, what descends from those, and what its own pid file names and started with it.
Refuses to go by control groups: under one unit all agents and the updater share theirs, so a group tells nothing that is not
known already.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from updater import processes
from updater.layout import MARKER
from updater.memory import Memory, Recognised
from updater.pidfiles import pid_files
from updater.processes import Table
from updater.procfs import Process
from updater.surroundings import MARK, Mark

SETTLED = 10.0  # seconds of life after which a process that works below its install stays there
_INIT = 1
_TICKS = os.sysconf("SC_CLK_TCK")


def ticks() -> int:
    """Now, as the start times of processes are counted."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def age(process: Process) -> float:
    """Seconds that it has lived."""
    return (ticks() - int(process.start)) / _TICKS


def started(table: Table, install: Path, mark: Mark, since: int, boot: str) -> Recognised:
    """What has become of a start just now. since: `ticks()` before it."""
    by_place = table.below(install)
    named = [table.by_pid.get(pid) for pid in pid_files(install).values()]
    by_pid_file = [one for one in named if one and int(one.start) >= since]
    in_session = [one for one in table.by_pid.values() if one.session == mark.session and int(one.start) >= since]
    found = _with_descendants(
        table, [*by_place, *by_pid_file, *in_session, *table.with_variable(MARK, mark.token, since)]
    )
    return _noted(table, found, Recognised(install.name, boot, mark.session, mark.token, since=since))


def seen(table: Table, install: Path, known: Recognised | None, boot: str) -> Recognised:
    """The processes of an install as they are now. known: of its last start, or of the last look."""
    found = recognise(table, install, known, boot)
    is_of_now = known is not None and (known.version, known.boot) == (install.name, boot)
    before = known if known and is_of_now else Recognised(install.name, boot)
    placed = known is not None and known.version == install.name and known.placed
    placed = placed or any(age(one) >= SETTLED for one in table.below(install))
    return _noted(table, found, replace(before, placed=placed))


def recognise(table: Table, install: Path, known: Recognised | None, boot: str) -> list[Process]:
    """All processes of an install. known: see `seen`.

    What a pid file names is one of them also in a terminal, where a person has started it.
    """
    named = [table.by_pid[pid] for pid in pid_files(install).values() if pid in table.by_pid]
    found = table.below(install) + [one for one in named if table.is_below(one, install)]
    if known and (known.version, known.boot) == (install.name, boot):
        here = [one for one in table.by_pid.values() if one.identity in known.processes]
        # A session's number is not given again while one of its processes lives.
        sessions = {one.session for one in here if one.leads_session or one.session == known.session}
        found += here + [one for one in table.by_pid.values() if one.session in sessions]
        found += table.with_variable(MARK, known.token, known.since) if known.token else []
    return _with_descendants(table, found)


def main_processes(table: Table, found: Iterable[Process], install: Path, known: Recognised | None) -> frozenset[str]:
    """Those of an install's processes that are the version itself (identities), not what it started for others: of its last
    start, or below the install, that lead a session, listen or stand in the pid file; when there are no such, all whose
    parent is none of them. Where none is of the start or below, all that were found are looked at: some, if there are any."""
    found = list(found)
    below, of_start = set(table.below(install)), known.processes if known else frozenset()
    named = set(pid_files(install).values())
    candidates = [one for one in found if one in below or one.pid in named or one.identity in of_start] or found
    mains = [one for one in candidates if one.pid in named or one.leads_session or table.ports(one)]
    if not mains:
        pids = {one.pid for one in candidates}
        mains = [one for one in candidates if one.parent not in pids]
    return frozenset(one.identity for one in mains)


def by_version(table: Table, agent: Path, memory: Memory) -> dict[str, list[Process]]:
    """The processes that are or work below an agent's directory, by version. What lies there besides, as its data do, is no
    version: one is remembered, or has a control or a marker."""
    known = {
        memory.current,
        memory.good,
        memory.previous,
        *memory.left,
        memory.running.version if memory.running else "",
    }
    ours = _of_our_looks(table)
    found = {
        version: left
        for version, several in table.by_entry(agent).items()
        if (left := [one for one in several if one.pid not in ours])
    }
    return {
        version: left
        for version, left in found.items()
        if version in known or any(os.path.lexists(agent / version / name) for name in ("control", MARKER))
    }


def strangers(table: Table, install: Path, found: Iterable[Process]) -> dict[Path, int]:
    """The pid files of an install that name a process which surely is none of its, or a dead one that is not yet buried."""
    own = {one.pid for one in found}
    named = {path: pid for path, pid in pid_files(install).items() if pid not in own}
    return {path: pid for path, pid in named.items() if _is_strange(table, install, pid)}


def _is_strange(table: Table, install: Path, pid: int) -> bool:
    if process := table.by_pid.get(pid):
        return not table.is_closed(process) and not table.may_be_of(process, install)
    return processes.is_dead(pid) or processes.is_thread(pid)


def may_be_up(table: Table, install: Path) -> bool:
    """Whether something may be the agent that is not recognised as its: a person has started it in a terminal or from another
    directory, or we may not see it. Where pid files name processes, these alone are asked."""
    pids = set(pid_files(install).values())
    named = [table.by_pid[pid] for pid in pids if pid in table.by_pid]
    if any(table.is_closed(one) for one in named) or any(map(processes.is_hidden, pids)):
        return True
    if not named and any(map(processes.is_dead, pids)):
        return False
    ourselves = os.getpid()
    others = [one for one in table.by_pid.values() if one.pid != ourselves and not _is_asked_by_us(one)]
    return any(table.may_be_of(one, install) for one in named or others)


def names_the_dead(install: Path) -> bool:
    """Whether a pid file names a process that has ended and is not yet buried: `kill -0` takes it for a running one."""
    return any(map(processes.is_dead, pid_files(install).values()))


def _is_asked_by_us(process: Process) -> bool:
    """Whether this is a control script that this process is just running."""
    return process.parent == os.getpid() and processes.command(process.pid)[-2:-1] == ["./control"]


def _of_our_looks(table: Table) -> set[int]:
    """The status scripts that this process is just running, for a look beside a turn, and what they have started (pids)."""
    ourselves = os.getpid()
    children: dict[int, list[int]] = {}
    for one in table.by_pid.values():
        children.setdefault(one.parent, []).append(one.pid)
    todo = [pid for pid in children.get(ourselves, ()) if processes.command(pid)[-2:] == ["./control", "status"]]
    found: set[int] = set()
    while todo:
        found.add(pid := todo.pop())
        todo += children.get(pid, ())
    return found


def is_start_script(process: Process) -> bool:
    """Whether this is a `./control start` of an updater's, not yet ended; what it forked does not lead its session."""
    return process.leads_session and processes.command(process.pid)[-2:] == ["./control", "start"]


def in_words(version: str, left: Iterable[str]) -> str:
    """`2 processes of 1.0 still run: 4711 sleep 3600; 4712 sh`, "" when none does."""
    here = sorted(left)
    if not here:
        return ""
    shown = "; ".join(processes.in_words(one) for one in here[:_SHOWN]) + ("; ..." if len(here) > _SHOWN else "")
    one = "1 process" if len(here) == 1 else f"{len(here)} processes"
    return f"{one} of {version} still run{'s' if len(here) == 1 else ''}: {shown}"


_SHOWN = 3


def _noted(table: Table, found: list[Process], of: Recognised) -> Recognised:
    ports = frozenset(port for one in found for port in table.ports(one))
    return replace(of, processes=frozenset(one.identity for one in found), ports=ports)


def _with_descendants(table: Table, found: list[Process]) -> list[Process]:
    """These and what they have started, as far as that can be traced; never this process and what it alone has started."""
    ourselves = os.getpid()
    children: dict[int, list[Process]] = {}
    for one in table.by_pid.values():
        children.setdefault(one.parent, []).append(one)
    known: dict[int, Process] = {}
    todo = list(found)
    while todo:
        one = todo.pop()
        if one.pid not in known and one.pid not in (ourselves, _INIT) and not _is_asked_by_us(one):
            known[one.pid] = one
            todo += children.get(one.pid, ())
    return list(known.values())
