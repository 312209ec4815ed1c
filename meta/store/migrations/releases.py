"""What migration 0005 does to stored records, and which answers to hosts it cannot keep. Changes nothing.

Records of before merged versions and digests field by field. `translations` gives each stored record in its new form. Where it
is not sure that the answers stay, they are compared for all known hosts, with the labels that they have or once had.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from meta.records.field_by_field import Whole, whole_releases
from meta.records.model import OF_A_RELEASE, from_fields, resolve_one
from meta.records.selectors import Selector, selector_of
from meta.store.rows import Findings

NAMED = 3  # hosts that are named in a sentence
_RECORDS = sa.text("SELECT name, body FROM record ORDER BY position")
_HISTORY = sa.text(
    "SELECT revision, position, name, before, \"after\" FROM change WHERE kind = 'record' ORDER BY revision, position"
)
_NAMES = sa.text("SELECT hostname FROM host UNION SELECT hostname FROM label ORDER BY hostname")
_LABELS = sa.text("SELECT hostname, body FROM label")
_PAST_LABELS = sa.text("SELECT name, before, \"after\" FROM change WHERE kind = 'labels'")


class Row(NamedTuple):
    """A stored record that changes its form: where it is stored, and its new text."""

    key: Mapping[str, Any]  # the columns that identify the row
    column: str
    text: str


def findings(connection: sa.Connection) -> Findings:
    """What the migration would do to the records, and what a person must decide. Reads a database of before 0005."""
    if not sa.inspect(connection).has_table("change"):
        return Findings([], [])
    in_force = {(row.name, row.body): "in force" for row in connection.execute(_RECORDS)}
    notes = [
        f"{name} [{selector.in_words()}]: names version {version} from now on, as it has a digest of its own"
        for name, text in in_force
        for selector, version in _translated(text).named
    ]
    unsure = {key: where for key, where in in_force.items() if _translated(key[1]).is_unsure}
    for key, where in _past(connection):
        if key not in in_force and _translated(key[1]).is_unsure:
            unsure[key] = where
    fleet, answers = _Fleet(connection), list[str]()
    for (name, text), where in unsure.items():
        found = fleet.differences(json.loads(text), _translated(text).fields, is_past=(name, text) not in in_force)
        answers += [f"{name}, {where}: {one}" for one in found]
    return Findings(notes, answers)


def translations(connection: sa.Connection) -> Iterator[tuple[str, Row]]:
    """(table, row) of all records in force and in the history whose form changes."""
    for row in connection.execute(_RECORDS):
        if text := _new_text(row.body):
            yield "record", Row({"name": row.name}, "body", text)
    for row in connection.execute(_HISTORY):
        for column in ("before", "after"):
            if (former := getattr(row, column)) and (text := _new_text(former)):
                yield "change", Row({"revision": row.revision, "position": row.position}, column, text)


def _past(connection: sa.Connection) -> Iterator[tuple[tuple[str, str], str]]:
    for row in connection.execute(_HISTORY):
        for text, number in ((row.before, row.revision - 1), (row.after, row.revision)):
            if text:
                yield (row.name, text), f"in revision {number}"


@lru_cache(maxsize=1024)  # what one change made is where the next one begins
def _translated(text: str) -> Whole:
    return whole_releases(json.loads(text))


def _new_text(text: str) -> str:
    """The record in its new form, "" if the former text says the same in that form."""
    fields, whole = json.loads(text), _translated(text)
    if from_fields(whole.fields) == from_fields(fields):
        return ""
    return json.dumps(whole.fields, separators=(",", ":"), ensure_ascii=False)


class _Fleet:
    """All known hosts, each with the labels that it has and with those that it once had. A set of them is a number's bits."""

    def __init__(self, connection: sa.Connection):
        self._connection = connection
        self._masks: dict[Selector, int] = {}
        self._present = 0

    @cached_property
    def _hosts(self) -> list[tuple[str, dict[str, str]]]:
        now = {name: json.loads(body) for name, body in self._connection.execute(_LABELS)}
        hosts = [(name, now.get(name, {})) for (name,) in self._connection.execute(_NAMES)]
        self._present = len(hosts)  # the others are as they once were
        past = {
            (row.name, text)
            for row in self._connection.execute(_PAST_LABELS)
            for text in (row.before or "{}", row.after or "{}")
        }
        known = {(name, json.dumps(labels, sort_keys=True)) for name, labels in hosts}
        named = {name for name, _ in hosts}
        once = sorted(
            {(name, json.dumps(json.loads(text), sort_keys=True)) for name, text in past if name in named} - known
        )
        return hosts + [(name, json.loads(text)) for name, text in once]

    def differences(self, before: Mapping[str, Any], after: Mapping[str, Any], is_past: bool) -> list[str]:
        """One sentence for each group of hosts that gets another answer from the record `after` than from `before`."""
        record, overrides = from_fields(after), before.get("overrides", ())
        named = dict.fromkeys(map(selector_of, overrides))
        selectors = named | dict.fromkeys(one.selector for one in record.overrides)
        found = []
        for hosts, matched in self._groups(list(selectors), is_past):
            old = _merged(before, matched.__contains__)
            new = {key: resolve_one(record, matched.__contains__)[key] for key in OF_A_RELEASE}
            if old != new:
                words = " and ".join(f"[{s.in_words()}]" for s in named if s in matched)
                found.append(f"{self._named(hosts)}, which {words} select: now {_said(old)}, then {_said(new)}")
        return found

    def _groups(self, selectors: list[Selector], is_past: bool) -> list[tuple[int, frozenset[Selector]]]:
        """(hosts, those of the selectors that select them)."""
        count = len(self._hosts)
        groups: list[tuple[int, frozenset[Selector]]] = [
            ((1 << (count if is_past else self._present)) - 1, frozenset())
        ]
        for selector in selectors:
            mask = self._mask(selector)
            inside = [(hosts & mask, matched | {selector}) for hosts, matched in groups]
            groups = [one for one in (*inside, *((hosts & ~mask, matched) for hosts, matched in groups)) if one[0]]
        return groups

    def _mask(self, selector: Selector) -> int:
        if (mask := self._masks.get(selector)) is None:
            bits = "".join("01"[selector.matches(*host)] for host in reversed(self._hosts))
            mask = self._masks[selector] = int(bits or "0", 2)
        return mask

    def _named(self, hosts: int) -> str:
        first, count = list[str](), hosts.bit_count()
        while hosts and len(first) < NAMED:
            first.append(self._hosts[(hosts & -hosts).bit_length() - 1][0])
            hosts &= hosts - 1
        more = f" and {count - len(first)} more" if count > len(first) else ""
        return f"{'hosts' if count > 1 else 'host'} {', '.join(first)}{more}"


def _merged(fields: Mapping[str, Any], matches: Callable[[Selector], bool]) -> dict[str, str]:
    """The release by the rule of before: each field from the last place that sets it."""
    places = [fields, *(one for one in fields.get("overrides", ()) if matches(selector_of(one)))]
    return {key: next((place[key] for place in reversed(places) if key in place), "") for key in OF_A_RELEASE}


def _said(release: Mapping[str, str]) -> str:
    digests = [f"{key} {release[key]}" for key in OF_A_RELEASE[1:] if release[key]]
    return f"version {release['version']} with {' and '.join(digests) or 'no digest'}"
