"""Edits of the records: each function returns the RecordSet after an edit. Pure.

An edit is made completely or not at all, and changes only what it names. `revision` and `edited` are left unchanged;
`committed` sets them. A version and its digests are replaced together, so no version keeps the digests of another.

Raises EditRefused, with all problems at once, for unsafe values and for a digest of no version. Raises Banned for a banned
version at a place where it was not before, and NotThere for missing things. Whole records (put_record, apply) were checked when
they were parsed, see meta.records.files.load.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from meta.edits.releases import changed, release_there, without_digests
from meta.errors import Banned, EditRefused, NotThere, Problem
from meta.records.files import located_tree, ops_meta_format, own_format
from meta.records.files.problem_reader import Field, Reader
from meta.records.history import Revision, undo
from meta.records.model import (
    CHANGEABLE,
    DIGESTS,
    OF_A_RELEASE,
    Ban,
    Override,
    Record,
    RecordSet,
    attribute,
    from_values,
)
from meta.records.publications import Publication
from meta.records.selectors import Selector, label_problem
from meta.records.validate import REQUIRED, banned_versions, repeated, value_problem, why_problem
from meta.suggestions import closest, did_you_mean
from updater.wire.limits import MAX_LABELS
from updater.wire.names import START, hostname_problem
from updater.wire.text import one_line, quoted

_UNSET = {
    "cmd": START,
    "attempt": 0,
    "leftovers": "",
    "unknownStatus": "",
    "runUser": "",
    "workDir": "",
}  # the defaults of a record's fields


def put_record(records: RecordSet, record: Record) -> RecordSet:
    """Replace the record of this name; a new one is added at the end."""
    found = {one.name: one for one in records.records} | {record.name: record}
    return _with_records(records, found.values())


def delete_record(records: RecordSet, agent: str) -> RecordSet:
    """Delete the agent's record: hosts get no more orders for it, and keep it running. Its bans are kept."""
    _existing(records, agent)
    return replace(records, records=tuple(one for one in records.records if one.name != agent))


def set_fields(
    records: RecordSet, agent: str, fields: Mapping[str, str | int | Sequence[str]], selector: Selector | None = None
) -> RecordSet:
    """Set fields of the record, or of its last override with exactly this selector.

    A missing record or override is created, the override as the last one, which wins. Another version drops the digests of the
    former one, and takes over those that the record surely has of it (see releases). The version that is there already keeps
    them. fields: in the form of a records file, with a list of bases for `tarball`.
    """
    path = _path(agent, selector)
    reader = Reader()
    values = own_format.read_values(_field(dict(fields), path), reader)
    if not fields:
        reader.problems.append(Problem(path, 0, f"nothing to set; give one of {', '.join(CHANGEABLE)}"))
    _refuse(reader.problems)
    before = records.record(agent)
    if selector is not None:
        before = _existing(records, agent)
        after = _with_override(before, selector, values)
    elif before is None:
        after = _new_record(records, agent, values)
    else:
        after = replace(before, **changed(before, release_there(before, before, values), values))
    return put_record(records, after)


def unset_fields(
    records: RecordSet, agent: str, keys: Iterable[str] = (), selector: Selector | None = None
) -> RecordSet:
    """Unset these fields. Without keys, remove the overrides with exactly this selector, or the whole record."""
    before, keys, path = _existing(records, agent), tuple(keys), _path(agent, selector)
    if not keys and selector is None:
        return delete_record(records, agent)
    reader = Reader()
    reader.fields(_field(dict.fromkeys(keys), path), CHANGEABLE)
    needed = [key for key in keys if key in REQUIRED and selector is None]
    texts = [f"{key} cannot be unset; set another, or unset the whole agent" for key in needed]
    _refuse([*reader.problems, *(Problem(path, 0, text) for text in texts)])
    if selector is None:
        unset = {attribute(key): _UNSET[key] for key in keys if key not in DIGESTS}
        release = without_digests(before.release, keys)
        after = replace(before, release=release, md5_base="" if "md5" in keys else before.md5_base, **unset)
    else:
        after = _without_override(before, selector, keys or CHANGEABLE)
    return put_record(records, after)


