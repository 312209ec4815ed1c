"""Our own form of a records file: `agents`, a list of records with overrides (records.example.yaml shows all of it).

Refuses whatever would reach a host as a surprise: unknown and doubled keys, unsafe values, an override that selects nobody or
changes nothing, and a version changed under a digest that fits only another.
"""

from typing import Any

from meta.checks import REQUIRED, repeated, stale_digests, value_problem
from meta.nodes import Fields, Items
from meta.reader import Field, Reader
from meta.records import CHANGEABLE, Glob, Hosts, Override, Prefix, Record, Selector
from updater.wire import MAX_MIRRORS, hostname_problem

SELECTORS = ("prefix", "glob", "hosts")
_OF_AN_AGENT = (*REQUIRED, "md5", "cmd", "sha256")
_WILDCARDS = str.maketrans("", "", "*?[]!")


def read(top: Field, reader: Reader) -> list[Record]:
    """The records below the top of the tree; what is wrong goes to the reader."""
    agents = reader.fields(top, ["agents"]).get("agents")
    if agents is None:
        if isinstance(top.node, Fields):
            reader.problem(top, "agents is missing; write `agents: []` if no agent is meant")
        return []
    read = [(field, record) for field in reader.items(agents) if (record := _read_record(field, reader))]
    for index, first in repeated([record for _, record in read]):
        field, record = read[index]
        reader.problem(field, f'agent "{record.name}" is given twice, first on line {read[first][0].line}')
    return [record for _, record in read]


def _read_record(agent: Field, reader: Reader) -> Record | None:
    """One agent, or None without a usable name; with other problems it is still returned, for the checks across records."""
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
    record = Record(**{"name": "", "version": "", "tarball": ""} | values, overrides=overrides)
    for index, text in stale_digests(record, record.overrides):
        reader.problem(read[index][0], text)
    return record if record.name else None


def _read_values(fields: dict[str, Field], keys: tuple[str, ...], reader: Reader) -> dict[str, Any]:
    """The values of these fields; an unsafe one is a problem, and left out."""
    values: dict[str, Any] = {}
    for key in keys:
        if key == "tarball" and key in fields:
            values |= _read_bases(fields[key], reader)
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
    """`tarball`: one base URL, or a list of them, of which the hosts ask the first first."""
    if not isinstance(field.node, Items):
        base = _read_value("tarball", field, reader)
        return {} if base is None else {"tarball": base}
    items = reader.items(field)
    if not 1 <= len(items) <= MAX_MIRRORS:
        reader.problem(field, f"must be one base URL, or a list of 1 to {MAX_MIRRORS}")
        return {}
    bases = [base for item in items if (base := _read_value("tarball", item, reader)) is not None]
    return {"tarball": bases[0], "mirrors": tuple(bases[1:])} if len(bases) == len(items) else {}


def _read_override(override: Field, reader: Reader) -> Override | None:
    fields = reader.fields(override, (*SELECTORS, *CHANGEABLE))
    if not isinstance(override.node, Fields):
        return None
    chosen = [key for key in SELECTORS if key in fields]
    if len(chosen) != 1:
        reader.problem(override, f"needs exactly one of {', '.join(SELECTORS)}; has {' and '.join(chosen) or 'none'}")
    if not any(key in fields for key in CHANGEABLE):
        reader.problem(override, f"changes nothing; give one of {', '.join(CHANGEABLE)}")
    values = _read_values(fields, CHANGEABLE, reader)
    selectors = [_read_selector(key, fields[key], reader) for key in chosen]
    if len(selectors) != 1 or selectors[0] is None:
        return None
    return Override(selectors[0], **values)


def _read_selector(key: str, field: Field, reader: Reader) -> Selector | None:
    if key == "hosts":
        return _read_hosts(field, reader)
    text = reader.text(field)
    if text is None:
        return None
    if not text:
        reader.problem(field, f'{key} is blank; to select every host write glob: "*"')
    elif _selects_nobody(text if key == "prefix" else text.translate(_WILDCARDS)):
        reader.problem(field, f"{key} fits no host: a hostname has only letters, digits, '.', '_' and '-'")
    else:
        return Prefix(text) if key == "prefix" else Glob(text)
    return None


def _selects_nobody(part: str) -> bool:
    """Whether no hostname can contain this."""
    return hostname_problem("h" + part) != ""


def _read_hosts(field: Field, reader: Reader) -> Hosts | None:
    items = reader.items(field)
    if isinstance(field.node, Items) and not items:
        reader.problem(field, "hosts is empty, so this override selects nobody")
    names: list[str] = []
    for item in items:
        name = reader.text(item)
        if name is not None and (problem := hostname_problem(name)):
            reader.problem(item, problem)
        elif name is not None:
            names.append(name)
    return Hosts(tuple(names)) if names else None
