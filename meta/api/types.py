"""Every request and response body of the REST API. The server and the command line decode with these, and the OpenAPI document
is generated from them, so the three cannot differ.

Keys are camelCase on the wire. Records are spelled exactly as in a records file. Times are Unix seconds.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from meta.views import Count, Drift, HostView

END = r"(?!\n)$"  # Python's $ alone would let a last newline pass
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}" + END
VERSION = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}" + END
HOSTNAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}" + END
TARBALL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}-[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\.tar\.gz" + END
LABEL_KEY = r"^[A-Za-z0-9._-]{1,63}" + END
LABEL_VALUE = r"^[A-Za-z0-9._-]{0,63}" + END
TOKEN_NAME = r"^[A-Za-z0-9][A-Za-z0-9@._ -]{0,63}" + END
MAX_WHY = 500

AgentName = Annotated[str, Meta(pattern=NAME)]
Version = Annotated[str, Meta(pattern=VERSION)]
Hostname = Annotated[str, Meta(pattern=HOSTNAME)]
Why = Annotated[str, Meta(max_length=MAX_WHY)]
Number = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
Role = Literal["viewer", "editor", "admin"]
Labels = dict[Annotated[str, Meta(pattern=LABEL_KEY)], Annotated[str, Meta(pattern=LABEL_VALUE)]]


class _Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What clients send: an unknown field is refused, never dropped."""


class _Answer(msgspec.Struct, rename="camel"):
    """What meta answers: clients let fields that they do not know pass."""


# --- records, in the spelling of a records file ---


class OverrideBody(_Body, omit_defaults=True):
    """Exactly one of prefix, glob, hosts, label; and at least one of the other fields."""

    prefix: str | UnsetType = UNSET
    glob: str | UnsetType = UNSET
    hosts: list[Hostname] | UnsetType = UNSET
    label: str | UnsetType = UNSET
    version: Version | UnsetType = UNSET
    tarball: str | list[str] | UnsetType = UNSET
    md5: str | UnsetType = UNSET
    cmd: Literal["start", "stop"] | UnsetType = UNSET
    sha256: str | UnsetType = UNSET


class RecordBody(_Body, omit_defaults=True):
    """The desired state of one agent. tarball: one base URL, or a list of them."""

    name: AgentName
    version: Version
    tarball: str | list[str]
    md5: str | UnsetType = UNSET
    cmd: Literal["start", "stop"] | UnsetType = UNSET
    sha256: str | UnsetType = UNSET
    overrides: list[OverrideBody] | UnsetType = UNSET


class RecordsBody(_Body):
    """All records: what a records file holds. Its revision is its ETag."""

    agents: list[RecordBody]


class SelectorBody(_Body, omit_defaults=True):
    """Exactly one of them."""

    prefix: str | UnsetType = UNSET
    glob: str | UnsetType = UNSET
    hosts: list[Hostname] | UnsetType = UNSET
    label: str | UnsetType = UNSET


class FieldsBody(_Body, omit_defaults=True):
    """Fields of a record, or of an override."""

    version: Version | UnsetType = UNSET
    tarball: str | list[str] | UnsetType = UNSET
    md5: str | UnsetType = UNSET
    cmd: Literal["start", "stop"] | UnsetType = UNSET
    sha256: str | UnsetType = UNSET


class RecordEdit(_Body, omit_defaults=True):
    """Either fields to set, or names of fields to unset (none: the whole override). selector: of the override that is meant, in
    place of the record itself; one that is not there is made, as the last."""

    set: FieldsBody | UnsetType = UNSET
    unset: list[Literal["version", "tarball", "md5", "cmd", "sha256"]] | UnsetType = UNSET
    selector: SelectorBody | UnsetType = UNSET


# --- edits and their history ---


class EditQuery(_Body):
    """The query of every edit. why: one line for the history; dry_run: only tell what it would do; action: the verb for the
    history, where it is another than the route's own."""

    why: Why = ""
    dry_run: bool = False
    action: Literal["", "set", "unset", "apply", "import"] = ""


class ChangeView(_Answer):
    """One thing that an edit changed. kind: record, order, ban or labels; name: the agent, AGENT/VERSION of a ban, or the
    hostname ("" for the order of the records); before, after: as a records file spells it, null for nothing."""

    kind: str
    name: str
    before: Any = None
    after: Any = None


class EditView(_Answer):
    """What an edit did, or would do. revision: of the records in force after it (a dry run: those that it looked at); affected:
    of a dry run, by agent the number of hosts whose desired state would change. An edit that changes nothing makes no
    revision."""

    revision: int
    changes: list[ChangeView]
    affected: dict[str, int]
    dry_run: bool = False


class RevisionView(_Answer):
    """One edit as it was committed."""

    number: int
    at: float
    who: str
    why: str
    action: str
    changes: list[ChangeView]


class Revisions(_Answer):
    """Newest first. next: what `before` must be for the next page, "" on the last one."""

    items: list[RevisionView]
    next: str = ""


