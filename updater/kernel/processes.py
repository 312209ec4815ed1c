"""The processes of this host. This is the only module that signals them; `procfs` reads them.

A process is identified by its pid and start time together, which no later process shares, and is signalled only if both match.
Zombies do not count as processes. Processes that cannot be inspected are reported as such (`is_closed`, `is_hidden`).
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from updater.kernel import procfs
from updater.kernel.procfs import Process

GRACE = 3.0  # seconds from TERM to KILL
_PROC = Path("/proc")
_KTHREADD = 2  # the parent of the kernel's own threads
_SHOWN = 100  # characters of a command line


class Table:
    """All processes that are alive at one moment. Their directories and sockets are read on demand and cached."""

    def __init__(self, proc: Path = _PROC) -> None:
        self.at = time.monotonic()  # just before the processes were read
        self._proc = os.fspath(proc)
        pids = [int(name) for name in os.listdir(self._proc) if name.isdigit()]  # noqa: PTH208 (thousands of them)
        self.by_pid = {pid: found for pid in pids if (found := procfs.read(self._proc, pid))}
        self._places: dict[int, tuple[str, str]] = {}
        self._directories: dict[Path, str] = {}
        self._sockets: dict[str, Mapping[str, int]] = {}  # by protocol

    def below(self, directory: Path) -> list[Process]:
        """The processes whose program lies below the directory, or that work there without a terminal.

        The last condition excludes shells of people. This process itself and processes that only see the same path elsewhere,
        as in a container, are not among them. `ownership` decides which agent they belong to.
        """
        ourselves = os.getpid()
        return [
            one
            for one in self.by_pid.values()
            if one.pid != ourselves
            and (self.lies(one, directory) or (not one.has_terminal and self.works(one, directory)))
        ]

    def lies(self, process: Process, directory: Path) -> bool:
        """Whether its program lies below the directory."""
        program, where = self.places(process)[0], self._resolved(directory)
        return program.startswith(where) and self._is_here(process, "exe", program)

    def works(self, process: Process, directory: Path) -> bool:
        """Whether its working directory is below the directory."""
        working, where = self.places(process)[1], self._resolved(directory)
        return working.startswith(where) and self._is_here(process, "cwd", working)

    def by_entry(self, directory: Path) -> dict[str, list[Process]]:
        """Like `below`, grouped by the entry of the directory that they are in."""
        found: dict[str, list[Process]] = {}
        where = self._resolved(directory)
        for one in self.below(directory):
            place = self.places(one)[0 if self.lies(one, directory) else 1]
            if entry := place.removeprefix(where).partition("/")[0]:
                found.setdefault(entry, []).append(one)
        return found

    def places(self, process: Process) -> tuple[str, str]:
        """(path of its program, working directory), each with a trailing slash; "" if it cannot be read."""
        if (found := self._places.get(process.pid)) is None:
            program = "" if self._is_of_the_kernel(process) else procfs.link(self._proc, process.place, "exe")
            working = procfs.link(self._proc, process.place, "cwd") if program else ""
            found = self._places[process.pid] = (program, working)
        return found

    def environment(self, process: Process) -> dict[str, str]:
        """The environment that a process was started with; {} if it cannot be read."""
        pairs = procfs.environment(self._proc, process.place).decode("utf-8", "replace").split("\0")
        return {name: value for name, equals, value in (pair.partition("=") for pair in pairs) if equals}

    def with_variable(self, name: str, value: str, since: int = 0) -> list[Process]:
        """The processes that were started with this variable in their environment, at `since` (clock ticks) or later."""
        wanted = f"{name}={value}\0".encode()
        ours = [one for one in self.by_pid.values() if int(one.start) >= since and not self._is_of_the_kernel(one)]
        return [one for one in ours if wanted in procfs.environment(self._proc, one.place)]

    def names(self, process: Process, directory: Path) -> bool:
        """Whether one of its arguments contains a path below the directory; also for processes that cannot be inspected."""
        places = (f"{directory}/", self._resolved(directory))
        arguments = procfs.arguments(self._proc, process.place)
        is_named = any(place in one for one in arguments for place in places)
        return is_named and (self.is_closed(process) or self.shares_our_files(process))

    def is_called(self, process: Process, directory: Path) -> bool:
        """Whether its argument 0 is a path below the directory; its program may be elsewhere."""
        name = "".join(self.arguments(process)[:1])
        return name.startswith((f"{directory}/", self._resolved(directory))) and self.shares_our_files(process)

    def arguments(self, process: Process) -> list[str]:
        """Its command line, the program's name first."""
        return procfs.arguments(self._proc, process.place)

    def is_closed(self, process: Process) -> bool:
        """Whether the kernel does not let us see its program and working directory."""
        return self.places(process) == ("", "")

    def ports(self, process: Process, protocol: str = "") -> frozenset[int]:
        """The ports on which it listens (TCP) or receives (UDP). protocol: "tcp" or "udp"; "" for both."""
        sockets = self._listening(protocol)
        held = procfs.descriptors(self._proc, process.place) if sockets else []
        return frozenset(port for link in held if (port := sockets.get(link)))

    def holders(self, ports: Iterable[int]) -> dict[int, Process | None]:
        """A process that listens on each of these ports; None if the kernel does not show us any. Free ports are left out."""
        wanted = set(ports) & set(self._listening().values())
        found: dict[int, Process | None] = dict.fromkeys(wanted)
        for process in self.by_pid.values():
            if not wanted:
                break
            held = wanted & self.ports(process)
            found.update(dict.fromkeys(held, process))
            wanted -= held
        return found

    def _listening(self, protocol: str = "") -> Mapping[str, int]:
        if protocol not in self._sockets:
            self._sockets[protocol] = procfs.listening(self._proc, protocol)
        return self._sockets[protocol]

    def _resolved(self, directory: Path) -> str:
        if (found := self._directories.get(directory)) is None:
            found = self._directories[directory] = f"{directory.resolve()}/"
        return found

    def _is_here(self, process: Process, link: str, place: str) -> bool:
        """Whether its link leads to the file that has this path for us.

        In another mount namespace or below another root, the same path may be another file. A deleted file has no path; for
        it only the namespaces are compared.
        """
        return procfs.is_same(f"{self._proc}/{process.place}/{link}", place.rstrip("/")) or self.shares_our_files(
            process
        )

    def shares_our_files(self, process: Process) -> bool:
        """Whether it has our mount namespace and root, so that paths mean the same; False if that cannot be read."""
        return all(
            procfs.is_same(f"{self._proc}/{process.place}/{link}", f"{_PROC}/self/{link}")
            for link in ("ns/mnt", "root")
        )

    def _is_of_the_kernel(self, process: Process) -> bool:
        return _KTHREADD in (process.pid, process.parent) and not procfs.link(self._proc, process.place, "exe")


