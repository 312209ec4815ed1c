"""Keeps a verified tarball that cannot be unpacked yet, because this host lacks an interpreter or disk space.

Such a tarball is not downloaded again: it stays where it was stored, and its digest is checked again before each use. While
the interpreter is missing it is not even unpacked. A download that a killed updater left is used only if it is complete.
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
    """Yield the open tarball of an earlier cycle if all of it is at `path`, else None. Raises TryLater."""
    with contextlib.closing(Part(path)) as part:
        found = None
        if part.size and not part.resume_headers():  # else the download was cut short
            with contextlib.suppress(WrongBytes):
                found = part.proven(expected, "the kept tarball")
        yield found


def keep_head(control: Path, path: Path, expected: Expected) -> None:
    """Store the first bytes of `control`, whose interpreter is missing, so that later cycles need not unpack `path` again."""
    with contextlib.suppress(TryLater, OSError), control.open("rb") as file:  # on failure the tarball is unpacked again
        durable_files.write_atomic(_head_of(path, expected), file.read(_HEAD))


def still_lacking(path: Path, expected: Expected, programs: str, install: Path) -> str:
    """Why the control of a kept tarball still cannot run here; "" if it can, or if only the unpacked install can tell.

    programs: the PATH of the control; install: where the tarball will be unpacked.
    """
    head = _head_of(path, expected)
    if not places.is_file(head) or runnable.needs_its_place(head, install):
        return ""
    return runnable.missing(head, programs, install)


def give_way(path: Path) -> None:
    """Remove the tarball at `path` if another agent's is kept too, as each could wait for the disk space of the other."""
    others = [
        path.parent.with_name(name) for name in durable_files.names_in(path.parent.parent) if name != path.parent.name
    ]
    if any(durable_files.names_in(one) for one in others):
        durable_files.remove_tree(path.parent)


def _head_of(path: Path, expected: Expected) -> Path:
    return path.with_name(f"{path.name}.{expected.digest}.control")
