"""Decides which published tarballs may be removed. Pure.

A tarball may be removed only if it was published through meta, is old enough, and newer ones of its agent remain. No record,
override, recent revision or host may use it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from updater.wire.text import counted

if TYPE_CHECKING:
    from meta.records.history import Revision
    from meta.records.model import Record

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


class Publication(msgspec.Struct, frozen=True):
    """One tarball that was published through meta."""

    agent: str
    version: str
    size: int  # bytes
    md5: str  # lower-case hex
    sha256: str  # lower-case hex
    who: str = ""
    at: float = 0.0  # Unix seconds


class Uses(NamedTuple):
    """What uses each tarball, by file name."""

    records: Mapping[str, Sequence[str]]  # the records and overrides that have its version, as text
    revisions: Mapping[str, int]  # the newest of the recent revisions that have its version
    hosts: Mapping[str, int]  # how many hosts run it


class Fate(NamedTuple):
    """Whether a tarball may be removed."""

    file: str
    why: str  # why it is kept, "" if it may be removed


def file_name(agent: str, version: str) -> str:
    """The file name of a tarball."""
    return f"{agent}-{version}.tar.gz"


def named_by(records: Iterable["Record"]) -> dict[str, list[str]]:
    """file -> the records and overrides that have its version, as `falcon` or `falcon [prefix web-]`."""
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(file_name(record.name, record.release.version), []).append(record.name)
        for override in record.overrides:
            if override.release is not None:
                words = f"{record.name} [{override.selector.in_words()}]"
                found.setdefault(file_name(record.name, override.release.version), []).append(words)
    return found


def named_in(revisions: Iterable["Revision"]) -> dict[str, int]:
    """file -> the newest of these revisions that has its version before or after its change."""
    found: dict[str, int] = {}
    for revision in revisions:
        for change in revision.changes:
            for data in (change.before, change.after) if change.kind == "record" else ():
                for version in _versions(data):
                    file = file_name(change.name, version)
                    found[file] = max(found.get(file, 0), revision.number)
    return found


def _versions(record: Any) -> Iterable[str]:
    """The versions of a record in the form of a records file, and of its overrides."""
    if record:
        yield record["version"]
        yield from (one["version"] for one in record.get("overrides", ()) if "version" in one)


def judge(published: Mapping[str, Publication], uses: Uses, now: float, keep: int, older: float) -> list[Fate]:
    """The fate of each tarball, by name. keep: how many of the newest of each agent are kept; older: seconds for which
    every tarball is kept."""
    by_agent: dict[str, list[tuple[float, str]]] = {}
    for file, one in published.items():
        by_agent.setdefault(one.agent, []).append((one.at, file))
    newest = {file for files in by_agent.values() for _, file in sorted(files, reverse=True)[:keep]}
    return [Fate(file, _why(file, one, uses, now, older, file in newest)) for file, one in sorted(published.items())]


def _why(file: str, one: Publication, uses: Uses, now: float, older: float, is_newest: bool) -> str:
    if words := uses.records.get(file):
        return f"desired by {', '.join(words)}"
    if hosts := uses.hosts.get(file):
        return f"{hosts} host{'s run' if hosts > 1 else ' runs'} it"
    if number := uses.revisions.get(file):
        return f"revision {number} names it: a rollback may need it"
    if is_newest:
        return f"one of the newest of {one.agent}"
    return f"published {_ago(now - one.at)} ago" if now - one.at < older else ""


def _ago(seconds: float) -> str:
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), (60, "minute"))
    return counted(int(max(seconds, 0) // size), unit)
