"""Class 2: each call fails once with an errno that it can fail with, or the disk is full from that call on.

Calls that open or list for reading are among them: what cannot be read must not be taken for what is not there.
"""

import errno
import time

from faults import invariants, kills
from faults.observers import FAILED, NEEDS_ROOM, Fail, FailEach, Full
from faults.scenarios import SCENARIOS
from faults.world import World

NAME = "errno"
_ONLY_KILLED = ("many", "adopt", "half")  # the calls of these are those of the others
PARTS = tuple(name for name in SCENARIOS if name not in _ONLY_KILLED)
FULL, SHORT, EACH = "FULL", "SHORT", "EACH"
BOUND = 24.0  # seconds that a cycle may take under a fault before it counts as hanging; the time for a download is 2.5

_ERRNOS = {
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "open": (errno.EMFILE, errno.ENOSPC, errno.EACCES, errno.EROFS),
    "read": (errno.EMFILE, errno.EIO, errno.EACCES),
    "listdir": (errno.EMFILE, errno.EIO, errno.EACCES),
    "scandir": (errno.EMFILE, errno.EIO, errno.EACCES),
}
_OF_A_PROCESS = (errno.EMFILE, errno.ENFILE)  # of the null device, which each script is started with
_OTHERS = (errno.EROFS, errno.EIO, errno.EACCES, errno.ENOSPC, errno.EDQUOT)
_EACH = 1  # errnos per call; they take turns


def cases(world: World, part: str) -> list[str]:
    """`SCENARIO:ERRNO:CALL` for each fault of a scenario; FULL and SHORT stand for a disk that is full from there on, EACH for
    a file that is read a number of times, which is not known, and never answers."""
    found = []
    # Sorted: some calls are made by threads, and each is to have the same errno in every run.
    keys = sorted(key.removesuffix(FAILED) for key in kills.calls(world, SCENARIOS[part]))
    for position, key in enumerate(keys):
        op = key.split(":")[0]
        possible = _OF_A_PROCESS if ":/" in key else _ERRNOS.get(op, _OTHERS)
        numbers = [possible[(position + turn) % len(possible)] for turn in range(_EACH)]
        found += [f"{part}:{errno.errorcode[number]}:{key}" for number in numbers]
        if kills.is_first_of_a_kept_one(key):
            found.append(f"{part}:{EACH}:{key}")
        # A watch's verdict cannot be remembered on a full disk: then the version is started again, and that is well.
        if op in NEEDS_ROOM and ":/" not in key and part != "watch":
            found.append(f"{part}:{FULL}:{key}")
        if op == "write" and part != "watch":
            found.append(f"{part}:{SHORT}:{key}")
    return found


def run(world: World, case: str) -> list[str]:
    """What is wrong after this fault, or after the clean cycles that follow it."""
    part, what, key = case.split(":", 2)
    scenario = SCENARIOS[part]
    ending = world.ending(scenario)
    world.begin(scenario)
    before = invariants.begun(world)
    world.log.unlink(missing_ok=True)
    began = time.monotonic()
    done = world.once(lambda: _observer(world, what, key))
    took = time.monotonic() - began
    if not world.log.read_text():
        return [f"the call did not come: {done.output[-300:]}"]
    problems = [] if took < BOUND else [f"took {took:.1f} s"]
    problems += invariants.after_fault(world, scenario, before)
    problems += invariants.after_return(world, scenario, before, done, endless=what in (FULL, SHORT, EACH))
    return problems or kills.heals(world, scenario, ending)


def _observer(world: World, what: str, key: str) -> Fail | FailEach | Full:
    if what == EACH:
        return FailEach(key, errno.EIO, world.log)
    if what == FULL:
        return Full(key, world.log)
    if what == SHORT:
        return Fail(key, errno.ENOSPC, world.log, short=True)
    return Fail(key, getattr(errno, what), world.log)
