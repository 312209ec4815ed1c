"""Parses arguments: FIELD=VALUE, selectors, labels, durations. Errors show an example."""

from collections.abc import Sequence

from meta.errors import Misconfigured
from meta.records.files.load import parse_selector
from meta.records.model import CHANGEABLE
from meta.records.selectors import KINDS, WAYS, Selector, label_problem
from meta.records.validate import attempt_problem, value_problem
from meta.suggestions import closest
from updater.wire.durations import duration
from updater.wire.text import plain, quoted


def fields_of(words: Sequence[str]) -> dict[str, str | int | list[str]]:
    """Parse `version=1.0.1 tarball=A tarball=B` into fields of a record. Raises Misconfigured."""
    found: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise Misconfigured(f"{quoted(word)} is no FIELD=VALUE; fields are {', '.join(CHANGEABLE)}")
        if key not in CHANGEABLE:
            close = closest(key, CHANGEABLE)
            hint = f"did you mean {close}?" if close else f"fields are {', '.join(CHANGEABLE)}"
            raise Misconfigured(f"{quoted(key)} is no field; {hint}")
        if problem := attempt_problem(value) if key == "attempt" else value_problem(key, value):
            raise Misconfigured(problem)
        found.setdefault(key, []).append(value)
    for key, values in found.items():
        if len(values) > 1 and key != "tarball":
            raise Misconfigured(f"{key} is given twice")
    return {key: values if len(values) > 1 else _value(key, values[0]) for key, values in found.items()}


def _value(key: str, text: str) -> str | int:
    return int(text) if key == "attempt" else text


def selector_of(text: str) -> Selector:
    """Parse `prefix:web-`, `glob:*-db-*`, `hosts:a,b` or `label:env=staging`. Raises Misconfigured."""
    kind, colon, value = text.partition(":")
    if not colon:
        name = text if plain(text) == text else "NAME"
        raise Misconfigured(f"{quoted(text)} does not say how it selects hosts: write {WAYS.format(name)}")
    if kind not in KINDS:
        raise Misconfigured(f"{quoted(kind)} selects nothing; there are {', '.join(f'{k}:' for k in KINDS)}")
    if not value:
        raise Misconfigured(f'nothing follows "{kind}:"; every host is glob:*')
    return parse_selector(text, "--for")


def labels_of(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Parse `env=staging rack-` into (labels to set, keys to remove). Raises Misconfigured."""
    wanted: dict[str, str] = {}
    gone: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and not word.endswith("-"):
            raise Misconfigured(f"{quoted(word)} is neither KEY=VALUE, which sets a label, nor KEY-, which removes one")
        if problem := label_problem((word if value else key) if equals else word[:-1]):
            raise Misconfigured(problem)
        if not equals:
            gone.append(word[:-1])
        else:
            wanted[key] = value
    if both := sorted(wanted.keys() & set(gone)):
        raise Misconfigured(f"{both[0]} cannot be set and removed at once")
    return wanted, gone


def seconds(text: str) -> float:
    """Parse `30d`, `12h` or `90s` into seconds. Raises Misconfigured."""
    found = duration(text)
    if not found:
        raise Misconfigured(f"{quoted(text)} is no duration like 30d, 12h or 15min")
    return found
