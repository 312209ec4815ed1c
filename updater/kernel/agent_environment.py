"""What an agent inherits from the updater: its environment minus what is ours alone, the usual signals and the usual umask.

An agent lives on when the updater is restarted or is another version by then, so nothing may come to it that says how this one
was started: a Python program would load our libraries, one that speaks to systemd would speak for our unit. What a person has
written into ROOT/environment is for the agents too, and always passes: as the file is now, not as it was when we were started.
"""

import logging
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from updater import durable_files
from updater.cached_reads import Kept
from updater.errors import TryLater

log = logging.getLogger("updater")

UMASK = 0o022
FILE = "environment"  # below the root; the unit reads it
LIMIT = 64 << 10  # bytes of it
MARK = "OPS_UPDATER_START"  # what a start's processes are known by

# docs/shipping.md says these too.
_WITHHELD = re.compile(
    "|".join(
        (
            "_?META_.*|_?UPDATER_.*|OPS_UPDATER_.*|ELVES_CONF",  # ours
            "PYTHON.*|VIRTUAL_ENV.*|__PYVENV_LAUNCHER__",  # of the Python that we run in
            # systemd.exec(5):
            "NOTIFY_.*|LISTEN_.*|WATCHDOG_.*|JOURNAL_.*|MEMORY_PRESSURE_.*|INVOCATION_ID|CREDENTIALS_DIRECTORY",
            "SYSTEMD_EXEC_PID|MAINPID|MANAGERPID|PIDFILE|FDSTORE|(?:RUNTIME|STATE|CACHE|LOGS|CONFIGURATION)_DIRECTORY",
            "OLDPWD|_",  # of the shell that we were started from
        )
    )
)
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_PLAIN = re.compile(r""" "(?:[^"\\]|\\.)*" | '[^']*' | (?:[^"'\\][^\\]*)? """, re.VERBOSE)
_CLOSED = re.compile(r""" (?:"(?:[^"\\]|\\.)*" | '[^']*')* (?:[^"'].*)? """, re.VERBOSE)


@dataclass(slots=True)
class Mark:
    """What a script and all that it starts are known by later. token: stands in their environment; session: theirs, if
    they did not leave it, 0 before the script is started."""

    token: str
    session: int = 0


def new_token(agent: str) -> str:
    """For the mark of a start or a stop of this agent, which says so to who looks for another's."""
    return f"{agent}:{secrets.token_hex(16)}"


def agent_of(token: str) -> str:
    """Whose mark it is; "" where it does not say, as one of an older updater."""
    return token.rpartition(":")[0]


class Given(NamedTuple):
    """The environment of agents' scripts: as it is, and as a new process takes it."""

    names: Mapping[str, str]
    encoded: Mapping[bytes, bytes]


def given_by(file: Path) -> Given:
    """What the agents are given whose environment file this is. One that is there and cannot be read sets nothing, and that is
    logged once."""
    try:
        return _given(file)
    except TryLater as e:
        _complaints.say(file, str(e))
        return _encoded(of_agents(os.environ, {}))


def _encoded(names: Mapping[str, str]) -> Given:
    return Given(names, {os.fsencode(name): os.fsencode(value) for name, value in names.items()})


def of_agents(ours: Mapping[str, str], given: Mapping[str, str], unsure: Container[str] = ()) -> dict[str, str]:
    """The environment of an agent's scripts.

    ours: this process's, which a shell has made, or systemd of the file as it was when we were started; given: what
    ROOT/environment sets now, which counts more; unsure: of that, what is written in a manner that only systemd reads: ours
    counts more there, for it may be what systemd has read.
    """
    kept = {name: value for name, value in ours.items() if not _WITHHELD.fullmatch(name)}
    path = [part for part in ours.get("PATH", "").split(os.pathsep) if part and part not in _own_programs(ours)]
    set_there = {name: ours.get(name, value) if name in unsure else value for name, value in given.items()}
    return kept | {"PATH": os.pathsep.join(path) or os.defpath} | set_there


def set_by(file: Path) -> dict[str, str]:
    """The variables that an environment file sets (systemd.exec(5), EnvironmentFile=), none when it cannot be read."""
    try:
        return _set_by(file)[0]
    except TryLater:
        return {}


def _set_by(file: Path) -> tuple[dict[str, str], set[str]]:
    """What a file sets, and which of that is not plainly written: quotes within quotes, backslashes, more than one line."""
    try:
        text = (durable_files.read_small(file, LIMIT) or b"").decode("utf-8", "replace")
    except ValueError as e:
        _complaints.say(file, str(e))
        return {}, set()
    _complaints.over(file)
    found, unsure, is_open = {}, set(), False
    for line in re.sub(r"\\\n", "", text).splitlines():
        if line.lstrip().startswith(("#", ";")) or not (assignment := _LINE.fullmatch(line)):
            continue
        name, value = assignment[1], assignment[2].strip()
        found[name] = _unquoted(value)
        is_open = is_open or not _CLOSED.fullmatch(value)  # what follows may be within its quotes
        unsure.discard(name)
        if is_open or not _PLAIN.fullmatch(value):
            unsure.add(name)
    return found, unsure


class _Complaints:
    """What is wrong with the environment files, each said once until it is another or over."""

    def __init__(self) -> None:
        self._said: dict[Path, str] = {}

    def say(self, file: Path, problem: str) -> None:
        if self._said.get(file) != problem:
            self._said[file] = problem
            log.error("agents are started without what %s sets: %s", file, problem)

    def over(self, file: Path) -> None:
        self._said.pop(file, None)


def more_than_given(has: Mapping[str, str], ours: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """The names of what a process has in its environment that it would not be given now, `PATH` where that led to our own
    programs; in order."""
    more = {
        name for name in has if _WITHHELD.fullmatch(name) and name not in given and name not in ("_", "OLDPWD", MARK)
    }
    if "PATH" not in given and any(part in _own_programs(ours) for part in has.get("PATH", "").split(os.pathsep)):
        more.add("PATH")
    return sorted(more)


def usual_signals() -> None:
    """From here on, what this process ignores is not ignored by the programs that it starts. Only the main thread can do that.

    What is ignored stays so over an exec, and a shell has ignored INT and QUIT of what it starts in the background; a handler
    does not stay. Python's subprocess sees to PIPE itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """As good as SIG_IGN for this process."""


def _own_programs(ours: Mapping[str, str]) -> tuple[str, ...]:
    """The directories of PATH that lead to our own programs: those of the virtual environment that we run in."""
    environments = {sys.prefix} if sys.prefix != sys.base_prefix else set()
    environments |= {ours["VIRTUAL_ENV"]} if ours.get("VIRTUAL_ENV") else set()
    return tuple(f"{one.rstrip('/')}/bin" for one in environments)


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r'\\(["\\`$])', r"\1", value[1:-1])
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == "'" else value


_complaints = _Complaints()
_given = Kept(lambda file: _encoded(of_agents(os.environ, *_set_by(file))))
