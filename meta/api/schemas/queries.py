"""The queries of the REST API's operations; unknown and repeated keys are refused."""

from typing import Annotated, Literal

from msgspec import Meta

from meta.api.schemas.basics import END, AgentName, Body, Number, Why
from meta.choices import State
from meta.records.selectors import WAYS
from updater.wire.limits import (
    MAX_HOSTNAME,
    MAX_HOSTS_PAGE,
    MAX_LABEL,
    MAX_NAME,
    MAX_QUERIED,
    MAX_REVISIONS_PAGE,
    MAX_STATUS,
    SHA256_FORM,
)


class EditQuery(Body):
    """The query of every edit."""

    why: Annotated[Why, Meta(description="one line for the history")] = ""
    dry_run: Annotated[bool, Meta(description="only show what it would do")] = False
    action: Annotated[
        Literal["", "set", "unset", "apply", "import"],
        Meta(description="the verb for the history; empty: the route's own"),
    ] = ""


class ApplyQuery(EditQuery):
    """The query of an edit that replaces all records."""

    confirm: Annotated[
        bool, Meta(description="apply it even if it removes more than half of the agents, or of an agent's overrides")
    ] = False


class RevisionsQuery(Body):
    """Which revisions."""

    agent: Annotated[str, Meta(max_length=MAX_NAME, description="only those about its record or its bans")] = ""
    before: Annotated[Number, Meta(description="only lower numbers; 0: all")] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_REVISIONS_PAGE)] = 50


class HostsQuery(Body):
    """Conditions on hosts. An empty one fits every host."""

    state: State | Literal[""] = ""
    agent: Annotated[str, Meta(max_length=MAX_NAME)] = ""
    version: Annotated[str, Meta(max_length=MAX_NAME)] = ""
    status: Annotated[str, Meta(max_length=MAX_STATUS)] = ""
    label: Annotated[str, Meta(max_length=2 * MAX_LABEL + 1, description="`env=staging`, or `env` for any value")] = ""
    name: Annotated[str, Meta(max_length=MAX_HOSTNAME, description="a glob")] = ""
    drift: Annotated[
        bool | None, Meta(description="whether `agent`, or without one any agent, differs from what is desired")
    ] = None
    failed: Annotated[bool, Meta(description="only hosts on which the change of `agent`, or of any agent, failed")] = (
        False
    )
    doubled: Annotated[bool, Meta(description="only names under which two machines report")] = False
    parked: Annotated[
        bool, Meta(description="only hosts that are parked at this meta, which an edit reaches at once")
    ] = False
    cursor: Annotated[str, Meta(max_length=MAX_HOSTNAME, description="`next` of the previous page")] = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_HOSTS_PAGE)] = 100


class AgentQuery(Body):
    """Which agents."""

    agent: Annotated[str, Meta(max_length=MAX_NAME, description="only this one; empty: all")] = ""


SelectorText = Annotated[str, Meta(max_length=MAX_QUERIED, description=f"{WAYS.format('NAME')}; empty: all")]


class CountsQuery(AgentQuery):
    """Which agents, on which hosts."""

    selector: SelectorText = ""


class ProgressQuery(Body):
    """Whose progress."""

    agent: AgentName
    selector: SelectorText = ""
    include_lost: Annotated[bool, Meta(description="late and lost hosts count by their last report")] = False
    failed_before: Annotated[
        str, Meta(max_length=MAX_QUERIED, description="names of hosts, see `gone` of Progress; comma-separated")
    ] = ""


class WhyQuery(Body):
    """The reason for the history."""

    why: Annotated[Why, Meta(description="one line")] = ""


class PruneQuery(Body):
    """How to remove tarballs."""

    why: Annotated[Why, Meta(description="one line for the history")] = ""
    dry_run: Annotated[bool, Meta(description="only show what would be removed")] = False


class UploadQuery(Body):
    """What is uploaded."""

    sha256: Annotated[
        str, Meta(pattern=f"^({SHA256_FORM})?{END}", description="the expected digest; empty: not checked")
    ] = ""
    agent: Annotated[str, Meta(max_length=MAX_NAME, description="its name, needed if the file name is ambiguous")] = ""
    why: Annotated[Why, Meta(description="one line for the history")] = ""
