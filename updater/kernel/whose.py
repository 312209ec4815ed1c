"""Whose a process is that has to do with an install: the install's own, or merely there.

Promises two grades. *Its own* are signalled, waited for, and taken for the agent. *Merely there* is what only works below the
install, as a person's shell, a backup or a tmux server does: it keeps the directory from being removed, and is named; what has
begun there since the last start of the agent, or listens, is waited for besides. What tells whose a process is, the strongest
first:

1. a pid file of the install that names it, where it lies or works there, runs a script of it or bears the start's mark;
2. the mark or session of a start of the install, where it lies there too, or works there and lies below no other agent;
3. another agent of this root below which it works, or of which it runs a script, 4. whose pid file has its number, 5. which
   remembers it as its own, or whose start's mark it bears;
6. that it lies below the install, 7. or works there and runs a script of it: never what a person has in a terminal;
8. the mark or session of the install's last start, or its descent from one of these.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from updater import durable_files
from updater.kernel import interpreted, processes
from updater.kernel.agent_environment import MARK, agent_of
from updater.kernel.other_agents import Others, runs_below
from updater.kernel.pid_files import own_files, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.recognised import Recognised

_INIT = 1
_PROGRAMS = 1000  # files of an install that are looked at


class Owner:
    """An install as the owner of processes, at the moment of a table. known: of its last start, None where that was none of
    this boot or of another version."""

    def __init__(self, table: Table, install: Path, known: Recognised | None = None) -> None:
        self._table = table
        self._install = install
        self._known = known or Recognised(install.name)
        self._pid_files = pid_files(install)
        self._named = set(self._pid_files.values())
        self._at_top = {pid for path, pid in self._pid_files.items() if path.parent == install}
        self._others = Others(table, install)
        self._of_install: dict[str, bool] | None = None

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

    def services(self, own: Iterable[Process]) -> list[Process]:
        """What is merely there and may be a service of the agent that has dropped its mark, as nginx or redis do: it has begun
        since the last start, or listens, and no person has started it. It is waited for, and never signalled."""
        known, owned = self._known, {one.pid for one in own}
        return [
            one
            for one in self._table.below(self._install)
            if one.pid not in owned
            and (0 < known.since <= int(one.start) or self._table.ports(one))
            and not (is_asked_by_us(one) or self._is_a_person_s(one, known.since) or self._is_another_s(one))
        ]

    def is_by_itself(self, process: Process) -> bool:
        """Whether it is the install's own whoever has started it."""
        table, install = self._table, self._install
        if self.is_named_rightly(process):
            return not self._is_another_s(process)
        if not (table.lies(process, install) or (table.works(process, install) and self._runs_a_script(process))):
            return False
        return not self._is_a_person_s(process) and not self._is_another_s(process)

    def is_named_rightly(self, process: Process) -> bool:
        """Whether a pid file names it and surely means it: it lies or works there, also in the terminal of the person who has
        started it, or, where the file is at the top, it runs a script of the install or is of the start."""
        table, install = self._table, self._install
        if process.pid not in self._named:
            return False
        is_shell = process.leads_session and process.has_terminal
        if table.lies(process, install) or (not is_shell and table.works(process, install)):
            return True
        return process.pid in self._at_top and (self._is_of_start(process) or self._runs_a_script(process))

    def may_be_named(self, process: Process) -> bool:
        """Whether a pid file may mean it, so that it is believed to: also where only an argument names what lies there."""
        is_told = process.pid in self._at_top and self._table.names(process, self._install)
        return is_told or self.is_named_rightly(process)

    def is_named(self, process: Process) -> bool:
        """Whether a pid file means it, of those that are its own: at the top of the install, or deeper where it is
        `is_named_rightly`; those below may also be an agent's books of what it runs for others."""
        return process.pid in self._at_top or self.is_named_rightly(process)

    def _is_of_start(self, process: Process) -> bool:
        """Whether the last start has left it in its session, or it bears the mark of one of this agent's starts."""
        known = self._known
        if known.session and process.session == known.session and int(process.start) >= known.since:
            return True
        mark = self._table.environment(process).get(MARK, "")
        return bool(mark) and (mark == known.token or agent_of(mark) == self._install.parent.name)

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
        a pid file, or are in the very session of the start, or may be its daemon."""
        table, install = self._table, self._install
        return [
            one
            for one in found
            if self.is_named(one)
            or self._is_in_session(one)
            or table.lies(one, install)
            or table.works(one, install)
            or self._may_be_its_daemon(one)
        ]

    def _is_in_session(self, process: Process) -> bool:
        return bool(self._known.session) and process.session == self._known.session

    def _may_be_its_daemon(self, process: Process) -> bool:
        """Where no pid file says which one is the agent: whether it bears the start's mark, and has settled as daemons do, as
        the leader of a session and at the root of all files. What it runs for others has another directory."""
        if self._pid_files or not process.leads_session or self._table.places(process)[1] != "//":
            return False
        return self._is_of_start(process)

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
        return [
            one
            for one in self.main(near)
            if self.is_by_itself(one)
            or self._is_in_session(one)
            or (is_lost and (self._table.works(one, self._install) or self._may_be_its_daemon(one)))
        ]

    def of_start(self, found: Iterable[Process]) -> tuple[frozenset[str], bool]:
        """Those of these (identities) that tell by whether they live if something has started the agent again, and whether
        they do so alone: what `pid` or NAME.pid names, or else what the start has left to run. Another pid file may be that of
        its jobs, and tells only where nothing else stays."""
        found, numbers = list(found), {self._pid_files.get(path) for path in own_files(self._install)}
        if named := frozenset(one.identity for one in found if one.pid in numbers):
            return named, True
        mark, table = self._known.token, self._table
        return frozenset(
            one.identity
            for one in found
            if self.is_named(one)
            or self._is_in_session(one)
            or (mark and one.leads_session and table.environment(one).get(MARK) == mark)
        ), False

    def at_home(self, found: Iterable[Process]) -> list[Process]:
        """Those of these by which the version is known to stay where it is installed: its pid file names it, or it lies or
        works there and leads a session, or lies there and listens. What else lies there may be a helper of one elsewhere."""
        table, install = self._table, self._install
        return [
            one
            for one in found
            if self.is_named_rightly(one)
            or (one.leads_session and table.works(one, install))
            or (table.lies(one, install) and (one.leads_session or table.ports(one)))
        ]

    def may_be_it(self, process: Process, strictly: bool = False) -> bool:
        """Whether it may be the agent though it is not known to be its own, so that it is believed to run: its program lies
        there, it runs a script of the install or is called as what lies there, a person has started it there in his terminal
        and left it; or we may not see where it is, and it is called so. strictly: a pid file says that the agent was another,
        so that neither its name nor its terminal counts."""
        table, install = self._table, self._install
        if table.is_closed(process):
            return self._is_called_so(process)
        if table.lies(process, install) or self._runs_a_script(process):
            return True
        is_left = table.works(process, install) and process.has_terminal and not self._is_a_person_s(process)
        return not strictly and (is_left or table.is_called(process, install))

    def _is_called_so(self, process: Process) -> bool:
        """Whether one of which we see no more than its command line names what lies there, or is called as a program of the
        install is; of an interpreter, its script."""
        if self._table.names(process, self._install):
            return True
        if interpreted.is_interpreter(process.name):
            run = interpreted.run_by("", self._table.arguments(process))
            return any(os.path.basename(one) in self._files() for one in run)  # noqa: PTH119 (no file of ours)
        return process.name in {name[:15] for name, is_program in self._files().items() if is_program}

    def _files(self) -> dict[str, bool]:
        """The names of the install's files, and whether each is a program."""
        if self._of_install is None:
            found = [*self._install.glob("*"), *self._install.glob("*/*")][:_PROGRAMS]
            self._of_install = {
                path.name: durable_files.is_executable_file(path) for path in found if path.name != "control"
            }
        return self._of_install

    def right_pid_files(self, found: Iterable[Process]) -> frozenset[str]:
        """The pid files, relative to the install, that name one of these, which is the version or may well be meant."""
        session = self._known.session
        right = {one.pid for one in found if self.may_be_named(one) or (session and one.session == session)}
        return frozenset(str(path.relative_to(self._install)) for path, pid in self._pid_files.items() if pid in right)

    def _runs_a_script(self, process: Process) -> bool:
        """Whether it is an interpreter, and what it runs is a file of the install."""
        return runs_below(self._table, process, self._install)

    def _is_another_s(self, process: Process) -> bool:
        """Whether it is another agent's of this root: see at the top, 1 to 5. A program alone says little, for it may be a
        runtime's, which other agents run."""
        if self.is_named_rightly(process):
            return False
        table, install, others = self._table, self._install, self._others
        lies, works = table.lies(process, install), table.works(process, install)
        program, working = table.places(process)
        works_there, runs_theirs = others.have(working), not works and others.run(process)
        if (works_there or runs_theirs) and others.surely_names(process):
            return True
        if ((lies and not runs_theirs) or (works and not others.have(program))) and self._is_of_start(process):
            return False
        if works or works_there or runs_theirs:
            return not works or others.names(process)
        if others.keep_books_of(process):
            return True
        if not lies:
            return others.have(program) and not self._runs_a_script(process)
        marked = agent_of(table.environment(process).get(MARK, ""))
        return marked != install.parent.name and others.is_agent(marked)

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
