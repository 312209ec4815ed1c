"""Stores what a host remembers of its agents on the disk.

A damaged memory counts as empty: at worst, a version that was rejected before is tried once more.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from updater import durable_files
from updater.errors import TryLater
from updater.model.memory import LIMIT, Memory

log = logging.getLogger("updater")


class Memories:
    """The memories of all agents of a host, stored on the disk. Safe for threads.

    A change is a function from the current memory to the new one, so that concurrent changes are not lost. A damaged file
    counts as an empty memory; a file that cannot be read now raises TryLater.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._known: dict[str, Memory] = {}
        self._unwritten: set[str] = set()

    def of(self, name: str) -> Memory:
        """The memory of one agent; empty if there is none or it is damaged."""
        with self._lock:
            return self._of(name)

    def change(self, name: str, how: Callable[[Memory], Memory], at_least_here: bool = False) -> Memory:
        """Change a memory, write it durably, and return it.

        Raises TryLater if it cannot be written. Then nothing has changed, or, with `at_least_here`, this process has the
        change while the next one will not.
        """
        with self._lock:
            before = self._of(name)
            after = how(before)
            if at_least_here:
                self._known[name] = after
            if after != before or name in self._unwritten:
                self._unwritten.add(name)
                durable_files.make_directory(self._directory)
                durable_files.write_atomic(self._directory / f"{name}.json", _rendered(after), mode=0o600)
                self._unwritten.discard(name)
            self._known[name] = after
            return after

    def note(self, name: str, how: Callable[[Memory], Memory]) -> bool:
        """The same with `at_least_here`, but if it cannot be written, log that and go on; returns whether it was written."""
        try:
            self.change(name, how, at_least_here=True)
        except TryLater as e:
            log.error("%s: %s", name, e)
            return False
        return True

    def names(self) -> list[str]:
        """The names of the agents that have a memory. Raises TryLater."""
        names = durable_files.names_in(self._directory)
        return [name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")]

    def _of(self, name: str) -> Memory:
        if name not in self._known:
            self._known[name] = _load(self._directory / f"{name}.json")
        return self._known[name]


def _rendered(memory: Memory) -> bytes:
    """The memory as JSON of at most LIMIT bytes, since a larger file could not be read back.

    If necessary, outcomes and evidence are dropped; what decides is kept.
    """
    data = msgspec.json.encode(memory)
    if len(data) <= LIMIT:
        return data
    trial = memory.trial and replace(memory.trial, evidence="", processes=frozenset(), mains=frozenset(), listeners={})
    bare = replace(
        memory, trial=trial, outcomes=(), last=None, failed_order=None, running=None, begun=None, left={}, there={}
    )
    bare = replace(bare, taking_back=None)
    return msgspec.json.encode(bare)


def _load(path: Path) -> Memory:
    try:
        data = durable_files.read_small(path, LIMIT)
        return msgspec.json.decode(data, type=Memory) if data else Memory()
    except (ValueError, RecursionError):
        return Memory()
