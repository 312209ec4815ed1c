"""What meta tells about hosts: values as they are shown, on the command line and in JSON (keys in camelCase there).

Nothing is decided here; meta.queries.pages fills them in, the REST API renders them and the command line decodes them.
"""

import msgspec

from updater.wire.heartbeat import Outcome

NO_REASON = "its reason is not known here"  # lost with a meta that was killed, or older than what was told since


class AgentView(msgspec.Struct, frozen=True, rename="camel"):
    """One agent of one host, as last reported, beside what it shall be.

    version, status: blank when the host did not report it; held: why a person holds it, or ""; trial: whether the version
    is in its watch, and may yet be taken back, None where the updater does not tell it; waits: window, download or lock,
    what its change waits for, or ""; since: when meta first saw this version and status, looked: when the host looked (Unix
    seconds); desired: the version that it shall have, "" when there is no order; drift: whether it is not as desired;
    failed: whether its change to what it shall be now failed; rejected: the version that the host rolled back and does not
    try again while its order stays, "" where it says none; outcome: what last became of a change there.
    """

    name: str
    version: str = ""
    status: str = ""
    held: str = ""
    trial: bool | None = None
    waits: str = ""
    since: float = 0.0
    looked: int = 0
    desired: str = ""
    desired_cmd: str = ""
    drift: bool = False
    failed: bool = False
    rejected: str = ""
    outcome: Outcome | None = None


class HostView(msgspec.Struct, frozen=True, rename="camel"):
    """One host. first_seen, last_seen: Unix seconds by meta's clock; state: new, ok, late, lost or retired; doubled: whence two
    or more machines report under this name, [] where it is one."""

    name: str
    first_seen: float = 0.0
    last_seen: float = 0.0
    address: str = ""
    updater_version: str = ""
    state: str = ""
    doubled: list[str] = []
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
    """How many hosts have this version of this agent in this status. trial: how many of them have it in its watch, by updaters
    that tell it; failed: on how many of them the change to what they shall be now failed."""

    agent: str
    version: str
    status: str
    hosts: int
    trial: int = 0
    failed: int = 0


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


class Standing(msgspec.Struct, frozen=True, rename="camel"):
    """One host by name. state: to do, on trial, late, lost, held or doubled."""

    name: str
    state: str


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """How many hosts that shall have an agent are where, at one moment. good: they have what they shall, and it has come
    through its watch; trial: it is in its watch; todo: they have not, of these some wait (waits, by word); failed: by their
    last change, or fell silent on trial or after they got their order (failures has the reasons, also of downloads that are
    tried again, and whether it has all of them). late, lost, held: left out of these. last: some of the hosts that are on trial
    or to do; left_out: some of those left out.

    revision: of the records that this is by; grounds: the same as long as nobody edits which hosts shall have which version;
    desired: by the agent's record, "" when there is none; wanted: what the hosts that were asked for shall have, each a
    version, or `stop`; ordered: of how many hosts it is wanted; pending: those of them that are not good yet on some host;
    behind: why this may not be by the newest records, or not by them yet, or "". patience: seconds for which silent hosts
    are yet to be waited for: they may be silent because meta was away.

    failed_hosts: some of those that failed; gone: of those that the question named as failed before, the hosts that are not
    asked for any more, but for retired ones; refused: of the failed, on how many it is a download that was refused, which they
    take without another order once it is mended; asked_within: seconds within which a host surely has asked again and told."""

    agent: str
    revision: int = 0
    grounds: str = ""
    desired: str = ""
    wanted: list[str] = []
    ordered: dict[str, int] = {}
    pending: list[str] = []
    behind: str = ""
    patience: float = 0.0
    todo: int = 0
    trial: int = 0
    good: int = 0
    failed: int = 0
    late: int = 0
    lost: int = 0
    held: int = 0
    doubled: int = 0
    waits: dict[str, int] = {}
    last: list[Standing] = []
    left_out: list[Standing] = []
    failures: list[Failure] = []
    failures_are_whole: bool = True
    failed_hosts: list[str] = []
    gone: list[str] = []
    refused: int = 0
    asked_within: float = 0.0

    @property
    def left(self) -> int:
        """Hosts that are left out."""
        return self.late + self.lost + self.held + self.doubled

    @property
    def judged(self) -> int:
        """Hosts that are not left out."""
        return self.todo + self.trial + self.good + self.failed