def apply(records: RecordSet, new_records: Sequence[Record]) -> RecordSet:
    """Replace all records by these, in this order; other agents are deleted. Bans and labels are kept."""
    twice = [new_records[index].name for index, _ in repeated(new_records)]
    _refuse([Problem(name, 0, "is given twice; leave one of them out") for name in twice])
    return _with_records(records, ops_meta_format.as_ours(new_records))


def rollback(records: RecordSet, revisions: Sequence[Revision]) -> RecordSet:
    """Undo these revisions. Bans and labels stay as they are now, and versions that are now banned are refused.

    revisions: all after the wanted one, newest first; raises ValueError if one is missing.
    """
    former = records.records
    for number, revision in zip(range(records.revision, -1, -1), revisions, strict=False):
        if revision.number != number:
            raise ValueError(f"revision {revision.number} given where {number} was due")
        former = undo(former, revision)
    return _with_records(records, former)


def restore(records: RecordSet, agent: str, former: Record | None) -> RecordSet:
    """Replace the agent's record by a former one, None for no record; the others are unchanged."""
    others = (one for one in records.records if one.name != agent)
    return put_record(records, former) if former else _with_records(records, others)


def ban(records: RecordSet, new: Ban) -> RecordSet:
    """Ban a version: no host is told to start it. An existing ban is replaced only if a new reason is given."""
    texts = (value_problem("name", new.agent), value_problem("version", new.version), why_problem(new.why))
    _refuse([Problem("", 0, text) for text in texts if text])
    banned = {(one.agent, one.version): one for one in records.bans}
    there = banned.get((new.agent, new.version))
    if there and new.why in ("", there.why):
        return records
    banned[new.agent, new.version] = new
    return replace(records, bans=tuple(banned[key] for key in sorted(banned)))


def unban(records: RecordSet, agent: str, version: str) -> RecordSet:
    """Lift a ban: the version is ordered again where the records have it."""
    left = tuple(one for one in records.bans if (one.agent, one.version) != (agent, version))
    if len(left) == len(records.bans):
        banned = ", ".join(one.version for one in records.bans if one.agent == agent)
        text = f"version {one_line(version, 64)} of {one_line(agent, 64)} is not banned"
        close = did_you_mean(agent, {one.agent for one in records.bans})
        raise NotThere(f"{text}; of it are: {banned}" if banned else f"{text}{close}")
    return replace(records, bans=left)


def publish(records: RecordSet, file: str, made: Publication) -> RecordSet:
    """Add a published tarball; a known one with the same bytes is unchanged."""
    known = records.published.get(file)
    if known and (known.size, known.sha256) == (made.size, made.sha256):
        return records
    return replace(records, published={**records.published, file: made})


def unpublish(records: RecordSet, files: Collection[str]) -> RecordSet:
    """Remove tarballs from the list of published ones."""
    return replace(records, published={file: one for file, one in records.published.items() if file not in files})


def set_labels(records: RecordSet, hostname: str, labels: Mapping[str, str | None]) -> RecordSet:
    """Set labels of a host, and remove those with None; the others are kept. A blank value is a label without a value."""
    return label_hosts(records, (hostname,), labels)


def label_hosts(records: RecordSet, hostnames: Iterable[str], labels: Mapping[str, str | None]) -> RecordSet:
    """`set_labels` for many hosts."""
    texts = [label_problem(f"{key}={value}" if value else key) for key, value in labels.items() if value is not None]
    texts += [f"label {quoted(key)}: the key has no =" for key in labels if "=" in key]
    after = dict(records.labels)
    for hostname in hostnames:
        merged = {**after.pop(hostname, {}), **labels}
        left = {key: value for key, value in sorted(merged.items()) if value is not None}
        texts.append(hostname_problem(hostname))
        if len(left) > MAX_LABELS:
            texts.append(f"{one_line(hostname, 80)} would have {len(left)} labels, of {MAX_LABELS}; remove some first")
        if left:
            after[hostname] = left
    _refuse([Problem("", 0, text) for text in texts if text])
    return replace(records, labels=after)


