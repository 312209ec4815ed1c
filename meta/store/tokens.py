"""Tokens in the database: those that people made, and those that hosts got for them. Only hashes are kept."""

from collections.abc import Iterator

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from meta.store.engine import LOADING, Database
from meta.store.tables import host_token, token


class Token(msgspec.Struct, frozen=True):
    """One operator's or enrolment token. id: 0 until it is stored; hash: SHA-256 of its text; times: Unix seconds; expires: 0
    for never; uses: left, -1 for any number; pattern: a glob of the hostnames that may enrol with it; revoked: when, 0 for not;
    reenrol: it also enrols hosts that have a token already."""

    id: int
    kind: str
    name: str
    role: str = ""
    hash: bytes = b""
    created: float = 0.0
    expires: float = 0.0
    uses: int = -1
    pattern: str = "*"
    revoked: float = 0.0
    reenrol: bool = False


def load(database: Database) -> list[Token]:
    """All tokens that people made, revoked and expired ones too, oldest first."""
    columns = [token.c[name] for name in Token.__struct_fields__]
    with database.reading() as connection:
        rows = connection.execute(sa.select(*columns).order_by(token.c.id)).all()
    return [Token(**row._mapping) for row in rows]


def add(database: Database, new: Token) -> Token:
    values = {name: value for name, value in msgspec.structs.asdict(new).items() if name != "id"}
    with database.writing("tokens") as (connection, _):
        number = connection.execute(sa.insert(token).returning(token.c.id), values).scalar_one()
    return msgspec.structs.replace(new, id=number)


def revoke(database: Database, token_id: int, now: float) -> bool:
    revoked = sa.update(token).where(token.c.id == token_id, token.c.revoked == 0).values(revoked=now)
    with database.writing("tokens") as (connection, _):
        return _or_nothing(connection, connection.execute(revoked).rowcount > 0)


def _or_nothing(connection: sa.Connection, done: bool) -> bool:
    """Where nothing was done the serial stays too, and nobody reads everything again for it."""
    if not done:
        connection.rollback()
    return done


def use_enrolment(database: Database, token_id: int, hostname: str, hashed: bytes, now: float) -> bool:
    """Count one use and keep the host's token, both or neither."""
    used = (
        sa.update(token)
        .where(
            token.c.id == token_id,
            token.c.kind == "enrolment",
            token.c.uses != 0,
            token.c.revoked == 0,
            sa.or_(token.c.expires == 0, token.c.expires > now),
        )
        .values(uses=sa.case((token.c.uses > 0, token.c.uses - 1), else_=token.c.uses))
        .returning(token.c.reenrol)
    )
    with database.writing("tokens") as (connection, serial):
        again = connection.execute(used).scalar()
        if again is None:
            return _or_nothing(connection, False)
        insert = postgresql.insert(host_token) if database.dialect == "postgresql" else sqlite.insert(host_token)
        values = {"hash": hashed, "at": now, "serial": serial}
        free = sa.true() if again else sa.func.length(host_token.c.hash) == 0
        kept = insert.values(hostname=hostname, **values).on_conflict_do_update(
            index_elements=["hostname"], set_=values, where=free
        )
        return _or_nothing(connection, connection.execute(kept.returning(host_token.c.hostname)).first() is not None)


def revoke_host(database: Database, hostname: str, now: float) -> bool:
    revoke = sa.update(host_token).where(host_token.c.hostname == hostname, sa.func.length(host_token.c.hash) > 0)
    with database.writing("tokens") as (connection, serial):
        revoked = connection.execute(revoke.values(hash=b"", at=now, serial=serial))
        return _or_nothing(connection, revoked.rowcount > 0)


def host_tokens(database: Database, since: int) -> Iterator[tuple[str, bytes, int]]:
    query = "SELECT hostname, hash, serial FROM host_token WHERE serial > {} ORDER BY serial"
    with database.reading(LOADING) as connection, database.stream(connection, query.format(int(since))) as batches:
        for batch in batches:
            for hostname, hashed, serial in batch:
                yield hostname, bytes(hashed), serial
