"""What keeps a version from running: ports that others hold, and stopped versions of its agent that take long to end."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from updater.kernel import processes, witness
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.memory import Memory

STOPS = 3  # how many times as long as a stop may take a stopped version counts that holds no port
_SHOWN = 3  # ports that are named in a message


def until(memory: Memory, stop: float) -> int:
    """Until when what stopped versions left decides nothing, though it holds no port: clock ticks since the boot.

    It may hold anything else, as a lock or a socket's name, and what it is meant to do for ever is not to be waited for.
    stop: seconds that a stop may take.
    """
    return memory.lingering_since + int(STOPS * stop * witness.TICKS)


def in_words(memory: Memory, stop: float) -> str:
    """Which stopped versions still run that may keep another from running, by the ports that they hold; "" if none do."""
    if not (lives := processes.alive(memory.lingering)):
        return ""
    held = _by_lingering(Table(), memory)
    if held:
        versions = {int(one.partition(".")[0]): version for version, left in memory.left.items() for one in left}
        return ports_in_words(dict(sorted(held.items())[:_SHOWN]), versions)
    if witness.ticks() >= until(memory, stop):
        return ""
    return "; ".join(filter(None, (witness.in_words(one, left & lives) for one, left in sorted(memory.left.items()))))


def ports_in_words(held: Mapping[int, Process], own: Mapping[int, str]) -> str:
    """`port 80 is held by 4711 sleep 3600 of 1.0`. own: process id -> version, of the agent's own processes."""
    of = {one.pid: f" of {own[one.pid]}" for one in held.values() if one.pid in own}
    stranger = ", which is not a process of this agent"
    return "; ".join(
        sorted(
            f"port {port} is held by {processes.in_words(one.identity)}{of.get(one.pid, stranger)}"
            for port, one in held.items()
        )
    )


def _by_lingering(table: Table, memory: Memory) -> dict[int, Process]:
    """Port -> the process that holds it, of the ports that stopped versions still hold because they take long to end."""
    lives = processes.alive(memory.lingering)
    holders = [one for one in table.by_pid.values() if one.identity in lives] if lives else []
    return {port: one for one in holders for port in table.ports(one)}


@dataclass(frozen=True, slots=True)
class HoldUps:
    """What may keep a version from starting. ports: in the methods, those that its output names."""

    install: Path
    memory: Memory  # of its agent, before the start
    departing: Mapping[str, frozenset[str]]  # version -> processes that its stop may still be ending
    boot: str
    stop: float  # seconds that a stop may take

    def holders(self, ports: Iterable[int]) -> dict[int, Process]:
        """Port -> the process that holds it, of the ports that the agent used before or still holds, or that are named.

        The version's own processes do not count, unless they are of an earlier start.
        """
        known, table = self.memory.running.ports if self.memory.running else frozenset(), Table()
        wanted = known.union(ports) | _by_lingering(table, self.memory).keys()
        own, before = self._versions(table), self.memory.lingering.union(*self.departing.values())
        held = table.holders(wanted).items()
        return {port: one for port, one in held if one.identity in before or own.get(one.pid) != self.install.name}

    def lingering(self, ports: Iterable[int]) -> frozenset[str]:
        """Processes of stopped versions that are the agent itself and take long to end, if the start may fail for them.

        That is so for some time after the stop (`until`), and always if they hold a port or are of this version.
        """
        lives = processes.alive(self.memory.lingering)
        if not lives or witness.ticks() < until(self.memory, self.stop):
            return lives
        of_this = self.memory.left.get(self.install.name, frozenset())
        return lives & (of_this | {one.identity for one in self.holders(ports).values()})

    def await_end(self, ports: Iterable[int]) -> frozenset[str]:
        """Wait until none is `lingering`, for as long as a stop may take; returns those that still are."""
        limit, left = time.monotonic() + self.stop, frozenset[str]()
        counted = time.monotonic() - witness.seconds_since(until(self.memory, self.stop))
        for deadline in (min(counted, limit), limit):
            left = processes.wait_until_gone(self.lingering(ports), deadline)
        return left

    def in_words(self, ports: Iterable[int]) -> str:
        """Which ports others hold, and who does."""
        held = self.holders(ports)
        return ports_in_words(held, self._versions(Table()) if held else {})

    def _versions(self, table: Table) -> dict[int, str]:
        """Process id -> version, of the agent's own processes, and of those that a stop has left running or is still ending."""
        every = witness.by_version(table, self.install.parent, self.memory, self.boot)
        found = {one.pid: version for version, several in every.items() for one in several}
        for version, several in (*self.memory.left.items(), *self.departing.items()):
            found |= {int(one.partition(".")[0]): version for one in processes.alive(several)}
        return found
