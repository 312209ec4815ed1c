"""What a plan is made of: actions with their reasons, and from which answer of meta it follows. Values only."""

from dataclasses import dataclass, field
from enum import Enum

from updater.model.memory import Memory


class Source(Enum):
    """Which answer of meta an order is from: the older it is, the less is done by it.

    ANSWER: of the last heartbeat; all of it is followed. EARLIER: of this run, but meta is away now; it stays in force as far
    as nothing has to be fetched. KEPT: of a run before, and meta has not answered since, so that a person may have taken it
    back: our own trial is finished or taken back, what `.version` names is started where the order is to start, nothing else.
    """

    ANSWER = "answer"
    EARLIER = "earlier"
    KEPT = "kept"


class Step(Enum):
    """What an action does; its value is the word that logs and outcomes use."""

    REJECT = "reject"
    INSTALL = "install"
    ADOPT = "adopt"
    STOP = "stop"
    SWITCH = "switch"
    START = "start"
    PRUNE = "prune"
    HAND_OVER = "hand over"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do to one agent."""

    step: Step
    agent: str
    version: str  # or the name of a leftover that is pruned
    reason: str
    replaces: str = ""  # what a switch leaves, or what a reject goes back to
    essential: bool = True  # its failure ends the plan
    forced: bool = (
        False  # a stop ends the version's processes too, whatever its control says; a start waits for others' end
    )
    unheard: bool = False  # a stop of what says neither word: over when its processes are known to be gone
    doubtful: bool = False  # a stop of what is not believed to run: its control need not say that it has stopped

    def __str__(self) -> str:
        return f"{self.step.value} {self.version} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do for one agent, in order."""

    actions: tuple[Action, ...] = ()
    waits: str = ""  # why the actions do not reach the desired state, "" when they do
    failure: str = ""  # how the version that is started again has failed, "" when it has not
    memory: Memory = field(default_factory=Memory)  # of the agent, with what the look and the order have taught

    @property
    def is_way_back(self) -> bool:
        """Whether this gives a failed version up."""
        return any(action.step is Step.REJECT for action in self.actions)
