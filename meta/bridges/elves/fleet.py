"""What the bridge needs of meta, and the one place that knows how meta gives it.

A Fleet remembers hosts and resolves records; any exception of it becomes a Thrift exception, by which an agent changes nothing.
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

FLUSH_WITHIN = 5.0  # seconds for the last write


class Fleet(Protocol):
    """Safe for threads."""

    def beat(self, report: Report, address: str, now: float) -> tuple[Desired, ...]:
        """Remember the host, and return what it shall run."""

    def resolve(self, hostname: str) -> tuple[Desired, ...]:
        """What it shall run; remembers nothing."""

    def withheld(self, hostname: str) -> frozenset[str]:
        """Agents that have a record but no order now, since their version is banned: a host keeps what it has of them."""


class TableFleet:
    """A Fleet over meta's table of hosts and the records in force there."""

    def __init__(self, table: HostTable):
        self._table = table

    def beat(self, report: Report, address: str, now: float) -> tuple[Desired, ...]:
        return self._table.beat(report, address, now).desired

    def resolve(self, hostname: str) -> tuple[Desired, ...]:
        return self._table.classes.of(hostname).desired

    def withheld(self, hostname: str) -> frozenset[str]:
        classes = self._table.classes
        ordered = {desired.name for desired in classes.of(hostname).desired}
        return frozenset(record.name for record in classes.records.records if record.name not in ordered)


class ServiceFleet(TableFleet):
    """A Fleet over a whole meta."""

    def __init__(self, service: Service):
        super().__init__(service.table)
        self._service = service

    def reload(self) -> str:
        """Read the records file again; returns what that changed, in lines. Raises MetaError, logs it and changes nothing where
        it is refused."""
        return "\n".join(self._service.reload().told())


@contextmanager
def opened(settings: Settings) -> Iterator[ServiceFleet]:
    """A meta of our own on this database, beside those that serve hosts there; its last changes are written at the end.
    Raises Misconfigured or TryLater when it cannot begin."""
    with closing(Store(settings.database)) as store:
        store.upgrade()
        service = Service(store, settings)
        service.start()
        try:
            yield ServiceFleet(service)
        finally:
            if not service.close(FLUSH_WITHIN):
                raise TryLater("the last changes of some hosts could not be written; their next beats tell them again")
