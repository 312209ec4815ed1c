"""Whose a process is that has to do with an install: the install's own, or merely there.

Promises two grades. *Its own* are the processes whose program lies below the install, those that its pid file names, unless
that is a stranger, scripts of the install that work there, and what a start of it has left: by its session, its mark or
descent. Only these are signalled, waited for, or taken for the agent. *Merely there* is what only works below the install, as
a person's shell, a backup or a tmux server does: it keeps the directory from being removed, and is named. Never its own is
what lies or works below another agent of this root, and what has a terminal of its own or was started below one.
"""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from updater import files, places, processes
from updater.errors import TryLater
from updater.layout import root_of
from updater.pidfiles import pid_files
from updater.processes import Table
from updater.procfs import Process
from updater.recognised import Recognised
from updater.surroundings import MARK

_INIT = 1
_INTERPRETERS = re.compile(
    r"(?:a|ba|da|k|mk|lk|z|c|tc|fi)?sh|(?:python|pypy|perl|ruby|jruby|php|lua|luajit|tclsh|guile|node|nodejs|java)[\d.\-]*"
    r"|mono|dotnet|deno|bun|gawk|mawk|expect|Rscript"
)
_PROGRAMS = 1000  # of an install that are looked at
_MANY_IN_ONE = ("busybox", "toybox")  # programs that are what they are called as


