"""More of class 7: a version that is not rolled back dies between every two cycles.

It runs after each cycle, which makes one heartbeat of it, and meta is told once, or once for each run of its own that is up for
as long as a watch; also where the updater is killed on the way.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from faults import goods
from faults.manners import publish
from faults.scenarios import SCENARIOS, A
from faults.world import LIMIT, World

PARTS = ("dying",)
KILLED = " +kill"
_CYCLES = 5


def cases(part: str) -> list[str]:
    return [f"{part}:{name}{more}" for name in _BEGINNINGS for more in ("", KILLED)]


def run(world: World, case: str) -> list[str]:
    name = case.split(":", 1)[1].removesuffix(KILLED)
    world.begin(SCENARIOS["upgrade"])
    _BEGINNINGS[name](world)
    told, problems = "", _died(world, 2)
    for number in range(_CYCLES):
        if number == 2 and case.endswith(KILLED):
            _end_it(world)
            problems += _killed_once_it_starts(world)
        before = len(world.site.reports)
        problems += _died(world, 1)
        beats = len(world.site.reports) - before
        if number and beats > 1 and not case.endswith(KILLED):
            problems.append(f"{beats} heartbeats in cycle {number}")
    told = [one["reason"] for one in world.site.outcomes() if "died within" in one["reason"]]
    if len(told) != 1:
        problems.append(f"told {len(told)} times: {told}")
    if world.site.reports[-1]["realAgents"][0].get("trial") is not True:
        problems.append("it is reported as proven")
    with _watch(world, 0):
        world.once()
    if world.site.reports[-1]["realAgents"][0].get("trial") is not False:
        problems.append("it is reported on trial for good")
    return problems


def _died(world: World, times: int) -> list[str]:
    """What is wrong in so many cycles before each of which the agent has died."""
    problems = []
    for _ in range(times):
        _end_it(world)
        done = world.once()
        up = [daemon.where.name for daemon in world.daemons()]
        if up != ["1"]:
            problems.append(f"{up} run, not 1: {done.output[-300:]}")
        if done.signal or done.code not in (0, 1) or "Traceback" in done.output or "a defect" in done.output:
            problems.append(f"ended with {done.signal or done.code}: {done.output[-300:]}")
    return problems


def _end_it(world: World) -> None:
    for daemon in world.daemons():
        os.kill(daemon.pid, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT
    while world.daemons() and time.monotonic() < deadline:
        time.sleep(0.002)


def _killed_once_it_starts(world: World) -> list[str]:
    """Kill the updater when it has asked the control of the dead agent to start it."""
    calls, output = world.root / A / ".calls", world.directory / "output"
    begun, deadline = calls.read_text().count("start\n"), time.monotonic() + LIMIT
    pid = world.launch(output)
    while calls.read_text().count("start\n") == begun and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return [] if world.ended(pid, output).signal == signal.SIGKILL else ["it was not killed"]


@contextmanager
def _watch(world: World, seconds: float) -> Iterator[None]:
    usual = world.config.read_text()
    world.config.write_text(json.dumps(json.loads(usual) | {"watch": seconds}))
    try:
        yield
    finally:
        world.config.write_text(usual)


def _proven(world: World) -> None:
    publish(world, "1", goods.CONTROL)
    with _watch(world, 0):
        for _ in range(2):
            world.once()
    world.site.reports.clear()


def _gone_back_to(world: World) -> None:
    _proven(world)
    publish(world, "2", goods.NEVER_STARTS)
    world.once()
    world.site.reports.clear()


def _while_the_next_cannot_be_had(world: World) -> None:
    _proven(world)
    world.site.desire(world.site.entry(A, "9", tarball=f"{world.site.url}/scripted"))


_BEGINNINGS: dict[str, Callable[[World], None]] = {
    "proven": _proven,
    "gone back to": _gone_back_to,
    "while the next cannot be had": _while_the_next_cannot_be_had,
}
