"""The processes of one install, found in /proc: the last resort when a rejected version cannot be stopped by its own control.

A process belongs to an install when its program lies there, or when it works there and has no terminal (so that nobody's shell
is taken for an agent).
"""

import contextlib
import os
import signal
import time
from pathlib import Path

GRACE = 3.0  # seconds from TERM to KILL
_MOMENT = 0.1  # seconds; what a status script leaves behind is gone by then


def end_all_of(install: Path) -> int:
    """End the processes of an install, with TERM and then KILL; returns how many there were."""
    found = _all_of(install)
    for sig, grace in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        for pid in _all_of(install):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, sig)
        deadline = time.monotonic() + grace
        while _all_of(install) and time.monotonic() < deadline:
            time.sleep(0.05)
    return len(found)


def boot_id() -> str:
    """Which start of the machine this is, "" where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def identity(pid: int) -> str:
    """A process as `pid.starttime`, which no later process has; "" when there is none, or it is dead and not yet buried."""
    try:
        fields = _stat(pid)
        return f"{pid}.{fields[19]}" if fields[0] not in "ZX" else ""
    except (OSError, IndexError):
        return ""


def identities(install: Path) -> frozenset[str]:
    """The processes of an install that live for more than a moment, each as `pid.starttime`, which no later process has."""
    first = _identities(_all_of(install))
    if first:
        time.sleep(_MOMENT)
    where = _below(install)
    return first & _identities([pid for pid in (int(one.partition(".")[0]) for one in first) if _belongs(pid, where)])


def _identities(pids: list[int]) -> frozenset[str]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            found.add(f"{pid}.{_stat(pid)[19]}")
    return frozenset(found)


def _all_of(install: Path) -> list[int]:
    where, ourselves = _below(install), os.getpid()
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 (thousands of them, every few seconds)
    return [pid for pid in pids if pid != ourselves and _belongs(pid, where)]


def _below(install: Path) -> str:
    return f"{install.resolve()}/"


def _belongs(pid: int, where: str) -> bool:
    try:
        if _link(pid, "exe").startswith(where):
            return True
        works_there = _link(pid, "cwd").startswith(where)
        return works_there and not _has_terminal(pid)
    except (OSError, IndexError):  # gone meanwhile, a kernel thread, or not ours
        return False


def _link(pid: int, name: str) -> str:
    """Where a link of a process leads, also when that was deleted since; with a slash at its end."""
    return os.readlink(f"/proc/{pid}/{name}").removesuffix(" (deleted)") + "/"  # noqa: PTH115 (the same)


def _has_terminal(pid: int) -> bool:
    return _stat(pid)[4] != "0"  # tty_nr


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat that follow the name, see proc(5)."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return stat.rpartition(")")[2].split()
