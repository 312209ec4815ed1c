"""What must be true of a host, whatever happened to it: right after a fault, and after one clean cycle.

Each check returns what is wrong, in words; an empty list is a host that is well.
"""

import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

from faults import goods
from faults.reaper import Daemon
from faults.scenarios import Scenario
from faults.world import Done, World
from helpers.agents import calls

MARKER = ".installed"
_MOMENTARY = {
    "at",
    "ends",
    "up",
    "renamed_up",
    "began",
    "outcomes",
    "last",
    "told_of",
    "evidence",
    "reason",
    "boot",
    "processes",
    "mains",
    "by_file",
    "begun",
    "running",
    "restart",
    "restarts",
}  # what two equal hosts may differ in
_OWN_CODES = (0, 1, 2, 3)


def begun(world: World) -> dict[str, Any]:
    """What the checks compare with, taken before the fault."""
    files = {path.parent.name: path.read_bytes() for path in world.root.glob("*/.version")}
    return {"versions": files, "daemons": {_agent(world, d): d.pid for d in world.daemons()}}


def after_fault(world: World, scenario: Scenario, before: dict[str, Any]) -> list[str]:
    """The host between the fault and the next cycle."""
    problems = [*versions(world.root, scenario, before["versions"]), *installs(world.root, scenario)]
    running = world.daemons()
    problems += _running(world, before, running)
    if world.look_around() != world.surroundings:
        problems.append("something outside the root was changed")
    if not _is_free(world.root / ".updater" / "lock"):
        problems.append("the lock is held by nobody that works")
    return problems


def after_return(world: World, scenario: Scenario, before: dict[str, Any], done: Done, endless: bool) -> list[str]:
    """What more must be true when the updater was not killed but met an error: it said so, and agents run.

    endless: the fault lasts, so that a version which does not start cannot be left any more once `.version` names it.
    """
    problems = []
    if done.signal or done.code not in _OWN_CODES:
        problems.append(f"ended with signal {done.signal}, code {done.code}: {_last(done.output)}")
    if "Traceback" in done.output or "a defect of the updater" in done.output:
        problems.append(f"a traceback: {_last(done.output)}")
    if scenario.stops:
        return problems
    up = {_agent(world, daemon) for daemon in world.daemons()}
    down = [name for name in before["daemons"] if name not in up]
    if endless:
        down = [name for name in down if scenario.control(name, _named(world.root / name)) != goods.NEVER_STARTS]
    return problems + [f"{name} ran before and does not run now: {_last(done.output)}" for name in down]


def _named(agent: Path) -> str:
    return (agent / ".version").read_text().strip()


def after_heal(world: World, scenario: Scenario, ending: dict[str, Any], done: Done) -> list[str]:
    """The host after one clean cycle: as if nothing had ever gone wrong."""
    problems = []
    if (done.signal, done.code) != (0, scenario.exits):
        problems.append(f"the clean cycle ended with {done.signal or done.code}: {_last(done.output)}")
    problems += difference(state(world.root), ending)
    running = sorted(str(daemon.where.relative_to(world.root)) for daemon in world.daemons())
    expected = [] if scenario.stops else sorted(f"{name}/{version}" for name, version in scenario.ends)
    if running != expected:
        problems.append(f"there run {running}, not {expected}")
    if world.look_around() != world.surroundings:
        problems.append("the clean cycle changed something outside the root")
    return problems


def at_rest(world: World, scenario: Scenario) -> list[str]:
    """One more cycle must change nothing and ask for nothing but the status."""
    before, pids = _still(world.root), world.daemons()
    asked = {name: len(calls(world.root, name)) for name, _ in scenario.ends}
    done = world.once()
    problems = []
    if done.code != scenario.exits:
        problems.append(f"the second clean cycle ended with {done.code}: {_last(done.output)}")
    changed = sorted(set(before.items()) ^ set(_still(world.root).items()))
    if changed:
        problems.append(f"the second clean cycle changed {sorted({name for name, _ in changed})}")
    if world.daemons() != pids:
        problems.append("the second clean cycle changed what runs")
    if others := {verb for name, before in asked.items() for verb in calls(world.root, name)[before:]} - {"status"}:
        problems.append(f"the second clean cycle called {sorted(others)}")
    return problems


