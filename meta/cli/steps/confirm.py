"""Makes a change in three steps: preview it, show it and ask for confirmation, and send it bound to the previewed revision.

A change that affects hosts is never sent without confirmation: a person is asked, and a program must pass --yes. It is bound
to the revision that was shown, so that no other edit is overwritten. Edits without such a condition (bans, labels) may do more
than was shown; then what was done is printed.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import click
from msgspec.structs import replace

from meta.api.schemas.types import ChangeView, EditView
from meta.cli.client import Client
from meta.cli.views import show
from meta.edits.diff import difference, touched
from meta.errors import MetaError, Misconfigured, Unconfirmed
from meta.records.history import Change
from updater.wire.text import counted

MOST_LINES = 200  # of a difference
SHOWN = -2  # stands for the revision of the preview


class Declined(MetaError):
    """The person did not confirm."""


class Wish(NamedTuple):
    """An edit as an HTTP request."""

    method: str
    path: str
    body: Any = None
    match: int | None = None  # the base revision; client.ABSENT: must not exist; SHOWN: the preview's; None: any
    action: str = ""  # the verb for the history, "" for the default
    confirm: bool | None = None  # the removals were confirmed


class Editor:
    """Makes the changes of one command. output: `table`, `json` or `yaml`."""

    def __init__(self, client: Client, why: str, dry_run: bool, yes: bool, output: str):
        self.client = client
        self.why, self._dry_run, self._yes, self._output = why, dry_run, yes, output

    def make(self, wish: Wish) -> EditView:
        """Preview, show, ask and send; returns what was done, or with --dry-run what would be done."""
        preview = self._send(wish._replace(match=None) if wish.match == SHOWN else wish, dry_run=True)
        if wish.match == SHOWN:
            wish = wish._replace(match=preview.revision)
        for_programs = self._output != "table"
        if preview.changes:
            show_changes(preview, err=for_programs or not self._dry_run)
        show_doubts(preview, err=for_programs)
        if self._dry_run or not preview.changes:
            sentence = "dry run: nothing was changed" if preview.changes else "nothing to change"
            self._tell(replace(preview, dry_run=self._dry_run), sentence)
            return preview
        self._agree(preview)
        if preview.removals:
            wish = wish._replace(confirm=True)
        done = replace(self._send(wish, dry_run=False), affected=preview.affected)
        if (lines := lines_of(done.changes)) != lines_of(preview.changes):
            click.echo("others changed the records since the preview; this edit did:", err=True)
            show_difference(lines, err=True)
        self._tell(done, _done(done))
        return done

    def _send(self, wish: Wish, dry_run: bool) -> EditView:
        query = {"why": self.why, "action": wish.action, "dryRun": dry_run, "confirm": wish.confirm}
        return self.client.send(wish.method, wish.path, EditView, wish.body, wish.match, **query)

    def _tell(self, edit: EditView, sentence: str) -> None:
        if not show.data(edit, self._output):
            click.echo(sentence)

    def _agree(self, preview: EditView) -> None:
        if self._yes:
            return
        require_confirmed(preview.removals)
        touches = touched(preview.affected)
        if preview.removals or not (touches or preview.warnings):
            return
        what = f"this changes {touches}" if touches else "there is a warning"
        if not sys.stdin.isatty():
            raise Misconfigured(f"{what}; refusing without confirmation: review, then rerun with --yes")
        if not click.confirm(f"{what.capitalize()}. Continue?" if touches else "Continue anyway?", err=True):
            raise Declined("nothing was changed")


def require_confirmed(removals: Iterable[str]) -> None:
    """Ask a person to confirm removals. Raises Misconfigured without a terminal, and Declined."""
    if not (found := [show.one_line_kept(one) for one in removals]):
        return
    if not sys.stdin.isatty():
        raise Misconfigured(str(Unconfirmed(found, "review, then rerun with --yes")))
    if not click.confirm(f"{'; '.join(found)}. Do you want that?", err=True):
        raise Declined("nothing was changed")


def lines_of(changes: Iterable[ChangeView]) -> list[str]:
    """The changes as lines of text, see meta.edits.diff."""
    return difference(Change(one.kind, one.name, one.before, one.after) for one in changes)


def show_changes(edit: EditView, err: bool) -> None:
    """Print the difference, and the number of hosts that it affects."""
    if not edit.changes:
        click.echo("no difference", err=err)
        return
    show_difference(lines_of(edit.changes), err)
    show_touched(edit.affected, err)


def show_doubts(edit: EditView, err: bool) -> None:
    """Print notes, removals to confirm, and warnings. err: whether notes go to stderr; the others always do."""
    for note in edit.notes:
        click.echo(show.one_line_kept(note), err=err)
    for removal in edit.removals:
        show.styled([show.Cell(f"to be confirmed: {show.one_line_kept(removal)}", "red")], err=True)
    for warning in edit.warnings:
        show.styled([show.Cell(f"warning: {show.one_line_kept(warning)}", "yellow")], err=True)


def show_touched(affected: Mapping[str, int], err: bool) -> None:
    show.styled([show.Cell(f"touches {touched(affected) or 'no host'}", "bold")], err)


def show_difference(lines: list[str], err: bool) -> None:
    for line in lines[:MOST_LINES]:
        show.styled([show.Cell(show.one_line_kept(line), _style(line))], err)
    if len(lines) > MOST_LINES:
        show.styled([show.Cell(f"... and {counted(len(lines) - MOST_LINES, 'more line')}", "dim")], err)


def _style(line: str) -> str:
    line = line.lstrip()
    if line.startswith(("deleted ", "ban ")) or ": removed (" in line:
        return "red"
    return "green" if line.startswith(("new ", "unban ")) or "]: new: " in line else ""


def _done(edit: EditView) -> str:
    agents = sorted(agent for agent, count in edit.affected.items() if count)
    hint = f"; follow it: meta status {agents[0]} --watch" if len(agents) == 1 else ""
    return f"done: revision {edit.revision}{hint}"
