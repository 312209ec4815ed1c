"""Class 3: the power fails at every operation, and of what was not fsynced any part may be on the disk.

A scenario is recorded once; each state of the disk that the model in `disk` allows after each operation is laid out, judged,
and healed by one clean cycle. Agents do not survive a power cut, and the machine has another boot id after it.

There are also states of two cuts: the updater is killed, its successor does its work, and then the power fails. What the
first one made and did not sync, the second one must not build on.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from faults import disk, invariants
from faults.disk import DATA, Disk, Op, Tree
from faults.observers import Record, recorded
from faults.scenarios import SCENARIOS, Scenario
from faults.shim import Call
from faults.world import World

NAME = "power"
_STORIES = ("install", "upgrade", "rollback", "adopt", "half", "stop", "prune")
KILLED = "+kill"
# Not `half`: a tree is removed in an order of the file system's own, so a recording of a kill in it is another each time.
PARTS = (*_STORIES, *(f"{story}{KILLED}" for story in ("install", "upgrade", "adopt", "stop", "prune")))
SEED = 3
PER_POINT = 33  # states after one operation
_AFTER_A_KILL = 3  # the same, where an updater was killed before
_STEP = 15  # operations between two such points; the last one is always one
_FORGOTTEN = ("utime", "chown", "lchown", "setxattr")
_MOMENT = re.compile(rb'("(?:at|until)":)[0-9.]+')  # two states that differ in no more are one
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_OTHER_BOOT = "00000000-0000-4000-8000-000000000000"

Recording = tuple[Disk, list[int], int]  # the operations, from when on each is durable, the first one of interest


def cases(world: World, part: str) -> list[str]:
    """`PART:OPERATIONS:CHOICE:KILLED` for each state: after so many operations, such a choice of the unsynced ones."""
    scenario = SCENARIOS[part.removesuffix(KILLED)]
    seen: set[int] = set()
    if not part.endswith(KILLED):
        return list(_distinct(world, part, scenario, "", PER_POINT, seen))
    world.begin(scenario)
    keys = [call.key for call in _calls(world) if call.mine and call.op not in _FORGOTTEN and call.path[0] != "/"]
    return [case for key in keys for case in _distinct(world, part, scenario, key, _AFTER_A_KILL, seen)]


def run(world: World, case: str) -> list[str]:
    """What is wrong with this state, or after the clean cycles that follow it."""
    part, point, choice, killed = case.split(":", 3)
    scenario = SCENARIOS[part.removesuffix(KILLED)]
    ending = world.ending(scenario)
    recording = _recording(world, scenario, killed)
    if int(point) > len(recording[0].ops):
        return [f"the recording has only {len(recording[0].ops)} operations now"]
    tree = recording[0].tree(_kept(recording, int(point), choice, f"{part}:{killed}"))
    world.clear()
    disk.write(_on_another_boot(tree), world.root)
    world.order(scenario)
    began = {name.partition("/")[0]: value[2] for name, value in _base(world, scenario).items() if _is_version(name)}
    problems = [*invariants.versions(world.root, scenario, began), *invariants.installs(world.root, scenario)]
    if problems:
        return problems
    done = world.once()
    problems = invariants.after_heal(world, scenario, ending, done)
    return problems or (invariants.at_rest(world, scenario) if int(point) % 4 == 0 else [])


def _distinct(world: World, part: str, scenario: Scenario, killed: str, most: int, seen: set[int]) -> Iterator[str]:
    recording = _recording(world, scenario, killed)
    the_disk, _, first = recording
    for point in range(first, len(the_disk.ops) + 1):
        if killed and (point - first) % _STEP and point < len(the_disk.ops):
            continue
        choices = list(_choices(recording, point))
        if len(choices) > most:
            rng = random.Random(f"{SEED}:{part}:{killed}:{point}")
            choices = choices[:2] + rng.sample(choices[2:], most - 2)
        for choice in choices:
            tree = the_disk.tree(_kept(recording, point, choice, f"{part}:{killed}"))
            state = hash(
                tuple((name, kind, mode, _MOMENT.sub(rb"\1", c)) for name, (kind, mode, c) in sorted(tree.items()))
            )
            if state not in seen:
                seen.add(state)
                yield f"{part}:{point}:{choice}:{killed}"


def _choices(recording: Recording, point: int) -> Iterator[str]:
    """Names of choices among the operations that are not durable yet; see `_kept`."""
    yield "none"
    yield "all"
    pending = _pending(recording, point)
    for position in pending:
        yield f"only-{position}"
        yield f"without-{position}"
        if recording[0].ops[position].kind == DATA:
            yield from (f"half-{position}", f"zeros-{position}")
    if len(pending) > 2:
        yield from (f"random-{turn}" for turn in range(PER_POINT))


def _kept(recording: Recording, point: int, choice: str, seed: str) -> list[Op]:
    ops = recording[0].ops
    pending = set(_pending(recording, point))
    what, _, number = choice.partition("-")
    if what == "none":
        lost = pending
    elif what == "all":
        lost = set()
    elif what == "only":
        lost = pending - {int(number)}
    elif what == "without":
        lost = {int(number)}
    elif what == "random":
        rng = random.Random(f"{SEED}:{seed}:{point}:{number}")
        lost = {position for position in sorted(pending) if rng.random() < 0.5}
    else:
        return [_damaged(op, what) if i == int(number) else op for i, op in enumerate(ops[:point])]
    return [op for position, op in enumerate(ops[:point]) if position not in lost]


def _damaged(op: Op, what: str) -> Op:
    offset, content = op.value
    content = content[: len(content) // 2] if what == "half" else b"\0" * len(content)
    return Op(op.kind, op.nodes, (offset, content), op.key)


def _pending(recording: Recording, point: int) -> list[int]:
    the_disk, durable, _ = recording
    return [i for i, op in enumerate(the_disk.ops[:point]) if op.kind != disk.SYNC and durable[i] > point]


def _recording(world: World, scenario: Scenario, killed: str) -> Recording:
    """The operations of a clean run; or those of a run that was killed after a call, and of the one that followed."""
    return world.known(f"{scenario.name}:{killed}", lambda: _record(world, scenario, killed))


def _record(world: World, scenario: Scenario, killed: str) -> Recording:
    the_disk = Disk(_base(world, scenario))
    world.begin(scenario)
    for call in _calls(world, killed):
        the_disk.add(call)
    first = len(the_disk.ops) if killed else 0
    if killed:
        for call in _calls(world):
            the_disk.add(call)
    return the_disk, disk.durable_from(the_disk.ops), first


def _calls(world: World, last: str = "") -> list[Call]:
    world.log.unlink(missing_ok=True)
    world.once(lambda: Record(world.log, last))
    world.daemons()  # waits for scripts
    return _in_order(recorded(world.log), whole=not last)


def _in_order(calls: list[Call], whole: bool) -> list[Call]:
    """The calls in an order that is the same each time: what other threads sync is synced as late as it may be.

    Of a run that was killed (not whole), how far the others had come at its end is not the same each time, and left out.
    """
    ordered: list[Call] = []
    late: list[Call] = []
    for call in calls:
        if not call.mine:
            late.append(call)
            continue
        if call.op == "fsync":
            ordered += sorted(late, key=lambda c: c.path)
            late = []
        ordered.append(call)
    return ordered + sorted(late, key=lambda c: c.path) if whole else ordered


def _base(world: World, scenario: Scenario) -> Tree:
    return world.known(f"{scenario.name} at its beginning", lambda: disk.read(world.template(scenario)))


def _on_another_boot(tree: Tree) -> Tree:
    try:
        this_boot = _BOOT_ID.read_text().strip().encode()
    except OSError:
        return tree
    other = _OTHER_BOOT.encode()
    return {name: (kind, mode, content.replace(this_boot, other)) for name, (kind, mode, content) in tree.items()}


def _is_version(name: str) -> bool:
    return name.endswith("/.version")