def is_dead(pid: int) -> bool:
    """Whether it is a zombie: ended, but not yet reaped. False if that cannot be read."""
    fields = procfs.fields_of(os.fspath(_PROC), pid)[1]
    return bool(fields) and procfs.is_dead(fields)


def zombie(known: str) -> Process | None:
    """The process of this identity if it has ended and its parent has not reaped it, else None."""
    pid = int(known.partition(".")[0] or 0)
    name, fields = procfs.fields_of(os.fspath(_PROC), pid)
    if not fields or not procfs.is_dead(fields) or known != f"{pid}.{fields[19].decode()}":
        return None
    return Process(pid, int(fields[1]), int(fields[3]), False, fields[19].decode(), name, str(pid))


def is_thread(pid: int) -> bool:
    """Whether this number is the id of a thread other than a main thread."""
    try:
        status = Path(f"{_PROC}/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return f"\nTgid:\t{pid}\n" not in status


def is_in_use(pid: int) -> bool:
    """Whether a process, living or dead, or a thread has this number; also one that is hidden from us."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def is_hidden(pid: int) -> bool:
    """Whether it exists but is hidden from us by the mount option `hidepid` of /proc."""
    return not procfs.fields_of(os.fspath(_PROC), pid)[1] and is_in_use(pid)


def identity(pid: int) -> str:
    """A process as `pid.starttime`; "" if there is none, or only a zombie."""
    found = procfs.read(os.fspath(_PROC), pid)
    return found.identity if found else ""


def is_alive(known: str) -> bool:
    """Whether the process of this identity is still alive."""
    pid = known.partition(".")[0]
    return pid.isdigit() and identity(int(pid)) == known


def alive(known: Iterable[str]) -> frozenset[str]:
    """The identities whose processes are still alive."""
    return frozenset(filter(is_alive, known))


def command(pid: int) -> list[str]:
    """The arguments of a process, [] if they cannot be read."""
    found = procfs.read(os.fspath(_PROC), pid)
    return procfs.arguments(os.fspath(_PROC), found.place) if found else []


def in_words(known: str) -> str:
    """`4711 sleep 3600`, for messages."""
    pid = known.partition(".")[0]
    return f"{pid} {' '.join(command(int(pid)))}"[:_SHOWN].rstrip()


def end(known: Iterable[str], grace: float = GRACE) -> int:
    """End the processes of these identities, with TERM and after `grace` seconds with KILL; returns how many there were."""
    here = alive(known)

    def send(sig: signal.Signals) -> None:
        for one in here:
            _signal(one, sig)

    _in_turn(send, lambda: not wait_until_gone(here, time.monotonic() + grace))
    return len(here)


def end_group(group: int, has_ended: Callable[[], bool]) -> None:
    """End a process group with TERM and then KILL; processes that outlive its leader get KILL.

    has_ended: waits a while for the leader, and returns whether it has ended.
    """

    def send(sig: signal.Signals) -> None:
        # It may have ended by itself; or what is left of it belongs to another user, by sudo.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, sig)

    _in_turn(send, has_ended)
    send(signal.SIGKILL)


def _in_turn(send: Callable[[signal.Signals], None], has_ended: Callable[[], bool]) -> None:
    for sig in (signal.SIGTERM, signal.SIGKILL):
        send(sig)
        if has_ended():
            return


def wait_until_gone(known: Iterable[str], deadline: float) -> frozenset[str]:
    """Wait until these processes have ended, or until `deadline` (monotonic seconds); returns those that have not ended."""
    left, pause = alive(known), 0.001
    while left and (rest := deadline - time.monotonic()) > 0:
        time.sleep(min(pause, rest))
        left, pause = alive(left), min(pause * 2, 0.1)
    return left


def _signal(known: str, sig: signal.Signals) -> None:
    """Signal this process only, never a later one with the same pid: a pidfd is opened before the identity is checked."""
    pid = int(known.partition(".")[0])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            held = os.pidfd_open(pid)
        except OSError:  # a kernel without pidfds
            if is_alive(known):
                os.kill(pid, sig)
            return
        try:
            if is_alive(known):
                signal.pidfd_send_signal(held, sig)
        finally:
            os.close(held)
