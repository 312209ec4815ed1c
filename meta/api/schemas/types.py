"""The request and response bodies of the REST API. The server and the command line decode with these types.

The OpenAPI document is generated from them: its descriptions are the docstrings and the `description` of fields. Keys are in
camelCase there. Times are Unix seconds. Records, tarballs, tokens and queries are in other modules.
"""

from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from meta.api.schemas.basics import LABEL_KEY, AgentName, Answer, Body, HostList, LabelSet, Number, Why
from meta.queries.representations import Count, Drift, Failure, HostView, LabelView
from meta.records.history import Change

# --- edits and their history ---


class ChangeView(Answer):
    """One thing that an edit changed."""

    kind: Annotated[str, Meta(description="record, order, ban, labels, tarball or host")]
    name: Annotated[
        str,
        Meta(
            description="the agent, AGENT/VERSION of a ban, the host, or the file; empty for the order of the records"
        ),
    ]
    before: Annotated[Any, Meta(description="in the form of a records file; null: nothing")] = None
    after: Annotated[Any, Meta(description="in the form of a records file; null: nothing")] = None

    @classmethod
    def of(cls, changes: Iterable[Change]) -> "list[ChangeView]":
        return [cls(one.kind, one.name, one.before, one.after) for one in changes]


class EditView(Answer):
    """What an edit did, or would do. An edit that changes nothing makes no revision."""

    revision: Annotated[
        int, Meta(description="of the records in force after it; in a dry run, of those it is based on")
    ]
    changes: list[ChangeView]
    affected: Annotated[
        dict[str, int], Meta(description="by agent, how many hosts would get another desired state; only in a dry run")
    ]
    dry_run: bool = False
    notes: Annotated[list[str], Meta(description="remarks")] = field(default_factory=list)
    warnings: Annotated[list[str], Meta(description="possible mistakes; only in a dry run")] = field(
        default_factory=list
    )
    removals: Annotated[list[str], Meta(description="what must be confirmed; only in a dry run")] = field(
        default_factory=list
    )


class RevisionView(Answer):
    """One committed edit."""

    number: int
    at: float
    who: str
    why: str
    action: Annotated[str, Meta(description="set, unset, apply, rollback ...")]
    changes: list[ChangeView]


class Revisions(Answer):
    """Committed edits, newest first."""

    items: list[RevisionView]
    next: Annotated[str, Meta(description="the value of `before` for the next page; empty on the last one")] = ""


class RollbackBody(Body, omit_defaults=True):
    """What to restore: all records, or that of one agent."""

    revision: Annotated[
        Number | UnsetType,
        Meta(description="as they were after it; without one, undo the agent's newest change but rollbacks"),
    ] = UNSET
    agent: Annotated[AgentName | UnsetType, Meta(description="without one: all records")] = UNSET
    why: Annotated[Why, Meta(description="one line for the history")] = ""


class BanView(Answer):
    """A ban: no host is told to run this version."""

    agent: str
    version: str
    why: str
    who: str
    at: float


class Bans(Answer):
    """All bans."""

    items: list[BanView]


# --- hosts ---


class Hosts(Answer):
    """Hosts, sorted by name."""

    items: list[HostView]
    next: Annotated[str, Meta(description="the cursor for the next page; empty on the last one")] = ""
    hint: Annotated[
        str, Meta(description="if no host matches the name: a sentence with a name that was probably meant")
    ] = ""


class LabelsBody(Body):
    """All labels of this host; others are removed."""

    labels: LabelSet


class LabelEdit(Body):
    """Changes the labels of some hosts, in one revision: all or nothing."""

    hosts: HostList
    set: LabelSet = field(default_factory=dict)
    remove: Annotated[list[Annotated[str, Meta(pattern=LABEL_KEY)]], Meta(description="keys")] = field(
        default_factory=list
    )
    known: Annotated[bool, Meta(description="refuse hosts that have neither reported nor a label")] = False


class RetirementBody(Body):
    """Hosts to retire, or to take back."""

    hosts: HostList
    retired: Annotated[bool, Meta(description="false: take them back")] = True


class Labels(Answer):
    """The labels in use."""

    items: list[LabelView]


class NameDoubtView(Answer):
    """Hosts whose names are nearly the same, or which any machine may have."""

    names: list[str]
    why: str


class NameDoubts(Answer):
    """Doubtful names of hosts."""

    items: list[NameDoubtView]


class Counts(Answer):
    """How many hosts have which version of which agent in which status."""

    items: list[Count]
    failed: Annotated[dict[str, int], Meta(description="by agent, on how many hosts its change failed")] = field(
        default_factory=dict
    )


class States(Answer):
    """The number of hosts by state."""

    new: int = 0
    ok: int = 0
    late: int = 0
    lost: int = 0
    retired: int = 0
    doubled: Annotated[
        int, Meta(description="names under which two machines report; they are in one of the other states too")
    ] = 0


class Drifts(Answer):
    """How many hosts are not as desired."""

    items: list[Drift]


class ExplainedField(Answer):
    """The value of one field, and what set it."""

    field: str
    value: str | int | list[str]
    by: Annotated[str, Meta(description="or `override`")] = "record"
    override: Annotated[int | None, Meta(description="its index in the record")] = None
    selector: Annotated[str, Meta(description="of the override, in words")] = ""


class ExplainedAgent(Answer):
    """One agent on one host."""

    agent: str
    fields: list[ExplainedField]
    ban: Annotated[BanView | None, Meta(description="because of which the host gets no order for it")] = None


class Explanation(Answer):
    """The desired state of one host, and what sets it."""

    host: str
    labels: dict[str, str]
    agents: list[ExplainedAgent]


class Failures(Answer):
    """Failures, those on most hosts first."""

    items: list[Failure]
    is_whole: Annotated[bool, Meta(description="whether these are all")] = True


# --- errors ---


class ProblemView(Answer):
    """One thing that is wrong in a document."""

    path: Annotated[str, Meta(description="like `agents[0].cmd`")]
    text: str


class Problem(Answer, omit_defaults=True):
    """An error (RFC 9457)."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"
    problems: Annotated[list[ProblemView], Meta(description="what is wrong in the document that was sent (400)")] = (
        field(default_factory=list)
    )
    difference: Annotated[
        list[str], Meta(description="how the current state differs from the edit's base (409, 412)")
    ] = field(default_factory=list)
