"""The request and response bodies of the REST API. The server and the command line decode with these types, and the OpenAPI
document is generated from them. Its descriptions are the docstrings here. Records, tarballs and queries are in other modules.

Keys are camelCase on the wire. Times are Unix seconds.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from meta.api.schemas.basics import LABEL_KEY, TOKEN_NAME, AgentName, Answer, Body, Hostname, LabelSet, Number, Why
from meta.queries.representations import Count, Drift, Failure, HostView, LabelView
from meta.records.history import Change

# --- edits and their history ---


class ChangeView(Answer):
    """One thing that an edit changed. kind: record, order, ban or labels; name: the agent, AGENT/VERSION of a ban, or the
    hostname ("" for the order of the records); before, after: in the form of a records file, null for nothing."""

    kind: str
    name: str
    before: Any = None
    after: Any = None

    @classmethod
    def of(cls, changes: Iterable[Change]) -> "list[ChangeView]":
        return [cls(one.kind, one.name, one.before, one.after) for one in changes]


class EditView(Answer):
    """What an edit did, or would do. An edit that changes nothing makes no revision. revision: of the records in force after it
    (dry run: of those it is based on); notes: remarks. Only for a dry run: affected: by agent the number of hosts whose desired
    state would change; warnings: possible mistakes; removals: what must be confirmed."""

    revision: int
    changes: list[ChangeView]
    affected: dict[str, int]
    dry_run: bool = False
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    removals: list[str] = field(default_factory=list)


class RevisionView(Answer):
    """One committed edit."""

    number: int
    at: float
    who: str
    why: str
    action: str
    changes: list[ChangeView]


class Revisions(Answer):
    """Newest first. next: the value of `before` for the next page, "" on the last one."""

    items: list[RevisionView]
    next: str = ""


class RollbackBody(Body, omit_defaults=True):
    """Restore the records, or that of one agent, as they were after this revision. Without a revision, the agent's record is
    restored as it was before its newest change that was not a rollback. why: like the query of this name."""

    revision: Number | UnsetType = UNSET
    agent: AgentName | UnsetType = UNSET
    why: Why = ""


class BanView(Answer):
    """A ban: no host is told to run this version."""

    agent: str
    version: str
    why: str
    who: str
    at: float


class Bans(Answer):
    items: list[BanView]


# --- hosts ---


class Hosts(Answer):
    """Hosts, sorted by name. next: the cursor of the next page, "" on the last one; hint: if no host matches the name, the one
    that was probably meant."""

    items: list[HostView]
    next: str = ""
    hint: str = ""


class LabelsBody(Body):
    """All labels of this host; others are removed."""

    labels: LabelSet


class LabelEdit(Body):
    """Labels to set on all of these hosts, and keys to remove from them: one revision, all or nothing. known: refuse hosts that
    have neither reported nor a label."""

    hosts: Annotated[list[Hostname], Meta(min_length=1, max_length=10_000)]
    set: LabelSet = field(default_factory=dict)
    remove: list[Annotated[str, Meta(pattern=LABEL_KEY)]] = field(default_factory=list)
    known: bool = False


class RetirementBody(Body):
    """Hosts to retire, or with retired: false to unretire."""

    hosts: Annotated[list[Hostname], Meta(min_length=1, max_length=10_000)]
    retired: bool = True


class Labels(Answer):
    items: list[LabelView]


class NameDoubtView(Answer):
    """Hosts whose names are nearly the same, or which any machine may have."""

    names: list[str]
    why: str


class NameDoubts(Answer):
    items: list[NameDoubtView]


class Counts(Answer):
    """failed: by agent on how many hosts its change failed, also those that do not report the agent."""

    items: list[Count]
    failed: dict[str, int] = field(default_factory=dict)


class States(Answer):
    """The number of hosts by state. doubled: of these, names under which two machines report."""

    new: int = 0
    ok: int = 0
    late: int = 0
    lost: int = 0
    retired: int = 0
    doubled: int = 0


class Drifts(Answer):
    items: list[Drift]


class ExplainedField(Answer):
    """The value of one field, and what set it. by: record or override; override: its index in the record; selector: the
    override's, in words."""

    field: str
    value: str | int | list[str]
    by: str = "record"
    override: int | None = None
    selector: str = ""


class ExplainedAgent(Answer):
    """One agent on one host. ban: the ban because of which the host gets no order for it, or null."""

    agent: str
    fields: list[ExplainedField]
    ban: BanView | None = None


class Explanation(Answer):
    host: str
    labels: dict[str, str]
    agents: list[ExplainedAgent]


class Failures(Answer):
    """Failures, those on most hosts first. is_whole: whether these are all, or some of very many."""

    items: list[Failure]
    is_whole: bool = True


# --- who may do what ---


class Whoami(Answer):
    """role: viewer, editor, admin, host (name is its hostname), or "" without a token."""

    name: str
    role: str


class TokenBody(Body):
    """A token to create. An operator's token needs a role. An enrolment token may have uses (-1: any number) and a pattern, a
    glob of hostnames; reenrol: it also enrols hosts that have a token. expires_in: seconds from now by meta's clock; or
    expires:
    Unix seconds; neither, or 0: never."""

    kind: Literal["operator", "enrolment"]
    name: Annotated[str, Meta(pattern=TOKEN_NAME)]
    role: Literal["", "viewer", "editor", "admin"] = ""
    expires: Annotated[float, Meta(ge=0, le=1e11)] = 0.0
    expires_in: Annotated[float, Meta(ge=0, le=1e10)] = 0.0
    uses: Annotated[int, Meta(ge=-1, le=1_000_000_000)] = -1
    pattern: Annotated[str, Meta(min_length=1, max_length=253)] = "*"
    reenrol: bool = False


class TokenView(Answer):
    """A token without its text, which only its owner has. uses: remaining, -1 for any number; revoked: when, 0 if it is not."""

    id: int
    kind: str
    name: str
    role: str
    created: float
    expires: float
    uses: int
    pattern: str
    reenrol: bool
    revoked: float


class Tokens(Answer):
    items: list[TokenView]


class NewToken(TokenView, kw_only=True):
    """token: its text, shown only here; warnings: possible mistakes, such as a pattern that nearly matches a host."""

    token: str
    warnings: list[str] = field(default_factory=list)


class EnrolBody(Body):
    hostname: Hostname


class Enrolled(Answer):
    """token: the host's token from now on; shown only here."""

    hostname: str
    token: str


# --- errors ---


class ProblemView(Answer):
    """One thing that is wrong in a document. path: like `agents[0].cmd`."""

    path: str
    text: str


class Problem(Answer, omit_defaults=True):
    """An error (RFC 9457). problems: what is wrong in the document that was sent (400); difference: lines that show how the
    current state differs from the edit's base (409, 412)."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"
    problems: list[ProblemView] = field(default_factory=list)
    difference: list[str] = field(default_factory=list)
