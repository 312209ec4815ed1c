"""What was seen of an agent, as values: what its `control` says, what is installed, what the kernel knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from updater.memory import Rejected
from updater.recognised import Recognised
from updater.wire import STARTED, STOPPED, RealAgent


class State(Enum):
    """What a status says. UNKNOWN: the script did not answer, or said neither of the two words."""

    STARTED = "started"
    STOPPED = "stoped"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Status:
    """text: the word, or what was said instead of one, or the peers' words for a script that failed."""

    text: str

    @property
    def state(self) -> State:
        if self.text == STARTED:
            return State.STARTED
        return State.STOPPED if self.text in STOPPED else State.UNKNOWN


class Marker(msgspec.Struct, frozen=True):
    """What `.installed` holds. Digests are lower-case hex, blank for an install that was adopted; at: Unix seconds."""

    md5: str = ""
    sha256: str = ""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """One agent as it is. current: the version in `.version`, or the one that was there before it was damaged, "" when there
    is none; named: what `.version` names, "" for nothing; trouble: why it
    cannot be looked at now, "" when it can; installs: the complete ones;
    foreign: why the directory cannot be an agent's, "" when it can; leftovers: what a killed updater left half done;
    held: why a person holds it, "" when nobody does; processes: those of the current version, if it is in its watch;
    mains: those of them that are replaced only when it is started again;
    running: what was recognised of them at this look; absent: whether it is not believed to be started, for none exists;
    strange: whether its own stop might then end a stranger, which a pid file of it names;
    occupied: the versions that have left processes; crowding: those of which these are the agent's own;
    own: whether this is the updater that looks, which knows by itself that it runs; at: when it was asked (Unix seconds): what
    it answered was not yet so before."""

    name: str
    current: str = ""
    status: Status = field(default=Status(""))
    installs: Mapping[str, Marker] = field(default_factory=dict)
    marked: bool = False
    foreign: str = ""
    leftovers: tuple[str, ...] = ()
    held: str = ""
    processes: frozenset[str] = frozenset()
    mains: frozenset[str] = frozenset()
    running: Recognised | None = None
    absent: bool = False
    strange: bool = False
    occupied: frozenset[str] = frozenset()
    crowding: frozenset[str] = frozenset()
    own: bool = False
    named: str = ""
    trouble: str = ""
    at: float = 0

    @property
    def state(self) -> State:
        return State.STOPPED if self.absent else self.status.state

    @property
    def may_be_told_to_stop(self) -> bool:
        """Whether its own control is asked to stop it though it is not believed to run."""
        return self.absent and not self.strange

    def real_agent(
        self, trial: bool | msgspec.UnsetType = msgspec.UNSET, waits: str = "", rejected: Rejected | None = None
    ) -> RealAgent:
        """As it is reported."""
        return RealAgent(
            self.name,
            self.current,
            self.status.text,
            int(self.at),
            held=self.held or msgspec.UNSET,
            trial=trial,
            waits=waits or msgspec.UNSET,
            rejected=rejected.order.version if rejected else msgspec.UNSET,
            attempt=(rejected.order.attempt if rejected else 0) or msgspec.UNSET,
        )
