"""The app table in force, in memory and on disk: a restart goes on with the last one.

Promises that what `save` returned True for is on the disk, and that a reader of the file sees a whole table.
"""

import logging
import threading
import time
from pathlib import Path

from meta.bridges.elves.app_table import AppTable, BadTable, parse_table, render_table
from meta.bridges.elves.rate_limited_log import RateLimitedLog, Reminder
from updater import durable_files
from updater.errors import TryLater

MAX_FILE = 64 << 20  # bytes
SAVE_EVERY = 2.0  # seconds between two tries
log = logging.getLogger(__name__)


class KeptTable:
    """Safe for threads. file: where it is kept, None: nowhere."""

    def __init__(self, file: Path | None = None):
        self._file = file
        self._saving = threading.Lock()
        self._unsaved = Reminder(log)
        self._limited_log = RateLimitedLog()
        self._next_try = 0.0
        self.table = self._load()  # None: there was never one
        self.is_saved = True

    def put(self, table: AppTable, by: str) -> bool:
        """From now on this one; whether it is on the disk. by: the service that brought it."""
        with self._saving:
            is_new = table != self.table
            if not is_new and self.is_saved:
                return True
            self.table = table
            self.is_saved = False
        if is_new:
            self._say(table, by)
        return self.save()

    def _say(self, table: AppTable, by: str) -> None:
        now, many = time.time(), len(table.entries)
        self._limited_log.say(log, now, "%s: the app table has %d entries", by, many, level=logging.INFO)
        if not many:
            text = "the app table is empty now: by it, every agent removes all its apps"
            self._limited_log.say(log, now, text)

    def save(self) -> bool:
        """Write what is not yet on the disk; whether all is there."""
        with self._saving:
            return self._save()

    def save_again(self, now: float) -> bool:
        """The same, but no more often than every two seconds. now: monotonic seconds."""
        with self._saving:
            return self.is_saved or (now >= self._next_try and self._save())

    def _save(self) -> bool:
        if self.is_saved or self._file is None or self.table is None:
            self.is_saved = True
            return True
        try:
            durable_files.make_directory(self._file.parent)
            data = render_table(self.table)
            durable_files.write_atomic(self._file, data, mode=0o600)  # it says what which host runs
        except TryLater as e:
            self._next_try = time.monotonic() + SAVE_EVERY
            text = "the app table is in force but cannot be kept in %s, trying again: %s"
            self._unsaved.say(text, self._file, e)
            return False
        self.is_saved = True
        if self._unsaved.is_on:
            self._unsaved.over()
            log.info("the app table is kept in %s again", self._file)
        return True

    def _load(self) -> AppTable | None:
        if self._file is None:
            return None
        try:
            with self._file.open("rb") as file:
                table = parse_table(file.read(MAX_FILE))
        except FileNotFoundError:
            return None
        except (OSError, BadTable) as e:
            log.error(
                "the app table in %s cannot be read, so there is none until a message brings it: %s", self._file, e
            )
            return None
        log.info("the app table in %s has %d entries", self._file, len(table.entries))
        return table
