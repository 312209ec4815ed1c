"""What a service says of itself to those who start it or make it reload: that it serves, and how its last reload went.

It is said in a small file: the first line is `PID WORD IDENTITY SINCE`, any further ones are text for people. WORD is `ready`,
`reloaded`, `refused`, or `again` for one that was ready and is starting again; IDENTITY is the process's number and start time,
which no later process has; SINCE is when it began to read its configuration for that, in nanoseconds of the monotonic clock.
Promises that the file is always whole, and that no reload is taken for another: an answer counts only if its reading began
after the question. A file that cannot be written is a line in the log and stops no service.
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
    """What a service said last. process: `PID.STARTTIME`; since: see above; text: the reason, or what was read."""

    process: str
    word: str
    since: int
    text: str

    @property
    def pid(self) -> int:
        return int(self.process.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Announcer:
    """Says it for one process, which SIGHUP is sent to; others that it has started may do so for it. file: None for nowhere."""

    file: Path | None
    process: str

    @staticmethod
    def of_this_process(file: Path | None) -> "Announcer":
        return Announcer(file, processes.identity(os.getpid()))

    def running(self) -> int | None:
        """The process that says itself to serve in this file, 0 where none does; None without a file."""
        if self.file is None:
            return None
        found = announced(self.file)
        return found.pid if found else 0

    def withdraw(self) -> None:
        """Whatever was said before does not hold any more."""
        if self.file:
            self._try(lambda file: durable_files.remove_tree(file))

    def ready(self, since: int, text: str = "") -> None:
        """It serves, and SIGHUP is understood. text: what it has read."""
        self._say(READY, since, text)

    def starts(self) -> None:
        """It does not serve now; but that it did once stays said."""
        if self.said():
            self._say(AGAIN, 0, "")

    def reload(self, read: Callable[[], str], refusal: type[Exception]) -> None:
        """Read the configuration again and say how that went. read: returns what is to be said; refusal: what it raises when
        nothing was changed."""
        since = now()
        try:
            text = read()
        except refusal as e:
            self._say(REFUSED, since, str(e))
        else:
            self._say(RELOADED, since, text)

    def said(self) -> Announcement | None:
        """What this very process said last."""
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
            log.warning("./control cannot be told how it goes: %s", e)


def announced(file: Path) -> Announcement | None:
    """What the service of this file said last; None when it said nothing, or runs no more."""
    try:
        first, _, text = (durable_files.read_small(file, _LIMIT) or b"").decode("utf-8", "replace").partition("\n")
        _, word, process, since = first.split()
        found = Announcement(process, word, int(since), text.strip())
        return found if processes.identity(found.pid) == process else None
    except ValueError:
        return None


def ask_to_reload(file: Path, within: float) -> Announcement:
    """Send SIGHUP to the service of this file, and wait for what it says of that; returns RELOADED or REFUSED with a text.
    within: seconds. Raises TryLater when it does not run, ends meanwhile, or says nothing in time."""
    before = _ready(file)
    asked, deadline = now(), time.monotonic() + within
    _hang_up(before)
    while True:
        found = announced(file)
        if found is None and processes.identity(before.pid) != before.process:
            raise TryLater(
                f"process {before.pid} has ended instead of reading its configuration again; its log says why"
            )
        if found and found.since >= asked:
            # A start after the question has read everything as it is now.
            return found if found.word != READY else Announcement(found.process, RELOADED, found.since, found.text)
        if found and found != before:  # an earlier question's answer, or a worker that was starting: ask that one too
            before = found
            _hang_up(found)
        if time.monotonic() > deadline:
            raise TryLater(f"process {before.pid} has not said within {within:g} s how it went; its log will say")
        time.sleep(0.02)


def _ready(file: Path) -> Announcement:
    deadline = time.monotonic() + (STARTS_WITHIN if places.exists(file) else 1.0)
    while not (found := announced(file)):
        if time.monotonic() > deadline:
            raise TryLater(f"no service that is ready names itself in {file}: it is not running, or starting still")
        time.sleep(0.02)
    return found


def _hang_up(found: Announcement) -> None:
    try:
        os.kill(found.pid, signal.SIGHUP)
    except ProcessLookupError:
        pass  # seen in the next round
    except PermissionError as e:
        raise TryLater(f"no permission to signal process {found.pid}: run this as its user") from e
