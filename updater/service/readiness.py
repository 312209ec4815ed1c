"""Announces in a file that a service is ready, and the result of its last reload, for `./control` and the commands.

The first line of the file is `PID WORD IDENTITY SINCE`; any further lines are text for people. WORD is `ready`, `reloaded`,
`refused`, or `again` for a service that was ready and is starting again. IDENTITY is the process's pid and start time. SINCE
is when it began to read its configuration, in nanoseconds of the monotonic clock.

The file is replaced atomically. An answer to a reload counts only if the reading began after the request. If the file cannot be
written, that is logged and the service goes on.
"""

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from updater import durable_files, places
from updater.errors import TryLater, UpdaterError
from updater.kernel import processes

READY, RELOADED, REFUSED, AGAIN = "ready", "reloaded", "refused", "again"
STARTS_WITHIN = 15.0  # seconds that a reload waits for a service that has only just been started
_LIMIT = 1 << 20  # bytes
log = logging.getLogger(__name__)


def now() -> int:
    """Nanoseconds of the monotonic clock, which all processes of a machine share."""
    return time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class Announcement:
    """The last announcement of a service."""

    process: str  # `PID.STARTTIME`
    word: str  # READY, RELOADED, REFUSED or AGAIN
    since: int  # when reading began, see above
    text: str  # the reason, or what was read

    @property
    def pid(self) -> int:
        return int(self.process.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Announcer:
    """Writes the announcements of one process, to which SIGHUP is sent; its children may write them on its behalf."""

    file: Path | None  # None: announcements are dropped
    process: str  # `PID.STARTTIME`

    @staticmethod
    def of_this_process(file: Path | None) -> "Announcer":
        return Announcer(file, processes.identity(os.getpid()))

    def running(self) -> int | None:
        """The pid of the process that this file announces, 0 if there is none; None without a file."""
        if self.file is None:
            return None
        found = announced(self.file)
        return found.pid if found else 0

    def withdraw(self) -> None:
        """Remove the announcement."""
        if self.file:
            self._try(lambda file: durable_files.remove_tree(file))

    def ready(self, since: int, text: str = "") -> None:
        """Announce that the process serves and handles SIGHUP. text: what it has read."""
        self._say(READY, since, text)

    def starts(self) -> None:
        """Announce that a process that served before is starting again."""
        if self.said():
            self._say(AGAIN, 0, "")

    def reload(self, read: Callable[[], str], refusal: type[Exception]) -> None:
        """Read the configuration again and announce the result. read: returns the text of the announcement; refusal: the
        exception that it raises if nothing was changed."""
        since = now()
        try:
            text = read()
        except refusal as e:
            self._say(REFUSED, since, str(e))
        else:
            self._say(RELOADED, since, text)

    def said(self) -> Announcement | None:
        """The last announcement of this process."""
        found = announced(self.file) if self.file else None
        return found if found and found.process == self.process else None

    def _say(self, word: str, since: int, text: str) -> None:
        line = f"{self.process.partition('.')[0]} {word} {self.process} {since}"
        self._try(lambda file: durable_files.write_atomic(file, f"{line}\n{text}\n".encode()))

    def _try(self, change: Callable[[Path], None]) -> None:
        if self.file is None:
            return
        try:
            change(self.file)
        except UpdaterError as e:
            log.warning("the state for ./control cannot be written: %s", e)


def announced(file: Path) -> Announcement | None:
    """The last announcement in this file; None if there is none, or if its process has ended."""
    try:
        first, _, text = (durable_files.read_small(file, _LIMIT) or b"").decode("utf-8", "replace").partition("\n")
        _, word, process, since = first.split()
        found = Announcement(process, word, int(since), text.strip())
        return found if processes.identity(found.pid) == process else None
    except ValueError:
        return None


def ask_to_reload(file: Path, within: float) -> Announcement:
    """Send SIGHUP to the service of this file and wait for its announcement, RELOADED or REFUSED, for `within` seconds.

    Raises TryLater if the service does not run, ends before it answers, or does not answer in time.
    """
    before = _ready(file)
    asked, deadline = now(), time.monotonic() + within
    _hang_up(before)
    while True:
        found = announced(file)
        if found is None and processes.identity(before.pid) != before.process:
            raise TryLater(f"process {before.pid} has ended instead of reading its configuration again; see its log")
        if found and found.since >= asked:
            # A service that started after the request has read the current configuration.
            return found if found.word != READY else Announcement(found.process, RELOADED, found.since, found.text)
        if found and found != before:  # the answer to an earlier request, or of a worker that was starting: ask it, too
            before = found
            _hang_up(found)
        if time.monotonic() > deadline:
            raise TryLater(f"process {before.pid} has not reported the result within {within:g} s; see its log")
        time.sleep(0.02)


def _ready(file: Path) -> Announcement:
    deadline = time.monotonic() + (STARTS_WITHIN if places.exists(file) else 1.0)
    while not (found := announced(file)):
        if time.monotonic() > deadline:
            raise TryLater(f"no running service is announced in {file}: start it, or wait until it has started")
        time.sleep(0.02)
    return found


def _hang_up(found: Announcement) -> None:
    try:
        os.kill(found.pid, signal.SIGHUP)
    except ProcessLookupError:
        pass  # seen in the next round
    except PermissionError as e:
        raise TryLater(f"no permission to signal process {found.pid}: run this as its user") from e
