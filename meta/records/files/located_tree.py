"""Parses YAML or JSON into a tree of nodes that know their lines. Decoded JSON becomes the same tree, without lines. Pure.

Values stay as they were written: `1.10` is the text "1.10", not the number 1.1. null, `~` and a missing value are blank text.

The tree is built from the parser's events, without recursion, so that no input can exhaust Python's stack. Refused are values
that are nested deeper than MAX_DEPTH, aliases that contain themselves, and aliases that expand to more than MAX_NODES values.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import yaml

from updater.wire import syntax_mistakes

MAX_DEPTH = 32
MAX_NODES = 1_000_000
_READ_AGAIN = 1 << 20  # characters; a shorter invalid text is parsed again, by a slow parser with better messages
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_JSON_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[^\s{}\[\],:"]+|\n')
_BRACKET = re.compile(r"""'[^'\n]*'|"(?:[^"\\]|\\.)*"|(?<!\S)\#[^\n]*|(?P<open>[\[{])|(?P<close>[]}])""", re.S)


class Text(NamedTuple):
    """A scalar."""

    value: str
    line: int  # from 1; 0: unknown, as in all nodes
    plain: bool = False  # written without quotes


class Items(NamedTuple):
    """A list."""

    items: "list[Node]"
    line: int


class Fields(NamedTuple):
    """A mapping. Its keys are in the order of the text, and may be repeated or no text."""

    pairs: "list[tuple[Node, Node]]"
    line: int


class Other(NamedTuple):
    """A number or a boolean in decoded JSON, whose original text is unknown."""

    kind: str  # in words
    line: int
    number: int | None = None  # if it is a whole number


Node = Text | Items | Fields | Other


class NodeError(ValueError):
    """The text cannot be parsed. line: from 1; 0: unknown."""

    def __init__(self, line: int, text: str):
        super().__init__(text)
        self.line = line


class _Open(NamedTuple):
    """A list or a mapping whose end has not been read yet."""

    children: list[Node]
    line: int
    is_fields: bool
    anchor: str | None


class _Builder:
    """Builds the tree from scalars, starts and ends, in the order of the text. At the end, `root` is the tree."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._sizes: list[int] = []

    @property
    def depth(self) -> int:
        return len(self._open)

    def add(self, node: Node, anchor: str | None = None, size: int = 1) -> None:
        if anchor:
            self._anchors[anchor] = (node, size)
        if not self._open:
            self.root = node
            return
        self._open[-1].children.append(node)
        self._sizes[-1] += size
        if self._sizes[-1] > MAX_NODES:
            raise NodeError(node.line, f"more than {MAX_NODES} values")

    def start(self, line: int, is_fields: bool, anchor: str | None = None) -> None:
        if len(self._open) == MAX_DEPTH:
            raise _too_deep(line)
        self._open.append(_Open([], line, is_fields, anchor))
        self._sizes.append(1)

    def end(self) -> None:
        children, line, is_fields, anchor = self._open.pop()
        node: Node = Items(children, line)
        if is_fields:
            node = Fields(list(zip(children[::2], children[1::2], strict=True)), line)
        self.add(node, anchor, self._sizes.pop())

    def alias(self, anchor: str, line: int) -> None:
        if any(frame.anchor == anchor for frame in self._open):
            raise NodeError(line, f"alias *{anchor} contains itself")
        if anchor not in self._anchors:
            raise NodeError(line, f"alias *{anchor} has no anchor before it")
        node, size = self._anchors[anchor]
        self.add(node, None, size)


def _too_deep(line: int) -> NodeError:
    return NodeError(line, f"nested more than {MAX_DEPTH} deep")


def _bound_brackets(text: str, start: int = 0, end: int | None = None, depth: int = 0) -> None:
    """Raise NodeError if text[start:end] has brackets nested deeper than MAX_DEPTH. depth: the depth at its start.

    The parser reads ahead of its events, and fails at a limit of its own. This finds out whether that was the reason.
    """
    for match in _BRACKET.finditer(text, start, len(text) if end is None else end):
        depth += bool(match["open"]) - bool(match["close"])
        if depth > MAX_DEPTH:
            raise _too_deep(text.count("\n", 0, match.start()) + 1)


def from_yaml(text: str) -> Node | None:
    """Parse a YAML document. Returns None if it is empty. Raises NodeError."""
    if odd := _UNPRINTABLE.search(text):
        line, _ = syntax_mistakes.place(text, odd.start())
        raise NodeError(line, f"not YAML: character U+{ord(odd[0]):04X} is not allowed")
    builder = _Builder()
    read = 0
    try:
        for event in _yaml_events(text):
            _take(builder, event)
            read = event.end_mark.index
    except yaml.YAMLError as e:
        mark = _mark(e)
        _bound_brackets(text, read, mark.index + 1 if mark else None, builder.depth)
        raise _no_yaml(text, e) from e
    return builder.root


def _mark(error: yaml.YAMLError) -> Any:
    return getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)


def _no_yaml(text: str, error: yaml.YAMLError) -> NodeError:
    """Return the error in our own words, at the position that the parser in Python gives: libyaml's may differ."""
    opened: list[Any] = []
    events: Iterable[Any] = yaml.parse(text, Loader=yaml.SafeLoader) if len(text) < _READ_AGAIN else ()
    try:
        for event in events:
            if isinstance(event, yaml.CollectionStartEvent):
                start: Any = event.start_mark
                opened.append(start.index if event.flow_style else None)
            elif isinstance(event, yaml.CollectionEndEvent):
                opened.pop()
    except yaml.YAMLError as e:
        error = e
    mark, context = _mark(error), getattr(error, "context_mark", None)
    if mark is None:
        return NodeError(0, "not YAML")
    since = context.index if context and context.index < mark.index else None
    hidden = syntax_mistakes.hidden_blank(text, mark.index)
    at = mark.index if hidden is None else hidden
    hint = syntax_mistakes.in_yaml(text, at, since, opened[-1] if opened else None)
    return NodeError(syntax_mistakes.place(text, at)[0], f"not YAML {syntax_mistakes.in_words(text, at, hint)}")


