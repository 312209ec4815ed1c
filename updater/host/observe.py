"""What is true on this host now: which agents there are, what is installed, what each agent's own `control` says.

Reads only. An install is believed in when its marker was written (last, after digest, unpack and fsync), or when `.version`
names it and its control can run: so a host that another updater managed is taken over as it is.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from updater import durable_files, places
from updater.host import operator_requests
from updater.host.control_script import status as control_status
from updater.model.layout import MARKER, AgentDir, Layout
from updater.model.observed import Marker, Observed, Status
from updater.wire.names import name_problem, version_problem


def agent_names(layout: Layout) -> list[str]:
    """The names of the agents on this host: directories with a `.version` (the peers' rule), or which do not let that be seen.

    Raises TryLater when the root cannot be listed."""
    names = durable_files.names_in(layout.root)
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
    entries = durable_files.names_in(agent.path)
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
        held=operator_requests.held(layout, name),
        named=named,
        at=clock(),
    )
    if not version:
        return replace(seen, foreign=_foreign(agent, entries))
    install = agent.install(version)
    if not durable_files.is_executable_file(install / "control"):
        problem = places.dangling(install / "control")
        problem = problem or ("no executable control" if places.is_directory(install) else "no such directory")
        return replace(seen, status=_failed(problem))
    asked = clock()
    status = control_status(install, timeout)
    return replace(seen, status=status, installs={version: Marker()} | installs, at=asked)


def current(agent: AgentDir) -> str:
    """The version in `.version`, "" when there is none that could be one."""
    try:
        data = durable_files.read_small(agent.version_file, 1024) or b""
        version = data.decode("ascii").strip()
    except ValueError:  # not TryLater: what cannot be read now may well run
        return ""
    return "" if version_problem(version) else version


def _can_run(agent: AgentDir, version: str) -> bool:
    return version != "" and durable_files.is_executable_file(agent.install(version) / "control")


def _marker(install: Path) -> Marker | None:
    if version_problem(install.name) or not durable_files.is_executable_file(install / "control"):
        return None
    try:
        data = durable_files.read_small(install / MARKER, 4096)
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
