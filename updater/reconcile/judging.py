"""Judges the current version while it is on trial, for `plan`; any version may be desired. Pure.

In all functions, now: when the agent was observed, in seconds of `clocks.ran`.
"""

from math import ceil

from updater.model.memory import Memory
from updater.model.observed import Observed, State
from updater.model.trials import Moment, Trial

LOOKS = 3  # looks at a version whose status and processes contradict each other, until it has failed
FLAPS = 3  # restarts within a watch after which the version has failed


def failure(observed: Observed, memory: Memory, now: float) -> str:
    """Why the version is to be rolled back; "" if it is not, or if there is no version to roll back to."""
    trial = _trial(observed, memory)
    if trial is None or memory.back not in observed.installs or memory.back == observed.current:
        return ""
    return trial.failure or death(observed, memory, now)


def death(observed: Observed, memory: Memory, now: float) -> str:
    """How the version failed within its watch, and who has its ports; "" if it did not."""
    how = _death(observed, memory, now)
    return f"{how}; {observed.taken}" if how and observed.taken else how


def _death(observed: Observed, memory: Memory, now: float) -> str:
    trial = _trial(observed, memory)
    if trial is None or not memory.is_watched or now < trial.began:  # observed before its last start
        return ""
    if observed.state is not State.STOPPED:
        return f"was started again {trial.restarts} times within its watch" if trial.restarts >= FLAPS else ""
    if not memory.watching(now):
        return "was down at the end of its watch"
    lived = now - trial.began
    if not trial.began:  # a watch that an earlier version of the updater began
        return "died within its watch"
    return f"died {lived:.0f} s after its start" if lived >= 1 else "died within a second of its start"


def end(observed: Observed, memory: Memory, moment: Moment) -> str:
    """How a version that is not rolled back for it has died since its last start; "" if it has not, or if that is known.

    It is proven, so that no watch is kept, and only the next look tells; or there is no version to go back to.
    """
    last, now = memory.restart, moment.now
    last = last if last and last.version == observed.current else None
    if memory.is_rolled_back_if_dead or (last and last.over):
        return ""
    if doubt(observed, memory, now) or once_more(observed, memory, now):
        return ""
    if how := death(observed, memory, now):
        return f"{how}; there is no version to go back to"
    is_down = observed.state is State.STOPPED and not (observed.reaping or observed.cut_off)
    if last is None or not is_down or last.boot != moment.boot or now < last.began:
        return ""
    return f"died within {max(1, ceil(now - last.began))} s of its start"


def doubt(observed: Observed, memory: Memory, now: float) -> str:
    """Why it is not decided yet whether the version failed: it reports `stoped`, but processes live. Else ""."""
    trial = _trial(observed, memory)
    if trial is None or observed.state is not State.STOPPED or not observed.processes:
        return ""
    if trial.doubts >= LOOKS and not observed.reaping:
        return ""
    if not death(observed, memory, now):
        return ""
    lives = (
        "a process of it lives" if len(observed.processes) == 1 else f"{len(observed.processes)} of its processes live"
    )
    return f"the status of {observed.current} is {observed.status.text!r}, but {lives}: looking again"


def once_more(observed: Observed, memory: Memory, now: float) -> str:
    """Why the version is started again although it seems to have failed; "" if it is not."""
    return _lost(observed, memory, now) or crowded(observed, memory, now)


def _lost(observed: Observed, memory: Memory, now: float) -> str:
    """Why it is started again: it reports `started`, and none of its processes is found.

    This is no failure at once, as the processes that were recognised before may not have been the agent's main ones.
    """
    trial = _trial(observed, memory)
    if trial is None or not observed.absent or trial.lost >= LOOKS or not death(observed, memory, now):
        return ""
    return f"{observed.status.text}: trying again"


def crowded(observed: Observed, memory: Memory, now: float) -> str:
    """Why it is started again: it died while another version's processes still ran. "" if that was tried already.

    Where they were the agent itself, its death tells nothing, however often it was tried (`hold_ups`).
    """
    trial, others = _trial(observed, memory), sorted(observed.crowding - {observed.current})
    died = death(observed, memory, now)
    if trial is None or not died or observed.state is not State.STOPPED:
        return ""
    if trial.held_up:
        return f"died within its watch, while {trial.held_up}"
    return f"{died}, while processes of {', '.join(others)} still run" if others and not trial.again else ""


def _trial(observed: Observed, memory: Memory) -> Trial | None:
    trial = memory.trial
    return trial if trial and observed.current == trial.version else None
