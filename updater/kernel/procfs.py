"""What one process is, as its directory below /proc tells, see proc(5). Each function is told where /proc is, so that a test
can have one of its own.

Promises: what cannot be read is empty, never an error: a process may end while it is looked at. Refuses to judge: whose a
process is, and whether it is signalled, is for `processes` and `witness`.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_LISTENING = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}  # the state of a socket that takes what comes
_DEAD = (b"Z", b"X", b"x")  # states
_THREADS = 17  # the place of the number of threads among the fields after the name


class Process(NamedTuple):
    """One process at one moment. start: clock ticks since the machine's boot, as /proc writes them; name: its program's, at
    most 15 characters; place: below /proc, where it can be looked into: its number, or where its main thread has ended, which
    hides all but its numbers, the directory of one that lives."""

    pid: int
    parent: int
    session: int
    has_terminal: bool
    start: str
    name: str
    place: str

    @property
    def identity(self) -> str:
        """`pid.starttime`, which no later process has."""
        return f"{self.pid}.{self.start}"

    @property
    def leads_session(self) -> bool:
        return self.pid == self.session


def arguments(proc: str, place: str) -> list[str]:
    """Those of its command line, with the program's name first. place: as of `Process`, here and below."""
    try:
        line = Path(f"{proc}/{place}/cmdline").read_bytes()
    except OSError:
        return []
    return line.decode("utf-8", "replace").rstrip("\0").split("\0") if line else []


def read(proc: str, pid: int) -> Process | None:
    """The process; None when there is none, or it is dead, or may not be seen."""
    name, fields = fields_of(proc, pid)
    if not fields or is_dead(fields):
        return None
    place = f"{pid}/task/{_living_thread(proc, pid)}" if fields[0] in _DEAD else str(pid)
    return Process(pid, int(fields[1]), int(fields[3]), fields[4] != b"0", fields[19].decode(), name, place)


def is_dead(fields: list[bytes]) -> bool:
    """Whether a process, of which `fields_of` tells this, has ended. One whose main thread has ended while others go on has the
    state of a dead one, and lives."""
    return fields[0] in _DEAD and int(fields[_THREADS]) <= 1


def _living_thread(proc: str, pid: int) -> int:
    """One of its threads that is not the main one; the number of that where there is none any more."""
    try:
        others = [int(name) for name in os.listdir(f"{proc}/{pid}/task") if int(name) != pid]  # noqa: PTH208
    except OSError:
        others = []
    return min(others, default=pid)


def fields_of(proc: str, pid: int) -> tuple[str, list[bytes]]:
    """Its program's name and the fields after it, see proc(5); none when they cannot be read."""
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
    """Where a link of a process leads, also when that was deleted since; "" when it cannot be read."""
    try:
        return os.readlink(f"{proc}/{place}/{name}").removesuffix(" (deleted)") + "/"  # noqa: PTH115 (the same)
    except OSError:
        return ""


def is_same(one: str, other: str) -> bool:
    """Whether both lead to the same file; False where that cannot be told."""
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


def listening(proc: str) -> Mapping[str, int]:
    """The port of each socket that takes what comes, by what its descriptor links to."""
    found = {}
    for kind, state in _LISTENING.items():
        with contextlib.suppress(OSError):
            for line in Path(f"{proc}/net/{kind}").read_text(encoding="ascii", errors="replace").splitlines()[1:]:
                fields = line.split()
                if len(fields) > 9 and fields[3] == state:
                    found[f"socket:[{fields[9]}]"] = int(fields[1].rpartition(":")[2], 16)
    return found
