"""What is true on this host now: which agents there are, what is installed, what each agent's own `control` says.

Reads only. An install is believed in when its marker was written (last, after digest, unpack and fsync), or when `.version`
names it and its control can run: so a host that another updater managed is taken over as it is.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from updater import files, hand, places
from updater.control import State, Status
from updater.control import status as control_status
from updater.layout import MARKER, AgentDir, Layout
from updater.memory import Rejected
from updater.recognised import Recognised
from updater.wire import RealAgent, name_problem, version_problem


class Marker(msgspec.Struct, frozen=True):
    """What `.installed` holds. Digests are lower-case hex, blank for an install that was adopted; at: Unix seconds."""

    md5: str = ""
    sha256: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """One agent as it is. current: the version in `.version`, or the one that was there before it was damaged, "" when there
    is none; named: what `.version` names, "" for nothing; trouble: why it
    cannot be looked at now, "" when it can; installs: the complete ones;
    foreign: why the directory cannot be an agent's, "" when it can; leftovers: what a killed updater left half done;
    held: why a person holds it, "" when nobody does; processes: those of the current version, if it is in its watch;
    mains: those of them that are replaced only when it is started again; mains_alone: whether these alone tell that it was;
    running: what was recognised of them at this look; absent: whether it is not believed to be started, for none exists;
    strange: whether its own stop might then end a stranger, which a pid file of it names;
    occupied: the versions that have left processes; crowding: those of which these are the agent's own;
    own: whether this is the updater that looks, which knows by itself that it runs; at: when it was asked (Unix seconds): what
    it answered was not yet so before."""

    name: str
    current: str = ""
    status: Status = field(default=Status(""))
    installs: Mapping[str, Marker] = field(default_factory=dict)
    marked: bool = False
    foreign: str = ""
    leftovers: tuple[str, ...] = ()
    held: str = ""
    processes: frozenset[str] = frozenset()
    mains: frozenset[str] = frozenset()
    mains_alone: bool = False
    running: Recognised | None = None
    absent: bool = False
    strange: bool = False
    occupied: frozenset[str] = frozenset()
    crowding: frozenset[str] = frozenset()
    own: bool = False
    named: str = ""
    trouble: str = ""
    at: float = 0

    @property
    def deciding(self) -> frozenset[str]:
        """The processes of which one that stays shows that it was not started again."""
        return self.mains if self.mains_alone else self.processes

    @property
    def state(self) -> State:
        return State.STOPPED if self.absent else self.status.state

    @property
    def may_be_told_to_stop(self) -> bool:
        """Whether its own control is asked to stop it though it is not believed to run."""
        return self.absent and not self.strange

    def real_agent(
        self, trial: bool | msgspec.UnsetType = msgspec.UNSET, waits: str = "", rejected: Rejected | None = None
    ) -> RealAgent:
        """As it is reported."""
        return RealAgent(
            self.name,
            self.current,
            self.status.text,
            int(self.at),
            held=self.held or msgspec.UNSET,
            trial=trial,
            waits=waits or msgspec.UNSET,
            rejected=rejected.order.version if rejected else msgspec.UNSET,
            attempt=(rejected.order.attempt if rejected else 0) or msgspec.UNSET,
        )


def agent_names(layout: Layout) -> list[str]:
    """The names of the agents on this host: directories with a `.version` (the peers' rule), or which do not let that be seen.

    Raises TryLater when the root cannot be listed."""
    names = files.names_in(layout.root)
    return [name for name in names if not name_problem(name) and not places.is_missing(layout.agent(name).version_file)]


def observe(
    layout: Layout,
    name: str,
    timeout: float,
    remembered: str = "",
    clock: Callable[[], float] = time.time,
) -> Observed:
    """Look at one agent, which may not be there yet; asks its control, for at most `timeout` seconds. Raises TryLater.

    remembered: the version that `.version` named last, for when it is damaged; clock: of Unix seconds.
    """
    agent = layout.agent(name)
    entries = files.names_in(agent.path)
    installs = {version: marker for version in entries if (marker := _marker(agent.install(version)))}
    leftovers = tuple(entry for entry in entries if entry.startswith(".") and entry.endswith((".new", ".old")))
    named = current(agent)
    version = remembered if _can_run(agent, remembered) and not _can_run(agent, named) else named
    seen = Observed(
        name,
        version,
        installs=installs,
        marked=version in installs,
        leftovers=leftovers,
        held=hand.held(layout, name),
        named=named,
        at=clock(),
    )
    if not version:
        return replace(seen, foreign=_foreign(agent, entries))
    install = agent.install(version)
    if not files.is_executable_file(install / "control"):
        problem = places.dangling(install / "control")
        problem = problem or ("no executable control" if places.is_directory(install) else "no such directory")
        return replace(seen, status=_failed(problem))
    asked = clock()
    status = control_status(install, timeout)
    return replace(seen, status=status, installs={version: Marker()} | installs, at=asked)


def current(agent: AgentDir) -> str:
    """The version in `.version`, "" when there is none that could be one."""
    try:
        data = files.read_small(agent.version_file, 1024) or b""
        version = data.decode("ascii").strip()
    except ValueError:  # not TryLater: what cannot be read now may well run
        return ""
    return "" if version_problem(version) else version


def _can_run(agent: AgentDir, version: str) -> bool:
    return version != "" and files.is_executable_file(agent.install(version) / "control")


def _marker(install: Path) -> Marker | None:
    if version_problem(install.name) or not files.is_executable_file(install / "control"):
        return None
    try:
        data = files.read_small(install / MARKER, 4096)
        return msgspec.json.decode(data, type=Marker) if data else None
    except ValueError:
        return None


def _foreign(agent: AgentDir, entries: list[str]) -> str:
    # Other things live beside the agents (our own `var`, say): an agent's directory holds versions and nothing else.
    for entry in entries:
        if not entry.startswith(".") and not places.is_directory(agent.install(entry)):
            return f"{agent.path} holds {entry}, which is no version of an agent"
    return ""


def _failed(problem: str) -> Status:
    return Status(f"exec `./control status` fail: {problem}")