class Owner:
    """An install as the owner of processes, at the moment of a table. known: of its last start, None where that was none of
    this boot or of another version."""

    def __init__(self, table: Table, install: Path, known: Recognised | None = None) -> None:
        self._table = table
        self._install = install
        self._known = known or Recognised(install.name)
        self._pid_files = pid_files(install)
        self._named = set(self._pid_files.values())
        self._of_others: set[int] | None = None
        self._of_install: set[str] | None = None

    def own(self) -> list[Process]:
        """All processes that are its own."""
        everything = list(self._table.by_pid.values())
        here = [one for one in everything if one.identity in self._known.processes]
        # A session's number is not given again while one of its processes lives. 0 is one whose leader no list shows.
        sessions = {one.session for one in here if one.leads_session or one.session == self._known.session} - {0}
        started = here + [one for one in everything if one.session in sessions]
        if token := self._known.token:
            started += self._table.with_variable(MARK, token, self._known.since)
        return self.with_descendants(self.by_itself(), started)

    def by_itself(self) -> list[Process]:
        """Those that are its own whoever has started them."""
        return [one for one in self._table.by_pid.values() if one.pid != os.getpid() and self.is_by_itself(one)]

    def is_by_itself(self, process: Process) -> bool:
        """Whether it is the install's own whoever has started it."""
        table, install = self._table, self._install
        if process.pid in self._named and self.is_named_rightly(process):
            return not self._is_another_s(process)
        if not (table.lies(process, install) or (table.works(process, install) and self._runs_a_script(process))):
            return False
        return not self._is_a_person_s(process) and not self._is_another_s(process)

    def is_named_rightly(self, process: Process) -> bool:
        """Whether a pid file that names it may well mean it: it lies or works there, also in the terminal of the person who has
        started it, or has an argument that names what lies there."""
        table, install = self._table, self._install
        if table.lies(process, install) or table.names(process, install):
            return True
        is_shell = process.leads_session and process.has_terminal
        return not is_shell and table.works(process, install)

    def is_named(self, process: Process) -> bool:
        """Whether a pid file means it: at the top of the install, or deeper where it is `is_named_rightly`; those below may
        also be an agent's books of what it runs for others."""
        if process.pid not in self._named:
            return False
        at_top = {pid for path, pid in self._pid_files.items() if path.parent == self._install}
        return process.pid in at_top or self.is_named_rightly(process)

    def with_descendants(self, by_itself: Iterable[Process], started: Iterable[Process] = ()) -> list[Process]:
        """These and what they have started, as far as that can be traced and is nobody else's. by_itself: as above; started:
        what else a start has left."""
        children: dict[int, list[Process]] = {}
        for one in self._table.by_pid.values():
            children.setdefault(one.parent, []).append(one)
        known: dict[int, Process] = {}
        todo, sure = [*started, *by_itself], {one.pid for one in by_itself}
        while todo:
            one = todo.pop()
            if one.pid in known or one.pid in (os.getpid(), _INIT) or is_asked_by_us(one):
                continue
            if one.pid in sure or not (self._is_another_s(one) or self._is_a_person_s(one, self._known.since)):
                known[one.pid] = one
                todo += children.get(one.pid, ())
        return list(known.values())

    def near(self, found: Iterable[Process]) -> list[Process]:
        """Those of its own that are the version rather than what it has started for others: they lie or work there, stand in
        a pid file, or are in the very session of the start."""
        table, install, session = self._table, self._install, self._known.session
        return [
            one
            for one in found
            if self.is_named(one)
            or (session and one.session == session)
            or table.lies(one, install)
            or table.works(one, install)
        ]

    def main(self, near: Iterable[Process]) -> list[Process]:
        """Those of these that lead a session, listen or stand in a pid file; where none does, those whose parent is none of
        them."""
        near = list(near)
        mains = [one for one in near if self.is_named(one) or one.leads_session or self._table.ports(one)]
        pids = {one.pid for one in near}
        return mains or [one for one in near if one.parent not in pids]

    def itself(self, found: Iterable[Process]) -> list[Process]:
        """The main ones of these that are the agent itself, so that another start would make two: not what only works there, as
        a helper does, while a pid file says which one is the agent."""
        near = self.near(found)
        is_lost = not self._pid_files
        surely = [one for one in near if self.is_by_itself(one) or (is_lost and self._table.works(one, self._install))]
        return [one for one in self.main(near) if one in surely]

    def of_start(self, found: Iterable[Process]) -> frozenset[str]:
        """Those of these (identities) that a pid file names or that the start has left to run: which of them lives tells
        whether something has started the agent again."""
        session, mark = self._known.session, self._known.token
        return frozenset(
            one.identity
            for one in found
            if self.is_named(one)
            or (session and one.session == session)
            or (mark and one.leads_session and self._table.environment(one).get(MARK) == mark)
        )

    def at_home(self, found: Iterable[Process]) -> list[Process]:
        """Those of these by which the version is known to stay where it is installed: its program lies there, its pid file
        names it, or it leads a session of its own there."""
        return [
            one
            for one in found
            if (one.pid in self._named and self.is_named_rightly(one))
            or self._table.lies(one, self._install)
            or (one.leads_session and self._table.works(one, self._install))
        ]

    def may_be_it(self, process: Process) -> bool:
        """Whether it may be the agent though it is not known to be its own, so that it is believed to run: its program lies
        there, an argument names what lies there, a person has started it there in his terminal and left it; or we may not see
        where it is, and it is called as a program of the install is."""
        table, install = self._table, self._install
        if table.lies(process, install) or table.names(process, install):
            return True
        if table.is_closed(process):
            return process.name in self._programs()
        return table.works(process, install) and process.has_terminal and not self._is_a_person_s(process)

    def _programs(self) -> set[str]:
        """The names of the install's programs, as the kernel has them of a process: 15 characters."""
        if self._of_install is None:
            found = [*self._install.glob("*"), *self._install.glob("*/*")][:_PROGRAMS]
            self._of_install = {path.name[:15] for path in found if files.is_executable_file(path)} - {"control"}
        return self._of_install

    def right_pid_files(self, found: Iterable[Process]) -> frozenset[str]:
        """The pid files, relative to the install, that name one of these, which is the version or may well be meant."""
        session = self._known.session
        right = {one.pid for one in found if self.is_named_rightly(one) or (session and one.session == session)}
        return frozenset(str(path.relative_to(self._install)) for path, pid in self._pid_files.items() if pid in right)

    def _runs_a_script(self, process: Process) -> bool:
        """Whether it is an interpreter, and the first file that its arguments name is one of the install."""
        program, working = (where.rstrip("/") for where in self._table.places(process))
        name, arguments = os.path.basename(program), self._table.arguments(process)  # noqa: PTH119 (no file of ours)
        if name in _MANY_IN_ONE and arguments:
            name = os.path.basename(arguments[0])  # noqa: PTH119
        if not _INTERPRETERS.fullmatch(name):
            return False
        words = (word for argument in arguments[1:] for word in re.split("[=:]", argument) if word)
        for word in words:
            file = os.path.normpath(os.path.join(working, word))  # noqa: PTH118
            if os.path.isfile(file):  # noqa: PTH113
                return file.startswith(f"{self._install.resolve()}/")
        return False

    def _is_another_s(self, process: Process) -> bool:
        """Whether it lies or works below another agent of this root, or such a one's pid file names it."""
        table, agent = self._table, self._install.parent
        if table.lies(process, self._install):
            return False
        root = f"{root_of(self._install).resolve()}/"
        for place in table.places(process):
            entry = place.removeprefix(root).partition("/")[0] if place.startswith(root) else ""
            if entry and entry != agent.name and not places.is_missing(root_of(self._install) / entry / ".version"):
                return True
        if process.pid in self._named or table.works(process, self._install):
            return False
        if self._of_others is None:
            self._of_others = _named_by_others(agent)
        return process.pid in self._of_others

    def _is_a_person_s(self, process: Process, since: int = 0) -> bool:
        """Whether it has a terminal of its own, or was started below one. since: clock ticks, before which nothing of a start
        can have begun."""
        one: Process | None = process
        for _ in self._table.by_pid:
            if one is None or one.pid in (os.getpid(), _INIT) or int(one.start) < since:
                return False
            if one.leads_session and one.has_terminal:
                return True
            one = self._table.by_pid.get(one.parent)
        return False


def is_asked_by_us(process: Process) -> bool:
    """Whether this is a control script that this process is just running."""
    return process.parent == os.getpid() and processes.command(process.pid)[-2:-1] == ["./control"]


def _named_by_others(agent: Path) -> set[int]:
    """The processes that the pid files of the other agents' current versions name."""
    found: set[int] = set()
    with contextlib.suppress(TryLater):
        for name in files.names_in(agent.parent):
            if name == agent.name or not places.is_file(agent.parent / name / ".version"):
                continue
            version = files.read_state(agent.parent / name / ".version", 1024).decode("utf-8", "replace").strip()
            if version and "/" not in version:
                found.update(pid_files(agent.parent / name / version).values())
    return found
