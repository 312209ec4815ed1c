"""The app table of the supervisor module: which agent may run which app at which version. Pure.

A table with one invalid entry is refused as a whole, because agents remove an app that has no entry.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from meta.bridges.elves.limits import MAX_ENTRIES, MAX_TEXT
from updater.wire.decode_problems import in_words
from updater.wire.limits import length_problem
from updater.wire.text import one_line, quoted


class BadTable(ValueError):
    """The app table is invalid; the text says why."""


class Entry(NamedTuple):
    app: str
    version: str
    agents: frozenset[str]  # ips


class AppTable(NamedTuple):
    """All entries, in the order of the message. For the same app and agent, the later entry counts."""

    entries: tuple[Entry, ...] = ()

    def apps_for(self, ip: str) -> dict[str, str]:
        return {entry.app: entry.version for entry in self.entries if ip in entry.agents}


class _WireEntry(msgspec.Struct):
    app: str
    version: msgspec.Raw
    agent_list: list[str] | str = msgspec.field(name="agentList")


_result = msgspec.json.Decoder(list[_WireEntry] | str)
_entries = msgspec.json.Decoder(list[_WireEntry])
_ips = msgspec.json.Decoder(list[str])
_scalar = msgspec.json.Decoder(str | int | float)


def parse_table(result: bytes | msgspec.Raw) -> AppTable:
    """Parse the `result` of updateAppInfo or appAuthInfo. Raises BadTable.

    A list may also be given as a string with JSON in it, which the Java module accepts too.
    """
    try:
        wire = _result.decode(bytes(result))
        if isinstance(wire, str):
            wire = _entries.decode(wire)
        entries = tuple(map(_entry, wire))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise BadTable(one_line(f"no app table: {in_words(e)}", 300)) from e
    if len(entries) > MAX_ENTRIES:
        raise BadTable(f"an app table of {len(entries):,} entries, of {MAX_ENTRIES:,} at most")
    return AppTable(entries)


def _entry(wire: _WireEntry) -> Entry:
    version = bytes(wire.version)
    known = _scalar.decode(version)
    text = known if isinstance(known, str) else version.decode()  # the number 1.10 stays "1.10"
    ips: Iterable[str] = _ips.decode(wire.agent_list) if isinstance(wire.agent_list, str) else wire.agent_list
    for what, word in (("app", wire.app), ("version", text)):
        if problem := length_problem(f"the {what}", word, MAX_TEXT):
            raise BadTable(problem)
        if not word.strip() or not word.isprintable():
            raise BadTable(f"the {what} {quoted(word)} is blank or has characters that do not print")
    return Entry(wire.app.strip(), text.strip(), frozenset(ip.strip() for ip in ips if ip.strip()))


def render_table(table: AppTable) -> bytes:
    """Return the table as JSON for a file; `parse_table` reads it."""
    entries: list[dict[str, Any]] = [
        {"app": entry.app, "version": entry.version, "agentList": sorted(entry.agents)} for entry in table.entries
    ]
    return msgspec.json.encode(entries)
