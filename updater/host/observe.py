"""Observes this host: which agents there are, what is installed, and what each agent's `control` says. Only reads.

An install counts if it has its marker, which is written last, after digest, unpack and fsync. It also counts if `.version`
names it and its control is executable, so that hosts of another updater are taken over without changes.
"""

import time
from dataclasses import replace
from pathlib import Path

import msgspec

from updater import durable_files, places
from updater.host import operator_requests
from updater.host.control_script import status as control_status
from updater.kernel import clocks
from updater.model.layout import MARKER, AgentDir, Layout
from updater.model.observed import Marker, Observed, Status
from updater.wire.names import name_problem, version_problem


def agent_names(layout: Layout) -> list[str]:
    """The names of the agents on this host: directories with a `.version`. Raises TryLater if the root cannot be listed.

    A directory also counts if it cannot be read now whether it has one.
    """
    names = durable_files.names_in(layout.root)
    return [name for name in names if not name_problem(name) and not places.is_missing(layout.agent(name).version_file)]


def observe(layout: Layout, name: str, timeout: float, remembered: str = "") -> Observed:
    """Observe one agent, which need not exist; its control script may take `timeout` seconds. Raises TryLater.

    remembered: the version that `.version` named last, used if the file is damaged.
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
        at=time.time(),
        ran=clocks.ran(),
    )
    if not version:
        return replace(seen, foreign=_foreign(agent, entries))
    install = agent.install(version)
    if not durable_files.is_executable_file(install / "control"):
        problem = places.dangling(install / "control")
        problem = problem or ("no executable control" if places.is_directory(install) else "no such directory")
        return replace(seen, status=_failed(problem))
    at, ran = time.time(), clocks.ran()
    status = control_status(install, timeout)
    return replace(seen, status=status, installs={version: Marker()} | installs, at=at, ran=ran)


def current(agent: AgentDir) -> str:
    """The version in `.version`, "" if it has no valid one."""
    try:
        data = durable_files.read_small(agent.version_file, 1024) or b""
        version = data.decode("ascii").strip()
    except ValueError:  # TryLater is passed on: a version that cannot be read now may well run
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
    # The root also has other directories, such as the updater's `var`. An agent's directory contains only versions.
    for entry in entries:
        if not entry.startswith(".") and not places.is_directory(agent.install(entry)):
            return f"{agent.path} holds {entry}, which is no version of an agent"
    return ""


def _failed(problem: str) -> Status:
    return Status(f"exec `./control status` fail: {problem}")
