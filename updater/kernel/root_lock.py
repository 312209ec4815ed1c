"""The lock of a root: one process at a time works there, and others can tell which one it is."""

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from updater import durable_files
from updater.errors import Misconfigured

_MOMENT = 1.0  # seconds for which the lock may be held by who only asks, or by a process that is not named in it yet
_PAUSE = 0.02  # seconds


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Context that holds the lock file. Raises Misconfigured if another process holds it, and TryLater.

    Children do not inherit the descriptor, so a daemon that an agent's script starts does not keep the lock. SIGUSR1, which
    wakes the process that holds it, does not end this one from now on.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, lambda *_: None)  # a handler, since an ignored signal is ignored by agents, too
    durable_files.make_directory(lock.parent)
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise durable_files.trouble(f"cannot open the lock {lock}", e) from e
    try:
        deadline = time.monotonic() + _MOMENT
        while not _locked(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise Misconfigured(
                    f"another updater (pid {_named(fd) or 'unknown'}) works on {lock.parent.parent}: stop it first, or use "
                    "another --root"
                )
            time.sleep(_PAUSE)
        # Only for those who ask: a full disk must not stop the updater.
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def holder(lock: Path) -> int:
    """The process id of the updater that holds the lock; 0 if there is none, or if it cannot be told. Raises TryLater."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # no updater ever ran here
        return 0
    except OSError as e:
        raise durable_files.trouble(f"cannot open the lock {lock}", e) from e
    try:
        deadline = time.monotonic() + _MOMENT
        while not _locked(fd, fcntl.LOCK_SH):
            if (pid := _named(fd)) and _has_open(pid, fd):
                return pid
            if time.monotonic() > deadline:
                return 0
            time.sleep(_PAUSE)
        return 0
    finally:
        os.close(fd)


def _locked(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _named(fd: int) -> int:
    owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
    return int(owner) if owner.isdigit() else 0


def _has_open(pid: int, fd: int) -> bool:
    """Whether the process has this file open. A number in the file may be one of an earlier updater, and used again by now.

    True also if we may not know: then we may not signal it either.
    """
    mine = os.fstat(fd)
    try:
        theirs = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 (names alone)
    except PermissionError:
        return True
    except OSError:
        return False
    for name in theirs:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), mine):  # noqa: PTH116
                return True
    return False
