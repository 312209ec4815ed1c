"""Writes changed hosts down behind the heartbeats' back: at most a second late, and everything when it is closed.

A database that fails costs nothing but lateness: the hosts stay marked as changed and are tried again, ever less often, up
to RETRY_AT_MOST seconds. The log tells when it starts to fail and when it works again, not each try.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from meta.errors import MetaError
from meta.hosts import Host, HostTable

GATHER = 0.5  # seconds in which further changes join the same transaction
RETRY_AT_MOST = 30.0
log = logging.getLogger(__name__)


class Flusher:
    """One thread between a HostTable and `save`, which raises MetaError when it cannot. Idle, it waits and uses nothing."""

    def __init__(self, hosts: HostTable, save: Callable[[Sequence[Host]], None], gather: float = GATHER):
        self._hosts = hosts
        self._gather = gather
        self._save = save
        self._closing = threading.Event()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout: float) -> bool:
        """Write what is left, and stop. Returns whether everything was written within `timeout` seconds."""
        self._closing.set()
        self._hosts.changed.set()
        self._thread.join(timeout)
        return not self._thread.is_alive() and not self._failures

    def _run(self) -> None:
        while not self._closing.is_set():
            self._hosts.changed.wait()
            self._closing.wait(self._delay())
            self._flush()
        self._flush()

    def _delay(self) -> float:
        return min(self._gather * (1 << self._failures), RETRY_AT_MOST)

    def _flush(self) -> None:
        hosts = self._hosts.take_changed()
        if not hosts:
            return
        try:
            self._save(hosts)
        except MetaError as e:
            self._failed(hosts, str(e))
        except Exception as e:
            log.exception("cannot write hosts")
            self._failed(hosts, type(e).__name__)
        else:
            if self._failures:
                log.warning("the database works again; %d hosts written", len(hosts))
            self._failures = 0

    def _failed(self, hosts: Sequence[Host], why: str) -> None:
        self._hosts.give_back(hosts)
        if not self._failures:
            log.error("cannot write hosts, will go on trying: %s", why)
        self._failures = min(self._failures + 1, 16)
