"""How a version on trial has fared: the judgement that `plan` acts on. Pure. All of `now` is when the agent was looked at."""

from updater.model.memory import Memory
from updater.model.observed import Observed, State
from updater.model.trials import Trial
from updater.wire.heartbeat import Desired

LOOKS = 3  # at a version whose words and processes do not agree, before it is given up
FLAPS = 3  # restarts within a watch that are too many


def failure(observed: Observed, desired: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version is to be given up for the one before, "" when it is not, or when there is none before."""
    trial = _trial(observed, desired, memory)
    if trial is None or memory.good not in observed.installs or memory.good == observed.current:
        return ""  # no way back: the best there is is to try again
    return trial.failure or death(observed, desired, memory, now)


def death(observed: Observed, desired: Desired, memory: Memory, now: float) -> str:
    """How the ordered version has died before it was found well at the end of its watch, "" when it has not."""
    trial = _trial(observed, desired, memory)
    if trial is None or not memory.is_watched or now < trial.began:  # what was seen before its start says nothing of it
        return ""
    if observed.state is not State.STOPPED:
        return f"was started again {trial.restarts} times within its watch" if trial.restarts >= FLAPS else ""
    if not memory.watching(now):
        return "was down when its watch had passed"
    lived = now - trial.began
    if not trial.began:  # a watch that an earlier version of the updater began
        return "died within its watch"
    return f"died {lived:.0f} s after its start" if lived >= 1 else "died within a second of its start"


def doubt(observed: Observed, desired: Desired, memory: Memory, now: float) -> str:
    """Why there is no verdict yet on the ordered version, which says that it has stopped: its processes live."""
    trial = _trial(observed, desired, memory)
    if trial is None or observed.state is not State.STOPPED or not observed.processes or trial.doubts >= LOOKS:
        return ""
    if not death(observed, desired, memory, now):
        return ""
    lives = (
        "a process of it lives" if len(observed.processes) == 1 else f"{len(observed.processes)} of its processes live"
    )
    return f"the status of {observed.current} is {observed.status.text!r}, but {lives}: looking again"


def once_more(observed: Observed, desired: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version is started again instead of a verdict, "" when it is not."""
    return _lost(observed, desired, memory, now) or crowded(observed, desired, memory, now)


def _lost(observed: Observed, desired: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version, which says that it is started, is started once more instead of a verdict: none of its processes
    is found, but what it has left where it is installed may not have been the agent."""
    trial = _trial(observed, desired, memory)
    if trial is None or not observed.absent or trial.lost >= LOOKS or not death(observed, desired, memory, now):
        return ""
    return f"{observed.status.text}: trying again"


def crowded(observed: Observed, desired: Desired, memory: Memory, now: float) -> str:
    """Why the ordered version, which has died, is started once more: another version's processes have not gone."""
    trial, others = _trial(observed, desired, memory), sorted(observed.crowding - {observed.current})
    if trial is None or trial.again or not others or observed.state is not State.STOPPED:
        return ""
    died = death(observed, desired, memory, now)
    return f"{died}, while processes of {', '.join(others)} still run" if died else ""


def _trial(observed: Observed, desired: Desired, memory: Memory) -> Trial | None:
    trial = memory.trial
    return trial if trial and observed.current == desired.version == trial.version else None
