"""The app table of the supervisor module: which agent may run which app at which version. Pure.

A table is taken whole or not at all: an entry that is left out would make agents remove that app.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from updater.wire.decode_problems import in_words
from updater.wire.text import one_line

MAX_ENTRIES = 10_000
MAX_TEXT = 256


class BadTable(ValueError):
    """This is no app table; the text says why."""


class Entry(NamedTuple):
    app: str
    version: str
    agents: frozenset[str]  # ips


class AppTable(NamedTuple):
    """In the order of the message; of two entries for the same app and agent the later one counts."""

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
    """The JSON of updateAppInfo's or appAuthInfo's `result`. Java's JSON reader takes lists that are written as a text, so they
    are taken here too. Raises BadTable."""
    try:
        wire = _result.decode(bytes(result))
        if isinstance(wire, str):
            wire = _entries.decode(wire)
        entries = tuple(map(_entry, wire))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise BadTable(one_line(f"no app table: {in_words(e)}", 300)) from e
    if len(entries) > MAX_ENTRIES:
        raise BadTable(f"an app table of {len(entries)} entries, more than {MAX_ENTRIES}")
    return AppTable(entries)


def _entry(wire: _WireEntry) -> Entry:
    version = bytes(wire.version)
    known = _scalar.decode(version)
    text = known if isinstance(known, str) else version.decode()  # 1.10 stays 1.10
    ips: Iterable[str] = _ips.decode(wire.agent_list) if isinstance(wire.agent_list, str) else wire.agent_list
    for what, word in (("app", wire.app), ("version", text)):
        if not word.strip() or len(word) > MAX_TEXT or not word.isprintable():
            raise BadTable(f"the {what} {one_line(word, 80)!r} is blank, too long or does not print")
    return Entry(wire.app.strip(), text.strip(), frozenset(ip.strip() for ip in ips if ip.strip()))


def render_table(table: AppTable) -> bytes:
    """For the disk; `parse_table` reads it."""
    entries: list[dict[str, Any]] = [
        {"app": entry.app, "version": entry.version, "agentList": sorted(entry.agents)} for entry in table.entries
    ]
    return msgspec.json.encode(entries)
