"""The records file, if there is one: read at the start and at each reload, and applied as an edit by "file".

A file that cannot be read changes nothing, and a meta does not start with it. A file is also refused if it orders a banned
version or more than a host can take, or if it would remove most records and no person has confirmed that. A meta that starts
with such a file keeps the former records. If there are none yet, it applies any file that hosts can take.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from meta.edits import operations, reach
from meta.edits.diff import difference, touched
from meta.edits.editor import Editor
from meta.errors import EditRefused, MetaError, Misconfigured, TryLater, Unconfirmed
from meta.hosts.table import HostTable
from meta.records import capacity, history, removals
from meta.records.files import ops_meta_format
from meta.records.files.load import Loaded, load
from meta.records.model import Record, RecordSet, as_fields
from updater.wire.text import counted, one_line

LINES = 20  # of a difference in the log
MOST_LINES = 200  # of a difference in the answer to a reload by signal
log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """What a reload of the file did, or would do."""

    data: dict[str, Any]  # the records
    difference: list[str]  # lines of text
    affected: dict[str, int]  # agent -> how many hosts get another order
    removals: list[str]  # what a person must confirm
    seal: str = ""  # identifies the records before and after; a confirmation must name it

    def told(self) -> list[str]:
        """Lines for people: the difference, the affected hosts, and the number of agents."""
        lines = [one_line(line, 1000) for line in self.difference[:MOST_LINES]]
        if len(self.difference) > MOST_LINES:
            lines.append(f"... and {counted(len(self.difference) - MOST_LINES, 'more line')}")
        touches = [f"touches {touched(self.affected) or 'no host'}"] if self.difference else []
        return [*lines, *touches, counted(len(self.data["agents"]), "agent")]


class Waiting(NamedTuple):
    """Records that were not put in force at the start, and why."""

    records: tuple[Record, ...]
    why: str


def check(path: Path, before: RecordSet, url: str, known: capacity.KnownHosts = capacity.no_hosts) -> None:
    """Raise the MetaError with which a start or a reload would refuse the file.

    before: the records in force; url: as for RecordsFile; known: the hosts that must be able to take their orders.
    """
    loaded = load(path)
    try:
        after = operations.apply(before, loaded.records)
        capacity.require(before, after, known)
        removals.require(before, after, _remedy(url))
    except (EditRefused, Unconfirmed) as e:
        stay = ", and the former records would stay" if before.records else ""
        raise Misconfigured(f"{path} would not be put in force{stay}: {_in_one(e)}") from e


def _in_one(error: MetaError) -> str:
    return "; ".join(str(error).splitlines())


def _remedy(url: str) -> str:
    return f"meta reload --url {url} --yes"


class RecordsFile:
    """The records file of a meta. Safe for threads. url: of this meta, for the command in messages; now: Unix seconds."""

    def __init__(self, path: Path, editor: Editor, table: HostTable, url: str, now: Callable[[], float]):
        self.path = path
        self.is_of_ops_meta = False  # whether that which was read last is ops-meta's cfg.json
        self._now = now
        self._remedy = _remedy(url)
        self._waiting: Waiting | None = None
        self._others: RecordSet | None = None  # the records in force, already compared with those that wait
        self._editor = editor
        self._table = table
        self._reading = threading.Lock()

    def start(self) -> None:
        """Put the file in force; if it is refused, it waits, and the former records stay. Raises MetaError if it cannot be
        read, or if there are no former records."""
        with self._reading:
            loaded = load(self.path)
            self.is_of_ops_meta = loaded.settings is not None
            try:
                reading = self._would_do(loaded)
                self._put_in_force(loaded, reading, "")
            except (EditRefused, Unconfirmed) as e:
                if not self._editor.in_force().records:
                    raise Misconfigured(f"{self.path} cannot be put in force: {_in_one(e)}") from e
                _tell_refusal(self.path, e)
                why = f"{self.path} is not in force: {_in_one(e)}"
                self._waiting = Waiting(ops_meta_format.as_ours(loaded.records), why)
                return
        _tell(self.path, loaded, reading)

    def waiting(self) -> str:
        """Why the file was not put in force at the start; "" once it, or a later one, is in force."""
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
        """Read the file again and put it in force. seal: of the reading that a person has confirmed.

        Raises and logs MetaError if it is refused; then nothing has changed.
        """
        with self._reading, self._refusals():
            loaded = load(self.path)
            reading = self._would_do(loaded)
            self._put_in_force(loaded, reading, seal)
            self._waiting = None
            self.is_of_ops_meta = loaded.settings is not None
        _tell(self.path, loaded, reading)
        return reading

    def would_do(self) -> Reading:
        """What a reload would do. Raises MetaError if it would be refused even with a confirmation."""
        with self._reading:
            return self._would_do(load(self.path))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except MetaError as e:
            _tell_refusal(self.path, e)
            raise

    def _would_do(self, loaded: Loaded) -> Reading:
        before = self._editor.in_force()
        preview = self._editor.preview(lambda records: operations.apply(records, loaded.records))
        affected = reach.affected(self._table, preview.after) if preview.changes else {}
        found, seal = removals.mass_removal(before, preview.after), _seal(before, preview.after)
        return Reading(loaded.as_data(), difference(preview.changes), affected, found, seal)

    def _put_in_force(self, loaded: Loaded, reading: Reading, seal: str) -> None:
        def change(before: RecordSet) -> RecordSet:
            after = operations.apply(before, loaded.records)
            if not seal:
                removals.require(before, after, self._remedy)
            elif seal != _seal(before, after):
                raise TryLater(f"{self.path} or the records changed since you confirmed: review it again")
            return after

        if reading.removals and not seal:
            raise Unconfirmed(reading.removals, self._remedy)
        self._editor.apply(history.Edit(self._now(), "file", f"{self.path.name} was read", "apply"), change)


def _seal(before: RecordSet, after: RecordSet) -> str:
    both = [as_fields(before.records), as_fields(after.records)]
    return hashlib.sha256(msgspec.json.encode(both)).hexdigest()


def _tell_refusal(path: Path, error: MetaError) -> None:
    log.error("records of %s not reloaded; the former ones stay in force:", path)
    for line in str(error).splitlines():
        log.error("%s", line)


def _tell(path: Path, loaded: Loaded, reading: Reading) -> None:
    for warning in loaded.warnings:
        log.warning("%s", warning)
    for line in reading.difference[:LINES]:
        log.info("%s: %s", path, one_line(line, 1000))
    if len(reading.difference) > LINES:
        log.info("%s: and %s", path, counted(len(reading.difference) - LINES, "more line"))
    touches = f", touches {touched(reading.affected) or 'no host'}" if reading.difference else ""
    log.info("records %s reloaded: %s%s", path, counted(len(loaded.records), "agent"), touches)
