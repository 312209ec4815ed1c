"""The pid files of an install: which there are, and which number each holds.

Reads again only what has changed, for an idle cycle asks for them too.
"""

import os
from pathlib import Path
from typing import NamedTuple

from updater import durable_files
from updater.cached_reads import Kept
from updater.errors import TryLater

_DIRECTORIES = 32  # of an install that are looked through


class _Listing(NamedTuple):
    """Of one directory."""

    pid_files: list[Path]
    directories: list[Path]


def pid_files(install: Path) -> dict[Path, int]:
    """The files `pid` and `*.pid` of an install, one directory deep, that hold a number."""
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


def own_files(install: Path) -> tuple[Path, Path]:
    """Those that name the agent itself, whatever else an agent keeps books of."""
    return install / "pid", install / f"{install.parent.name}.pid"


def _list(directory: Path) -> _Listing:
    with os.scandir(directory) as entries:
        every = sorted(entries, key=lambda entry: entry.name)
    names = [Path(entry.path) for entry in every if entry.name == "pid" or entry.name.endswith(".pid")]
    below = [Path(entry.path) for entry in every if entry.is_dir(follow_symlinks=False)]
    return _Listing(names, below[:_DIRECTORIES])


def _read(path: Path) -> int:
    """0 where it holds none."""
    text = durable_files.read_state(path, 64).split()
    return int(text[0]) if text and text[0].isdigit() and len(text[0]) <= 10 else 0


_listed, _number = Kept(_list), Kept(_read)
