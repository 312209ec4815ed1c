"""Runs an agent's `./control` script. This is the only module that starts processes.

A script runs in its version's directory, in a new session, without input, with limited time and limited output. A daemon that
it starts never blocks the updater, even if it keeps the pipes open. A script that exceeds its time gets TERM and then KILL,
with its whole process group. Exit codes are ignored, since those of many scripts are meaningless: only the last line on stdout
of `status` counts. stderr of `status` is reported, but never interpreted, however much it is.
"""

import contextlib
import errno
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from updater import durable_files, places
from updater.artifact import runnable
from updater.errors import ControlFailed, TryLater
from updater.host import status_words
from updater.kernel import agent_environment, children, processes
from updater.model.layout import root_of
from updater.model.observed import State, Status
from updater.wire.limits import MAX_STATUS
from updater.wire.text import one_line

KEPT = 8 << 10  # bytes of output that are kept: the last ones
FLOOD = 1 << 20  # bytes of output through a pipe, without stderr of `status`; a script that prints more is ended
GRACE = 2.0  # seconds from TERM to KILL
_TICK = 0.02
_OF_THE_HOST = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ETXTBSY)


def status(install: Path, timeout: float) -> Status:
    """Run `./control status` of an install. An error of the script becomes the status; an error of the host raises TryLater."""
    try:
        with _running(_script("status", install), subprocess.PIPE, subprocess.PIPE) as process:
            output = _Pipes(process)
            line = status_words.last_line(_follow(process, output, timeout))
    except ControlFailed as e:
        return Status(f"exec `./control status` fail: {e}")
    found = Status(line)
    if found.state is not State.UNKNOWN:
        return found
    return Status(status_words.with_evidence(line, output.errors(), MAX_STATUS))


def run(
    install: Path, verb: str, timeout: float, log: Path | None = None, mark: agent_environment.Mark | None = None
) -> str:
    """Run `./control VERB` and return the last of its output (stdout and stderr, at most KEPT bytes).

    With `log`, the output goes to that file, and a daemon may go on writing to it; otherwise to a pipe that is closed when
    the script ends. mark: marks the processes that the script starts. Raises ControlFailed if the script cannot be run,
    prints more than FLOOD, or takes longer than `timeout` seconds. Raises TryLater if the host cannot start a process now.
    """
    if log is None:
        with _running(_script(verb, install, mark), subprocess.PIPE) as process:
            return _follow(process, _Pipes(process), timeout)
    with _open_log(log) as file, _running(_script(verb, install, mark), file) as process:
        if mark:
            mark.session = process.pid
        return _follow(process, _File(file), timeout)


def run_program(command: Sequence[str], directory: Path, timeout: float) -> tuple[int, str]:
    """Run one of the updater's own programs; returns (exit code, last of the output). Raises ControlFailed."""
    with _running(_Command(command, directory), subprocess.PIPE) as process:
        output = _follow(process, _Pipes(process), timeout)
        return process.wait(), output


def leave_behind(command: Sequence[str], directory: Path) -> None:
    """Start one of the updater's own programs that outlives this process and shares its output. Raises OSError."""
    given = agent_environment.as_given()
    subprocess.Popen(command, cwd=directory, env=given, stdin=subprocess.DEVNULL, start_new_session=True)


def environment(install: Path) -> agent_environment.Given:
    """The environment of an install's scripts."""
    return agent_environment.given_by(root_of(install) / agent_environment.FILE)


def tail(log: Path, limit: int) -> str:
    """The last lines of a log, at most `limit` characters, made safe for a report."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - KEPT))
            text = file.read(KEPT).decode("utf-8", "replace")
    except OSError:
        return ""
    # A log that was cut may begin with NULs.
    lines = [one_line(line, 500) for line in text.replace("\0", "").splitlines()]
    return "\n".join(line for line in lines if line)[-limit:]


@dataclass(frozen=True, slots=True)
class _Command:
    """A command to start."""

    words: Sequence[str]
    directory: Path
    environment: Mapping[bytes, bytes] | None = None  # None: what this process was given
    umask: int = -1  # -1: that of this process


def _script(verb: str, install: Path, mark: agent_environment.Mark | None = None) -> _Command:
    given = environment(install).encoded
    marked = {**given, agent_environment.MARK.encode(): mark.token.encode()} if mark else given
    return _Command(["./control", verb], install, marked, agent_environment.UMASK)


@contextlib.contextmanager
def _running(
    command: _Command, output: IO[bytes] | int, errors: int = subprocess.STDOUT
) -> Iterator[subprocess.Popen[bytes]]:
    with children.starting() as ours:
        process = _spawn(command, output, errors)
        ours.add(process.pid)
    try:
        with process:
            yield process
    finally:
        ours.discard(process.pid)


def _spawn(command: _Command, output: IO[bytes] | int, errors: int) -> subprocess.Popen[bytes]:
    # A child that another thread is just starting may hold the script open for writing for a moment.
    for patience in (0.01, 0.05, 0.25, 0.0):
        try:
            return _popen(command, output, errors)
        except OSError as e:
            if e.errno == errno.ETXTBSY and patience:
                time.sleep(patience)
            elif e.errno in _OF_THE_HOST:  # no script is to blame for these
                raise TryLater(f"cannot start {command.words[0]}: {e.strerror}") from e
            else:
                raise ControlFailed(_why_not(command, e)) from e
    raise AssertionError("the last turn raises")


def _why_not(command: _Command, error: OSError) -> str:
    """Why a program could not be started; for an existing script the kernel's own words are misleading."""
    program = command.directory / command.words[0]
    if error.errno in (errno.ENOENT, errno.ENOEXEC, errno.EACCES) and command.environment and places.is_file(program):
        return (
            places.noexec(command.directory)
            or runnable.problem(program, os.fsdecode(command.environment[b"PATH"]))
            or error.strerror
            or str(error)
        )
    return error.strerror or str(error)


