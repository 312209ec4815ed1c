"""A records file, or a body that says the same -> its value, or every reason why it must not be used.

Two forms: our own, in YAML or JSON (`own_format`), and ops-meta's cfg.json as it is (`ops_meta_format`). A file that is
empty or has no `agents` is refused: a truncated file must never mean "no agents". What is already decoded JSON (parse_data,
parse_record, parse_selector) goes through the same reader, so that the same is refused in the same words everywhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from meta.errors import Problem, RecordsError, shown
from meta.records.files import located_tree, ops_meta_format, own_format
from meta.records.files.problem_reader import Field, Reader, is_blank
from meta.records.model import Record, as_fields
from meta.records.selectors import Selector, fields_of_text
from updater.wire.text import utf16_problem


class Loaded(msgspec.Struct, frozen=True):
    """A records file as it was read: the records, what to tell its owner, and ops-meta's own settings if it was a
    cfg.json."""

    file: str
    records: tuple[Record, ...]
    warnings: tuple[str, ...] = ()
    settings: ops_meta_format.Settings | None = None

    def as_data(self) -> dict[str, Any]:
        """The whole file as JSON data: ops-meta's form for a cfg.json, else ours."""
        if self.settings:
            return ops_meta_format.as_data(self.records, self.settings)
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
    """The decoded JSON of a records file in our form -> its value; `source` is its name for the messages. Raises
    RecordsError."""
    reader = Reader()
    records = own_format.read(_top(data, source), reader)
    _refuse(reader, source)
    return Loaded(source, tuple(records), _warnings(reader, source))


def parse_record(data: Any, source: str, name: str = "") -> Record:
    """The decoded JSON of one record, as a records file spells it. name: whose it is, so that it need not say so itself,
    and must not say otherwise. Raises RecordsError."""
    if name and isinstance(data, Mapping):
        data = {"name": name, **data}
    reader = Reader()
    record = own_format.read_record(_top(data, source), reader)
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
        if (fields := fields_of_text(data)) is None:
            text = "a selector is written prefix:lg-, glob:*.example, hosts:h1,h2 or label:env=staging"
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
