"""Class 5: every archive of the manifest, published and ordered like a release: refused with its reason, or taken whole."""

import contextlib
import hashlib
import resource
from pathlib import Path

from faults import invariants
from faults.scenarios import SCENARIOS, A
from faults.world import Done, World
from helpers.archives import BOMBS, MANIFEST, OK, Case

NAME = "archive"
PARTS = ("manifest", "bombs")
MEMORY = 256 << 20  # bytes that an updater may take beyond what this process has
BOUND = 25.0  # seconds, after which the world kills it

_UPGRADE = SCENARIOS["upgrade"]


def cases(_: World, part: str) -> list[str]:
    return [f"{part}:{name}" for name in _of(part)]


def run(world: World, case: str) -> list[str]:
    """What is wrong after a host was ordered this archive, and after it is ordered a good one."""
    part, name = case.split(":", 1)
    archive = _as_a_host_takes_it(_of(part)[name])
    ending = world.ending(_UPGRADE)
    world.begin(_UPGRADE)
    version = "3" if archive.verdict == OK else "2"
    _publish(world, archive.build(), version)
    before = invariants.begun(world)
    with world.impatient() if archive.verdict == OK else contextlib.nullcontext():  # its control is no agent's
        done = _once_with_little_memory(world)
    problems = _taken(world, version, done) if archive.verdict == OK else _refused(world, archive, before, done)
    if problems:
        return problems
    world.order(_UPGRADE)
    healed = world.once()
    if archive.verdict == OK:  # the good stranger is the previous version now
        return [] if healed.code == 0 and _runs(world, "2") else [f"not healed: {healed.output[-300:]}"]
    return invariants.after_heal(world, _UPGRADE, ending, healed) or invariants.at_rest(world, _UPGRADE)


def _as_a_host_takes_it(archive: Case) -> Case:
    """A tree may be good and its control no program all the same."""
    runs = archive.verdict != OK or archive.tree["control*"].startswith(b"#!")
    return archive if runs else archive._replace(verdict="cannot run: ")


def _of(part: str) -> dict[str, Case]:
    return MANIFEST if part == "manifest" else BOMBS


def _publish(world: World, data: bytes, version: str) -> None:
    directory = world.site.files / "strange"
    directory.mkdir(exist_ok=True)
    name = f"{A}-{version}.tar.gz"
    (directory / name).write_bytes(data)
    (directory / f"{name}.md5").write_text(f"{hashlib.md5(data).hexdigest()}  {name}\n")
    world.site.desire(world.site.entry(A, version, tarball=f"{world.site.url}/strange"))


def _once_with_little_memory(world: World) -> Done:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, hard))
    try:
        return world.once()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _refused(world: World, archive: Case, before: dict[str, object], done: Done) -> list[str]:
    problems = invariants.after_fault(world, _UPGRADE, before)
    problems += invariants.after_return(world, _UPGRADE, before, done, endless=False)
    if done.code != 1 or archive.verdict not in done.output:
        problems.append(f"not refused with {archive.verdict!r}: {done.output[-400:]}")
    if {d.pid for d in world.daemons()} != set(before["daemons"].values()):  # type: ignore[attr-defined]
        problems.append("the running agent was touched")
    left = sorted(path.name for path in (world.root / A).iterdir())
    if [name for name in left if name not in ("1", ".version", ".calls")]:
        problems.append(f"left over: {left}")
    return problems


def _taken(world: World, version: str, done: Done) -> list[str]:
    if not (world.root / A / version / ".installed").exists():
        return [f"a good archive was not installed: {done.output[-400:]}"]
    return ["a traceback"] if "Traceback" in done.output or done.signal else []


def _runs(world: World, version: str) -> bool:
    return [daemon.where for daemon in world.daemons()] == [world.root / A / version]
