"""Judges whose one process is: an install's, another agent's, or a person's. The only module that weighs evidence.

A process *lies* where its program file is, and *works* in its working directory. One agent may be a runtime, such as a JDK,
that others run their programs with; and one may be a supervisor that starts others, which inherit its mark. So neither where a
program lies nor a mark decides alone. The evidence, the strongest first; each point says whose the process is by it:

1. The install's: a pid file of it names the process. The process also lies or works there, runs a script of it, or has the mark
   of one of its starts.
2. Another agent's: a pid file of that agent names the process. The process also lies or works there, or runs a script of it.
3. The install's: the process has the mark or session of one of its starts. It also lies there, or it works there and lies below
   no other agent.
4. The install's: the process works there and runs a script of it, or it works and lies there and runs no script from elsewhere.
5. Another agent's: the process works below that agent, or runs a script of it.
6. Another agent's: a pid file of that agent holds its pid, or the memory of that agent lists it.
7. Another agent's: the process lies below that agent, which may be the agent itself or only its runtime. Neither a stop of the
   install nor one of that agent ends it.
8. Whose its nearest ancestor is of which 1 to 7 tell anything; else the same of the leader of its session, and of the leader's
   ancestors.
9. Whose start left the nearest mark, on the process or on one of those in 8. Another agent's mark does not count on a program
   of the install that runs a script of it, if that agent has other processes and the command line names nothing of it.

A pid file that is older than its process means a former one with this pid. It says nothing in 2 and 6, nor in 1 against other
evidence. But clocks are set, too: it still counts against an interpreter of the install that runs no script of it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from updater.kernel import processes
from updater.kernel.agent_environment import MARK, agent_of
from updater.kernel.ownership import interpreted
from updater.kernel.ownership.other_agents import Others, runs_below
from updater.kernel.pid_files import is_older, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.recognised import Recognised

_INIT = 1


class Evidence:
    """What is known of processes at the time of a process table, as seen from one install.

    known: what was recognised at the install's last start; see `ownership.Owner`.
    """

    def __init__(self, table: Table, install: Path, known: Recognised) -> None:
        self._table = table
        self._install = install
        self._known = known
        self.pid_files = pid_files(install)
        self._named: dict[int, list[Path]] = {}
        for file, pid in self.pid_files.items():
            self._named.setdefault(pid, []).append(file)
        self._others = Others(table, install)
        self._certain: dict[int, bool | None] = {}
        self._looks: dict[int, bool] = {}  # by pid

    def is_another_s(self, process: Process) -> bool:
        """Whether it belongs to another agent of this root, or may belong to one: see the top of this module."""
        certain = self._of_another(process)
        return self._is_probably_another_s(process) if certain is None else certain

    def may_be_its_own(self, process: Process) -> bool:
        """Whether it may be the install's although `is_another_s` is true, so that its end is worth waiting for.

        It lies or works there, and only 8 or 9 speaks for another agent. What uses an interpreter of the install for a program
        elsewhere does not count, nor does another agent's descendant that runs no file of the install.
        """
        table, install = self._table, self._install
        lies = table.lies(process, install)
        if not (lies or table.works(process, install)) or self._by_itself_of_another(process) is not None:
            return False
        if not lies or self._runs_a_file(process):
            return True
        return self._of_another(process) is None and not self._uses_an_interpreter(process)

    def uses_another_s_interpreter(self, process: Process) -> bool:
        """Whether only the place of its program is against it, and that is an interpreter: another agent may be its runtime."""
        program, working = self._table.places(process)
        if not self._others.have(program) or not self._is_interpreter(process):
            return False
        return not (self._others.have(working) or self._others.run(process) or self._others.claim(process))

    def is_at_top(self, process: Process) -> bool:
        """Whether a pid file at the top of the install holds its pid."""
        return any(file.parent == self._install for file in self._named.get(process.pid, ()))

    def is_named_rightly(self, process: Process) -> bool:
        """Whether a pid file names it, and certainly means this process. It must lie or work there, even in a terminal.
        If the file is at the top, running a script of the install or having the mark of a start is enough."""
        table, install = self._table, self._install
        if process.pid not in self._named:
            return False
        if table.lies(process, install) or (not _is_a_shell(process) and table.works(process, install)):
            return True
        return self.is_at_top(process) and (self.is_of_start(process) or self.runs_a_script(process))

    def is_named_anew(self, process: Process) -> bool:
        """The same, but only by a pid file that was written since the process began."""
        files = self._named.get(process.pid, ())
        return self.is_named_rightly(process) and not all(is_older(file, process) for file in files)

    def may_be_named(self, process: Process) -> bool:
        """Whether a pid file probably means it; an argument that names a file of the install is enough."""
        is_told = self.is_at_top(process) and self._table.names(process, self._install)
        return is_told or self.is_named_rightly(process)

    def is_of_start(self, process: Process) -> bool:
        """Whether it is in the session of the last start, or has the mark of one of this agent's starts."""
        known = self._known
        if known.session and process.session == known.session and int(process.start) >= known.since:
            return True
        mark = self._table.environment(process).get(MARK, "")
        return bool(mark) and (mark == known.token or agent_of(mark) == self._install.parent.name)

    def runs_a_script(self, process: Process) -> bool:
        """Whether it is an interpreter that runs a file of the install."""
        return runs_below(self._table, process, self._install)

    def is_a_person_s(self, process: Process, since: int = 0) -> bool:
        """Whether it or an ancestor has a terminal of its own. since: clock ticks; ancestors older than that do not count."""
        for one in (process, *self._ancestors(process)):
            if int(one.start) < since:
                return False
            if _is_a_shell(one):
                return True
        return False

    def is_of_a_look(self, process: Process) -> bool:
        """Whether it is a `./control status`, no matter who asked, or runs for one. It shows nothing of the agent."""
        for one in (process, *self._ancestors(process)):
            if one.pid not in self._looks:  # what init has inherited was left behind by one
                self._looks[one.pid] = one.parent != _INIT and _is_a_look(self._table.arguments(one))
            if self._looks[one.pid]:
                return True
        return False

    def _of_another(self, process: Process) -> bool | None:
        """Whether it is certainly another agent's; False if it is the install's, None if 1 to 8 tell nothing."""
        line = self._line(process)
        return next((told for one in line if (told := self._by_itself_of_another(one)) is not None), None)

    def _by_itself_of_another(self, process: Process) -> bool | None:
        """The same by 1 to 7 alone."""
        if process.pid not in self._certain:
            self._certain[process.pid] = self._weighed(process)
        return self._certain[process.pid]

    def _weighed(self, process: Process) -> bool | None:
        table, install, others = self._table, self._install, self._others
        if self.is_named_anew(process):
            return False
        lies, works = table.lies(process, install), table.works(process, install)
        program, working = table.places(process)
        works_there, runs_theirs = others.have(working), not works and others.run(process)
        if (works_there or runs_theirs) and others.surely_names(process):
            return True
        if ((lies and not runs_theirs) or (works and not others.have(program))) and self.is_of_start(process):
            return False
        if works:
            return self._weighed_in_place(process, lies)
        if works_there or runs_theirs or others.claim(process):
            return True
        if lies:
            return None
        return False if self.runs_a_script(process) else (others.have(program) or None)

    def _weighed_in_place(self, process: Process, lies: bool) -> bool | None:
        """The same for a process that works in the install and has no mark of its starts."""
        program, is_script_s = self._table.places(process)[0], self.runs_a_script(process)
        if self._others.names(process):
            return True
        if is_script_s or self._others.have(program):
            return False
        is_used = interpreted.run_by(program.rstrip("/"), self._table.arguments(process))  # for a program elsewhere
        return False if lies and not is_used else None

    def _line(self, process: Process) -> Iterator[Process]:
        """The process, its ancestors, then the leader of its session and that one's ancestors, without shells of people.
        It ends at the updater. For the install's own program with a file of the install a session says nothing."""
        yield process
        leader = self._table.by_pid.get(process.session)
        nearest = [] if leader is None or self._runs_a_file(process) else [leader, *self._ancestors(leader)]
        for several in (self._ancestors(process), nearest):
            for one in several:
                if self._others.are_updater(one):
                    break
                if not _is_a_shell(one):
                    yield one

    def _ancestors(self, process: Process) -> Iterator[Process]:
        """Its ancestors up to this process or the first one, each without that."""
        for _ in self._table.by_pid:
            parent = self._table.by_pid.get(process.parent)
            if parent is None or parent.pid in (os.getpid(), _INIT) or int(parent.start) > int(process.start):
                return
            yield parent
            process = parent

    def _is_probably_another_s(self, process: Process) -> bool:
        """Whether it is another agent's by 9."""
        line = list(self._line(process))
        marks = (agent_of(self._table.environment(one).get(MARK, "")) for one in line)
        name = next(filter(None, marks), "")
        if name and self._others.is_agent(name):
            return not any(self._only_inherits(one, name) for one in line)
        return not name and self._uses_an_interpreter(process) and self._others.have_named(process)

    def _only_inherits(self, process: Process, name: str) -> bool:
        """Whether it is the install's own program with a file of the install, and not of the agent whose mark it has."""
        agent, table = self._others.directory(name), self._table
        if not table.lies(process, self._install) or not self._runs_a_file(process) or table.names(process, agent):
            return False
        return any(
            (table.lies(one, agent) or table.works(one, agent) or runs_below(table, one, agent))
            and not any(near == process or is_asked_by_us(near) for near in (one, *self._ancestors(one)))
            and not self.is_of_a_look(one)
            for one in table.by_pid.values()
            if not one.has_terminal
        )

    def _runs_a_file(self, process: Process) -> bool:
        """Whether it lies there and runs a script of the install. Of a program that is no known interpreter, any argument may
        be its script."""
        table, install = self._table, self._install
        if not table.lies(process, install):
            return False
        if self._is_interpreter(process):
            return self.runs_a_script(process)
        return any(one.startswith((f"{install}/", f"{install.resolve()}/")) for one in table.arguments(process)[1:])

    def _uses_an_interpreter(self, process: Process) -> bool:
        """Whether it is an interpreter that lies there, and runs no script of the install."""
        is_there = self._table.lies(process, self._install) and self._is_interpreter(process)
        return is_there and not self.runs_a_script(process)

    def _is_interpreter(self, process: Process) -> bool:
        program = self._table.places(process)[0].rstrip("/")
        return interpreted.is_interpreter(program.rpartition("/")[2])


def is_asked_by_us(process: Process) -> bool:
    """Whether this is a control script that this process is running at the moment."""
    return process.parent == os.getpid() and processes.command(process.pid)[-2:-1] == ["./control"]


def _is_a_look(command: list[str]) -> bool:
    return command[-1:] == ["status"] and command[-2:-1] != [] and command[-2].rpartition("/")[2] == "control"


def _is_a_shell(process: Process) -> bool:
    """Whether it leads the session of a terminal, as a person's shell does."""
    return process.leads_session and process.has_terminal
