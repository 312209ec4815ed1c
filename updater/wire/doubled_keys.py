"""Finds JSON that gives a key twice in one object, since parsers differ in which value they take."""

import json
from collections import Counter
from typing import Any

from updater.wire.text import quoted


def keys_problem(body: bytes) -> str:
    """Which key of this JSON is given twice in one object, or another reason to refuse it; "" if there is none.

    Parses the whole body a second time.
    """
    try:
        parse(body)
    except RecursionError:
        return "nested too deeply"
    except ValueError as e:
        return str(e)
    return ""


class DoubledKey(ValueError):
    """A key is given twice."""


def parse(body: bytes) -> Any:
    """JSON -> data. Raises DoubledKey, ValueError for invalid JSON (also NaN and Infinity), RecursionError."""
    return json.loads(body, object_pairs_hook=_refuse_doubled, parse_constant=_refuse_constant)


def _refuse_doubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise DoubledKey(f"the key {quoted(twice)} is given twice")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no value")
