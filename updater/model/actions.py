"""Plans: the actions for one agent, each with its reason, and how recent the order behind them is. Pure."""

from dataclasses import dataclass, field, replace
from enum import Enum

from updater.model.memory import Memory


class Source(Enum):
    """How recent the reply is that an order comes from: the older it is, the less the updater does for it."""

    # The reply to the last heartbeat: the order is followed completely.
    ANSWER = "answer"
    # An earlier reply in this run, while meta is away: the order is followed, but nothing is downloaded.
    EARLIER = "earlier"
    # A reply to an earlier run. Until meta answers, the order may have been withdrawn. So the updater only finishes or
    # takes back a trial, and starts the version in `.version` if the order says `start`.
    KEPT = "kept"
    # Any of these, longer ago than `keepOrders` of cfg.json: nothing is done.
    EXPIRED = "expired"


class Step(Enum):
    """The kind of an action. Its value is the word in logs and outcomes."""

    REJECT = "reject"  # remember that the version failed here, so that it is not tried again
    INSTALL = "install"  # download, verify and unpack
    ADOPT = "adopt"  # mark an install of another updater as complete
    STOP = "stop"
    SWITCH = "switch"  # make `.version` name the version
    START = "start"
    PRUNE = "prune"  # remove an old install or a leftover
    HAND_OVER = "hand over"  # the updater itself: the new version takes over this process
    NAME = "name"  # write a damaged `.version` again


@dataclass(frozen=True, slots=True)
class Action:
    """One change to one agent."""

    step: Step
    agent: str
    version: str  # for a PRUNE, the name of any directory below the agent's
    reason: str
    replaces: str = ""  # the version that a SWITCH leaves, or that a REJECT goes back to
    essential: bool = True  # whether a failure ends the plan
    # STOP: also ends the version's processes, even if its control fails. START: first waits for other versions' processes.
    forced: bool = False
    unheard: bool = False  # STOP of a version with an unknown status: done when its processes are known to have ended
    doubtful: bool = False  # STOP of a version that probably does not run: its control need not report `stoped`

    def __str__(self) -> str:
        return f"{self.step.value} {self.version} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Plan:
    """The actions for one agent, in order."""

    actions: tuple[Action, ...] = ()
    waits: str = ""  # why the actions do not reach the desired state; "" if they do
    failure: str = ""  # how the version failed that the plan starts again; "" if it did not fail
    refusal: str = ""  # why the order itself is refused; "" if it is not
    memory: Memory = field(default_factory=Memory)  # the agent's memory, updated by the observation and the order

    def before_install(self) -> "tuple[Plan, Action | None]":
        """The part of the plan before a version is installed, which may take long, and the INSTALL, if there is one."""
        steps = [action.step for action in self.actions]
        if Step.INSTALL not in steps:
            return self, None
        at = steps.index(Step.INSTALL)
        install = self.actions[at]
        return replace(self, actions=self.actions[:at], waits=f"{install.version} is being installed"), install

    def without_prunes(self) -> "Plan":
        return replace(self, actions=tuple(action for action in self.actions if action.step is not Step.PRUNE))

    @property
    def is_way_back(self) -> bool:
        """Whether the plan rolls a failed version back."""
        return any(action.step is Step.REJECT for action in self.actions)
