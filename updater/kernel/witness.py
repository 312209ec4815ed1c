"""What the kernel knows of an install's processes: the second witness, beside the words of its `control`.

Promises: only what surely belongs to an install is recognised as its, see `whose`. Refuses to go by control groups: under one
unit all agents and the updater share theirs, so a group tells nothing that is not known already.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from updater.kernel import processes
from updater.kernel.agent_environment import MARK, Mark
from updater.kernel.pid_files import own_files, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.kernel.whose import Owner, is_asked_by_us
from updater.model.layout import MARKER
from updater.model.memory import Memory
from updater.model.recognised import Recognised

SETTLED = 10.0  # seconds of life after which a process that works below its install stays there
_TICKS = os.sysconf("SC_CLK_TCK")
_COARSE = 2.0  # seconds that two clocks may differ in


def ticks() -> int:
    """Now, as the start times of processes are counted."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def age(process: Process) -> float:
    """Seconds that it has lived."""
    return (ticks() - int(process.start)) / _TICKS


def started(table: Table, install: Path, mark: Mark, since: int, boot: str) -> Recognised:
    """What has become of a start just now. since: `ticks()` before it."""
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
    """The processes of an install as they are now. known: of its last start, or of the last look."""
    found = recognise(table, install, known, boot)
    now = _of_now(known, install, boot)
    before = now or Recognised(install.name, boot)
    placed = known is not None and known.version == install.name and known.placed
    placed = placed or any(age(one) >= SETTLED for one in Owner(table, install, now).at_home(found))
    return _noted(table, install, found, replace(before, placed=placed))


def at_home(table: Table, install: Path, known: Recognised | None, boot: str) -> list[Process]:
    """The processes by which an install is known to be one that stays where it is, once they have lived for a while."""
    return Owner(table, install, _of_now(known, install, boot)).at_home(recognise(table, install, known, boot))


def recognise(table: Table, install: Path, known: Recognised | None, boot: str) -> list[Process]:
    """All processes that are an install's own. known: see `seen`."""
    return Owner(table, install, _of_now(known, install, boot)).own()


def main_processes(table: Table, found: Iterable[Process], install: Path, known: Recognised | None) -> frozenset[str]:
    """Those of an install's own processes that are the version itself (identities), not what it started for others. Where none
    is near the version, all that were found are looked at: some, if there are any."""
    owner, found = Owner(table, install, known), list(found)
    return frozenset(one.identity for one in owner.main(owner.near(found) or found))


def visitors(install: Path, known: Recognised | None, boot: str) -> tuple[frozenset[str], frozenset[str]]:
    """What lies or works below an install (identities): its own processes, and others."""
    table = Table()
    there = frozenset(one.identity for one in table.below(install))
    own = there & {one.identity for one in recognise(table, install, known, boot)} if there else there
    return own, there - own


def near_processes(table: Table, found: Iterable[Process], install: Path, known: Recognised | None) -> frozenset[str]:
    """Those of an install's own processes that lie or work there, stand in a pid file or are in the session of its start."""
    return frozenset(one.identity for one in Owner(table, install, known).near(found))


def of_start(
    table: Table, found: Iterable[Process], install: Path, known: Recognised | None, boot: str
) -> tuple[frozenset[str], bool]:
    """Those of an install's own processes (identities) that are replaced only when the agent is started again, and whether
    these alone tell that, for its own pid file names them."""
    return Owner(table, install, _of_now(known, install, boot)).of_start(found)


def services(table: Table, install: Path, known: Recognised | None, boot: str) -> frozenset[str]:
    """What is merely there (identities) and is waited for, as it may be a service of the agent."""
    owner = Owner(table, install, _of_now(known, install, boot))
    return frozenset(one.identity for one in owner.services(owner.own()))


def services_by_version(table: Table, agent: Path, memory: Memory, boot: str) -> dict[str, frozenset[str]]:
    """The same of all versions of an agent."""
    found = {
        version: services(table, agent / version, memory.known(version), boot) for version in table.by_entry(agent)
    }
    return {version: there for version, there in found.items() if there}


