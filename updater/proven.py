"""A tarball that was fetched and proven, and cannot be laid out for what this host lacks: an interpreter, room on the disk.

Promises that it is not fetched again for that: it stays where it came, is proven again by its digest, and is not even unpacked
while the interpreter is missing. What a killed updater left there is only used if it is whole.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from updater import files, places, runnable
from updater.errors import TryLater
from updater.parts import Expected, Fetched, Part, WrongBytes

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
        files.write_atomic(_head_of(path, expected), file.read(_HEAD))


def still_lacking(path: Path, expected: Expected, programs: str, install: Path) -> str:
    """Which interpreter the control of a kept tarball still lacks, "" for none. programs: its PATH; install: its place."""
    head = _head_of(path, expected)
    return runnable.missing(head, programs, install) if places.is_file(head) else ""


def _head_of(path: Path, expected: Expected) -> Path:
    return path.with_name(f"{path.name}.{expected.digest}.control")
