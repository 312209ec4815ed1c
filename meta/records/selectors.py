"""Selectors: which hosts an override, a label or a query is for. Pure.

Each kind of selector is a class in KINDS, and everything that differs between kinds is in its class. A new kind must say what
it `matches`, and the `problem` of a value; the other methods have defaults that are right, if less exact.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from string import ascii_letters, digits
from typing import Any, ClassVar

import msgspec

from updater.wire.limits import LABEL_FORM, MAX_HOSTNAME, length_problem
from updater.wire.names import hostname_problem
from updater.wire.text import quoted

Test = Callable[[str, Mapping[str, str]], bool]  # of a host's name and its labels
Possible = tuple[str, tuple[tuple[str, str], ...]]  # a host: its name, its labels
_NAMED_HOSTS = 3  # hosts of a list that are shown in a message
_FIRST = ascii_letters + digits  # the first character of a host name
_ANY = f"{_FIRST}._-"
_PART = re.compile(r"\[!?\]?[^]]*]|.", re.DOTALL)  # a part of a glob: a pattern for one character, or `*`
_WILDCARD = re.compile(r"[*?[]")
_LABEL = re.compile(LABEL_FORM)
_WITNESS = "x"  # a possible host, or a part of its name


class Selector(msgspec.Struct, frozen=True):
    """A kind has one field, a text or a set of texts; its name is the key in a records file and in `--for`."""

    form: ClassVar[str] = "{0}"  # of the value in `--for`; {0}: a name
    is_list: ClassVar[bool] = False  # whether the value is a list of texts
    by_name: ClassVar[bool] = True  # whether it depends on the host's name alone
    completed_from: ClassVar[str] = ""  # what a shell completes its value from: `hosts` or `labels`

    @classmethod
    def problem(cls, value: str) -> str:
        """Why this value can select no host, or "". value: the text, or one item of a list."""
        raise NotImplementedError

    @property
    def field(self) -> tuple[str, Any]:
        """(key, value) in a records file."""
        [kind] = self.__struct_fields__
        return kind, getattr(self, kind)

    def matches(self, hostname: str, labels: Mapping[str, str]) -> bool:
        raise NotImplementedError

    def test(self) -> Test:
        """`matches`, or a faster function with the same result."""
        return self.matches

    def in_words(self) -> str:
        return " ".join(self.field)

    @property
    def glob_form(self) -> str:
        """A shell pattern for the names of just its hosts, "" if there is none."""
        return ""

    @property
    def names(self) -> frozenset[str]:
        """The hosts that it lists."""
        return frozenset()

    @property
    def label_keys(self) -> frozenset[str]:
        """The keys of the labels on which it depends."""
        return frozenset()

    @property
    def found_by(self) -> Collection[str]:
        """Names or labels of which each of its hosts has one; () if there are none, so that it is tried on every host."""
        return self.names

    def possible(self) -> Iterable[Possible]:
        """Some hosts that it selects."""
        fitting = (self.glob_form.replace("*", stars).replace("?", "0") for stars in ("", _WITNESS))
        return [(name, ()) for name in (*self.names, *fitting) if not hostname_problem(name) and self.matches(name, {})]

    def query(self) -> dict[str, str]:
        """A query of the REST API that returns all of its hosts, and few others."""
        one = "".join(self.names) if len(self.names) == 1 else self.glob_form
        return {"name": one} if one else {}

    def meant(self, hostname: str) -> str:
        """What was meant, in words, if it would select this host but for the case of letters."""
        return f"host {hostname}"

    def common(self, _other: "Selector") -> "Selector | None":
        """As `common` below, if one of the two depends on more than names."""
        return None


class Prefix(Selector, frozen=True):
    """Selects the hosts whose name starts with the prefix."""

    prefix: str

    @classmethod
    def problem(cls, value: str) -> str:
        return _pattern_problem("prefix", value, not hostname_problem(value))

    def matches(self, hostname: str, _labels: Mapping[str, str]) -> bool:
        return hostname.startswith(self.prefix)

    def test(self) -> Test:
        prefix = self.prefix
        return lambda hostname, _labels: hostname.startswith(prefix)

    def in_words(self) -> str:
        return f"prefix {self.prefix}" if self.prefix else 'prefix ""'

    @property
    def glob_form(self) -> str:
        return _WILDCARD.sub(r"[\g<0>]", self.prefix) + "*"

    def meant(self, hostname: str) -> str:
        return f"prefix {hostname[: len(self.prefix)]}"


class Glob(Selector, frozen=True):
    """Selects the hosts whose whole name fits a shell pattern; case matters."""

    glob: str

    @classmethod
    def problem(cls, value: str) -> str:
        return glob_problem(value, "glob")

    def matches(self, hostname: str, _labels: Mapping[str, str]) -> bool:
        return _pattern(self.glob).match(hostname) is not None

    def test(self) -> Test:
        pattern = _pattern(self.glob)
        return lambda hostname, _labels: pattern.match(hostname) is not None

    @property
    def glob_form(self) -> str:
        return self.glob


class Hosts(Selector, frozen=True):
    """Selects exactly these hosts."""

    is_list = True
    completed_from = "hosts"
    hosts: frozenset[str]

    @classmethod
    def problem(cls, value: str) -> str:
        return hostname_problem(value)

    def matches(self, hostname: str, _labels: Mapping[str, str]) -> bool:
        return hostname in self.hosts

    def in_words(self) -> str:
        names = sorted(self.hosts)
        more = len(names) - _NAMED_HOSTS
        return f"hosts {', '.join(names[:_NAMED_HOSTS])}" + (f" and {more} more" if more > 0 else "")

    @property
    def names(self) -> frozenset[str]:
        return self.hosts


class Label(Selector, frozen=True):
    """Selects the hosts with this label: `env=staging`, or `env` for any value."""

    form = "KEY=VALUE"
    by_name = False
    completed_from = "labels"
    label: str

    @classmethod
    def problem(cls, value: str) -> str:
        return label_problem(value)

    def matches(self, _hostname: str, labels: Mapping[str, str]) -> bool:
        key, equals, value = self.label.partition("=")
        return labels.get(key) == value if equals else key in labels

    @property
    def label_keys(self) -> frozenset[str]:
        return frozenset((self.label.partition("=")[0],))

    @property
    def found_by(self) -> Collection[str]:
        return (self.label,)

    def possible(self) -> Iterable[Possible]:
        key, _, value = self.label.partition("=")
        return [(_WITNESS, ((key, value),))]

    def query(self) -> dict[str, str]:
        return {"label": self.label}

    def common(self, other: Selector) -> Selector | None:
        if self.label_keys != other.label_keys:
            return None
        if "=" in self.label and "=" in other.field[1]:
            return NO_HOST
        return self if "=" in self.label else other


KINDS: dict[str, type[Selector]] = {kind.__struct_fields__[0]: kind for kind in (Prefix, Glob, Hosts, Label)}
# How each is written as text; {0}: a name.
WAYS = " or ".join(", ".join(f"{key}:{kind.form}" for key, kind in KINDS.items()).rsplit(", ", 1))
NO_HOST = Hosts(frozenset())  # selects no host


def selector_fields(selector: Selector) -> dict[str, Any]:
    """{key: value} of the selector in a records file."""
    key, value = selector.field
    return {key: sorted(value) if selector.is_list else value}


def selector_of(fields: Mapping[str, Any]) -> Selector:
    """The inverse of selector_fields; `fields` may hold an override's other fields too. Checks nothing."""
    [key] = KINDS.keys() & fields.keys()
    make: Callable[[Any], Selector] = KINDS[key]
    return make(frozenset(fields[key]) if KINDS[key].is_list else fields[key])


