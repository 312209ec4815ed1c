"""More of class 7: the updater is killed while a script of `field` starts version 2, and the start goes on without it.

`cut-same`: the order stays. `cut-back`: version 1 is ordered again. In the end exactly one agent runs, of the ordered version.
"""

import os
import signal
import time

from faults import field, goods
from faults.scenarios import SCENARIOS, A
from faults.world import LIMIT, World

PARTS = ("cut-same", "cut-back")
# How a start takes its time, and says that it has begun.
_SLOWLY = "start) : >../starting; sleep 0.4;"
# It has left its session and its environment, and keeps its pid where only its control looks.
_HIDES = (
    field.GOOD["leads a session"].replace("setsid ", "env -i setsid ").replace("<pid", "<.run").replace(">pid", ">.run")
)
_HAS_NO_GUARD = _HIDES.replace('start) [ "$up" ] || ', "start) ")
SCRIPTS = field.GOOD | {"hides": _HIDES, "hides, with no guard": _HAS_NO_GUARD}


def cases(part: str) -> list[str]:
    return [f"{part}:{name}" for name in SCRIPTS]


def run(world: World, case: str) -> list[str]:
    """What is wrong in the end."""
    part, name = case.split(":", 1)
    world.begin(SCENARIOS["upgrade"])
    directory = world.site.files / "cut"
    directory.mkdir(exist_ok=True)
    goods.publish(directory, A, "2", SCRIPTS[name].replace("start)", _SLOWLY, 1))
    order = lambda version: world.site.entry(A, version, tarball=f"{world.site.url}/cut", leftovers="end")  # noqa: E731
    with world.impatient(seconds=2.5):
        world.site.desire(order("2"))
        if not _killed_during_the_start(world):
            return ["version 2 was not started"]
        wanted = "2" if part == "cut-same" else "1"
        world.site.desire(order(wanted))
        outputs = [world.once().output for _ in range(3)]
    runs, meant = len(world.daemons()), 2 if "helper" in name and wanted == "2" else 1
    many = [] if runs <= meant else [f"{runs} run of one agent: {outputs[0][-600:]}"]
    return many + field.problems(world, wanted, outputs)


def _killed_during_the_start(world: World) -> bool:
    begun, deadline = world.root / A / "starting", time.monotonic() + LIMIT
    output = world.directory / "output"
    pid = world.launch(output)
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    return world.ended(pid, output).signal == signal.SIGKILL and begun.exists()
