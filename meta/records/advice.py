"""Warnings about an edit of the records that is allowed but may be a mistake, shown before it is made.

They concern versions whose tarball this meta should serve but does not have, versions that hosts have rolled back, and changes
of runUser or workDir. Pure, apart from the functions passed in.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from meta.records.model import Record, RecordSet
from meta.records.publications import file_name
from meta.records.selectors import Selector
from meta.suggestions import did_you_mean
from updater.wire.names import STOP


class Order(NamedTuple):
    """A version that a record or one of its overrides orders."""

    agent: str
    version: str
    bases: tuple[str, ...]  # of the tarball, with the mirrors


class Place(NamedTuple):
    """The tarballs that this meta serves."""

    path_here: Callable[
        [str], str | None
    ]  # the path below its tarball directory that a base refers to; None: elsewhere
    has: Callable[[str], bool]  # whether a path below its tarball directory exists
    files: Callable[[], Sequence[str]]  # the published file names


def warnings(
    before: RecordSet,
    after: RecordSet,
    place: Place | None,
    rolled_back: Callable[[str, str], str],
    reached: Collection[tuple[str, str]] = (),
) -> list[str]:
    """One sentence for each warning about what is new.

    place: None if this meta serves no tarballs. rolled_back: for an agent and a version, returns a text that says on which
    hosts it was rolled back, or "". reached: pairs of agent and version that are new to some known hosts.
    """
    found: list[str] = []
    for record in after.records:
        if doubt := _run_as(before.record(record.name), record):
            found.append(doubt)
        former = set(orders(before.record(record.name)))
        for order in orders(record):
            if place and order not in former and (lack := _lack(order, place)):
                found.append(lack)
        brought = {(record.name, version) for version in brought_by(before.record(record.name), record)}
        found += filter(None, [rolled_back(*one) for one in sorted(brought.union(reached)) if one[0] == record.name])
    return list(dict.fromkeys(found))


def brought_by(before: Record | None, after: Record) -> set[str]:
    """The versions that would be new to hosts that no selector, or just one, selects; the hosts need not be known."""
    former, now = _by_selector(before), _by_selector(after)
    there = ((now.get(one, now[None]), former.get(one, former[None])) for one in now.keys() | former.keys())
    return {new for new, old in there if new not in ("", old)}


def _by_selector(record: Record | None) -> dict[Selector | None, str]:
    """The version for hosts that only this selector selects, and under None for hosts that none selects; "" for stop."""
    if record is None:
        return {None: ""}
    told: dict[Selector | None, tuple[str, str]] = {None: (record.release.version, record.cmd)}
    for one in record.overrides:
        version, cmd = told.get(one.selector, told[None])
        version = one.release.version if one.release else version
        told[one.selector] = (version, cmd if one.cmd is None else one.cmd)
    return {selector: "" if cmd == STOP else version for selector, (version, cmd) in told.items()}


def _run_as(before: Record | None, after: Record) -> str:
    former, now = _places_run_as(before), _places_run_as(after)
    if former == now:
        return ""
    return (
        f"runUser and workDir of {after.name} have no effect on our own updaters yet; coraldane's updater stops the agent and "
        "removes its directory where either changes"
    )


def _places_run_as(record: Record | None) -> list[tuple[object, ...]]:
    """(selector or None, runUser, workDir) where they are set."""
    if record is None:
        return []
    said = [(None, record.run_user, record.work_dir), *((o.selector, o.run_user, o.work_dir) for o in record.overrides)]
    return [one for one in said if one[1:] not in (("", ""), (None, None))]


def orders(record: Record | None) -> Iterator[Order]:
    """The orders of the record and of each override, without those that say `stop`."""
    if record is None:
        return
    if record.cmd != STOP:
        yield Order(record.name, record.release.version, (record.tarball, *record.mirrors))
    for one in record.overrides:
        bases = (record.tarball, *record.mirrors) if one.tarball is None else (one.tarball, *one.mirrors)
        version = (one.release or record.release).version
        if (record.cmd if one.cmd is None else one.cmd) != STOP:
            yield Order(record.name, version, bases)


def _lack(order: Order, place: Place) -> str:
    file = file_name(order.agent, order.version)
    paths = [path for base in order.bases if (path := place.path_here(base)) is not None]
    if all(place.has(f"{path}/{file}".lstrip("/")) for path in paths):
        return ""
    hint = did_you_mean(file, place.files())
    return f"this meta has no {file}, which hosts would fetch from it: publish it first{hint}"
