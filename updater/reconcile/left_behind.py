"""Finds stops, and waits for starts, that an earlier updater began but did not see the end of, because it was killed.

A `./control start` that still runs is waited for. Then the status is polled until it is `started`, or until the time for a
start is over. After a start that an updater did not make, this lasts only while processes of it are left. Only then is the
version stopped or started.
"""

import logging
import time
from collections.abc import Iterable
from pathlib import Path

from updater.host import control_script
from updater.host.context import Host
from updater.kernel import doubts, processes, witness
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.memory import Memory
from updater.model.observed import State

log = logging.getLogger("updater")

_PAUSE = 0.1  # seconds between two looks
_SOON = 1.0  # seconds after the end of a script in which what it left can be recognised


def under_way(found: Iterable[Process], memory: Memory) -> list[Process]:
    """The starts of an earlier updater that still run, among an agent's processes.

    A supervisor may look like one. But it was recognised at the end of its start, so it is in the memory.
    """
    known = [one.processes for one in (memory.running, memory.begun) if one]
    return [
        one for one in found if witness.is_start_script(one) and not any(one.identity in several for several in known)
    ]


def is_being_stopped(host: Host, name: str) -> bool:
    """Whether a stop of an earlier updater still runs, so that an agent that looks as desired will be down.

    Once there was none, there will be none: each later stop is made by a turn of this run.
    """
    if name in host.unstopped:
        return False
    table, agent = host.table(time.monotonic() - _SOON), host.layout.agent(name).path
    if any(_is_stop_script(one) and table.works(one, agent) for one in table.by_pid.values()):
        return True
    host.unstopped.add(name)
    return False


def _is_stop_script(process: Process) -> bool:
    """Whether this is an updater's `./control stop` that still runs."""
    return process.leads_session and processes.command(process.pid)[-2:] == ["./control", "stop"]


def see_through(host: Host, install: Path, memory: Memory) -> None:
    """Wait until it is known how a start of this version that was left behind ended. Returns at once if there is none.

    If an updater made that start, all of its time is waited for while the version is not started. What brings the version up
    may have left its directory and session and wiped its environment, so that nothing shows it.
    """
    found = witness.by_version(Table(), install.parent, memory, host.boot).get(install.name, [])
    scripts, begun = under_way(found, memory), memory.begun if memory.is_cut_off(install.name, host.boot) else None
    if not (scripts or begun):
        return
    _await(host, install, scripts)
    since, known = begun.since if begun else min(int(one.start) for one in scripts), memory.known(install.name)
    deadline = time.monotonic() + host.config.timeouts.start - witness.seconds_since(since)
    soon = time.monotonic() + _SOON
    if begun and not scripts and time.monotonic() < deadline:
        log.warning("%s: an earlier start of %s was cut off; waiting for its end", install.parent.name, install.name)
    while (now := time.monotonic()) < deadline and not is_started(host, install):
        if not begun and now > soon and not doubts.is_coming_up(Table(), install, known, host.boot, since):
            break
        time.sleep(_PAUSE)


def is_started(host: Host, install: Path) -> bool:
    """Whether the version's status is `started` now, and not by a zombie that its supervisor does not reap."""
    is_told = control_script.status(install, host.config.timeouts.status).state is State.STARTED
    return is_told and not doubts.is_unreaped(install)


def _await(host: Host, install: Path, scripts: Iterable[Process]) -> None:
    """Wait for the end of these starts. Those that stay are ended, unless the version is started: see `under_way`."""
    for one in scripts:
        log.warning("%s: an earlier start of %s still runs; waiting for its end", install.parent.name, install.name)
        stays = processes.wait_until_gone({one.identity}, time.monotonic() + host.config.timeouts.start)
        if stays and not is_started(host, install):
            processes.end(stays)
