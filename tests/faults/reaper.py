"""The processes that a case leaves behind: agents' daemons and scripts whose updater was killed become children of this
process, so that they can be counted, waited for and ended, and none outlives the suite."""

import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from faults.goods import DAEMON

PATIENCE = 15.0  # seconds
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Daemon:
    """An agent that runs. where: its working directory, an install."""

    pid: int
    where: Path


def adopt_orphans() -> None:
    """From now on orphans below this process are its children. Linux only."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """This process gets TERM when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def daemons() -> list[Daemon]:
    """The agents that run, once everything else that was started has ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        _bury()
        commands = {pid: _command(pid) for pid in _children()}
        others = {pid: command for pid, command in commands.items() if command != DAEMON}
        if not others:
            return [Daemon(pid, _where(pid)) for pid in sorted(commands)]
        if time.monotonic() > deadline:
            raise AssertionError(f"these did not end within {PATIENCE:g} s: {others}")
        time.sleep(0.001)


def end_all() -> None:
    """Kill and bury all children, and the children that they leave."""
    deadline = time.monotonic() + PATIENCE
    while (left := _children()) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _bury()
        time.sleep(0.0005)


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def _bury() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def _where(pid: int) -> Path:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return Path()
