"""Finds and removes tarballs that nothing needs any more.

`publications.judge` decides which ones, once more in the edit that takes them out of the records: an edit in between that
names one keeps it. The file is removed after that edit, unless it was published or named again, here or at another meta of
this directory. A crash in between leaves a file, which may be published again.

A file with other bytes than were published is never removed, because meta does not know where it came from.
"""

import logging
from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from meta.artifacts import tarballs
from meta.edits import operations
from meta.records import history, publications
from meta.records.model import RecordSet
from meta.records.publications import Fate, Publication, Uses

if TYPE_CHECKING:
    from meta.hosts.table import HostTable
    from meta.service import Service

REVISIONS = 50  # the latest revisions that changed a record; their tarballs are kept, so that a rollback finds them
log = logging.getLogger(__name__)


class Terms(NamedTuple):
    """Which tarballs may be removed."""

    keep: int  # how many of the newest of each agent stay
    older: float  # only those published more than so many seconds ago
    files: Collection[str] | None = None  # only these; None: all


class Pruned(NamedTuple):
    """What was removed, or would be."""

    revision: int  # of the edit
    gone: dict[str, Publication]  # by file
    stays: list[Fate]  # all others that were published through meta, and why they stay


def uses(service: "Service", records: RecordSet) -> Uses:
    """Return which records, revisions and hosts need which tarball now. Raises TryLater."""
    revisions = publications.named_in(service.store.last_of_records(REVISIONS))
    return Uses(publications.named_by(records.records), revisions, run_by(service.table))


def run_by(table: "HostTable") -> Counter[str]:
    """Return, by file, how many hosts run its version; retired hosts count too."""
    found: Counter[str] = Counter()
    for part in table.parts(retired_too=True):
        for name, version, *_ in part.agent_set.agents:
            found[publications.file_name(name, version)] += part.number
    return found


def preview(service: "Service", directory: Path, terms: Terms, now: float) -> Pruned:
    """Return what `prune` would do. Raises TryLater."""
    return _judged(service, directory, service.records, terms, now)


def prune(service: "Service", directory: Path, terms: Terms, edit: history.Edit) -> Pruned:
    """Remove the tarballs that nothing needs. Raises EditRefused, TryLater."""
    seen: list[Pruned] = []

    def change(before: RecordSet) -> RecordSet:
        seen.append(_judged(service, directory, before, terms, edit.at))
        return operations.unpublish(before, seen[-1].gone) if seen[-1].gone else before

    done = service.editor.apply(edit, change)
    for file, one in seen[-1].gone.items():
        with service.publishing:
            if tarballs.remove(directory, file, partial(_is_needed_again, service, file)):
                log.info("%s is removed (%d bytes, sha256 %s), by %s", file, one.size, one.sha256, edit.who)
    return seen[-1]._replace(revision=done.revision)


def _is_needed_again(service: "Service", file: str) -> bool:
    """Whether an edit, a publication (at any meta) or a host needs the file by now. Raises TryLater."""
    records = service.store.load_records()
    return file in records.published or file in publications.named_by(records.records) or file in run_by(service.table)


def _judged(service: "Service", directory: Path, records: RecordSet, terms: Terms, now: float) -> Pruned:
    fates = publications.judge(records.published, uses(service, records), now, terms.keep, terms.older)
    fates = [one._replace(why=one.why or _strange(directory, one.file, records.published[one.file])) for one in fates]
    gone = [one.file for one in fates if not one.why and (terms.files is None or one.file in terms.files)]
    stays = [one for one in fates if one.why]
    return Pruned(records.revision, {file: records.published[file] for file in gone}, stays)


def _strange(directory: Path, file: str, published: Publication) -> str:
    """Return why a file is not the one that was published; "" if it is, or if there is no file."""
    found = tarballs.look(directory, file)
    if found and (found.size, found.md5) != (published.size, published.md5):
        return "has other bytes than were published"
    return ""
