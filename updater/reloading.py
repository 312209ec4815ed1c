"""Asks the daemon on this machine to read its configuration again, and says how it went."""

import json

from updater import config
from updater.errors import Misconfigured, TryLater
from updater.http import Http


def ask(settings: config.Config) -> str:
    """Returns what to tell the user. Raises Misconfigured when the daemon refuses, TryLater when it does not answer."""
    if not settings.http.enabled:
        raise Misconfigured("http.enabled is false, so the daemon cannot be asked: send it a HUP signal instead")
    host, port = config.address(settings.http.listen)
    host = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host  # noqa: S104
    with Http().exchange("GET", f"http://{host}:{port}/config/reload", within=10) as answer:
        text = answer.read(1 << 20).decode("utf-8", "replace")
    try:
        message = json.loads(text)["msg"]
    except (ValueError, LookupError, TypeError, RecursionError) as e:
        raise TryLater(f"{settings.http.listen} is no updater: it answered {text[:80]!r}") from e
    if message != "success":
        raise Misconfigured(f"the old configuration stays in force: {message}")
    return "configuration read again"
