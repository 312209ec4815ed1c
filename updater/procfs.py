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
DEAD = (b"Z", b"X", b"x")  # states


class Process(NamedTuple):
    """One process at one moment. start: clock ticks since the machine's boot, as /proc writes them; name: its program's, at
    most 15 characters."""

    pid: int
    parent: int
    session: int
    has_terminal: bool
    start: str
    name: str

    @property
    def identity(self) -> str:
        """`pid.starttime`, which no later process has."""
        return f"{self.pid}.{self.start}"

    @property
    def leads_session(self) -> bool:
        return self.pid == self.session


def arguments(proc: str, pid: int) -> list[str]:
    """Those of its command line, with the program's name first."""
    try:
        line = Path(f"{proc}/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return line.decode("utf-8", "replace").rstrip("\0").split("\0") if line else []


def read(proc: str, pid: int) -> Process | None:
    """The process; None when there is none, or it is dead, or may not be seen."""
    name, fields = fields_of(proc, pid)
    if not fields or fields[0] in DEAD:
        return None
    return Process(pid, int(fields[1]), int(fields[3]), fields[4] != b"0", fields[19].decode(), name)


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


def link(proc: str, pid: int, name: str) -> str:
    """Where a link of a process leads, also when that was deleted since; "" when it cannot be read."""
    try:
        return os.readlink(f"{proc}/{pid}/{name}").removesuffix(" (deleted)") + "/"  # noqa: PTH115 (the same)
    except OSError:
        return ""


def is_same(one: str, other: str) -> bool:
    """Whether both lead to the same file; False where that cannot be told."""
    try:
        return os.path.samestat(os.stat(one), os.stat(other))  # noqa: PTH116 (the same)
    except OSError:
        return False


def environment(proc: str, pid: int) -> bytes:
    try:
        return Path(f"{proc}/{pid}/environ").read_bytes()
    except OSError:
        return b""


def descriptors(proc: str, pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{proc}/{pid}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"{proc}/{pid}/fd/{name}"))  # noqa: PTH115
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
