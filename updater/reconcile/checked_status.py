"""Observes an agent with two witnesses: the status of its `control`, and the kernel's processes.

The status is checked against the kernel where it may be wrong. If an agent's processes were recognised by its directory
before and none exists now, a `started` is not believed. An agent whose processes were never recognised that way, such as
one that systemd runs elsewhere, is believed. If they may have been helpers, it is not believed once only (`Guess`).

Usually only the known processes are looked up. All of /proc is read if none of them lives, or while it is not clear yet
whether the agent's processes can be recognised.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from msgspec.structs import replace as replace_fields

from updater.errors import TryLater
from updater.host import control_script, start_output
from updater.host.context import Host
from updater.host.observe import observe
from updater.kernel import clocks, doubts, processes, witness
from updater.kernel.hold_ups import HoldUps, since_its_start
from updater.kernel.pid_files import own_files, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import age
from updater.model.actions import Action
from updater.model.layout import OWN_NAME
from updater.model.memory import Memory
from updater.model.observed import Observed, State, Status
from updater.model.recognised import Guess, Recognised
from updater.self_update import handover
from updater.wire.heartbeat import Desired
from updater.wire.limits import MAX_EVIDENCE
from updater.wire.names import START

_MOMENT = 0.1  # seconds between two looks at the processes


def look_at(host: Host, name: str) -> Observed:
    """Observe one agent, within its watch with its processes. Raises TryLater."""
    memory = host.memories.of(name)
    began = time.monotonic()
    seen = observe(host.layout, name, host.config.timeouts.status, memory.current)
    if name == OWN_NAME and host.own_version:
        return handover.as_known(seen)
    crowding = frozenset(version for version, left in memory.left.items() if processes.alive(left))
    visited = frozenset(version for version, there in memory.there.items() if processes.alive(there))
    if seen.state is State.STARTED and _is_reaped_late(host, seen, memory):  # `kill -0` may have told so
        seen = observe(host.layout, name, host.config.timeouts.status, memory.current)
    seen = replace(seen, crowding=crowding, occupied=crowding | visited)
    if memory.is_watched and seen.current in seen.installs:
        seen = _close_look(host, seen, memory, began)
    if seen.state is State.STOPPED and memory.is_cut_off(seen.current, host.boot):
        return _cut_off(host, seen, memory, began)
    seen = _checked(host, seen, memory, began)
    running = seen.running and witness.with_dead(seen.running, memory.known(seen.current))
    return replace(seen, running=running)


def _is_reaped_late(host: Host, seen: Observed, memory: Memory) -> bool:
    """Whether all that is known of the version was dead when its status was asked, and is reaped only now."""
    known = memory.known(seen.current)
    if known is None or any(map(processes.is_alive, known.processes)):
        return False
    dead = doubts.unburied(host.layout.agent(seen.name).install(seen.current), memory, host.boot)
    return bool(dead) and not doubts.still_unburied(dead)


def last_look(host: Host, order: Desired, memory: Memory, stop: Action) -> Callable[[Memory], Memory]:
    """Look once more at a version on trial that is about to make way for another one; returns the change of the memory.

    Its watch may have ended during a download, well or not. While no version is proven, it is a way back if it has not died.
    """
    is_asked = not stop.forced and order.cmd == START and memory.is_watched and memory.current == stop.version
    if not is_asked or (memory.watching(clocks.ran()) and memory.good):
        return lambda memory: memory
    try:
        seen = look_at(host, order.name)
    except TryLater:
        return lambda memory: memory
    moment = host.moment(seen)
    if seen.state is State.STOPPED:
        return lambda memory: memory.having_died(stop.version)
    if seen.state is State.UNKNOWN or seen.current != stop.version:
        return lambda memory: memory
    return lambda memory: memory.seen_started(seen, moment)


def _cut_off(host: Host, seen: Observed, memory: Memory, began: float) -> Observed:
    """Add that a start was cut off, so that the version may come up although its status is `stoped` now."""
    install = host.layout.agent(seen.name).install(seen.current)
    strange = doubts.misleading(host.table(began), install, memory.known(seen.current), host.boot)
    return replace(seen, cut_off=True, strange=bool(strange))


def _close_look(host: Host, seen: Observed, memory: Memory, began: float) -> Observed:
    """Add the processes of the current version. Those that end within a moment do not count: they are a status script's."""
    install, table = host.layout.agent(seen.name).install(seen.current), host.table(began)
    found = witness.recognise(table, install, memory.known(seen.current), host.boot)
    if found:
        time.sleep(_MOMENT)
    staying = processes.alive(one.identity for one in found)
    mains, by_file = witness.of_start(table, found, install, memory.known(seen.current), host.boot)
    listeners = {} if by_file else witness.listeners(table, (one for one in found if one.identity in staying))
    known = replace_fields(memory.known(seen.current) or Recognised(seen.current), processes=staying)
    holds = HoldUps(install, memory, host.boot, host.config.timeouts.stop, lambda _: since_its_start(known))
    seen = replace(seen, held_up=holds.why(table), serves=holds.serves(table))
    if seen.state is State.STOPPED:
        said = control_script.tail(host.layout.output(seen.name), MAX_EVIDENCE)
        seen = replace(seen, taken=holds.in_words(start_output.ports_in_use(said)))
    by_file = {file: one for file, one in by_file.items() if one in staying}
    return replace(seen, processes=staying, mains=mains & staying, by_file=by_file, listeners=listeners)


