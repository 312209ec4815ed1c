"""Loads records from a file or a request's body; on errors it reports all problems at once.

There are two formats: our own, in YAML or JSON (`own_format`), and ops-meta's unchanged cfg.json (`ops_meta_format`). A file
that is empty or has no `agents` is refused, since a truncated file must not mean "no agents". Decoded JSON (parse_data,
parse_record, parse_selector) goes through the same reader, so that it is refused for the same reasons.
"""

from pathlib import Path
from typing import Any

import msgspec

from meta.errors import Problem, RecordsError, shown
from meta.records.files import located_tree, ops_meta_format, own_format
from meta.records.files.problem_reader import Field, Reader, is_blank
from meta.records.model import Record, as_fields
from meta.records.selectors import WAYS, Selector, fields_of_text
from updater.wire.text import encoding_problem


class Loaded(msgspec.Struct, frozen=True):
    """The content of a records file."""

    file: str
    records: tuple[Record, ...]
    warnings: tuple[str, ...] = ()
    settings: ops_meta_format.Settings | None = None  # ops-meta's settings, if the file is a cfg.json

    def as_data(self) -> dict[str, Any]:
        """The whole file as JSON data, in ops-meta's format for a cfg.json, else in ours."""
        if self.settings:
            return ops_meta_format.as_data(self.settings)
        return {"agents": as_fields(self.records)}


def load(path: Path) -> Loaded:
    """Read and check a records file; raises RecordsError with all problems."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as e:
        raise RecordsError(str(path), [Problem("", 0, f"cannot be read: {getattr(e, 'strerror', None) or e}")]) from e
    return parse(decode(data, str(path)), str(path))


def decode(data: bytes, file: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark. Raises RecordsError."""
    if problem := encoding_problem(data):
        raise RecordsError(file, [Problem("", 0, problem)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise RecordsError(file, [Problem("", line, f"not UTF-8: byte 0x{data[e.start]:02x}")]) from e


def parse(text: str, file: str) -> Loaded:
    """Parse the text of a records file. file: its name, for messages. Raises RecordsError."""
    try:
        root, is_json = _compose(text, file)
    except located_tree.NodeError as e:
        raise RecordsError(file, [Problem("", e.line, str(e))]) from e
    if root is None or is_blank(root):
        raise RecordsError(file, [Problem("", 0, "is empty; write `agents: []` if no agent is meant")])
    reader = Reader()
    top = Field(root, "", root.line)
    settings = None
    if is_json and ops_meta_format.is_legacy(root):
        records, settings = ops_meta_format.read(top, reader)
    else:
        records = own_format.read(top, reader)
    _refuse(reader, file)
    return Loaded(file, tuple(records), _warnings(reader, file), settings)


def parse_data(data: Any, source: str) -> Loaded:
    """Parse the decoded JSON of a records file in our format. source: its name, for messages. Raises RecordsError."""
    reader = Reader()
    records = own_format.read(_top(data, source), reader)
    _refuse(reader, source)
    return Loaded(source, tuple(records), _warnings(reader, source))


def parse_record(data: Any, source: str) -> Record:
    """Parse the decoded JSON of one record, in the form of a records file. Raises RecordsError."""
    reader = Reader()
    record = own_format.read_record(_top(data, source), reader)
    _refuse(reader, source)
    if record is None:
        raise RecordsError(source, [Problem("", 0, "is no record")])
    return record


def parse_selector(data: Any, source: str) -> Selector:
    """Parse a selector: decoded JSON like {"prefix": "lg-"}, or text like `prefix:lg-`, `hosts:a,b`, `label:env=staging`.
    Raises RecordsError."""
    if isinstance(data, str):
        if (fields := fields_of_text(data)) is None:
            text = f"a selector is written {WAYS.format('NAME')}"
            raise RecordsError(source, [Problem("", 0, text)])
        data = fields
    reader = Reader()
    selector = own_format.read_selector(_top(data, source), reader)
    _refuse(reader, source)
    if selector is None:
        raise RecordsError(source, [Problem("", 0, "is no selector")])
    return selector


def _top(data: Any, source: str) -> Field:
    try:
        root = located_tree.from_data(data)
    except located_tree.NodeError as e:
        raise RecordsError(source, [Problem("", 0, str(e))]) from e
    return Field(root or located_tree.Text("", 0, plain=True), "", 0)


def _refuse(reader: Reader, source: str) -> None:
    if reader.problems:
        raise RecordsError(source, sorted(reader.problems, key=lambda problem: problem.line))


def _warnings(reader: Reader, source: str) -> tuple[str, ...]:
    return tuple(shown(source, warning) for warning in reader.warnings)


def _compose(text: str, file: str) -> tuple[located_tree.Node | None, bool]:
    is_json = text.lstrip().startswith("{") and (file.endswith(".json") or located_tree.is_json(text))
    return (located_tree.from_json(text) if is_json else located_tree.from_yaml(text)), is_json
