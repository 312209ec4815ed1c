"""The values that go into the store and come out of it, and the one refusal that is its own."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from meta.errors import MetaError, TryLater
from meta.records.history import Revision


class Moved(MetaError):
    """The records are no longer at the revision that an edit started from: nothing was written."""


class Lost(TryLater):
    """The database does not hold what memory rests on: it lost what it had confirmed. Nothing was written."""


class Forgotten(Lost):
    """So much was written since that the database cannot tell any more whether it holds what memory rests on."""


class Head(NamedTuple):
    """How far everything is. Each serial is counted up in every transaction that writes such things, so that serials are in the
    order of the commits: who has read everything up to a serial misses nothing by asking for what is later. That holds as long
    as the database loses nothing; after a failover that lost commits their serials and positions are given again, with other
    identities."""

    revision: int  # of the records
    revision_identity: str  # "" before the first
    tokens: int  # serial of tokens and hosts' tokens
    hosts: int  # serial of hosts and beats
    position: int  # of the last transaction of any kind
    identity: str  # of that transaction
    folded: int  # serial of the latest beat that is gone


class HostRow(NamedTuple):
    """One host. id: 0 = not known yet; times: Unix seconds; agents, since, outcomes: JSON text that means nothing here."""

    id: int
    hostname: str
    first_seen: float
    last_seen: float
    address: str
    updater_version: str
    agents: str
    since: str
    outcomes: str
    retired_at: float  # 0 = not


class HostOrder(NamedTuple):
    """What a person orders of some hosts at a meta: to be retired, or to be taken back. rows: as this meta knows them."""

    meta: str
    at: float
    rows: Sequence[HostRow]
    retired: bool


class Ordered(NamedTuple):
    """What became of it. rows: of the hosts that it changed, each with the time from which on it counts."""

    revision: Revision
    rows: Sequence[HostRow]


class Beat(NamedTuple):
    """The hosts (ids) that were heard of up to this moment, and of which nothing else had changed."""

    at: float
    seen: Sequence[int]


class Gone(NamedTuple):
    """Hosts that were forgotten, by id, and how many of them had a token, which is taken back."""

    ids: list[int]
    tokens: int


class Since(NamedTuple):
    """What other metas wrote up to `serial`. gone: ids of the hosts that were forgotten; ids: of all hosts there are, where the
    database does not remember any more which are gone; dates: the latest that each meta gave what it wrote."""

    serial: int
    rows: list[HostRow]
    beats: list[Beat]
    gone: list[int]
    ids: Sequence[int] | None = None
    dates: Mapping[str, float] = MappingProxyType({})
