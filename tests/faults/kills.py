"""Class 1: SIGKILL before every call that changes the disk, half-way through every write, and after every rename.

After a call is before the next one, but for the renames, with which everything changes at once: those are killed on both
sides, so that nothing that is no call comes between.
"""

import re

from faults import invariants
from faults.observers import AFTER, BEFORE, FAILED, HALF, Kill, Note
from faults.scenarios import SCENARIOS, Scenario
from faults.world import World

NAME = "kill"
PARTS = tuple(SCENARIOS)
# The agents' environment, pid files, and the directories of versions in which these are looked for. The directory of outputs
# is kept small on a timer.
_KEPT = re.compile(
    r"read:(environment|.*/(.*\.)?pid):\d+|scandir:([^./:][^/:]*/[^./:][^/:]*(/[^/:]+)?|\.updater/output):\d+"
)
_STEP = 3  # of the calls of agents side by side, which each does alike, every so many-th


def calls(world: World, scenario: Scenario) -> list[str]:
    """The keys of the calls of a clean run of the scenario, in order, with FAILED after those that raised."""
    world.begin(scenario)
    world.log.unlink(missing_ok=True)
    done = world.once(lambda: Note(world.log))
    assert (done.signal, done.code) == (0, scenario.exits), done.output
    keys = world.log.read_text().split("\n")[:-1]
    keys = [key for key in keys if is_first_of_a_kept_one(key.removesuffix(FAILED)) in (None, True)]
    if not scenario.threads:
        return keys
    seen = dict.fromkeys(keys)  # which thread makes a directory that all need is not the same each time
    return [key for key in seen if not scenario.is_unsure(key.removesuffix(FAILED))]


def is_first_of_a_kept_one(key: str) -> bool | None:
    """Of a call that reads what updater/cached_reads.py keeps, whether it is the first one; None for all other calls.

    Whether there is a second one depends on how old the file is by then, and on whether two threads ask at once.
    """
    return key.endswith(":1") if _KEPT.fullmatch(key) else None


def changing(keys: list[str]) -> list[str]:
    """Of these calls, the ones that may change something below the root."""
    return [key for key in keys if key.split(":")[0] not in ("read", "listdir", "scandir") and ":/" not in key]


def cases(world: World, part: str) -> list[str]:
    """`SCENARIO:WHEN:CALL` for each kill point of a scenario; a call that fails anyway is one, not two."""
    keys = changing(calls(world, SCENARIOS[part]))[:: _STEP if SCENARIOS[part].threads else 1]
    points = [(BEFORE, key.removesuffix(FAILED)) for key in keys]
    points += [(AFTER, key) for key in keys if key.startswith("rename:") and not key.endswith(FAILED)]
    points += [(HALF, key) for key in keys if key.startswith("write:")]
    return [f"{part}:{when}:{key}" for when, key in points]


def run(world: World, case: str) -> list[str]:
    """What is wrong after this kill, or after the clean cycles that follow it."""
    part, when, key = case.split(":", 2)
    scenario = SCENARIOS[part]
    ending = world.ending(scenario)
    world.begin(scenario)
    before = invariants.begun(world)
    done = world.once(lambda: Kill(key, when))
    if done.signal != 9:
        return [f"the call did not come: the updater ended with {done.signal or done.code}: {done.output[-300:]}"]
    if problems := invariants.after_fault(world, scenario, before):
        return problems
    return heals(world, scenario, ending)


def heals(world: World, scenario: Scenario, ending: dict[str, object]) -> list[str]:
    """One clean cycle heals, and a second one has nothing to do."""
    done = world.once()
    return invariants.after_heal(world, scenario, ending, done) or invariants.at_rest(world, scenario)
