"""Secrets for servers, from files that only their owner may read; they appear in no log, no argument and no URL."""

import base64
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from updater import durable_files, places
from updater.errors import Misconfigured, TryLater
from updater.wire.text import encoding_problem, odd_characters, trimmed

LIMIT = 8192  # bytes of a file


class Credentials:
    """Credential files by origin (`https://host[:port]`). A secret is sent to its own origin only, also after a redirect.

    enrolled: meta's URL and the file for the token that meta issues to this host; by_origin has precedence over it.
    """

    def __init__(self, by_origin: Mapping[str, str], enrolled: tuple[str, Path] | None = None) -> None:
        self._files = {origin(url): Path(file) for url, file in by_origin.items()}
        self._enrolled = (origin(enrolled[0]), enrolled[1]) if enrolled else ("", Path())

    def header(self, url: str) -> dict[str, str]:
        """The Authorization header for a URL, {} if there is no secret for it. Raises Misconfigured."""
        where = origin(url)
        file = self._files.get(where)
        # Looked up each time: the host may have enrolled a moment ago.
        if file is None and where == self._enrolled[0] and not places.is_missing(self._enrolled[1]):
            file = self._enrolled[1]
        return {"Authorization": _authorization(file)} if file else {}


def origin(url: str) -> str:
    """Scheme, host and port of a URL in a canonical form, the port always given."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _authorization(file: Path) -> str:
    """The header's value, from a file of one line: `Bearer TOKEN`, or `USER:PASSWORD` for basic auth.

    The file is read each time, so a new secret needs no restart.
    """
    text = private(file, "credentials")
    scheme, _, token = text.partition(" ")
    is_bearer = scheme.lower() == "bearer"
    if is_bearer and token and token.isascii() and token.isprintable():
        return text
    if not is_bearer and ":" in text and text.isprintable():
        return f"Basic {base64.b64encode(text.encode()).decode()}"
    odd = odd_characters(token if is_bearer else text)
    with_odd = f", but hold {odd}" if odd else ""
    raise Misconfigured(f"the credentials {file} are neither `Bearer TOKEN` nor `USER:PASSWORD` on one line{with_odd}")


def private(file: Path, what: str) -> str:
    """The text of a small file that only its owner may read. what: its content, for messages. Raises Misconfigured."""
    try:
        mode = file.stat().st_mode
        data = durable_files.read_small(file.resolve(), LIMIT) or b""
        if problem := encoding_problem(data):
            raise ValueError(f"it {problem}")
        text = trimmed(data.decode("utf-8-sig"))
    except (OSError, ValueError, TryLater) as e:
        raise Misconfigured(f"cannot read the {what} {file}: {e}") from e
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"the {what} {file} can be read by others: chmod 600 {file}")
    return text
