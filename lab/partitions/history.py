"""What happened in a run, as values: what clients asked and were answered, what was broken when, and what was there in the end.

All times are seconds of one monotonic clock. A status of 0 is an answer that never came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

OK, CREATED, UNFOUND, CONFLICT, UNAVAILABLE, UNKNOWN, NO_ANSWER = 200, 201, 404, 412, 503, 504, 0
IN_DOUBT = (UNKNOWN, NO_ANSWER)  # it may have been done


class Asked(NamedTuple):
    """When something was asked of which meta, and how that ended."""

    meta: int
    begin: float
    end: float
    status: int


class Edit(NamedTuple):
    """A record set to a version. mark: the reason it gave, its own; expected: the revision of the agent's record that it was
    made on, 0: whatever there is; revision, changed: of a good answer, changed: whether it made that revision."""

    asked: Asked
    mark: str
    agent: str
    version: str
    expected: int = 0
    revision: int = 0
    changed: bool = False


class Read(NamedTuple):
    """All records as one meta shows them. content: their digest."""

    asked: Asked
    revision: int
    content: str


class Beat(NamedTuple):
    """A host's report. version: of its agent, another one in each report."""

    asked: Asked
    host: str
    version: str


class Retirement(NamedTuple):
    """A host is put aside, or taken back."""

    asked: Asked
    host: str
    retired: bool


class TokenOrder(NamedTuple):
    """what: made, revoked. token: a name; by: of the admin's token that orders it, "" for the site's own."""

    asked: Asked
    token: str
    what: str
    by: str = ""


class Probe(NamedTuple):
    """Whether a token opens something: status 200 or 401."""

    asked: Asked
    token: str


class Fault(NamedTuple):
    """metas: that felt it."""

    what: str
    metas: tuple[int, ...]
    begin: float
    end: float


class Loss(NamedTuple):
    """What was committed in this time may be lost: a standby that heard nothing more took over at its end."""

    begin: float
    end: float


class SuddenLoss(NamedTuple):
    """An order that a meta acknowledged, and that was lost in the same moment. noticed: this meta has read everything again."""

    meta: int
    what: str
    noticed: bool


class Revision(NamedTuple):
    """As the history holds it in the end. before, after: versions of the agent, "" for none."""

    number: int
    mark: str
    agent: str
    before: str
    after: str


@dataclass
class End:
    """What there was when all was healed. By meta: its records (revision, digest), and by host (version, retired); of the
    database: revisions, hosts, whether each token is good; whether each meta takes it; admins: whose token is good."""

    records: list[tuple[int, str]] = field(default_factory=list)
    hosts: list[Mapping[str, tuple[str, bool]]] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    kept_hosts: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    kept_tokens: Mapping[str, bool] = field(default_factory=dict)
    tokens: list[Mapping[str, bool]] = field(default_factory=list)
    admins: int = 0
    settled: float = 0.0  # seconds after the last fault until all metas were equal


@dataclass
class History:
    """Everything of one run."""

    edits: list[Edit] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    beats: list[Beat] = field(default_factory=list)
    retirements: list[Retirement] = field(default_factory=list)
    orders: list[TokenOrder] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    sudden: list[SuddenLoss] = field(default_factory=list)
    kills: list[tuple[int, float]] = field(default_factory=list)  # of which meta, when
    end: End = field(default_factory=End)
