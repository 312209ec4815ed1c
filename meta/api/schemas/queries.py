"""The queries of the REST API's operations; unknown and repeated keys are refused."""

from typing import Annotated, Literal

from msgspec import Meta

from meta.api.schemas.basics import END, AgentName, Body, Number, Why


class EditQuery(Body):
    """The query of every edit. why: one line for the history; dry_run: only show what it would do; action: the verb for the
    history, "" for the route's own."""

    why: Why = ""
    dry_run: bool = False
    action: Literal["", "set", "unset", "apply", "import"] = ""


class ApplyQuery(EditQuery):
    """confirm: apply it even if it removes more than half of the agents, or of an agent's overrides."""

    confirm: bool = False


class RevisionsQuery(Body):
    """agent: only revisions about its record or its bans; before: only lower numbers, 0 for all."""

    agent: Annotated[str, Meta(max_length=64)] = ""
    before: Number = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class HostsQuery(Body):
    """Conditions on hosts; blank: any. label: `env=staging`, or `env` for any value; name: a glob; drift: whether the host, or
    its agent `agent`, is not as desired; failed: only if that is because its last change failed; cursor: `next` of the page
    before."""

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
    """selector: only these hosts, like `prefix:lg-`, `glob:*.example`, `hosts:h1,h2` or `label:env=staging`, blank for all;
    include_lost: late and lost hosts count by their last report; failed_before: names, separated by commas, of hosts that
    failed at an earlier look: those that the selector does not match any more are returned."""

    agent: AgentName
    selector: Annotated[str, Meta(max_length=8192)] = ""
    include_lost: bool = False
    failed_before: Annotated[str, Meta(max_length=8192)] = ""


class WhyQuery(Body):
    """why: one line for the history."""

    why: Why = ""


class PruneQuery(Body):
    """dry_run: only show what would be removed; why: one line for the history."""

    why: Why = ""
    dry_run: bool = False


class UploadQuery(Body):
    """sha256: the expected digest, 64 hex digits, blank for none. agent: its name, needed if the file name is ambiguous."""

    sha256: Annotated[str, Meta(pattern=r"^([0-9a-fA-F]{64})?" + END)] = ""
    agent: Annotated[str, Meta(max_length=64)] = ""
    why: Why = ""