def unlabel_hosts(records: RecordSet, hostnames: Iterable[str]) -> RecordSet:
    """Remove all labels of these hosts."""
    gone = frozenset(hostnames)
    return replace(records, labels={name: labels for name, labels in records.labels.items() if name not in gone})


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise EditRefused(list(problems))


def _field(data: Any, path: str) -> Field:
    try:
        return Field(located_tree.from_data(data) or located_tree.Text("", 0), path, 0)
    except located_tree.NodeError as e:
        raise EditRefused([Problem(path, 0, str(e))]) from e


def _path(agent: str, selector: Selector | None) -> str:
    agent = one_line(agent, 64)
    return f"{agent} [{selector.in_words()}]" if selector is not None else agent


def _existing(records: RecordSet, agent: str) -> Record:
    record = records.record(agent)
    if record is None:
        close = closest(agent, (one.name for one in records.records))
        hint = f"did you mean {close}?" if close else "set its version and tarball to create it"
        raise NotThere(f'there is no agent "{one_line(agent, 64)}"; {hint}')
    return record


def _new_record(records: RecordSet, agent: str, values: Mapping[str, Any]) -> Record:
    texts = [value_problem("name", agent)]
    hint = did_you_mean(agent, (one.name for one in records.records))
    texts += [f"{key} is missing; a new agent needs it{hint}" for key in ("version", "tarball") if key not in values]
    _refuse([Problem(_path(agent, None), 0, text) for text in texts if text])
    return Record(agent, **from_values(values))


def _with_override(record: Record, selector: Selector, values: Mapping[str, Any]) -> Record:
    overrides = list(record.overrides)
    places = [index for index, one in enumerate(overrides) if one.selector == selector]
    place = overrides[places[-1]] if places else Override(selector)
    there = release_there(record, place, values)
    if there is None:
        texts = [own_format.lone_digest(key, values.get(key)) for key in DIGESTS]
        _refuse([Problem(_path(record.name, selector), 0, text) for text in texts if text])
    after = replace(place, **changed(place, there, values))
    if places:
        overrides[places[-1]] = after
    else:
        overrides.append(after)
    return replace(record, overrides=tuple(overrides))


def _without_override(record: Record, selector: Selector, keys: Collection[str]) -> Record:
    """Unset fields in the overrides of this selector; overrides that then change nothing are removed."""
    if all(one.selector != selector for one in record.overrides):
        there = " ".join(f"[{one.selector.in_words()}]" for one in record.overrides) or "none"
        raise NotThere(f"{_path(record.name, selector)}: there is no such override; there are: {there}")
    overrides = [_without(one, keys) if one.selector == selector else one for one in record.overrides]
    return replace(record, overrides=tuple(one for one in overrides if one.changes() or one.selector != selector))


def _without(override: Override, keys: Collection[str]) -> Override:
    unset: dict[str, Any] = {attribute(key): None for key in keys if key not in OF_A_RELEASE}
    unset |= {"mirrors": ()} if "tarball" in keys else {}
    unset |= {"md5_base": None} if "md5" in keys else {}
    release = override.release and without_digests(override.release, keys)
    return replace(override, release=None if "version" in keys else release, **unset)


def _with_records(records: RecordSet, after: Iterable[Record]) -> RecordSet:
    """Replace the records; raises Banned for a banned version at a place where it was not before."""
    after = tuple(after)
    before = {one.name: one for one in records.records}
    banned = [
        Problem(_path(one.name, selector), 0, text)
        for one in after
        if one != before.get(one.name)
        for selector, text in banned_versions(records.bans, before.get(one.name), one)
    ]
    if banned:
        raise Banned(banned)
    return replace(records, records=after)
