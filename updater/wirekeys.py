"""JSON in which a key is given twice, of which every reader takes another one: refused, at next to no cost where all is well."""

import json
from collections.abc import Sequence
from typing import Any


def check_keys(body: bytes, expected: int, once: Sequence[bytes]) -> None:
    """Raises ValueError when a key of this valid JSON is given twice in one object.

    expected: how many keys our own fields make; once: keys, as `"name":`, that must occur just once. Where both hold, nothing is
    parsed again; else there are additions of a peer, blanks before a colon, or what is to be found.
    """
    if body.count(b'":') == expected:
        for key in once:
            if body.count(key) != 1:
                break
        else:
            return
    try:
        json.loads(body, object_pairs_hook=_refuse_doubled, parse_constant=_refuse_constant)
    except RecursionError as e:
        raise ValueError("nested too deeply") from e


def _refuse_doubled(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f'the key "{key}" is given twice')
        seen.add(key)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value")