def _yaml_events(text: str) -> Iterator[Any]:
    return yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _take(builder: _Builder, event: Any) -> None:
    line = event.start_mark.line + 1
    match event:
        case yaml.DocumentStartEvent() if builder.root is not None:
            raise NodeError(line, "a second document starts here; one file holds one")
        case yaml.ScalarEvent():
            plain = bool(event.implicit[0])
            blank = plain and event.value in _NULLS
            builder.add(Text("" if blank else event.value, line, plain), event.anchor)
        case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
            builder.start(line, isinstance(event, yaml.MappingStartEvent), event.anchor)
        case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
            builder.end()
        case yaml.AliasEvent():
            builder.alias(str(event.anchor), line)
        case _:
            pass


def is_json(text: str) -> bool:
    """Whether the whole text is one JSON value."""
    try:
        _check_json(text)
    except NodeError:
        return False
    return True


def from_json(text: str) -> Node | None:
    """Parse JSON. Raises NodeError. The json module checks the syntax; the tree with lines is built here."""
    _check_json(text)
    builder = _Builder()
    line = 1
    for match in _JSON_WORD.finditer(text):
        word = match[0]
        if word == "\n":
            line += 1
        elif word in "{[":
            builder.start(line, word == "{")
        elif word in "}]":
            builder.end()
        elif word[0] == '"':
            builder.add(Text(json.loads(word), line))
        else:
            builder.add(Text("" if word == "null" else word, line, plain=True))
    return builder.root


def from_data(data: Any) -> Node | None:
    """Return the tree of decoded JSON, with line 0 everywhere. Raises NodeError."""
    builder = _Builder()
    _take_data(builder, data)
    return builder.root


def _take_data(builder: _Builder, data: Any) -> None:
    if isinstance(data, dict):
        builder.start(0, True)
        for key, value in data.items():
            builder.add(Text(str(key), 0))
            _take_data(builder, value)
        builder.end()
    elif isinstance(data, list | tuple):
        builder.start(0, False)
        for item in data:
            _take_data(builder, item)
        builder.end()
    elif isinstance(data, str) or data is None:
        builder.add(Text(data or "", 0, plain=data is None))
    else:
        is_whole = isinstance(data, int) and not isinstance(data, bool)
        kind = "true or false" if isinstance(data, bool) else "a number"
        builder.add(Other(kind, 0, data if is_whole else None))


def _check_json(text: str) -> None:
    _bound_brackets(text)
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except json.JSONDecodeError as e:
        at, hint = syntax_mistakes.in_json(text, e.pos)
        raise NodeError(
            syntax_mistakes.place(text, at)[0], f"not JSON {syntax_mistakes.in_words(text, at, hint)}"
        ) from e
    except RecursionError as e:
        raise _too_deep(0) from e


def _refuse_constant(name: str) -> None:
    raise NodeError(0, f"not JSON: {name} is no value")
