"""Words for shell completion, from the meta that the environment names. After an error there are no words and no message."""

import os
from collections.abc import Sequence
from typing import Any

from meta.cli.client import Client
from meta.cli.environment import LOCAL, token
from meta.errors import MetaError
from meta.records.model import CHANGEABLE
from meta.records.selectors import KINDS
from updater.wire.names import LEFTOVERS, START, STOP, UNKNOWN_STATUS

PATIENCE = 2.0  # seconds that a person at a shell waits
_WORDS = {"cmd": (START, STOP), "leftovers": LEFTOVERS, "unknownStatus": UNKNOWN_STATUS}  # fields with few values
MOST = 100  # host names offered at once


def agents(begun: str) -> list[str]:
    """Names of agents that begin with `begun`, as in all functions here."""
    return _begun(begun, (item["name"] for item in _items("/records", "agents")))


def hosts(begun: str) -> list[str]:
    """Host names."""
    literal = begun.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
    return [item["name"] for item in _items("/hosts", name=f"{literal}*", limit=MOST)]


def versions(begun: str, agent: str) -> list[str]:
    """Versions of this agent, or of any agent for "", that are published or that hosts run."""
    published = [item["version"] for item in _items("/tarballs") if agent in ("", item["agent"])]
    return _begun(begun, published + [item["version"] for item in _items("/counts", agent=agent)])


def banned(begun: str, agent: str) -> list[str]:
    """The banned versions of this agent."""
    return _begun(begun, (item["version"] for item in _items("/bans") if item["agent"] == agent))


def field_names(begun: str) -> list[str]:
    return _begun(begun, CHANGEABLE)


def fields(begun: str, before: Sequence[str], agent: str) -> list[str]:
    """`FIELD=`, then FIELD=VALUE. before: the words before this one, as bash splits FIELD=VALUE into three words."""
    key, equals, value = begun.partition("=")
    if equals:
        return [f"{key}={one}" for one in _values(key, value, agent)]
    words = [word for word in before if word != "="]
    if words and words[-1] in CHANGEABLE:
        return _values(words[-1], begun, agent)
    return _begun(begun, (f"{one}=" for one in CHANGEABLE))


def _values(key: str, begun: str, agent: str) -> list[str]:
    return versions(begun, agent) if key == "version" else _begun(begun, _WORDS.get(key, ()))


def selectors(begun: str) -> list[str]:
    """`prefix:` and the other kinds, then their values."""
    kind, colon, value = begun.partition(":")
    if not colon:
        return _begun(begun, (f"{one}:" for one in KINDS))
    offers = {"hosts": hosts, "labels": labels}.get(KINDS[kind].completed_from) if kind in KINDS else None
    known, comma, last = value.rpartition(",") if kind in KINDS and KINDS[kind].is_list else ("", "", value)
    return [f"{kind}:{known}{comma}{one}" for one in offers(last)] if offers else []


def labels(begun: str) -> list[str]:
    """KEY and KEY=VALUE of the labels in use."""
    keys = _items("/labels")
    both = [item["key"] for item in keys] + [f"{item['key']}={value}" for item in keys for value in item["values"]]
    return _begun(begun, both)


def _begun(begun: str, words: Any) -> list[str]:
    return list(dict.fromkeys(word for word in words if word.startswith(begun)))


def _items(path: str, key: str = "items", **query: Any) -> list[dict[str, Any]]:
    try:
        with Client(os.environ.get("META_URL", LOCAL), token(None), patience=PATIENCE) as client:
            found: list[dict[str, Any]] = client.get(path, dict[str, Any], **query).get(key, [])
            return found
    except MetaError:
        return []
