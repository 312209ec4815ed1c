"""Upgrades the updater, which is an agent of itself: it cannot stop itself to start its successor, so it hands over.

The new version is installed next to the old one, as for any agent. Then it must prove itself twice. Before anything changes,
its own `plan` must get a usable reply from meta. After the old process has become the new one, a guard still runs the old
version. It waits for a good heartbeat of the new version, and takes over again if there is none in time.
"""

import logging
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from updater import durable_files
from updater.errors import ControlFailed, TryLater
from updater.host import control_script, observe
from updater.host.context import Host
from updater.kernel import agent_environment, processes
from updater.meta_client import heartbeats
from updater.model.actions import Step
from updater.model.layout import OWN_NAME, Layout
from updater.model.observed import Observed, Status
from updater.wire.heartbeat import FAILED, ROLLED_BACK, STARTED, Desired, Outcome
from updater.wire.names import version_problem

log = logging.getLogger("updater")

PROGRAM = "updater.pyz"
GUARD_AT_LEAST = 10.0  # seconds for a first heartbeat after the handover, even if the watch is shorter


def running_version(layout: Layout, program: Path) -> str:
    """The version whose program this process runs, "" if that is not in an install below the root."""
    install = program.resolve().parent
    is_install = install.parent == layout.agent(OWN_NAME).path.resolve() and not version_problem(install.name)
    return install.name if is_install else ""


def as_known(seen: Observed) -> Observed:
    """The observation of the updater itself, corrected: it is running, so its control script need not be asked."""
    return replace(seen, status=Status(STARTED), own=True)


def is_successor(host: Host) -> bool:
    """Whether this process is the successor of a handover and has not proven itself yet; or may be, if that is unknown."""
    try:
        trial = host.memories.of(OWN_NAME).trial
    except TryLater as e:
        log.error("%s: %s", OWN_NAME, e)
        return host.own_version != ""
    return trial is not None and trial.version == host.own_version and not trial.until and not trial.failure


def try_out(host: Host, install: Path, timeout: float) -> None:
    """Run the new version's `plan`, which sends a report to meta and reads the reply. Raises ControlFailed with the reason."""
    code, output = control_script.run_program([*_command(install), "plan", *host.options], install, timeout)
    if code != 0:
        raise ControlFailed(f"its own plan ended with exit code {code}", output)


def become(host: Host) -> None:
    """Turn this process into its successor by exec, after starting a guard that runs the current version.

    If the guard cannot be started, `.version` is put back and this process becomes the daemon again, see `take_over`. If exec
    fails, raises TryLater, and the guard carries on. In both cases the successor is not rejected: a later cycle tries again.
    """
    agent, watched = host.layout.agent(OWN_NAME), max(host.config.watch, GUARD_AT_LEAST)
    guard = [*_command(agent.install(host.own_version)), "guard", str(os.getpid()), host.successor, host.own_version]
    try:
        control_script.leave_behind([*guard, str(watched), *host.options], host.layout.root)
    except OSError as e:
        _put_back(host, host.successor, host.own_version, f"its guard could not be started: {e.strerror or e}")
        take_over(host)
        return
    sys.stderr.flush()
    for number in (signal.SIGHUP, signal.SIGUSR1):  # until the successor can handle them
        signal.signal(number, signal.SIG_IGN)
    command = [*_command(agent.install(host.successor)), *sys.argv[1:]]
    try:
        # The same arguments, another version's program.
        os.execve(command[0], command, agent_environment.as_given())  # noqa: S606
    except OSError as e:
        why = f"it could not be started: {e.strerror or e}"
        _put_back(host, host.successor, host.own_version, why)
        raise TryLater(f"the handover to {host.successor} failed: {why}") from e


def note_alive(host: Host) -> None:
    """Write a file that tells the guard of this process's first good reply from meta, so that the guard can end."""
    text = f"{host.own_version} {os.getpid()}\n".encode()
    if host.own_version and durable_files.read_state(host.layout.alive, 256) != text:
        durable_files.write_atomic(host.layout.alive, text)


def guard(host: Host, pid: int, version: str, back: str, seconds: float) -> bool:
    """Wait for the new version's good heartbeat; returns True if it came, else undoes the handover and returns False.

    Then the version is rejected, unless the process lives and meta does not answer the guard either.
    """
    wanted = f"{version} {pid}\n".encode()
    deadline = time.monotonic() + seconds
    why = f"no good heartbeat within {seconds:g} s"
    while time.monotonic() < deadline:
        if durable_files.read_state(host.layout.alive, 256) == wanted:
            return True
        if not _is_alive(pid):
            why = "it ended before its first good heartbeat"
            break
        time.sleep(0.1)
    if observe.current(host.layout.agent(OWN_NAME)) == version:  # or the handover has failed and was undone
        is_at_fault = not _is_alive(pid) or heartbeats.is_reachable(host)
        (_reject if is_at_fault else _put_back)(host, version, back, why)
    if _is_alive(pid):
        processes.end([processes.identity(pid)], grace=5.0)
    return False


def take_over(host: Host) -> None:
    """Become the daemon again by exec; returns only under systemd, which starts it itself."""
    if "INVOCATION_ID" in os.environ:  # systemd starts the unit again, with the version in `.version`
        return
    command = [*_command(Path(sys.argv[0]).resolve().parent), "run", *host.options]
    os.execve(command[0], command, agent_environment.as_given())  # noqa: S606


# Both run before the new process is ended, so that the next start of the updater is of the old version.


def _reject(host: Host, version: str, back: str, why: str) -> None:
    """Go back to the old version, and reject the new one."""
    _name(host, back)
    order = _order(host, version)
    outcome = _outcome(host, version, back, ROLLED_BACK, why)
    host.memories.note(OWN_NAME, lambda memory: memory.rejecting(order, why).with_outcome(outcome))
    log.error("%s: %s was rolled back: %s", OWN_NAME, version, why)


def _put_back(host: Host, version: str, back: str, why: str) -> None:
    """Go back to the old version without rejecting the new one; a later cycle hands over again."""
    _name(host, back)
    outcome = _outcome(host, version, back, FAILED, why)
    host.memories.note(OWN_NAME, lambda memory: memory.put_back(back).with_outcome(outcome))
    log.error("%s: the handover to %s failed and is tried again later: %s", OWN_NAME, version, why)


def _name(host: Host, version: str) -> None:
    durable_files.write_atomic(host.layout.agent(OWN_NAME).version_file, f"{version}\n".encode())


def _order(host: Host, version: str) -> Desired:
    return next((o for o in host.orders.last.orders if o.name == OWN_NAME), Desired(OWN_NAME, version))


def _outcome(host: Host, version: str, back: str, result: str, why: str) -> Outcome:
    attempt = _order(host, version).attempt
    return Outcome(OWN_NAME, back, version, Step.HAND_OVER.value, result, why, at=int(host.now()), attempt=attempt)


def _is_alive(pid: int) -> bool:
    """Whether the process runs the updater; False for a zombie or a reused pid.

    During exec a process has no command line for a moment; then it counts as alive.
    """
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return PROGRAM.encode() in line if line else processes.identity(pid) != ""


def _command(install: Path) -> list[str]:
    return [sys.executable, str(install / PROGRAM)]
