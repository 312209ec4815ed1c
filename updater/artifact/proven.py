"""A tarball that was fetched and proven, and cannot be laid out for what this host lacks: an interpreter, room on the disk.

Promises that it is not fetched again for that: it stays where it came, is proven again by its digest, and is not even unpacked
while the interpreter is missing. What a killed updater left there is only used if it is whole.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from updater import durable_files, places
from updater.artifact import runnable
from updater.artifact.partial_download import Expected, Fetched, Part, WrongBytes
from updater.errors import TryLater

_HEAD = 4096  # bytes of a control that say what it needs


@contextlib.contextmanager
def kept(path: Path, expected: Expected) -> Iterator[Fetched | None]:
    """The tarball of an earlier cycle, open, if the whole of it is at `path`, else None. Raises TryLater."""
    with contextlib.closing(Part(path)) as part:
        found = None
        if part.size and not part.resume_headers():  # else it was cut off
            with contextlib.suppress(WrongBytes):
                found = part.proven(expected, "what came before")
        yield found


def keep_head(control: Path, path: Path, expected: Expected) -> None:
    """Keep the beginning of a control that lacks an interpreter, to be asked in place of the tarball at `path`."""
    with contextlib.suppress(TryLater, OSError), control.open("rb") as file:  # or else it is unpacked again
        durable_files.write_atomic(_head_of(path, expected), file.read(_HEAD))


def still_lacking(path: Path, expected: Expected, programs: str, install: Path) -> str:
    """Which interpreter the control of a kept tarball still lacks, "" for none, and where only the unpacked install can tell.
    programs: its PATH; install: its place."""
    head = _head_of(path, expected)
    if not places.is_file(head) or runnable.needs_its_place(head, install):
        return ""
    return runnable.missing(head, programs, install)


def give_way(path: Path) -> None:
    """Remove the tarball at `path` where another agent's is kept, too: each might wait for the room that the other takes."""
    others = [
        path.parent.with_name(name) for name in durable_files.names_in(path.parent.parent) if name != path.parent.name
    ]
    if any(durable_files.names_in(one) for one in others):
        durable_files.remove_tree(path.parent)


def _head_of(path: Path, expected: Expected) -> Path:
    return path.with_name(f"{path.name}.{expected.digest}.control")
