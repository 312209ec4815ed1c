"""What is true on this host now: which agents there are, what is installed, what each agent's own `control` says.

Reads only. An install is believed in when its marker was written (last, after digest, unpack and fsync), or when `.version`
names it and its control can run: so a host that another updater managed is taken over as it is.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from updater import files
from updater.control import State, Status
from updater.control import status as control_status
from updater.errors import TryLater
from updater.layout import MARKER, AgentDir, Layout
from updater.wire import RealAgent, name_problem, version_problem


class Marker(msgspec.Struct, frozen=True):
    """What `.installed` holds. Digests are lower-case hex, blank for an install that was adopted; at: Unix seconds."""

    md5: str = ""
    sha256: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """One agent as it is. current: the version in `.version`, "" when there is none; installs: the complete ones;
    foreign: why the directory cannot be an agent's, "" when it can."""

    name: str
    current: str = ""
    status: Status = field(default=Status(""))
    installs: Mapping[str, Marker] = field(default_factory=dict)
    marked: bool = False
    foreign: str = ""
    at: int = 0

    @property
    def state(self) -> State:
        return self.status.state

    def real_agent(self) -> RealAgent:
        return RealAgent(self.name, self.current, self.status.text, self.at)


def agent_names(layout: Layout) -> list[str]:
    """The names of the agents on this host: directories with a `.version` (the peers' rule)."""
    try:
        entries = sorted(layout.root.iterdir())
    except OSError as e:
        raise files.trouble(f"cannot list {layout.root}", e) from e
    return [e.name for e in entries if not name_problem(e.name) and AgentDir(e).version_file.exists()]


def observe(layout: Layout, name: str, timeout: float) -> Observed:
    """Look at one agent, which may not be there yet; asks its control, for at most `timeout` seconds."""
    agent = layout.agent(name)
    now = int(time.time())
    entries = _entries(agent.path)
    if entries is None:
        return Observed(name, at=now)
    installs = {version: marker for version in entries if (marker := _marker(agent.install(version)))}
    current = _current(agent)
    if not current:
        return Observed(name, installs=installs, foreign=_foreign(agent, entries), at=now)
    install = agent.install(current)
    marked = current in installs
    if not files.is_executable_file(install / "control"):
        problem = "no executable control" if install.is_dir() else "no such directory"
        return Observed(name, current, _failed(problem), installs, at=now)
    return Observed(
        name, current, control_status(install, timeout), {current: Marker()} | installs, marked, at=int(time.time())
    )


def _entries(path: Path) -> list[str] | None:
    try:
        return sorted(e.name for e in path.iterdir())
    except FileNotFoundError:
        return None
    except OSError as e:
        raise files.trouble(f"cannot list {path}", e) from e


def _current(agent: AgentDir) -> str:
    try:
        data = files.read_small(agent.version_file, 1024) or b""
        version = data.decode("ascii").strip()
    except (ValueError, TryLater):
        return ""
    return "" if version_problem(version) else version


def _marker(install: Path) -> Marker | None:
    if version_problem(install.name) or not files.is_executable_file(install / "control"):
        return None
    try:
        data = files.read_small(install / MARKER, 4096)
        return msgspec.json.decode(data, type=Marker) if data else None
    except (ValueError, TryLater):
        return None


def _foreign(agent: AgentDir, entries: list[str]) -> str:
    # Other things live beside the agents (our own `var`, say): an agent's directory holds versions and nothing else.
    for entry in entries:
        if not entry.startswith(".") and not agent.install(entry).is_dir():
            return f"{agent.path} holds {entry}, which is no version of an agent"
    return ""


def _failed(problem: str) -> Status:
    return Status(f"exec `./control status` fail: {problem}")
