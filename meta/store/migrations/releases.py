"""What migration 0005 does to stored records, and which answers to hosts it cannot keep. Changes nothing.

Records of before merged versions and digests field by field. `translations` gives each stored record in its new form. Where it
is not sure that the answers stay, they are compared for all known hosts, with the labels that they have or once had. Each
distinct record is translated once.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from meta.records.field_by_field import whole_releases
from meta.records.model import OF_A_RELEASE, from_fields, resolve_one
from meta.records.selectors import Selector, selector_of
from meta.store.rows import Findings

NAMED = 3  # hosts that are named in a sentence
EVERY = 10.0  # seconds between two lines about the progress
_T = TypeVar("_T")
log = logging.getLogger(__name__)
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


class Survey:
    """What is stored in a database of before 0005. It is read at once; what follows may take long, and needs no database."""

    def __init__(self, connection: sa.Connection):
        self._known: dict[str, _Translated] = {}  # by the former text
        self._in_force: dict[tuple[str, str], str] = {}
        self._history: list[_Change] = []
        self._fleet = _Fleet([], {}, set())
        if sa.inspect(connection).has_table("change"):
            self._read(connection)

    def _read(self, connection: sa.Connection) -> None:
        texts: dict[str, str] = {}  # what one change made is where the next one begins: kept once
        self._in_force = {(row.name, row.body): "in force" for row in connection.execute(_RECORDS)}
        for revision, position, name, *both in connection.execute(_HISTORY):
            before, after = (text and texts.setdefault(text, text) for text in both)
            self._history.append(_Change(revision, position, name, before, after))
        labels = {name: json.loads(body) for name, body in connection.execute(_LABELS)}
        names = [name for (name,) in connection.execute(_NAMES)]
        past = {(name, text or "{}") for name, *both in connection.execute(_PAST_LABELS) for text in both}
        self._fleet = _Fleet(names, labels, past)

    def findings(self) -> Findings:
        """What the migration would do to the records, and what a person must decide."""
        notes = [
            f"{name} [{selector.in_words()}]: names version {version} from now on, as it has a digest of its own"
            for name, text in self._in_force
            for selector, version in self._translated(text).named
        ]
        unsure = {key: where for key, where in self._in_force.items() if self._translated(key[1]).is_unsure}
        for key, where in _with_progress(self._past(), 2 * len(self._history), "examined"):
            if key not in self._in_force and self._translated(key[1]).is_unsure:
                unsure[key] = where
        answers = list[str]()
        for (name, text), where in unsure.items():
            after = self._translated(text).text or text
            is_past = (name, text) not in self._in_force
            found = self._fleet.differences(json.loads(text), json.loads(after), is_past)
            answers += [f"{name}, {where}: {one}" for one in found]
        return Findings(notes, answers)

    def translations(self) -> Iterator[tuple[str, Row]]:
        """(table, row) of all records in force and in the history whose form changes."""
        for name, former in self._in_force:
            if text := self._translated(former).text:
                yield "record", Row({"name": name}, "body", text)
        for one in _with_progress(self._history, len(self._history), "translated"):
            for column, stored in (("before", one.before), ("after", one.after)):
                if stored and (text := self._translated(stored).text):
                    yield "change", Row({"revision": one.revision, "position": one.position}, column, text)

    def _past(self) -> Iterator[tuple[tuple[str, str], str]]:
        for one in self._history:
            for text, number in ((one.before, one.revision - 1), (one.after, one.revision)):
                if text:
                    yield (one.name, text), f"in revision {number}"

    def _translated(self, text: str) -> "_Translated":
        if (known := self._known.get(text)) is None:
            known = self._known[text] = _translated(text)
        return known


class _Change(NamedTuple):
    """A change of a record in the history, with its texts."""

    revision: int
    position: int
    name: str
    before: str | None
    after: str | None


class _Translated(NamedTuple):
    """What becomes of the text of a record."""

    text: str  # in its new form; "" if the former text says the same in that form
    named: Sequence[tuple[Selector, str]]
    is_unsure: bool


def _translated(text: str) -> _Translated:
    fields = json.loads(text)
    whole = whole_releases(fields)
    is_same = from_fields(whole.fields) == from_fields(fields)
    new = "" if is_same else json.dumps(whole.fields, separators=(",", ":"), ensure_ascii=False)
    return _Translated(new, tuple(whole.named), whole.is_unsure)


def _with_progress(items: Iterable[_T], count: int, done: str) -> Iterator[_T]:
    """The items; a line in the log says every ten seconds how many of about `count` are done."""
    due = time.monotonic() + EVERY
    for number, item in enumerate(items):
        if time.monotonic() >= due:
            log.info("%s %d of %d records of the history", done, number, count)
            due = time.monotonic() + EVERY
        yield item


class _Fleet:
    """All known hosts, each with the labels that it has and with those that it once had. A set of them is a number's bits."""

    def __init__(self, names: Sequence[str], now: Mapping[str, dict[str, str]], past: set[tuple[str, str]]):
        """names: of all hosts; now: the labels of each that has some; past: (host, its labels as JSON), also of other hosts."""
        self._now = [(name, now.get(name, {})) for name in names]
        self._past = past
        self._masks: dict[Selector, int] = {}

    @cached_property
    def _hosts(self) -> list[tuple[str, dict[str, str]]]:
        """As they are now, and then as they once were."""
        known = {(name, json.dumps(labels, sort_keys=True)) for name, labels in self._now}
        named = {name for name, _ in self._now}
        once = {(name, json.dumps(json.loads(text), sort_keys=True)) for name, text in self._past if name in named}
        return self._now + [(name, json.loads(text)) for name, text in sorted(once - known)]

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
        count = len(self._hosts if is_past else self._now)
        groups: list[tuple[int, frozenset[Selector]]] = [((1 << count) - 1, frozenset())]
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
