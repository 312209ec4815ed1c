"""The head and the log of transactions. Every writing transaction increments a serial of the head, whose lock serialises all
writers, and adds its identity to the log at the next position.

Data for a meta's memory are read and written only if the database still has the history that this memory is based on. That is
so if the log has the newest transactions that the memory knows, each at its position.
"""

import secrets
import threading
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from meta.store.rows import Forgotten, Head, Lost
from meta.store.tables import commit_log, head

HOLDING_HEAD = "50ms"  # the longest wait for other locks while the lock on the head is held
REMEMBERED, PRUNE_EVERY = 20_000, 1000  # transactions in the log
AGAIN = "it is read again, try again then"
LOST = "the database does not hold what was followed here (a failover that lost commits, or a restored backup)"
FORGOTTEN = "so much was written while nothing could be followed here that the database does not tell what is still so"


class Place(NamedTuple):
    """The place of a transaction in the log."""

    position: int
    identity: str


DRIFTS = 3600.0  # seconds after which no time in memory is based on a former difference of clocks


class Basis:
    """The newest few transactions that were read or written for a meta's memory. Safe for threads."""

    def __init__(self) -> None:
        self.places: frozenset[Place] = frozenset()
        self.epoch = 0  # how often everything was read again
        self.ahead = 0.0  # see meta.store.dates
        self._drift = (0.0, 0.0)
        self._is_known = True
        self._lock = threading.Lock()

    def date_by(self, ahead: float, now: float) -> None:
        """Set `ahead`. now: monotonic seconds."""
        if ahead != self.ahead:
            self._drift = (self.drifted(now) + abs(ahead - self.ahead), now)
            self.ahead = ahead

    def drifted(self, now: float) -> float:
        """By how many seconds `ahead` has changed at most within DRIFTS, as when a clock is slewed."""
        seconds, at = self._drift
        return seconds if now - at < DRIFTS else 0.0

    def move(self, before: frozenset[Place], place: Place) -> None:
        """Replace the places `before`, which the log held, by a later one."""
        with self._lock:
            self.places = self.places - before | {place}

    def clear(self) -> None:
        """Start a new epoch: everything is read again, and nothing is written until `resume`."""
        with self._lock:
            self.places, self.epoch, self._is_known = frozenset(), self.epoch + 1, False

    def resume(self) -> None:
        with self._lock:
            self._is_known = True

    def to_write(self, epoch: int | None) -> frozenset[Place]:
        """The places that the log must hold for a write. epoch: of the memory that it is for. Raises Lost."""
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
    """A unique identity of a transaction."""
    return secrets.token_hex(8)


def look(connection: sa.Connection, places: frozenset[Place]) -> Head:
    """The current head. Raises Lost or Forgotten if the log does not hold these places."""
    *found, held = connection.execute(_LOOK, _places(places)).one()
    if held != len(places):
        oldest = connection.execute(sa.select(sa.func.min(commit_log.c.position))).scalar() or 0
        is_long_ago = all(place.position < oldest for place in places)
        raise Forgotten(FORGOTTEN) if is_long_ago else Lost(LOST)
    return Head._make(found)


def count(
    connection: sa.Connection, counter: str, steps: int, identity: str, places: frozenset[Place]
) -> tuple[int, int]:
    """Take the lock on the head; returns (serial, position). Raises Lost if the log does not hold these places."""
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
    """One statement, thus one round trip, that counts, logs, checks the places, and shortens later waits for locks."""
    counted = _counting(counter).cte("counted")
    of_log = sa.select(counted.c.position, sa.bindparam("identity", type_=sa.Text))
    logged = sa.insert(commit_log).from_select(["position", "identity"], of_log).cte("logged")
    return sa.select(
        counted.c.serial, counted.c.position, sa.func.set_config("lock_timeout", HOLDING_HEAD, True), _HELD
    ).add_cte(logged)