class RevisionsQuery(_Body):
    """agent: only what changed its record or a ban of it; before: only lower numbers, 0 for all."""

    agent: Annotated[str, Meta(max_length=64)] = ""
    before: Number = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class RollbackBody(_Body):
    """Make the records what they were after this revision. why: as the query of the same name."""

    revision: Number
    why: Why = ""


class BanView(_Answer):
    """No host is told to run this version."""

    agent: str
    version: str
    why: str
    who: str
    at: float


class Bans(_Answer):
    items: list[BanView]


# --- hosts ---


class HostsQuery(_Body):
    """What a host must be; blank: whatever. label: `env=staging`, or `env` for any value of it; name: a glob; drift: whether it
    (or its agent `agent`) is not as desired; cursor: `next` of the page before."""

    state: Literal["", "new", "ok", "late", "lost", "retired"] = ""
    agent: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[str, Meta(max_length=64)] = ""
    status: Annotated[str, Meta(max_length=300)] = ""
    label: Annotated[str, Meta(max_length=127)] = ""
    name: Annotated[str, Meta(max_length=253)] = ""
    drift: bool | None = None
    cursor: Annotated[str, Meta(max_length=253)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class AgentQuery(_Body):
    """agent: only this one; blank: all."""

    agent: Annotated[str, Meta(max_length=64)] = ""


class Hosts(_Answer):
    """By name. next: the cursor of the next page, "" on the last one."""

    items: list[HostView]
    next: str = ""


class LabelsBody(_Body):
    """All labels that this host shall have."""

    labels: Labels


class LabelEdit(_Body):
    """Labels to set on all of these hosts, and keys to remove from them: one revision, all or nothing."""

    hosts: Annotated[list[Hostname], Meta(min_length=1, max_length=10_000)]
    set: Labels = {}
    remove: list[Annotated[str, Meta(pattern=LABEL_KEY)]] = []


class Counts(_Answer):
    items: list[Count]


class States(_Answer):
    """Hosts by state."""

    new: int = 0
    ok: int = 0
    late: int = 0
    lost: int = 0
    retired: int = 0


class Drifts(_Answer):
    items: list[Drift]


class ExplainedField(_Answer):
    """Which value one field has, and what set it. by: record or override; override: its index in the record; selector: the
    override's, in words."""

    field: str
    value: str | list[str]
    by: str = "record"
    override: int | None = None
    selector: str = ""


class ExplainedAgent(_Answer):
    """One agent on one host. ban: what keeps it from being ordered, null where nothing does."""

    agent: str
    fields: list[ExplainedField]
    ban: BanView | None = None


class Explanation(_Answer):
    host: str
    labels: dict[str, str]
    agents: list[ExplainedAgent]


# --- who may do what ---


class Whoami(_Answer):
    """role: viewer, editor, admin, host (name is its hostname), or "" for nobody."""

    name: str
    role: str


class TokenBody(_Body):
    """A token to make. An operator's needs a role; an enrolment token may have uses (-1: any number) and a glob of the
    hostnames that it is for; reenrol: it also enrols hosts that have a token. expires: Unix seconds, 0 for never."""

    kind: Literal["operator", "enrolment"]
    name: Annotated[str, Meta(pattern=TOKEN_NAME)]
    role: Literal["", "viewer", "editor", "admin"] = ""
    expires: Annotated[float, Meta(ge=0, le=1e11)] = 0.0
    uses: Annotated[int, Meta(ge=-1, le=1_000_000_000)] = -1
    pattern: Annotated[str, Meta(min_length=1, max_length=253)] = "*"
    reenrol: bool = False


class TokenView(_Answer):
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


class Tokens(_Answer):
    items: list[TokenView]


class NewToken(TokenView, kw_only=True):
    """token: its text, shown this once."""

    token: str


class EnrolBody(_Body):
    hostname: Hostname


class Enrolled(_Answer):
    """token: what this host shows from now on; shown this once."""

    hostname: str
    token: str


# --- tarballs ---


class UploadQuery(_Body):
    """sha256: what the bytes must have, 64 hex digits; blank: not compared."""

    sha256: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{64})?" + END)] = ""


class TarballView(_Answer):
    """A published file. md5, sha256: blank in a list where they are not known without reading the file."""

    name: str
    size: int
    md5: str = ""
    sha256: str = ""
    modified: float = 0.0


class Tarballs(_Answer):
    items: list[TarballView]


# --- errors ---


class ProblemView(_Answer):
    """One thing that is wrong in a document. path: like `agents[0].cmd`."""

    path: str
    text: str


class Problem(_Answer, omit_defaults=True):
    """RFC 9457. problems: what is wrong in a document that was sent (400); difference: lines of what stands now against what
    the edit was made from (409, 412)."""

    title: str
    status: int
    detail: str = ""
    type: str = "about:blank"
    problems: list[ProblemView] = []
    difference: list[str] = []
