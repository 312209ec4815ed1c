"""Describes changes in lines of text, for `meta diff`, the history and conflicts. Pure.

There is a line for everything that a change contains, in the order of the changes; each can be understood by itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from meta.records.history import BAN, HOST, LABELS, ORDER, RECORD, TARBALL, Change
from meta.records.model import CHANGEABLE
from meta.records.selectors import Selector, selector_of
from updater.wire.text import counted

_SHOWN_HOSTS = 10  # host names shown of those added to a list, and of those removed
_Place = tuple[Selector, int]  # an override: its selector, and which of several with the same one


def difference(changes: Iterable[Change]) -> list[str]:
    """Return the lines, like `falcon-agent [prefix lg-]: version 1.0.0 -> 1.0.1` or `ban x 1.0.2: why`."""
    write = {RECORD: _record, ORDER: _order, BAN: _ban, LABELS: _labels, TARBALL: _tarball, HOST: _host}
    return [line for change in changes for line in write.get(change.kind, _other)(change)]


def touched(affected: Mapping[str, int]) -> str:
    """`falcon-agent on 120 hosts, dinp-agent on 1 host`; "" if no host is affected."""
    found = sorted((agent, count) for agent, count in affected.items() if count)
    return ", ".join(f"{agent} on {counted(count, 'host')}" for agent, count in found)


def _other(change: Change) -> list[str]:
    """A change of a kind that only a newer meta knows."""
    return [f"{change.kind} {change.name}".rstrip()]


def _record(change: Change) -> list[str]:
    name, before, after = change.name, change.before, change.after
    if after is None:
        return [f"deleted agent {name} (version {before['version']})"]
    if before is None:
        return [f"new agent {name}: {_values(after)}", *_overrides(name, [], after.get("overrides", []))]
    lines = [f"{name}: {line}" for line in _fields(before, after, "")]
    return lines + _overrides(name, before.get("overrides", []), after.get("overrides", []))


def _fields(before: Mapping[str, Any], after: Mapping[str, Any], absent: str | None = None) -> list[str]:
    missing = dict.fromkeys(CHANGEABLE, absent) | ({} if absent is None else {"attempt": 0})
    pairs = ((key, before.get(key, missing[key]), after.get(key, missing[key])) for key in CHANGEABLE)
    return [f"{key} {_shown(old)} -> {_shown(new)}" for key, old, new in pairs if old != new]


def _values(fields: Mapping[str, Any]) -> str:
    """The fields that are set: all of an override, the non-blank ones of a new record."""
    is_record = "name" in fields
    return ", ".join(
        f"{key} {_shown(fields[key])}" for key in CHANGEABLE if key in fields and (fields[key] or not is_record)
    )


def _shown(value: Any) -> str:
    if value is None:
        return "(not set)"
    return " ".join(value) if isinstance(value, list) else str(value) or '""'


def _overrides(name: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    old, new = _by_place(before), _by_place(after)
    lines = []
    for place, other in _relisted(old, new):
        lines.append(f"{name} [{place[0].in_words()}]: {_hosts_moved(place[0], other[0])}")
        old = {other if key == place else key: value for key, value in old.items()}
    for place in old | new:
        words = f"{name} [{place[0].in_words()}]"
        if place not in new:
            lines.append(f"{words}: removed ({_values(old[place])})")
        elif place not in old:
            lines.append(f"{words}: new: {_values(new[place])}")
        else:
            lines += [f"{words}: {line}" for line in _fields(old[place], new[place])]
    if [place for place in old | new if place in new] != list(new):
        lines.append(f"{name}: overrides in another order: {' '.join(f'[{p[0].in_words()}]' for p in new)}")
    return lines


def _by_place(overrides: list[dict[str, Any]]) -> dict[_Place, dict[str, Any]]:
    found: dict[_Place, dict[str, Any]] = {}
    for override in overrides:
        selector = selector_of(override)
        found[selector, sum(1 for place in found if place[0] == selector)] = override
    return found


def _relisted(old: Mapping[_Place, Any], new: Mapping[_Place, Any]) -> list[tuple[_Place, _Place]]:
    """(place before, place after) of lists of hosts that gained or lost names and set the same fields as before."""
    gone = [place for place in old if place not in new and place[0].names]
    come = [place for place in new if place not in old and place[0].names]
    pairs = []
    for place in gone:
        same = (p for p in come if _values(new[p]) == _values(old[place]) and p[0].names & place[0].names)
        if other := next(same, None):
            come.remove(other)
            pairs.append((place, other))
    return pairs


def _hosts_moved(before: Selector, after: Selector) -> str:
    old, new = before.names, after.names
    return "hosts " + " ".join(filter(None, (_some("+", new - old), _some("-", old - new))))


def _some(sign: str, names: frozenset[str]) -> str:
    words = [f"{sign}{name}" for name in sorted(names)]
    more = len(words) - _SHOWN_HOSTS
    return " ".join(words[:_SHOWN_HOSTS]) + (f" and {more} more {sign}" if more > 0 else "")


def _order(change: Change) -> list[str]:
    """A line only if remaining agents changed places; added and removed agents have lines of their own."""
    before = [name for name in change.before if name in change.after]
    after = [name for name in change.after if name in change.before]
    return [] if before == after else [f"order of agents: {', '.join(change.after)}"]


def _ban(change: Change) -> list[str]:
    words = " ".join(change.name.split("/", 1))
    before, after = change.before, change.after
    if after is None:
        return [f"unban {words}" + (f" (was: {before['why']})" if before["why"] else "")]
    if before is None:
        return [f"ban {words}" + (f": {after['why']}" if after["why"] else "")]
    return [f"ban {words}: {_shown(before['why'])} -> {_shown(after['why'])}"]


def _labels(change: Change) -> list[str]:
    before, after = change.before or {}, change.after or {}
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    return [f"host {change.name}: label {k} {_shown(before.get(k))} -> {_shown(after.get(k))}" for k in keys]


def _tarball(change: Change) -> list[str]:
    before, after = change.before, change.after
    if after is None:
        return [f"tarball {change.name}: removed (sha256 {before['sha256']})"]
    return [f"tarball {change.name}: {after['size']:,} bytes, md5 {after['md5']}, sha256 {after['sha256']}"]


def _host(change: Change) -> list[str]:
    return [f"host {change.name}: {'retired' if change.after else 'taken back'}"]
