"""One look at an agent with both witnesses: what its `control` says, and what the kernel knows of its processes.

Words decide what is wanted. The kernel is asked where they may be wrong: an agent whose processes have been recognised by where
they are is not believed to be started when none exists. An agent that was never recognised so (it only asks systemd, or moves
away from its directory) is believed. A look costs a look at the processes that are known already; /proc is read as a whole only
when none of those lives, and while it is not yet known what kind of agent this is.
"""

import time
from dataclasses import replace

from updater.host.context import Host
from updater.host.observe import observe
from updater.kernel import processes, witness
from updater.kernel.pid_files import pid_files
from updater.kernel.processes import Table
from updater.model.layout import OWN_NAME
from updater.model.memory import Memory
from updater.model.observed import Observed, State, Status
from updater.model.recognised import Recognised
from updater.self_update import handover

_MOMENT = 0.1  # seconds between the two looks after which an agent is not believed


def look_at(host: Host, name: str) -> Observed:
    """Observe one agent; in its watch also which processes it has. Raises TryLater."""
    memory = host.memories.of(name)
    began = time.monotonic()
    seen = observe(host.layout, name, host.config.timeouts.status, memory.current, host.now)
    if name == OWN_NAME and host.own_version:
        return handover.as_known(seen)
    crowding = frozenset(version for version, left in memory.left.items() if processes.alive(left))
    visited = frozenset(version for version, there in memory.there.items() if processes.alive(there))
    seen = replace(seen, crowding=crowding, occupied=crowding | visited)
    if memory.is_watched and seen.current in seen.installs:
        seen = _close_look(host, seen, memory, began)
    return _testified(host, seen, memory, began)


def _close_look(host: Host, seen: Observed, memory: Memory, began: float) -> Observed:
    """With the processes of the current version that live for more than a moment: what a status script leaves is gone by
    then."""
    install, table = host.layout.agent(seen.name).install(seen.current), host.table(began)
    found = witness.recognise(table, install, memory.known(seen.current), host.boot)
    if found:
        time.sleep(_MOMENT)
    staying = processes.alive(one.identity for one in found)
    mains, alone = witness.of_start(table, found, install, memory.known(seen.current), host.boot)
    return replace(seen, processes=staying, mains=mains & staying, mains_alone=alone)


def _testified(host: Host, seen: Observed, memory: Memory, began: float) -> Observed:
    if seen.state is not State.STARTED:
        return seen
    known = memory.known(seen.current)
    if known and known.placed:
        is_there = known.boot == host.boot and any(map(processes.is_alive, known.processes))
        return seen if is_there else _doubted(host, seen, known, began)
    install = host.layout.agent(seen.name).install(seen.current)
    lives = known is not None and any(map(processes.is_alive, known.processes))
    if not lives and witness.names_the_dead(install):
        return _doubted(host, seen, known, began)
    return seen if host.believed.get(seen.name) == seen.current else _learned(host, seen, known)


def _learned(host: Host, seen: Observed, known: Recognised | None) -> Observed:
    """What kind of agent this is: one that stays where it is installed, or one of which nothing can be said. What is below its
    install may leave it while it is young, and is looked at again when none of it is."""
    version, until = host.settles.get(seen.name, ("", 0.0))
    if version == seen.current and time.monotonic() < until:
        return seen
    table, install = host.table(time.monotonic() - 1.0), host.layout.agent(seen.name).install(seen.current)
    ages = [witness.age(one) for one in witness.at_home(table, install, known, host.boot)]
    if not ages:
        host.believed[seen.name] = seen.current
        return seen
    is_old = max(ages) >= witness.SETTLED
    host.settles[seen.name] = (
        seen.current,
        time.monotonic() + (witness.SETTLED if is_old else witness.SETTLED - min(ages)),
    )
    return replace(seen, running=witness.seen(table, install, known, host.boot)) if is_old else seen


def _doubted(host: Host, seen: Observed, known: Recognised | None, began: float) -> Observed:
    """None of the processes that were known is there, if any were: others are, or may be, or it is not believed."""
    install = host.layout.agent(seen.name).install(seen.current)
    table = host.table(began)
    for again in (True, False):
        found = witness.seen(table, install, known, host.boot)
        if found.processes:
            return replace(seen, running=found)
        if witness.may_be_up(table, install):
            return seen
        if again:
            time.sleep(_MOMENT)
            table = Table()
    named = pid_files(install).values()
    who = "; ".join(processes.in_words(str(pid)) for pid in named if pid in table.by_pid)
    why = f"its control says {seen.status.text}, but none of its processes exists" + (
        f": its pid is {who}" if who else ""
    )
    leads_astray = bool(witness.misleading(table, install, known, host.boot))
    return replace(seen, status=Status(why), absent=True, strange=leads_astray)
