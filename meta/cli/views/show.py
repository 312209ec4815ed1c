"""Prints output: tables for a terminal, aligned columns for a pipe, JSON or YAML for programs (keys as in the API).

In foreign text, unprintable characters become blanks, and nothing is interpreted as markup. Colours and widths are left to
rich, which uses no colours if NO_COLOR is set or there is no terminal.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click
import msgspec

from updater.wire.text import indented_line, one_line

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = ((86400 * 365, "years"), (86400, "days"), (3600, "h"), (60, "min"), (1, "s"))
_TIMES = frozenset(  # keys of Unix seconds in bodies of the REST API
    (
        "at",
        "firstSeen",
        "lastSeen",
        "since",
        "looked",
        "parked",
        "created",
        "expires",
        "revoked",
        "modified",
        "published",
    )
)
_WIDEST = 2000  # characters of a cell


class Cell(NamedTuple):
    """Text of a table, with the name of a rich style."""

    text: str
    style: str = ""


Row = Sequence[Cell | str]
_STYLES = {
    "ok": "green", "new": "cyan", "late": "yellow", "lost": "red", "retired": "dim",
    "started": "green", "stoped": "yellow", "stopped": "yellow",
    "done": "green", "failed": "red", "refused": "red", "rolled back": "red",
}  # fmt: skip


def is_terminal() -> bool:
    """Whether a person reads what goes to stdout."""
    return sys.stdout.isatty()


def data(value: Any, output: str) -> bool:
    """Print a value as JSON or YAML; returns False, and prints nothing, if `output` is `table`."""
    if output == "table":
        return False
    if output == "json":
        text = msgspec.json.format(msgspec.json.encode(for_programs(value)), indent=2).decode()
    else:
        text = yaml(for_programs(value))
    click.echo(text.rstrip("\n"))
    return True


def for_programs(value: Any) -> Any:
    """The value as plain data, with Unix seconds converted to RFC 3339 in UTC, and null for never."""
    return _with_times(msgspec.to_builtins(value))


def _with_times(data: Any) -> Any:
    if isinstance(data, dict):
        return {
            key: _time(one) if key in _TIMES and isinstance(one, int | float) else _with_times(one)
            for key, one in data.items()
        }
    return [_with_times(one) for one in data] if isinstance(data, list | tuple) else data


def _time(at: float) -> str | None:
    if not at:
        return None
    try:
        exact = datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return None  # a host's clock may say anything
    return exact.isoformat(timespec="milliseconds" if exact.microsecond else "seconds").replace("+00:00", "Z")


def yaml(value: Any) -> str:
    """A value as YAML; the order of keys is kept."""
    return msgspec.yaml.encode(value).decode().rstrip("\n") + "\n"


def table(heads: Sequence[str], rows: Sequence[Row], nothing: str = "", cut: Sequence[str] = ()) -> None:
    """Print rows below their heads, or `nothing` if there are none.

    cut: heads of the columns that are cut if the terminal is too narrow; with it, each row is one line.
    """
    if not rows:
        if nothing:
            click.echo(nothing, err=not is_terminal())
    elif is_terminal():
        from rich.console import Console

        Console().print(rich_table(heads, rows, cut))
    else:
        for line in _aligned([[head.upper() for head in heads], *([_cell(c).text for c in row] for row in rows)]):
            click.echo(line)


def rich_table(heads: Sequence[str], rows: Sequence[Row], cut: Sequence[str] = ()) -> "Table":
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        made.add_column(head, no_wrap=bool(cut) and head not in cut)
    for row in rows:
        overflow: Literal["ellipsis", "fold"] = "ellipsis" if cut else "fold"
        cells = (Text(c.text, style=c.style, overflow=overflow, no_wrap=bool(cut)) for c in map(_cell, row))
        made.add_row(*cells)
    return made


def _cell(cell: Cell | str) -> Cell:
    text, style = cell if isinstance(cell, Cell) else (cell, "")
    return Cell(one_line(text, _WIDEST), style)


def _aligned(rows: list[list[str]]) -> list[str]:
    """Aligned lines; empty cells are shown as `-`, so that columns can be counted."""
    filled = [[cell or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in filled]


def facts(pairs: Sequence[tuple[str, Cell | str]]) -> None:
    """Print pairs of name and value, one per line."""
    width = max(len(name) for name, _ in pairs) + 1
    for name, value in pairs:
        cell = _cell(value)
        if is_terminal():
            styled([Cell(f"{name}:".ljust(width + 1), "dim"), cell])
        else:
            click.echo(f"{name}:".ljust(width + 1) + (cell.text or "-"))


def styled(cells: Sequence[Cell], err: bool = False) -> None:
    """Print one line of these parts."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        click.echo("".join(cell.text for cell in cells), err=err)
        return
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(*((cell.text, cell.style) for cell in cells), overflow="fold")
    Console(stderr=err, highlight=False).print(line, soft_wrap=True)


def word(text: str) -> Cell:
    """A state, status or result in its colour."""
    return Cell(text, _STYLES.get(text, ""))


def when(at: float, now: float | None = None, short: bool = False) -> str:
    """Unix seconds as local time, "" for 0; on a terminal with how long ago, or with `short` only that."""
    if not at:
        return ""
    try:
        local = datetime.fromtimestamp(at).astimezone()
    except (OverflowError, ValueError, OSError):
        return str(at)
    if not is_terminal():
        return local.isoformat(timespec="seconds")
    since = ago((time.time() if now is None else now) - at)
    return since if short else f"{local:%Y-%m-%d %H:%M:%S} ({since})"


def ago(seconds: float) -> str:
    """A past or coming time in one unit: `3 min ago`, `in 29 days`."""
    size, unit = next(((size, unit) for size, unit in _UNITS if abs(seconds) >= size), (1, "s"))
    count = int(abs(seconds) // size)
    unit = unit.removesuffix("s") if count == 1 and len(unit) > 3 else unit
    if not count:
        return "now"
    return f"{count} {unit} ago" if seconds > 0 else f"in {count} {unit}"


def labels(of_host: Mapping[str, str]) -> str:
    """`env=staging spare`."""
    return " ".join(f"{key}={value}" if value else key for key, value in sorted(of_host.items()))


def one_line_kept(line: str) -> str:
    """One line made safe for the terminal; its indentation is kept."""
    return indented_line(line, _WIDEST)
