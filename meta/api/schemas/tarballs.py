"""Bodies of the REST API about tarballs. Times are Unix seconds."""

from typing import Annotated

from msgspec import Meta, field

from meta.api.schemas.basics import Answer, Body
from updater.wire.limits import MAX_KEPT, MAX_LISTED, MAX_TIME


class TarballView(Answer):
    """A published file."""

    name: str
    size: Annotated[int, Meta(description="bytes")]
    md5: Annotated[str, Meta(description="empty in a list if the file would have to be read for it")] = ""
    sha256: Annotated[str, Meta(description="empty in a list if the file would have to be read for it")] = ""
    modified: float = 0.0
    agent: str = ""
    version: str = ""
    who: Annotated[str, Meta(description="who published it through meta; empty if it was added in another way")] = ""
    published: Annotated[
        float, Meta(description="when it was published through meta; 0 if it was added in another way")
    ] = 0.0
    desired_by: Annotated[list[str], Meta(description="the records and overrides that have its version")] = field(
        default_factory=list
    )
    hosts: Annotated[int, Meta(description="how many run it")] = 0


class Tarballs(Answer):
    """Published files."""

    items: list[TarballView]


class PruneBody(Body):
    """Which tarballs to remove."""

    keep: Annotated[int, Meta(ge=0, le=MAX_KEPT, description="how many of the newest of each agent are kept")] = 3
    older: Annotated[
        float, Meta(ge=0, le=MAX_TIME, description="only those published more than so many seconds ago")
    ] = 30 * 86400.0
    files: Annotated[
        Annotated[list[str], Meta(max_length=MAX_LISTED)] | None, Meta(description="only these; null: all")
    ] = None


class KeptView(Answer):
    """A tarball that is kept, and why."""

    name: str
    why: str


class PrunedView(Answer):
    """The tarballs that were removed, or would be."""

    revision: Annotated[int, Meta(description="of the records after it")]
    removed: list[TarballView]
    kept: Annotated[list[KeptView], Meta(description="of those that were published through meta")]
    dry_run: bool = False
