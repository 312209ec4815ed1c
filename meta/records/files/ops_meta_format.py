"""Reads ops-meta's unchanged cfg.json. Pure.

Format: {debug, tarballDir, http: {enabled, listen}, agents: [{default: {name, version, tarball, md5, cmd},
others: [{prefix, version, tarball, md5, cmd}]}]}. An override's blank field changes nothing, and a blank prefix selects every
host. So versions and digests merge field by field, which is translated into whole releases here.

An entry without `default` is skipped, `others` may be absent or null, and keys are matched as in Go. Values that ops-meta would
send unchecked and that no host could follow are refused: an unsafe name, a bad cmd, a tarball that is not a URL.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from meta.records.field_by_field import whole_releases
from meta.records.files.located_tree import Fields, Items, Node, Text
from meta.records.files.problem_reader import Field, Reader, is_blank
from meta.records.model import Override, Record, from_fields
from meta.records.selectors import Glob, Prefix
from meta.records.validate import digest_doubts, repeated, value_problem

_OF_AN_OVERRIDE = ("version", "tarball", "md5", "cmd")
_OF_AN_AGENT = ("name", *_OF_AN_OVERRIDE)


class Settings(msgspec.Struct, frozen=True):
    """The settings in a cfg.json, with Go's zero values for absent ones."""

    debug: bool = False
    tarball_dir: str = ""
    enabled: bool = False
    listen: str = ""
    agents: Sequence[Mapping[str, Any]] = ()  # as ops-meta shows them


def is_legacy(root: Node) -> bool:
    """Whether this JSON is in ops-meta's format; agents in our own format have a `name`."""
    agents = [node for node in _values(root, "agents") if isinstance(node, Items)]
    return not any(_values(entry, "name") for node in agents for entry in node.items)


def _values(node: Node, wanted: str) -> list[Node]:
    pairs = node.pairs if isinstance(node, Fields) else []
    return [value for key, value in pairs if isinstance(key, Text) and key.value == wanted]


def read(top: Field, reader: Reader) -> tuple[list[Record], Settings]:
    """Read the records and settings of a cfg.json; problems go to the reader."""
    fields = _fields(top, ("debug", "tarballDir", "http", "agents"), reader)
    http = _fields(fields.get("http"), ("enabled", "listen"), reader)
    settings = Settings(
        debug=_bool(fields.get("debug"), reader),
        tarball_dir=_string(fields.get("tarballDir"), reader),
        enabled=_bool(http.get("enabled"), reader),
        listen=_string(http.get("listen"), reader),
    )
    if "agents" not in fields and isinstance(top.node, Fields):
        reader.problem(top, "agents is missing; write [] if no agent is meant")
    records, agents = _read_agents(_items(fields.get("agents"), reader), reader)
    return records, msgspec.structs.replace(settings, agents=agents)


def _read_agents(entries: list[Field], reader: Reader) -> tuple[list[Record], list[Mapping[str, Any]]]:
    """(the records, the entries as ops-meta shows them)."""
    read: list[tuple[Field, Record]] = []
    shown: list[Mapping[str, Any]] = []
    for entry in entries:
        fields = _fields(entry, ("default", "others"), reader)
        if "default" in fields:
            record, one = _read_record(fields["default"], fields.get("others"), reader)
            read.append((fields["default"], record))
            shown.append(one)
        else:
            reader.warn(entry, "has no default; skipped, as ops-meta does")
    for index, first in repeated([record for _, record in read]):
        field, record = read[index]
        if record.name:
            reader.problem(field, f'agent "{record.name}" is given twice, first on line {read[first][0].line}')
    return [record for _, record in read], shown


def _read_record(default: Field, others: Field | None, reader: Reader) -> tuple[Record, Mapping[str, Any]]:
    fields = _fields(default, _OF_AN_AGENT, reader)
    values: dict[str, Any] = {key: _string(fields.get(key), reader) for key in _OF_AN_AGENT}
    for key, value in values.items():
        if problem := value_problem(key, value):
            reader.problem(fields.get(key, default), problem)
    places = _items(others, reader)
    read = [_read_other(place, reader) for place in places]
    whole = whole_releases({**values, "overrides": [_said(one) for one in read]})
    record = from_fields(whole.fields)
    for index, text in digest_doubts(record):
        reader.warn(default if index is None else places[whole.origins[index]], text)
    return record, {"default": values, "others": read or None}


def _read_other(other: Field, reader: Reader) -> dict[str, str]:
    fields = _fields(other, ("prefix", *_OF_AN_OVERRIDE), reader)
    values = {key: _string(fields.get(key), reader) for key in ("prefix", *_OF_AN_OVERRIDE)}
    for key in _OF_AN_OVERRIDE:
        if values[key] and (problem := value_problem(key, values[key])):
            reader.problem(fields[key], problem)
    if values["prefix"] and (problem := Prefix.problem(values["prefix"])):
        reader.warn(fields["prefix"], problem)
    if not any(values[key] for key in _OF_AN_OVERRIDE):
        reader.warn(other, "changes nothing")
    if not values["prefix"]:
        reader.warn(other, "has no prefix, so it is for every host")
    return values


def _said(other: Mapping[str, str]) -> dict[str, str]:
    """What an entry of `others` changes, and its prefix."""
    return {key: value for key, value in other.items() if value or key == "prefix"}


def _fields(at: Field | None, known: tuple[str, ...], reader: Reader) -> dict[str, Field]:
    """The values by key; null counts as absent."""
    found = reader.lenient_fields(at, known) if at else {}
    return {key: field for key, field in found.items() if not is_blank(field.node)}


def _items(at: Field | None, reader: Reader) -> list[Field]:
    return reader.items(at) if at else []


def _string(at: Field | None, reader: Reader) -> str:
    text = reader.text(at) if at else None
    if at and isinstance(at.node, Text) and at.node.plain:
        reader.problem(at, "must be a string in quotes")
    return text or ""


def _bool(at: Field | None, reader: Reader) -> bool:
    text = reader.text(at) if at else None
    if at and text is not None and text not in ("true", "false"):
        reader.problem(at, "must be true or false")
    return text == "true"


def as_data(settings: Settings) -> dict[str, Any]:
    """A cfg.json's content as ops-meta shows it on /config/reload: every field, blank if it is not set."""
    return {
        "debug": settings.debug,
        "tarballDir": settings.tarball_dir,
        "http": {"enabled": settings.enabled, "listen": settings.listen},
        "agents": list(settings.agents),
    }


def as_ours(records: Sequence[Record]) -> tuple[Record, ...]:
    """The same records in a form that our own format accepts: a blank prefix becomes the glob `*`, and overrides that change
    nothing are left out."""
    return tuple(msgspec.structs.replace(one, overrides=tuple(_our_overrides(one))) for one in records)


def _our_overrides(record: Record) -> Iterator[Override]:
    for override in record.overrides:
        if override.changes():
            every_host = override.selector == Prefix("")
            yield msgspec.structs.replace(override, selector=Glob("*")) if every_host else override
