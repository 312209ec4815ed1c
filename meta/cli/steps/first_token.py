"""Writes a token directly into the database, for the first admin. Access to the database allows everything anyway."""

import time
from contextlib import closing
from typing import Any

import msgspec

from meta.access.roles import OPERATOR
from meta.access.tokens import Token, mint
from meta.api.framework import strict
from meta.api.resources.tokens import expiry
from meta.api.schemas.tokens import TokenBody
from meta.errors import Misconfigured
from meta.store import Store


def write(database: str, body: dict[str, Any]) -> str:
    """Create the tables if necessary, and the token described by `body` (a TokenBody); returns its text."""
    try:
        wanted = msgspec.convert(body, TokenBody)
    except msgspec.ValidationError as e:
        raise Misconfigured(f"the token cannot be created: {strict.in_words(e, body)}") from e
    text, hashed = mint(OPERATOR)
    now = time.time()
    token = Token(0, OPERATOR, wanted.name, wanted.role, hashed, created=now, expires=expiry(wanted, now))
    with closing(Store(database)) as store:
        store.upgrade()
        store.add_token(token)
    return text
