"""Reads and writes records files of the command line, whose first line names the revision that they are based on.

A file is replaced atomically. When that line is updated, the rest of the file is unchanged.
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from meta.api.schemas.types import ChangeView, EditView
from meta.errors import Misconfigured, NotThere, Problem, RecordsError
from meta.records import capacity, history
from meta.records.files.load import decode, load, parse
from meta.records.files.ops_meta_format import as_ours
from meta.records.model import Record, RecordSet, as_fields, from_fields
from updater import durable_files
from updater.wire.text import visible

if TYPE_CHECKING:
    from meta.cli.client import Client

_BASE = re.compile(r"\A(﻿?(?:#[^\n]*\n)*?# revision: )([0-9]{1,15})[ \t\r]*$", re.MULTILINE)
_HEAD = """\
# revision: {revision}
# The records at that revision. Edit them, then run: meta apply FILE. If others changed them since, it shows what.
"""


class File(NamedTuple):
    """The content of a records file."""

    records: tuple[Record, ...]
    base: int | None  # the revision that it is based on, None if it names none

    @property
    def body(self) -> dict[str, Any]:
        return {"agents": as_fields(self.records)}


def read(file: Path) -> File:
    """Read a records file, or stdin for `-`, and print its warnings. Raises RecordsError."""
    text = decode(sys.stdin.buffer.read(), "stdin") if str(file) == "-" else None
    loaded = load(file) if text is None else parse(text, "stdin")
    for warning in loaded.warnings:
        click.echo(visible(f"warning: {warning}"), err=True)
    found = _BASE.match(_content(file) if text is None else text)
    return File(tuple(as_ours(loaded.records)), int(found[2]) if found else None)


def require_room(file: Path, records: Sequence[Record]) -> None:
    """Raises RecordsError if the records are too much for any host; prints a warning if they may be too much for some."""
    all_of_them = RecordSet(records=tuple(records))
    if texts := capacity.heaviest(all_of_them).problems():
        raise RecordsError(str(file), [Problem("", 0, text) for text in texts])
    if doubt := capacity.doubt(all_of_them):
        click.echo(visible(f"warning: {doubt}"), err=True)


def present(client: "Client") -> tuple[tuple[Record, ...], int]:
    """The records in force, and their revision."""
    found, revision = client.get_versioned("/records", dict[str, list[dict[str, Any]]])
    return tuple(map(from_fields, found["agents"])), revision


def compared(client: "Client", records: Sequence[Record]) -> EditView:
    """What would change if these were all records there are, as meta sees it; an older one does not count hosts."""
    try:
        return client.send("POST", "/difference", EditView, {"agents": as_fields(records)})
    except NotThere:
        before, revision = present(client)
        found = [ChangeView(one.kind, one.name, one.before, one.after) for one in changes(before, records)]
        return EditView(revision, found, {}, dry_run=True)


def changes(before: Sequence[Record], after: Sequence[Record]) -> tuple[history.Change, ...]:
    return history.changes(RecordSet(records=tuple(before)), RecordSet(records=tuple(after)))


def overwritten(before: Sequence[Record], new: Sequence[Record]) -> list[str]:
    """Return the agents that have a record, which would change."""
    there = {record.name: record for record in before}
    return [record.name for record in new if there.get(record.name, record) != record]


def merged(before: Sequence[Record], new: Sequence[Record]) -> dict[str, Any]:
    """Return all records as a body: the present ones in order, replaced by new ones, which come last if their agent is new."""
    found = {record.name: record for record in before} | {record.name: record for record in new}
    return {"agents": as_fields(list(found.values()))}


def text(records: Sequence[Record], revision: int) -> str:
    """Return the text of a records file for `meta apply`."""
    from meta.cli.views import show

    return _HEAD.format(revision=revision) + show.yaml({"agents": as_fields(records)})


def rebase(file: Path, revision: int) -> None:
    """Name the new revision in the file's line, so that the next edit of it is based on this one."""
    if not file.is_file():
        return  # stdin, or a pipe
    old = _content(file)
    new = _BASE.sub(rf"\g<1>{revision}", old, count=1)
    if new == old:
        return
    try:
        write(file, new)
    except Misconfigured as e:
        click.echo(visible(f"warning: {e}; write `# revision: {revision}` into its first line yourself"), err=True)


def write(file: Path, content: str) -> None:
    """Replace a file atomically; a new one gets mode 600, as a base URL may contain a password. Raises Misconfigured."""
    try:
        if file.exists() and not file.is_file():  # a device, a pipe
            file.write_text(content, encoding="utf-8")
            return
        target = Path(os.path.realpath(file))
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        with durable_files.whole_file(target, mode, f".{target.name}.{token_hex(8)}") as fresh:
            fresh.write(content.encode())
    except OSError as e:
        raise Misconfigured(f"{file} cannot be written: {e.strerror}") from e


def _content(file: Path) -> str:
    """The unchanged content, with its line ends. It was read before, so it is known to be text."""
    return file.read_bytes().decode("utf-8", "replace")
