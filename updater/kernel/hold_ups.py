"""What keeps a version from running: ports that others hold, and stopped versions of its agent that take long to end."""

import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from updater.kernel import processes, procfs, witness
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.memory import Memory
from updater.model.recognised import Recognised

STOPS = 3  # how many times as long as a stop may take a stopped version counts that holds no port
_SHOWN = 3  # ports that are named in a message
_PROC = "/proc"
_SHARE = 0.1  # of a start's time that looks at its ports take at most, for reading all sockets may take long


def until(memory: Memory, stop: float) -> int:
    """Until when what stopped versions left decides nothing, though it holds no port: clock ticks since the boot.

    It may hold anything else, as a lock or a socket's name, and what it is meant to do for ever is not to be waited for.
    stop: seconds that a stop may take.
    """
    return memory.lingering_since + int(STOPS * stop * witness.TICKS)


def ports_in_words(
    held: Mapping[int, Process | None], own: Mapping[int, str], stays: Container[str] = (), verb: str = "is"
) -> str:
    """`port 80 is held by 4711 sleep 3600 of 1.0`. own: process id -> version, of the agent's own processes.

    stays: those of them that a stop has left for good.
    """
    return "; ".join(
        f"port {port} {verb} held by {_who(one, own, stays)}" for port, one in sorted(held.items())[:_SHOWN]
    )


def _who(holder: Process | None, own: Mapping[int, str], stays: Container[str]) -> str:
    if holder is None:
        return "a process that cannot be seen from here"
    who = processes.in_words(holder.identity)
    if holder.pid not in own:
        return f"{who}, which is not a process of this agent"
    is_left = " that its stop has left: end it, or order with leftovers=end" if holder.identity in stays else ""
    return f"{who} of {own[holder.pid]}{is_left}"


def ports_of(table: Table, every: Container[str], near: Container[str]) -> frozenset[int]:
    """The ports on which a version listens, without those that other processes have too, as one that hands it sockets does.

    every: its own processes; near: those of them that are the version itself.
    """
    ports = _ports(table, lambda one: one.identity in near)
    return ports - _ports(table, lambda one: one.identity not in every) if ports else ports


def _ports(table: Table, whose: Callable[[Process], bool]) -> frozenset[int]:
    return frozenset().union(*(table.ports(one) for one in table.by_pid.values() if whose(one)))


def since_its_start(found: Recognised) -> frozenset[str]:
    """The processes of a version, without those of its earlier starts."""
    return frozenset(one for one in found.processes if int(one.partition(".")[2]) >= found.since)


def _by_lingering(table: Table, memory: Memory) -> dict[int, Process]:
    """Port -> the process that holds it, of the ports that stopped versions still hold because they take long to end."""
    lives = processes.alive(memory.lingering)
    holders = [one for one in table.by_pid.values() if one.identity in lives] if lives else []
    return {port: one for one in holders for port in table.ports(one)}


