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
from updater.kernel.ownership.owner import Owner
from updater.kernel.pid_files import pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process, age
from updater.model.layout import MARKER
from updater.model.memory import Memory
from updater.model.recognised import Guess, Recognised

SETTLED = 10.0  # age in seconds from which a process that works below its install is expected to stay there
# The same for what may be a helper that a start has left: if it runs a file of the install, or only works there.
SETTLED_PROGRAM, SETTLED_TOOL = 20.0, 60.0
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
    now = of_now(known, install, boot)
    is_known = known is not None and known.version == install.name
    before = known.in_boot(boot) if known and is_known else Recognised(install.name, boot)
    placed = before.placed or any(age(one) >= SETTLED for one in Owner(table, install, now).at_home(found))
    return _noted(table, install, found, replace(before, placed=placed))


def with_dead(found: Recognised, known: Recognised | None) -> Recognised:
    """`found`, with those of `known` that have ended, and that their parent, which is none of the found, has not reaped.

    If they were forgotten for a process that is there for a moment only, such as a person's job, `kill -0` would be believed.
    """
    if known is None or (known.version, known.boot) != (found.version, found.boot):
        return found
    here = {int(one.partition(".")[0]) for one in found.processes}
    dead = map(processes.zombie, known.processes - found.processes)
    kept = frozenset(one.identity for one in dead if one and one.parent not in here)
    return replace(found, processes=found.processes | kept)


def at_home(table: Table, install: Path, known: Recognised | None, boot: str) -> list[Process]:
    """The processes that show that the version keeps running in its install, once they have run for a while."""
    return Owner(table, install, of_now(known, install, boot)).at_home(recognise(table, install, known, boot))


def until_settled(table: Table, install: Path, known: Recognised | None, boot: str) -> float | None:
    """In how many seconds processes that may be helpers will have stayed for so long that the version is taken to stay too.

    0 if they have; None if there are none, or if that was taken for granted before in vain.
    """
    owner = Owner(table, install, of_now(known, install, boot))
    if known and known.version == install.name and known.guess is Guess.SPENT:
        return None
    found = owner.may_be_at_home(owner.own())
    waits = [(SETTLED_PROGRAM if runs else SETTLED_TOOL) - age(one) for one, runs in found]
    return max(0.0, min(waits)) if waits else None


def recognise(table: Table, install: Path, known: Recognised | None, boot: str) -> list[Process]:
    """All of an install's own processes. known: see `seen`."""
    return Owner(table, install, of_now(known, install, boot)).own()


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
    owner, below = Owner(table, install, of_now(known, install, boot)), {one.pid for one in table.below(install)}
    there = frozenset(one.identity for one in table.by_pid.values() if one.pid in below or owner.needs_files(one))
    own = there & {one.identity for one in recognise(table, install, known, boot)} if there else there
    return own, there - own


def near_processes(table: Table, found: Iterable[Process], install: Path, known: Recognised | None) -> frozenset[str]:
    """The identities of its own processes that lie or work there, are named by a pid file, or are in its start's session."""
    return frozenset(one.identity for one in Owner(table, install, known).near(found))


def of_start(
    table: Table, found: Iterable[Process], install: Path, known: Recognised | None, boot: str
) -> tuple[frozenset[str], dict[str, str]]:
    """(identities of its own processes that only a restart replaces, own pid file of the agent -> which of these it names).

    If such a file names any, these alone tell that it was restarted, and each of them does.
    """
    return Owner(table, install, of_now(known, install, boot)).of_start(found)


def listeners(table: Table, found: Iterable[Process]) -> dict[int, frozenset[str]]:
    """The TCP ports on which any of these processes listens, each with the identities of those that do."""
    holders: dict[int, set[str]] = {}
    for one in found:
        for port in table.ports(one, "tcp"):
            holders.setdefault(port, set()).add(one.identity)
    return {port: frozenset(several) for port, several in holders.items()}


def services(table: Table, install: Path, known: Recognised | None, boot: str) -> frozenset[str]:
    """The identities of processes merely there that may be a service of the agent, and so are waited for."""
    owner = Owner(table, install, of_now(known, install, boot))
    return frozenset(one.identity for one in owner.services(owner.own()))


def services_by_version(table: Table, agent: Path, memory: Memory, boot: str) -> dict[str, frozenset[str]]:
    """`services` for all versions of an agent, by version."""
    versions = {*table.by_entry(agent), *_remembered(memory)}
    found = {version: services(table, agent / version, memory.known(version), boot) for version in versions}
    return {version: there for version, there in found.items() if there}


def itself(table: Table, install: Path, known: Recognised | None, boot: str) -> frozenset[str]:
    """The identities of its own processes that are the agent itself, so that another start would run it twice."""
    owner = Owner(table, install, of_now(known, install, boot))
    return frozenset(one.identity for one in owner.itself(owner.own()))


def by_version(table: Table, agent: Path, memory: Memory, boot: str = "", but: str = "") -> dict[str, list[Process]]:
    """The agent's own processes by version, without those that a version runs for others.

    A directory counts as a version if it is remembered or has a control or a marker; others, such as data, do not.
    but: a version to skip.
    """
    running = {one.version for one in (memory.running, memory.begun) if one}
    known, there = _remembered(memory), table.by_entry(agent)
    versions = {*there, *running} - {"", but}
    found: dict[str, list[Process]] = {}
    for version in sorted(versions):
        install = agent / version
        if version in known or any(os.path.lexists(install / name) for name in ("control", MARKER)):
            owner = Owner(table, install, of_now(memory.known(version), install, boot))
            here = owner.near(owner.own())
            here += [one for one in there.get(version, []) if is_start_script(one) and one not in here]
            found |= {version: here} if here else {}
    return found


def _remembered(memory: Memory) -> set[str]:
    """The versions that may have run."""
    running = {one.version for one in (memory.running, memory.begun) if one}
    return {memory.current, memory.good, memory.previous, *memory.left, *running} - {""}


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


def of_now(known: Recognised | None, install: Path, boot: str) -> Recognised | None:
    """`known` if it is about this version and this boot, else None."""
    return known if known and (known.version, known.boot) == (install.name, boot) else None


def _noted(table: Table, install: Path, found: list[Process], of: Recognised) -> Recognised:
    owner = Owner(table, install, of)
    ports = frozenset(port for one in owner.near(found) for port in table.ports(one))
    named = owner.right_pid_files(found)
    identities = frozenset(one.identity for one in found)
    return replace(of, processes=identities, ports=ports, pid_files=of.pid_files | named)
