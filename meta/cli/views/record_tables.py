"""Records as tables: one agent with its overrides, or all agents."""

from collections.abc import Mapping, Sequence
from typing import Any

from meta.cli.views import show
from meta.records.model import CHANGEABLE
from meta.records.selectors import selector_of

Fields = Mapping[str, Any]


def one(record: Fields, revision: int) -> None:
    """Print one agent. revision: of its last change."""
    values = [(key, _shown(record[key])) for key in CHANGEABLE if record.get(key)]
    show.facts([("agent", show.Cell(record["name"], "bold")), *values, ("revision", str(revision))])
    overrides = record.get("overrides", [])
    if overrides:
        rows = [[selector_of(one).in_words(), *(_set(one, key) for key in CHANGEABLE)] for one in overrides]
        used = [0, *(i for i in range(1, len(CHANGEABLE) + 1) if any(row[i] for row in rows))]
        heads = ["for", *CHANGEABLE]
        show.table([heads[i] for i in used], [[row[i] for i in used] for row in rows])


def all_of(records: Sequence[Fields], revision: int) -> None:
    """Print all agents. revision: of the last change of any of them."""
    rows = [
        [
            show.Cell(record["name"], "bold"),
            record["version"],
            record.get("cmd", "start"),
            str(len(record.get("overrides", []))),
            _shown(record["tarball"]),
        ]
        for record in records
    ]
    nothing = "no agents yet: meta set NAME version=... tarball=..."
    show.table(["agent", "version", "cmd", "overrides", "tarball"], rows, nothing)
    if show.is_terminal():
        show.styled([show.Cell(f"revision {revision}", "dim")])


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def _set(override: Fields, key: str) -> str:
    """The fields that an override sets; a blank is a value, too."""
    return (_shown(override[key]) or '""') if key in override else ""
