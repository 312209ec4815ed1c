"""What all requests share: hosts and records in memory, the store behind them, and the tokens.

The records in force are one frozen value that is replaced as a whole. So a heartbeat is answered by the old records or by the
new ones. They are kept in the store. If a records file manages them, it is applied to the store, and other edits are refused.
"""

import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from meta.access.clients import allows_anonymous, client_address
from meta.access.tokens import Tokens
from meta.artifacts import addresses
from meta.edits import reach
from meta.edits.editor import Done, Editor
from meta.edits.managed_file import Reading, RecordsFile
from meta.edits.unlabelling import Unlabelling
from meta.errors import TryLater
from meta.heartbeat.stats import Beats
from meta.hosts.standing import LAG
from meta.hosts.table import HostTable
from meta.process.clock import SYSTEM, Clock, SteadyClock
from meta.process.counts import Counts
from meta.queries import host_pages
from meta.records import history
from meta.records.capacity import Matched
from meta.records.files.load import Loaded
from meta.records.model import RecordSet
from meta.settings import Settings
from meta.store import Store
from meta.sync import retirement
from meta.sync.clocks import Clocks
from meta.sync.housekeeping import Lifetimes
from meta.sync.loop import Condition, Keeper
from updater.wire.text import counted

log = logging.getLogger(__name__)


class Service:
    """The state of this process, and the one place that connects its parts. Safe for threads.

    It is made empty; `start` fills it from the store. clock: the only one that this process uses.
    """

    def __init__(self, store: Store, settings: Settings, clock: Clock = SYSTEM):
        self.store = store
        self.settings = settings
        self.clock = SteadyClock(clock)
        self.table = HostTable(late_after=settings.late_after, max_hosts=settings.max_hosts)
        self.tokens = Tokens()
        self.host_tokens = self.tokens.hosts
        # New tokens and their hashes, by enrolment token and host, while it is unknown whether the database has them. A host
        # that asks again gets the same token; a new one would lock it out if the first was written.
        self.unanswered: dict[tuple[int, str], tuple[str, bytes]] = {}
        self.beats = Beats()
        self.counts = Counts()
        self.tell: Callable[[], None] = lambda: None  # called when records were put in force, by any thread
        self.editor = Editor(
            store, lambda: self.records, self.put_in_force, self.require_database, known_hosts=self.known_hosts
        )
        self.file = settings.records
        self.source = (
            RecordsFile(self.file, self.editor, self.table, settings.url, self.clock.now) if self.file else None
        )
        self.publishing = threading.Lock()  # held while a tarball and its entry in the records are changed together
        self.names = ("localhost", "127.0.0.1", "::1", socket.gethostname())  # of this machine
        own = addresses.authorities("", "", self.names, settings.port)
        self.root = addresses.Root(lambda: self.records, self._is_of_ops_meta, own)
        lifetimes = Lifetimes(settings.late_after, settings.retire_after, settings.forget_after)
        # Connections of its own: it must not wait while many edits use all others.
        self._keepers = store.apart()
        unlabel = Unlabelling(self.editor)
        self._keeper = Keeper(self.table, self._keepers, self.tokens, self.put_in_force, lifetimes, unlabel, self.clock)

    def start(self) -> None:
        """Fill the memory from the store, and start to write changes to it. Raises MetaError."""
        self._keeper.load(self.clock.now())
        if self.source:
            self.source.start()
        self._keeper.start()

    def close(self, timeout: float) -> bool:
        """Write everything to the store. Returns whether that worked within `timeout` seconds."""
        is_written = self._keeper.close(timeout)
        self._keepers.close()
        return is_written

    @property
    def records(self) -> RecordSet:
        """The records in force."""
        return self.table.classes.records

    def put_in_force(self, records: RecordSet, instead_of: RecordSet | None = None) -> None:
        """Put these records in force; see HostTable.activate."""
        self.table.activate(records, instead_of, self.clock.now)
        self.tell()

    def _is_of_ops_meta(self) -> bool:
        return self.source is not None and self.source.is_of_ops_meta

    def require_database(self) -> None:
        """Raises TryLater while the database is known not to answer, so that edits fail at once instead of waiting."""
        if self._keeper.refusing:
            raise TryLater(f"edits are not possible now: {self._keeper.refusing}")

    def behind(self) -> str:
        """Return why another meta may have newer records in force, or "". Reads the database."""
        if self._keeper.refusing:
            return self._keeper.refusing
        try:
            newest = self.store.head().revision
        except TryLater as e:
            return str(e)
        return f"revision {newest} is not in force here yet" if newest > self.records.revision else ""

    def set_aside(self, edit: history.Edit, hostnames: Sequence[str], retired: bool) -> Done:
        """Retire these hosts, or take them back: see meta.sync.retirement."""
        return retirement.set_aside(self.table, self.editor, self._keeper.meta, edit, hostnames, retired)

    def peer(self, environ: dict[str, Any]) -> tuple[str, bool]:
        """Return who sends this request: (address, whether a host there needs no token)."""
        settings = self.settings
        address = client_address(environ, settings.trusted_proxies) if settings.trusted_proxies else None
        if address is None:
            address = environ.get("REMOTE_ADDR") or ""
        return address, allows_anonymous(settings.anonymous_hosts, environ)

    def condition(self, now: float) -> Condition:
        return self._keeper.condition(now)

    def ready(self) -> list[str]:
        """Return why meta should get no edits now, or why hosts cannot take their orders; [] if all is well.

        Heartbeats are answered in any case.
        """
        condition = self.condition(self.clock.now())
        if condition.trouble:
            return [condition.trouble]
        late = [f"the database is {condition.lag:.0f} s behind"] if condition.lag > LAG else []
        waiting = self.source.waiting() if self.source else ""
        return [*late, *filter(None, [waiting]), *reach.overloaded(self.table)]

    def warnings(self) -> list[str]:
        """Return warnings for a person, which matter even while meta is ready."""
        return self._keeper.warnings(self.clock.now())

    @property
    def ages(self) -> host_pages.Ages:
        """The times that decide the state of a host now."""
        lag = LAG if self.store.may_be_shared else 0.0
        return host_pages.Ages(self.settings.new_for, self.settings.late_after, self.settings.lost_after, lag)

    @property
    def clocks(self) -> Clocks:
        return self._keeper.clocks

    def known_hosts(self, records: RecordSet) -> Mapping[Matched, int]:
        """Return the classes of all known hosts under these records, and how many hosts are in each."""
        return reach.classes_under(self.table, records)

    def reload(self, seal: str = "") -> Reading:
        """Read the records file again and put it in force. seal: see RecordsFile. Raises MetaError and then changes nothing."""
        if self.source:
            return self.source.reload(seal)
        log.info("records reloaded: %s", counted(len(self.records.records), "agent"))
        return self.would_reload()

    def would_reload(self) -> Reading:
        """Return what `reload` would do. Raises MetaError."""
        if self.source:
            return self.source.would_do()
        return Reading(Loaded("", self.records.records).as_data(), [], {}, [])
