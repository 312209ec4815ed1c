"""Decides what follows a failed action, so that no agent stays down. Pure.

After each failure the agent is observed and planned again. The first row that applies decides:

    | the first failed action  | the last failure and the new plan                   | then       |
    |--------------------------|-----------------------------------------------------|------------|
    | not stop, switch, start  |                                                     | nothing    |
    | stop, switch or start    | the agent cannot be observed, and tries are left    | look again |
    |                          | the plan rolls the version back, and tries are left | way back   |
    |                          | the host was in trouble, and tries are left         | retry      |
    |                          | a start failed: another one would fail too          | nothing    |
    |                          | a stop or a switch failed                           | keep alive |

An updater that is stopping looks again, or keeps the old version alive, but has no other tries.
"""

from dataclasses import dataclass
from enum import Enum

from updater.model.actions import Plan, Step
from updater.model.observed import Observed

TRIES = 3  # after the first failure, within one turn
_TAKES_DOWN = (Step.STOP, Step.SWITCH, Step.START)


class Recovery(Enum):
    """What is done after a failure."""

    NOTHING = "nothing"
    LOOK_AGAIN = "look again"
    RETRY = "retry"  # perform the new plan
    WAY_BACK = "way back"  # perform the new plan, which goes back to the good version
    KEEP_ALIVE = "keep alive"  # start the version that `.version` names


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed action that ended a plan."""

    step: Step
    is_trouble: bool  # the host was in trouble (TryLater), which says nothing about the version


def is_needed(first: Failure) -> bool:
    """Whether the agent may be down after the first failure of a turn."""
    return first.step in _TAKES_DOWN


def recovery(last: Failure, observed: Observed, again: Plan, tries: int, stopping: bool = False) -> Recovery:
    """What follows a failure. observed, again: the observation and the plan after it; tries: how many are left."""
    if tries and observed.trouble:
        return Recovery.LOOK_AGAIN
    if tries and not stopping and again.is_way_back:
        return Recovery.WAY_BACK
    if tries and not stopping and last.is_trouble:
        return Recovery.RETRY
    return Recovery.NOTHING if last.step is Step.START else Recovery.KEEP_ALIVE
