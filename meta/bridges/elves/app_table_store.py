"""The app table in force, in memory and in a file, so that it survives a restart.

The file always has a complete table. Once `save` has returned True, the table in force is on the disk.
"""

import logging
import threading
import time
from pathlib import Path

from meta.bridges.elves.app_table import AppTable, BadTable, parse_table, render_table
from meta.bridges.elves.rate_limited_log import RateLimitedLog, Reminder
from updater import durable_files
from updater.errors import TryLater
from updater.wire.text import counted

MAX_FILE = 64 << 20  # bytes
SAVE_EVERY = 2.0  # seconds between two attempts to write the file
log = logging.getLogger(__name__)


class KeptTable:
    """The app table. Safe for threads. file: where it is stored; None: only in memory."""

    def __init__(self, file: Path | None = None):
        self._file = file
        self._saving = threading.Lock()
        self._unsaved = Reminder(log)
        self._limited_log = RateLimitedLog()
        self._next_try = 0.0
        self.table = self._load()  # None: no table has arrived yet
        self.is_saved = True

    def put(self, table: AppTable, by: str) -> bool:
        """Put a table in force. Returns whether it is on the disk. by: the service that sent it."""
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
        many = len(table.entries)
        self._limited_log.say(
            log, "%s: the app table has %s", by, counted(many, "entry", "entries"), level=logging.INFO
        )
        if not many:
            text = "the app table is empty now: every agent will remove all its apps"
            self._limited_log.say(log, text)

    def save(self) -> bool:
        """Write the table if it is not on the disk yet. Returns whether it is now."""
        with self._saving:
            return self._save()

    def save_again(self, now: float) -> bool:
        """Do the same, but not within SAVE_EVERY seconds after a failure. now: monotonic seconds."""
        with self._saving:
            return self.is_saved or (now >= self._next_try and self._save())

    def _save(self) -> bool:
        if self.is_saved or self._file is None or self.table is None:
            self.is_saved = True
            return True
        try:
            durable_files.make_directory(self._file.parent)
            data = render_table(self.table)
            durable_files.write_atomic(self._file, data, mode=0o600)  # others must not read which host runs what
        except TryLater as e:
            self._next_try = time.monotonic() + SAVE_EVERY
            text = "the app table is in force but cannot be written to %s, trying again: %s"
            self._unsaved.say(text, self._file, e)
            return False
        self.is_saved = True
        if self._unsaved.is_on:
            self._unsaved.over()
            log.info("the app table is written to %s again", self._file)
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
            log.error("the app table in %s cannot be read, so there is none until one arrives: %s", self._file, e)
            return None
        log.info("the app table in %s has %s", self._file, counted(len(table.entries), "entry", "entries"))
        return table
