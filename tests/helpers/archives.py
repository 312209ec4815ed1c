"""The manifest of all archives that the unpacker is tried on: name -> what it is and what must become of it."""

from collections.abc import Callable
from typing import NamedTuple

from helpers import good_archives, hostile_bytes, hostile_members
from helpers.good_archives import CONTROL_SCRIPT, Tree

OK = "ok"


class Case(NamedTuple):
    """build: makes the tarball's bytes; verdict: OK or a part of the refusal; tree: of a good one, as in good_archives."""

    build: Callable[[], bytes]
    verdict: str
    tree: Tree


MANIFEST: dict[str, Case] = {
    **{
        name: Case(build, OK, {"control*": CONTROL_SCRIPT} | tree)
        for name, (build, tree) in (good_archives.FORMATS | good_archives.TREES).items()
    },
    **{
        name: Case(build, verdict, {})
        for name, (build, verdict) in (hostile_members.MEMBERS | hostile_bytes.BYTES).items()
    },
}

# These would cost gigabytes or minutes if they were believed: unpack them in a child that has limits.
BOMBS: dict[str, Case] = {name: Case(build, verdict, {}) for name, (build, verdict) in hostile_bytes.BOMBS.items()}
