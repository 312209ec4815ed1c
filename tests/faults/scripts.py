"""Class 7: control scripts that misbehave, as the new version of a healthy agent and as the version that runs.

Whatever a script does, the cycle ends in bounded time and without a traceback, `.version` names a complete install, nothing
outside the root changes; the host ends on the version that works, or is left as it was where nobody can tell what runs.
"""

import time

from faults import cut_starts, dying, field, goods, invariants, manners
from faults.scenarios import SCENARIOS, A
from faults.world import Done, World

NAME = "control"
PARTS = ("new", "current", *field.PARTS, *cut_starts.PARTS, *manners.PARTS, *dying.PARTS)
BOUND = 25.0  # seconds: each of the three verbs may take one, twice over on the way back

_UPGRADE = SCENARIOS["upgrade"]

# What a script may do instead of its work, in each of its verbs.
_DEEDS = {
    "hangs": "sleep 3600",
    "hangs and ignores TERM": "trap '' TERM; while :; do sleep 1; done",
    "hangs with a child that ignores TERM": "(trap '' TERM; exec sleep 3600) & sleep 3600",
    "floods": "head -c 52428800 /dev/zero | tr '\\0' x",
    "prints no UTF-8": "printf '\\377\\033[2J\\033]0;x\\007'",
    "exits with 255": "exit 255",
    "is killed": "kill -9 $$",
    "reads its input": "cat",
    "wants a terminal": "stty size </dev/tty",
    "deletes its directory": 'rm -rf "$PWD"',
}
# Whole scripts that are none.
_NO_SCRIPTS = {
    "no shebang": "echo started\n",
    "a shebang with CRLF": "#!/bin/sh\r\necho started\r\n",
    "an interpreter that is not there": "#!/nonexistent/sh\necho started\n",
    "an empty file": "",
    "a directory of the same name as its interpreter": "#!/\n",
}
# Work that is done, but not as promised.
_LIES = {
    "says started and has not started": goods.CONTROL.replace("start) ", "start) exit 0; ").replace(
        '[ "$up" ] && echo started', "echo started; exit; "
    ),
    "says stoped and runs": goods.CONTROL.replace('[ "$up" ] && echo started || echo stoped', "echo stoped"),
    "says running": goods.CONTROL.replace("echo started ||", "echo running ||"),
    "says nothing": goods.CONTROL.replace('[ "$up" ] && echo started || echo stoped', ":"),
    "says both words": goods.CONTROL.replace("echo started ||", "echo started stoped ||"),
    "keeps our output open": goods.CONTROL.replace(">/dev/null 2>&1 &", "&"),
    "starts twice": goods.CONTROL.replace("start) [", "start) sleep 7919 >/dev/null 2>&1 & ["),
    "does not stop": goods.CONTROL.replace("stop)\n", "stop) exit 0\n"),
    "writes .version": goods.CONTROL.replace("status)\n", "status) echo 9.9.9 >../.version;\n"),
    "dies at once": goods.NEVER_STARTS,
}
# From these nothing can be rolled back or replaced: nobody can tell what runs, so they are left (docs/adr/0001).
_LEFT = ("says running", "says nothing", "says both words", "does not stop")


def _scripts() -> dict[str, str]:
    found = {}
    for verb in ("start", "stop", "status"):
        for name, deed in _DEEDS.items():
            found[f"{verb} {name}"] = goods.CONTROL.replace("case $1 in\n", f"case $1 in\n{verb}) {deed}; exit ;;\n", 1)
    return found | _NO_SCRIPTS | _LIES


SCRIPTS = _scripts()


def cases(_: World, part: str) -> list[str]:
    for more in (field, cut_starts, manners, dying):
        if part in more.PARTS:
            return more.cases(part)
    return [f"{part}:{name}" for name in SCRIPTS]


def run(world: World, case: str) -> list[str]:
    """What is wrong in the cycles of a host with this script, and after a good version is ordered."""
    part, name = case.split(":", 1)
    for more in (field, cut_starts, manners, dying):
        if part in more.PARTS:
            return more.run(world, case)
    world.begin(_UPGRADE)
    with world.impatient(seconds=1):
        return _new(world, name) if part == "new" else _current(world, name)


def _new(world: World, name: str) -> list[str]:
    """Version 1 runs and is healthy; version 2 has this script."""
    manners.publish(world, "2", SCRIPTS[name])
    problems = _bounded(world, world_cycle(world))
    problems += _sound(world)
    up = {daemon.where.name for daemon in world.daemons()}
    if not up and "deletes its directory" not in name and "says started and has not" not in name:
        problems.append("no version runs")
    return problems or _healed(world, name)


def _current(world: World, name: str) -> list[str]:
    """The version that runs has this script; a good version 2 is ordered."""
    (world.root / A / "1" / "control").write_text(SCRIPTS[name])
    before = invariants.begun(world)
    world.order(_UPGRADE)
    problems = _bounded(world, world_cycle(world))
    problems += _sound(world)
    if not world.daemons():
        problems.append("no version runs")
    now = (world.root / A / ".version").read_text().strip() if (world.root / A / ".version").exists() else ""
    if now == "1" and {d.pid for d in world.daemons()} != set(before["daemons"].values()):
        problems.append("the version that runs was neither replaced nor left alone")
    return problems


def world_cycle(world: World) -> tuple[Done, float]:
    began = time.monotonic()
    done = world.once()
    return done, time.monotonic() - began


def _bounded(world: World, outcome: tuple[Done, float]) -> list[str]:
    done, took = outcome
    problems = [] if took < BOUND else [f"took {took:.1f} s"]
    if done.signal or done.code not in (0, 1) or "Traceback" in done.output or "a defect of the updater" in done.output:
        problems.append(f"ended with {done.signal or done.code}: {done.output[-400:]}")
    return problems


def _sound(world: World) -> list[str]:
    """`.version` is one of the versions that are here, and nothing outside was touched."""
    problems = [] if world.look_around() == world.surroundings else ["something outside the root was changed"]
    file = world.root / A / ".version"
    version = file.read_text().strip() if file.exists() else "gone"
    if version not in ("1", "2", "9.9.9"):
        problems.append(f".version holds {version!r}")
    daemons = [daemon.where.name for daemon in world.daemons()]
    if len(set(daemons)) > 1:
        problems.append(f"two versions run: {daemons}")
    return problems


def _healed(world: World, name: str) -> list[str]:
    """A good version 3 is ordered: it runs after at most two cycles, unless nobody can tell what runs."""
    manners.publish(world, "3", goods.CONTROL)
    for _ in range(2):
        done, _took = world_cycle(world)
    up = [daemon.where.name for daemon in world.daemons()]
    if up == ["3"] or (name == "starts twice" and up == ["2", "3"]):  # the second one is known to no script of its own
        return []
    if name in _LEFT or name.startswith(("stop ", "status ")):
        return (
            []
            if up and ("is left alone" in done.output or "did not stop" in done.output)
            else [f"not left alone: {up}: {done.output[-300:]}"]
        )
    return [f"runs {up}, not 3: {done.output[-300:]}"]
