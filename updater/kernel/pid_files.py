"""Finds the pid files of an install and the number in each.

Results are cached until a file changes, since every idle cycle asks for them.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

from updater import durable_files
from updater.cached_reads import CachedReads
from updater.errors import TryLater
from updater.kernel.procfs import Process, age

_DIRECTORIES = 32  # subdirectories of an install that are searched
_COARSE = 2.0  # seconds by which two clocks may differ


class _Listing(NamedTuple):
    """The pid files and the subdirectories of one directory."""

    pid_files: list[Path]
    directories: list[Path]


def pid_files(install: Path) -> dict[Path, int]:
    """The files `pid` and `*.pid` of an install and of its subdirectories, with the number that each holds."""
    try:
        top = _listed(install)
        every = top.pid_files + [path for below in top.directories for path in _listed(below).pid_files]
    except OSError:
        return {}
    found = {}
    for path in every:
        try:
            if number := _number(path):
                found[path] = number
        except TryLater:
            continue
    return found


def is_older(file: Path, process: Process) -> bool:
    """Whether a pid file is older than the process that has its number, which was reused then; also if it is gone."""
    try:
        return file.stat().st_mtime < time.time() - age(process) - _COARSE
    except OSError:
        return True


def own_files(install: Path) -> tuple[Path, Path]:
    """The paths of the pid files that name the agent itself; others may name processes that it runs for others."""
    return install / "pid", install / f"{install.parent.name}.pid"


def _list(directory: Path) -> _Listing:
    with os.scandir(directory) as entries:
        every = sorted(entries, key=lambda entry: entry.name)
    names = [Path(entry.path) for entry in every if entry.name == "pid" or entry.name.endswith(".pid")]
    below = [Path(entry.path) for entry in every if entry.is_dir(follow_symlinks=False)]
    return _Listing(names, below[:_DIRECTORIES])


def _read(path: Path) -> int:
    """The number in a pid file, 0 if there is none."""
    text = durable_files.read_state(path, 64).split()
    return int(text[0]) if text and text[0].isdigit() and len(text[0]) <= 10 else 0


_listed, _number = CachedReads(_list), CachedReads(_read)
