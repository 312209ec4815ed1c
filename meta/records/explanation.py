"""Why each field of each agent is as it is on a host. Pure; the same resolution as meta.records.model."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from meta.records.model import CHANGEABLE, RARE, Ban, Record, RecordSet, banned_versions, matcher, resolve_one
from meta.records.selectors import Selector
from updater.wire.names import STOP


class Reason(msgspec.Struct, frozen=True):
    """One resolved field, and what set it: the record itself, or the override with this index (from 0) and selector.
    value: of `tarball` the list of all bases, where there are mirrors; of `attempt` a number."""

    field: str
    value: str | int | tuple[str, ...]
    by: str = "record"
    override: int | None = None
    selector: str = ""


class Explained(msgspec.Struct, frozen=True):
    """Why one agent shall be so on one host. ban: what keeps it from being ordered, None where nothing does."""

    agent: str
    fields: tuple[Reason, ...]
    ban: Ban | None = None


def explain(records: RecordSet, hostname: str) -> tuple[Explained, ...]:
    """The same as `resolve`, with what set each field; agents that are not ordered are here too, with their ban."""
    matches, banned = matcher(records, hostname), banned_versions(records)
    return tuple(_explain_one(record, matches, banned) for record in records.records)


def _explain_one(
    record: Record, matches: Callable[[Selector], bool], banned: Mapping[tuple[str, str], Ban]
) -> Explained:
    resolved = resolve_one(record, matches)
    setters = {
        key: index
        for index, override in enumerate(record.overrides)
        if matches(override.selector)
        for key in override.changes()
    }
    said = (
        key for key in CHANGEABLE if key not in RARE or key in setters or resolved[key]
    )  # most records say none of them
    fields = tuple(_reason(record, resolved, key, setters.get(key)) for key in said)
    ban = None if resolved["cmd"] == STOP else banned.get((record.name, resolved["version"]))
    return Explained(record.name, fields, ban)


def _reason(record: Record, resolved: Mapping[str, Any], key: str, index: int | None) -> Reason:
    value = resolved[key]
    if key == "tarball" and resolved["mirrors"]:
        value = (value, *resolved["mirrors"])
    if index is None:
        return Reason(key, value)
    return Reason(key, value, "override", index, record.overrides[index].selector.in_words())
