"""The children of this process: those that it started, and those that it inherits as PID 1 of a container or as a subreaper.

Promises: who started a child waits for it and gets its exit code; what was inherited is buried as soon as it is dead, for a
dead process that is not buried answers `kill -0` and keeps its number. Where nothing is inherited, nothing is done.
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
    """Whether what others leave becomes a child of this process."""
    if os.getpid() == 1:
        return True
    found = ctypes.c_int(0)
    return ctypes.CDLL(None).prctl(_GET_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0 and found.value != 0


@contextlib.contextmanager
def starting() -> Iterator[set[int]]:
    """While the block starts a child: it puts the child's pid into the set, and takes it out when it has waited for it."""
    if (
        signal.getsignal(signal.SIGCHLD) is not _on_death
    ):  # nothing is inherited, and starts need not wait for each other
        yield _own
        return
    with _lock:
        yield _own
    bury()  # what died meanwhile


@contextlib.contextmanager
def burying() -> Iterator[None]:
    """While the block runs, in the main thread, what is inherited is buried when it dies."""
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
    """Take leave of the dead that this process did not start."""
    if not _lock.acquire(blocking=False):
        return  # a child is just being started; it is seen to right after that
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
    """The children of a process. A kernel that does not list them (it was built without CONFIG_PROC_CHILDREN) is asked for the
    parent of each process instead."""
    own = proc / str(pid) / "task"
    if places.is_missing(own / str(pid) / "children"):
        names = [int(path.name) for path in proc.iterdir() if path.name.isdigit()]
        return {one for one in names if procfs.fields_of(str(proc), one)[1][1:2] == [str(pid).encode()]}
    found: set[int] = set()
    for task in own.iterdir():
        with contextlib.suppress(OSError):
            found.update(map(int, (task / "children").read_text(encoding="ascii").split()))
    return found
