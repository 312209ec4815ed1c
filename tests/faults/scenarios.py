"""The stories in which faults happen: how a host begins, what meta orders, and what must be true in the end.

Each begins on a host that ran without faults before, and takes one cycle when nothing goes wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.goods import CONTROL, NEVER_STARTS, lay

if TYPE_CHECKING:
    from faults.world import World

A = "agent"


_SHARED = (".", ".updater", ".updater/agents", ".updater/downloads", ".updater/output")


@dataclass(frozen=True)
class Scenario:
    """orders: (name, version, cmd); published: (name, version, control); runs: installs whose agents run at its beginning.

    begins, ends: name -> the current version, of all agents there are; exits: the updater's exit code without a fault.
    """

    name: str
    prepare: Callable[["World"], None]
    orders: tuple[tuple[str, str, str], ...]
    published: tuple[tuple[str, str, str], ...] = ((A, "1", CONTROL), (A, "2", CONTROL))
    begins: tuple[tuple[str, str], ...] = ((A, "1"),)
    ends: tuple[tuple[str, str], ...] = ((A, "2"),)
    stops: bool = False
    down: bool = False  # the agents are down at its beginning
    exits: int = 0
    threads: bool = False  # agents take turns side by side

    @property
    def runs(self) -> tuple[str, ...]:
        return () if self.down else tuple(f"{name}/{version}" for name, version in self.begins)

    def is_unsure(self, key: str) -> bool:
        """Whether a call may be missing from another run: two threads may both make a directory, or only one."""
        return self.threads and key.split(":")[0] in ("mkdir", "fsync") and key.split(":")[1] in _SHARED

    def control(self, name: str, version: str) -> str:
        """The control script of a version as it was published."""
        return next((c for n, v, c in self.published if (n, v) == (name, version)), CONTROL)


def installed(*versions: str, names: tuple[str, ...] = (A,)) -> Callable[["World"], None]:
    """A host that was brought to these versions, one after the other, by cycles of our own."""

    def prepare(world: "World") -> None:
        for version in versions:
            world.desire(*((name, version) for name in names))
            for _ in range(2):
                done = world.once()
                assert (done.code, done.signal) == (0, 0), done.output

    return prepare


def nothing(_: "World") -> None:
    """A host without agents."""


def adopted(world: "World") -> None:
    """A host that the Go updater managed: no marker, and no newline at the end of `.version`."""
    lay(world.root / A / "1", "1")
    (world.root / A / ".version").write_text("1")


def half_there(world: "World") -> None:
    """Version 1 runs; a directory of version 2 lies there that nobody can vouch for."""
    installed("1")(world)
    lay(world.root / A / "2", "2")
    (world.root / A / "2" / "agent.conf").write_text("half")


def on_trial(world: "World") -> None:
    """Version 2 was started by an upgrade, is watched, and has died since."""
    installed("1")(world)
    world.desire((A, "2"))
    assert world.once().code == 0


def old_ones(world: "World") -> None:
    """Four versions were installed, one after the other; one of them has become old just now."""
    installed("1", "2", "3")(world)
    world.desire((A, "4"))
    assert world.once().code == 0


_NAMES = ("base", "extra", "plain")
_START = ((A, "2", "start"),)
_BAD_TWO = ((A, "1", CONTROL), (A, "2", NEVER_STARTS))

_ALL = (
    Scenario("install", nothing, ((A, "1", "start"),), begins=(), ends=((A, "1"),)),
    Scenario("upgrade", installed("1"), _START),
    Scenario("rollback", installed("1"), _START, _BAD_TWO, ends=((A, "1"),), exits=1),
    Scenario("watch", on_trial, _START, begins=((A, "2"),), ends=((A, "1"),), exits=1, down=True),
    Scenario("adopt", adopted, _START),
    Scenario("half", half_there, _START),
    Scenario("stop", installed("1"), ((A, "1", "stop"),), ends=((A, "1"),), stops=True),
    Scenario(
        "prune",
        old_ones,
        ((A, "4", "start"),),
        tuple((A, version, CONTROL) for version in "1234"),
        begins=((A, "4"),),
        ends=((A, "4"),),
    ),
    Scenario(
        "many",
        installed("1", names=_NAMES),
        (*((name, version, "start") for name, version in zip(_NAMES, "221", strict=True)), ("new", "1", "start")),
        tuple((name, version, CONTROL) for name in (*_NAMES, "new") for version in "12"),
        begins=tuple((name, "1") for name in _NAMES),
        ends=(*zip(_NAMES, "221", strict=True), ("new", "1")),
        threads=True,
    ),
)

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
