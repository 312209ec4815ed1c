"""What the database of a company holds after years, and what that costs. Prints one JSON object; within a minute.

    .venv/bin/python -m bench.growth [--years 10] [--database postgresql://...]      # by default an SQLite file of its own

Assumed: 50 edits a day by people and their pipelines, each of a record that has three overrides, one of ten of a host's labels;
10,000 hosts with three agents, and 200 more each day that live for a day (retired after 30 days, forgotten after 90 more), each
enrolled with a token of its own, and labelled, those of a day by one edit, whose labels one more edit takes out when they are
forgotten; events: a beat row every second until it is folded, and the log of transactions.

A sample is made by meta's own store; the rest are copies of its rows with other numbers and names, made by the database.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import sqlalchemy as sa
from msgspec.structs import replace

from meta.access.tokens import HostTokens
from meta.records.history import Edit, committed
from meta.records.model import Override, Record, RecordSet, Release
from meta.records.selectors import Prefix
from meta.store import HostRow, Store

EDITS_A_DAY, SAMPLE = 50, 500
HOSTS, NEW_A_DAY, KEPT_DAYS, HOST_SAMPLE = 10_000, 200, 120, 1000
AGENTS = 30
LABELS = {"env": "staging", "rack": "r17"}
DAY = 86400.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=float, default=10)
    parser.add_argument("--database", help="An empty one.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        url = given.database or f"sqlite:///{directory}/meta.db"
        with closing(Store(url)) as store:
            print(json.dumps(measure(store, url, given.years), indent=2))


def measure(store: Store, url: str, years: float) -> dict[str, Any]:
    days = int(years * 365)
    store.upgrade()
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    found: dict[str, Any] = {"years": years, "edits": EDITS_A_DAY * days, "empty_MB": _size(engine)}
    last = _edits(store)
    _copy_edits(engine, last, EDITS_A_DAY * days)
    found["history_MB"] = _grown(engine, found)
    known = HOSTS + NEW_A_DAY * KEPT_DAYS
    _hosts(store, engine, known)
    found["hosts"] = known
    found["hosts_MB"] = _grown(engine, found)
    _labels(engine, known)
    found["labels"] = known
    found["labels_MB"] = _grown(engine, found)
    _history_of_labels(engine, days)
    found["changes_of_labels"] = 2 * NEW_A_DAY * days
    found["history_of_labels_MB"] = _grown(engine, found)
    enrolled = HOSTS + NEW_A_DAY * days
    _host_tokens(engine, enrolled, known)
    found["host_tokens"], found["host_tokens_in_force"] = enrolled, min(enrolled, known)
    found["host_tokens_MB"] = _grown(engine, found)
    found["all_MB"] = _size(engine)
    records = store.load_records()
    found["seconds"] = {
        "load records": _timed(store.load_records),
        "load hosts": _timed(lambda: sum(1 for _ in store.load_hosts())),
        "load tokens of hosts": _timed(lambda: HostTokens().renew(store.host_tokens(), 1, 0)),
        "history": _timed(lambda: store.revisions(limit=10)),
        "history of an agent": _timed(lambda: store.revisions("agent-7", limit=10)),
        "oldest of history": _timed(lambda: store.revisions(before=10, limit=10)),
        "an edit": _timed(lambda: _one_edit(store, records, 1)),
    }
    engine.dispose()
    return found


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 4)


def _record(number: int, version: int) -> Record:
    tries = tuple(Override(Prefix(f"{where}-"), Release(f"1.{version}.0")) for where in ("web", "db", "staging"))
    name = f"agent-{number}"
    return Record(
        name, Release(f"1.{version - 1}.0", sha256="0a" * 32), f"https://releases.example.com/{name}", overrides=tries
    )


def _edits(store: Store) -> int:
    """A sample, each of one record or of one host's labels; returns the last one's number."""
    records = RecordSet(records=tuple(_record(number, 1) for number in range(AGENTS)))
    made = store.commit(RecordSet(), records, Edit(1.6e9, "release-bot", "the first ones", "apply"))
    records = committed(records, made)
    for number in range(2, SAMPLE + 1):
        records = _one_edit(store, records, number)
    return records.revision


def _one_edit(store: Store, records: RecordSet, number: int) -> RecordSet:
    edit = Edit(1.6e9 + number * DAY / EDITS_A_DAY, "release-bot", "release 1.2.3, see the ticket OPS-1234", "set")
    if number % 10:
        at = number % AGENTS
        changed = (*records.records[:at], _record(at, number), *records.records[at + 1 :])
        after = replace(records, records=changed)
    else:
        after = replace(records, labels={**records.labels, f"web-{number}": {"env": "staging", "rack": f"r{number}"}})
    return committed(after, store.commit(records, after, edit))


def _copy_edits(engine: sa.Engine, last: int, wanted: int) -> None:
    with engine.begin() as connection:
        for start in range(last, wanted, last - 1):
            by, most = start - 1, min(last, wanted - start + 1)
            connection.exec_driver_sql(
                f"INSERT INTO revision (number, at, who, why, action, identity) SELECT number + {by}, at, who, why, action, "
                f"identity FROM revision WHERE number BETWEEN 2 AND {most}"
            )
            connection.exec_driver_sql(
                f'INSERT INTO change (revision, position, agent, kind, name, "before", "after") SELECT revision + {by}, '
                f'position, agent, kind, name, "before", "after" FROM change WHERE revision BETWEEN 2 AND {most}'
            )
        connection.exec_driver_sql(
            "UPDATE head SET revision = newest.number, revision_identity = newest.identity FROM "
            "(SELECT number, identity FROM revision ORDER BY number DESC LIMIT 1) AS newest"
        )


def _hosts(store: Store, engine: sa.Engine, wanted: int) -> None:
    """A sample, and what its beats leave."""
    agents = json.dumps([[f"agent-{number}", "1.2.0", "started", ""] for number in range(3)])
    rows = [
        HostRow(0, f"web-{number:05}.example", 1.6e9, 1.6e9, "10.1.2.3", "0.1.0", agents, "[1.0, 2]", "", 0.0)
        for number in range(HOST_SAMPLE)
    ]
    ids = list(store.save("growth", 1.6e9, rows, ()).values())
    for second in range(900):  # beats of lateAfter; older ones are folded
        store.save("growth", 1.6e9 + second, (), ids[second % 10 :: 300])
    columns = "first_seen, last_seen, address, updater_version, agents, since, outcomes, retired_at, serial, meta"
    with engine.begin() as connection:
        for part in range(1, wanted // HOST_SAMPLE):
            connection.exec_driver_sql(
                f"INSERT INTO host (hostname, {columns}) SELECT '{part}-' || hostname, {columns} FROM host WHERE id <= "
                f"{max(ids)}"
            )


def _labels(engine: sa.Engine, wanted: int) -> None:
    """Of the hosts that are known, and of no others: those of forgotten ones are gone with them."""
    body = json.dumps(LABELS)
    with engine.begin() as connection:
        insert = sa.text("INSERT INTO label (hostname, body, revision) VALUES (:name, :body, 1)")
        connection.execute(insert, [{"name": f"node-{n}.example", "body": body} for n in range(wanted)])


def _history_of_labels(engine: sa.Engine, days: int) -> None:
    """Each day's hosts are labelled, and those of an earlier day lose their labels: changes of the revisions that are there."""
    body = json.dumps(LABELS)
    with engine.begin() as connection:
        insert = sa.text(
            'INSERT INTO change (revision, position, agent, kind, name, "before", "after") VALUES (:revision, :position, '
            "'', 'labels', :name, :before, :after)"
        )
        for day in range(days):
            changes = [
                {
                    "revision": 2 + day * EDITS_A_DAY + is_out,
                    "position": 100 + n,
                    "name": f"node-{day * NEW_A_DAY + n}.example",
                    "before": body if is_out else None,
                    "after": None if is_out else body,
                }
                for is_out in (0, 1)
                for n in range(NEW_A_DAY)
            ]
            connection.execute(insert, changes)


def _host_tokens(engine: sa.Engine, wanted: int, in_force: int) -> None:
    """Of all that ever enrolled; those of forgotten hosts are blank."""
    with engine.begin() as connection:
        insert = sa.text("INSERT INTO host_token (hostname, hash, at, serial) VALUES (:name, :hash, 1.6e9, :serial)")
        for start in range(0, wanted, 10_000):
            numbers = range(start, min(start + 10_000, wanted))
            hashes = {n: n.to_bytes(32, "big") if n >= wanted - in_force else b"" for n in numbers}
            rows = [{"name": f"web-{n}.example", "hash": hashed, "serial": n + 1} for n, hashed in hashes.items()]
            connection.execute(insert, rows)


def _grown(engine: sa.Engine, found: dict[str, Any]) -> float:
    before: float = sum(value for key, value in found.items() if key.endswith("_MB"))
    return round(_size(engine) - before, 1)


def _size(engine: sa.Engine) -> float:
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            size = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
        else:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            size = pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    return round(float(size) / 1e6, 1)


if __name__ == "__main__":
    main()
