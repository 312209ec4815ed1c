"""Reaps the children that this process inherits as PID 1 of a container or as a subreaper.

Children that this process started itself are left to their starters, which wait for the exit code. An inherited child is reaped
as soon as it is dead, since a zombie answers `kill -0` and keeps its pid. A process that inherits nothing does nothing here.
"""

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from updater import places
from updater.kernel import procfs

_GET_SUBREAPER = 37  # prctl(2)

_lock = threading.Lock()
_own: set[int] = set()


def inherits() -> bool:
    """Whether orphaned processes become children of this process."""
    if os.getpid() == 1:
        return True
    found = ctypes.c_int(0)
    return ctypes.CDLL(None).prctl(_GET_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0 and found.value != 0


@contextlib.contextmanager
def starting() -> Iterator[set[int]]:
    """Context for starting a child: the block adds the child's pid to the set, and removes it after waiting for it."""
    if (
        signal.getsignal(signal.SIGCHLD) is not _on_death
    ):  # nothing is inherited, and starts need not wait for each other
        yield _own
        return
    with _lock:
        yield _own
    bury()  # children that died while the lock was held


@contextlib.contextmanager
def burying() -> Iterator[None]:
    """Context for the main thread: while its block runs, inherited children are reaped when they die."""
    if not inherits():
        yield
        return
    before = signal.signal(signal.SIGCHLD, _on_death)
    try:
        bury()
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def bury() -> None:
    """Reap the dead children that this process did not start."""
    if not _lock.acquire(blocking=False):
        return  # a child is being started; `starting` reaps right after that
    try:
        for pid in _children() - _own:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    finally:
        _lock.release()


def _on_death(*_: object) -> None:
    bury()


def _children() -> set[int]:
    return children_of(os.getpid())


def children_of(pid: int, proc: Path = Path("/proc")) -> set[int]:
    """The pids of a process's children. Without CONFIG_PROC_CHILDREN in the kernel, the parent of each process is read."""
    own = proc / str(pid) / "task"
    if places.is_missing(own / str(pid) / "children"):
        names = [int(path.name) for path in proc.iterdir() if path.name.isdigit()]
        return {one for one in names if procfs.fields_of(str(proc), one)[1][1:2] == [str(pid).encode()]}
    found: set[int] = set()
    for task in own.iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text(encoding="ascii").split()))
    return found
