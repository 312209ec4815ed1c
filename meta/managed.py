"""The file that manages the records, where there is one: read at the start and again by a reload, and made an edit by "file".

Promises that a file with an error changes nothing, and that one which takes most of the records away does not either until a
person confirms it; a store that holds no records takes any file.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from meta import edits, reach, removals
from meta.difference import difference, touched
from meta.editing import Editor
from meta.errors import MetaError, Unconfirmed
from meta.hosts import HostTable
from meta.load import Loaded, load
from meta.records import RecordSet
from updater.wire import one_line

LINES = 20  # of a difference in the log
REMEDY = "meta reload --yes"
log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """What reading the file again did, or would do. data: the records; difference: in lines; affected: by agent, how many hosts
    are told something else; removals: what of it must be confirmed."""

    data: dict[str, Any]
    difference: list[str]
    affected: dict[str, int]
    removals: list[str]


class RecordsFile:
    """Safe for threads. waiting: why the file was not put in force at the start, "" when it was, or a later one."""

    def __init__(self, path: Path, editor: Editor, table: HostTable):
        self.path = path
        self.waiting = ""
        self._editor = editor
        self._table = table
        self._reading = threading.Lock()

    def start(self) -> None:
        """Put it in force; what a person must confirm waits for that. Raises MetaError."""
        try:
            self.reload()
        except Unconfirmed as e:
            self.waiting = f"{self.path} is not in force: {e}"

    def reload(self, confirmed: bool = False) -> Reading:
        """Raises MetaError, logs it and changes nothing when it is refused."""
        with self._reading:
            try:
                loaded, reading = self._read()
                if not confirmed and reading.removals:
                    raise Unconfirmed(reading.removals, REMEDY)
                edit = edits.Edit(time.time(), "file", f"{self.path.name} was read", "apply")
                self._editor.apply(edit, _checked(loaded, confirmed))
            except MetaError as e:
                log.error("records of %s not reloaded, the former ones stay in force:", self.path)
                for line in str(e).splitlines():
                    log.error("%s", line)
                raise
            self.waiting = ""
        _tell(self.path, loaded, reading)
        return reading

    def would_do(self) -> Reading:
        """What a reload would do. Raises what would refuse it, but for what can be confirmed."""
        with self._reading:
            return self._read()[1]

    def _read(self) -> tuple[Loaded, Reading]:
        loaded, before = load(self.path), self._editor.in_force()
        preview = self._editor.preview(_checked(loaded, confirmed=True))
        affected = reach.affected(self._table, preview.after) if preview.changes else {}
        found = removals.mass_removal(before, preview.after)
        return loaded, Reading(loaded.as_data(), difference(preview.changes), affected, found)


def _checked(loaded: Loaded, confirmed: bool) -> Callable[[RecordSet], RecordSet]:
    def change(before: RecordSet) -> RecordSet:
        after = edits.apply(before, loaded.records)
        if not confirmed:
            removals.require(before, after, REMEDY)
        return after

    return change


def _tell(path: Path, loaded: Loaded, reading: Reading) -> None:
    for warning in loaded.warnings:
        log.warning("%s", warning)
    for line in reading.difference[:LINES]:
        log.info("%s: %s", path, one_line(line, 1000))
    if len(reading.difference) > LINES:
        log.info("%s: and %d lines more", path, len(reading.difference) - LINES)
    touches = f", touches {touched(reading.affected) or 'no host'}" if reading.difference else ""
    log.info("records %s reloaded: %d agents%s", path, len(loaded.records), touches)
