"""Reads values from a tree of nodes and collects all problems, instead of stopping at the first. Pure.

Each method returns a usable value even if it found a problem, so that reading goes on, and none raises. The caller checks
`problems` at the end.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from meta.errors import Problem
from meta.records.files.located_tree import Fields, Items, Node, Other, Text
from meta.suggestions import did_you_mean
from updater.wire.text import one_line, plain, quoted


class Field(NamedTuple):
    """One value with its position."""

    node: Node
    path: str
    line: int  # of its key or, in a list, of the value itself


class Reader:
    """Collects problems (which refuse the file) and warnings (which do not)."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def problem(self, at: Field, text: str) -> None:
        self.problems.append(Problem(at.path, at.line, text))

    def warn(self, at: Field, text: str) -> None:
        self.warnings.append(Problem(at.path, at.line, text))

    def fields(self, at: Field, known: Iterable[str]) -> dict[str, Field]:
        """A mapping's values by key. Unknown and repeated keys are problems."""
        found: dict[str, Field] = {}
        names = list(known)
        for key, field in self._pairs(at):
            if key in found:
                self.problem(field, f"is given twice, first {place(found[key])}")
            elif key not in names:
                self.problem(field, _unknown(key, names))
            else:
                found[key] = field
        return found

    def lenient_fields(self, at: Field, known: Iterable[str]) -> dict[str, Field]:
        """Like `fields`, but as Go reads JSON: case is ignored, the last of a repeated key wins, and unknown keys only give a
        warning."""
        found: dict[str, Field] = {}
        names = {name.lower(): name for name in known}
        for key, field in self._pairs(at):
            name = names.get(key.lower())
            if name is None:
                self.warn(field, _unknown(key, list(names.values())) + "; ignored, as ops-meta does")
                continue
            if name in found:
                self.warn(field, f"is given twice; this one counts, not line {found[name].line}")
            found[name] = field
        return found

    def _pairs(self, at: Field) -> Iterable[tuple[str, Field]]:
        if not isinstance(at.node, Fields):
            self.problem(at, f"must be a mapping, not {_kind(at.node)}")
            return
        for key, value in at.node.pairs:
            if isinstance(key, Text):
                yield key.value, Field(value, _join(at.path, one_line(key.value, 40)), key.line)
            else:
                self.problem(Field(key, at.path, key.line), f"a key must be text, not {_kind(key)}")

    def items(self, at: Field) -> list[Field]:
        """A list's values."""
        if isinstance(at.node, Items):
            return [Field(node, f"{at.path}[{i}]", node.line) for i, node in enumerate(at.node.items)]
        self.problem(at, f"must be a list, not {_kind(at.node)}")
        return []

    def text(self, at: Field) -> str | None:
        """A scalar as it was written; None, with a problem, if it is something else."""
        if isinstance(at.node, Text):
            return at.node.value
        self.problem(at, f"must be text, not {_kind(at.node)}")
        return None

    def whole_number(self, at: Field, most: int) -> int | None:
        """A whole number from 0 to `most`; None, with a problem, if it is something else."""
        number = at.node.number if isinstance(at.node, Other) else None
        if isinstance(at.node, Text) and re.fullmatch(r"[0-9]{1,16}", at.node.value, re.ASCII):
            number = int(at.node.value)
        if number is not None and 0 <= number <= most:
            return number
        odd = f", not {_kind(at.node)}" if isinstance(at.node, Text) and plain(at.node.value) != at.node.value else ""
        self.problem(at, f"must be a whole number from 0 to {most}{odd}")
        return None


def place(field: Field) -> str:
    """The position of a field for messages: its line if known, else its path."""
    return f"on line {field.line}" if field.line else f"as {field.path}"


def is_blank(node: Node) -> bool:
    """Whether there is no value at all: null, `~`, or nothing after the colon."""
    return isinstance(node, Text) and node.plain and not node.value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _unknown(key: str, names: list[str]) -> str:
    if key == "<<":
        return "merge keys are not read; write the fields out"
    hint = did_you_mean(key.lower(), names) or f"; known here: {', '.join(names)}"
    odd = "" if plain(key) == key else f" {quoted(key)}"
    return f"unknown key{odd}{hint}"


def _kind(node: Node) -> str:
    if is_blank(node):
        return "blank"
    if isinstance(node, Other):
        return node.kind
    if isinstance(node, Text):
        return "text" if plain(node.value) == node.value else f"text {quoted(node.value)}"
    return "a list" if isinstance(node, Items) else "a mapping"
