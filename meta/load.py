"""A records file, or a body that says the same -> its value, or every reason why it must not be used.

Two forms: our own, in YAML or JSON (meta.records_file), and ops-meta's cfg.json as it is (meta.legacy). A file that is
empty or has no `agents` is refused: a truncated file must never mean "no agents". What is already decoded JSON (parse_data,
parse_record, parse_selector) goes through the same reader, so that the same is refused in the same words everywhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from meta import legacy, nodes, records_file
from meta.errors import Problem, RecordsError, shown
from meta.reader import Field, Reader, is_blank
from meta.records import Record, Selector, as_fields
from updater.wiretext import utf16_problem


class Loaded(msgspec.Struct, frozen=True):
    """A records file as it was read: the records, what to tell its owner, and ops-meta's own settings if it was a
    cfg.json."""

    file: str
    records: tuple[Record, ...]
    warnings: tuple[str, ...] = ()
    settings: legacy.Settings | None = None

    def as_data(self) -> dict[str, Any]:
        """The whole file as JSON data: ops-meta's form for a cfg.json, else ours."""
        if self.settings:
            return legacy.as_data(self.records, self.settings)
        return {"agents": as_fields(self.records)}


def load(path: Path) -> Loaded:
    """Read and check a records file; raises RecordsError with all problems."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as e:
        raise RecordsError(str(path), [Problem("", 0, f"cannot be read: {getattr(e, 'strerror', None) or e}")]) from e
    return parse(decode(data, str(path)), str(path))


def decode(data: bytes, file: str) -> str:
    """The text of a file in UTF-8, with or without its mark. Raises RecordsError."""
    if problem := utf16_problem(data):
        raise RecordsError(file, [Problem("", 0, problem)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise RecordsError(file, [Problem("", line, f"not UTF-8: byte 0x{data[e.start]:02x}")]) from e


def parse(text: str, file: str) -> Loaded:
    """The text of a records file -> its value; `file` is its name for the messages. Raises RecordsError."""
    try:
        root, is_json = _compose(text, file)
    except nodes.NodeError as e:
        raise RecordsError(file, [Problem("", e.line, str(e))]) from e
    if root is None or is_blank(root):
        raise RecordsError(file, [Problem("", 0, "is empty; write `agents: []` if no agent is meant")])
    reader = Reader()
    top = Field(root, "", root.line)
    settings = None
    if is_json and legacy.is_legacy(root):
        records, settings = legacy.read(top, reader)
    else:
        records = records_file.read(top, reader)
    _refuse(reader, file)
    return Loaded(file, tuple(records), _warnings(reader, file), settings)


def parse_data(data: Any, source: str) -> Loaded:
    """The decoded JSON of a records file in our form -> its value; `source` is its name for the messages. Raises
    RecordsError."""
    reader = Reader()
    records = records_file.read(_top(data, source), reader)
    _refuse(reader, source)
    return Loaded(source, tuple(records), _warnings(reader, source))


def parse_record(data: Any, source: str, name: str = "") -> Record:
    """The decoded JSON of one record, as a records file spells it. name: whose it is, so that it need not say so itself,
    and must not say otherwise. Raises RecordsError."""
    if name and isinstance(data, Mapping):
        data = {"name": name, **data}
    reader = Reader()
    record = records_file.read_record(_top(data, source), reader)
    if name and record and record.name != name:
        reader.problems.append(Problem("name", 0, f'must be "{name}", or left out; a record is not renamed by an edit'))
    _refuse(reader, source)
    if record is None:
        raise RecordsError(source, [Problem("", 0, "is no record")])
    return record


def parse_selector(data: Any, source: str) -> Selector:
    """A selector alone: decoded JSON like {"prefix": "lg-"}, or text like `prefix:lg-`, `hosts:a,b`, `label:env=staging`.
    Raises RecordsError."""
    if isinstance(data, str):
        kind, _, value = data.partition(":")
        if kind not in records_file.SELECTORS:
            text = "a selector is written prefix:lg-, glob:*.example, hosts:h1,h2 or label:env=staging"
            raise RecordsError(source, [Problem("", 0, text)])
        data = {kind: value.split(",") if kind == "hosts" else value}
    reader = Reader()
    selector = records_file.read_selector(_top(data, source), reader)
    _refuse(reader, source)
    if selector is None:
        raise RecordsError(source, [Problem("", 0, "is no selector")])
    return selector


def _top(data: Any, source: str) -> Field:
    try:
        root = nodes.from_data(data)
    except nodes.NodeError as e:
        raise RecordsError(source, [Problem("", 0, str(e))]) from e
    return Field(root or nodes.Text("", 0, plain=True), "", 0)


def _refuse(reader: Reader, source: str) -> None:
    if reader.problems:
        raise RecordsError(source, sorted(reader.problems, key=lambda problem: problem.line))


def _warnings(reader: Reader, source: str) -> tuple[str, ...]:
    return tuple(shown(source, warning) for warning in reader.warnings)


def _compose(text: str, file: str) -> tuple[nodes.Node | None, bool]:
    is_json = text.lstrip().startswith("{") and (file.endswith(".json") or nodes.is_json(text))
    return (nodes.from_json(text) if is_json else nodes.from_yaml(text)), is_json
