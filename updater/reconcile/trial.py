"""How a version on trial has fared: the judgement that `plan` acts on. Pure. All of `now` is when the agent was looked at."""

from updater.model.memory import Memory
from updater.model.observed import Observed, State
from updater.model.trials import Trial
from updater.wire.heartbeat import Desired

LOOKS = 3  # at a version whose words and processes do not agree, before it is given up
FLAPS = 3  # restarts within a watch that are too many


def failure(seen: Observed, order: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version is to be given up for the one before, "" when it is not, or when there is none before."""
    trial = _trial(seen, order, memory)
    if trial is None or memory.good not in seen.installs or memory.good == seen.current:
        return ""  # no way back: the best there is is to try again
    return trial.failure or death(seen, order, memory, now)


def death(seen: Observed, order: Desired, memory: Memory, now: float) -> str:
    """How the ordered version has died before it was found well at the end of its watch, "" when it has not."""
    trial = _trial(seen, order, memory)
    if trial is None or not memory.is_watched or now < trial.began:  # what was seen before its start says nothing of it
        return ""
    if seen.state is not State.STOPPED:
        return f"was started again {trial.restarts} times within its watch" if trial.restarts >= FLAPS else ""
    if not memory.watching(now):
        return "was down when its watch had passed"
    lived = now - trial.began
    if not trial.began:  # a watch that an earlier version of the updater began
        return "died within its watch"
    return f"died {lived:.0f} s after its start" if lived >= 1 else "died within a second of its start"


def doubt(seen: Observed, order: Desired, memory: Memory, now: float) -> str:
    """Why there is no verdict yet on the ordered version, which says that it has stopped: its processes live."""
    trial = _trial(seen, order, memory)
    if trial is None or seen.state is not State.STOPPED or not seen.processes or trial.doubts >= LOOKS:
        return ""
    if not death(seen, order, memory, now):
        return ""
    lives = "a process of it lives" if len(seen.processes) == 1 else f"{len(seen.processes)} of its processes live"
    return f"the status of {seen.current} is {seen.status.text!r}, but {lives}: looking again"


def once_more(seen: Observed, order: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version is started again instead of a verdict, "" when it is not."""
    return _lost(seen, order, memory, now) or crowded(seen, order, memory, now)


def _lost(seen: Observed, order: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version, which says that it is started, is started once more instead of a verdict: none of its processes
    is found, but what it has left where it is installed may not have been the agent."""
    trial = _trial(seen, order, memory)
    if trial is None or not seen.absent or trial.lost >= LOOKS or not death(seen, order, memory, now):
        return ""
    return f"{seen.status.text}: trying again"


def crowded(seen: Observed, order: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version, which has died, is started once more: another version's processes have not gone."""
    trial, others = _trial(seen, order, memory), sorted(seen.crowding - {seen.current})
    if trial is None or trial.again or not others or seen.state is not State.STOPPED:
        return ""
    died = death(seen, order, memory, now)
    return f"{died}, while processes of {', '.join(others)} still run" if died else ""


def _trial(seen: Observed, order: Desired, memory: Memory) -> Trial | None:
    trial = memory.trial
    return trial if trial and seen.current == order.version == trial.version else None