@dataclass(frozen=True, slots=True)
class HoldUps:
    """What may keep a version from running. ports: in the methods, those that its output names.

    Ports that the version itself holds by now count nowhere.
    """

    install: Path
    memory: Memory  # of its agent; for a start, before it
    boot: str
    stop: float  # seconds that a stop may take
    own: Callable[[Table], frozenset[str]]  # the version's own processes since its last start
    departing: Mapping[str, frozenset[str]] = field(
        default_factory=dict
    )  # version -> what its stop may still be ending
    sighted: str = ""  # of a start just made: who held the agent's ports before and during it, see `Sightings`

    def why(self, table: Table) -> str:
        """Why an end of the version decides nothing, in words; "" if it does.

        Stopped versions still run, or others hold ports that those had, so that a way back could not run either.
        """
        lives, words = processes.alive(self.memory.lingering), [self.in_words_of(self._taken(table), table)]
        if lives and not words[0] and witness.ticks() < until(self.memory, self.stop):
            words = [witness.in_words(one, left & lives) for one, left in sorted(self.memory.left.items())]
        return "; ".join(filter(None, words)) or self.sighted

    def serves(self, table: Table) -> bool:
        """Whether the version listens on all ports that those before it had."""
        own = self.own(table)
        return bool(self.memory.ports) and self.memory.ports <= _ports(table, lambda one: one.identity in own)

    def _taken(self, table: Table) -> dict[int, Process | None]:
        had_them = self.memory.trial is not None and self.memory.trial.served  # then these were no reason for its end
        needed = frozenset() if had_them else self.memory.ports
        return self._held(table, needed | _by_lingering(table, self.memory).keys())

    def taken(self) -> dict[int, Process | None]:
        """Who holds the ports that the versions before this one had. While these are free, no process is read."""
        ports = self.memory.ports_before(self.install.name)
        is_any = bool(ports) and not ports.isdisjoint(procfs.listening(_PROC).values())
        return self._held(Table(), ports) if is_any else {}

    def holders(self, ports: Iterable[int] = ()) -> dict[int, Process | None]:
        """Port -> who holds it, of the ports that the agent used before or still holds, or that are named."""
        known, table = self.memory.running.ports if self.memory.running else frozenset(), Table()
        return self._held(table, known.union(self.memory.ports, ports, _by_lingering(table, self.memory)))

    def _held(self, table: Table, ports: frozenset[int]) -> dict[int, Process | None]:
        held = self._by_others(table, ports)
        if None not in held.values():
            return held
        # What holds it may have ended since the sockets were listed, or begun since the processes were read.
        return self._by_others(Table(), frozenset(held))

    def _by_others(self, table: Table, ports: frozenset[int]) -> dict[int, Process | None]:
        held = table.holders(ports)
        if not held:
            return held
        own = self.own(table) - self.memory.lingering.union(*self.departing.values())
        own -= self.memory.left.get(self.install.name, frozenset())
        return table.holders(held.keys() - _ports(table, lambda one: one.identity in own))

    def lingering(self, ports: Iterable[int]) -> frozenset[str]:
        """Processes of stopped versions that are the agent itself and take long to end, if the start may fail for them.

        That is so for some time after the stop (`until`), and always if they hold a port or are of this version.
        """
        lives = processes.alive(self.memory.lingering)
        if not lives or witness.ticks() < until(self.memory, self.stop):
            return lives
        of_this = self.memory.left.get(self.install.name, frozenset())
        return lives & (of_this | {one.identity for one in self.holders(ports).values() if one})

    def await_end(self, ports: Iterable[int]) -> frozenset[str]:
        """Wait until none is `lingering`, for as long as a stop may take; returns those that still are."""
        limit, left = time.monotonic() + self.stop, frozenset[str]()
        counted = time.monotonic() - witness.seconds_since(until(self.memory, self.stop))
        for deadline in (min(counted, limit), limit):
            left = processes.wait_until_gone(self.lingering(ports), deadline)
        return left

    def in_words(self, ports: Iterable[int] = ()) -> str:
        """Which ports others hold, and who does."""
        return self.in_words_of(self.holders(ports), Table())

    def in_words_of(self, held: Mapping[int, Process | None], table: Table, verb: str = "is") -> str:
        """The same of what was found. held: port -> who holds it."""
        stays = frozenset().union(*self.memory.left.values()) - self.memory.lingering
        return ports_in_words(held, self._versions(table), stays, verb) if held else ""

    def _versions(self, table: Table) -> dict[int, str]:
        """Process id -> version, of the agent's own processes, and of those that a stop has left running or is still ending."""
        every = witness.by_version(table, self.install.parent, self.memory, self.boot)
        found = {one.pid: version for version, several in every.items() for one in several}
        for version, several in (*self.memory.left.items(), *self.departing.items()):
            found |= {int(one.partition(".")[0]): version for one in processes.alive(several)}
        return found


class Sightings:
    """Who held the agent's ports at looks before and during one start, as they may have let go of them by its end."""

    def __init__(self, holds: HoldUps) -> None:
        self._holds, self._next = holds, 0.0
        self._since = 0  # when the first look was made, in clock ticks since the boot
        self.words = ""  # of the last look at which others held any; "" if there was none
        # Whether any of these was there before the start. Others may be what it has begun, though not recognised as such:
        self.are_strange = False

    def look(self) -> bool:
        """Look at the ports: first before the start, then if the last look is long enough ago. False: no wait is in vain."""
        began = time.monotonic()
        if began >= self._next:
            if held := self._holds.taken():
                self.words = self._holds.in_words_of(held, Table(), "was")
                self.are_strange |= not self._since or any(
                    one and int(one.start) < self._since for one in held.values()
                )
            self._since = self._since or witness.ticks()
            self._next = time.monotonic() + (time.monotonic() - began) / _SHARE
        return False

    def are_over(self) -> bool:
        """Whether others held a port of the agent at a look, and do not any more."""
        return bool(self.words) and not self._holds.taken()
