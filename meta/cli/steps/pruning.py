"""`meta tarballs prune`: preview, confirmation, removal of exactly the files that were shown."""

import sys
from typing import Any

import click
from msgspec.structs import replace

from meta.api.schemas.tarballs import PrunedView
from meta.cli.client import Client
from meta.cli.steps.confirm import Declined
from meta.cli.views import show
from meta.errors import Misconfigured
from updater.wire.text import counted, visible


def prune(client: Client, terms: dict[str, Any], why: str, *, dry_run: bool, yes: bool, output: str) -> None:
    """Remove unused tarballs. terms: `keep` and `older`, see PruneBody. Raises Declined, Misconfigured."""
    preview = client.send("POST", "/tarballs/prune", PrunedView, terms, dryRun=True)
    for_programs = output != "table"
    if not for_programs or not dry_run:
        _show(preview, for_programs)
    if dry_run or not preview.removed:
        sentence = "dry run: nothing was removed" if preview.removed else "nothing to remove"
        _tell(replace(preview, dry_run=dry_run), output, sentence)
        return
    _agree(len(preview.removed), yes)
    shown = terms | {"files": [one.name for one in preview.removed]}
    done = client.send("POST", "/tarballs/prune", PrunedView, shown, why=why)
    _tell(done, output, f"removed: {_size(done)}; revision {done.revision}")
    stayed = {one.name for one in preview.removed} - {one.name for one in done.removed}
    for one in done.kept:
        if one.name in stayed:
            click.echo(visible(f"{one.name} stays: {one.why}"), err=True)


def _show(found: PrunedView, err: bool) -> None:
    for one in found.removed:
        published = f"published {show.when(one.published)} by {one.who or 'unknown'}"
        show.styled([show.Cell(show.one_line_kept(f"- {one.name}: {one.size:,} bytes, {published}"), "red")], err)
    for kept in found.kept:
        show.styled([show.Cell(show.one_line_kept(f"  {kept.name} stays: {kept.why}"), "dim")], err)
    if found.removed:
        show.styled([show.Cell(f"removes {_size(found)}", "bold")], err)


def _size(found: PrunedView) -> str:
    count = len(found.removed)
    return f"{counted(count, 'tarball')}, {sum(one.size for one in found.removed):,} bytes"


def _tell(found: PrunedView, output: str, sentence: str) -> None:
    if not show.data(found, output):
        click.echo(sentence)


def _agree(count: int, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Misconfigured("refusing without confirmation: review, then rerun with --yes")
    if not click.confirm(f"Remove {'it' if count == 1 else 'them'}?", err=True):
        raise Declined("nothing was removed")
