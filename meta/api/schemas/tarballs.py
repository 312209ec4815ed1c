"""Bodies of the REST API about tarballs. Times are Unix seconds."""

from typing import Annotated

from msgspec import Meta, field

from meta.api.schemas.basics import Answer, Body


class TarballView(Answer):
    """A published file. md5, sha256: blank in a list if they are unknown without reading the file; who, published: who
    published it through meta, and when (Unix seconds), "" and 0 if it was added in another way; desired_by: the records and
    overrides that have its version; hosts: how many run it."""

    name: str
    size: int
    md5: str = ""
    sha256: str = ""
    modified: float = 0.0
    agent: str = ""
    version: str = ""
    who: str = ""
    published: float = 0.0
    desired_by: list[str] = field(default_factory=list)
    hosts: int = 0


class Tarballs(Answer):
    items: list[TarballView]


class PruneBody(Body):
    """Which tarballs to remove. keep: how many of the newest of each agent are kept; older: only if they were published more
    than so many seconds ago; files: only these, null for all."""

    keep: Annotated[int, Meta(ge=0, le=1_000_000)] = 3
    older: Annotated[float, Meta(ge=0, le=1e11)] = 30 * 86400.0
    files: Annotated[list[str], Meta(max_length=10_000)] | None = None


class KeptView(Answer):
    """A tarball that is kept, and why."""

    name: str
    why: str


class PrunedView(Answer):
    """The tarballs that were or would be removed, and those published through meta that are kept. revision: as of an edit."""

    revision: int
    removed: list[TarballView]
    kept: list[KeptView]
    dry_run: bool = False
