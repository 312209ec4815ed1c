"""The part of a meta that keeps memory and database together, without its thread, and several of them on one database."""

from contextlib import ExitStack, closing

from msgspec.structs import replace

from helpers.databases import copied
from meta.access.tokens import Token, Tokens, mint
from meta.edits.editor import Editor
from meta.edits.operations import set_labels
from meta.edits.unlabelling import Unlabelling
from meta.errors import TryLater
from meta.hosts.table import HostTable
from meta.records.history import Edit
from meta.records.model import Record, RecordSet, Release
from meta.store import Store
from meta.sync.housekeeping import Lifetimes
from meta.sync.loop import Keeper
from meta.sync.retirement import set_aside
from meta.sync.rows import known as row_of
from updater.wire.heartbeat import Report

NOW = 1_000_000.0


class Sometimes:
    """A store whose database is away when somebody says so."""

    def __init__(self, store):
        self._store = store
        self.is_away = False

    def __getattr__(self, name):
        if self.is_away:
            raise TryLater("the database is away")
        return getattr(self._store, name)


class Meta:
    """The part of a meta that this is about, without its thread."""

    def __init__(self, url, now=NOW, **lifetimes):
        self.url, self.store = url, Store(url)
        self.database = Sometimes(self.store)
        times = Lifetimes(**lifetimes)
        self.table = HostTable(late_after=times.late_after)
        self.tokens = Tokens()
        self.editor = Editor(self.database, self.in_force, self.table.activate, self._require_database)
        unlabel = Unlabelling(self.editor)
        self.keeper = Keeper(self.table, self.database, self.tokens, self.table.activate, times, unlabel)
        self.keeper.load(now)

    def _require_database(self):
        if self.keeper.refusing:
            raise TryLater(self.keeper.refusing)

    def beat(self, name, *agents, now=NOW, **more):
        self.table.beat(Report(name, list(agents), **more), "10.0.0.1", now)

    def set_aside(self, name, at, is_retired):
        """What somebody orders here; returns what changed."""
        edit = Edit(at, "ann", "", "retire")
        return set_aside(self.table, self.editor, self.keeper.meta, edit, [name], is_retired).changes

    def edit(self, version):
        """An edit made here."""
        after = RecordSet(records=(Record("a", Release(version), "http://r"),))
        self.editor.apply(Edit(NOW, "ann", "", "set"), lambda before: replace(before, records=after.records))

    def label(self, name, **labels):
        self.editor.apply(Edit(NOW, "ann", "", "label"), lambda before: set_labels(before, name, labels))

    # --- tokens, as the API makes them ---

    def add_token(self, name="ann", **fields):
        kind = fields.setdefault("kind", "operator")
        epoch, hashed = self.tokens.epoch, mint(kind)[1]
        made = self.store.add_token(Token(0, name=name, hash=hashed, created=NOW, **fields), epoch=epoch)
        self.tokens.take(*made, epoch)
        return made.token

    def revoke_token(self, token):
        epoch = self.tokens.epoch
        self.tokens.take(*self.store.revoke_token(token.id, NOW, epoch=epoch), epoch)

    def enrol(self, token, host):
        epoch, (text, hashed) = self.tokens.hosts.epoch, mint("host")
        written = self.store.use_enrolment(token.id, host, hashed, NOW, epoch)
        self.tokens.hosts.update([(host, hashed, written.serial)], epoch=epoch)
        return text

    def take_back(self, host):
        epoch = self.tokens.hosts.epoch
        self.tokens.hosts.update([(host, b"", self.store.revoke_host_token(host, NOW, epoch=epoch))], epoch=epoch)

    def refusing(self):
        """Why nothing can be ordered here now."""
        return self.keeper.refusing

    def in_force(self):
        return self.table.classes.records

    def hosts(self):
        """What both metas and the database must agree on."""
        rows = [row_of(self.table, name) for name in self.table.names()]
        return {row.hostname: row._replace(first_seen=0.0, last_seen=0.0, since="") for row in rows}

    def last_seen(self):
        return {name: self.table.get(name).last_seen for name in self.table.names()}

    def close(self):
        self.keeper.close(10)
        self.store.close()


def settle(*metas, now=NOW):
    """Rounds in turns until nobody has anything to say; not many, or they would never end."""
    for number in range(8):
        for meta in metas:
            meta.keeper.step(now + number / 10)
            assert meta.keeper.condition(now).trouble == ""
    assert [meta.table.waiting for meta in metas] == [0] * len(metas)


def restarted(url, now=NOW):
    with closing(Meta(url, now)) as meta:
        return meta.hosts()


def held(url, now=NOW):
    """What a meta would know that starts now: records, tokens, hosts' tokens, hosts."""
    with closing(Meta(url, now)) as meta:
        return known(meta)


def known(meta):
    hosts = {name: row._replace(id=0) for name, row in meta.hosts().items()}
    return meta.in_force(), meta.tokens.all(), meta.tokens.hosts._hashes, hosts


class Standby:
    """Standbys of one database, each of which hears no more of its primary from the moment that it is made."""

    def __init__(self, url, directory):
        self._url, self._directory, self._stack = url, directory, ExitStack()

    def copy(self, *metas):
        """All metas of the database are to be named; their connections end. Calling what is returned is the failover."""
        _hang_up(metas)
        take_over = self._stack.enter_context(copied(self._url, self._directory))

        def fail_over():
            _hang_up(metas)
            take_over()

        return fail_over

    def close(self):
        self._stack.close()


def _hang_up(metas):
    for meta in metas:
        meta.store.close()