def named(table: Table, install: Path) -> list[tuple[Process, Path]]:
    """What the pid files of an install name, whosever it is, but for numbers that have come again: a file that was written
    before the process began does not mean it."""
    found = []
    for file, pid in pid_files(install).items():
        with contextlib.suppress(OSError):
            one = table.by_pid.get(pid)
            if one and pid != os.getpid() and file.stat().st_mtime > time.time() - age(one) - _COARSE:
                found.append((one, file))
    return found


def itself(table: Table, install: Path, known: Recognised | None, boot: str) -> frozenset[str]:
    """Those of an install's own processes (identities) that are the agent, so that another start would make two of it."""
    owner = Owner(table, install, _of_now(known, install, boot))
    return frozenset(one.identity for one in owner.itself(owner.own()))


def by_version(table: Table, agent: Path, memory: Memory, boot: str = "", but: str = "") -> dict[str, list[Process]]:
    """The agent's own processes that are a version rather than what that has started for others, by version. What lies there
    besides, as its data do, is no version: one is remembered, or has a control or a marker. but: a version not to look at."""
    running = {one.version for one in (memory.running, memory.begun) if one}
    known = {memory.current, memory.good, memory.previous, *memory.left, *running} - {""}
    there = table.by_entry(agent)
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


def strangers(table: Table, install: Path, found: Iterable[Process]) -> dict[Path, int]:
    """The pid files of an install that name a process which surely is none of its, or a dead one that is not yet buried."""
    own = {one.pid for one in found}
    named = {path: pid for path, pid in pid_files(install).items() if pid not in own}
    return {path: pid for path, pid in named.items() if _is_strange(table, install, pid)}


def misleading(table: Table, install: Path, known: Recognised | None, boot: str) -> dict[Path, int]:
    """Those of the `strangers` that the version's own control goes by, as far as can be told: in `pid` or NAME.pid, or in a
    file that has named a process of the version before. Others may be an agent's books of what it runs for others."""
    own = set(own_files(install))
    if known and known.version == install.name:
        own |= {install / name for name in known.pid_files}
    found = strangers(table, install, recognise(table, install, known, boot))
    return {path: pid for path, pid in found.items() if path in own}


def _is_strange(table: Table, install: Path, pid: int) -> bool:
    if process := table.by_pid.get(pid):
        return not table.is_closed(process) and not Owner(table, install).may_be_named(process)
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
    owner, ourselves = Owner(table, install), os.getpid()
    if named:
        return any(map(owner.may_be_named, named))
    others = [one for one in table.by_pid.values() if one.pid != ourselves and not is_asked_by_us(one)]
    return any(owner.may_be_it(one, strictly=bool(pids)) for one in others)


def names_the_dead(install: Path) -> bool:
    """Whether a pid file names a process that has ended and is not yet buried: `kill -0` takes it for a running one."""
    return any(map(processes.is_dead, pid_files(install).values()))


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


def in_words(version: str, left: Iterable[str], by: str = "of") -> str:
    """`2 processes of 1.0 still run: 4711 sleep 3600; 4712 sh`, "" when none does. by: "in" for what is only there."""
    here = sorted(left)
    if not here:
        return ""
    shown = "; ".join(processes.in_words(one) for one in here[:_SHOWN]) + ("; ..." if len(here) > _SHOWN else "")
    one = "1 process" if len(here) == 1 else f"{len(here)} processes"
    return f"{one} {by} {version} still run{'s' if len(here) == 1 else ''}: {shown}"


_SHOWN = 3


def _of_now(known: Recognised | None, install: Path, boot: str) -> Recognised | None:
    """What is known, where it is of this version and this boot."""
    return known if known and (known.version, known.boot) == (install.name, boot) else None


def _noted(table: Table, install: Path, found: list[Process], of: Recognised) -> Recognised:
    ports = frozenset(port for one in found for port in table.ports(one))
    named = Owner(table, install, of).right_pid_files(found)
    identities = frozenset(one.identity for one in found)
    return replace(of, processes=identities, ports=ports, pid_files=of.pid_files | named)
