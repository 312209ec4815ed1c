"""Reads one process's directory below /proc, see proc(5). Each function takes the path of /proc, so that tests can use another.

What cannot be read is empty, never an error, since a process may end at any time. Owners and signals are left to `processes`
and `witness`.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_LISTENING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}  # the state of a socket that listens or receives
_DEAD = (b"Z", b"X", b"x")  # states
_TICKS = os.sysconf("SC_CLK_TCK")  # in a second
_THREADS = 17  # the place of the number of threads among the fields after the name


class Process(NamedTuple):
    """One process at one moment."""

    pid: int
    parent: int
    session: int
    has_terminal: bool
    start: str  # clock ticks since the machine's boot, as in /proc
    name: str  # of its program, at most 15 characters
    place: str  # its directory below /proc; that of a living thread if the main thread has ended

    @property
    def identity(self) -> str:
        """`pid.starttime`, which is unique within one boot."""
        return f"{self.pid}.{self.start}"

    @property
    def leads_session(self) -> bool:
        return self.pid == self.session


def is_ours(proc: str) -> bool:
    """Whether this is the /proc of our own PID namespace; in that of another one, our pids are those of others."""
    try:
        return os.readlink(f"{proc}/self") == str(os.getpid())  # noqa: PTH115 (a pid)
    except OSError:
        return False


def age(process: Process) -> float:
    """Seconds since the process was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(process.start) / _TICKS


def arguments(proc: str, place: str) -> list[str]:
    """Its command line, the program's name first. place: see `Process`, here and below."""
    try:
        line = Path(f"{proc}/{place}/cmdline").read_bytes()
    except OSError:
        return []
    return line.decode("utf-8", "replace").rstrip("\0").split("\0") if line else []


def read(proc: str, pid: int) -> Process | None:
    """The process; None if there is none, or if it is dead or hidden."""
    name, fields = fields_of(proc, pid)
    if not fields or is_dead(fields):
        return None
    place = f"{pid}/task/{_living_thread(proc, pid)}" if fields[0] in _DEAD else str(pid)
    return Process(pid, int(fields[1]), int(fields[3]), fields[4] != b"0", fields[19].decode(), name, place)


def is_dead(fields: list[bytes]) -> bool:
    """Whether a process with these fields (see `fields_of`) has ended. One whose main thread has ended while other threads
    go on has the state of a zombie, but is alive."""
    return fields[0] in _DEAD and int(fields[_THREADS]) <= 1


def _living_thread(proc: str, pid: int) -> int:
    """The id of a thread other than the main one; the main thread's if there is no other."""
    try:
        others = [int(name) for name in os.listdir(f"{proc}/{pid}/task") if int(name) != pid]  # noqa: PTH208
    except OSError:
        others = []
    return min(others, default=pid)


def fields_of(proc: str, pid: int) -> tuple[str, list[bytes]]:
    """(program name, the fields after it in /proc/PID/stat); ("", []) if they cannot be read."""
    try:
        file = os.open(f"{proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # the quickest way, for there are thousands
    except OSError:
        return "", []
    try:
        stat = os.read(file, 1024)
    except OSError:
        return "", []
    finally:
        os.close(file)
    before, _, after = stat.rpartition(b")")
    fields = after.split()
    return (before.partition(b"(")[2].decode("utf-8", "replace"), fields) if len(fields) >= 20 else ("", [])


def link(proc: str, place: str, name: str) -> str:
    """The target of a process's link, with a trailing slash, also if it was deleted; "" if the link cannot be read."""
    try:
        return os.readlink(f"{proc}/{place}/{name}").removesuffix(" (deleted)") + "/"  # noqa: PTH115 (the same)
    except OSError:
        return ""


def is_same(one: str, other: str) -> bool:
    """Whether both paths lead to the same file; False if that cannot be read."""
    try:
        return os.path.samestat(os.stat(one), os.stat(other))  # noqa: PTH116 (the same)
    except OSError:
        return False


def environment(proc: str, place: str) -> bytes:
    try:
        return Path(f"{proc}/{place}/environ").read_bytes()
    except OSError:
        return b""


def descriptors(proc: str, place: str) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{proc}/{place}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"{proc}/{place}/fd/{name}"))  # noqa: PTH115
    return found


def listening(proc: str, protocol: str = "") -> Mapping[str, int]:
    """The port of each socket that listens (TCP) or receives (UDP), by the target of its descriptor's link.

    protocol: "tcp" or "udp"; "" for both.
    """
    found = {}
    for kind, state in _LISTENING.items():
        if not kind.startswith(protocol):
            continue
        with contextlib.suppress(OSError):
            for line in Path(f"{proc}/net/{kind}").read_text(encoding="ascii", errors="replace").splitlines()[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == state:
                    found[f"socket:[{fields[9]}]"] = int(fields[1].rpartition(":")[2], 16)
    return found
