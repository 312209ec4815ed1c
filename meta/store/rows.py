"""The values that go into the store and come out of it, and its own errors."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from shlex import quote
from types import MappingProxyType
from typing import NamedTuple

from meta.errors import MetaError, TryLater
from meta.records.history import Revision

SHOWN = 20  # answers in a message


class Moved(MetaError):
    """The records are no longer at the revision that an edit started from: nothing was written."""


class Lost(TryLater):
    """The database has lost confirmed transactions that memory is based on. Nothing was written."""


class Forgotten(Lost):
    """So much was written since that the database cannot tell whether it still holds what memory is based on."""


class Findings(NamedTuple):
    """What a migration would do that people should know. Each item is one sentence."""

    notes: Sequence[str]  # what changes, but for no host now
    answers: Sequence[str]  # which hosts would get another answer: a person must decide

    @property
    def seal(self) -> str:
        """Identifies these answers; a person who accepts them names it."""
        return sha256("\n".join(self.answers).encode()).hexdigest()[:12] if self.answers else ""


class Undecided(MetaError):
    """A migration would give hosts other answers, which no person has accepted. Nothing was changed."""

    exit_code = 2

    def __init__(self, found: Findings, shown: str = ""):
        super().__init__(found, shown)
        self.found = found
        self.shown = shown  # the database

    def __str__(self) -> str:
        answers, more = self.found.answers, len(self.found.answers) - SHOWN
        listed = [*answers[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
        return "\n".join(
            [f"{self.shown} is not upgraded: these answers to hosts cannot be kept:", *listed, self.remedy]
        )

    @property
    def remedy(self) -> str:
        """What a person can do, with the commands."""
        is_whole = self.shown.startswith("sqlite:")  # the URL of a server may have a password, which is not shown
        which = f" --database {quote(self.shown)}" if is_whole else ""
        told = "" if is_whole else ", with META_DATABASE set to the URL of the database"
        return (
            "a version and its digests are one value now (docs/adr/0019-a-release-is-one-value.md): with the former meta give "
            "each of these versions its own digests (meta set AGENT version=... md5=... sha256=... --for SELECTOR), or accept "
            f"all answers that `meta db upgrade --check{which}` lists: "
            f"`meta db upgrade --accept {self.found.seal}{which}`{told}"
        )


class Head(NamedTuple):
    """The current serials. Each transaction increments the serial of what it writes, so serials are in the order of commits.

    A reader that has everything up to a serial needs only what is later. After a failover that lost commits, their serials and
    positions are assigned again, with other identities.
    """

    revision: int  # of the records
    revision_identity: str  # "" before the first
    tokens: int  # serial of tokens and hosts' tokens
    hosts: int  # serial of hosts and batches
    position: int  # of the last transaction of any kind
    identity: str  # of that transaction
    folded: int  # serial of the latest heartbeat batch that was deleted


class HostRow(NamedTuple):
    """One host. Times are Unix seconds; `agents`, `since` and `outcomes` are JSON text that the store does not read."""

    id: int  # 0: not known yet
    hostname: str
    first_seen: float
    last_seen: float
    address: str
    updater_version: str
    agents: str
    since: str
    outcomes: str
    retired_at: float  # 0: not retired; negative: when it was unretired


class HostOrder(NamedTuple):
    """A person's order to retire hosts, or to unretire them."""

    meta: str
    at: float  # Unix seconds
    rows: Sequence[HostRow]  # as this meta knows them
    retired: bool


class Ordered(NamedTuple):
    """The result of a HostOrder."""

    revision: Revision
    rows: Sequence[HostRow]  # of changed hosts, each with the time from which the order counts


class HeartbeatBatch(NamedTuple):
    """A heartbeat batch: hosts that reported, and of which nothing else had changed."""

    at: float  # Unix seconds
    seen: Sequence[int]  # ids of hosts


class Gone(NamedTuple):
    """Hosts that were deleted."""

    ids: list[int]
    tokens: int  # how many of them had a token, which was revoked


class Since(NamedTuple):
    """What other metas wrote up to `serial`."""

    serial: int
    rows: list[HostRow]
    batches: list[HeartbeatBatch]
    gone: list[int]  # ids of deleted hosts
    ids: Sequence[int] | None = None  # of all hosts, if the database does not know any more which were deleted
    dates: Mapping[str, float] = MappingProxyType({})  # meta -> the latest time of its writes, of those not in `ahead`
    ahead: Mapping[str, float] = MappingProxyType(
        {}
    )  # meta -> seconds that its clock is ahead of the database's, as it says
