"""What an agent inherits from the updater: a cleaned environment, default signal handlers and the usual umask.

Agents outlive restarts and upgrades of the updater, so variables that belong to the updater itself are removed. Otherwise a
Python agent would load the updater's libraries, and an agent that talks to systemd would speak for the updater's unit.
Variables in ROOT/environment always pass to the agents, from the file's current content.
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
from updater.cached_reads import CachedReads
from updater.errors import TryLater
from updater.kernel import procfs

log = logging.getLogger("updater")

UMASK = 0o022
FILE = "environment"  # below the root; the unit reads it
LIMIT = 64 << 10  # bytes of FILE
_COERCED = "LC_CTYPE"
MARK = "OPS_UPDATER_START"  # the variable that marks the processes of a start
# docs/shipping.md lists these too.
_WITHHELD = re.compile(
    "|".join(
        (
            "_?META_.*|_?UPDATER_.*|OPS_UPDATER_.*|ELVES_CONF",  # of the updater and meta
            "PYTHON.*|VIRTUAL_ENV.*|__PYVENV_LAUNCHER__",  # of the updater's Python
            # systemd.exec(5):
            "NOTIFY_.*|LISTEN_.*|WATCHDOG_.*|JOURNAL_.*|MEMORY_PRESSURE_.*|INVOCATION_ID|CREDENTIALS_DIRECTORY",
            "SYSTEMD_EXEC_PID|MAINPID|MANAGERPID|PIDFILE|FDSTORE|(?:RUNTIME|STATE|CACHE|LOGS|CONFIGURATION)_DIRECTORY",
            "OLDPWD|_",  # of the shell that started the updater
        )
    )
)
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_PLAIN = re.compile(r""" "(?:[^"\\]|\\.)*" | '[^']*' | (?:[^"'\\][^\\]*)? """, re.VERBOSE)
_CLOSED = re.compile(r""" (?:"(?:[^"\\]|\\.)*" | '[^']*')* (?:[^"'].*)? """, re.VERBOSE)


@dataclass(slots=True)
class Mark:
    """Marks a control script and everything that it starts, to recognise them later."""

    token: str  # the value of MARK in their environment
    session: int = 0  # their session unless they left it; 0 before the script is started


def new_token(agent: str) -> str:
    """A new token for the Mark of a start or a stop; it contains the agent's name."""
    return f"{agent}:{secrets.token_hex(16)}"


def agent_of(token: str) -> str:
    """The agent's name in a token; "" in tokens of old updaters, which have none."""
    return token.rpartition(":")[0]


class Given(NamedTuple):
    """The environment of agents' scripts."""

    names: Mapping[str, str]  # name -> value
    encoded: Mapping[bytes, bytes]  # the same, encoded for a new process


def given_by(file: Path) -> Given:
    """The environment for agents with this environment file. A file that cannot be read sets nothing, and is logged once."""
    try:
        return _given(file)
    except TryLater as e:
        _complaints.say(file, str(e))
        return _encoded(of_agents(as_given(), {}))


def as_given() -> dict[str, str]:
    """This process's environment, without what its own Python has added.

    In the C locale Python sets LC_CTYPE, also over a value that it was given (PEP 538). The kernel still shows the latter.
    """
    kept = {name: value for name, value in os.environ.items() if name != _COERCED}
    pairs = (pair.partition("=") for pair in os.fsdecode(procfs.environment("/proc", "self")).split("\0"))
    given = next((value for name, _, value in pairs if name == _COERCED), None)
    return kept if given is None else kept | {_COERCED: given}


def _encoded(names: Mapping[str, str]) -> Given:
    return Given(names, {os.fsencode(name): os.fsencode(value) for name, value in names.items()})


def of_agents(ours: Mapping[str, str], given: Mapping[str, str], unsure: Container[str] = ()) -> dict[str, str]:
    """The environment of an agent's scripts.

    ours: this process's environment `as_given`, from a shell or from systemd, which has read ROOT/environment at the start.
    given: what ROOT/environment sets now; it has precedence. unsure: names in `given` whose syntax only systemd understands
    fully; for these `ours` has precedence, as it may be what systemd has read.
    """
    kept = {name: value for name, value in ours.items() if not _WITHHELD.fullmatch(name)}
    path = [part for part in ours.get("PATH", "").split(os.pathsep) if part and part not in _own_programs(ours)]
    set_there = {name: ours.get(name, value) if name in unsure else value for name, value in given.items()}
    return kept | {"PATH": os.pathsep.join(path) or os.defpath} | set_there


def set_by(file: Path) -> dict[str, str]:
    """The variables that an environment file sets (systemd.exec(5), EnvironmentFile=); {} if it cannot be read."""
    try:
        return _set_by(file)[0]
    except TryLater:
        return {}


def _set_by(file: Path) -> tuple[dict[str, str], set[str]]:
    """(the variables that a file sets, the names of those whose syntax only systemd understands fully).

    The latter have quotes within quotes, backslashes, or more than one line.
    """
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
    """Logs a problem of an environment file once, and again if it changes or comes back."""

    def __init__(self) -> None:
        self._said: dict[Path, str] = {}

    def say(self, file: Path, problem: str) -> None:
        if self._said.get(file) != problem:
            self._said[file] = problem
            log.error("agents are started without the variables of %s: %s", file, problem)

    def over(self, file: Path) -> None:
        self._said.pop(file, None)


def more_than_given(has: Mapping[str, str], ours: Mapping[str, str], given: Mapping[str, str]) -> list[str]:
    """The sorted names of variables that a process has and that would be withheld from it now.

    `PATH` is among them if it includes the updater's own programs.
    """
    more = {
        name for name in has if _WITHHELD.fullmatch(name) and name not in given and name not in ("_", "OLDPWD", MARK)
    }
    if "PATH" not in given and any(part in _own_programs(ours) for part in has.get("PATH", "").split(os.pathsep)):
        more.add("PATH")
    return sorted(more)


def usual_signals() -> None:
    """Make sure that programs started from now on do not inherit ignored signals. Has no effect outside the main thread.

    Ignored signals stay ignored after exec, and a shell ignores INT and QUIT for background jobs; a handler does not survive
    exec. Python's subprocess restores PIPE itself.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler that does nothing: like SIG_IGN, but reset by exec."""


def _own_programs(ours: Mapping[str, str]) -> tuple[str, ...]:
    """The directories of the updater's own programs: those of its virtual environment."""
    environments = {sys.prefix} if sys.prefix != sys.base_prefix else set()
    environments |= {ours["VIRTUAL_ENV"]} if ours.get("VIRTUAL_ENV") else set()
    return tuple(f"{one.rstrip('/')}/bin" for one in environments)


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r'\\(["\\`$])', r"\1", value[1:-1])
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == "'" else value


_complaints = _Complaints()
_given = CachedReads(lambda file: _encoded(of_agents(as_given(), *_set_by(file))))