def fields_of_text(text: str) -> dict[str, Any] | None:
    """`prefix:lg-`, `hosts:a,b` and the like in the form of a records file; None if it names no kind."""
    kind, colon, value = text.partition(":")
    if not colon or kind not in KINDS:
        return None
    return {kind: value.split(",") if KINDS[kind].is_list else value}


def glob_problem(text: str, key: str) -> str:
    """Why no possible host name fits this shell pattern, or ""."""
    parts = [part for part in _PART.findall(text) if part != "*"]
    first = _ANY if text.startswith("*") else _FIRST
    allowed = zip(parts, [first, *(_ANY for _ in parts[1:])], strict=False)
    return _pattern_problem(key, text, all(any(fnmatchcase(c, part) for c in known) for part, known in allowed))


def _pattern_problem(key: str, text: str, fits: bool) -> str:
    wrong = f"{key} {quoted(text)} fits no host: a hostname has only letters, digits, '.', '_' and '-'"
    return length_problem(key, text, MAX_HOSTNAME) or ("" if fits else wrong)


def label_problem(text: str) -> str:
    """Why this is not a label, `KEY` or `KEY=VALUE`, or ""."""
    key, equals, value = text.partition("=")
    if _LABEL.fullmatch(key) and (not equals or _LABEL.fullmatch(value)):
        return ""
    return f"label {quoted(text)} is not KEY or KEY=VALUE, each 1 to 63 letters, digits, '.', '_' or '-'"


def common(one: Selector, other: Selector) -> Selector | None:
    """The selector of just the hosts that both select, NO_HOST if there are none. None if there is no such selector, or if it
    is not known which."""
    if one == other or _covers(other, one):
        return one
    if _covers(one, other):
        return other
    if not (one.by_name and other.by_name):
        return one.common(other)
    for selector, rest in ((one, other), (other, one)):
        if (listed := _listed(selector)) is not None:
            both = frozenset(host for host in listed if rest.matches(host, {}))
            return selector if both == listed else Hosts(both)
    (head, tail), (other_head, other_tail) = _ends(one), _ends(other)
    heads = head.startswith(other_head) or other_head.startswith(head)
    return None if heads and (tail.endswith(other_tail) or other_tail.endswith(tail)) else NO_HOST


def _covers(wide: Selector, narrow: Selector) -> bool:
    """Whether what the names of `narrow` have in common shows that `wide` selects them. True is certain."""
    head, star, tail = wide.glob_form.partition("*")
    beginning, end = _ends(narrow)
    return bool(star) and not _WILDCARD.search(head + tail) and beginning.startswith(head) and end.endswith(tail)


def _listed(selector: Selector) -> Collection[str] | None:
    """The hosts that it selects, if it names them."""
    glob = selector.glob_form
    return selector.names if selector.is_list else {glob} if glob and not _WILDCARD.search(glob) else None


def _ends(selector: Selector) -> tuple[str, str]:
    """(beginning, end) that all its names share and that do not overlap."""
    first, *others = _WILDCARD.split(selector.glob_form)
    return first, others[-1] if others and "[" not in selector.glob_form else ""


@lru_cache(maxsize=1 << 16)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))
