"""A records file -> its value, or every reason why it must not be used.

Two forms: our own, in YAML or JSON (meta.records_file), and ops-meta's cfg.json as it is (meta.legacy). A file that is empty or
has no `agents` is refused: a truncated file must never mean "no agents".
"""

from pathlib import Path
from typing import Any

import msgspec

from meta import legacy, nodes, records_file
from meta.errors import Problem, RecordsError, shown
from meta.reader import Field, Reader, is_blank
from meta.records import Record, as_fields


class Loaded(msgspec.Struct, frozen=True):
    """A records file as it was read: the records, what to tell its owner, and ops-meta's own settings if it was a cfg.json."""

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
    return parse(_read(path), str(path))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as e:
        if isinstance(e, UnicodeDecodeError):
            problem = Problem("", e.object.count(b"\n", 0, e.start) + 1, f"not UTF-8: byte 0x{e.object[e.start]:02x}")
        else:
            problem = Problem("", 0, f"cannot be read: {getattr(e, 'strerror', None) or e}")
        raise RecordsError(str(path), [problem]) from e


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
    if reader.problems:
        raise RecordsError(file, sorted(reader.problems, key=lambda problem: problem.line))
    return Loaded(file, tuple(records), tuple(shown(file, warning) for warning in reader.warnings), settings)


def _compose(text: str, file: str) -> tuple[nodes.Node | None, bool]:
    is_json = text.lstrip().startswith("{") and (file.endswith(".json") or nodes.is_json(text))
    return (nodes.from_json(text) if is_json else nodes.from_yaml(text)), is_json
