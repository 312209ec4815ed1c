"""Tells what a path is, and finds dangling links and mounts without exec. Only reads.

These functions never raise. For another user's directory, a broken disk or a stale NFS handle, neither `exists` nor
`is_missing` is true. pathlib's own methods raise in these cases, which would end a cycle if called in an `except`.
"""

import errno
import os
import re
import stat
from pathlib import Path

from updater.errors import Misconfigured

_NOTHING, _UNKNOWN = 0, -1  # returned by _mode instead of a mode
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def exists(path: Path) -> bool:
    """Whether the path, or the target of a link, certainly exists."""
    return _mode(path) > 0


def is_missing(path: Path) -> bool:
    """Whether the path, or the target of a link, certainly does not exist. False, like `exists`, if that is unknown."""
    return _mode(path) == _NOTHING


def is_directory(path: Path) -> bool:
    """Whether the path is certainly a directory or a link to one."""
    return (mode := _mode(path)) > 0 and stat.S_ISDIR(mode)


def is_file(path: Path) -> bool:
    """Whether the path is certainly a regular file or a link to one."""
    return (mode := _mode(path)) > 0 and stat.S_ISREG(mode)


def is_link(path: Path) -> bool:
    """Whether the path is certainly a symlink."""
    return (mode := _mode(path, follow=False)) > 0 and stat.S_ISLNK(mode)


def _mode(path: Path, follow: bool = True) -> int:
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except OSError as e:
        return _NOTHING if e.errno in _NOT_THERE else _UNKNOWN
    except ValueError:  # a name with a NUL
        return _NOTHING


def dangling(path: Path) -> str:
    """Which link on the way to a path is dangling, as text for people, or ""."""
    for one in (*reversed(path.parents), path):
        if is_link(one) and is_missing(one):
            try:
                return f"{one} is a link to {os.readlink(one)}, which is not there"  # noqa: PTH115 (as it stands)
            except OSError:
                return ""
    return ""


def noexec(path: Path) -> str:
    """Why the mount of a path does not let programs run, or "". The path need not exist yet."""
    there = next((one for one in (path, *path.parents) if exists(one)), path)
    try:
        if not os.statvfs(there).f_flag & os.ST_NOEXEC:
            return ""
        mount = _mount_of(there.resolve())
    except OSError:
        return ""
    return f"{mount} is mounted noexec, so no program there can be run: mount it with exec, or choose another root"


def _mount_of(path: Path) -> Path:
    """The mount point of a path, from proc_pid_mountinfo(5), since a bind mount has no device number of its own."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    points = [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4]) for line in text.splitlines()]
    return max((Path(one) for one in points if path.is_relative_to(one)), key=lambda one: len(one.parts), default=path)


def check(directory: Path) -> None:
    """Raises Misconfigured if no agent can be run in this directory, which need not exist yet."""
    if problem := dangling(directory) or noexec(directory):
        raise Misconfigured(problem)
