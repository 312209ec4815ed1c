"""The bodies of the REST API that are about tarballs. Times are Unix seconds."""

from typing import Annotated

from msgspec import Meta, field

from meta.api.schemas.basics import Answer, Body


class TarballView(Answer):
    """A published file. md5, sha256: blank in a list where they are not known without reading the file; who, published: by whom
    and when (Unix seconds) it was published through meta, "" and 0 where it came in another way; desired_by: the records and
    overrides that say its version; hosts: how many run it."""

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
    """Which tarballs may go. keep: how many of each agent stay in any case, the newest; older: seconds since they were
    published; files: none but these, null for all."""

    keep: Annotated[int, Meta(ge=0, le=1_000_000)] = 3
    older: Annotated[float, Meta(ge=0, le=1e11)] = 30 * 86400.0
    files: Annotated[list[str], Meta(max_length=10_000)] | None = None


class KeptView(Answer):
    """A tarball that stays, and why."""

    name: str
    why: str


class PrunedView(Answer):
    """What was removed, or would be, and what of that which was published through meta stays. revision: as of an edit."""

    revision: int
    removed: list[TarballView]
    kept: list[KeptView]
    dry_run: bool = False
