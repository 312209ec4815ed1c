"""Names for the shell's completion, asked of meta with the settings of the environment. Says nothing when it cannot."""

import os
from typing import Any

from meta.cli.client import Client
from meta.cli.options import LOCAL
from meta.cli.secret import token
from meta.errors import MetaError

PATIENCE = 2.0  # seconds that somebody at a shell waits for
MOST = 100  # names of hosts offered at once


def agents(begun: str) -> list[str]:
    """The agents that begin so."""
    items = _asked("/records").get("agents", [])
    return [item["name"] for item in items if item["name"].startswith(begun)]


def hosts(begun: str) -> list[str]:
    """Hosts that begin so."""
    literal = begun.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
    return [item["name"] for item in _asked("/hosts", name=f"{literal}*", limit=MOST).get("items", [])]


def _asked(path: str, **query: Any) -> dict[str, Any]:
    try:
        with Client(os.environ.get("META_URL", LOCAL), token(None), patience=PATIENCE) as client:
            return client.get(path, dict[str, Any], **query)
    except MetaError:
        return {}
