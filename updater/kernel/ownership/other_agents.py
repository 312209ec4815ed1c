"""Finds the connections of a process with the other agents of a root: their pid files, directories, scripts and memories.

A file that cannot be read counts as no connection, nor does a pid file that is older than the process. `evidence` decides
between several agents.
"""

from pathlib import Path

import msgspec

from updater import durable_files, places
from updater.cached_reads import CachedReads
from updater.errors import TryLater
from updater.kernel.ownership import interpreted
from updater.kernel.pid_files import is_older, pid_files
from updater.kernel.processes import Table
from updater.kernel.procfs import Process
from updater.model.layout import OWN_NAME, Layout, root_of
from updater.model.memory import LIMIT, Memory


class Others:
    """The other agents at the time of a process table, as seen from one install. Everything is read on demand."""

    def __init__(self, table: Table, install: Path) -> None:
        self._table = table
        self._name = install.parent.name
        self._layout = Layout(root_of(install))
        self._root = f"{self._layout.root.resolve()}/"
        self._found: list[Path] | None = None
        self._linked: list[Path] | None = None
        self._named: dict[int, list[tuple[Path, Path]]] | None = None
        self._remembered: frozenset[str] | None = None

    def is_agent(self, name: str) -> bool:
        """Whether there is another agent of this name."""
        return bool(name) and name != self._name and not places.is_missing(self._layout.agent(name).version_file)

    def directory(self, name: str) -> Path:
        return self._layout.agent(name).path

    def are_updater(self, process: Process) -> bool:
        """Whether the process is an updater that is installed in this root, of which agents may be descendants."""
        own = self.directory(OWN_NAME)
        return self._table.lies(process, own) or runs_below(self._table, process, own)

    def have(self, place: str) -> bool:
        """Whether a path without links is below another agent's directory."""
        if place.startswith(self._root):
            return self.is_agent(place.removeprefix(self._root).partition("/")[0])
        return any(place.startswith(f"{where}/") for where in self._elsewhere())

    def run(self, process: Process) -> bool:
        """Whether the process is an interpreter that runs another agent's script."""
        return any(
            runs_below(self._table, process, where) for where in (self._layout.root, *self._elsewhere())
        ) and any(runs_below(self._table, process, agent) for agent in self._agents())

    def names(self, process: Process) -> bool:
        """Whether a pid file of another agent's current version names the process.

        A pid file at the top of an install counts always, one in a subdirectory only if `surely_names` holds.
        """
        return any(file.parent == install for install, file in self._naming(process)) or self.surely_names(process)

    def surely_names(self, process: Process) -> bool:
        """Whether a pid file names the process, and its program, working directory or script is in that install."""
        table = self._table
        return any(
            table.lies(process, install) or table.works(process, install) or runs_below(table, process, install)
            for install, _ in self._naming(process)
        )

    def claim(self, process: Process) -> bool:
        """Whether a pid file of another agent holds its pid, or another agent's memory lists it."""
        if self._remembered is None:
            found = (_remembered_by(self._layout.memories / f"{agent.name}.json") for agent in self._agents())
            self._remembered = frozenset[str]().union(*found)
        return bool(self._naming(process)) or process.identity in self._remembered

    def have_named(self, process: Process) -> bool:
        """Whether a pid file of another agent holds its pid, no matter how old the file is."""
        return bool(self._holding(process))

    def _agents(self) -> list[Path]:
        if self._found is None:
            try:
                names = durable_files.names_in(self._layout.root)
            except TryLater:
                names = []
            self._found = [self._layout.agent(name).path for name in names if self.is_agent(name)]
        return self._found

    def _elsewhere(self) -> list[Path]:
        """The directories of those agents that are links, such as to another disk."""
        if self._linked is None:
            self._linked = [agent.resolve() for agent in self._agents() if places.is_link(agent)]
        return self._linked

    def _naming(self, process: Process) -> list[tuple[Path, Path]]:
        """The current installs whose pid files hold its pid, each with that file. A number that was reused does not count."""
        return [(install, file) for install, file in self._holding(process) if not is_older(file, process)]

    def _holding(self, process: Process) -> list[tuple[Path, Path]]:
        if self._named is None:
            self._named = {}
            for install in filter(None, map(_current, self._agents())):
                for file, pid in pid_files(install).items():
                    self._named.setdefault(pid, []).append((install, file))
        return self._named.get(process.pid, [])


def runs_below(table: Table, process: Process, directory: Path) -> bool:
    """Whether a process is an interpreter that runs a file below a directory."""
    program, working = (where.rstrip("/") for where in table.places(process))
    if program and not interpreted.is_interpreter(program.rpartition("/")[2]):
        return False  # most processes, so that their arguments need not be read
    run = interpreted.run_by(program, table.arguments(process)) if working or program else []
    return interpreted.is_any_below(directory, working, run) and table.shares_our_files(process)


def _current(agent: Path) -> Path | None:
    try:
        version = durable_files.read_state(agent / ".version", 1024).decode("utf-8", "replace").strip()
    except TryLater:
        return None
    return agent / version if version and "/" not in version else None


def _remembered(file: Path) -> frozenset[str]:
    """The identities of the processes in an agent's memory."""
    try:
        memory = msgspec.json.decode(durable_files.read_state(file, LIMIT), type=Memory)
    except (TryLater, ValueError, RecursionError):
        return frozenset()
    starts = [one.processes for one in (memory.running, memory.begun) if one]
    return frozenset[str]().union(*starts, *memory.left.values())


_remembered_by = CachedReads(_remembered)
