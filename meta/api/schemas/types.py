"""Every request and response body of the REST API. The server and the command line decode with these, and the OpenAPI document
is generated from them, so the three cannot differ. Records are in meta.api.schemas.documents, tarballs in
meta.api.schemas.tarballs, queries in meta.api.schemas.queries.

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
    hostname ("" for the order of the records); before, after: as a records file spells it, null for nothing."""

    kind: str
    name: str
    before: Any = None
    after: Any = None

    @classmethod
    def of(cls, changes: Iterable[Change]) -> "list[ChangeView]":
        return [cls(one.kind, one.name, one.before, one.after) for one in changes]


class EditView(Answer):
    """What an edit did, or would do. revision: of the records in force after it (a dry run: those that it looked at); affected:
    of a dry run, by agent the number of hosts whose desired state would change; notes: what is good to know of it; warnings:
    of a dry run, what speaks against it; removals: of a dry run, what it takes away that must be confirmed. An edit that
    changes nothing makes no revision."""

    revision: int
    changes: list[ChangeView]
    affected: dict[str, int]
    dry_run: bool = False
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    removals: list[str] = field(default_factory=list)


class RevisionView(Answer):
    """One edit as it was committed."""

    number: int
    at: float
    who: str
    why: str
    action: str
    changes: list[ChangeView]


class Revisions(Answer):
    """Newest first. next: what `before` must be for the next page, "" on the last one."""

    items: list[RevisionView]
    next: str = ""


class RollbackBody(Body, omit_defaults=True):
    """Make the records, or that of one agent, what they were after this revision. Without one, the agent's is what it was
    before its newest change that was no rollback. why: as the query of the same name."""

    revision: Number | UnsetType = UNSET
    agent: AgentName | UnsetType = UNSET
    why: Why = ""


class BanView(Answer):
    """No host is told to run this version."""

    agent: str
    version: str
    why: str
    who: str
    at: float


class Bans(Answer):
    items: list[BanView]


# --- hosts ---


class Hosts(Answer):
    """By name. next: the cursor of the next page, "" on the last one; hint: of a name that fits no host at all, which one was
    probably meant."""

    items: list[HostView]
    next: str = ""
    hint: str = ""


class LabelsBody(Body):
    """All labels that this host shall have."""

    labels: LabelSet


class LabelEdit(Body):
    """Labels to set on all of these hosts, and keys to remove from them: one revision, all or nothing. known: refuse hosts that
    have neither reported nor a label."""

    hosts: Annotated[list[Hostname], Meta(min_length=1, max_length=10_000)]
    set: LabelSet = field(default_factory=dict)
    remove: list[Annotated[str, Meta(pattern=LABEL_KEY)]] = field(default_factory=list)
    known: bool = False


class RetirementBody(Body):
    """Hosts to put aside, or (retired: false) to take back."""

    hosts: Annotated[list[Hostname], Meta(min_length=1, max_length=10_000)]
    retired: bool = True


class Labels(Answer):
    items: list[LabelView]


class NameDoubtView(Answer):
    """Hosts whose names nearly are one, or which any machine may have."""

    names: list[str]
    why: str


class NameDoubts(Answer):
    items: list[NameDoubtView]


class Counts(Answer):
    """failed: by agent on how many hosts its change failed, also where they report nothing of it."""

    items: list[Count]
    failed: dict[str, int] = field(default_factory=dict)


class States(Answer):
    """Hosts by state. doubled: those of them of which two machines report under the name."""

    new: int = 0
    ok: int = 0
    late: int = 0
    lost: int = 0
    retired: int = 0
    doubled: int = 0


class Drifts(Answer):
    items: list[Drift]


class ExplainedField(Answer):
    """Which value one field has, and what set it. by: record or override; override: its index in the record; selector: the
    override's, in words."""

    field: str
    value: str | int | list[str]
    by: str = "record"
    override: int | None = None
    selector: str = ""


class ExplainedAgent(Answer):
    """One agent on one host. ban: what keeps it from being ordered, null where nothing does."""

    agent: str
    fields: list[ExplainedField]
    ban: BanView | None = None


class Explanation(Answer):
    host: str
    labels: dict[str, str]
    agents: list[ExplainedAgent]


class Failures(Answer):
    """Those of most hosts first. is_whole: whether these are all, or some of very many."""

    items: list[Failure]
    is_whole: bool = True


# --- who may do what ---


class Whoami(Answer):
    """role: viewer, editor, admin, host (name is its hostname), or "" for nobody."""

    name: str
    role: str


class TokenBody(Body):
    """A token to make. An operator's needs a role; an enrolment token may have uses (-1: any number) and a glob of the
    hostnames that it is for; reenrol: it also enrols hosts that have a token. expires_in: seconds from now by meta's clock,
    which is the one that counts; or expires: Unix seconds; neither, or 0: never."""

    kind: Literal["operator", "enrolment"]
    name: Annotated[str, Meta(pattern=TOKEN_NAME)]
    role: Literal["", "viewer", "editor", "admin"] = ""
    expires: Annotated[float, Meta(ge=0, le=1e11)] = 0.0
    expires_in: Annotated[float, Meta(ge=0, le=1e10)] = 0.0
    uses: Annotated[int, Meta(ge=-1, le=1_000_000_000)] = -1
    pattern: Annotated[str, Meta(min_length=1, max_length=253)] = "*"
    reenrol: bool = False


class TokenView(Answer):
    """A token without its text, which only its owner has. uses: left, -1 for any number; revoked: when, 0 for not."""

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
    """token: its text, shown this once; warnings: what a person should know, as that the pattern nearly fits a host."""

    token: str
    warnings: list[str] = field(default_factory=list)


class EnrolBody(Body):
    hostname: Hostname


class Enrolled(Answer):
    """token: what this host shows from now on; shown this once."""

    hostname: str
    token: str


# --- errors ---


class ProblemView(Answer):
    """One thing that is wrong in a document. path: like `agents[0].cmd`."""

    path: str
    text: str


class Problem(Answer, omit_defaults=True):
    """RFC 9457. problems: what is wrong in a document that was sent (400); difference: lines of what stands now against what
    the edit was made from (409, 412)."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"
    problems: list[ProblemView] = field(default_factory=list)
    difference: list[str] = field(default_factory=list)
