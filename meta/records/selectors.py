"""Selectors: which hosts an override, a label or a query is for. Pure.

Each kind of selector is a class in KINDS. Everything that differs between kinds is in its class and in the two functions on
pairs below, so that a new kind is added in this module alone.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from string import ascii_letters, digits
from typing import Any

import msgspec

from updater.wire.limits import LABEL_FORM, MAX_HOSTNAME, length_problem
from updater.wire.names import hostname_problem
from updater.wire.text import quoted

_NAMED_HOSTS = 3  # hosts of a list that are shown in a message
_FIRST = ascii_letters + digits  # the first character of a host name
_ANY = f"{_FIRST}._-"
_PART = re.compile(r"\[!?\]?[^]]*]|.", re.DOTALL)  # a part of a glob: a pattern for one character, or `*`
_WILDCARD = re.compile(r"[*?[]")
_LABEL = re.compile(LABEL_FORM)


class Prefix(msgspec.Struct, frozen=True):
    """Selects the hosts whose name starts with the prefix."""

    prefix: str

    def matches(self, hostname: str, _labels: Mapping[str, str]) -> bool:
        return hostname.startswith(self.prefix)

    def in_words(self) -> str:
        return f"prefix {self.prefix}" if self.prefix else 'prefix ""'

    @classmethod
    def of(cls, value: str) -> "Prefix":
        return cls(value)


class Glob(msgspec.Struct, frozen=True):
    """Selects the hosts whose whole name fits a shell pattern; case matters."""

    glob: str

    def matches(self, hostname: str, _labels: Mapping[str, str]) -> bool:
        return _pattern(self.glob).match(hostname) is not None

    def in_words(self) -> str:
        return f"glob {self.glob}"

    @classmethod
    def of(cls, value: str) -> "Glob":
        return cls(value)


class Hosts(msgspec.Struct, frozen=True):
    """Selects exactly these hosts."""

    hosts: frozenset[str]

    def matches(self, hostname: str, _labels: Mapping[str, str]) -> bool:
        return hostname in self.hosts

    def in_words(self) -> str:
        names = sorted(self.hosts)
        more = len(names) - _NAMED_HOSTS
        return f"hosts {', '.join(names[:_NAMED_HOSTS])}" + (f" and {more} more" if more > 0 else "")

    @classmethod
    def of(cls, value: list[str]) -> "Hosts":
        return cls(frozenset(value))


class Label(msgspec.Struct, frozen=True):
    """Selects the hosts with this label: `env=staging`, or `env` for any value."""

    label: str

    def matches(self, _hostname: str, labels: Mapping[str, str]) -> bool:
        key, equals, value = self.label.partition("=")
        return labels.get(key) == value if equals else key in labels

    def in_words(self) -> str:
        return f"label {self.label}"

    @classmethod
    def of(cls, value: str) -> "Label":
        return cls(value)


Selector = Prefix | Glob | Hosts | Label
# By the key in a records file and in `--for`. A kind's value is text, or a list of texts.
KINDS: dict[str, type[Prefix] | type[Glob] | type[Hosts] | type[Label]] = {
    "prefix": Prefix,
    "glob": Glob,
    "hosts": Hosts,
    "label": Label,
}
LISTS = ("hosts",)  # the kinds whose value is a list
WAYS = "prefix:{0}, glob:{0}, hosts:{0} or label:KEY=VALUE"  # how each is written as text


def selector_fields(selector: Selector) -> dict[str, Any]:
    """{key: value} of the selector in a records file."""
    [(key, value)] = msgspec.structs.asdict(selector).items()
    return {key: sorted(value) if key in LISTS else value}


def selector_of(fields: Mapping[str, Any]) -> Selector:
    """The inverse of selector_fields; `fields` may hold an override's other fields too. Checks nothing."""
    [key] = KINDS.keys() & fields.keys()
    return KINDS[key].of(fields[key])


def fields_of_text(text: str) -> dict[str, Any] | None:
    """`prefix:lg-`, `hosts:a,b` and the like in the form of a records file; None if it names no kind."""
    kind, colon, value = text.partition(":")
    if not colon or kind not in KINDS:
        return None
    return {kind: value.split(",") if kind in LISTS else value}


