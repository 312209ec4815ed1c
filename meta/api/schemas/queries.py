"""The queries of the REST API's operations: every key is known, and given once."""

from typing import Annotated, Literal

from msgspec import Meta

from meta.api.schemas.basics import END, AgentName, Body, Number, Why


class EditQuery(Body):
    """The query of every edit. why: one line for the history; dry_run: only tell what it would do; action: the verb for the
    history, where it is another than the route's own."""

    why: Why = ""
    dry_run: bool = False
    action: Literal["", "set", "unset", "apply", "import"] = ""


class ApplyQuery(EditQuery):
    """confirm: also if it takes away more than half of the agents, or of an agent's overrides."""

    confirm: bool = False


class RevisionsQuery(Body):
    """agent: only what changed its record or a ban of it; before: only lower numbers, 0 for all."""

    agent: Annotated[str, Meta(max_length=64)] = ""
    before: Number = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class HostsQuery(Body):
    """What a host must be; blank: whatever. label: `env=staging`, or `env` for any value of it; name: a glob; drift: whether it
    (or its agent `agent`) is not as desired; failed: only where that is because its last change failed; cursor: `next` of the
    page before."""

    state: Literal["", "new", "ok", "late", "lost", "retired"] = ""
    agent: Annotated[str, Meta(max_length=64)] = ""
    version: Annotated[str, Meta(max_length=64)] = ""
    status: Annotated[str, Meta(max_length=300)] = ""
    label: Annotated[str, Meta(max_length=127)] = ""
    name: Annotated[str, Meta(max_length=253)] = ""
    drift: bool | None = None
    failed: bool = False
    doubled: bool = False
    cursor: Annotated[str, Meta(max_length=253)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class AgentQuery(Body):
    """agent: only this one; blank: all."""

    agent: Annotated[str, Meta(max_length=64)] = ""


class ProgressQuery(Body):
    """agent: which; selector: only on these hosts, like `prefix:lg-`, `glob:*.example`, `hosts:h1,h2` or `label:env=staging`;
    blank: on all; include_lost: late and lost hosts count by what they last said; failed_before: names of hosts,
    apart by commas, that had failed in an earlier look: those that the selector does not choose any more are told."""

    agent: AgentName
    selector: Annotated[str, Meta(max_length=8192)] = ""
    include_lost: bool = False
    failed_before: Annotated[str, Meta(max_length=8192)] = ""


class WhyQuery(Body):
    """why: one line for the history."""

    why: Why = ""


class PruneQuery(Body):
    """dry_run: only tell what would go; why: one line for the history."""

    why: Why = ""
    dry_run: bool = False


class UploadQuery(Body):
    """sha256: what the bytes must have, 64 hex digits; blank: not compared. agent: whose it is, where the file's name can be
    read in two ways."""

    sha256: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{64})?" + END)] = ""
    agent: Annotated[str, Meta(max_length=64)] = ""
    why: Why = ""
