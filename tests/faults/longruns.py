"""Class 4: what no single fault shows: clocks that jump, many updaters at once, a thousand cycles, a day without meta.

Cycles run in this process, on a host whose clock is ours; nothing waits for a real one.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from faults.scenarios import SCENARIOS, A
from faults.world import World
from helpers.agents import calls
from lab.ports import free_port
from updater.errors import TryLater
from updater.host import config
from updater.host.context import Host
from updater.model.layout import Layout
from updater.model.observed import Observed
from updater.model.trials import Moment
from updater.net.http import Http
from updater.reconcile import cycle

NAME = "long"
PARTS = ("clock", "start", "cycles")
YEARS = 10 * 365.25 * 86400
WATCH = 60.0


@dataclass(slots=True)
class Clocked(Host):
    """A host whose clock is `ahead` seconds ahead of the real one, and whose machine has run for `more` seconds more."""

    ahead: float = 0.0
    more: float = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def moment(self, seen: Observed | None = None) -> Moment:
        real = Host.moment(self, seen)
        return real._replace(now=real.now + self.more)


def cases(_: World, part: str) -> list[str]:
    """All of them; each is a function of this module."""
    return [f"{part}:{name}" for name in _CASES[part]]


def run(world: World, case: str) -> list[str]:
    """What is wrong at the end."""
    part, name = case.split(":")
    logging.getLogger("updater").addHandler(logging.NullHandler())  # its warnings are expected here
    try:
        _CASES[part][name](world)
    except AssertionError as e:
        return [str(e) or "an assertion"]
    finally:
        world.site.gate.set()
    return []


def _host(world: World, scenario: str = "upgrade") -> Clocked:
    world.begin(SCENARIOS[scenario])
    settings = replace(config.load(world.config), watch=WATCH)
    return Clocked(Layout(world.root), settings, Http())


def _cycle(host: Clocked, ahead: float = 60.0) -> cycle.Result:
    host.ahead += ahead
    host.more += ahead
    return cycle.run(host)


def _runs(world: World, version: str, what: str) -> int:
    """Exactly one agent runs, of this version; returns its pid."""
    where = [str(daemon.where.relative_to(world.root)) for daemon in world.daemons()]
    assert where == [f"{A}/{version}"], f"{what}: there runs {where}, not version {version}"
    return world.daemons()[0].pid


def _jump_between_cycles(world: World, jump: float) -> None:
    host = _host(world)
    world.desire((A, "1"))
    _cycle(host)
    before = _runs(world, "1", "before the jump")
    host.ahead += jump
    for _ in range(3):
        assert _cycle(host).matches, "a cycle after the jump is not well"
    assert _runs(world, "1", "after the jump") == before, "the jump has restarted the agent"
    assert not world.site.gets, "the jump has caused a download"
    for version in ("2", "1", "2"):  # back to an old version, too
        world.desire((A, version))
        host.ahead -= jump
        assert _cycle(host).matches, f"no way to {version} after the jump"
        _runs(world, version, "an upgrade after the jump")
        assert _cycle(host).matches, "not at rest after an upgrade"


def _jump_in_a_watch(world: World, jump: float) -> None:
    host = _host(world)
    assert _cycle(host).matches
    host.ahead += jump
    assert _cycle(host, 1).matches, "the jump in a watch is taken for a failure"
    before = _runs(world, "2", "after a jump in a watch")
    _cycle(host, WATCH + 1)
    assert _runs(world, "2", "when the watch is over") == before
    os.kill(before, signal.SIGKILL)
    world.daemons()
    assert _cycle(host, 600).matches, "an agent that died long after its watch was rolled back"
    _runs(world, "2", "after a late death")


def _twenty(world: World) -> None:
    world.begin(SCENARIOS["upgrade"])
    world.site.gate.clear()
    outputs = [world.directory / f"output-{number}" for number in range(20)]
    left = {world.launch(output): output for output in outputs}
    ended = []
    deadline = time.monotonic() + 20
    while len(left) > 1 and time.monotonic() < deadline:
        for pid in list(left):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                ended.append(world.ended(pid, left.pop(pid)))
        time.sleep(0.002)
    world.site.gate.set()
    winners = [world.ended(pid, output) for pid, output in left.items()]
    assert [done.code for done in ended] == [2] * 19, f"the others ended with {[done.code for done in ended]}"
    assert all("another updater" in done.output for done in ended), "one does not say why"
    assert [done.code for done in winners] == [0], f"the one that worked: {winners[0].output[-300:]}"
    _runs(world, "2", "after 20 at once")


def _bad_version(world: World) -> None:
    host = _host(world, "rollback")
    assert not _cycle(host).matches
    _runs(world, "1", "after the rollback")
    before, asked = world.daemons(), len(calls(world.root, A))
    for number in range(999):
        assert not _cycle(host).matches, f"cycle {number} forgot the rejection"
    assert world.daemons() == before, "the agent was touched again"
    assert set(calls(world.root, A)[asked:]) == {"status"}, "more than the status was asked for"
    assert world.site.gets.count(f"/rollback/{A}-2.tar.gz") == 1, f"{len(world.site.gets)} downloads"
    told = [(outcome["to"], outcome["result"]) for outcome in world.site.outcomes()]
    # 1 was replaced within its watch, so it comes through another one, once.
    assert told == [("2", "rolled back"), ("1", "done")], f"reported: {told}"


def _day_without_meta(world: World) -> None:
    host = _host(world)
    world.desire((A, "1"))
    _cycle(host)
    before = _runs(world, "1", "before the outage")
    there = host.config
    host.config = replace(there, server=f"127.0.0.1:{free_port()}")
    for _ in range(86400 // 60):
        with contextlib.suppress(TryLater):
            _cycle(host)
            raise AssertionError("a cycle went well without meta")
    assert _runs(world, "1", "after a day without meta") == before, "the outage has touched the agent"
    host.config = there
    world.desire((A, "2"))
    assert _cycle(host).matches, "not converged in one cycle when meta is back"
    _runs(world, "2", "when meta is back")


_CASES: dict[str, dict[str, Callable[[World], None]]] = {
    "clock": {
        "forward-between": lambda world: _jump_between_cycles(world, YEARS),
        "back-between": lambda world: _jump_between_cycles(world, -YEARS),
        "forward-in-watch": lambda world: _jump_in_a_watch(world, YEARS),
        "back-in-watch": lambda world: _jump_in_a_watch(world, -YEARS),
    },
    "start": {"twenty": _twenty},
    "cycles": {
        "bad-version": _bad_version,
        "no-meta": _day_without_meta,
    },
}
