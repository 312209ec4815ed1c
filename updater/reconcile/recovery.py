"""What follows an action that failed: what was stopped must not stay down. A table, pure.

The first row that fits decides. The plan is made again after each failure, from a new look, so that it knows of a way back:

    | the action that failed first      | now                                               | then       |
    |-----------------------------------|---------------------------------------------------|------------|
    | was none that takes an agent down |                                                   | nothing    |
    | took the agent down, perhaps      | it cannot be looked at, and tries are left        | look again |
    |                                   | the plan gives the version up, and tries are left | way back   |
    |                                   | the host was in trouble, and tries are left       | retry      |
    |                                   | a start failed: another one would be no better    | nothing    |
    |                                   | a stop or a switch failed                         | keep alive |

An updater that is stopping has no tries left but for looks: what it begins now is only to keep alive what ran before.
"""

from dataclasses import dataclass
from enum import Enum

from updater.model.actions import Plan, Step
from updater.model.observed import Observed

TRIES = 3  # after the first failure, within one turn
_TAKES_DOWN = (Step.STOP, Step.SWITCH, Step.START)


class Recovery(Enum):
    """What is done next."""

    NOTHING = "nothing"
    LOOK_AGAIN = "look again"
    RETRY = "retry"  # the plan, as it is now
    WAY_BACK = "way back"  # the plan too, which goes to the version before
    KEEP_ALIVE = "keep alive"  # the version that `.version` names, whichever it is


@dataclass(frozen=True, slots=True)
class Failure:
    """An action that ended a plan. is_trouble: it was the host's trouble, and no verdict on the version."""

    step: Step
    is_trouble: bool


def is_needed(first: Failure) -> bool:
    """Whether the agent may be down after the first failure of a turn."""
    return first.step in _TAKES_DOWN


def recovery(last: Failure, observed: Observed, again: Plan, tries: int, stopping: bool = False) -> Recovery:
    """What follows the last failure. again: the plan by `observed`, a look after it; tries: how many are left."""
    if tries and observed.trouble:
        return Recovery.LOOK_AGAIN
    if tries and not stopping and again.is_way_back:
        return Recovery.WAY_BACK
    if tries and not stopping and last.is_trouble:
        return Recovery.RETRY
    return Recovery.NOTHING if last.step is Step.START else Recovery.KEEP_ALIVE
