"""Recognises an install's processes by what the kernel says: a second source of truth besides the output of its `control`.

A process counts as an install's only if that is certain, see `ownership`. Control groups are not used, since all agents and the
updater share one under systemd.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from updater.kernel import processes
from updater.kernel.agent_environment import MARK, Mark
from updater.kernel.evidence import is_asked_by_us
from updater.kernel.ownership import Owner
from updater.kernel.pid_files import is_older, own_files, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process, age
from updater.model.layout import MARKER
from updater.model.memory import Memory
from updater.model.recognised import Recognised

SETTLED = 10.0  # age in seconds from which a process that works below its install is expected to stay there
TICKS = os.sysconf("SC_CLK_TCK")  # in a second


def ticks() -> int:
    """The current time in clock ticks since the boot, as in the start times of processes."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)


def seconds_since(begin: int) -> float:
    """Seconds since a time in clock ticks since the boot."""
    return (ticks() - begin) / TICKS


def started(table: Table, install: Path, mark: Mark, since: int, boot: str) -> Recognised:
    """The processes of a start that was just made. since: `ticks()` before it."""
    of = Recognised(install.name, boot, mark.session, mark.token, since=since)
    owner = Owner(table, install, of)
    named = [table.by_pid.get(pid) for pid in pid_files(install).values()]
    by_pid_file = [one for one in named if one and int(one.start) >= since]
    young = [one for one in table.by_pid.values() if int(one.start) >= since]
    in_session = [one for one in young if mark.session and one.session == mark.session]
    found = owner.with_descendants(
        owner.by_itself(), [*by_pid_file, *in_session, *table.with_variable(MARK, mark.token, since)]
    )
    return _noted(table, install, found, of)


def seen(table: Table, install: Path, known: Recognised | None, boot: str) -> Recognised:
    """The processes of an install now. known: what was recognised at its last start or last look."""
    found = recognise(table, install, known, boot)
    now = _of_now(known, install, boot)
    before = now or Recognised(install.name, boot)
    placed = known is not None and known.version == install.name and known.placed
    placed = placed or any(age(one) >= SETTLED for one in Owner(table, install, now).at_home(found))
    return _noted(table, install, found, replace(before, placed=placed))


def at_home(table: Table, install: Path, known: Recognised | None, boot: str) -> list[Process]:
    """The processes that show that the version keeps running in its install, once they have run for a while."""
    return Owner(table, install, _of_now(known, install, boot)).at_home(recognise(table, install, known, boot))


def recognise(table: Table, install: Path, known: Recognised | None, boot: str) -> list[Process]:
    """All of an install's own processes. known: see `seen`."""
    return Owner(table, install, _of_now(known, install, boot)).own()


def main_processes(table: Table, found: Iterable[Process], install: Path, known: Recognised | None) -> frozenset[str]:
    """The identities of the version's main processes, without those that it runs for others.

    They are chosen among the processes near the version, or among all `found` if none is near. Not empty unless `found` is.
    """
    owner, found = Owner(table, install, known), list(found)
    return frozenset(one.identity for one in owner.main(owner.near(found) or found))


def visitors(install: Path, known: Recognised | None, boot: str) -> tuple[frozenset[str], frozenset[str]]:
    """(its own processes, other processes) that need the directory of an install, as identities.

    They lie or work there, run a script of it from elsewhere, or are what one of its pid files probably means.
    """
    table = Table()
    owner, below = Owner(table, install, _of_now(known, install, boot)), {one.pid for one in table.below(install)}
    there = frozenset(one.identity for one in table.by_pid.values() if one.pid in below or owner.needs_files(one))
    own = there & {one.identity for one in recognise(table, install, known, boot)} if there else there
    return own, there - own


def near_processes(table: Table, found: Iterable[Process], install: Path, known: Recognised | None) -> frozenset[str]:
    """The identities of its own processes that lie or work there, are named by a pid file, or are in its start's session."""
    return frozenset(one.identity for one in Owner(table, install, known).near(found))


def of_start(
    table: Table, found: Iterable[Process], install: Path, known: Recognised | None, boot: str
) -> tuple[frozenset[str], bool]:
    """(identities of its own processes that only a restart replaces, whether these alone tell that it was restarted).

    They alone tell it if the agent's own pid file names them.
    """
    return Owner(table, install, _of_now(known, install, boot)).of_start(found)


def listeners(table: Table, found: Iterable[Process]) -> dict[int, frozenset[str]]:
    """The TCP ports on which any of these processes listens, each with the identities of those that do."""
    holders: dict[int, set[str]] = {}
    for one in found:
        for port in table.ports(one, "tcp"):
            holders.setdefault(port, set()).add(one.identity)
    return {port: frozenset(several) for port, several in holders.items()}


def services(table: Table, install: Path, known: Recognised | None, boot: str) -> frozenset[str]:
    """The identities of processes merely there that may be a service of the agent, and so are waited for."""
    owner = Owner(table, install, _of_now(known, install, boot))
    return frozenset(one.identity for one in owner.services(owner.own()))


def services_by_version(table: Table, agent: Path, memory: Memory, boot: str) -> dict[str, frozenset[str]]:
    """`services` for all versions of an agent, by version."""
    versions = {*table.by_entry(agent), *_remembered(memory)}
    found = {version: services(table, agent / version, memory.known(version), boot) for version in versions}
    return {version: there for version, there in found.items() if there}