def versions(root: Path, scenario: Scenario, before: dict[str, bytes]) -> list[str]:
    """`.version` is what it was or what it shall be, never a part of it, and names a complete install."""
    problems = []
    names = {name for name, _ in (*scenario.begins, *scenario.ends)}
    for name in sorted(names):
        file = root / name / ".version"
        if not file.exists():
            if name in before:
                problems.append(f"{name}: .version is gone")
            continue
        raw = file.read_bytes()
        allowed = {f"{version}\n".encode() for n, version, _ in scenario.orders if n == name}
        allowed |= {f"{version}\n".encode() for n, version in scenario.ends if n == name}
        if raw != before.get(name) and raw not in allowed:
            problems.append(f"{name}: .version holds {raw!r}")
        version = raw.decode("ascii", "replace").strip()
        if lack := goods.lacks(root / name / version, version, scenario.control(name, version)):
            problems.append(f"{name}: .version names {version!r}, which is not complete: {lack}")
    return problems


def installs(root: Path, scenario: Scenario) -> list[str]:
    """Whatever carries the marker is complete."""
    problems = []
    for marker in sorted(root.glob(f"*/[!.]*/{MARKER}")):
        install = marker.parent
        lack = goods.lacks(install, install.name, scenario.control(install.parent.name, install.name))
        try:
            json.loads(marker.read_bytes())
        except ValueError:
            lack = lack or f"{MARKER} is not whole"
        if lack:
            problems.append(f"{install.relative_to(root)} has the marker and is not complete: {lack}")
    return problems


def _running(world: World, before: dict[str, Any], running: list[Daemon]) -> list[str]:
    problems = []
    names = [_agent(world, daemon) for daemon in running]
    problems += [f"{name} runs {names.count(name)} times" for name in sorted(set(names)) if names.count(name) > 1]
    problems += [f"one runs in {d.where}" for d in running if d.where.parent.parent != world.root or _hidden(d)]
    up = {daemon.pid for daemon in running}
    for name, pid in before["daemons"].items():
        if "stop" not in calls(world.root, name) and pid not in up:
            problems.append(f"{name} died without having been told to stop")
    return problems


def _hidden(daemon: Daemon) -> bool:
    return daemon.where.name.startswith(".")


def _agent(world: World, daemon: Daemon) -> str:
    return daemon.where.relative_to(world.root).parts[0]


def _is_free(lock: Path) -> bool:
    if not lock.exists():
        return True
    with lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def state(root: Path) -> dict[str, Any]:
    """All that matters below the root, as a value in which two hosts that are equally well do not differ."""
    return {name: _value(root, name, path) for name, path in _walk(root) if not _of_the_moment(name, path)}


def difference(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What is there too much, what is missing, and what has another content."""
    problems = [f"left over: {name}" for name in sorted(found.keys() - expected.keys())]
    problems += [f"missing: {name}" for name in sorted(expected.keys() - found.keys())]
    common = sorted(found.keys() & expected.keys())
    return problems + [f"{n} is {found[n]}, not {expected[n]}" for n in common if found[n] != expected[n]]


def _walk(root: Path) -> list[tuple[str, Path]]:
    return [(str(path.relative_to(root)), path) for path in root.rglob("*")]


def _of_the_moment(name: str, path: Path) -> bool:
    parts = name.split("/")
    if name.startswith(".updater") and path.is_dir():  # made when it is needed: an empty one is as good as none
        return True
    return parts[-1] in (".calls", "pid") or parts[:2] == [".updater", "output"] or name == ".updater/lock"


def _value(root: Path, name: str, path: Path) -> Any:
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return "link", os.readlink(path)
    if stat.S_ISDIR(info.st_mode):
        return "directory", stat.S_IMODE(info.st_mode)
    content = path.read_bytes()
    if path.name == MARKER or path.suffix == ".json":
        return "json", stat.S_IMODE(info.st_mode), _lasting(content)
    return "file", stat.S_IMODE(info.st_mode), content


def _lasting(content: bytes) -> Any:
    try:
        return _without_the_moment(json.loads(content))
    except ValueError:
        return content


def _without_the_moment(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_the_moment(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_the_moment(item) for key, item in value.items() if key not in _MOMENTARY}
    return kept | ({"failure": bool(kept["failure"])} if "failure" in kept else {})


def _still(root: Path) -> dict[str, Any]:
    """All below the root with its times, without what a look at the agents itself changes. Values can be hashed."""
    seen = {}
    for name, path in _walk(root):
        if name.endswith("/.calls") or name == ".updater/lock":
            continue
        info = path.lstat()
        times = () if stat.S_ISDIR(info.st_mode) and name.count("/") == 0 else (info.st_mtime_ns, info.st_ctime_ns)
        if name.startswith(".updater/agents"):  # during a watch the processes are noted there
            seen[name] = repr(_value(root, name, path)) if path.is_file() else ""
            continue
        seen[name] = (info.st_mode, *times, path.read_bytes() if stat.S_ISREG(info.st_mode) else b"")
    return seen


def _last(output: str) -> str:
    return " | ".join(output.strip().splitlines()[-3:])[-600:]
