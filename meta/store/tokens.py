"""Tokens in the database: of operators, for enrolment, and of hosts. Only hashes are stored.

Permissions are checked inside the transaction that writes, with the lock on the head held, so that two metas cannot decide on
the same old state.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from meta.access.roles import ADMIN, ENROLMENT
from meta.access.tokens import Token, ended
from meta.errors import MetaError, Unauthorised
from meta.store.engine import Database
from meta.store.tables import host_token, token


class TokenWrite(NamedTuple):
    """The result of a transaction."""

    token: Token  # its new state
    serial: int


class LastAdmin(MetaError):
    """This is the last admin token; without it no other token could be created."""


class Taken(MetaError):
    """The host has a token that was not revoked."""


_COLUMNS = tuple(token.c[name] for name in Token.__struct_fields__)


def load(database: Database) -> tuple[list[Token], int]:
    """(all operators' and enrolment tokens, revoked and expired ones too, oldest first; the serial of this state)."""
    with database.following() as (connection, head):
        rows = connection.execute(sa.select(*_COLUMNS).order_by(token.c.id)).all()
    return [Token(**row._mapping) for row in rows], head.tokens


def add(database: Database, new: Token, by: int, epoch: int | None) -> TokenWrite:
    values = {name: value for name, value in msgspec.structs.asdict(new).items() if name != "id"}
    with database.writing("tokens", epoch=epoch) as (connection, serial):
        _require_admin(connection, by, new.created)
        number = connection.execute(sa.insert(token).returning(token.c.id), values).scalar_one()
    return TokenWrite(msgspec.structs.replace(new, id=number), serial)


def revoke(database: Database, token_id: int, now: float, by: int, epoch: int | None) -> TokenWrite | None:
    revoked = sa.update(token).where(token.c.id == token_id, token.c.revoked == 0).values(revoked=now)
    with database.writing("tokens", epoch=epoch) as (connection, serial):
        _require_admin(connection, by, now)
        if _good_admins(connection, now) == {token_id}:
            raise LastAdmin("this is the last admin's token; create another one first")
        if not (row := connection.execute(revoked.returning(*_COLUMNS)).first()):
            connection.rollback()
            return None
    return TokenWrite(Token(**row._mapping), serial)


def _good_admins(connection: sa.Connection, now: float) -> set[int]:
    is_good = (token.c.role == ADMIN, token.c.revoked == 0, sa.or_(token.c.expires == 0, token.c.expires > now))
    return set(connection.execute(sa.select(token.c.id).where(*is_good)).scalars())


def _require_admin(connection: sa.Connection, by: int, now: float) -> None:
    """Raises Unauthorised unless `by` is the id of a valid admin token; 0 stands for direct access to the database.

    Memory may be behind, and a token that was revoked at another meta must not create others.
    """
    if by and by not in _good_admins(connection, now):
        raise Unauthorised("your token no longer belongs to an admin: it was revoked, or has expired")


def use_enrolment(
    database: Database, token_id: int, hostname: str, hashed: bytes, now: float, epoch: int | None
) -> TokenWrite:
    """Count one use and store the host's token, both or neither. A repeated request, whose answer was lost, has the same
    result, even if the enrolment token is used up since."""
    with database.writing("tokens", epoch=epoch) as (
        connection,
        serial,
    ):  # an error rolls the serial back, too, so no follower reads again
        row = connection.execute(sa.select(*_COLUMNS).where(token.c.id == token_id)).first()
        shown = Token(**row._mapping) if row and row.kind == ENROLMENT else None
        if shown and (done := _done_before(connection, hostname, hashed)):
            return TokenWrite(shown, done)  # this transaction is committed, as the answer depends on it
        if why := _refused(shown, now):
            raise Unauthorised(why)
        assert shown  # noqa: S101
        if not _keep_host_token(connection, hostname, {"hash": hashed, "at": now, "serial": serial}, shown.reenrol):
            raise Taken(f"{hostname} has a token already: another machine got it, or this one did and lost it")
        left = shown.uses - (shown.uses > 0)
        connection.execute(sa.update(token).where(token.c.id == token_id).values(uses=left))
        return TokenWrite(msgspec.structs.replace(shown, uses=left), serial)


def _refused(shown: Token | None, now: float) -> str:
    """Why no other host may enrol with this token, or ""."""
    if shown is None:
        return "this is no enrolment token"
    return ended(shown, now) or ("" if shown.uses else "this enrolment token is used up")


def _done_before(connection: sa.Connection, hostname: str, hashed: bytes) -> int | None:
    """The serial at which the host got exactly this token, or None."""
    same = (host_token.c.hostname == hostname, host_token.c.hash == hashed)
    return connection.execute(sa.select(host_token.c.serial).where(*same)).scalar()


def _keep_host_token(connection: sa.Connection, hostname: str, values: dict[str, Any], again: bool) -> bool:
    """Store the token unless the host has a valid one, or `again`; returns whether it was stored."""
    insert = postgresql.insert(host_token) if connection.dialect.name == "postgresql" else sqlite.insert(host_token)
    free = sa.true() if again else sa.func.length(host_token.c.hash) == 0
    kept = insert.values(hostname=hostname, **values).on_conflict_do_update(
        index_elements=["hostname"], set_=values, where=free
    )
    return connection.execute(kept.returning(host_token.c.hostname)).first() is not None


def revoke_host(database: Database, hostname: str, now: float, by: int, epoch: int | None) -> int:
    """Returns the serial, 0 if there was nothing to revoke."""
    revoke = sa.update(host_token).where(host_token.c.hostname == hostname, sa.func.length(host_token.c.hash) > 0)
    with database.writing("tokens", epoch=epoch) as (connection, serial):
        _require_admin(connection, by, now)
        if connection.execute(revoke.values(hash=b"", at=now, serial=serial)).rowcount:
            return serial
        connection.rollback()
        return 0


def host_tokens(database: Database, since: int) -> Iterator[tuple[str, bytes, int]]:
    query = "SELECT hostname, hash, serial FROM host_token WHERE serial > {} ORDER BY serial"
    with (
        database.following() as (connection, _),
        database.stream(connection, query.format(int(since))) as batches,
    ):
        for batch in batches:
            for hostname, hashed, serial in batch:
                yield hostname, bytes(hashed), serial
