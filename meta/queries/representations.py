"""What meta shows about hosts, as values. In JSON their keys are in camelCase. Pure.

Nothing is decided here: meta.queries fills them in, the REST API renders them and the command line decodes them.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from updater.wire.heartbeat import CHANGE, Outcome

NO_REASON = "its reason is not known here"  # a meta was killed before it wrote it, or a later outcome replaced it
GOING_BACK = "its way back is under way: the reason follows"  # a host tells the outcome when that way has ended


def untold(waits: object) -> str:
    """Return what is said instead of the reason of a rollback that a host reports without its outcome. waits: as reported."""
    return GOING_BACK if waits == CHANGE else NO_REASON


class AgentView(msgspec.Struct, frozen=True, rename="camel"):
    """One agent of one host: as last reported, and as desired."""

    name: str
    version: Annotated[str, Meta(description="empty if the host did not report the agent")] = ""
    status: Annotated[str, Meta(description="empty if the host did not report the agent")] = ""
    held: Annotated[str, Meta(description="why a person holds it; empty if it is not held")] = ""
    trial: Annotated[
        bool | None, Meta(description="whether the version is on trial; null if the updater does not report trials")
    ] = None
    waits: Annotated[
        str,
        Meta(
            description="what its change waits for: window, download, lock, or heartbeat (it has not reported since its "
            "order came in force); change: it is under way; empty: nothing"
        ),
    ] = ""
    since: Annotated[float, Meta(description="when meta first saw this version and status (Unix seconds)")] = 0.0
    looked: Annotated[int, Meta(description="when the host observed it (Unix seconds by its own clock)")] = 0
    desired: Annotated[str, Meta(description="the ordered version; empty without an order")] = ""
    desired_cmd: Annotated[str, Meta(description="start or stop; empty without an order")] = ""
    drift: Annotated[bool, Meta(description="whether it differs from what is desired")] = False
    failed: Annotated[bool, Meta(description="whether the change to what is desired now failed")] = False
    rejected: Annotated[
        str,
        Meta(description="the version that the host rolled back, and does not try again for this order; empty: none"),
    ] = ""
    outcome: Annotated[Outcome | None, Meta(description="how the last change ended")] = None


class HostView(msgspec.Struct, frozen=True, rename="camel"):
    """One host. Times are Unix seconds by meta's clock."""

    name: str
    first_seen: float = 0.0
    last_seen: float = 0.0
    address: str = ""
    updater_version: str = ""
    state: Annotated[str, Meta(description="new, ok, late, lost or retired")] = ""
    doubled: Annotated[
        list[str],
        Meta(description="the addresses from which several machines report under this name; empty if one machine does"),
    ] = []
    labels: dict[str, str] = {}
    agents: list[AgentView] = []
    parked: Annotated[
        float,
        Meta(
            description="since when it is parked at the meta that answers, so that an edit reaches it at once (Unix "
            "seconds); 0: it is not"
        ),
    ] = 0.0


class Page(msgspec.Struct, frozen=True, rename="camel"):
    """Some hosts, by name."""

    hosts: list[HostView]
    next: Annotated[str, Meta(description="the cursor for the next page; empty on the last one")] = ""


class LabelView(msgspec.Struct, frozen=True, rename="camel"):
    """One key of labels."""

    key: str
    hosts: Annotated[int, Meta(description="how many hosts have it")]
    values: Annotated[list[str], Meta(description="the most frequent first")]
    more: Annotated[bool, Meta(description="whether there are more values")] = False


class Count(msgspec.Struct, frozen=True, rename="camel"):
    """How many hosts have this version of this agent in this status."""

    agent: str
    version: str
    status: str
    hosts: int
    trial: Annotated[int, Meta(description="on how many of them it is on trial, if their updaters report trials")] = 0
    failed: Annotated[int, Meta(description="on how many of them the change to what is desired now failed")] = 0


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    """How many hosts failed to become as desired, for the same reason."""

    agent: str
    version: Annotated[str, Meta(description="the version that is desired")]
    result: Annotated[str, Meta(description="failed, refused or rolled back")]
    reason: Annotated[str, Meta(description="of the host that failed last")]
    hosts: int
    example: Annotated[str, Meta(description="the host that failed last")]
    at: Annotated[int, Meta(description="when it failed (Unix seconds by its own clock)")]


