"""Finds JSON that gives a key twice in one object, since parsers differ in which value they take."""

import json
from typing import Any

from updater.wire.text import quoted


def keys_problem(body: bytes) -> str:
    """Which key of this JSON is given twice in one object, or another reason to refuse it; "" if there is none.

    Parses the whole body a second time.
    """
    try:
        json.loads(body, object_pairs_hook=_refuse_doubled, parse_constant=_refuse_constant)
    except RecursionError:
        return "nested too deeply"
    except ValueError as e:
        return str(e)
    return ""


def _refuse_doubled(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {quoted(key)} is given twice")
        seen.add(key)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value")