def named(table: Table, install: Path) -> list[tuple[Process, Path]]:
    """The processes that the pid files of an install name, no matter who owns them, each with its file.

    A pid file that is older than the process is skipped, since the pid was reused.
    """
    found = [(table.by_pid.get(pid), file) for file, pid in pid_files(install).items() if pid != os.getpid()]
    return [(one, file) for one, file in found if one and not is_older(file, one)]


def itself(table: Table, install: Path, known: Recognised | None, boot: str) -> frozenset[str]:
    """The identities of its own processes that are the agent itself, so that another start would run it twice."""
    owner = Owner(table, install, _of_now(known, install, boot))
    return frozenset(one.identity for one in owner.itself(owner.own()))


def by_version(table: Table, agent: Path, memory: Memory, boot: str = "", but: str = "") -> dict[str, list[Process]]:
    """The agent's own processes by version, without those that a version runs for others.

    A directory counts as a version if it is remembered or has a control or a marker; others, such as data, do not.
    but: a version to skip.
    """
    running = {one.version for one in (memory.running, memory.begun) if one}
    known, there = _remembered(memory), table.by_entry(agent)
    versions = {*there, *running} - {"", but}
    ours = _of_our_looks(table)
    found: dict[str, list[Process]] = {}
    for version in sorted(versions):
        install = agent / version
        if version in known or any(os.path.lexists(install / name) for name in ("control", MARKER)):
            owner = Owner(table, install, _of_now(memory.known(version), install, boot))
            here = [one for one in owner.near(owner.own()) if one.pid not in ours]
            here += [one for one in there.get(version, []) if is_start_script(one) and one not in here]
            found |= {version: here} if here else {}
    return found


def _remembered(memory: Memory) -> set[str]:
    """The versions that may have run."""
    running = {one.version for one in (memory.running, memory.begun) if one}
    return {memory.current, memory.good, memory.previous, *memory.left, *running} - {""}


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
    found = strangers(table, install, recognise(table, install, known, boot))
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
    others = [one for one in table.by_pid.values() if one.pid != ourselves and not is_asked_by_us(one)]
    return any(owner.may_be_it(one, strictly=bool(pids)) for one in others)


def is_coming_up(table: Table, install: Path, known: Recognised | None, boot: str, since: int) -> bool:
    """Whether anything that was started at `since` (clock ticks) or later is, or may be, the version."""
    owner, ourselves = Owner(table, install, _of_now(known, install, boot)), os.getpid()
    everything = [one for one in table.by_pid.values() if int(one.start) >= since]
    young = [one for one in everything if one.pid != ourselves and not is_asked_by_us(one)]
    own = {one.pid for one in owner.own()}
    return any(one.pid in own or owner.may_be_named(one) or owner.may_be_it(one) for one in young)


def names_the_dead(install: Path) -> bool:
    """Whether a pid file names a zombie, which `kill -0` takes for a running process."""
    return any(map(processes.is_dead, pid_files(install).values()))


def unburied(memory: Memory, boot: str) -> frozenset[str]:
    """Zombies of an agent's last starts, if nothing else is left of these; `kill -0` takes a zombie for a running process.

    Empty if the agent may go on without the mark of its start, as a process without a terminal below the same parent, which
    inherits orphans. It is younger than a zombie that had left the session of the start; others may have been helpers.
    """
    starts = [one for one in (memory.running, memory.begun) if one and one.boot == boot]
    known = frozenset[str]().union(*(one.processes for one in starts))
    dead, sessions = [one for one in map(processes.zombie, known) if one], {one.session for one in starts}
    if not dead or any(map(processes.is_alive, known)):
        return frozenset()
    since = min((int(one.start) for one in dead if one.session not in sessions), default=0)
    table, parents = Table(), {one.parent for one in dead} - {os.getpid()}
    for one in table.by_pid.values():
        is_orphan = one.parent in parents and int(one.start) >= since and one.pid != os.getpid()
        if is_orphan and not one.has_terminal and MARK not in table.environment(one):
            return frozenset()
    return frozenset(one.identity for one in dead)


def _of_our_looks(table: Table) -> set[int]:
    """The pids of the status scripts that this process is running at the moment, and of their descendants."""
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
    """Whether this is an updater's `./control start` that still runs; its children do not lead the session."""
    return process.leads_session and processes.command(process.pid)[-2:] == ["./control", "start"]


def in_words(version: str, left: Iterable[str], by: str = "of") -> str:
    """`2 processes of 1.0 still run: 4711 sleep 3600; 4712 sh`, "" if none does. by: "in" for processes merely there."""
    here = sorted(left)
    if not here:
        return ""
    shown = "; ".join(processes.in_words(one) for one in here[:_SHOWN]) + ("; ..." if len(here) > _SHOWN else "")
    one = "1 process" if len(here) == 1 else f"{len(here)} processes"
    return f"{one} {by} {version} still run{'s' if len(here) == 1 else ''}: {shown}"


_SHOWN = 3


def _of_now(known: Recognised | None, install: Path, boot: str) -> Recognised | None:
    """`known` if it is about this version and this boot, else None."""
    return known if known and (known.version, known.boot) == (install.name, boot) else None


def _noted(table: Table, install: Path, found: list[Process], of: Recognised) -> Recognised:
    ports = frozenset(port for one in found for port in table.ports(one))
    named = Owner(table, install, of).right_pid_files(found)
    identities = frozenset(one.identity for one in found)
    return replace(of, processes=identities, ports=ports, pid_files=of.pid_files | named)
