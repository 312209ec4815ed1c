"""A token written straight into the store: how the first admin comes to be. Who can write the database may do all anyway."""

import time
from contextlib import closing
from typing import Any

import msgspec

from meta.access.roles import OPERATOR
from meta.access.tokens import Token, mint
from meta.api.framework import strict
from meta.api.resources.tokens import expiry
from meta.api.schemas.types import TokenBody
from meta.errors import Misconfigured
from meta.store import Store


def write(database: str, body: dict[str, Any]) -> str:
    """Make the tables where they are not there, and the token that `body` (a TokenBody) wants; returns its text."""
    try:
        wanted = msgspec.convert(body, TokenBody)
    except msgspec.ValidationError as e:
        raise Misconfigured(f"no token can be made so: {strict.in_words(e, body)}") from e
    text, hashed = mint(OPERATOR)
    now = time.time()
    token = Token(0, OPERATOR, wanted.name, wanted.role, hashed, created=now, expires=expiry(wanted, now))
    with closing(Store(database)) as store:
        store.upgrade()
        store.add_token(token)
    return text
