"""What meta tells about hosts: values as they are shown, on the command line and in JSON (keys in camelCase there).

Nothing is decided here; meta.query fills them in, the REST API renders them and the command line decodes them.
"""

import msgspec

from updater.wire import Outcome


class AgentView(msgspec.Struct, frozen=True, rename="camel"):
    """One agent of one host, as last reported, beside what it shall be.

    version, status: blank when the host did not report it; held: why a person holds it, or ""; since: when meta first saw
    this version and status, looked: when the host looked (Unix seconds); desired: the version that it shall have, "" when
    there is no order; drift: whether it is not as desired; failed: whether it is so because its change to what it shall be
    now failed (outcome says why).
    """

    name: str
    version: str = ""
    status: str = ""
    held: str = ""
    since: float = 0.0
    looked: int = 0
    desired: str = ""
    desired_cmd: str = ""
    drift: bool = False
    failed: bool = False
    outcome: Outcome | None = None


class HostView(msgspec.Struct, frozen=True, rename="camel"):
    """One host. first_seen, last_seen: Unix seconds by meta's clock; state: new, ok, late, lost or retired."""

    name: str
    first_seen: float = 0.0
    last_seen: float = 0.0
    address: str = ""
    updater_version: str = ""
    state: str = ""
    labels: dict[str, str] = {}
    agents: list[AgentView] = []


class Page(msgspec.Struct, frozen=True, rename="camel"):
    """Some hosts of many, by name. next: the cursor that the next page starts with, "" on the last one."""

    hosts: list[HostView]
    next: str = ""


class LabelView(msgspec.Struct, frozen=True, rename="camel"):
    """One key of labels. hosts: how many have it; values: the most frequent first; more: whether there are others too."""

    key: str
    hosts: int
    values: list[str]
    more: bool = False


class Count(msgspec.Struct, frozen=True, rename="camel"):
    """How many hosts have this version of this agent in this status."""

    agent: str
    version: str
    status: str
    hosts: int


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    """How many hosts failed to become what they shall be now, for the same reason. version: that they shall have; result:
    failed, refused or rolled back; reason, example, at: of the host that failed last (Unix seconds by its own clock)."""

    agent: str
    version: str
    result: str
    reason: str
    hosts: int
    example: str
    at: int


class Drift(msgspec.Struct, frozen=True, rename="camel"):
    """How many hosts shall have this version of this agent and have not."""

    agent: str
    version: str
    hosts: int
