"""Creates records with their history, tokens, and heartbeat batches. Hosts get ids, and keep all their data."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

STAY = {  # a revision and its changes are only ever added
    "sqlite": """
        CREATE TRIGGER {table}_{verb} BEFORE {verb} ON "{table}"
        BEGIN SELECT RAISE(ABORT, 'revisions are only ever added'); END
    """,
    "postgresql": """
        CREATE TRIGGER {table}_{verb} BEFORE {verb} ON "{table}"
        FOR EACH STATEMENT EXECUTE FUNCTION revisions_stay()
    """,
}
BATCH = 1000
REFUSE = """
    CREATE FUNCTION revisions_stay() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'revisions are only ever added'; END $$
"""
log = logging.getLogger(__name__)


def upgrade() -> None:
    _make_head()
    _make_records()
    _make_history()
    _make_tokens()
    _rebuild_hosts()


def _make_head() -> None:
    op.create_table(
        "head",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("hosts", sa.BigInteger, nullable=False),
        sa.Column("folded", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO head (id, revision, tokens, hosts, folded) VALUES (1, 0, 0, 0, 0)")


def _make_records() -> None:
    op.create_table(
        "record",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_table(
        "ban",
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_table(
        "label",
        sa.Column("hostname", sa.Text, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )


def _make_history() -> None:
    op.create_table(
        "revision",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
    )
    op.create_table(
        "change",
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("agent", sa.Text, nullable=False, index=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
    )
    dialect = op.get_bind().dialect.name
    if dialect == "postgresql":
        op.execute(REFUSE)
    verbs = ("UPDATE", "DELETE") if dialect == "sqlite" else ("UPDATE", "DELETE", "TRUNCATE")
    for table in ("revision", "change"):
        for verb in verbs:
            op.execute(STAY[dialect].format(table=table, verb=verb))


def _make_tokens() -> None:
    op.create_table(
        "token",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("pattern", sa.Text, nullable=False),
        sa.Column("revoked", sa.Double, nullable=False),
        sa.Column("reenrol", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "host_token",
        sa.Column("hostname", sa.Text, primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=False, index=True),
    )


def _rebuild_hosts() -> None:
    op.execute("CREATE TABLE host_0001 AS SELECT * FROM host")  # renamed it would keep the names of its indexes
    op.drop_table("host")
    op.create_table(
        "host",
        sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("hostname", sa.Text, nullable=False, unique=True),
        sa.Column("first_seen", sa.Double, nullable=False),
        sa.Column("last_seen", sa.Double, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("updater_version", sa.Text, nullable=False),
        sa.Column("agents", sa.Text, nullable=False),
        sa.Column("since", sa.Text, nullable=False),
        sa.Column("outcomes", sa.Text, nullable=False),
        sa.Column("retired_at", sa.Double, nullable=False),
        sa.Column("serial", sa.BigInteger, nullable=False),
        sa.Column("meta", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    _carry_hosts()
    op.drop_table("host_0001")
    op.create_table(
        "beat",
        sa.Column("serial", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("meta", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False, index=True),
        sa.Column("seen", sa.LargeBinary, nullable=False),
        sa.Column("changed", sa.LargeBinary, nullable=False),
        sa.Column("gone", sa.LargeBinary, nullable=False),
    )


def _carry_hosts() -> None:
    connection = op.get_bind()
    keys = ("hostname", "first_seen", "last_seen", "address", "updater_version", "agents", "since", "outcomes")
    values = ", ".join(f":{key}" for key in keys)
    insert = sa.text(f"INSERT INTO host ({', '.join(keys)}, retired_at, serial, meta) VALUES ({values}, 0, 0, '')")  # noqa: S608
    select = sa.text("SELECT * FROM host_0001 ORDER BY first_seen, hostname")
    with connection.execute(select, execution_options={"stream_results": True}) as rows:
        for batch in rows.mappings().partitions(BATCH):
            connection.execute(insert, [_carried(row) for row in batch])


def _carried(row: Any) -> dict[str, Any]:
    """Convert a host of 0001.

    `agents` was {name: {name, version, status, timestamp, held}} and becomes [[name, version, status, held], ...]. `since` gets
    two times for each agent: since when it is so, and when it was observed. One number stands for all if they are equal.
    """
    try:
        agents = [agent for agent in json.loads(row["agents"]).values() if agent["name"]]
        looks = [[agent["name"], agent["version"], agent["status"], agent.get("held")] for agent in agents]
        looked = _one_or_all([agent["timestamp"] for agent in agents])
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        log.warning("the agents of host %r cannot be read and are forgotten: %s", row["hostname"], e)
        looks, looked = [], 0
    return dict(row) | {"agents": json.dumps(looks), "since": json.dumps([row["last_seen"], looked])}


def _one_or_all(times: Sequence[int]) -> int | Sequence[int]:
    return times if len(set(times)) > 1 else times[0] if times else 0
