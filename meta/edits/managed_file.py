"""The file that manages the records, where there is one: read at the start and again by a reload, and made an edit by "file".

Promises that a file with an error changes nothing, and that one which takes most of the records away does not either until a
person confirms it; a store that holds no records takes any file.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from meta.edits import operations, reach
from meta.edits.diff import difference, touched
from meta.edits.editor import Editor
from meta.errors import MetaError, Misconfigured, TryLater, Unconfirmed
from meta.hosts.table import HostTable
from meta.records import history, removals
from meta.records.files import ops_meta_format
from meta.records.files.load import Loaded, load
from meta.records.model import Record, RecordSet, as_fields
from updater.wire.text import one_line

LINES = 20  # of a difference in the log
MOST_LINES = 200  # of a difference for those who asked by a signal
log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """What reading the file again did, or would do. data: the records; difference: in lines; affected: by agent, how many hosts
    are told something else; removals: what of it must be confirmed, by this seal of the records before and after."""

    data: dict[str, Any]
    difference: list[str]
    affected: dict[str, int]
    removals: list[str]
    seal: str = ""

    def told(self) -> list[str]:
        """In lines, for people: the difference, whom it touches, and how many agents there are."""
        lines = [one_line(line, 1000) for line in self.difference[:MOST_LINES]]
        if len(self.difference) > MOST_LINES:
            lines.append(f"... and {len(self.difference) - MOST_LINES} lines more")
        touches = [f"touches {touched(self.affected) or 'no host'}"] if self.difference else []
        agents = len(self.data["agents"])
        return [*lines, *touches, f"{agents} agent{'' if agents == 1 else 's'}"]


class Waiting(NamedTuple):
    """Records that were not put in force at the start, and why, in words."""

    records: tuple[Record, ...]
    why: str


def check(path: Path, before: RecordSet, url: str) -> None:
    """Raises the MetaError with which a reload would refuse the file where these are the records in force; a start would leave
    them in force. url: as for RecordsFile."""
    try:
        removals.require(before, operations.apply(before, load(path).records), _remedy(url))
    except Unconfirmed as e:
        raise Misconfigured(f"{path} would not be put in force, the former records would stay: {e}") from e


def _remedy(url: str) -> str:
    return f"meta reload --url {url} --yes"


class RecordsFile:
    """Safe for threads. url: where this meta is told to read the file again."""

    def __init__(self, path: Path, editor: Editor, table: HostTable, url: str):
        self.path = path
        self._remedy = _remedy(url)
        self._waiting: Waiting | None = None
        self._others: RecordSet | None = None  # in force, and known not to be those that wait
        self._editor = editor
        self._table = table
        self._reading = threading.Lock()

    def start(self) -> None:
        """Put it in force; what a person must confirm waits for that. Raises MetaError."""
        with self._reading, self._refusals():
            loaded, reading = self._read()
            try:
                self._put_in_force(loaded, reading, "")
            except Unconfirmed as e:
                _tell_refusal(self.path, e)
                self._waiting = Waiting(ops_meta_format.as_ours(loaded.records), f"{self.path} is not in force: {e}")
                return
        _tell(self.path, loaded, reading)

    def waiting(self) -> str:
        """Why the file was not put in force at the start; "" when it was, or a later one, or when another meta has done so."""
        waiting, in_force = self._waiting, self._editor.in_force()
        if waiting is None:
            return ""
        if in_force is not self._others:
            if in_force.records == waiting.records:
                self._waiting = None
                return ""
            self._others = in_force
        return waiting.why

    def reload(self, seal: str = "") -> Reading:
        """seal: of what a person was shown and has confirmed. Raises MetaError, logs it and changes nothing when it is
        refused."""
        with self._reading, self._refusals():
            loaded, reading = self._read()
            self._put_in_force(loaded, reading, seal)
            self._waiting = None
        _tell(self.path, loaded, reading)
        return reading

    def would_do(self) -> Reading:
        """What a reload would do. Raises what would refuse it, but for what can be confirmed."""
        with self._reading:
            return self._read()[1]

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except MetaError as e:
            _tell_refusal(self.path, e)
            raise

    def _read(self) -> tuple[Loaded, Reading]:
        loaded, before = load(self.path), self._editor.in_force()
        preview = self._editor.preview(lambda records: operations.apply(records, loaded.records))
        affected = reach.affected(self._table, preview.after) if preview.changes else {}
        found, seal = removals.mass_removal(before, preview.after), _seal(before, preview.after)
        return loaded, Reading(loaded.as_data(), difference(preview.changes), affected, found, seal)

    def _put_in_force(self, loaded: Loaded, reading: Reading, seal: str) -> None:
        def change(before: RecordSet) -> RecordSet:
            after = operations.apply(before, loaded.records)
            if not seal:
                removals.require(before, after, self._remedy)
            elif seal != _seal(before, after):
                raise TryLater(f"what {self.path} changes is not what was confirmed any more: look at it again")
            return after

        if reading.removals and not seal:
            raise Unconfirmed(reading.removals, self._remedy)
        self._editor.apply(history.Edit(time.time(), "file", f"{self.path.name} was read", "apply"), change)


def _seal(before: RecordSet, after: RecordSet) -> str:
    both = [as_fields(before.records), as_fields(after.records)]
    return hashlib.sha256(msgspec.json.encode(both)).hexdigest()


def _tell_refusal(path: Path, error: MetaError) -> None:
    log.error("records of %s not reloaded, the former ones stay in force:", path)
    for line in str(error).splitlines():
        log.error("%s", line)


def _tell(path: Path, loaded: Loaded, reading: Reading) -> None:
    for warning in loaded.warnings:
        log.warning("%s", warning)
    for line in reading.difference[:LINES]:
        log.info("%s: %s", path, one_line(line, 1000))
    if len(reading.difference) > LINES:
        log.info("%s: and %d lines more", path, len(reading.difference) - LINES)
    touches = f", touches {touched(reading.affected) or 'no host'}" if reading.difference else ""
    log.info("records %s reloaded: %d agents%s", path, len(loaded.records), touches)
