"""What all of meta's routes share: the records in force, the hosts, and where the tarballs are.

The records are one frozen value that is swapped whole, so a heartbeat sees the old ones or the new ones. A reload that fails
leaves them as they were.
"""

import logging
import threading
from pathlib import Path

from meta import heartbeat
from meta.errors import RecordsError
from meta.hosts import HostTable
from meta.load import Loaded, load
from updater.wire import render_reply

log = logging.getLogger(__name__)


class Service:
    """Safe for threads. tarballs: the directory that is offered for download, or None."""

    def __init__(self, loaded: Loaded, hosts: HostTable, tarballs: Path | None = None):
        self.loaded = loaded
        self.hosts = hosts
        self.tarballs = tarballs
        self._reloading = threading.Lock()

    def answer(
        self, body: bytes, address: str, now: float, render: heartbeat.Render = render_reply
    ) -> heartbeat.Answer:
        """One heartbeat, by the records in force."""
        return heartbeat.answer(self.loaded.records, self.hosts, body, address, now, render)

    def reload(self) -> Loaded:
        """Read the records file again and put it in force; raises RecordsError and changes nothing when it is refused."""
        with self._reloading:
            try:
                loaded = load(Path(self.loaded.file))
            except RecordsError as e:
                log.error("records not reloaded, the former ones stay in force:")
                for line in str(e).splitlines():
                    log.error("%s", line)
                raise
            self.loaded = loaded
        for warning in loaded.warnings:
            log.warning("%s", warning)
        log.info("records %s reloaded: %d agents", loaded.file, len(loaded.records))
        return loaded
