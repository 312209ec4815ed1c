"""The values that go into the store and come out of it, and the one refusal that is its own."""

from collections.abc import Sequence
from typing import NamedTuple

from meta.errors import MetaError


class Moved(MetaError):
    """The records are no longer at the revision that an edit started from: nothing was written."""


class Head(NamedTuple):
    """How far everything is. Each is counted up by one in every transaction that writes such things, so that serials are in the
    order of the commits: who has read everything up to a serial misses nothing by asking for what is later."""

    revision: int  # of the records
    tokens: int  # serial of tokens and hosts' tokens
    hosts: int  # serial of hosts and beats


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


class Beat(NamedTuple):
    """The hosts (ids) that were heard of up to this moment, and of which nothing else had changed."""

    at: float
    seen: Sequence[int]


class Since(NamedTuple):
    """What other metas wrote up to `serial`. gone: ids of the hosts that were forgotten."""

    serial: int
    rows: list[HostRow]
    beats: list[Beat]
    gone: list[int]
