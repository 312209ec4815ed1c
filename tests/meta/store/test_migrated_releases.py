"""Migration 0005, in which a version and its digests become one value: no known host gets another answer, unless a person says
so. The same tests for every kind of database."""

import json
import shlex
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.apart import merged, migrate, records, write
from helpers.databases import KINDS, NEWEST, connected, database, execute
from helpers.meta_server import meta
from helpers.record_sets import HOSTNAMES, LABELS
from meta.edits import operations
from meta.errors import TryLater
from meta.records.history import Edit
from meta.records.model import from_fields, resolve_one
from meta.store import Store, Tables, Undecided

OLD, NEW, SUM = "a" * 32, "b" * 32, "c" * 64
HISTORIES = st.lists(
    st.sampled_from("ab").flatmap(lambda name: st.fixed_dictionaries({name: records(name) | st.none()})), max_size=4
)
LABELLINGS = st.lists(st.dictionaries(HOSTNAMES, LABELS, min_size=1, max_size=3), max_size=2)


def stored(url, table="agent_record"):
    """[(agent, fields, whether they are in force)] of all records in the database, in a certain order."""
    in_force = f"SELECT name, body FROM {table} ORDER BY name"
    past = "SELECT name, before, \"after\" FROM change WHERE kind = 'record' ORDER BY revision, position"
    found = [(name, text, True) for name, text in execute(url, in_force)]
    found += [(name, text, False) for name, *texts in execute(url, past) for text in texts if text]
    return [(name, json.loads(text), is_in_force) for name, text, is_in_force in found]


def told(fields, hostname, labels):
    resolved = resolve_one(from_fields(fields), lambda selector: selector.matches(hostname, labels))
    return {key: resolved[key] for key in ("version", "md5", "sha256", "tarball", "cmd")}


def changed(before, after, hosts, labellings):
    """The agents of which a host has another answer: of records in force with the labels it has, of former ones with any."""
    now = {name: labels for edits in labellings for name, labels in edits.items()}
    ever = [(name, labels) for edits in labellings for name, labels in edits.items()]
    known = {*hosts, *now}
    fleet = [(name, now.get(name, {})) for name in known]
    past = [*fleet, *((name, labels) for name, labels in ever), *((name, {}) for name in now)]
    return {
        name
        for (name, old, is_in_force), (_, new, _) in zip(before, after, strict=True)
        for hostname, labels in (fleet if is_in_force else past)
        if merged(old, hostname, labels) != told(new, hostname, labels)
    }


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=HISTORIES, labels=LABELLINGS, hosts=st.sets(HOSTNAMES, max_size=5))
def test_every_known_host_keeps_its_answer_from_every_record_or_it_is_listed(kind, history, labels, hosts):
    with tempfile.TemporaryDirectory() as directory, database(kind, Path(directory)) as url:
        migrate(url, "0004")
        write(url, history, hosts, labels)
        before = stored(url, "record")
        with closing(Store(url)) as store:
            found = store.findings()
            if found.answers:
                with pytest.raises(Undecided):
                    store.upgrade()
                assert stored(url, "record") == before
            assert store.upgrade(found.seal) == NEWEST
            after = stored(url)
            assert changed(before, after, hosts, labels) == {line.partition(",")[0] for line in found.answers}
            assert sorted(one.name for one in store.load_records().records) == [name for name, _, now in after if now]


# --- by example ---

PLAIN = {"name": "a", "version": "1", "md5": OLD, "tarball": "http://r", "cmd": "start"}
PREFIXED = PLAIN | {"overrides": [{"prefix": "w", "version": "1"}, {"prefix": "w1", "md5": NEW}]}
CROSSING = PLAIN | {"overrides": [{"label": "env=live", "version": "2", "md5": NEW}, {"prefix": "w", "version": "3"}]}
FLEET = ("w1", "w2", "x")
LIVE = [{"w1": {"env": "live"}, "x": {"env": "live"}}]


@pytest.fixture
def apart(url):
    """A database of 0004, and a function that fills it."""
    migrate(url, "0004")
    return lambda *history, labels=(): write(url, history, FLEET, labels)


def test_records_and_their_history_are_written_in_the_new_form(url, apart):
    apart({"a": PLAIN}, {"a": PREFIXED})
    with closing(Store(url)) as store:
        assert (store.check(), store.findings().answers) == (Tables.OLDER, [])
        [note] = store.findings().notes
        assert note.startswith("a [prefix w1]: names version 1 from now on")
        store.upgrade()
        whole = [{"prefix": "w", "version": "1", "md5": OLD}, {"prefix": "w1", "version": "1", "md5": NEW}]
        assert store.load_records().records == (from_fields(PREFIXED | {"overrides": whole}),)
        assert [change.after for one in store.revisions_since(0) for change in one.changes] == [
            PLAIN,
            PREFIXED | {"overrides": whole},
        ]
        assert store.findings() == ([], [])


def test_records_of_before_can_be_rolled_back_to(url, apart):
    apart({"a": PLAIN}, {"a": PREFIXED}, {"a": PLAIN | {"version": "4", "md5": NEW}})
    with closing(Store(url)) as store:
        store.upgrade()
        now = store.load_records()
        after = operations.rollback(now, store.revisions_since(2)[::-1])
        store.commit(now, after, Edit(2.0, "ann", "", "rollback"))
        [record] = store.load_records().records
        for hostname in FLEET:
            resolved = resolve_one(record, lambda selector, host=hostname: selector.matches(host, {}))
            assert {key: resolved[key] for key in PLAIN.keys() - {"name"}} == {
                key: value for key, value in merged(PREFIXED, hostname, {}).items() if key in PLAIN
            }