def selector_problem(kind: str, value: str) -> str:
    """Why this value can select no host, or "". value: the text, or one item of a list."""
    if kind == "label":
        return label_problem(value)
    return hostname_problem(value) if kind in LISTS else pattern_problem(kind, value)


def pattern_problem(key: str, text: str) -> str:
    """Why no possible host name starts with this prefix, or matches this glob (any other key), or ""."""
    if problem := length_problem(key, text, MAX_HOSTNAME):
        return problem
    if key == "prefix":
        fits = not hostname_problem(text)
    else:
        parts = [part for part in _PART.findall(text) if part != "*"]
        first = _ANY if text.startswith("*") else _FIRST
        allowed = zip(parts, [first, *(_ANY for _ in parts[1:])], strict=False)
        fits = all(any(fnmatchcase(c, part) for c in known) for part, known in allowed)
    return "" if fits else f"{key} {quoted(text)} fits no host: a hostname has only letters, digits, '.', '_' and '-'"


def label_problem(text: str) -> str:
    """Why this is not a label, `KEY` or `KEY=VALUE`, or ""."""
    key, equals, value = text.partition("=")
    if _LABEL.fullmatch(key) and (not equals or _LABEL.fullmatch(value)):
        return ""
    return f"label {quoted(text)} is not KEY or KEY=VALUE, each 1 to 63 letters, digits, '.', '_' or '-'"


# --- pairs of selectors ---

NO_HOST = Hosts(frozenset())  # selects no host


def common(one: Selector, other: Selector) -> Selector | None:
    """The selector of just the hosts that both select, NO_HOST if there are none. None if there is no such selector, or if it
    is not known which."""
    simple, simpler = _simplest(one), _simplest(other)
    if simple == simpler or _within(simple, simpler):
        return one
    if _within(simpler, simple):
        return other
    if isinstance(simple, Label) and isinstance(simpler, Label):
        return _common_label(simple, simpler)
    if isinstance(simple, Label) or isinstance(simpler, Label):
        return None
    if isinstance(simple, Hosts):
        return _listed(one, simple, simpler)
    if isinstance(simpler, Hosts):
        return _listed(other, simpler, simple)
    return None if _may_overlap(simple, simpler) else NO_HOST


def _listed(selector: Selector, listed: Hosts, other: Selector) -> Selector:
    """As `common`. listed: the hosts that the selector selects."""
    both = frozenset(host for host in listed.hosts if other.matches(host, {}))
    return selector if both == listed.hosts else Hosts(both)


def _common_label(one: Label, other: Label) -> Selector | None:
    (key, equals, _), (other_key, other_equals, _) = one.label.partition("="), other.label.partition("=")
    if key != other_key:
        return None
    if equals and other_equals:
        return NO_HOST
    return one if equals else other


def _may_overlap(one: Prefix | Glob, other: Prefix | Glob) -> bool:
    """Whether some possible host may be selected by both. False is certain."""
    (head, tail), (other_head, other_tail) = _ends(one), _ends(other)
    heads = head.startswith(other_head) or other_head.startswith(head)
    return heads and (tail.endswith(other_tail) or other_tail.endswith(tail))


def _simplest(selector: Selector) -> Selector:
    """An equivalent simpler selector: a glob without wildcards is a host, and one with only a final `*` is a prefix."""
    if not isinstance(selector, Glob):
        return selector
    if not _WILDCARD.search(selector.glob):
        return Hosts(frozenset((selector.glob,)))
    if selector.glob.endswith("*") and not _WILDCARD.search(selector.glob[:-1]):
        return Prefix(selector.glob[:-1])
    return selector


def _within(one: Selector, other: Selector) -> bool:
    """Whether `other` is a prefix that all hosts of `one` have."""
    return isinstance(other, Prefix) and _ends(one)[0].startswith(other.prefix)


def _ends(selector: Selector) -> tuple[str, str]:
    """(beginning, end) that all names selected by a prefix or a glob share."""
    if isinstance(selector, Prefix):
        return selector.prefix, ""
    if not isinstance(selector, Glob):
        return "", ""
    parts = _WILDCARD.split(selector.glob)
    return parts[0], "" if "[" in selector.glob else parts[-1]


@lru_cache(maxsize=1 << 16)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))
