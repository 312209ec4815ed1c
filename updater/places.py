"""Where a directory really is: links that lead nowhere and mounts that programs cannot be run from, in words. Only looks."""

import os
import re
from pathlib import Path

from updater.errors import Misconfigured


def dangling(path: Path) -> str:
    """Which link on the way to a path leads nowhere, or ""."""
    for one in (*reversed(path.parents), path):
        if one.is_symlink() and not one.exists():
            return f"{one} is a link to {os.readlink(one)}, which is not there"  # noqa: PTH115 (as it stands)
    return ""


def noexec(path: Path) -> str:
    """Why programs below a path cannot be run for its mount, or "". The path may not be there yet."""
    there = next((one for one in (path, *path.parents) if one.exists()), path)
    try:
        if not os.statvfs(there).f_flag & os.ST_NOEXEC:
            return ""
        mount = _mount_of(there.resolve())
    except OSError:
        return ""
    return f"{mount} is mounted noexec, so no program there can be run: mount it with exec, or choose another root"


def _mount_of(path: Path) -> Path:
    """Where the mount of a path is, as proc_pid_mountinfo(5) tells; a bind mount has no device number of its own."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    points = [re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4]) for line in text.splitlines()]
    return max((Path(one) for one in points if path.is_relative_to(one)), key=lambda one: len(one.parts), default=path)


def check(directory: Path) -> None:
    """Raises Misconfigured when an agent cannot live in a directory, which may not be there yet."""
    if problem := dangling(directory) or noexec(directory):
        raise Misconfigured(problem)
