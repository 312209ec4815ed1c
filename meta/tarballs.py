"""Which file of the tarball directory a request's path means. Refuses, by answering None, everything but regular files below
that directory: other kinds, names with a leading dot, and whatever a symlink leads out of it.
"""

import os
from pathlib import Path


def find(directory: Path, name: str) -> Path | None:
    """name: the path below the directory, already percent-decoded once."""
    parts = name.split("/")
    if any(_is_hidden(part) for part in parts):
        return None
    root = os.path.realpath(directory)
    try:
        target = os.path.realpath(os.path.join(root, *parts))  # noqa: PTH118 (bytes that Path would fold must not fold)
        relative = os.path.relpath(target, root)
        if any(_is_hidden(part) for part in relative.split("/")) or not os.path.isfile(target):  # noqa: PTH113
            return None
    except (OSError, ValueError):  # too long, a NUL, not encodable
        return None
    return Path(target)


def _is_hidden(part: str) -> bool:
    """Nothing, `.`, `..` (so also what lies outside the directory), a dotfile, or a separator of another system."""
    return not part or part.startswith(".") or "\\" in part


def media_type(name: str) -> str:
    """A tarball is told to be one, so that no client unpacks it on the way (its digest is that of the packed file)."""
    if name.endswith((".tar.gz", ".tgz")):
        return "application/gzip"
    return "text/plain" if name.endswith((".md5", ".sha256", ".txt")) else "application/octet-stream"
