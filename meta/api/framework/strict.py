"""Decodes bodies and queries into our types; every input is either a valid value or a Refusal that says why.

It is stricter than JSON parsers. It refuses repeated keys, unknown fields, lone surrogates, NUL, and nesting deeper than
MAX_DEPTH. It also refuses NaN, infinity, and numbers that do not fit into a double.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from meta.api.framework.problems import Refusal
from meta.api.schemas.basics import IN_WORDS
from meta.records.files.located_tree import MAX_NODES
from updater.wire import decode_problems, doubled_keys
from updater.wire.text import quoted

MAX_DEPTH = 32
_BEFORE_A_VALUE = (b",", b"[", b"{")
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def convert(data: Any, kind: Any) -> Any:
    """Convert the data of a JSON body into a value of type `kind`. Raises Refusal."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as e:
        raise _refusal(e, data) from e


def parse(body: bytes) -> Any:
    """Parse a JSON body in which each key is given once. Raises Refusal."""
    if not body:
        raise Refusal(400, "the body is blank; it must be a JSON object")
    # Texts may have these characters too, but no real body has so many.
    if sum(map(body.count, _BEFORE_A_VALUE)) > MAX_NODES:
        raise Refusal(400, f"the body holds more than {MAX_NODES:,} values")
    try:
        msgspec.json.decode(body)  # stricter on UTF-8, surrogates and numbers; the other parser finds repeated keys
        data = doubled_keys.parse(body)
    except (msgspec.DecodeError, UnicodeError) as e:
        raise Refusal(400, f"the body {decode_problems.in_words(e, body)}") from e
    except RecursionError as e:
        raise Refusal(400, f"the body is nested more than {MAX_DEPTH} deep") from e
    except doubled_keys.DoubledKey as e:
        raise Refusal(400, str(e)) from e
    except ValueError as e:
        raise Refusal(400, "the body holds a number with too many digits") from e
    _check(data)
    return data


def _check(data: Any) -> None:
    """Refuse NUL characters and deep nesting; level by level, so that it cannot exhaust Python's stack."""
    level = [data]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str) and "\0" in value:
                raise Refusal(400, "a text holds a NUL character")
            if isinstance(value, dict):
                inner += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                inner += value
        if not inner:
            return
        level = inner
    raise Refusal(400, f"the body is nested more than {MAX_DEPTH} deep")


def query(arguments: Iterable[tuple[str, str]], kind: type[Any]) -> Any:
    """Convert the query of a URL into a struct of type `kind`; each key must be known and given once. Raises Refusal."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    found: dict[str, Any] = {}
    for key, text in arguments:
        if key not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise Refusal(400, f"unknown query {quoted(key)}; known here: {known}")
        if key in found:
            raise Refusal(400, f'the query "{key}" is given twice')
        if "\0" in text:
            raise Refusal(400, f'the query "{key}" holds a NUL character')
        found[key] = _plain(text, fields[key])
    return _convert(found, kind, "query")


def path(values: Mapping[str, str], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the parts of a path into values of these types. Raises Refusal."""
    return {key: _convert(_plain(text, kinds[key]), kinds[key], key) for key, text in values.items()}


def _plain(text: str, kind: Any) -> Any:
    """The text as an integer or a boolean, if the type wants one; else unchanged."""
    wanted = _flat(kind)
    if bool in wanted:
        return {"true": True, "false": False}.get(text, text)
    if int in wanted and _INTEGER.fullmatch(text):
        return int(text)
    return text


def _flat(kind: Any) -> set[Any]:
    """The plain types within an annotated type or a union."""
    inner = get_args(kind) if get_origin(kind) is not Literal else ()
    return {kind}.union(*(_flat(part) for part in inner))


def _convert(value: Any, kind: Any, what: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as e:
        raise Refusal(400, f"{what}: {in_words(e, value)}") from e


def _refusal(error: msgspec.ValidationError, data: Any) -> Refusal:
    return Refusal(400, in_words(error, data), problems=[_problem(error, data)])


def in_words(error: msgspec.ValidationError, data: Any) -> str:
    """What is wrong with the data, as one line."""
    return ": ".join(filter(None, _problem(error, data)))


def _problem(error: msgspec.ValidationError, data: Any) -> tuple[str, str]:
    """(path, text) as in decode_problems; a text that violates a pattern is shown, and the pattern is described in words."""
    where, text = decode_problems.problem(error)
    form = IN_WORDS.get(text.removeprefix("a key ").removeprefix("is not of the form "))
    if not form:
        return where, text
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", where):
        data = (
            data.get(key) if isinstance(data, dict) else data[int(index)] if index and isinstance(data, list) else None
        )
    is_shown = isinstance(data, str) and not text.startswith("a key ")
    return where, f"{quoted(data)} is not {form}" if is_shown else f"{text.split(' is ')[0]} is not {form}"
