"""Decides whether a process connected with an install is the install's own, or merely there.

Processes of an install's *own* are signalled, waited for, and taken for the agent. Processes *merely there*, such as a person's
shell, a backup or a tmux server, only work below the install. They are named in messages, and keep the directory from being
removed. If they were started since the agent's last start, or listen on a port, they are also waited for.

`evidence` judges single processes, with another agent's claims and people's terminals. What these leave is the install's own:

1. A pid file of the install names it, and it lies or works there, runs a script of it or has the mark of a start.
2. It lies below the install, and is not in a person's terminal.
3. It works there and runs a script of the install, and is not in a person's terminal.
4. It has the mark or session of the install's last start, or descends from one of these.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from updater import durable_files
from updater.kernel.agent_environment import MARK
from updater.kernel.ownership import interpreted
from updater.kernel.ownership.evidence import Evidence, is_asked_by_us
from updater.kernel.pid_files import own_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.recognised import Recognised

_INIT = 1
_PROGRAMS = 1000  # files of an install that are examined


class Owner:
    """An install as the owner of processes, at the time of a process table.

    known: what was recognised at its last start; None if there was none in this boot, or it was another version's.
    """

    def __init__(self, table: Table, install: Path, known: Recognised | None = None) -> None:
        self._table = table
        self._install = install
        self._known = known or Recognised(install.name)
        self._evidence = Evidence(table, install, self._known)
        self._of_install: dict[str, bool] | None = None

    def own(self) -> list[Process]:
        """All processes that are its own."""
        everything = list(self._table.by_pid.values())
        here = [one for one in everything if one.identity in self._known.processes]
        # A session id is not reused while one of its processes is alive. 0 means that the leader is in no list.
        sessions = {one.session for one in here if one.leads_session or one.session == self._known.session} - {0}
        started = here + [one for one in everything if one.session in sessions]
        if token := self._known.token:
            started += self._table.with_variable(MARK, token, self._known.since)
        return self.with_descendants(self.by_itself(), started)

    def by_itself(self) -> list[Process]:
        """The processes that are its own, no matter what started them."""
        everything = [one for one in self._table.by_pid.values() if one.pid != os.getpid()]
        return [one for one in everything if self.is_by_itself(one) and not self.is_transient(one)]

    def is_transient(self, process: Process) -> bool:
        """Whether it is a control script that this process runs at the moment, or anybody's `./control status`."""
        return is_asked_by_us(process) or self._evidence.is_of_a_look(process)

    def services(self, own: Iterable[Process]) -> list[Process]:
        """Processes merely there that may be a service of the agent, such as nginx: waited for, and never signalled.
        They were started since the last start, or listen, and not by a person. Their environment may have lost the mark.
        A daemon that runs a script of the install may work elsewhere."""
        known, owned = self._known, {one.pid for one in own} | {os.getpid()}
        there = {one.pid for one in self._table.below(self._install)}
        return [
            one
            for one in self._table.by_pid.values()
            if one.pid not in owned
            and self._may_serve(one, one.pid in there)
            and (0 < known.since <= int(one.start) or self._table.ports(one))
            and not (self.is_transient(one) or self._evidence.is_a_person_s(one, known.since))
        ]

    def _may_serve(self, process: Process, is_there: bool) -> bool:
        evidence = self._evidence
        if is_there or (not process.has_terminal and evidence.runs_a_script(process)):
            return evidence.may_be_its_own(process) or not evidence.is_another_s(process)
        is_near = self._is_in_session(process) or self._may_be_its_daemon(process)
        return is_near and evidence.uses_another_s_interpreter(process)

    def is_by_itself(self, process: Process) -> bool:
        """Whether it is the install's own, no matter what started it."""
        table, install = self._table, self._install
        evidence = self._evidence
        if evidence.is_named_anew(process):
            return not evidence.is_another_s(process)
        is_placed = table.lies(process, install) or (table.works(process, install) and evidence.runs_a_script(process))
        if not is_placed and not evidence.is_named_rightly(process):
            return False
        return not evidence.is_a_person_s(process) and not evidence.is_another_s(process)

    def is_another_s(self, process: Process) -> bool:
        """Whether it belongs to another agent of this root, or may belong to one."""
        return self._evidence.is_another_s(process)

    def may_be_named(self, process: Process) -> bool:
        """Whether a pid file probably means it; an argument that names a file of the install is enough."""
        return self._evidence.may_be_named(process)

    def needs_files(self, process: Process) -> bool:
        """Whether it needs the install although it may lie and work elsewhere: it runs a script of it, or is named as above."""
        return self._evidence.runs_a_script(process) or self.may_be_named(process)

    def is_named(self, process: Process) -> bool:
        """Whether a pid file at the top of the install names this process of its own, or `is_named_rightly` is true.
        Other pid files may name processes that the agent runs for others."""
        return self._evidence.is_at_top(process) or self._evidence.is_named_rightly(process)

    def with_descendants(self, by_itself: Iterable[Process], started: Iterable[Process] = ()) -> list[Process]:
        """These processes and their descendants, without those of other agents and of people.
        by_itself: see the method of this name; started: other processes of a start."""
        children: dict[int, list[Process]] = {}
        for one in self._table.by_pid.values():
            children.setdefault(one.parent, []).append(one)
        known: dict[int, Process] = {}
        todo, sure = [*started, *by_itself], {one.pid for one in by_itself}
        while todo:
            one = todo.pop()
            if one.pid in known or one.pid in (os.getpid(), _INIT) or self.is_transient(one):
                continue
            if one.pid in sure or not (
                self._evidence.is_another_s(one) or self._evidence.is_a_person_s(one, self._known.since)
            ):
                known[one.pid] = one
                todo += children.get(one.pid, ())
        return list(known.values())

    def near(self, found: Iterable[Process]) -> list[Process]:
        """The processes of its own that are the version itself, without those that it runs for others.
        They lie or work there, are named by a pid file, are in the session of the start, or may be its daemon."""
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
        """Whether it looks like a daemon of a start: it leads a session and works in `/`. False if there are pid files."""
        if self._evidence.pid_files or not process.leads_session or self._table.places(process)[1] != "//":
            return False
        return self._evidence.is_of_start(process)

    def main(self, near: Iterable[Process]) -> list[Process]:
        """The main processes: those that lead a session, listen or are named by a pid file.

        If there are none, those whose parent is not in `near`.
        """
        near = list(near)
        mains = [one for one in near if self.is_named(one) or one.leads_session or self._table.ports(one)]
        pids = {one.pid for one in near}
        return mains or [one for one in near if one.parent not in pids]

    def itself(self, found: Iterable[Process]) -> list[Process]:
        """The main processes that are the agent itself, so that another start would run it twice.
        If a pid file names the agent, helpers that only work there are not among them."""
        near = self.near(found)
        is_lost = not self._evidence.pid_files
        return [
            one
            for one in self.main(near)
            if self.is_by_itself(one)
            or self._is_in_session(one)
            or (is_lost and (self._table.works(one, self._install) or self._may_be_its_daemon(one)))
        ]

    def of_start(self, found: Iterable[Process]) -> tuple[frozenset[str], dict[str, str]]:
        """(identities of processes that only a restart replaces, which of them `pid` and NAME.pid name).
        If a file names any, no others count. If none does, they are the processes that the start left running."""
        found, numbers = list(found), self._evidence.pid_files
        by_pid = {one.pid: one.identity for one in found}
        pids = {path.name: numbers.get(path) for path in own_files(self._install)}
        if named := {name: by_pid[pid] for name, pid in pids.items() if pid in by_pid}:
            return frozenset(named.values()), named
        mark, table = self._known.token, self._table
        return frozenset(
            one.identity
            for one in found
            if self.is_named(one)
            or self._is_in_session(one)
            or (mark and one.leads_session and table.environment(one).get(MARK) == mark)
        ), {}

    def at_home(self, found: Iterable[Process]) -> list[Process]:
        """The processes which show that the version keeps running in its install.
        A pid file names them, or they lie or work there and lead a session, or they lie there and listen. Other processes
        that lie there may be helpers of one that runs elsewhere.
        """
        table, install = self._table, self._install
        return [
            one
            for one in found
            if self._evidence.is_named_rightly(one)
            or (one.leads_session and table.works(one, install))
            or (table.lies(one, install) and (one.leads_session or table.ports(one)))
        ]

    def may_be_at_home(self, found: Iterable[Process]) -> list[tuple[Process, bool]]:
        """The processes that may be the version itself although they are not `at_home`; each with whether it runs a file there.

        They lie or work there, and are of its start, unless that was not ours. None if the install has a pid file: what stays
        is named by it. They may also be helpers that the start has left.
        """
        table, install, evidence = self._table, self._install, self._evidence
        if evidence.pid_files:
            return []
        of_start = [one for one in found if not self._known.token or evidence.is_of_start(one)]
        run_there = [(one, table.lies(one, install) or evidence.runs_a_script(one)) for one in of_start]
        return [(one, runs) for one, runs in run_there if runs or table.works(one, install)]

    def may_be_it(self, process: Process, strictly: bool = False) -> bool:
        """Whether it may be the agent although it was not recognised, so that the agent is believed to run.

        That holds if its program lies there, if it runs a script of the install, or if its argument 0 is a path there. It
        also holds if a person started it there in a terminal and left it, or if it is hidden from us and has the name of a
        program there. strictly: a pid file named another process, so that neither its name nor its terminal counts.
        """
        table, install = self._table, self._install
        if table.is_closed(process):
            return self._is_called_so(process)
        if table.lies(process, install) or self._evidence.runs_a_script(process):
            return True
        is_left = table.works(process, install) and process.has_terminal and not self._evidence.is_a_person_s(process)
        return not strictly and (is_left or table.is_called(process, install))

    def _is_called_so(self, process: Process) -> bool:
        """Whether the command line of a hidden process names a file of the install, or its name is that of a program there.

        For an interpreter, its script is compared instead of its name.
        """
        if self._table.names(process, self._install):
            return True
        if interpreted.is_interpreter(process.name):
            run = interpreted.run_by("", self._table.arguments(process))
            return any(os.path.basename(one) in self._files() for one in run)  # noqa: PTH119 (only a name)
        return process.name in {name[:15] for name, is_program in self._files().items() if is_program}

    def _files(self) -> dict[str, bool]:
        """The names of the install's files, and whether each is executable."""
        if self._of_install is None:
            found = [*self._install.glob("*"), *self._install.glob("*/*")][:_PROGRAMS]
            self._of_install = {
                path.name: durable_files.is_executable_file(path) for path in found if path.name != "control"
            }
        return self._of_install

    def right_pid_files(self, found: Iterable[Process]) -> frozenset[str]:
        """The pid files, relative to the install, that name one of these processes and probably mean it."""
        session = self._known.session
        right = {one.pid for one in found if self.may_be_named(one) or (session and one.session == session)}
        return frozenset(
            str(path.relative_to(self._install)) for path, pid in self._evidence.pid_files.items() if pid in right
        )
