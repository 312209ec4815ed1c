"""Our own format of a records file: `agents`, a list of records with overrides (records.example.yaml shows all of it).

Refuses mistakes that would surprise hosts: unknown and repeated keys, unsafe values, overrides that select no host or change
nothing, and a digest without its version. Pure.
"""

from typing import Any

from meta.records.files.located_tree import Fields, Items
from meta.records.files.problem_reader import Field, Reader, place
from meta.records.model import CHANGEABLE, DIGESTS, Override, Record, Release, from_values
from meta.records.selectors import KINDS, Selector, selector_of
from meta.records.validate import REQUIRED, digest_doubts, repeated, value_problem
from updater.wire.limits import MAX_ATTEMPT, MAX_MIRRORS
from updater.wire.names import is_digest

_OF_AN_AGENT = ("name", *CHANGEABLE)


def read(top: Field, reader: Reader) -> list[Record]:
    """Read the records of a file; problems go to the reader."""
    agents = reader.fields(top, ["agents"]).get("agents")
    if agents is None:
        if isinstance(top.node, Fields):
            reader.problem(top, "agents is missing; write `agents: []` if no agent is meant")
        return []
    read = [(field, record) for field in reader.items(agents) if (record := read_record(field, reader))]
    for index, first in repeated([record for _, record in read]):
        field, record = read[index]
        reader.problem(field, f'agent "{record.name}" is given twice, first {place(read[first][0])}')
    return [record for _, record in read]


def read_record(agent: Field, reader: Reader) -> Record | None:
    """Read one agent. None without a usable name; with other problems it is still returned, for checks across records."""
    fields = reader.fields(agent, (*_OF_AN_AGENT, "overrides"))
    if not isinstance(agent.node, Fields):
        return None
    for key in REQUIRED:
        if key not in fields:
            reader.problem(agent, f"{key} is missing")
    values = _read_values(fields, _OF_AN_AGENT, reader)
    places = reader.items(fields["overrides"]) if "overrides" in fields else []
    read = [(field, override) for field in places if (override := _read_override(field, reader))]
    overrides = tuple(override for _, override in read)
    made: dict[str, Any] = {"release": Release(""), "tarball": ""}
    made |= from_values(values)
    record = Record(values.get("name", ""), **made, overrides=overrides)
    for index, text in digest_doubts(record):
        reader.warn(agent if index is None else read[index][0], text)
    return record if record.name else None


def _read_values(fields: dict[str, Field], keys: tuple[str, ...], reader: Reader) -> dict[str, Any]:
    """The values of these fields by key, with the mirrors; unsafe values are problems and are left out."""
    values: dict[str, Any] = {}
    for key in keys:
        if key == "tarball" and key in fields:
            values |= _read_bases(fields[key], reader)
        elif key == "attempt" and key in fields:
            if (number := reader.whole_number(fields[key], MAX_ATTEMPT)) is not None:
                values[key] = number
        elif key in fields and (text := _read_value(key, fields[key], reader)) is not None:
            values[key] = text
    return values


def _read_value(key: str, field: Field, reader: Reader) -> str | None:
    text = reader.text(field)
    if text is not None and (problem := value_problem(key, text)):
        reader.problem(field, problem)
        return None
    return text


def _read_bases(field: Field, reader: Reader) -> dict[str, Any]:
    """Read `tarball`: one base URL, or a list of them in the order in which hosts ask them."""
    if not isinstance(field.node, Items):
        base = _read_value("tarball", field, reader)
        return {} if base is None else {"tarball": base, "mirrors": ()}
    items = reader.items(field)
    if not 1 <= len(items) <= MAX_MIRRORS:
        reader.problem(field, f"must be one base URL, or a list of 1 to {MAX_MIRRORS}")
        return {}
    bases = [base for item in items if (base := _read_value("tarball", item, reader)) is not None]
    return {"tarball": bases[0], "mirrors": tuple(bases[1:])} if len(bases) == len(items) else {}


def _read_override(override: Field, reader: Reader) -> Override | None:
    fields = reader.fields(override, (*KINDS, *CHANGEABLE))
    if not isinstance(override.node, Fields):
        return None
    selector = _read_selector_of(override, fields, reader)
    if not any(key in fields for key in CHANGEABLE):
        reader.problem(override, f"changes nothing; give one of {', '.join(CHANGEABLE)}")
    values = _read_values(fields, CHANGEABLE, reader)
    for key in DIGESTS:
        if "version" not in fields and (problem := lone_digest(key, values.get(key))):
            reader.problem(fields[key], problem)
    return Override(selector, **from_values(values)) if selector else None


def lone_digest(key: str, value: str | None) -> str:
    """Why an override that sets no version must not set this digest, or ""."""
    is_place = key == "md5" and value is not None and not is_digest(value)
    return "" if value is None or is_place else f"{key} belongs to a version: give version with it"


def read_values(at: Field, reader: Reader) -> dict[str, Any]:
    """The values that an edit sets, by key, with the mirrors: any fields of a record except its name."""
    return _read_values(reader.fields(at, CHANGEABLE), CHANGEABLE, reader)


def read_selector(at: Field, reader: Reader) -> Selector | None:
    """Read a selector by itself, like {prefix: lg-}."""
    fields = reader.fields(at, KINDS)
    return _read_selector_of(at, fields, reader) if isinstance(at.node, Fields) else None


def _read_selector_of(at: Field, fields: dict[str, Field], reader: Reader) -> Selector | None:
    chosen = [key for key in KINDS if key in fields]
    if len(chosen) != 1:
        reader.problem(at, f"needs exactly one of {', '.join(KINDS)}; has {' and '.join(chosen) or 'none'}")
    selectors = [_read_selector(key, fields[key], reader) for key in chosen]
    return selectors[0] if len(selectors) == 1 else None


def _read_selector(kind: str, field: Field, reader: Reader) -> Selector | None:
    if KINDS[kind].is_list:
        return _read_list(kind, field, reader)
    text = reader.text(field)
    if text is None:
        return None
    if problem := KINDS[kind].problem(text) if text else f'{kind} is blank; to select every host write glob: "*"':
        reader.problem(field, problem)
        return None
    return selector_of({kind: text})


def _read_list(kind: str, field: Field, reader: Reader) -> Selector | None:
    items = reader.items(field)
    if isinstance(field.node, Items) and not items:
        reader.problem(field, f"{kind} is empty, so this override selects no host")
    values: list[str] = []
    for item in items:
        value = reader.text(item)
        if value is not None and (problem := KINDS[kind].problem(value)):
            reader.problem(item, problem)
        elif value is not None:
            values.append(value)
    return selector_of({kind: values}) if values else None
