"""The head and the log of transactions. Every writing transaction counts up a serial of the head, behind whose lock all writers
stand in one row, and puts its identity into the log at the next position."""

import secrets
from functools import cache
from typing import Any

import sqlalchemy as sa

from meta.store.tables import commit_log, head, revision

HOLDING_HEAD = "50ms"  # the longest wait for any other lock while all writers wait for us
REMEMBERED, PRUNE_EVERY = 20_000, 1000  # transactions in the log
REVISION_IDENTITY = sa.func.coalesce(
    sa.select(revision.c.identity).where(revision.c.number == head.c.revision).scalar_subquery(), ""
)


def new_identity() -> str:
    """Of a transaction: no other ever has it."""
    return secrets.token_hex(8)


def count(connection: sa.Connection, counter: str, steps: int, identity: str) -> tuple[int, int]:
    """Take the head's lock: (serial, position)."""
    values = {"steps": steps, "identity": identity}
    if connection.dialect.name == "postgresql":
        serial, position, _ = connection.execute(_counting_in_one(counter), values).one()
    else:
        serial, position = connection.execute(_counting(counter), {"steps": steps}).one()
        connection.execute(sa.insert(commit_log), {"position": position, "identity": identity})
    if position % PRUNE_EVERY == 0:
        connection.execute(sa.delete(commit_log).where(commit_log.c.position <= position - REMEMBERED))
    return serial, position


def _counting(counter: str) -> Any:
    counted = head.c[counter] + sa.bindparam("steps", type_=sa.BigInteger)
    counting = sa.update(head).values({counter: counted, "position": head.c.position + 1})
    return counting.returning(head.c[counter].label("serial"), head.c.position)


@cache
def _counting_in_one(counter: str) -> sa.Select[Any]:
    """With the log, and no long waits from the moment that the lock is ours: one way there and back."""
    counted = _counting(counter).cte("counted")
    of_log = sa.select(counted.c.position, sa.bindparam("identity", type_=sa.Text))
    logged = sa.insert(commit_log).from_select(["position", "identity"], of_log).cte("logged")
    return sa.select(
        counted.c.serial, counted.c.position, sa.func.set_config("lock_timeout", HOLDING_HEAD, True)
    ).add_cte(logged)