class Drift(msgspec.Struct, frozen=True, rename="camel"):
    """How many hosts do not have the version of this agent that is desired there."""

    agent: str
    version: Annotated[str, Meta(description="the version that is desired, or `stop`")]
    hosts: int


class Standing(msgspec.Struct, frozen=True, rename="camel"):
    """One host by name, and its state in a progress."""

    name: str
    state: Annotated[str, Meta(description="to do, on trial, late, lost, held, doubled or banned")]


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """How far the change of an agent has come, at one moment. Each host that the question is about counts once."""

    agent: str
    revision: Annotated[int, Meta(description="of the records that this follows")] = 0
    grounds: Annotated[str, Meta(description="changes with each edit of which hosts are to have which version")] = ""
    desired: Annotated[
        str, Meta(description="what the agent's record says: a version, or `stop`; empty without a record")
    ] = ""
    wanted: Annotated[list[str], Meta(description="what these hosts are to have: versions, or `stop`")] = []
    ordered: Annotated[dict[str, int], Meta(description="on how many hosts each of `wanted` is to be")] = {}
    pending: Annotated[list[str], Meta(description="those of `wanted` that are not good yet on some host")] = []
    behind: Annotated[str, Meta(description="why this may not be by the newest records, or empty")] = ""
    patience: Annotated[
        float, Meta(description="seconds to wait for silent hosts, which may be silent because meta was away")
    ] = 0.0
    todo: Annotated[int, Meta(description="hosts that are not as desired yet")] = 0
    trial: Annotated[int, Meta(description="hosts on which the version is on trial")] = 0
    good: Annotated[int, Meta(description="hosts that are as desired, and through the watch")] = 0
    failed: Annotated[
        int,
        Meta(description="hosts whose last change failed, or that fell silent on trial or after they got the order"),
    ] = 0
    late: Annotated[int, Meta(description="hosts left out because they are late")] = 0
    lost: Annotated[int, Meta(description="hosts left out because they are lost")] = 0
    held: Annotated[int, Meta(description="hosts left out because a person holds the agent")] = 0
    doubled: Annotated[int, Meta(description="hosts left out because two machines report under the name")] = 0
    banned: Annotated[
        int, Meta(description="hosts left out because the version that the records name for them is banned")
    ] = 0
    waits: Annotated[
        dict[str, int],
        Meta(
            description="of those to do: how many wait for what, see AgentView; start: they have the desired version, but it "
            "is stopped"
        ),
    ] = {}
    last: Annotated[list[Standing], Meta(description="some of the hosts that are to do or on trial")] = []
    left_out: Annotated[list[Standing], Meta(description="some of the hosts that are left out")] = []
    failures: Annotated[list[Failure], Meta(description="by reason, with downloads that are tried again")] = []
    failures_are_whole: Annotated[bool, Meta(description="whether these are all failures")] = True
    failed_hosts: Annotated[list[str], Meta(description="some of the hosts that failed")] = []
    gone: Annotated[
        list[str],
        Meta(description="of `failedBefore`: hosts that the question is no longer about, without retired ones"),
    ] = []
    gone_failures: Annotated[
        list[Failure],
        Meta(
            description="how those of `gone` failed last, by reason; version is the one that failed. Hosts of which that is "
            "not known are in none"
        ),
    ] = []
    refused: Annotated[
        int,
        Meta(
            description="failed hosts that refused a download; they take it once the file is mended, without a new order"
        ),
    ] = 0
    refused_hosts: Annotated[list[str], Meta(description="some of the hosts that refused a download")] = []
    asked_within: Annotated[float, Meta(description="seconds within which every host has reported again")] = 0.0
    hint: Annotated[
        str, Meta(description="if the prefix or glob fits no host: a sentence with what was probably meant")
    ] = ""

    @property
    def left(self) -> int:
        """How many hosts are left out."""
        return self.late + self.lost + self.held + self.doubled + self.banned

    @property
    def judged(self) -> int:
        """How many hosts are not left out."""
        return self.todo + self.trial + self.good + self.failed