def _checked(host: Host, seen: Observed, memory: Memory, began: float) -> Observed:
    """Check a `started` against the kernel. began: monotonic seconds at which the status was asked."""
    if seen.state is not State.STARTED:
        host.believed.pop(seen.name, None)  # its next start may show more
        return seen
    known, install = memory.known(seen.current), host.layout.agent(seen.name).install(seen.current)
    if doubts.is_unreaped(install):
        return _doubted(host, seen, known, began)
    host.unreaped.pop(seen.name, None)
    if known and known.may_be_doubted:
        is_there = known.boot == host.boot and any(map(processes.is_alive, known.processes))
        return seen if is_there else _doubted(host, seen, known, began)
    if not (known and any(map(processes.is_alive, known.processes))) and (
        doubts.names_the_dead(install)
        or doubts.unburied(install, memory, host.boot)
        or doubts.names_the_gone(install, known)
    ):
        return _doubted(host, seen, known, began)
    return seen if host.believed.get(seen.name) == seen.current else _learned(host, seen, memory)


def _learned(host: Host, seen: Observed, memory: Memory) -> Observed:
    """Find out whether the agent's processes stay in its directory, so that they can be recognised there.

    Young processes may still leave it, so they are looked at again when they are older. If there are none in the
    directory, the agent is believed, for good; so they are read now, after its status, or those of a start may be missing.
    """
    known = memory.known(seen.current)
    version, until = host.settles.get(seen.name, ("", 0.0))
    if version == seen.current and time.monotonic() < until:
        return seen
    table, install = host.table(time.monotonic()), host.layout.agent(seen.name).install(seen.current)
    ages = [age(one) for one in witness.at_home(table, install, known, host.boot)]
    if not ages and doubts.names_another_s(table, install):
        return _doubted(host, seen, known, table.at)
    if not ages:
        return _guessed(host, seen, memory, table)
    is_old = max(ages) >= witness.SETTLED
    host.settles[seen.name] = (
        seen.current,
        time.monotonic() + (witness.SETTLED if is_old else witness.SETTLED - min(ages)),
    )
    return replace(seen, running=witness.seen(table, install, known, host.boot)) if is_old else seen


def _guessed(host: Host, seen: Observed, memory: Memory, table: Table) -> Observed:
    """Learn the same from processes that may be helpers, if there are any that live for long, and after its watch only."""
    known, install = memory.known(seen.current), host.layout.agent(seen.name).install(seen.current)
    left = witness.until_settled(table, install, known, host.boot)
    if left is None:
        host.believed[seen.name] = seen.current
    elif left > 0 or memory.is_watched:
        host.settles[seen.name] = seen.current, time.monotonic() + (left or witness.SETTLED)
    else:
        running = replace_fields(witness.seen(table, install, known, host.boot), guess=Guess.STAYS)
        return replace(seen, running=running)
    return seen


def _doubted(host: Host, seen: Observed, known: Recognised | None, began: float) -> Observed:
    """Search all processes for the agent's, as no known one lives, or the one that its pid file names is a zombie.

    If none is or may be the agent's, it is `absent`; if only the agent itself is a zombie, it is `unreaped`.
    """
    install = host.layout.agent(seen.name).install(seen.current)
    table = host.table(began)
    for again in (True, False):
        found, is_unreaped = witness.seen(table, install, known, host.boot), doubts.is_unreaped(install)
        if found.processes and not (is_unreaped and again):
            return _not_reaped(host, seen, install, found) if is_unreaped else replace(seen, running=found)
        if not found.processes and doubts.may_be_up(table, install):
            return seen
        if again:
            time.sleep(_MOMENT)
            table = Table()
    named = pid_files(install).values()
    who = "; ".join(processes.in_words(str(pid)) for pid in named if pid in table.by_pid)
    why = f"its control says {seen.status.text}, but none of its processes exists" + (
        f": its pid is {who}" if who else ""
    )
    leads_astray = bool(doubts.misleading(table, install, known, host.boot))
    running = known.doubted() if known else None
    return replace(seen, status=Status(why), absent=True, strange=leads_astray, running=running)


def _not_reaped(host: Host, seen: Observed, install: Path, found: Recognised) -> Observed:
    """The agent whose own pid file names a zombie, while a supervisor of it lives, which may reap it and start another one."""
    numbers, now = pid_files(install), time.monotonic()
    pid = next((numbers[file] for file in own_files(install) if file in numbers), 0)
    first = host.unreaped.get(seen.name, (0, 0.0))
    since = first[1] if first[0] == pid else now
    host.unreaped[seen.name] = pid, since
    why = f"its control says {seen.status.text}, but its pid is {pid}, which has ended and was not reaped by its parent"
    reaping = now - since < witness.SETTLED
    return replace(seen, status=Status(why), unreaped=True, reaping=reaping, running=found)
