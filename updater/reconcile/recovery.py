"""Decides what follows a failed action, so that no agent stays down, and none runs that is ordered to stop. Pure.

After each failure the agent is observed and planned again, and the newest order is looked up. The first row that applies
decides:

    | the case after the failure (if the first one was of a stop, a switch or a start)    | then       |
    |-------------------------------------------------------------------------------------|------------|
    | the agent cannot be observed, and tries are left                                    | look again |
    | the turn stops it as ordered: nothing is left to do                                 | done       |
    |                               the host was in trouble, and tries are left           | retry      |
    |                               else                                                  | nothing    |
    | it is ordered to stop since the turn began: the next turn stops it                  | nothing    |
    | it is held since then, and runs                                                     | nothing    |
    | the plan rolls the version back, and tries are left                                 | way back   |
    | the host was in trouble, the same is ordered still, tries are left for a new plan   | retry      |
    | a stop failed, but the agent has stopped, likewise                                  | retry      |
    | a start failed: another one would fail too                                          | nothing    |
    | a stop or a switch failed                                                           | keep alive |

An agent that is held since the turn began is planned like any other until some version runs.
An updater that is stopping looks again, or keeps the old version alive, but has no other tries.
"""

from dataclasses import dataclass
from enum import Enum

from updater.model.actions import Plan, Step
from updater.model.observed import Observed, State
from updater.model.trials import same_artifact
from updater.wire.heartbeat import Desired
from updater.wire.names import STOP

TRIES = 3  # after the first failure, within one turn
_TAKES_DOWN = (Step.STOP, Step.SWITCH, Step.START)


class Recovery(Enum):
    """What is done after a failure."""

    NOTHING = "nothing"
    LOOK_AGAIN = "look again"
    DONE = "done"  # the action that failed has come about all the same
    RETRY = "retry"  # perform the new plan
    WAY_BACK = "way back"  # perform the new plan, which goes back to the proven version
    KEEP_ALIVE = "keep alive"  # start the version that `.version` names, or the proven one if it has failed on trial


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed action that ended a plan."""

    step: Step
    is_trouble: bool  # the host was in trouble (TryLater), which says nothing about the version


@dataclass(frozen=True, slots=True)
class Now:
    """What is the case after a failure."""

    observed: Observed
    again: Plan  # by the order of the turn
    order: Desired  # of the turn
    newest: Desired | None = None  # the newest order for the agent; None if there is none any more
    stopping: bool = False  # whether the updater is stopping

    @property
    def is_superseded(self) -> bool:
        """Whether something else is ordered by now. If nothing is, the change that was begun is brought to its end."""
        newest, order = self.newest, self.order
        return newest is not None and not (newest.cmd == order.cmd and same_artifact(newest, order))


def is_needed(first: Failure) -> bool:
    """Whether the agent may be down after the first failure of a turn."""
    return first.step in _TAKES_DOWN


def recovery(last: Failure, now: Now, tries: int) -> Recovery:
    """What follows a failure. tries: how many are left."""
    if tries and now.observed.trouble:
        return Recovery.LOOK_AGAIN
    can_try = tries > 0 and not now.stopping
    if now.order.cmd == STOP:
        return _of_a_stop(last, now, can_try)
    if now.newest and now.newest.cmd == STOP:
        return Recovery.NOTHING
    if now.observed.held and now.observed.state is State.STARTED:
        return Recovery.NOTHING
    if can_try and now.again.is_way_back:
        return Recovery.WAY_BACK
    is_plan = bool(now.again.actions) or not now.again.waits  # else there is nothing to try
    has_stopped = last.step is Step.STOP and now.observed.state is State.STOPPED
    if can_try and is_plan and not now.is_superseded and (last.is_trouble or has_stopped):
        return Recovery.RETRY
    return Recovery.NOTHING if last.step is Step.START else Recovery.KEEP_ALIVE


def _of_a_stop(last: Failure, now: Now, can_try: bool) -> Recovery:
    """What follows where the turn stops the agent as ordered."""
    again = now.again
    if not (now.observed.trouble or again.waits or any(action.step is Step.STOP for action in again.actions)):
        return Recovery.DONE
    return Recovery.RETRY if can_try and last.is_trouble and not now.is_superseded else Recovery.NOTHING
