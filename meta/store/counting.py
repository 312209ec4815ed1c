"""The head and the log of transactions. Every writing transaction counts up a serial of the head, behind whose lock all writers
stand in one row, and puts its identity into the log at the next position.

What is read and written for somebody's memory is read and written only on the history that this memory rests on: the log must
still hold the newest transactions of which it knows, each at its position.
"""

import secrets
import threading
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from meta.store.rows import Forgotten, Head, Lost
from meta.store.tables import commit_log, head

HOLDING_HEAD = "50ms"  # the longest wait for any other lock while all writers wait for us
REMEMBERED, PRUNE_EVERY = 20_000, 1000  # transactions in the log
AGAIN = "it is read again, try again then"
LOST = "the database does not hold what was followed here (a failover that lost commits, or a restored backup)"
FORGOTTEN = "so much was written while nothing could be followed here that the database does not tell what is still so"


class Place(NamedTuple):
    """Of a transaction in the log."""

    position: int
    identity: str


DRIFTS = 3600.0  # seconds after which nothing in memory is dated by a former difference of clocks


class Basis:
    """What a memory rests on: the newest transactions that were read or written for it, few.
    epoch: how often all was read again. Safe for threads."""

    def __init__(self) -> None:
        self.places: frozenset[Place] = frozenset()
        self.epoch = 0
        self.ahead = 0.0  # see meta.store.dates
        self._drift = (0.0, 0.0)
        self._is_known = True
        self._lock = threading.Lock()

    def date_by(self, ahead: float, now: float) -> None:
        """now: monotonic."""
        if ahead != self.ahead:
            self._drift = (self.drifted(now) + abs(ahead - self.ahead), now)
            self.ahead = ahead

    def drifted(self, now: float) -> float:
        """Seconds by which `ahead` has changed at most of late, as it does when a clock is slewed."""
        seconds, at = self._drift
        return seconds if now - at < DRIFTS else 0.0

    def move(self, before: frozenset[Place], place: Place) -> None:
        """This transaction comes after those before, which the log held when it was made or read."""
        with self._lock:
            self.places = self.places - before | {place}

    def clear(self) -> None:
        """Everything is read again, and until `resume` nothing is written: memory would not learn of it."""
        with self._lock:
            self.places, self.epoch, self._is_known = frozenset(), self.epoch + 1, False

    def resume(self) -> None:
        with self._lock:
            self._is_known = True

    def to_write(self, epoch: int | None) -> frozenset[Place]:
        """What must be held by who writes. epoch: of the memory that this is for. Raises Lost."""
        with self._lock:
            if not self._is_known or epoch not in (None, self.epoch):
                raise Lost(f"{LOST}: {AGAIN}")
            return self.places


_HELD = (
    sa.select(sa.func.count())
    .where(
        commit_log.c.position.in_(sa.bindparam("positions", type_=sa.BigInteger, expanding=True)),
        commit_log.c.identity.in_(sa.bindparam("identities", type_=sa.Text, expanding=True)),
    )
    .select_from(commit_log)
    .scalar_subquery()
)
_OF_LAST = sa.select(commit_log.c.identity).where(commit_log.c.position == head.c.position).scalar_subquery()
_LOOK = sa.select(
    head.c.revision,
    head.c.revision_identity,
    head.c.tokens,
    head.c.hosts,
    head.c.position,
    _OF_LAST,
    head.c.folded,
    _HELD,
)


def new_identity() -> str:
    """Of a transaction: no other ever has it."""
    return secrets.token_hex(8)


def look(connection: sa.Connection, places: frozenset[Place]) -> Head:
    """How far everything is. Raises Lost, Forgotten where the log does not hold these."""
    *found, held = connection.execute(_LOOK, _places(places)).one()
    if held != len(places):
        oldest = connection.execute(sa.select(sa.func.min(commit_log.c.position))).scalar() or 0
        is_long_ago = all(place.position < oldest for place in places)
        raise Forgotten(FORGOTTEN) if is_long_ago else Lost(LOST)
    return Head._make(found)


def count(
    connection: sa.Connection, counter: str, steps: int, identity: str, places: frozenset[Place]
) -> tuple[int, int]:
    """Take the head's lock: (serial, position). Raises Lost where the log does not hold these places."""
    values = {"steps": steps, "identity": identity} | _places(places)
    if connection.dialect.name == "postgresql":
        serial, position, _, held = connection.execute(_counting_in_one(counter), values).one()
    else:
        serial, position = connection.execute(_counting(counter), {"steps": steps}).one()
        connection.execute(sa.insert(commit_log), {"position": position, "identity": identity})
        held = connection.execute(sa.select(_HELD), _places(places)).scalar_one() if places else 0
    if held != len(places):
        raise Lost(f"{LOST}: {AGAIN}")
    if position % PRUNE_EVERY == 0:
        connection.execute(sa.delete(commit_log).where(commit_log.c.position <= position - REMEMBERED))
    return serial, position


def _places(places: frozenset[Place]) -> dict[str, list[Any]]:
    return {"positions": [p.position for p in places], "identities": [p.identity for p in places]}


def _counting(counter: str) -> Any:
    counted = head.c[counter] + sa.bindparam("steps", type_=sa.BigInteger)
    counting = sa.update(head).values({counter: counted, "position": head.c.position + 1})
    return counting.returning(head.c[counter].label("serial"), head.c.position)


@cache
def _counting_in_one(counter: str) -> sa.Select[Any]:
    """With the log, what it must hold, and no long waits from the moment that the lock is ours: one way there and back."""
    counted = _counting(counter).cte("counted")
    of_log = sa.select(counted.c.position, sa.bindparam("identity", type_=sa.Text))
    logged = sa.insert(commit_log).from_select(["position", "identity"], of_log).cte("logged")
    return sa.select(
        counted.c.serial, counted.c.position, sa.func.set_config("lock_timeout", HOLDING_HEAD, True), _HELD
    ).add_cte(logged)