def test_the_history_cannot_be_changed_afterwards_either(url, apart):
    apart({"a": PREFIXED})
    with closing(Store(url)) as store:
        store.upgrade()
    for statement in ("UPDATE change SET name = 'b'", "DELETE FROM change"):
        with pytest.raises(sa.exc.DBAPIError, match="only ever added"):
            execute(url, statement)


def test_a_meta_of_before_can_neither_read_nor_write_records(url, apart):
    """It would read them by the rules of before; so it goes on with those that it has."""
    apart({"a": PLAIN})
    with closing(Store(url)) as store:
        store.upgrade()
    for statement in (
        "SELECT name, position, body, revision FROM record",
        "INSERT INTO record (name, position, body, revision) VALUES ('b', 1, '{}', 2)",
        "DELETE FROM record WHERE name = 'a'",
    ):
        with pytest.raises(sa.exc.DBAPIError, match="record"):
            execute(url, statement)


def test_an_answer_that_cannot_be_kept_stops_the_upgrade_until_a_person_accepts_it(url, apart):
    """w1 has the label and the prefix: its version 3 had the digest of version 2. No selector selects just such hosts."""
    apart({"a": CROSSING}, labels=LIVE)
    with closing(Store(url)) as store:
        with pytest.raises(Undecided) as stopped:
            store.upgrade()
        [answer] = stopped.value.found.answers
        assert answer == (
            "a, in force: host w1, which [label env=live] and [prefix w] select: "
            f"now version 3 with md5 {NEW}, then version 3 with md5 {OLD}"
        )
        assert answer in str(stopped.value)
        assert f"`meta db upgrade --accept {stopped.value.found.seal}" in str(stopped.value)
        with pytest.raises(TryLater):
            store.load_records()  # nothing was migrated
        with pytest.raises(Undecided):
            store.upgrade("0" * 12)
        assert store.upgrade(stopped.value.found.seal) == NEWEST


def test_what_no_known_host_has_stops_nothing(url, apart):
    apart({"a": CROSSING}, labels=[{"x": {"env": "live"}}])
    with closing(Store(url)) as store:
        assert store.findings().answers == []
        assert store.upgrade() == NEWEST


def test_a_former_record_counts_with_the_labels_of_then(url, apart):
    apart({"a": CROSSING}, {"a": PLAIN}, labels=[*LIVE, {"w1": None}])
    with closing(Store(url)) as store:
        assert [line.partition(": host")[0] for line in store.findings().answers] == ["a, in revision 1"]


@pytest.mark.long
@pytest.mark.parametrize("work", [Store.findings, Store.upgrade])
def test_a_long_history_is_translated_however_soon_the_server_ends_idle_transactions(tmp_path, work):
    """Between two statements much is computed; then PostgreSQL may find that the transaction is idle."""
    racks = [{"label": f"rack={number}", "md5": NEW} for number in range(400)]
    with database("postgresql", tmp_path) as url:
        migrate(url, "0004")
        write(url, [{"a": PLAIN | {"version": str(version), "overrides": racks}} for version in range(5)])
        with closing(Store(f"{url}?options=-cidle_in_transaction_session_timeout%3D200ms")) as store:
            began = time.monotonic()
            work(store)
            assert time.monotonic() - began > 0.4  # or this tests nothing
            store.upgrade()
            assert len(store.revisions_since(0)) == 5


@pytest.mark.long
def test_a_person_looks_and_decides_by_command(tmp_path):
    url = f"sqlite:///{tmp_path}/its records.db"
    migrate(url, "0004")
    write(url, [{"a": CROSSING}], FLEET, LIVE)
    checked = meta("db", "upgrade", "--check", directory=tmp_path, META_DATABASE=url)
    assert checked.returncode == 2
    assert checked.stdout.startswith(
        "a, in force: host w1, which [label env=live] and [prefix w] select: now version 3"
    )
    command = shown_command(checked.stderr)
    served = meta("serve", "--listen", "127.0.0.1:0", directory=tmp_path, META_DATABASE=url)
    assert (served.returncode, command in served.stderr) == (2, True)
    assert meta("db", "upgrade", directory=tmp_path, META_DATABASE=url).returncode == 2
    accepted = meta(*shlex.split(command)[1:], directory=tmp_path)
    assert (accepted.returncode, accepted.stdout) == (0, f"{url} is at revision {NEWEST}\n")
    again = meta("db", "upgrade", "--check", directory=tmp_path, META_DATABASE=url)
    assert (again.returncode, again.stdout) == (0, f"{url} needs no upgrade\n")
    with connected(url) as connection:
        assert sa.inspect(connection).has_table("agent_record")


@pytest.mark.long
def test_the_command_that_accepts_works_for_a_database_with_a_password(tmp_path):
    with database("postgresql", tmp_path) as url:
        migrate(url, "0004")
        write(url, [{"a": CROSSING}], FLEET, LIVE)
        secret = sa.make_url(url).set(password="secret").render_as_string(hide_password=False)
        checked = meta("db", "upgrade", "--check", directory=tmp_path, META_DATABASE=secret)
        assert (checked.returncode, "secret" in checked.stderr) == (2, False)
        assert "with META_DATABASE set to the URL of the database" in checked.stderr
        accepted = meta(*shlex.split(shown_command(checked.stderr))[1:], directory=tmp_path, META_DATABASE=secret)
        assert (accepted.returncode, f"is at revision {NEWEST}" in accepted.stdout) == (0, True)


def shown_command(text):
    [command] = [words for words in text.split("`") if "--accept" in words]
    return command
