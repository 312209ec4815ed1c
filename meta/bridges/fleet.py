"""The part of meta that a bridge uses, as an interface and its implementations.

A Fleet stores reports of hosts, and returns their desired state. If it raises anything, the bridge must refuse the heartbeat,
so that the agent changes nothing.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from meta.errors import TryLater
from meta.hosts.table import HostTable
from meta.service import Service
from meta.settings import Settings
from meta.store import Store
from updater.wire.heartbeat import Desired, Report

FLUSH_WITHIN = 5.0  # seconds for the last write to the database


class Fleet(Protocol):
    """What a bridge needs of meta. Safe for threads."""

    def beat(self, report: Report, address: str, now: float) -> tuple[Desired, ...]:
        """Store the report, and return the desired state of its host."""

    def resolve(self, hostname: str) -> tuple[Desired, ...]:
        """Return the desired state of a host. Stores nothing."""

    def withheld(self, hostname: str) -> frozenset[str]:
        """Return agents that have a record but no order, because their version is banned. Hosts keep what they have of them."""


class TableFleet:
    """A Fleet that uses a table of hosts, and the records in force there."""

    def __init__(self, table: HostTable):
        self._table = table

    def beat(self, report: Report, address: str, now: float) -> tuple[Desired, ...]:
        return self._table.beat(report, address, now).desired

    def resolve(self, hostname: str) -> tuple[Desired, ...]:
        return self._table.classes.of(hostname).desired

    def withheld(self, hostname: str) -> frozenset[str]:
        return self._table.classes.of(hostname).withheld


class ServiceFleet(TableFleet):
    """A Fleet that uses a meta with a database."""

    def __init__(self, service: Service):
        super().__init__(service.table)
        self._service = service
        self.now = service.clock.now  # Unix seconds; the only clock of the process

    def reload(self) -> str:
        """Read the records file again. Returns what that changed, in lines. Raises MetaError, and then changes nothing."""
        return "\n".join(self._service.reload().told())


@contextmanager
def opened(settings: Settings) -> Iterator[ServiceFleet]:
    """Open a meta on this database, which other metas may use at the same time. It writes its last changes at the end.

    Raises Misconfigured or TryLater if it cannot start, and TryLater if the last changes could not be written.
    """
    with closing(Store(settings.database)) as store:
        store.upgrade()
        service = Service(store, settings)
        service.start()
        try:
            yield ServiceFleet(service)
        finally:
            if not service.close(FLUSH_WITHIN):
                raise TryLater(
                    "the last changes of some hosts could not be written; their next heartbeats report them again"
                )
