"""How a version on trial has fared: the judgement that `plan` acts on. Pure."""

from updater.control import State
from updater.memory import Memory
from updater.observe import Observed
from updater.wire import Desired

FLAPS = 3  # restarts within a watch that are too many


def failure(seen: Observed, order: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version is to be given up for the one before, "" when it is not, or when there is none before."""
    trial = memory.trial
    if trial is None or not (seen.current == order.version == trial.version):
        return ""
    if memory.good not in seen.installs or memory.good == seen.current:
        return ""  # no way back: the best there is is to try again
    if trial.failure:
        return trial.failure
    if memory.watching(now) and trial.restarts >= FLAPS and seen.state is not State.STOPPED:
        return f"was started again {trial.restarts} times within its watch"
    return death(seen, order, memory, now)


def death(seen: Observed, order: Desired, memory: Memory, now: float) -> str:
    """How the ordered version has died in its watch, "" when it has not."""
    trial = memory.trial
    if trial is None or not (seen.current == order.version == trial.version):
        return ""
    if not memory.watching(now) or seen.state is not State.STOPPED:
        return ""
    lived = now - trial.began
    if not trial.began:  # a watch that an earlier version of the updater began
        return "died within its watch"
    return f"died {lived:.0f} s after its start" if lived >= 1 else "died within a second of its start"
