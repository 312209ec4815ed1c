"""Explains the value of each field of each agent on a host. Pure; resolves as meta.records.model does."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from meta.records.model import CHANGEABLE, RARE, Ban, Record, RecordSet, banned_versions, matcher, resolve_one
from meta.records.selectors import Selector
from updater.wire.names import STOP


class Reason(msgspec.Struct, frozen=True):
    """One resolved field, and what set it."""

    field: str
    value: str | int | tuple[str, ...]  # all bases for a `tarball` with mirrors, a number for `attempt`, else text
    by: str = "record"  # or "override"
    override: int | None = None  # its index in the record, from 0
    selector: str = ""  # of the override


class Explained(msgspec.Struct, frozen=True):
    """The desired state of one agent on one host, with reasons."""

    agent: str
    fields: tuple[Reason, ...]
    ban: Ban | None = None  # the ban because of which the host gets no order for it


def explain(records: RecordSet, hostname: str) -> tuple[Explained, ...]:
    """Like `resolve`, with the reason for each field; agents that are not ordered because of a ban are included."""
    matches, banned = matcher(records, hostname), banned_versions(records)
    return tuple(_explain_one(record, matches, banned) for record in records.records)


def _explain_one(
    record: Record, matches: Callable[[Selector], bool], banned: Mapping[tuple[str, str], Ban]
) -> Explained:
    resolved, setters = resolve_one(record, matches), _setters(record, matches)
    said = (
        key for key in CHANGEABLE if key not in RARE or key in setters or resolved[key]
    )  # most records say none of them
    fields = tuple(_reason(record, resolved, key, setters.get(key)) for key in said)
    ban = None if resolved["cmd"] == STOP else banned.get((record.name, resolved["version"]))
    return Explained(record.name, fields, ban)


def _setters(record: Record, matches: Callable[[Selector], bool]) -> dict[str, int]:
    """The index of the override that set a field, by key; fields that the record sets are left out."""
    found: dict[str, int] = {}
    release, md5_base, by_release, by_base = record.release, record.md5_base, -1, -1
    for index, override in enumerate(record.overrides):
        if not matches(override.selector):
            continue
        found |= dict.fromkeys(override.changes(), index)
        if override.release is not None:
            release, by_release = override.release, index
        if override.md5_base is not None:
            md5_base, by_base = override.md5_base, index
    by_md5 = by_release if release.md5 else by_base if md5_base else max(by_release, by_base)
    found |= {"version": by_release, "sha256": by_release, "md5": by_md5}
    return {key: index for key, index in found.items() if index >= 0}


def _reason(record: Record, resolved: Mapping[str, Any], key: str, index: int | None) -> Reason:
    value = resolved[key]
    if key == "tarball" and resolved["mirrors"]:
        value = (value, *resolved["mirrors"])
    if index is None:
        return Reason(key, value)
    return Reason(key, value, "override", index, record.overrides[index].selector.in_words())