def _popen(command: _Command, output: IO[bytes] | int, errors: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command.words,
        cwd=command.directory,
        env=agent_environment.as_given() if command.environment is None else command.environment,
        umask=command.umask,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )


def _open_log(log: Path) -> IO[bytes]:
    # A full disk must not prevent the start of an agent: then its output is lost.
    try:
        durable_files.make_directory(log.parent)
        fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o640)
    except (OSError, TryLater):
        return open(os.devnull, "r+b", buffering=0)
    return open(fd, "r+b", buffering=0)


def _follow(process: subprocess.Popen[bytes], output: "_Pipes | _File", timeout: float) -> str:
    try:
        output.follow(process, time.monotonic() + timeout)
    except TimeoutError:
        _end_group(process)
        raise ControlFailed(f"timed out after {timeout:g} s") from None
    except BaseException:
        _end_group(process)
        raise
    return output.kept().decode("utf-8", "replace").strip()


class _Pipes:
    """Output through one or two pipes, read until the script ends; a daemon may keep the pipes open for longer.

    If stderr has a pipe of its own, any amount of it is taken, and all but its last bytes are dropped.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._kept = {pipe.fileno(): b"" for pipe in (process.stdout, process.stderr) if pipe}
        self._words = next(iter(self._kept))
        self._seen = 0  # bytes on stdout
        for fd in self._kept:
            os.set_blocking(fd, False)

    def follow(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        poll, open_ones = select.poll(), set(self._kept)
        for fd in open_ones:
            poll.register(fd, select.POLLIN)
        while process.poll() is None:
            _check(deadline, self._seen)
            for fd, _ in poll.poll(_TICK * 1000) if open_ones else ():
                if self._read(fd) == 0:
                    poll.unregister(fd)
                    open_ones.discard(fd)
            if not open_ones:  # closed, mostly by the script's end
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_TICK)
        while self._read(self._words):
            _check(deadline, self._seen)
        for fd in self._kept.keys() - {self._words}:
            left = FLOOD  # a pipe holds less; what a daemon goes on writing is not waited for
            while left > 0 and (read := self._read(fd)):
                left -= read

    def _read(self, fd: int) -> int:
        try:
            chunk = os.read(fd, 1 << 16)
        except BlockingIOError:
            return 0
        self._kept[fd] = (self._kept[fd] + chunk)[-KEPT:]
        self._seen += len(chunk) if fd == self._words else 0
        return len(chunk)

    def kept(self) -> bytes:
        """The last of stdout."""
        return self._kept[self._words]

    def errors(self) -> str:
        """The last of stderr, if it has a pipe of its own."""
        return list(self._kept.values())[-1].decode("utf-8", "replace")


class _File:
    """Output to a file that outlives the script; `start_output` keeps the file small."""

    def __init__(self, file: IO[bytes]) -> None:
        self._fd = file.fileno()

    def follow(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        while process.poll() is None:
            _check(deadline)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_TICK)

    def kept(self) -> bytes:
        size = os.fstat(self._fd).st_size
        return os.pread(self._fd, KEPT, max(0, size - KEPT))


def _check(deadline: float, printed: int = 0) -> None:
    if printed > FLOOD:
        raise ControlFailed(f"printed more than {FLOOD >> 20} MiB")
    if time.monotonic() > deadline:
        raise TimeoutError


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the script's process group, with TERM and then with KILL."""

    def has_ended() -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        return process.returncode is not None

    processes.end_group(process.pid, has_ended)
