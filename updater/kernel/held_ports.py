"""Who holds the ports of an agent: other programs, or stopped versions of it that take long to end."""

from collections.abc import Mapping

from updater.kernel import processes
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.memory import Memory

_SHOWN = 3  # ports that are named in a message


def by_lingering(table: Table, memory: Memory) -> dict[int, Process]:
    """Port -> the process that holds it, of the ports that stopped versions still hold because they take long to end."""
    lives = processes.alive(memory.lingering)
    holders = [one for one in table.by_pid.values() if one.identity in lives] if lives else []
    return {port: one for one in holders for port in table.ports(one)}


def in_use(table: Table, memory: Memory) -> str:
    """The same in words, "" if there are none."""
    versions = {int(one.partition(".")[0]): version for version, left in memory.left.items() for one in left}
    return in_words(dict(sorted(by_lingering(table, memory).items())[:_SHOWN]), versions)


def in_words(held: Mapping[int, Process], own: Mapping[int, str]) -> str:
    """`port 80 is held by 4711 sleep 3600 of 1.0`. own: process id -> version, of the agent's own processes."""
    of = {one.pid: f" of {own[one.pid]}" for one in held.values() if one.pid in own}
    stranger = ", which is not a process of this agent"
    return "; ".join(
        sorted(
            f"port {port} is held by {processes.in_words(one.identity)}{of.get(one.pid, stranger)}"
            for port, one in held.items()
        )
    )
