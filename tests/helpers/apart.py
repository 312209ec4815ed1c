"""Records as they were before ADR 19, when versions and digests merged field by field: what they meant, and how to write them
into a database of that time."""

import json

from alembic import command
from alembic.config import Config
from hypothesis import strategies as st

from helpers.databases import connected
from helpers.record_sets import BASES, COMMANDS, SELECTORS, VERSIONS
from meta.records.selectors import selector_fields, selector_of
from meta.store.migrate import MIGRATIONS

PLAIN = ("tarball", "cmd")
RELEASE = ("version", "md5", "sha256")
MD5S = st.sampled_from(["", "0" * 32, "a" * 32, "http://sums", "http://other"])
SHA256S = st.sampled_from(["", "a" * 64, "b" * 64])
FIELDS = {"version": VERSIONS, "md5": MD5S, "sha256": SHA256S, "tarball": BASES, "cmd": COMMANDS}


@st.composite
def overrides(draw, selectors=SELECTORS):
    fields = draw(st.fixed_dictionaries({}, optional=FIELDS).filter(bool))
    return selector_fields(draw(selectors)) | fields


def records(name, selectors=SELECTORS):
    """A record in the form of a records file."""
    listed = st.lists(overrides(selectors), max_size=5)
    return st.fixed_dictionaries({"name": st.just(name), **FIELDS, "overrides": listed})


def merged(fields, hostname, labels):
    """What this host was told, by key."""
    there = [fields, *(one for one in fields["overrides"] if selector_of(one).matches(hostname, labels))]
    return {key: next((place[key] for place in reversed(there) if key in place), "") for key in (*RELEASE, *PLAIN)}


def migrate(url, to):
    """Make the tables of this revision."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with connected(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def write(url, history, hosts=(), labels=()):
    """Fill tables of 0004 with these edits: each is {name: fields, or None for a record that goes}, and makes a revision.
    labels: [{hostname: labels}, ...], each a revision after them, of which the last is in force."""
    with connected(url) as connection:

        def insert(table, **values):
            names = ", ".join(f'"{key}"' for key in values)
            connection.exec_driver_sql(
                f"INSERT INTO {table} ({names}) VALUES ({', '.join(map(_literal, values.values()))})".replace("%", "%%")
            )

        def change(number, kind, name, before, after):
            before, after = (None if one is None else json.dumps(one) for one in (before, after))
            agent = name if kind == "record" else ""
            insert(
                "change",
                revision=number,
                position=len(made),
                agent=agent,
                kind=kind,
                name=name,
                before=before,
                after=after,
            )
            made.append(name)

        now, labelled, number = {}, {}, 0
        for kind, edits in [*(("record", one) for one in history), *(("labels", one) for one in labels)]:
            number, made = number + 1, []
            insert("revision", number=number, at=1.0, who="ann", why="", action="set", identity=f"i{number}")
            there = now if kind == "record" else labelled
            for name, data in edits.items():
                change(number, kind, name, there.get(name), data)
                there[name] = data
        for position, (name, fields) in enumerate((name, fields) for name, fields in now.items() if fields):
            insert("record", name=name, position=position, body=json.dumps(fields), revision=number)
        for hostname, its in labelled.items():
            if its:
                insert("label", hostname=hostname, body=json.dumps(its), revision=number)
        blank = dict.fromkeys(("address", "updater_version", "outcomes", "meta"), "") | {
            "agents": "[]",
            "since": "[1,0]",
        }
        for hostname in hosts:
            insert("host", hostname=hostname, first_seen=1.0, last_seen=1.0, retired_at=0.0, serial=0, **blank)
        connection.exec_driver_sql(f"UPDATE head SET revision = {number}, revision_identity = 'i{number}'")
    return number


def _literal(value):
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int | float) else "'" + value.replace("'", "''") + "'"
